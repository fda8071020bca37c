// The kernels of ops/attention on the CPU: fused attention in f32 and bf16, forward, backward and
// for a few queries. They stream over tiles of keys and store nothing of size [query, key]. What
// they compute is said in attention.h; what they ask of memory and threads, in each .cc.

#ifndef RESIDUAL_OPS_FLASH_FLASH_H_
#define RESIDUAL_OPS_FLASH_FLASH_H_

#include <algorithm>
#include <cstdint>

#include "tensor/core/dtype.h"

namespace residual {
namespace flash_internal {

// Sizes, and which key each query sees. Tensors are [batch, position, head, d_head], row-major.
struct Problem {
  int64_t batch, query, key, n_heads, n_kv_heads, d_head;
  int64_t key_room;  // positions of k and v in memory, key or more
  double scale;
  bool causal;
  int64_t window;        // 0: none
  const bool* key_mask;  // [batch or 1, key], or nullptr
  int64_t key_mask_batch_stride;
  const float* slopes;  // [n_heads], or nullptr
  const void* bias;     // f64 for the plain loops, else f32, or nullptr
  int64_t bias_batch_stride, bias_head_stride;
  int64_t bias_batch, bias_heads;  // sizes of bias' leading axes

  int64_t group() const { return n_heads / n_kv_heads; }
  // Position of query 0 among the keys.
  int64_t offset() const { return key - query; }
  // Query i sees no key outside [KeyBegin(i), KeyEnd(i)), whatever the masks say. Both grow with i.
  int64_t KeyBegin(int64_t i) const {
    return window > 0 ? std::clamp<int64_t>(i + offset() - window + 1, 0, key) : 0;
  }
  int64_t KeyEnd(int64_t i) const {
    const int64_t p = i + offset();
    const int64_t end = causal ? p + 1 : window > 0 ? p + window : key;
    return std::clamp<int64_t>(end, 0, key);
  }
  const bool* KeyMask(int64_t b) const {
    return key_mask == nullptr ? nullptr : key_mask + b * key_mask_batch_stride;
  }

  // Offsets of one row.
  int64_t QueryRow(int64_t b, int64_t i, int64_t h) const {
    return ((b * query + i) * n_heads + h) * d_head;
  }
  int64_t KeyRow(int64_t b, int64_t j, int64_t g) const {
    return ((b * key_room + j) * n_kv_heads + g) * d_head;
  }
  int64_t BiasRow(int64_t b, int64_t i, int64_t h) const {
    return b * bias_batch_stride + h * bias_head_stride + i * key;
  }
};

// Row i of head h of batch b has, in units of log 2, largest score row_max[(b * n_heads + h) *
// query + i] and 1 / sum of 2^(score - largest) row_scale[...]; 0 and 0 if it sees no key. Both
// nullptr: not wanted. T: float or BFloat16.
template <class T>
struct ForwardArgs {
  Problem p;
  const T *q, *k, *v;
  T* z;
  float *row_max, *row_scale;
};

// Gradients that are not wanted are nullptr; the others are written whole. T: as in ForwardArgs.
template <class T>
struct BackwardArgs {
  Problem p;
  const T *q, *k, *v, *z, *dz;
  const float *row_max, *row_scale;
  float *dq, *dk, *dv;
  float* dbias;  // [bias_batch, bias_heads, query, key]
};

// Up to this many queries are attended to one by one, vectors along d_head.
constexpr int64_t kDecodeQueries = 4;

// On all threads; any sizes > 0.
void ForwardCpu(const ForwardArgs<float>& args);
void DecodeCpu(const ForwardArgs<float>& args);
void DecodeCpu(const ForwardArgs<BFloat16>& args);
// By the dot products of AVX512_BF16. False, with nothing done, where the processor has none,
// d_head is odd or the scale is not positive.
bool ForwardPairsCpu(const ForwardArgs<BFloat16>& args);
// dq, dk, dv.
void BackwardCpu(const BackwardArgs<float>& args);
// The same by the dot products of AVX512_BF16. False, with nothing done, where the processor has
// none or d_head is odd.
bool BackwardPairsCpu(const BackwardArgs<BFloat16>& args);
// dbias.
void BiasGradientCpu(const BackwardArgs<float>& args);

}  // namespace flash_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_FLASH_FLASH_H_
