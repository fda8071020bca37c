#include "ops/scan/linear_recurrence.h"

#include <algorithm>

#include "ops/scan/linear_recurrence_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

constexpr char kName[] = "linear_recurrence";

// Calls f(row of the batch, channels [begin, end)).
template <class F>
void ForChannels(const Shape& shape, F f) {
  constexpr int64_t kChannels = 64;
  const int64_t dim = shape[2], of_row = NumChunks(dim, kChannels);
  const int64_t grain = (1 << 14) / std::max<int64_t>(1, shape[1] * kChannels);
  ParallelFor(shape[0] * of_row, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % of_row * kChannels;
      f(i / of_row, first, std::min(dim, first + kChannels));
    }
  });
}

// The row-th part of n elements; null stays null.
template <class T>
const T* PartOf(const Tensor& x, int64_t row, int64_t n) {
  return x.defined() ? x.data<T>() + row * n : nullptr;
}

template <class T>
Tensor Forward(const Tensor& a, const Tensor& b, const Tensor& initial) {
  const int64_t length = a.dim(1), dim = a.dim(2), n = length * dim;
  Tensor h = Tensor::Uninitialized(a.shape(), a.dtype());
  T* to = h.mutable_data<T>();
  ForChannels(a.shape(), [&](int64_t row, int64_t begin, int64_t end) {
    RecurrenceForward(
        scan_internal::Recurrence<T>{length, dim, PartOf<T>(a, row, n), PartOf<T>(b, row, n),
                                     PartOf<T>(initial, row, dim), to + row * n},
        begin, end);
  });
  return h;
}

template <class T>
TensorList Backward(const Tensor& a, const Tensor& h, const Tensor& initial, const Tensor& dh) {
  const int64_t length = a.dim(1), dim = a.dim(2), n = length * dim;
  Tensor da = Tensor::Uninitialized(a.shape(), a.dtype());
  Tensor db = Tensor::Uninitialized(a.shape(), a.dtype()), dinitial;
  if (initial.defined()) dinitial = Tensor::Uninitialized(initial.shape(), a.dtype());
  T *to_a = da.mutable_data<T>(), *to_b = db.mutable_data<T>();
  T* to_initial = initial.defined() ? dinitial.mutable_data<T>() : nullptr;
  ForChannels(a.shape(), [&](int64_t row, int64_t begin, int64_t end) {
    RecurrenceBackward(
        scan_internal::RecurrenceGradients<T>{length, dim, PartOf<T>(a, row, n),
                                              PartOf<T>(h, row, n), PartOf<T>(initial, row, dim),
                                              PartOf<T>(dh, row, n), to_a + row * n, to_b + row * n,
                                              to_initial ? to_initial + row * dim : nullptr},
        begin, end);
  });
  return {da, db, dinitial};
}

}  // namespace

Tensor LinearRecurrence(const Tensor& a, const Tensor& b, const Tensor& initial_state) {
  RESIDUAL_CHECK_OP(kName, a.rank() == 3 && (a.dtype() == kF32 || a.dtype() == kF64), a, b);
  RESIDUAL_CHECK_OP(kName, a.shape() == b.shape() && a.dtype() == b.dtype(), a, b);
  RESIDUAL_CHECK_OP(kName,
                    !initial_state.defined() || (initial_state.dtype() == a.dtype() &&
                                                 initial_state.shape() == a.shape().Without(1)),
                    initial_state, a);
  Tensor h = a.dtype() == kF64 ? Forward<double>(a, b, initial_state)
                               : Forward<float>(a, b, initial_state);
  if (Tape* tape = Tape::For({&a, &b, &initial_state})) {
    const Tensor saved = h;
    tape->Record(kName, {&a, &b, &initial_state}, {&h}, [a, saved, initial_state](auto dh, Needs) {
      return a.dtype() == kF64 ? Backward<double>(a, saved, initial_state, dh[0])
                               : Backward<float>(a, saved, initial_state, dh[0]);
    });
  }
  return h;
}

}  // namespace residual
