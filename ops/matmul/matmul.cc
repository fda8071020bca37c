#include "ops/matmul/matmul.h"

#include <algorithm>

#include "ops/layout/layout.h"
#include "ops/matmul/matmul_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

// op(a) op(b) + bias over a batch of matrices, nothing recorded. `shared`: b has no batch.
template <class T>
void Products(const Tensor& a, const Tensor& b, const Tensor& bias, bool transpose_a,
              bool transpose_b, bool shared, Tensor& c) {
  const int64_t M = c.dim(-2), N = c.dim(-1), K = transpose_a ? a.dim(-2) : a.dim(-1);
  int64_t batch = c.elements() == 0 ? 0 : c.elements() / (M * N);
  int64_t rows = M;
  if (shared && !transpose_a) {  // the leading axes of a are more rows
    rows *= batch;
    batch = std::min<int64_t>(batch, 1);
  }
  const T* in_a = a.data<T>();
  const T* in_b = b.data<T>();
  const T* in_bias = bias.defined() ? bias.data<T>() : nullptr;
  T* out = c.mutable_data<T>();
  auto one = [&](int64_t i) {
    GemmCpu(GemmArgs<T>{in_a + i * rows * K, shared ? in_b : in_b + i * K * N, in_bias,
                        out + i * rows * N, rows, N, K, transpose_a, transpose_b});
  };
  if (K == 0) {
    for (int64_t i = 0; i < batch * rows; ++i) {
      for (int64_t j = 0; j < N; ++j) out[i * N + j] = in_bias ? in_bias[j] : T{0};
    }
    return;
  }
  // Many small products: one thread each (the inner ParallelFor then runs in place). Few large
  // ones: each on all threads.
  const double work = static_cast<double>(rows) * N * K;
  if (work < 4e6) {
    const int64_t grain = std::max<int64_t>(1, static_cast<int64_t>(1e5 / work));
    ParallelFor(batch, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) one(i);
    });
  } else {
    for (int64_t i = 0; i < batch; ++i) one(i);
  }
}

Tensor Product(const Tensor& a, const Tensor& b, const Tensor& bias, bool transpose_a,
               bool transpose_b) {
  const int64_t M = transpose_a ? a.dim(-1) : a.dim(-2);
  const int64_t N = transpose_b ? b.dim(-2) : b.dim(-1);
  Tensor c = Tensor::Uninitialized(a.shape().With(-2, M).With(-1, N), a.dtype());
  const bool shared = b.rank() == 2;
  if (a.dtype() == kF64) {
    Products<double>(a, b, bias, transpose_a, transpose_b, shared, c);
  } else {
    Products<float>(a, b, bias, transpose_a, transpose_b, shared, c);
  }
  return c;
}

// [batch..., M, N] as [batch * M, N].
Tensor Flat(const Tensor& x) {
  const int64_t columns = x.dim(-1);
  return x.Reshaped({x.shape().elements(0, x.rank() - 1), columns});
}

// Sum over the leading axes of [..., K, N], in order.
Tensor SumBatch(const Tensor& x) {
  const int rank = x.rank();
  const Shape shape{x.dim(rank - 2), x.dim(rank - 1)};
  const int64_t batch = x.shape().elements(0, rank - 2);
  const Tensor stacked = x.Reshaped({batch, shape.elements()});
  Tensor sum = Tensor::Zeros({shape.elements()}, x.dtype());
  for (int64_t i = 0; i < batch; ++i) AddInto(sum, stacked.Row(i));
  return sum.Reshaped(shape);
}

TensorList Backward(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b,
                    const Tensor& dy, Needs needs) {
  TensorList grads(3);
  const Tensor none;
  if (needs[0]) {  // da = dy op(b)^T, or its transpose
    if (!transpose_a) {
      grads[0] = Product(dy, b, none, false, !transpose_b);
    } else if (b.rank() == dy.rank()) {
      grads[0] = Product(b, dy, none, transpose_b, true);
    } else {  // a batch of a against one b: per matrix of the batch
      grads[0] = Transpose(Product(dy, b, none, false, !transpose_b), -1, -2);
    }
  }
  if (needs[1]) {  // db = op(a)^T dy, or its transpose, summed over what shares b
    const bool shared = b.rank() == 2 && a.rank() > 2;
    if (shared && !transpose_a) {
      grads[1] = transpose_b ? Product(Flat(dy), Flat(a), none, true, false)
                             : Product(Flat(a), Flat(dy), none, true, false);
    } else {
      const Tensor db = transpose_b ? Product(dy, a, none, true, transpose_a)
                                    : Product(a, dy, none, !transpose_a, false);
      grads[1] = shared ? SumBatch(db) : db;
    }
  }
  if (needs[2]) {  // dbias = 1^T dy
    const Tensor flat = Flat(dy);
    grads[2] = Product(Tensor::Full({1, flat.dim(0)}, 1, dy.dtype()), flat, none, false, false);
  }
  return grads;
}

}  // namespace

Tensor MatMul(const Tensor& a, const Tensor& b, const MatMulOptions& options) {
  const Tensor& bias = options.bias;
  const bool ta = options.transpose_a, tb = options.transpose_b;
  RESIDUAL_CHECK_OP("matmul",
                    a.rank() >= 2 && (b.rank() == 2 || b.rank() == a.rank()) &&
                        IsFloat(a.dtype()) && a.dtype() == b.dtype(),
                    a, b, bias);
  RESIDUAL_CHECK_OP("matmul", a.dim(ta ? -2 : -1) == b.dim(tb ? -1 : -2), a, b, bias);
  for (int axis = 0; b.rank() > 2 && axis < a.rank() - 2; ++axis) {
    RESIDUAL_CHECK_OP("matmul", a.dim(axis) == b.dim(axis), a, b, bias);
  }
  RESIDUAL_CHECK_OP(
      "matmul",
      !bias.defined() || (bias.dtype() == a.dtype() && bias.shape() == Shape{b.dim(tb ? -2 : -1)}),
      a, b, bias);
  if (a.dtype() == kBF16 || a.dtype() == kF16) {
    MatMulOptions wide = options;
    if (bias.defined()) wide.bias = Cast(bias, kF32);
    return Cast(MatMul(Cast(a, kF32), Cast(b, kF32), wide), a.dtype());
  }
  Tensor y = Product(a, b, bias, ta, tb);
  if (Tape* tape = Tape::For({&a, &b, &bias})) {
    tape->Record("matmul", {&a, &b, &bias}, {&y},
                 [a, b, ta, tb, shape = y.shape()](auto dy, Needs needs) {
                   return Backward(a, b, ta, tb, dy[0].Reshaped(shape), needs);
                 });
  }
  return Activate(y, options.activation);
}

}  // namespace residual
