// Attention in three steps, from matrix products: [batch, head, pos, d_head] with the query heads
// of one key/value head as more rows of its product.

#include <algorithm>
#include <limits>
#include <utility>

#include "ops/attention/attention.h"
#include "ops/attention/attention_options.h"
#include "ops/flash/flash.h"
#include "ops/layout/layout.h"
#include "ops/matmul/matmul.h"
#include "ops/softmax/softmax.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using attention_internal::CheckOptions;
using attention_internal::Masks;
using flash_internal::Problem;

constexpr int64_t kGrain = 1 << 14;  // scores per chunk

DType WideType(DType dtype) { return dtype == kF64 ? kF64 : kF32; }

// [batch, pos, head, d] <-> [batch, head, pos, d].
Tensor SwapHeads(const Tensor& x) { return Permute(x, {0, 2, 1, 3}); }

// Calls fn(offset of row, b, h, i) for the rows of the scores [batch, n_heads, query, key].
template <class Fn>
void ForRows(const Problem& p, const Fn& fn) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, p.key));
  ParallelFor(p.batch * p.n_heads * p.query, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      fn(r * p.key, r / p.query / p.n_heads, r / p.query % p.n_heads, r % p.query);
    }
  });
}

// y = scale x + ALiBi + bias, -infinity where hidden.
template <class T>
void MaskForward(const Problem& p, const T* x, T* y) {
  constexpr T kHidden = -std::numeric_limits<T>::infinity();
  ForRows(p, [&](int64_t row, int64_t b, int64_t h, int64_t i) {
    const int64_t begin = p.KeyBegin(i), end = std::max(begin, p.KeyEnd(i));
    const T scale = static_cast<T>(p.scale);
    const T* in = x + row;
    T* out = y + row;
    std::fill(out, out + begin, kHidden);
    for (int64_t j = begin; j < end; ++j) out[j] = scale * in[j];
    std::fill(out + end, out + p.key, kHidden);
    if (p.slopes != nullptr) {
      const T slope = static_cast<T>(p.slopes[h]);
      for (int64_t j = begin; j < end; ++j) {
        out[j] -= slope * static_cast<T>(std::abs(i + p.offset() - j));
      }
    }
    if (p.bias != nullptr) {
      const T* bias = static_cast<const T*>(p.bias) + p.BiasRow(b, i, h);
      for (int64_t j = begin; j < end; ++j) out[j] += bias[j];
    }
    if (const bool* mask = p.KeyMask(b)) {
      for (int64_t j = begin; j < end; ++j) out[j] = mask[j] ? out[j] : kHidden;
    }
  });
}

// dx = factor dy, 0 where hidden.
template <class T>
void MaskBackward(const Problem& p, double factor, const T* dy, T* dx) {
  ForRows(p, [&](int64_t row, int64_t b, int64_t, int64_t i) {
    const int64_t begin = p.KeyBegin(i), end = std::max(begin, p.KeyEnd(i));
    const bool* mask = p.KeyMask(b);
    std::fill(dx + row, dx + row + p.key, T{0});
    for (int64_t j = begin; j < end; ++j) {
      if (mask == nullptr || mask[j]) dx[row + j] = static_cast<T>(factor) * dy[row + j];
    }
  });
}

// dbias from the gradient of the scores with zeros where hidden; summed over what shares it.
template <class T>
void SumShared(const Problem& p, const T* ds, T* dbias) {
  ParallelFor(p.bias_batch * p.bias_heads * p.query, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t i = r % p.query, bias_h = r / p.query % p.bias_heads;
      const int64_t bias_b = r / p.query / p.bias_heads;
      T* sum = dbias + r * p.key;
      std::fill_n(sum, p.key, T{0});
      for (int64_t b = bias_b; b < p.batch; b += p.bias_batch) {
        for (int64_t h = bias_h; h < p.n_heads; h += p.bias_heads) {
          const T* row = ds + ((b * p.n_heads + h) * p.query + i) * p.key;
          for (int64_t j = 0; j < p.key; ++j) sum[j] += row[j];
        }
      }
    }
  });
}

// products: q.k, f32 or f64 [batch, n_heads, query, key]; q and k give the sizes.
Tensor Masked(const Tensor& products, const Tensor& q, const Tensor& k, const Masks& masks,
              const AttentionOptions& options) {
  const Problem p = attention_internal::MakeProblem(q, k, masks, options);
  Tensor scores = Tensor::Uninitialized(products.shape(), products.dtype());
  if (products.dtype() == kF64) {
    MaskForward(p, products.data<double>(), scores.mutable_data<double>());
  } else {
    MaskForward(p, products.data<float>(), scores.mutable_data<float>());
  }
  if (Tape* tape = Tape::For({&products, &masks.bias})) {
    tape->Record("attention_mask", {&products, &masks.bias}, {&scores},
                 [masks, p](absl::Span<const Tensor> dy, Needs needs) {
                   auto masked = [&](double factor) {
                     Tensor dx = Tensor::Uninitialized(dy[0].shape(), dy[0].dtype());
                     if (dx.dtype() == kF64) {
                       MaskBackward(p, factor, dy[0].data<double>(), dx.mutable_data<double>());
                     } else {
                       MaskBackward(p, factor, dy[0].data<float>(), dx.mutable_data<float>());
                     }
                     return dx;
                   };
                   TensorList grads(2);
                   if (needs[0]) grads[0] = masked(p.scale);
                   if (needs[1]) {
                     const Tensor ds = masked(1);
                     Tensor sum = Tensor::Uninitialized(masks.bias.shape(), ds.dtype());
                     if (ds.dtype() == kF64) {
                       SumShared(p, ds.data<double>(), sum.mutable_data<double>());
                     } else {
                       SumShared(p, ds.data<float>(), sum.mutable_data<float>());
                     }
                     grads[1] = sum;
                   }
                   return grads;
                 });
  }
  return scores;
}

}  // namespace

Tensor AttentionScores(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  attention_internal::CheckQueryAndKey("attention_scores", q, k);
  RESIDUAL_CHECK_OP("attention_scores", !options.key_length, q, k);
  Masks masks = CheckOptions("attention_scores", q, k, options);
  const DType wide = WideType(q.dtype());
  if (masks.bias.defined()) masks.bias = Cast(masks.bias, wide);
  const int64_t batch = q.dim(0), query = q.dim(1), n_heads = q.dim(2), d_head = q.dim(3);
  const int64_t key = k.dim(1), n_kv_heads = k.dim(2), group = n_heads / n_kv_heads;
  MatMulOptions transposed;
  transposed.transpose_b = true;
  const Tensor products =
      MatMul(SwapHeads(Cast(q, wide)).Reshaped({batch, n_kv_heads, group * query, d_head}),
             SwapHeads(Cast(k, wide)), transposed);
  return Cast(Masked(products.Reshaped({batch, n_heads, query, key}), q, k, masks, options),
              q.dtype());
}

Tensor WeightedSum(const Tensor& pattern, const Tensor& v) {
  RESIDUAL_CHECK_OP("weighted_sum", pattern.rank() == 4 && v.rank() == 4, pattern, v);
  RESIDUAL_CHECK_OP("weighted_sum", IsFloat(v.dtype()) && pattern.dtype() == v.dtype(), pattern, v);
  RESIDUAL_CHECK_OP("weighted_sum", pattern.dim(0) == v.dim(0) && pattern.dim(3) == v.dim(1),
                    pattern, v);
  RESIDUAL_CHECK_OP("weighted_sum", v.dim(2) > 0 && pattern.dim(1) % v.dim(2) == 0, pattern, v);
  const DType wide = WideType(v.dtype());
  const int64_t batch = v.dim(0), key = v.dim(1), n_kv_heads = v.dim(2), d_head = v.dim(3);
  const int64_t n_heads = pattern.dim(1), query = pattern.dim(2), group = n_heads / n_kv_heads;
  const Tensor rows = Cast(pattern, wide).Reshaped({batch, n_kv_heads, group * query, key});
  const Tensor z = MatMul(rows, SwapHeads(Cast(v, wide)));
  return Cast(SwapHeads(z.Reshaped({batch, n_heads, query, d_head})), v.dtype());
}

Tensor AttentionUnfused(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionOptions& options) {
  return WeightedSum(Softmax(AttentionScores(q, k, options)), v);
}

}  // namespace residual
