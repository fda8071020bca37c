#include "tensor/io/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "nlohmann/json.hpp"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace safetensors_internal {
namespace {

using nlohmann::json;

// On one line, in ASCII.
std::string Printable(absl::string_view text) {
  return absl::StrReplaceAll(absl::CHexEscape(text), {{"\\'", "'"}, {"\\\"", "\""}});
}

// Fields that are not ours may hold anything, this deep.
constexpr int kMaxIgnoredDepth = 64;

// Takes the parser's events; never recurses, so depth costs no stack. The parser itself refuses
// what is no JSON and no UTF-8.
class HeaderReader : public json::json_sax_t {
 public:
  Header header;
  absl::Status status;

  bool null() override {
    if (place_ == Place::kTop && in_metadata_) {  // as the reference library: no metadata
      in_metadata_ = false;
      return true;
    }
    return Value("null");
  }
  bool boolean(bool value) override { return Value(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return Value(absl::StrCat(value)); }
  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return EntryError(absl::StrCat("size ", value, " in shape, at most 2^63 - 1"));
      }
      if (sizes_.size() == Shape::kMaxRank) {
        return EntryError(absl::StrCat("more than ", Shape::kMaxRank, " sizes in shape"),
                          absl::StatusCode::kUnimplemented);
      }
      sizes_.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offsets_.size() == 2) return EntryError("more than 2 data_offsets, expected 2");
      offsets_.push_back(value);
      return true;
    }
    return Value(absl::StrCat(value));
  }
  bool number_float(number_float_t, const string_t& text) override { return Value(text); }
  bool binary(binary_t&) override { return Value("binary"); }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      if (!header.metadata.emplace(std::move(key_), std::move(value)).second) {
        return Error("a key is given twice in __metadata__");
      }
      return true;
    }
    if (place_ == Place::kEntry && field_ == Field::kDType) {
      entry_.dtype = FindFormatDType(value);
      if (entry_.dtype == nullptr) {
        return EntryError(
            absl::StrCat("dtype ", Quoted(value), " is unknown, expected one of ", KnownDTypes()));
      }
      return true;
    }
    return Value(Quoted(value));
  }

  bool start_object(size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        place_ = in_metadata_ ? Place::kMetadata : Place::kEntry;
        return true;
      default:
        return Nest("an object");
    }
  }
  bool key(string_t& name) override {
    switch (place_) {
      case Place::kTop:
        in_metadata_ = name == "__metadata__";
        if (in_metadata_) {
          if (seen_metadata_) return Error("__metadata__ is given twice");
          seen_metadata_ = true;
        } else {
          entry_ = Entry();
          entry_.name = std::move(name);
          seen_[0] = seen_[1] = seen_[2] = false;
          sizes_.clear();
          offsets_.clear();
        }
        return true;
      case Place::kMetadata:
        key_ = std::move(name);
        return true;
      case Place::kEntry: {
        field_ = name == "dtype"          ? Field::kDType
                 : name == "shape"        ? Field::kShape
                 : name == "data_offsets" ? Field::kOffsets
                                          : Field::kOther;
        if (field_ == Field::kOther) return true;
        bool& seen = seen_[static_cast<int>(field_)];
        if (seen) return EntryError(absl::StrCat(name, " is given twice"));
        seen = true;
        return true;
      }
      default:
        return true;  // within an ignored field
    }
  }
  bool end_object() override {
    switch (place_) {
      case Place::kTop:
        place_ = Place::kEnd;
        return true;
      case Place::kMetadata:
        place_ = Place::kTop;
        return true;
      case Place::kEntry:
        place_ = Place::kTop;
        return FinishEntry();
      default:
        return Unnest();
    }
  }
  bool start_array(size_t) override {
    if (place_ == Place::kEntry && field_ == Field::kShape) {
      place_ = Place::kShape;
      return true;
    }
    if (place_ == Place::kEntry && field_ == Field::kOffsets) {
      place_ = Place::kOffsets;
      return true;
    }
    return Nest("a list");
  }
  bool end_array() override {
    if (place_ == Place::kShape || place_ == Place::kOffsets) {
      place_ = Place::kEntry;
      return true;
    }
    return Unnest();
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& exception) override {
    // "[json.exception...] parse error at line 1, column 5: syntax error ...": the last part.
    constexpr size_t kLongest = 160;
    absl::string_view what = exception.what();
    const size_t column = what.find(", column "), colon = what.find(": ", column);
    if (column != what.npos && colon != what.npos) what.remove_prefix(colon + 2);
    status = absl::InvalidArgumentError(absl::StrCat(
        "the header is no valid JSON at byte ", 8 + (position > 0 ? position - 1 : 0), ": ",
        Printable(what.substr(0, kLongest)), what.size() > kLongest ? "..." : ""));
    return false;
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kEntry, kShape, kOffsets, kIgnored, kEnd };
  enum class Field { kDType, kShape, kOffsets, kOther };

  bool Error(std::string message, absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    status = absl::Status(code, message);
    return false;
  }
  bool EntryError(absl::string_view message,
                  absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    return Error(absl::StrCat("tensor ", Quoted(entry_.name), ": ", message), code);
  }

  // A value where it is not expected, or one of an ignored field.
  bool Value(absl::string_view found) {
    switch (place_) {
      case Place::kStart:
        return Error(absl::StrCat("the header is ", found, ", expected an object"));
      case Place::kTop:
        if (in_metadata_) {
          return Error(absl::StrCat("__metadata__ is ", found, ", expected an object"));
        }
        return EntryError(absl::StrCat("is ", found, ", expected an object"));
      case Place::kMetadata:
        return Error(
            absl::StrCat("__metadata__ ", Quoted(key_), " is ", found, ", expected a string"));
      case Place::kEntry:
        if (field_ == Field::kOther) return true;
        return EntryError(field_ == Field::kDType
                              ? absl::StrCat("dtype is ", found, ", expected a string")
                              : absl::StrCat(field_ == Field::kShape ? "shape" : "data_offsets",
                                             " is ", found, ", expected a list of integers"));
      case Place::kShape:
      case Place::kOffsets:
        return EntryError(absl::StrCat(place_ == Place::kShape ? "shape" : "data_offsets",
                                       " holds ", found, ", expected integers from 0"));
      case Place::kIgnored:
      case Place::kEnd:
        return true;
    }
    return true;
  }
  bool Nest(absl::string_view found) {
    if (place_ == Place::kEntry && field_ == Field::kOther) {
      place_ = Place::kIgnored;
      depth_ = 0;
    }
    if (place_ != Place::kIgnored) return Value(found);
    if (++depth_ > kMaxIgnoredDepth) {
      return EntryError(absl::StrCat("a field nests more than ", kMaxIgnoredDepth, " deep"));
    }
    return true;
  }
  bool Unnest() {
    if (--depth_ == 0) place_ = Place::kEntry;
    return true;
  }

  bool FinishEntry() {
    const char* missing = !seen_[0]   ? "dtype"
                          : !seen_[1] ? "shape"
                          : !seen_[2] ? "data_offsets"
                                      : nullptr;
    if (missing != nullptr) return EntryError(absl::StrCat(missing, " is missing"));
    if (offsets_.size() != 2) {
      return EntryError(absl::StrCat(offsets_.size(), " data_offsets, expected 2"));
    }
    // Without its zeros too, so that no product of some of the sizes can overflow later.
    uint64_t product = 1;
    for (const int64_t size : sizes_) {
      if (size == 0) continue;
      if (__builtin_mul_overflow(product, static_cast<uint64_t>(size), &product) ||
          product > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 64) {
        return EntryError(
            absl::StrCat("the product of the shape [", absl::StrJoin(sizes_, ", "), "] overflows"));
      }
    }
    entry_.shape = Shape(sizes_);
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    header.entries.push_back(std::move(entry_));
    return true;
  }

  static std::string KnownDTypes() {
    return absl::StrJoin(FormatDTypes(), " ", [](std::string* out, const FormatDType& dtype) {
      absl::StrAppend(out, dtype.name);
    });
  }

  Place place_ = Place::kStart;
  Field field_ = Field::kOther;
  bool in_metadata_ = false, seen_metadata_ = false;
  bool seen_[3] = {};  // by Field
  int depth_ = 0;      // within an ignored field
  std::string key_;
  Entry entry_;
  std::vector<int64_t> sizes_;
  std::vector<uint64_t> offsets_;
};

absl::Status CheckNames(const std::vector<Entry>& entries) {
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].name == entries[i - 1].name) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quoted(entries[i].name), " is given twice"));
    }
  }
  return absl::OkStatus();
}

// Every tensor has the bytes its shape needs; together they cover the data once.
absl::Status CheckOffsets(const std::vector<Entry>& entries, uint64_t data_bytes) {
  std::vector<uint32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::make_pair(entries[a].begin, entries[a].end) <
           std::make_pair(entries[b].begin, entries[b].end);
  });
  uint64_t covered = 0;
  for (const uint32_t i : order) {
    const Entry& entry = entries[i];
    const std::string where = absl::StrCat("tensor ", Quoted(entry.name), ": data_offsets [",
                                           entry.begin, ", ", entry.end, "]");
    if (entry.end < entry.begin) {
      return absl::InvalidArgumentError(absl::StrCat(where, " end before they begin"));
    }
    if (entry.end > data_bytes) {
      return absl::DataLossError(absl::StrCat(where, " end past the data, of which there are ",
                                              data_bytes,
                                              " bytes; is the file cut or not yet whole?"));
    }
    const uint64_t bits = static_cast<uint64_t>(entry.shape.elements()) * entry.dtype->bits;
    if (bits % 8 != 0 || bits / 8 != entry.end - entry.begin) {
      return absl::InvalidArgumentError(
          absl::StrCat(where, " are ", entry.end - entry.begin, " bytes, expected ", (bits + 7) / 8,
                       " for ", entry.dtype->name, " ", entry.shape.ToString()));
    }
    if (entry.begin != covered) {
      return absl::InvalidArgumentError(
          absl::StrCat(where,
                       entry.begin < covered ? " overlap the tensor before: expected begin "
                                             : " leave a hole before: expected begin ",
                       covered));
    }
    covered = entry.end;
  }
  if (covered != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("the tensors end at byte ", covered,
                                                   " of the data, of which there are ", data_bytes,
                                                   " bytes: expected none left over"));
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<FormatDType>& FormatDTypes() {
  static const auto& dtypes = *new std::vector<FormatDType>{
      {"BOOL", 8, true, kBool, 0},
      {"F4", 4, false, kF32, 0},
      {"F6_E2M3", 6, false, kF32, 0},
      {"F6_E3M2", 6, false, kF32, 0},
      {"U8", 8, true, kU8, 0},
      {"I8", 8, true, DType::kI8, 0},
      {"F8_E5M2", 8, false, kF32, 0},
      {"F8_E4M3", 8, false, kF32, 0},
      {"F8_E8M0", 8, false, kF32, 0},
      {"F8_E4M3FNUZ", 8, false, kF32, 0},
      {"F8_E5M2FNUZ", 8, false, kF32, 0},
      {"I16", 16, true, DType::kI16, 0},
      {"U16", 16, true, kI32, 2},
      {"F16", 16, true, kF16, 0},
      {"BF16", 16, true, kBF16, 0},
      {"I32", 32, true, kI32, 0},
      {"U32", 32, true, kI64, 4},
      {"F32", 32, true, kF32, 0},
      {"C64", 64, false, kF32, 0},
      {"F64", 64, true, kF64, 0},
      {"I64", 64, true, kI64, 0},
      {"U64", 64, true, kI64, 8},
  };
  return dtypes;
}

const FormatDType* FindFormatDType(absl::string_view name) {
  for (const FormatDType& dtype : FormatDTypes()) {
    if (name == dtype.name) return &dtype;
  }
  return nullptr;
}

const FormatDType& FormatDTypeOf(DType dtype) {
  for (const FormatDType& candidate : FormatDTypes()) {
    if (candidate.readable && candidate.widened_from == 0 && candidate.dtype == dtype) {
      return candidate;
    }
  }
  RESIDUAL_CHECK(false) << Name(dtype);
  return FormatDTypes().front();
}

std::string Quoted(absl::string_view name) {
  constexpr size_t kLongest = 100;
  return absl::StrCat("'", Printable(name.substr(0, kLongest)),
                      name.size() > kLongest ? "...'" : "'");
}

absl::StatusOr<Header> ParseHeader(absl::string_view text, uint64_t data_bytes) {
  if (text.empty() || text.front() != '{') {
    return absl::InvalidArgumentError(absl::StrCat(
        "the header begins with ", text.empty() ? "nothing" : Quoted(text.substr(0, 1)),
        ", expected '{' at byte 8"));
  }
  // The parser takes a zero byte for the end of the text.
  const size_t zero = text.find('\0');
  if (zero != text.npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("the header has a zero byte at byte ", 8 + zero, ", expected JSON"));
  }
  HeaderReader reader;
  if (!json::sax_parse(text.begin(), text.end(), &reader)) {
    RESIDUAL_CHECK(!reader.status.ok()) << "a header refused without a reason";
    return reader.status;
  }
  std::vector<Entry>& entries = reader.header.entries;
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.name < b.name; });
  RESIDUAL_RETURN_IF_ERROR(CheckNames(entries));
  RESIDUAL_RETURN_IF_ERROR(CheckOffsets(entries, data_bytes));
  return std::move(reader.header);
}

}  // namespace safetensors_internal
}  // namespace residual
