// A few queries against many keys, as in generation: k and v stream by once, so memory is the
// limit, not arithmetic. Vectors lie along d_head here. A task is a span of keys of one key/value
// head and serves all queries and all query heads that share it; spans depend on the shapes only
// and are joined in order.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ops/attention/attention_kernels.h"
#include "tensor/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention/attention_decode_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/attention/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace attention_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kBlock = 64;  // keys whose k and v stay in the L1 while the rows take turns
constexpr int64_t kSpan = 512;  // keys of a task, when heads alone are too few tasks
constexpr int64_t kTasks = 16;  // are enough

// scores[0..4) = <q, k of four keys>.
HWY_INLINE void FourDots(int64_t n, const float* q, const float* k, int64_t stride, float* scores) {
  const D d;
  const int64_t lanes = Lanes();
  V a = hn::Zero(d), b = a, c = a, e = a;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V x = hn::LoadU(d, q + i);
    a = hn::MulAdd(x, hn::LoadU(d, k + i), a);
    b = hn::MulAdd(x, hn::LoadU(d, k + stride + i), b);
    c = hn::MulAdd(x, hn::LoadU(d, k + 2 * stride + i), c);
    e = hn::MulAdd(x, hn::LoadU(d, k + 3 * stride + i), e);
  }
#if HWY_TARGET == HWY_SCALAR
  scores[0] = hn::GetLane(a), scores[1] = hn::GetLane(b);
  scores[2] = hn::GetLane(c), scores[3] = hn::GetLane(e);
#else
  // In each block of four lanes: the sums of that block of a, b, c and e.
  const V ac = hn::Add(hn::InterleaveLower(d, a, c), hn::InterleaveUpper(d, a, c));
  const V be = hn::Add(hn::InterleaveLower(d, b, e), hn::InterleaveUpper(d, b, e));
  const V abce = hn::Add(hn::InterleaveLower(d, ac, be), hn::InterleaveUpper(d, ac, be));
  HWY_ALIGN float blocks[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(abce, d, blocks);
  const hn::Full128<float> d4;
  auto sum = hn::Load(d4, blocks);
  for (int64_t block = 4; block < lanes; block += 4) {
    sum = hn::Add(sum, hn::Load(d4, blocks + block));
  }
  hn::StoreU(sum, d4, scores);
#endif
  for (; i < n; ++i) {
    for (int j = 0; j < 4; ++j) scores[j] += q[i] * k[j * stride + i];
  }
}

HWY_INLINE float OneDot(int64_t n, const float* q, const float* k) {
  const D d;
  const int64_t lanes = Lanes();
  V a = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) a = hn::MulAdd(hn::LoadU(d, q + i), hn::LoadU(d, k + i), a);
  float sum = hn::GetLane(hn::SumOfLanes(d, a));
  for (; i < n; ++i) sum += q[i] * k[i];
  return sum;
}

// z = factor * z + sum of weights[j] v[j]; weights of 0 count as no key, whatever v holds there.
template <int kN>
HWY_INLINE void AddWeighted(int64_t keys, const float* weights, const float* v, int64_t stride,
                            V factor, float* z) {
  const D d;
  const int64_t lanes = Lanes();
  V sum[kN];
#pragma GCC unroll 4
  for (int u = 0; u < kN; ++u) sum[u] = hn::Mul(factor, hn::LoadU(d, z + u * lanes));
  for (int64_t j = 0; j < keys; ++j) {
    if (weights[j] == 0) continue;
    const V w = hn::Set(d, weights[j]);
#pragma GCC unroll 4
    for (int u = 0; u < kN; ++u) {
      sum[u] = hn::MulAdd(w, hn::LoadU(d, v + j * stride + u * lanes), sum[u]);
    }
  }
#pragma GCC unroll 4
  for (int u = 0; u < kN; ++u) hn::StoreU(sum[u], d, z + u * lanes);
}

void AddWeightedRows(int64_t n, int64_t keys, const float* weights, const float* v, int64_t stride,
                     float factor, float* z) {
  const D d;
  const int64_t lanes = Lanes();
  const V factors = hn::Set(d, factor);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    AddWeighted<4>(keys, weights, v + i, stride, factors, z + i);
  }
  for (; i + lanes <= n; i += lanes) {
    AddWeighted<1>(keys, weights, v + i, stride, factors, z + i);
  }
  if (i == n) return;
  for (int64_t u = i; u < n; ++u) z[u] *= factor;
  for (int64_t j = 0; j < keys; ++j) {
    if (weights[j] == 0) continue;
    for (int64_t u = i; u < n; ++u) z[u] += weights[j] * v[j * stride + u];
  }
}

// What is known of one query row after some keys: z [d_head] not yet divided by the sum.
struct Partial {
  float *z, *largest, *sum;
};
Partial PartialAt(float* memory, int64_t index, int64_t d_head) {
  float* at = memory + index * (d_head + 2);
  return {at, at + d_head, at + d_head + 1};
}

// Keys [begin, end), all of them seen by query i but for the mask; at most kBlock. q is scaled.
void DecodeBlock(const ForwardArgs& args, int64_t b, int64_t h, int64_t i, int64_t begin,
                 int64_t end, const float* q, Partial row) {
  const D d;
  const Problem& p = args.p;
  const int64_t n = end - begin, lanes = Lanes(), stride = p.n_kv_heads * p.d_head;
  const int64_t first = p.KeyRow(b, begin, h / p.group());
  HWY_ALIGN float scores[kBlock + HWY_MAX_BYTES / sizeof(float)];
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) FourDots(p.d_head, q, args.k + first + j * stride, stride, scores + j);
  for (; j < n; ++j) scores[j] = OneDot(p.d_head, q, args.k + first + j * stride);
  if (p.slopes != nullptr) {
    const float slope = kLog2E * p.slopes[h], distance = static_cast<float>(i + p.offset() - begin);
    for (j = 0; j < n; ++j) scores[j] -= slope * std::abs(distance - static_cast<float>(j));
  }
  if (p.bias != nullptr) {
    const float* bias = static_cast<const float*>(p.bias) + p.BiasRow(b, i, h) + begin;
    for (j = 0; j < n; ++j) scores[j] += kLog2E * bias[j];
  }
  if (const bool* mask = p.KeyMask(b)) {
    for (j = 0; j < n; ++j) scores[j] = mask[begin + j] ? scores[j] : kHidden;
  }
  std::fill_n(scores + n, lanes, kHidden);
  V most = hn::Set(d, *row.largest);
  for (j = 0; j < n; j += lanes) most = hn::Max(most, hn::Load(d, scores + j));
  const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  // Where nothing has been seen yet -infinity - -infinity would be NaN.
  const float base = largest == kHidden ? 0 : largest;
  const V shift = hn::Set(d, base);
  V sum = hn::Zero(d);
  for (j = 0; j < n; j += lanes) {
    const V x = Exp2(hn::Sub(hn::Load(d, scores + j), shift));
    hn::Store(x, d, scores + j);
    sum = hn::Add(sum, x);
  }
  const float factor = hn::GetLane(Exp2(hn::Set(d, *row.largest - base)));
  *row.sum = *row.sum * factor + hn::GetLane(hn::SumOfLanes(d, sum));
  *row.largest = largest;
  AddWeightedRows(p.d_head, n, scores, args.v + first, stride, factor, row.z);
}

void Decode(const ForwardArgs& args) {
  const Problem& p = args.p;
  const int64_t heads = p.batch * p.n_kv_heads, rows = p.n_heads * p.query;  // rows of one batch
  const int64_t spans = heads >= kTasks ? 1 : (p.key + kSpan - 1) / kSpan;
  const int64_t span = (p.key + spans - 1) / spans;
  const StorageRef storage = AllocateHost(p.batch * rows * spans * (p.d_head + 2) * sizeof(float));
  float* const partials = static_cast<float*>(storage->data());
  auto partial = [&](int64_t b, int64_t h, int64_t i, int64_t s) {
    return PartialAt(partials, ((b * p.n_heads + h) * p.query + i) * spans + s, p.d_head);
  };
  const int64_t work = p.query * p.group() * span * (p.d_head + 4);
  const int64_t grain = std::max<int64_t>(1, 100000 / work);
  ParallelFor(heads * spans, grain, [&](int64_t task_begin, int64_t task_end) HWY_ATTR {
    Scratch scratch(p.group() * p.query * p.d_head);
    float* const q = scratch.Take(p.group() * p.query * p.d_head);
    for (int64_t task = task_begin; task < task_end; ++task) {
      const int64_t s = task % spans, g = task / spans % p.n_kv_heads;
      const int64_t b = task / spans / p.n_kv_heads;
      const int64_t h0 = g * p.group(), h1 = h0 + p.group();
      const float scale = static_cast<float>(p.scale) * kLog2E;
      float* to = q;
      for (int64_t h = h0; h < h1; ++h) {
        for (int64_t i = 0; i < p.query; ++i, to += p.d_head) {
          const float* from = args.q + p.QueryRow(b, i, h);
          for (int64_t u = 0; u < p.d_head; ++u) to[u] = scale * from[u];
          const Partial row = partial(b, h, i, s);
          std::fill_n(row.z, p.d_head, 0.0f);
          *row.largest = kHidden;
          *row.sum = 0;
        }
      }
      const int64_t end = std::min(p.key, (s + 1) * span);
      for (int64_t j = s * span; j < end; j += kBlock) {
        const float* row_q = q;
        for (int64_t h = h0; h < h1; ++h) {
          for (int64_t i = 0; i < p.query; ++i, row_q += p.d_head) {
            const int64_t from = std::max(j, p.KeyBegin(i));
            const int64_t to_key = std::min({j + kBlock, end, p.KeyEnd(i)});
            if (from < to_key) {
              DecodeBlock(args, b, h, i, from, to_key, row_q, partial(b, h, i, s));
            }
          }
        }
      }
    }
  });
  // Joins the spans of each row.
  ParallelFor(p.batch * rows, std::max<int64_t>(1, 16384 / (spans * p.d_head)),
              [&](int64_t begin, int64_t end) HWY_ATTR {
                for (int64_t r = begin; r < end; ++r) {
                  const int64_t i = r % p.query, h = r / p.query % p.n_heads, b = r / rows;
                  float largest = kHidden;
                  for (int64_t s = 0; s < spans; ++s) {
                    const float x = *partial(b, h, i, s).largest;
                    if (x > largest || x != x) largest = x;
                  }
                  float* z = args.z + p.QueryRow(b, i, h);
                  std::fill_n(z, p.d_head, 0.0f);
                  float sum = 0;
                  for (int64_t s = 0; s < spans; ++s) {
                    const Partial part = partial(b, h, i, s);
                    if (*part.sum == 0) continue;
                    const float factor = std::exp2(*part.largest - largest);
                    sum += factor * *part.sum;
                    for (int64_t u = 0; u < p.d_head; ++u) z[u] += factor * part.z[u];
                  }
                  const float scale = sum == 0 ? 0 : 1 / sum;
                  for (int64_t u = 0; u < p.d_head; ++u) z[u] *= scale;
                  if (args.row_max != nullptr) {
                    args.row_max[r] = largest == kHidden ? 0 : largest;
                    args.row_scale[r] = scale;
                  }
                }
              });
}

}  // namespace HWY_NAMESPACE
}  // namespace attention_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace attention_internal {

HWY_EXPORT(Decode);

void DecodeCpu(const ForwardArgs& args) { HWY_DYNAMIC_DISPATCH(Decode)(args); }

}  // namespace attention_internal
}  // namespace residual
#endif  // HWY_ONCE
