#include "tensor/io/npy.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tensor/io/wide_integers.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "elements are written as they lie");

namespace residual {
namespace {

constexpr absl::string_view kMagic("\x93NUMPY", 6);
// NumPy itself refuses more than 10,000 bytes.
constexpr uint32_t kMaxHeaderBytes = 1 << 16;

struct NpyDType {
  const char* code;  // after the byte order
  DType dtype;
  size_t widened_from;  // bytes of an unsigned integer no Tensor has; 0 for the others
};
constexpr NpyDType kDTypes[] = {
    {"f4", kF32, 0},       {"f8", kF64, 0}, {"f2", kF16, 0},  {"i8", kI64, 0},
    {"i4", kI32, 0},       {"u1", kU8, 0},  {"b1", kBool, 0}, {"i2", DType::kI16, 0},
    {"i1", DType::kI8, 0}, {"u2", kI32, 2}, {"u4", kI64, 4},  {"u8", kI64, 8},
};

struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// The Python literal of a header: a dict of a string, a bool and a tuple of integers.
class LiteralParser {
 public:
  explicit LiteralParser(absl::string_view text) : text_(text) {}

  absl::StatusOr<NpyHeader> Parse() {
    NpyHeader header;
    bool seen[3] = {};
    RESIDUAL_RETURN_IF_ERROR(Expect('{'));
    while (!Accept('}')) {
      RESIDUAL_ASSIGN_OR_RETURN(const std::string key, String());
      RESIDUAL_RETURN_IF_ERROR(Expect(':'));
      const int field = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (field < 0 || seen[field]) {
        return Error(absl::StrCat("the key '", absl::CHexEscape(key), "'",
                                  field < 0 ? "" : " a second time"),
                     "each of 'descr', 'fortran_order', 'shape' once");
      }
      seen[field] = true;
      if (field == 0) {
        if (Accept('[')) {
          return absl::UnimplementedError("dtypes of several fields are not supported");
        }
        RESIDUAL_ASSIGN_OR_RETURN(header.descr, String());
      } else if (field == 1) {
        RESIDUAL_ASSIGN_OR_RETURN(header.fortran_order, Bool());
      } else {
        RESIDUAL_ASSIGN_OR_RETURN(header.shape, Tuple());
      }
      if (!Accept(',')) {
        RESIDUAL_RETURN_IF_ERROR(Expect('}'));
        break;
      }
    }
    SkipSpace();
    if (at_ != text_.size()) return Error("more text", "the end of the header");
    if (!seen[0] || !seen[1] || !seen[2]) {
      return Error("the end", "each of 'descr', 'fortran_order', 'shape' once");
    }
    return header;
  }

 private:
  void SkipSpace() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool Accept(char c) {
    SkipSpace();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  absl::Status Error(absl::string_view found, absl::string_view expected) const {
    return absl::InvalidArgumentError(
        absl::StrCat("character ", at_, " of the header: found ", found, ", expected ", expected));
  }
  std::string Here() const {
    return at_ == text_.size() ? "the end"
                               : absl::StrCat("'", absl::CHexEscape(text_.substr(at_, 1)), "'");
  }
  absl::Status Expect(char c) {
    if (Accept(c)) return absl::OkStatus();
    return Error(Here(), absl::StrCat("'", absl::string_view(&c, 1), "'"));
  }
  absl::StatusOr<std::string> String() {
    SkipSpace();
    if (at_ == text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) {
      return Error(Here(), "a string");
    }
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == text_.npos) return Error("no end", "the end of the string");
    const absl::string_view value = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return std::string(value);
  }
  absl::StatusOr<bool> Bool() {
    SkipSpace();
    for (const bool value : {false, true}) {
      const absl::string_view word = value ? "True" : "False";
      if (absl::StartsWith(text_.substr(at_), word)) {
        at_ += word.size();
        return value;
      }
    }
    return Error(Here(), "True or False");
  }
  absl::StatusOr<std::vector<int64_t>> Tuple() {
    std::vector<int64_t> sizes;
    RESIDUAL_RETURN_IF_ERROR(Expect('('));
    while (!Accept(')')) {
      const size_t begin = at_;  // Accept skipped the space
      while (at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_]))) ++at_;
      int64_t size = 0;
      if (begin == at_) return Error(Here(), "a size from 0");
      if (!absl::SimpleAtoi(text_.substr(begin, at_ - begin), &size)) {
        at_ = begin;
        return Error("a size above 2^63 - 1", "a smaller one");
      }
      if (sizes.size() == Shape::kMaxRank) {
        return absl::UnimplementedError(absl::StrCat("the header has more than ", Shape::kMaxRank,
                                                     " axes, which is the most supported"));
      }
      sizes.push_back(size);
      Accept('L');  // as Python 2 wrote them
      if (!Accept(',')) {
        if (sizes.size() == 1) return Error(Here(), "',': a tuple of one");
        RESIDUAL_RETURN_IF_ERROR(Expect(')'));
        break;
      }
    }
    return sizes;
  }

  absl::string_view text_;
  size_t at_ = 0;
};

// Bytes of `size` elements each turned round.
void SwapBytes(std::string& data, size_t size) {
  for (size_t i = 0; i + size <= data.size(); i += size) {
    std::reverse(data.begin() + i, data.begin() + i + size);
  }
}

// Elements with the first axis fastest, to the last axis fastest.
std::string FromFortranOrder(const std::string& data, const Shape& shape, size_t size) {
  std::string result(data.size(), '\0');
  std::vector<int64_t> index(shape.rank(), 0);
  for (size_t to = 0; to < data.size(); to += size) {
    int64_t from = 0, stride = 1;
    for (int axis = 0; axis < shape.rank(); ++axis) {
      from += index[axis] * stride;
      stride *= shape[axis];
    }
    std::memcpy(&result[to], &data[from * size], size);
    for (int axis = shape.rank() - 1; axis >= 0 && ++index[axis] == shape[axis]; --axis) {
      index[axis] = 0;
    }
  }
  return result;
}

absl::StatusOr<Tensor> Parse(const MappedFile& file) {
  unsigned char start[12] = {};
  const uint64_t size = file.size();
  RESIDUAL_RETURN_IF_ERROR(file.ReadAt(0, std::min<uint64_t>(size, sizeof(start)), start));
  if (size < 10 || std::memcmp(start, kMagic.data(), kMagic.size()) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "is no .npy file: does not begin with \\x93NUMPY and a version (", size, " bytes)"));
  }
  const int version = start[6];
  if (version < 1 || version > 3 || start[7] != 0) {
    return absl::InvalidArgumentError(absl::StrCat("the version at byte 6 is ", version, ".",
                                                   int{start[7]}, ", expected 1.0, 2.0 or 3.0"));
  }
  uint64_t length = start[8] | start[9] << 8, begin = 10;
  if (version > 1) {
    length |= uint64_t{start[10]} << 16 | uint64_t{start[11]} << 24;
    begin = 12;
  }
  if (length > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the header's length at byte 8 is ", length, ", at most ", kMaxHeaderBytes));
  }
  if (begin + length > size) {
    return absl::DataLossError(absl::StrCat("the header's length at byte 8 is ", length,
                                            ", but the file has only ", size, " bytes"));
  }
  std::string text(length, '\0');
  RESIDUAL_RETURN_IF_ERROR(file.ReadAt(begin, length, text.data()));
  RESIDUAL_ASSIGN_OR_RETURN(const NpyHeader header, LiteralParser(text).Parse());

  const absl::string_view descr = header.descr;
  const absl::string_view order = descr.substr(0, 1), code = descr.substr(order.size());
  const NpyDType* dtype =
      std::find_if(std::begin(kDTypes), std::end(kDTypes),
                   [&](const NpyDType& candidate) { return code == candidate.code; });
  if (dtype == std::end(kDTypes) || absl::string_view("<>|=").find(order) == order.npos ||
      order.empty()) {
    return absl::UnimplementedError(absl::StrCat(
        "the dtype '", absl::CHexEscape(header.descr), "' is not supported, expected one of ",
        absl::StrJoin(kDTypes, " ", [](std::string* out, const NpyDType& known) {
          absl::StrAppend(out, known.code);
        })));
  }
  const size_t element = dtype->widened_from != 0 ? dtype->widened_from : SizeOf(dtype->dtype);
  // Without its zeros too, so that no product of some of the sizes can overflow later.
  int64_t product = static_cast<int64_t>(std::max(element, SizeOf(dtype->dtype)));
  for (const int64_t n : header.shape) {
    if (n != 0 && __builtin_mul_overflow(product, n, &product)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the product of the shape (", absl::StrJoin(header.shape, ", "), ") overflows"));
    }
  }
  const Shape shape(header.shape);
  const uint64_t offset = begin + length, bytes = shape.elements() * element;
  if (bytes != size - offset) {
    const std::string message =
        absl::StrCat("has ", size - offset, " bytes after the header, expected ", bytes, " for '",
                     header.descr, "' ", shape.ToString());
    return bytes > size - offset ? absl::DataLossError(message)
                                 : absl::InvalidArgumentError(message);
  }

  const bool swap = order == ">" && element > 1;
  Tensor result;
  if (!swap && !header.fortran_order && dtype->widened_from == 0) {
    result = Tensor::Uninitialized(shape, dtype->dtype);
    RESIDUAL_RETURN_IF_ERROR(file.ReadAt(offset, bytes, result.mutable_raw_data()));
  } else {
    std::string data(bytes, '\0');
    RESIDUAL_RETURN_IF_ERROR(file.ReadAt(offset, bytes, data.data()));
    if (swap) SwapBytes(data, element);
    if (header.fortran_order) data = FromFortranOrder(data, shape, element);
    if (dtype->widened_from != 0) return WidenUnsigned(data.data(), element, shape);
    result = Tensor::Uninitialized(shape, dtype->dtype);
    std::copy(data.begin(), data.end(), static_cast<char*>(result.mutable_raw_data()));
  }
  if (dtype->dtype == kBool) {
    const auto* values = static_cast<const unsigned char*>(result.raw_data());
    const auto* wrong =
        std::find_if(values, values + bytes, [](unsigned char value) { return value > 1; });
    if (wrong != values + bytes) {
      return absl::InvalidArgumentError(absl::StrCat("the bool at byte ", offset + (wrong - values),
                                                     " is ", int{*wrong}, ", expected 0 or 1"));
    }
  }
  return result;
}

}  // namespace

absl::StatusOr<Tensor> ReadNpy(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file,
                            MappedFile::Open(path, /*mmap=*/false));
  absl::StatusOr<Tensor> result = Parse(*file);
  if (result.ok() || absl::StartsWith(result.status().message(), path)) return result;
  return absl::Status(result.status().code(), absl::StrCat(path, ": ", result.status().message()));
}

absl::Status WriteNpy(const std::string& path, const Tensor& x) {
  RESIDUAL_CHECK(x.defined() && x.device() == kCpu) << x.ToString();
  const NpyDType* dtype = std::find_if(
      std::begin(kDTypes), std::end(kDTypes),
      [&](const NpyDType& known) { return known.widened_from == 0 && known.dtype == x.dtype(); });
  if (dtype == std::end(kDTypes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": NumPy has no dtype ", Name(x.dtype()), "; convert to f32 first"));
  }
  std::string header =
      absl::StrCat("{'descr': '", SizeOf(x.dtype()) == 1 ? "|" : "<", dtype->code,
                   "', 'fortran_order': False, 'shape': (", absl::StrJoin(x.shape().sizes(), ", "),
                   x.rank() == 1 ? ",), }" : "), }");
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  header += '\n';
  std::string start(kMagic);
  start +=
      {'\1', '\0', static_cast<char>(header.size() & 255), static_cast<char>(header.size() >> 8)};
  RESIDUAL_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file, AtomicFile::Create(path));
  RESIDUAL_RETURN_IF_ERROR(file->Append(start));
  RESIDUAL_RETURN_IF_ERROR(file->Append(header));
  RESIDUAL_RETURN_IF_ERROR(file->Append({static_cast<const char*>(x.raw_data()), x.bytes()}));
  return file->Commit();
}

}  // namespace residual
