#include "tools/units/unit_flags.h"

#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "models/nn/fingerprint.h"
#include "ops/simd/instruction_set.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/crc32.h"

namespace residual {
namespace {

// The numbers of a unit, one item's after the other's, as they lie in memory.
std::string Packed(const std::vector<std::vector<double>>& values) {
  std::string bytes;
  for (const std::vector<double>& of_item : values) {
    bytes.append(reinterpret_cast<const char*>(of_item.data()), of_item.size() * sizeof(double));
  }
  return bytes;
}

size_t PackedBytes(const ItemUnits& work, int64_t unit) {
  return work.units[unit].size() * work.numbers * sizeof(double);
}

void Take(const ItemUnits& work, int64_t unit, absl::string_view bytes) {
  RESIDUAL_CHECK_EQ(bytes.size(), PackedBytes(work, unit));
  for (const int64_t item : work.units[unit]) {
    std::vector<double> values(work.numbers);
    std::memcpy(values.data(), bytes.data(), work.numbers * sizeof(double));
    bytes.remove_prefix(work.numbers * sizeof(double));
    work.take(item, std::move(values));
  }
}

// A record of the journal: the unit and its numbers.
std::string Record(int64_t unit, absl::string_view bytes) {
  std::string record(reinterpret_cast<const char*>(&unit), sizeof(unit));
  absl::StrAppend(&record, bytes);
  return record;
}

// The unit of a record; -1 if it is none of this work.
int64_t UnitOf(absl::string_view record, const ItemUnits& work) {
  int64_t unit;
  if (record.size() < sizeof(unit)) return -1;
  std::memcpy(&unit, record.data(), sizeof(unit));
  if (unit < 0 || unit >= static_cast<int64_t>(work.units.size())) return -1;
  return record.size() == sizeof(unit) + PackedBytes(work, unit) ? unit : -1;
}

std::string DigestOf(const std::vector<std::vector<int64_t>>& units) {
  uint32_t crc = 0;
  for (const std::vector<int64_t>& unit : units) {
    crc = Crc32(absl::StrCat(absl::StrJoin(unit, ","), ";"), crc);
  }
  return absl::StrFormat("%d, crc32 %08x", units.size(), crc);
}

}  // namespace

std::string Digest(absl::string_view text) {
  constexpr size_t kShown = 40;
  if (text.size() <= kShown) return std::string(text);
  return absl::StrFormat("%s.. (%d bytes, crc32 %08x)", text.substr(0, kShown), text.size(),
                         Crc32(text));
}

std::string Digest(const Tensor& x) {
  if (!x.defined()) return "none";
  const absl::string_view bytes(static_cast<const char*>(x.raw_data()), x.bytes());
  return absl::StrFormat("%s, crc32 %08x", x.ToString(), Crc32(bytes));
}

UnitFlags::UnitFlags(CommandLine& cli, Processes& processes) : processes_(processes) {
  cli.Path("journal", &journal_,
           "file that keeps what is done of long work: the same command, run again after it was "
           "killed, goes on from there");
}

Journal::Subject UnitFlags::ModelSubject(const LoadedModel& loaded) const {
  if (!given()) return {};
  return {{"config", absl::StrFormat("crc32 %08x", Crc32(loaded.config.dump()))},
          {"instructions", InstructionSet()},
          {"model", absl::StrFormat("%d parameters, crc32 %08x", CountParameters(*loaded.model),
                                    ParametersFingerprint(*loaded.model))}};
}

absl::StatusOr<UnitCounts> UnitFlags::Run(ItemUnits work) const {
  work.subject["units"] = DigestOf(work.units);
  UnitCounts counts;
  counts.all = static_cast<int64_t>(work.units.size());
  std::unique_ptr<Journal> journal;
  std::vector<bool> done(work.units.size());
  if (processes_.first() && !journal_.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(journal, Journal::Open(journal_, work.subject));
    for (size_t i = 0; i < journal->records().size(); ++i) {
      const absl::string_view record = journal->records()[i];
      const int64_t unit = UnitOf(record, work);
      if (unit < 0 || done[unit]) {
        return absl::DataLossError(absl::StrCat(journal_, ": record ", i,
                                                " is of no unit, or of one that was there before"));
      }
      done[unit] = true;
      ++counts.found;
      Take(work, unit, record.substr(sizeof(unit)));
    }
  }
  UnitWork units;
  units.subject = work.subject;
  for (int64_t unit = 0; unit < counts.all; ++unit) {
    if (!done[unit]) units.units.push_back(unit);
  }
  units.run = [&](int64_t unit) -> absl::StatusOr<std::string> {
    RESIDUAL_ASSIGN_OR_RETURN(const auto values, work.run(work.units[unit]));
    return Packed(values);
  };
  units.take = [&](int64_t unit, const std::string& bytes) {
    Take(work, unit, bytes);
    return journal == nullptr ? absl::OkStatus() : journal->Append(Record(unit, bytes));
  };
  RESIDUAL_RETURN_IF_ERROR(processes_.Run(std::move(units)));
  return counts;
}

}  // namespace residual
