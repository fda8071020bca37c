#include "ops/attention/attention.h"

#include <cmath>
#include <utility>

#include "ops/attention/attention_kernels.h"
#include "ops/attention/attention_plain.h"
#include "tensor/autograd/tape.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using attention_internal::Problem;

bool IsTracked(const Tensor& x) { return x.defined() && Tape::For({&x}) != nullptr; }

// The optional operands; slopes in f32.
struct Masks {
  Tensor key_mask, slopes, bias;
};

Masks CheckOptions(const char* op, const Tensor& q, int64_t key, const AttentionOptions& options) {
  const int64_t batch = q.dim(0), query = q.dim(1), n_heads = q.dim(2);
  RESIDUAL_CHECK_OP(op, options.window >= 0, q);
  RESIDUAL_CHECK_OP(op, !options.causal || key >= query, q);
  Masks masks;
  if (const Tensor& mask = options.key_mask; mask.defined()) {
    RESIDUAL_CHECK_OP(op, mask.dtype() == kBool && mask.rank() == 2, q, mask);
    RESIDUAL_CHECK_OP(op, (mask.dim(0) == batch || mask.dim(0) == 1) && mask.dim(1) == key, q,
                      mask);
    masks.key_mask = mask;
  }
  if (const Tensor& slopes = options.alibi_slopes; slopes.defined()) {
    RESIDUAL_CHECK_OP(op, slopes.rank() == 1 && slopes.dim(0) == n_heads, q, slopes);
    RESIDUAL_CHECK_OP(op, slopes.dtype() == kF32 || slopes.dtype() == kF64, q, slopes);
    RESIDUAL_CHECK_OP(op, !IsTracked(slopes), q, slopes);
    masks.slopes = ConvertTo(slopes, kF32);
  }
  if (const Tensor& bias = options.bias; bias.defined()) {
    RESIDUAL_CHECK_OP(op, bias.dtype() == q.dtype() && bias.rank() == 4, q, bias);
    RESIDUAL_CHECK_OP(op, bias.dim(0) == batch || bias.dim(0) == 1, q, bias);
    RESIDUAL_CHECK_OP(op, bias.dim(1) == n_heads || bias.dim(1) == 1, q, bias);
    RESIDUAL_CHECK_OP(op, bias.dim(2) == query && bias.dim(3) == key, q, bias);
    masks.bias = bias;
  }
  return masks;
}

Problem MakeProblem(const Tensor& q, const Tensor& k, const Masks& masks,
                    const AttentionOptions& options) {
  Problem p{};
  p.batch = q.dim(0);
  p.query = q.dim(1);
  p.n_heads = q.dim(2);
  p.d_head = q.dim(3);
  p.key = k.dim(1);
  p.n_kv_heads = k.dim(2);
  p.scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(p.d_head)));
  p.causal = options.causal;
  p.window = options.window;
  if (masks.key_mask.defined()) {
    p.key_mask = masks.key_mask.data<bool>();
    p.key_mask_batch_stride = masks.key_mask.dim(0) == 1 ? 0 : p.key;
  }
  if (masks.slopes.defined()) p.slopes = masks.slopes.data<float>();
  if (masks.bias.defined()) {
    p.bias = masks.bias.raw_data();
    p.bias_batch = masks.bias.dim(0);
    p.bias_heads = masks.bias.dim(1);
    p.bias_head_stride = p.bias_heads == 1 ? 0 : p.query * p.key;
    p.bias_batch_stride = p.bias_batch == 1 ? 0 : p.bias_heads * p.query * p.key;
  }
  return p;
}

void CheckQuery(const char* op, const Tensor& q, const Tensor& k) {
  RESIDUAL_CHECK_OP(op, q.rank() == 4 && k.rank() == 4, q, k);
  RESIDUAL_CHECK_OP(op, IsFloat(q.dtype()) && k.dtype() == q.dtype(), q, k);
  RESIDUAL_CHECK_OP(op, q.dim(0) == k.dim(0) && q.dim(3) == k.dim(3), q, k);
  RESIDUAL_CHECK_OP(op, k.dim(2) > 0 && q.dim(2) % k.dim(2) == 0, q, k);
}

Tensor ToDouble(const Tensor& x) { return x.defined() ? ConvertTo(x, kF64) : x; }

double* MutableOrNull(Tensor& x) { return x.defined() ? x.mutable_data<double>() : nullptr; }

}  // namespace

Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const AttentionOptions& options) {
  CheckQuery("attention", q, k);
  RESIDUAL_CHECK_OP("attention", v.dtype() == q.dtype() && v.shape() == k.shape(), q, k, v);
  const Masks masks = CheckOptions("attention", q, k.dim(1), options);

  const Tensor q64 = ToDouble(q), k64 = ToDouble(k), v64 = ToDouble(v);
  Masks masks64 = masks;
  masks64.bias = ToDouble(masks.bias);
  const Problem p = MakeProblem(q64, k64, masks64, options);
  Tensor z64 = Tensor::Uninitialized(q.shape(), kF64);
  Tensor lse = Tensor::Uninitialized({p.batch, p.n_heads, p.query}, kF64);
  attention_internal::PlainForward(p, q64.data<double>(), k64.data<double>(), v64.data<double>(),
                                   z64.mutable_data<double>(), lse.mutable_data<double>());
  Tensor z = ConvertTo(z64, q.dtype());

  // dS = P * (dz v^T - rowsum(dz * z)); dq = scale dS k, dk = scale dS^T q, dv = P^T dz, dbias =
  // dS.
  if (Tape* tape = Tape::For({&q, &k, &v, &options.bias})) {
    tape->Record("attention", {&q, &k, &v, &options.bias}, {&z},
                 [q64, k64, v64, z64, lse, masks64, p, dtype = q.dtype()](
                     absl::Span<const Tensor> dy, Needs needs) {
                   const Tensor dz = ToDouble(dy[0]);
                   Tensor dq, dk, dv, dbias;
                   if (needs[0]) dq = Tensor::Uninitialized(q64.shape(), kF64);
                   if (needs[1]) dk = Tensor::Uninitialized(k64.shape(), kF64);
                   if (needs[2]) dv = Tensor::Uninitialized(v64.shape(), kF64);
                   if (needs[3]) dbias = Tensor::Uninitialized(masks64.bias.shape(), kF64);
                   if (needs[0] || needs[1] || needs[2]) {
                     attention_internal::PlainBackward(
                         p, q64.data<double>(), k64.data<double>(), v64.data<double>(),
                         z64.data<double>(), lse.data<double>(), dz.data<double>(),
                         MutableOrNull(dq), MutableOrNull(dk), MutableOrNull(dv));
                   }
                   if (needs[3]) {
                     attention_internal::PlainBiasGradient(p, q64.data<double>(),
                                                           k64.data<double>(), v64.data<double>(),
                                                           z64.data<double>(), lse.data<double>(),
                                                           dz.data<double>(), MutableOrNull(dbias));
                   }
                   TensorList grads{dq, dk, dv, dbias};
                   for (Tensor& grad : grads) {
                     if (grad.defined()) grad = ConvertTo(grad, dtype);
                   }
                   return grads;
                 });
  }
  return z;
}

Tensor AttentionScores(const Tensor& q, const Tensor& k, const AttentionOptions& options) {
  CheckQuery("attention_scores", q, k);
  const Masks masks = CheckOptions("attention_scores", q, k.dim(1), options);
  const Tensor q64 = ToDouble(q), k64 = ToDouble(k);
  Masks masks64 = masks;
  masks64.bias = ToDouble(masks.bias);
  const Problem p = MakeProblem(q64, k64, masks64, options);
  Tensor scores64 = Tensor::Uninitialized({p.batch, p.n_heads, p.query, p.key}, kF64);
  attention_internal::PlainScores(p, q64.data<double>(), k64.data<double>(),
                                  scores64.mutable_data<double>());
  Tensor scores = ConvertTo(scores64, q.dtype());
  // dq = scale dS k, dk = scale dS^T q, dbias = dS where a key is seen.
  if (Tape* tape = Tape::For({&q, &k, &options.bias})) {
    tape->Record(
        "attention_scores", {&q, &k, &options.bias}, {&scores},
        [q64, k64, masks64, p, dtype = q.dtype()](absl::Span<const Tensor> dy, Needs needs) {
          const Tensor ds = ToDouble(dy[0]);
          Tensor dq, dk, dbias;
          if (needs[0]) dq = Tensor::Uninitialized(q64.shape(), kF64);
          if (needs[1]) dk = Tensor::Uninitialized(k64.shape(), kF64);
          if (needs[2]) dbias = Tensor::Uninitialized(masks64.bias.shape(), kF64);
          if (needs[0] || needs[1]) {
            attention_internal::PlainScoresBackward(p, q64.data<double>(), k64.data<double>(),
                                                    ds.data<double>(), MutableOrNull(dq),
                                                    MutableOrNull(dk));
          }
          if (needs[2]) {
            attention_internal::PlainScoresBiasGradient(p, ds.data<double>(), MutableOrNull(dbias));
          }
          TensorList grads{dq, dk, dbias};
          for (Tensor& grad : grads) {
            if (grad.defined()) grad = ConvertTo(grad, dtype);
          }
          return grads;
        });
  }
  return scores;
}

Tensor WeightedSum(const Tensor& pattern, const Tensor& v) {
  RESIDUAL_CHECK_OP("weighted_sum", pattern.rank() == 4 && v.rank() == 4, pattern, v);
  RESIDUAL_CHECK_OP("weighted_sum", IsFloat(v.dtype()) && pattern.dtype() == v.dtype(), pattern, v);
  RESIDUAL_CHECK_OP("weighted_sum", pattern.dim(0) == v.dim(0) && pattern.dim(3) == v.dim(1),
                    pattern, v);
  RESIDUAL_CHECK_OP("weighted_sum", v.dim(2) > 0 && pattern.dim(1) % v.dim(2) == 0, pattern, v);
  Problem p{};
  p.batch = v.dim(0);
  p.key = v.dim(1);
  p.n_kv_heads = v.dim(2);
  p.d_head = v.dim(3);
  p.n_heads = pattern.dim(1);
  p.query = pattern.dim(2);
  const Tensor pattern64 = ToDouble(pattern), v64 = ToDouble(v);
  Tensor z64 = Tensor::Uninitialized({p.batch, p.query, p.n_heads, p.d_head}, kF64);
  attention_internal::PlainWeightedSum(p, pattern64.data<double>(), v64.data<double>(),
                                       z64.mutable_data<double>());
  Tensor z = ConvertTo(z64, v.dtype());
  // dpattern = dz v^T, dv = pattern^T dz.
  if (Tape* tape = Tape::For({&pattern, &v})) {
    tape->Record("weighted_sum", {&pattern, &v}, {&z},
                 [pattern64, v64, p, dtype = v.dtype()](absl::Span<const Tensor> dy, Needs needs) {
                   const Tensor dz = ToDouble(dy[0]);
                   Tensor dpattern, dv;
                   if (needs[0]) dpattern = Tensor::Uninitialized(pattern64.shape(), kF64);
                   if (needs[1]) dv = Tensor::Uninitialized(v64.shape(), kF64);
                   attention_internal::PlainWeightedSumBackward(
                       p, pattern64.data<double>(), v64.data<double>(), dz.data<double>(),
                       MutableOrNull(dpattern), MutableOrNull(dv));
                   TensorList grads{dpattern, dv};
                   for (Tensor& grad : grads) {
                     if (grad.defined()) grad = ConvertTo(grad, dtype);
                   }
                   return grads;
                 });
  }
  return z;
}

}  // namespace residual
