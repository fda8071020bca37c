// Tensor: a value. A handle on shared bytes, dense, row-major, contiguous.
//
//   Tensor x = Tensor::Of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
//   x.dim(-1);                   // 3
//   x.data<float>()[4];          // 5
//   Tensor y = x;                // the same bytes; neither can be written now
//   Tensor z = x.Clone();        // bytes of its own
//   z.mutable_data<float>()[0] = 7;
//
// Ops never write their inputs. Writing needs the only handle: mutable_data() checks it, so an
// optimizer step on a weight that something still holds fails loudly instead of corrupting it.

#ifndef RESIDUAL_TENSOR_CORE_TENSOR_H_
#define RESIDUAL_TENSOR_CORE_TENSOR_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tensor/base/check.h"
#include "tensor/core/device.h"
#include "tensor/core/dtype.h"
#include "tensor/core/shape.h"
#include "tensor/core/storage.h"

namespace residual {

// Which node of which tape a handle belongs to (see tensor/autograd). No ownership, so no cycles;
// a handle that outlives its tape is simply no longer tracked.
struct TapeRef {
  uint64_t tape = 0;
  int64_t node = -1;  // 32 bits would do, but then a copy waits for two stores of unequal size
};

class Tensor {
 public:
  // No tensor at all: defined() is false.
  Tensor() = default;

  // Arbitrary contents (NaN in debug and sanitizer builds).
  static Tensor Uninitialized(const Shape& shape, DType dtype = kF32, Device device = kCpu);
  // On the host.
  static Tensor Zeros(const Shape& shape, DType dtype = kF32);
  static Tensor Full(const Shape& shape, double value, DType dtype = kF32);
  // Rank 0.
  static Tensor Scalar(double value, DType dtype = kF32) { return Full({}, value, dtype); }
  // values.size() must be shape.elements().
  template <class T>
  static Tensor Of(const Shape& shape, absl::Span<const T> values);
  template <class T>
  static Tensor Of(const Shape& shape, std::initializer_list<T> values) {
    return Of<T>(shape, absl::Span<const T>(values.begin(), values.size()));
  }
  template <class T>
  static Tensor Of(const Shape& shape, const std::vector<T>& values) {
    return Of<T>(shape, absl::Span<const T>(values));
  }
  // A read-only view on memory of somebody else (a mapped file), kept alive by `release`.
  static Tensor Wrap(const void* data, const Shape& shape, DType dtype,
                     std::function<void()> release);
  // Over a storage made elsewhere (tensor/cuda).
  static Tensor FromStorage(StorageRef storage, const Shape& shape, DType dtype);

  bool defined() const { return static_cast<bool>(storage_); }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t elements() const { return shape_.elements(); }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : kCpu; }
  size_t bytes() const { return elements() * SizeOf(dtype_); }

  // The elements, row-major, on the host. T must match dtype().
  template <class T>
  const T* data() const {
    RESIDUAL_CHECK(DTypeOf<T>() == dtype_ && device() == kCpu)
        << "data<" << Name(DTypeOf<T>()) << ">() of " << ToString();
    return static_cast<const T*>(raw_data());
  }
  template <class T>
  absl::Span<const T> span() const {
    return {data<T>(), static_cast<size_t>(elements())};
  }
  // For writing: CHECKs that this is the only handle on the bytes.
  template <class T>
  T* mutable_data() {
    RESIDUAL_CHECK(DTypeOf<T>() == dtype_ && device() == kCpu)
        << "mutable_data<" << Name(DTypeOf<T>()) << ">() of " << ToString();
    return static_cast<T*>(mutable_raw_data());
  }
  // The same on any device and dtype.
  const void* raw_data() const {
    return storage_ ? static_cast<const char*>(storage_->data()) + offset_ : nullptr;
  }
  void* mutable_raw_data() {
    RESIDUAL_CHECK(unique()) << "writing " << ToString() << ", which " << WhyNotUnique();
    return static_cast<char*>(storage_->data()) + offset_;
  }

  // May be written: the only handle, on memory of ours.
  bool unique() const { return storage_ && storage_->unique() && storage_->writable(); }

  // The same elements under another shape (same number of elements). Free; gradients follow.
  Tensor Reshaped(const Shape& shape) const;
  // Rows [begin, end) of the leading axis. Free, and for that reason not recorded: a tensor that
  // the current tape tracks is refused; ops/layout has Slice for it.
  Tensor Rows(int64_t begin, int64_t end) const;
  // Row i of the leading axis, which is dropped.
  Tensor Row(int64_t i) const { return Rows(i, i + 1).Reshaped(shape_.Without(0)); }

  // A copy with bytes of its own, on the same device, not tracked.
  Tensor Clone() const;
  // The value on the host as double (the only element of a tensor with one).
  double Item() const;
  // A host copy with every element converted to double.
  std::vector<double> ToDoubles() const;

  // "f32[2, 3]", "undefined".
  std::string ToString() const;

  // For tensor/autograd only.
  const TapeRef& tape_ref() const { return tape_ref_; }
  void set_tape_ref(TapeRef ref) { tape_ref_ = ref; }

 private:
  Tensor(StorageRef storage, const Shape& shape, DType dtype)
      : storage_(std::move(storage)), shape_(shape), dtype_(dtype) {}
  const char* WhyNotUnique() const;

  StorageRef storage_;
  int64_t offset_ = 0;  // bytes
  Shape shape_;
  DType dtype_ = kF32;
  TapeRef tape_ref_;
};

// Inputs, outputs, gradients of an op: a few.
using TensorList = absl::InlinedVector<Tensor, 4>;

// Serial number of the tape that is current on this thread; 0: none. Set by tensor/autograd.
uint64_t CurrentTapeSerial();
void SetCurrentTapeSerial(uint64_t serial);

// A copy with every element converted to `dtype` (float to integer truncates, to bool: != 0); the
// tensor itself when it has that dtype. On a GPU, floats to floats only. Not recorded on a tape
// (ops/layout has Cast).
Tensor ConvertTo(const Tensor& x, DType dtype);

// Copies x's bytes into `to`, a unique() tensor of the same shape and dtype, between any two
// devices.
void CopyBytes(const Tensor& x, Tensor& to);

// a += b for floats of equal shape and dtype, on the host; what gradient accumulation needs. `a`
// must be unique().
void AddInto(Tensor& a, const Tensor& b);

// Calls visitor(T{}) with the C++ element type of the dtype:
//   VisitDType(x.dtype(), [&](auto tag) { using T = decltype(tag); ... });
template <class Visitor>
void VisitDType(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::kF32:
      return visitor(float{});
    case DType::kF64:
      return visitor(double{});
    case DType::kBF16:
      return visitor(BFloat16{});
    case DType::kF16:
      return visitor(Float16{});
    case DType::kI64:
      return visitor(int64_t{});
    case DType::kI32:
      return visitor(int32_t{});
    case DType::kI16:
      return visitor(int16_t{});
    case DType::kI8:
      return visitor(int8_t{});
    case DType::kU8:
      return visitor(uint8_t{});
    case DType::kBool:
      return visitor(bool{});
  }
}

// Element <-> double for generic code.
template <class T>
double ToDouble(T x) {
  return static_cast<double>(x);
}
inline double ToDouble(BFloat16 x) { return x.ToFloat(); }
inline double ToDouble(Float16 x) { return x.ToFloat(); }

template <class T>
T FromDouble(double x) {
  return static_cast<T>(x);
}
template <>
inline BFloat16 FromDouble<BFloat16>(double x) {
  return BFloat16::FromFloat(static_cast<float>(x));
}
template <>
inline Float16 FromDouble<Float16>(double x) {
  return Float16::FromFloat(static_cast<float>(x));
}
template <>
inline bool FromDouble<bool>(double x) {
  return x != 0;
}

template <class T>
Tensor Tensor::Of(const Shape& shape, absl::Span<const T> values) {
  RESIDUAL_CHECK_EQ(static_cast<int64_t>(values.size()), shape.elements()) << shape;
  Tensor result = Uninitialized(shape, DTypeOf<T>());
  std::copy(values.begin(), values.end(), result.mutable_data<T>());
  return result;
}

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CORE_TENSOR_H_
