#include "ops/matmul/matmul.h"

#include <algorithm>

#include "ops/gemm/gemm.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

// Products of fewer multiplications than this are one thread's, several at a time.
constexpr double kOneThread = 4e6;
// Multiplications worth a thread.
constexpr double kGrain = 1e5;

struct Operands {
  const Tensor &a, &b;
  bool transpose_a, transpose_b;
};

// The dtype of the products, and of what they are summed to.
struct Types {
  DType product, result;
};

// act(op(a) op(b) + bias), nothing recorded. `pre`, if not null, gets what act is applied to.
Tensor Product(const Operands& x, Types types, const Tensor& bias, Activation activation,
               Tensor* pre) {
  const Tensor &a = x.a, &b = x.b;
  const int64_t M = a.dim(x.transpose_a ? -1 : -2), K = a.dim(x.transpose_a ? -2 : -1);
  const int64_t N = b.dim(x.transpose_b ? -2 : -1);
  Tensor c = Tensor::Uninitialized(a.shape().With(-2, M).With(-1, N), types.result);
  if (pre != nullptr) *pre = Tensor::Uninitialized(c.shape(), c.dtype());
  const Tensor wide_bias =
      bias.defined() ? ConvertTo(bias, a.dtype() == kF64 ? kF64 : kF32) : Tensor();
  int64_t batch = c.shape().elements(0, c.rank() - 2), rows = M;
  const bool shared = b.rank() == 2;
  if (shared && !x.transpose_a) {  // the leading axes of a are more rows
    rows *= batch;
    batch = 1;
  }
  const GemmArgs first = {types.product,
                          a.raw_data(),
                          b.raw_data(),
                          wide_bias.raw_data(),
                          c.mutable_raw_data(),
                          pre != nullptr ? pre->mutable_raw_data() : nullptr,
                          rows,
                          N,
                          K,
                          x.transpose_a,
                          x.transpose_b,
                          activation,
                          a.dtype() != types.product,
                          b.dtype() != types.product,
                          c.dtype() != types.product};
  const int64_t a_matrix = rows * K * SizeOf(a.dtype()), b_matrix = K * N * SizeOf(b.dtype());
  const int64_t c_matrix = rows * N * SizeOf(c.dtype());
  const auto run = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      GemmArgs args = first;
      args.a = static_cast<const char*>(first.a) + i * a_matrix;
      if (!shared) args.b = static_cast<const char*>(first.b) + i * b_matrix;
      args.c = static_cast<char*>(first.c) + i * c_matrix;
      if (pre != nullptr) args.pre = static_cast<char*>(first.pre) + i * c_matrix;
      Gemm(args);
    }
  };
  const double work = static_cast<double>(rows) * N * K;
  if (batch > 1 && work < kOneThread) {
    ParallelFor(batch, static_cast<int64_t>(kGrain / std::max(1.0, work)), run);
  } else {
    run(0, batch);
  }
  return c;
}

Tensor Product(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b, Types types) {
  return Product({a, b, transpose_a, transpose_b}, types, Tensor(), Activation::kNone, nullptr);
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

// bias_dtype: of dbias. product: the dtype of the products.
TensorList Backward(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b,
                    const Tensor& dy, DType product, DType bias_dtype, Needs needs) {
  const Types to_a = {product, a.dtype()}, to_b = {product, b.dtype()};
  TensorList grads(3);
  if (needs[0]) {  // da = dy op(b)^T, or its transpose
    if (!transpose_a) {
      grads[0] = Product(dy, b, false, !transpose_b, to_a);
    } else if (b.rank() == dy.rank()) {
      grads[0] = Product(b, dy, transpose_b, true, to_a);
    } else {  // a batch of a against one b: per matrix of the batch
      grads[0] = Transpose(Product(dy, b, false, !transpose_b, to_a), -1, -2);
    }
  }
  if (needs[1]) {  // db = op(a)^T dy, or its transpose, summed over what shares b
    const bool shared = b.rank() == 2 && a.rank() > 2;
    if (shared && !transpose_a) {
      grads[1] = transpose_b ? Product(Flat(dy), Flat(a), true, false, to_b)
                             : Product(Flat(a), Flat(dy), true, false, to_b);
    } else {
      const Tensor db = transpose_b ? Product(dy, a, true, transpose_a, to_b)
                                    : Product(a, dy, !transpose_a, false, to_b);
      grads[1] = shared ? SumBatch(db) : db;
    }
  }
  if (needs[2]) {  // dbias = 1^T dy
    const Tensor flat = Flat(dy);
    const Tensor ones = Tensor::Full({1, flat.dim(0)}, 1, dy.dtype());
    const Types to_bias = {dy.dtype(), dy.dtype() == kBF16 ? bias_dtype : dy.dtype()};
    const Tensor sums = Product(ones, flat, false, false, to_bias).Reshaped({flat.dim(1)});
    grads[2] = ConvertTo(sums, bias_dtype);
  }
  return grads;
}

}  // namespace

Tensor MatMul(const Tensor& a, const Tensor& b, const MatMulOptions& options) {
  const Tensor& bias = options.bias;
  const bool ta = options.transpose_a, tb = options.transpose_b;
  const auto allowed = [&](DType dtype) {
    return options.bf16_products ? dtype == kF32 || dtype == kBF16 : dtype == a.dtype();
  };
  RESIDUAL_CHECK_OP("matmul",
                    a.rank() >= 2 && (b.rank() == 2 || b.rank() == a.rank()) &&
                        IsFloat(a.dtype()) && allowed(a.dtype()) && allowed(b.dtype()),
                    a, b, bias);
  RESIDUAL_CHECK_OP("matmul", a.dim(ta ? -2 : -1) == b.dim(tb ? -1 : -2), a, b, bias);
  for (int axis = 0; b.rank() > 2 && axis < a.rank() - 2; ++axis) {
    RESIDUAL_CHECK_OP("matmul", a.dim(axis) == b.dim(axis), a, b, bias);
  }
  RESIDUAL_CHECK_OP(
      "matmul",
      !bias.defined() || (allowed(bias.dtype()) && bias.shape() == Shape{b.dim(tb ? -2 : -1)}), a,
      b, bias);
  const Types types = {options.bf16_products ? kBF16 : a.dtype(),
                       options.result.value_or(a.dtype())};
  RESIDUAL_CHECK_OP("matmul", allowed(types.result), a, b, bias);
  const Activation activation = options.activation;
  Tape* tape = Tape::For({&a, &b, &bias});
  const bool keep_pre =
      tape != nullptr && activation != Activation::kNone && !GradientNeedsOnlyOutput(activation);
  Tensor pre;
  Tensor y = Product({a, b, ta, tb}, types, bias, activation, keep_pre ? &pre : nullptr);
  if (tape != nullptr) {
    Tensor saved;  // what the activation's gradient needs
    if (activation != Activation::kNone) saved = keep_pre ? pre : y;
    tape->Record("matmul", {&a, &b, &bias}, {&y},
                 [a, b, ta, tb, activation, saved, shape = y.shape(), product = types.product,
                  bias_dtype = bias.defined() ? bias.dtype() : a.dtype()](auto dy, Needs needs) {
                   const Tensor g = ActivationGradient(activation, saved, dy[0].Reshaped(shape));
                   return Backward(a, b, ta, tb, g, product, bias_dtype, needs);
                 });
  }
  return y;
}

}  // namespace residual
