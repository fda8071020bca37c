#include "tensor/core/tensor.h"

#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "tensor/base/parallel.h"
#include "tensor/core/cuda_hooks.h"

namespace residual {
namespace {

thread_local uint64_t t_current_tape = 0;

constexpr int64_t kCopyGrain = 1 << 16;  // elements

}  // namespace

uint64_t CurrentTapeSerial() { return t_current_tape; }
void SetCurrentTapeSerial(uint64_t serial) { t_current_tape = serial; }

Tensor Tensor::Uninitialized(const Shape& shape, DType dtype, Device device) {
  const size_t bytes = shape.elements() * SizeOf(dtype);
  return Tensor(device == kCpu ? AllocateHost(bytes) : GetCudaHooks().allocate(bytes), shape,
                dtype);
}

Tensor Tensor::Zeros(const Shape& shape, DType dtype) {
  Tensor result = Uninitialized(shape, dtype);
  std::memset(result.mutable_raw_data(), 0, result.bytes());  // zero in every format
  return result;
}

Tensor Tensor::Full(const Shape& shape, double value, DType dtype) {
  Tensor result = Uninitialized(shape, dtype);
  VisitDType(dtype, [&](auto tag) {
    using T = decltype(tag);
    std::fill_n(result.mutable_data<T>(), result.elements(), FromDouble<T>(value));
  });
  return result;
}

Tensor Tensor::Wrap(const void* data, const Shape& shape, DType dtype,
                    std::function<void()> release) {
  return FromStorage(WrapHost(data, shape.elements() * SizeOf(dtype), std::move(release)), shape,
                     dtype);
}

Tensor Tensor::FromStorage(StorageRef storage, const Shape& shape, DType dtype) {
  return Tensor(std::move(storage), shape, dtype);
}

const char* Tensor::WhyNotUnique() const {
  return storage_ && !storage_->writable() ? "is read-only memory" : "other handles share";
}

Tensor Tensor::Reshaped(const Shape& shape) const {
  RESIDUAL_CHECK_EQ(shape.elements(), elements()) << "reshaping " << ToString() << " to " << shape;
  Tensor result = *this;
  result.shape_ = shape;
  return result;
}

Tensor Tensor::Rows(int64_t begin, int64_t end) const {
  RESIDUAL_CHECK(rank() >= 1 && 0 <= begin && begin <= end && end <= dim(0))
      << "rows [" << begin << ", " << end << ") of " << ToString();
  RESIDUAL_CHECK(tape_ref_.node < 0 || tape_ref_.tape != t_current_tape)
      << "Rows() of a tensor on the tape would lose its gradient; use Slice of ops/layout";
  Tensor result = *this;
  result.tape_ref_ = {};
  result.shape_ = shape_.With(0, end - begin);
  result.offset_ += begin * shape_.elements(1, rank()) * SizeOf(dtype_);
  return result;
}

Tensor Tensor::Clone() const {
  RESIDUAL_CHECK(defined());
  Tensor result = Uninitialized(shape_, dtype_, device());
  CopyBytes(*this, result);
  return result;
}

void CopyBytes(const Tensor& x, Tensor& to) {
  RESIDUAL_CHECK(x.shape() == to.shape() && x.dtype() == to.dtype())
      << "CopyBytes " << x.ToString() << " to " << to.ToString();
  const char* source = static_cast<const char*>(x.raw_data());
  char* target = static_cast<char*>(to.mutable_raw_data());
  if (x.device() == kCpu && to.device() == kCpu) {
    ParallelFor(x.bytes(), kCopyGrain * 4, [&](int64_t begin, int64_t end) {
      std::memcpy(target + begin, source + begin, end - begin);
    });
  } else {
    GetCudaHooks().copy(target, to.device(), source, x.device(), x.bytes());
  }
}

std::vector<double> Tensor::ToDoubles() const {
  std::vector<double> values(elements());
  VisitDType(dtype_, [&](auto tag) {
    using T = decltype(tag);
    const T* from = data<T>();
    for (size_t i = 0; i < values.size(); ++i) values[i] = ToDouble(from[i]);
  });
  return values;
}

double Tensor::Item() const {
  RESIDUAL_CHECK_EQ(elements(), 1) << ToString();
  return ToDoubles()[0];
}

std::string Tensor::ToString() const {
  if (!defined()) return "undefined";
  return absl::StrCat(Name(dtype_), shape_.ToString(), device() == kCuda ? " on cuda" : "");
}

namespace {

template <class To, class From>
To ConvertElement(From x) {
  if constexpr (std::is_same_v<From, BFloat16> && std::is_same_v<To, float>) {
    return x.ToFloat();  // the common cases without the detour over double
  } else if constexpr (std::is_same_v<From, float> && std::is_same_v<To, BFloat16>) {
    return BFloat16::FromFloat(x);
  } else if constexpr (std::is_integral_v<From> && std::is_integral_v<To> &&
                       !std::is_same_v<To, bool>) {
    return static_cast<To>(x);  // exact where a double is not
  } else {
    return FromDouble<To>(ToDouble(x));
  }
}

}  // namespace

Tensor ConvertTo(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor result = Tensor::Uninitialized(x.shape(), dtype, x.device());
  if (x.device() == kCuda) {
    GetCudaHooks().convert(x, result);
    return result;
  }
  VisitDType(x.dtype(), [&](auto from_tag) {
    using From = decltype(from_tag);
    const From* from = x.data<From>();
    VisitDType(dtype, [&](auto to_tag) {
      using To = decltype(to_tag);
      To* to = result.mutable_data<To>();
      ParallelFor(x.elements(), kCopyGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] = ConvertElement<To>(from[i]);
      });
    });
  });
  return result;
}

void AddInto(Tensor& a, const Tensor& b) {
  RESIDUAL_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype() && IsFloat(a.dtype()))
      << "AddInto " << a.ToString() << ", " << b.ToString();
  if (a.device() == kCuda) return GetCudaHooks().add_into(a, b);
  VisitDType(a.dtype(), [&](auto tag) {
    using T = decltype(tag);
    T* to = a.mutable_data<T>();
    const T* from = b.data<T>();
    ParallelFor(a.elements(), kCopyGrain, [&](int64_t begin, int64_t end) {
      if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
        for (int64_t i = begin; i < end; ++i) to[i] += from[i];
      } else {
        for (int64_t i = begin; i < end; ++i)
          to[i] = FromDouble<T>(ToDouble(to[i]) + ToDouble(from[i]));
      }
    });
  });
}

}  // namespace residual
