// Scaled dot-product attention, fused, and the same in three steps.
//
//   S[b,h,i,j] = scale * <q[b,i,h,:], k[b,j,g,:]> - slope[h] * |p_i - j| + bias[b,h,i,j]
//                or -infinity where key j is hidden from query i
//   P          = softmax of S over j; a row in which every key is hidden is all zeros
//   z[b,i,h,:] = sum_j P[b,h,i,j] v[b,j,g,:]                 g = h / (n_heads / n_kv_heads)
//
// The queries are the last positions of the keys: p_i = i + key - query, so that a chunk of a
// sequence, or one new token, attends to cached keys by the same rule.
//
// Vaswani et al. 2017, eq. (1). Grouped queries: Ainslie et al. 2023, section 2. ALiBi: Press et
// al. 2022, section 3. The fused form streams over tiles of keys with a running maximum and sum
// (Milakov and Gimelshein 2018; Dao et al. 2022, algorithm 1) and recomputes the tiles in the
// backward pass (ibid., algorithm 4): memory is linear in the length.
//
// dtypes: f32, f64, bf16 or f16, the same for q, k, v and bias; bf16 and f16 are computed in f32
// and rounded once. Attention on bf16 may, on processors with AVX512_BF16, round the weights P to
// bf16 before they meet v (not their sum), as fused implementations do; its gradients then round P
// and dS before they meet dz, q and k. Any size may be 0; with no keys z is zeros. The bits do not
// depend on the number of threads, nor on alignment.

#ifndef RESIDUAL_OPS_ATTENTION_ATTENTION_H_
#define RESIDUAL_OPS_ATTENTION_ATTENTION_H_

#include <cstdint>
#include <optional>

#include "tensor/core/tensor.h"

namespace residual {

struct AttentionOptions {
  // Key j is seen by query i only if j <= p_i. Needs key >= query.
  bool causal = true;
  // Factor on q.k; 1 / sqrt(d_head) unless given.
  std::optional<double> scale;
  // bool [batch, key] or [1, key], true: the key may be attended to. Undefined: all may.
  Tensor key_mask;
  // f32 or f64 [n_heads], the ALiBi slopes: -slope * |p_i - j| is added (under a causal mask that
  // is the paper's -slope * (p_i - j)). A constant: a tensor that the tape tracks is refused.
  Tensor alibi_slopes;
  // [batch or 1, n_heads or 1, query, key], of q's dtype, added to the scores; -infinity hides a
  // key. Its gradient is given when it is needed, summed over the axes of size 1.
  Tensor bias;
  // > 0: key j is seen by query i only if |p_i - j| < window (sliding window attention).
  int64_t window = 0;
  // Only the first key_length positions of k and v are keys, the rest is room to grow: a cache that
  // a new token is appended to without moving the others. `key` above is this number then. Of the
  // fused form alone, and not on a tape.
  std::optional<int64_t> key_length;
};

// q: [batch, query, n_heads, d_head]; k, v: [batch, key, n_kv_heads, d_head], n_kv_heads dividing
// n_heads. Returns z [batch, query, n_heads, d_head]. v has k's d_head. Differentiable in q, k, v
// and options.bias. Stores nothing of size [query, key], except bias' gradient.
Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const AttentionOptions& options = {});

// S, [batch, n_heads, query, key], with -infinity where a key is hidden (no gradient flows there).
// Differentiable in q, k and options.bias.
Tensor AttentionScores(const Tensor& q, const Tensor& k, const AttentionOptions& options = {});

// z from a pattern [batch, n_heads, query, key] (any numbers, not only probabilities) and v
// [batch, key, n_kv_heads, d]. Differentiable in both.
Tensor WeightedSum(const Tensor& pattern, const Tensor& v);

// WeightedSum(Softmax(AttentionScores(q, k, options)), v): what Attention computes, in steps that
// a hook can read and edit.
Tensor AttentionUnfused(const Tensor& q, const Tensor& k, const Tensor& v,
                        const AttentionOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_OPS_ATTENTION_ATTENTION_H_
