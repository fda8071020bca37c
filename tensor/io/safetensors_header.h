// The header of a safetensors file: text in, checked entries out.

#ifndef RESIDUAL_TENSOR_IO_SAFETENSORS_HEADER_H_
#define RESIDUAL_TENSOR_IO_SAFETENSORS_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace safetensors_internal {

// A dtype of the format.
struct FormatDType {
  const char* name;
  int bits;
  bool readable;
  DType dtype;          // what it is read as
  size_t widened_from;  // bytes of an unsigned integer no Tensor has; 0 for the others
};

// In the order by which the reference library sorts, which is that of the format's list.
const std::vector<FormatDType>& FormatDTypes();
const FormatDType* FindFormatDType(absl::string_view name);  // null: unknown
const FormatDType& FormatDTypeOf(DType dtype);

struct Entry {
  std::string name;
  const FormatDType* dtype = nullptr;
  Shape shape;
  uint64_t begin = 0, end = 0;  // within the data
};

struct Header {
  std::vector<Entry> entries;  // in order of name
  std::map<std::string, std::string> metadata;
};

inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

// Everything the format asks of a header in front of `data_bytes` bytes of data. Errors lack the
// file's name.
absl::StatusOr<Header> ParseHeader(absl::string_view text, uint64_t data_bytes);

// A name as it can stand in a one-line message: quoted, escaped, cut when long.
std::string Quoted(absl::string_view name);

}  // namespace safetensors_internal
}  // namespace residual

#endif  // RESIDUAL_TENSOR_IO_SAFETENSORS_HEADER_H_
