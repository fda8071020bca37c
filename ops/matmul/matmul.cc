#include "ops/matmul/matmul.h"

#include <algorithm>
#include <utility>

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
// Of products of a in these options.
Types TypesOf(const Tensor& a, const MatMulOptions& options) {
  return {options.bf16_products ? kBF16 : a.dtype(), options.result.value_or(a.dtype())};
}

// Whether an operand, or the result, may have this dtype.
bool Allowed(DType dtype, const Tensor& a, const MatMulOptions& options) {
  return options.bf16_products ? dtype == kF32 || dtype == kBF16 : dtype == a.dtype();
}

// The same for b, which f32 products may widen.
bool AllowedB(DType dtype, const Tensor& a, const MatMulOptions& options) {
  const bool widened = a.dtype() == kF32 && !options.bf16_products;
  return Allowed(dtype, a, options) || (widened && (dtype == kBF16 || dtype == kF16));
}

// Says in g of which dtypes the operands are, where they are not of the products'.
void SetDTypes(DType a, DType b, DType c, GemmArgs& g) {
  if (g.dtype == kF32) {
    g.narrow_b = b;
    return;
  }
  g.f32_a = a != g.dtype;
  g.f32_b = b != g.dtype;
  g.f32_c = c != g.dtype;
}

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
  GemmArgs first = {types.product,
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
                    activation};
  SetDTypes(a.dtype(), b.dtype(), c.dtype(), first);
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

// dbias = 1^T dy for dy [M, N].
Tensor BiasGradient(const Tensor& dy, DType bias_dtype) {
  const Tensor ones = Tensor::Full({1, dy.dim(0)}, 1, dy.dtype());
  const Types to_bias = {dy.dtype(), dy.dtype() == kBF16 ? bias_dtype : dy.dtype()};
  return ConvertTo(Product(ones, dy, false, false, to_bias).Reshaped({dy.dim(1)}), bias_dtype);
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
    RESIDUAL_CHECK_OP("gradient of matmul", product == kBF16 || b.dtype() == product, a, b);
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
    grads[2] = BiasGradient(Flat(dy), bias_dtype);
  }
  return grads;
}

// op(a) b[i] + biases[i], if there are biases, for matrices.
std::vector<Tensor> ProductsOfSameA(const Tensor& a, bool transpose_a, absl::Span<const Tensor> b,
                                    absl::Span<const Tensor> biases,
                                    absl::Span<const Types> types) {
  const int64_t M = a.dim(transpose_a ? 1 : 0), K = a.dim(transpose_a ? 0 : 1);
  std::vector<Tensor> results;
  std::vector<Tensor> wide_biases;
  std::vector<GemmArgs> products;
  for (size_t i = 0; i < b.size(); ++i) {
    const Tensor bias = biases.empty() ? Tensor() : biases[i];
    wide_biases.push_back(bias.defined() ? ConvertTo(bias, a.dtype() == kF64 ? kF64 : kF32)
                                         : Tensor());
    Tensor& c = results.emplace_back(Tensor::Uninitialized({M, b[i].dim(1)}, types[i].result));
    GemmArgs& g = products.emplace_back();
    g = {types[i].product,
         a.raw_data(),
         b[i].raw_data(),
         wide_biases.back().raw_data(),
         c.mutable_raw_data(),
         nullptr,
         M,
         b[i].dim(1),
         K,
         transpose_a,
         false,
         Activation::kNone};
    SetDTypes(a.dtype(), b[i].dtype(), c.dtype(), g);
  }
  GemmOfSameA(products);
  return results;
}

}  // namespace

Tensor MatMul(const Tensor& a, const Tensor& b, const MatMulOptions& options) {
  const Tensor& bias = options.bias;
  const bool ta = options.transpose_a, tb = options.transpose_b;
  const auto allowed = [&](DType dtype) { return Allowed(dtype, a, options); };
  RESIDUAL_CHECK_OP("matmul",
                    a.rank() >= 2 && (b.rank() == 2 || b.rank() == a.rank()) &&
                        IsFloat(a.dtype()) && allowed(a.dtype()) && AllowedB(b.dtype(), a, options),
                    a, b, bias);
  RESIDUAL_CHECK_OP("matmul", a.dim(ta ? -2 : -1) == b.dim(tb ? -1 : -2), a, b, bias);
  for (int axis = 0; b.rank() > 2 && axis < a.rank() - 2; ++axis) {
    RESIDUAL_CHECK_OP("matmul", a.dim(axis) == b.dim(axis), a, b, bias);
  }
  RESIDUAL_CHECK_OP(
      "matmul",
      !bias.defined() || (allowed(bias.dtype()) && bias.shape() == Shape{b.dim(tb ? -2 : -1)}), a,
      b, bias);
  const Types types = TypesOf(a, options);
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

std::vector<Tensor> MatMulEach(const Tensor& a, absl::Span<const Tensor> b,
                               absl::Span<const Tensor> biases, const MatMulOptions& options) {
  const char* op = "matmul_each";
  const size_t n = b.size();
  RESIDUAL_CHECK(!options.transpose_a && !options.transpose_b && !options.bias.defined() &&
                 options.activation == Activation::kNone && (biases.empty() || biases.size() == n))
      << op << ": " << n << " matrices, " << biases.size() << " biases, or options it has not";
  const auto allowed = [&](DType dtype) { return Allowed(dtype, a, options); };
  const Types types = TypesOf(a, options);
  RESIDUAL_CHECK_OP(op, a.rank() >= 2 && IsFloat(a.dtype()) && allowed(a.dtype()), a);
  RESIDUAL_CHECK_OP(op, allowed(types.result), a);
  for (size_t i = 0; i < n; ++i) {
    RESIDUAL_CHECK_OP(
        op, b[i].rank() == 2 && AllowedB(b[i].dtype(), a, options) && b[i].dim(0) == a.dim(-1), a,
        b[i]);
    RESIDUAL_CHECK_OP(
        op,
        biases.empty() || (allowed(biases[i].dtype()) && biases[i].shape() == Shape{b[i].dim(1)}),
        a, b[i], biases[i]);
  }
  const Tensor flat = Flat(a);
  std::vector<Tensor> results =
      ProductsOfSameA(flat, false, b, biases, std::vector<Types>(n, types));
  for (Tensor& y : results) y = y.Reshaped(a.shape().With(-1, y.dim(1)));

  std::vector<const Tensor*> inputs = {&a};
  for (const Tensor& matrix : b) inputs.push_back(&matrix);
  for (const Tensor& bias : biases) inputs.push_back(&bias);
  Tape* tape = nullptr;
  for (const Tensor* input : inputs) {
    if (tape == nullptr) tape = Tape::For({input});
  }
  if (tape == nullptr) return results;
  std::vector<Tensor*> outputs;
  for (Tensor& y : results) outputs.push_back(&y);
  tape->Record(op, inputs, outputs,
               [flat, matrices = std::vector<Tensor>(b.begin(), b.end()), product = types.product,
                n, bias_dtype = biases.empty() ? a.dtype() : biases[0].dtype(),
                has_biases = !biases.empty()](absl::Span<const Tensor> dy, Needs needs) {
                 TensorList grads(1 + n + (has_biases ? n : 0));
                 std::vector<Tensor> wanted;
                 std::vector<Types> to_b;
                 std::vector<size_t> places;
                 // From the last to the first, as a tape of MatMuls adds them up.
                 for (size_t i = n; i-- > 0;) {
                   if (!dy[i].defined()) continue;
                   const Tensor& matrix = matrices[i];
                   const Tensor g = Flat(dy[i]);
                   if (needs[0]) {
                     Tensor da = Product(g, matrix, false, true, {product, flat.dtype()});
                     if (grads[0].defined()) {
                       AddInto(grads[0], da);
                     } else {
                       grads[0] = std::move(da);
                     }
                   }
                   if (needs[static_cast<int>(1 + i)]) {
                     wanted.push_back(g);
                     to_b.push_back({product, matrix.dtype()});
                     places.push_back(1 + i);
                   }
                   if (has_biases && needs[static_cast<int>(1 + n + i)]) {
                     grads[1 + n + i] = BiasGradient(g, bias_dtype);
                   }
                 }
                 const std::vector<Tensor> found = ProductsOfSameA(flat, true, wanted, {}, to_b);
                 for (size_t i = 0; i < found.size(); ++i) grads[places[i]] = found[i];
                 return grads;
               });
  return results;
}

}  // namespace residual
