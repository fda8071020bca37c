#include "models/data/sets/labeled_set.h"

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "models/data/generated/list_ops.h"
#include "models/data/generated/pathfinder.h"
#include "models/data/labeled/drawn_digits.h"
#include "models/data/labeled/files.h"
#include "models/data/labeled/idx.h"
#include "models/nn/nearest.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

constexpr int64_t kMostRows = int64_t{1} << 28;
constexpr int64_t kMostLength = int64_t{1} << 26;

struct Option {
  const char* name;
  int64_t low, high;
};

struct Kind {
  const char* name;
  const char* path;  // what the help calls it; null: it reads none
  std::vector<Option> options;
};

const std::vector<Kind>& Kinds() {
  const Option rows = {"rows", 1, kMostRows}, test_rows = {"test_rows", 1, kMostRows},
               seed = {"seed", 0, kMostRows}, pool = {"pool", 1, 1 << 10};
  static const auto& kinds = *new std::vector<Kind>{
      {"idx", "FOLDER", {rows, pool}},
      {"optical_digits", "PATH", {rows, pool}},
      {"texts", "FOLDER", {rows, {"max_length", 1, kMostLength}}},
      {"digits", nullptr, {rows, test_rows, seed, pool, {"side", 4, 1 << 10}}},
      {"list_ops",
       nullptr,
       {rows,
        test_rows,
        seed,
        {"min_length", 1, kMostLength},
        {"max_length", 1, kMostLength},
        {"max_depth", 1, 1 << 10},
        {"max_args", 2, 1 << 10}}},
      {"pathfinder", nullptr, {rows, test_rows, seed, pool, {"size", 4, 1 << 10}}}};
  return kinds;
}

template <class... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

LabeledSequences FirstRows(const LabeledSequences& data, int64_t n) {
  if (n >= data.n()) return data;
  std::vector<int64_t> rows(n);
  std::iota(rows.begin(), rows.end(), int64_t{0});
  return SelectRows(data, rows);
}

bool IsFolder(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

absl::StatusOr<LabeledSet> OpticalDigits(const std::string& path) {
  LabeledSet set;
  if (!IsFolder(path)) {
    RESIDUAL_ASSIGN_OR_RETURN(set.train, ReadOpticalDigits(path));
    return set;
  }
  std::vector<std::string> train, test;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!absl::StartsWith(name, "optdigits")) continue;
    (absl::StrContains(name, "tra") ? train : test).push_back(name);
  }
  if (error) return SystemError(error.value(), path, "cannot list");
  if (train.size() != 1 || test.size() != 1) {
    return absl::NotFoundError(absl::StrCat(
        path, ": ", train.size(), " files to train on and ", test.size(),
        " others, expected one of each: optdigits.tra and optdigits.tes, with .gz or without"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(set.train, ReadOpticalDigits(JoinPath(path, train[0])));
  RESIDUAL_ASSIGN_OR_RETURN(set.test, ReadOpticalDigits(JoinPath(path, test[0])));
  return set;
}

absl::StatusOr<LabeledSet> Texts(const LabeledSetSpec& spec, const LabeledSetLimits& limits) {
  TextFolderOptions options;
  options.classes = limits.classes;
  options.max_length = spec.ValueOr("max_length", options.max_length);
  if (limits.max_length > 0) options.max_length = std::min(options.max_length, limits.max_length);
  LabeledSet set;
  const std::string train = JoinPath(spec.path, "train"), test = JoinPath(spec.path, "test");
  if (!IsFolder(train) || !IsFolder(test)) {
    RESIDUAL_ASSIGN_OR_RETURN(set.train, ReadTextFolder(spec.path, options));
    return set;
  }
  RESIDUAL_ASSIGN_OR_RETURN(set.train, ReadTextFolder(train, options));
  options.classes = set.train.class_names;
  RESIDUAL_ASSIGN_OR_RETURN(set.test, ReadTextFolder(test, options));
  return set;
}

// Rows of one drawing, so that the sizes are the same and none is in both.
absl::StatusOr<LabeledSequences> Generated(const LabeledSetSpec& spec, int64_t n) {
  const auto seed = static_cast<uint64_t>(spec.ValueOr("seed", 0));
  if (spec.kind == "digits") return DrawnDigits(n, spec.ValueOr("side", 28), seed);
  if (spec.kind == "pathfinder") {
    PathfinderOptions options;
    options.n = n;
    options.size = static_cast<int>(spec.ValueOr("size", options.size));
    return MakePathfinder(options, seed);
  }
  ListOpsOptions options;
  options.n = n;
  options.max_length = spec.ValueOr("max_length", options.max_length);
  options.min_length =
      spec.ValueOr("min_length", std::min(options.min_length, options.max_length / 4 + 1));
  options.max_depth = static_cast<int>(spec.ValueOr("max_depth", options.max_depth));
  options.max_args = static_cast<int>(spec.ValueOr("max_args", options.max_args));
  return MakeListOps(options, seed);
}

absl::StatusOr<LabeledSet> Read(const LabeledSetSpec& spec, const LabeledSetLimits& limits) {
  if (spec.kind == "idx") {
    RESIDUAL_ASSIGN_OR_RETURN(TrainAndTest both, ReadIdxFolder(spec.path));
    return LabeledSet{std::move(both.train), std::move(both.test)};
  }
  if (spec.kind == "optical_digits") return OpticalDigits(spec.path);
  if (spec.kind == "texts") return Texts(spec, limits);
  const int64_t n = spec.ValueOr("rows", 10000), n_test = spec.ValueOr("test_rows", 2000);
  RESIDUAL_ASSIGN_OR_RETURN(const LabeledSequences all, Generated(spec, n + n_test));
  std::vector<int64_t> rows(n_test);
  std::iota(rows.begin(), rows.end(), n);
  return LabeledSet{FirstRows(all, n), SelectRows(all, rows)};
}

}  // namespace

int64_t LabeledSetSpec::ValueOr(absl::string_view option, int64_t fallback) const {
  for (const auto& [name, value] : options) {
    if (name == option) return value;
  }
  return fallback;
}

std::string LabeledSetSpec::ToString() const {
  std::string text = kind;
  for (const auto& [name, value] : options) absl::StrAppend(&text, ",", name, "=", value);
  return path.empty() ? text : absl::StrCat(text, ":", path);
}

std::string LabeledSetKinds() {
  std::vector<std::string> kinds;
  for (const Kind& kind : Kinds()) {
    kinds.push_back(kind.path == nullptr ? kind.name : absl::StrCat(kind.name, ":", kind.path));
  }
  return absl::StrJoin(kinds, ", ");
}

absl::StatusOr<LabeledSetSpec> ParseLabeledSet(absl::string_view text) {
  LabeledSetSpec spec;
  const size_t colon = text.find(':');
  if (colon != text.npos) spec.path = std::string(text.substr(colon + 1));
  const std::vector<std::string> parts = absl::StrSplit(text.substr(0, colon), ',');
  spec.kind = parts[0];
  const auto kind = std::find_if(Kinds().begin(), Kinds().end(),
                                 [&](const Kind& k) { return k.name == spec.kind; });
  if (kind == Kinds().end()) {
    std::vector<std::string> names;
    for (const Kind& known : Kinds()) names.push_back(known.name);
    return Wrong("'", spec.kind, "', expected one of ", LabeledSetKinds(),
                 DidYouMean(spec.kind, names));
  }
  if (kind->path == nullptr && colon != text.npos) {
    return Wrong("'", text, "': ", kind->name, " is made here and reads no path");
  }
  if (kind->path != nullptr && spec.path.empty()) {
    return Wrong("'", text, "': the path is missing, expected ", kind->name, ":", kind->path);
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    const std::pair<std::string, std::string> assigned =
        absl::StrSplit(parts[i], absl::MaxSplits('=', 1));
    const auto option = std::find_if(kind->options.begin(), kind->options.end(),
                                     [&](const Option& o) { return o.name == assigned.first; });
    if (option == kind->options.end()) {
      std::vector<std::string> names;
      for (const Option& known : kind->options) names.push_back(known.name);
      return Wrong("'", parts[i], "': ", kind->name, " has the options ",
                   absl::StrJoin(names, ", "), DidYouMean(assigned.first, names));
    }
    int64_t value = 0;
    if (!absl::SimpleAtoi(assigned.second, &value) || value < option->low || value > option->high) {
      return Wrong("'", parts[i], "', expected a whole number from ", option->low, " to ",
                   option->high);
    }
    spec.options.emplace_back(assigned.first, value);
  }
  return spec;
}

absl::StatusOr<LabeledSet> ReadLabeledSet(const LabeledSetSpec& spec,
                                          const LabeledSetLimits& limits) {
  RESIDUAL_ASSIGN_OR_RETURN(LabeledSet set, Read(spec, limits));
  set.train = FirstRows(set.train, spec.ValueOr("rows", set.train.n()));
  const int64_t pool = spec.ValueOr("pool", 1);
  if (pool > 1) {
    RESIDUAL_ASSIGN_OR_RETURN(set.train, PoolImages(set.train, pool));
    if (set.test.n() > 0) {
      RESIDUAL_ASSIGN_OR_RETURN(set.test, PoolImages(set.test, pool));
    }
  }
  return set;
}

}  // namespace residual
