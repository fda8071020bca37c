#include "tensor/io/wide_integers.h"

#include <cstdint>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

template <class From, class To>
absl::Status Widen(const char* data, Tensor& result) {
  To* to = result.mutable_data<To>();
  for (int64_t i = 0; i < result.elements(); ++i) {
    From value;
    std::memcpy(&value, data + i * sizeof(From), sizeof(From));
    if (value > static_cast<uint64_t>(std::numeric_limits<To>::max())) {
      return absl::OutOfRangeError(absl::StrCat("element ", i, " is ", value, ", at most ",
                                                std::numeric_limits<To>::max(), " can be read"));
    }
    to[i] = static_cast<To>(value);
  }
  return absl::OkStatus();
}

}  // namespace

DType WidenedDType(size_t size) { return size == 2 ? kI32 : kI64; }

absl::StatusOr<Tensor> WidenUnsigned(const char* data, size_t size, const Shape& shape) {
  RESIDUAL_CHECK(size == 2 || size == 4 || size == 8) << size;
  Tensor result = Tensor::Uninitialized(shape, WidenedDType(size));
  const absl::Status status = size == 2   ? Widen<uint16_t, int32_t>(data, result)
                              : size == 4 ? Widen<uint32_t, int64_t>(data, result)
                                          : Widen<uint64_t, int64_t>(data, result);
  if (!status.ok()) return status;
  return result;
}

}  // namespace residual
