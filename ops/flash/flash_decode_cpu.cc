// A few queries against many keys, as in generation: k and v stream by once, so memory is the
// limit, not arithmetic. Vectors lie along d_head here. A task is a span of keys of one batch; all
// heads take their part of a key before the next key, so that memory is read in order: 90 % of
// what a sum of floats reads per second (12 heads of 64, 16384 keys, one thread). A head at a
// time, 256 bytes of every 3072, reached 62 %, no matter whether the next head was prefetched.
// Spans depend on the shapes only and are joined in order.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/flash/flash.h"
#include "tensor/base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/flash/flash_decode_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/highway.h"
#include "ops/flash/flash-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace flash_internal {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kBlock = 64;  // keys scored before their v is read
constexpr int64_t kTasks = 16;  // spans of all batches together, where there are keys enough

// scores[0..4) = <q, k of four keys>.
template <class T>
HWY_INLINE void FourDots(int64_t n, const float* q, const T* k, int64_t stride, float* scores) {
  const D d;
  const int64_t lanes = Lanes();
  V a = hn::Zero(d), b = a, c = a, e = a;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V x = hn::LoadU(d, q + i);
    a = hn::MulAdd(x, LoadWidened(d, k + i), a);
    b = hn::MulAdd(x, LoadWidened(d, k + stride + i), b);
    c = hn::MulAdd(x, LoadWidened(d, k + 2 * stride + i), c);
    e = hn::MulAdd(x, LoadWidened(d, k + 3 * stride + i), e);
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
    for (int j = 0; j < 4; ++j) scores[j] += q[i] * Widened(k[j * stride + i]);
  }
}

template <class T>
HWY_INLINE float OneDot(int64_t n, const float* q, const T* k) {
  const D d;
  const int64_t lanes = Lanes();
  V a = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) a = hn::MulAdd(hn::LoadU(d, q + i), LoadWidened(d, k + i), a);
  float sum = hn::GetLane(hn::SumOfLanes(d, a));
  for (; i < n; ++i) sum += q[i] * Widened(k[i]);
  return sum;
}

// z += sum of weights[j] v[j] over eight keys.
template <class T>
HWY_INLINE void AddEight(int64_t n, const float* weights, const T* v, int64_t stride, float* z) {
  const D d;
  const int64_t lanes = Lanes();
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    V even = hn::LoadU(d, z + i), odd = hn::Zero(d);
#pragma GCC unroll 4
    for (int j = 0; j < 8; j += 2) {
      even = hn::MulAdd(hn::Set(d, weights[j]), LoadWidened(d, v + j * stride + i), even);
      odd = hn::MulAdd(hn::Set(d, weights[j + 1]), LoadWidened(d, v + (j + 1) * stride + i), odd);
    }
    hn::StoreU(hn::Add(even, odd), d, z + i);
  }
  for (; i < n; ++i) {
    for (int j = 0; j < 8; ++j) z[i] += weights[j] * Widened(v[j * stride + i]);
  }
}

// The same for one key; a weight of 0 counts as no key, whatever v holds there.
template <class T>
HWY_INLINE void AddOne(int64_t n, float weight, const T* v, float* z) {
  if (weight == 0) return;
  const D d;
  const int64_t lanes = Lanes();
  const V w = hn::Set(d, weight);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::MulAdd(w, LoadWidened(d, v + i), hn::LoadU(d, z + i)), d, z + i);
  }
  for (; i < n; ++i) z[i] += weight * Widened(v[i]);
}

// What is known of one query row after some keys: z [d_head] not yet divided by the sum.
struct Partial {
  float *z, *largest, *sum;
};
Partial PartialAt(float* memory, int64_t index, int64_t d_head) {
  float* at = memory + index * (d_head + 2);
  return {at, at + d_head, at + d_head + 1};
}

// scores of row i of head h for keys [begin, end) -> 2^(score - maximum), and what is known of the
// row brought up to date, v apart. Returns whether the row sees all of these keys.
bool Weigh(const Problem& p, int64_t b, int64_t h, int64_t i, int64_t begin, int64_t end,
           float* scores, Partial row) {
  const D d;
  const int64_t n = end - begin, lanes = Lanes();
  const int64_t first = std::clamp<int64_t>(p.KeyBegin(i) - begin, 0, n);
  const int64_t last = std::clamp<int64_t>(p.KeyEnd(i) - begin, first, n);
  bool all = first == 0 && last == n;
  if (p.slopes != nullptr) {
    const float slope = kLog2E * p.slopes[h], distance = static_cast<float>(i + p.offset() - begin);
    for (int64_t j = 0; j < n; ++j) scores[j] -= slope * std::abs(distance - static_cast<float>(j));
  }
  if (p.bias != nullptr) {
    const float* bias = static_cast<const float*>(p.bias) + p.BiasRow(b, i, h) + begin;
    for (int64_t j = 0; j < n; ++j) scores[j] += kLog2E * bias[j];
  }
  if (const bool* mask = p.KeyMask(b)) {
    for (int64_t j = 0; j < n; ++j) {
      scores[j] = mask[begin + j] ? scores[j] : kHidden;
      all = all && mask[begin + j];
    }
  }
  std::fill(scores, scores + first, kHidden);
  std::fill(scores + last, scores + n + lanes, kHidden);
  V most = hn::Set(d, *row.largest);
  for (int64_t j = 0; j < n; j += lanes) most = hn::Max(most, hn::Load(d, scores + j));
  const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  // Where nothing has been seen yet -infinity - -infinity would be NaN.
  const float base = largest == kHidden ? 0 : largest;
  V sum = hn::Zero(d);
  for (int64_t j = 0; j < n; j += lanes) {
    const V x = Exp2(hn::Sub(hn::Load(d, scores + j), hn::Set(d, base)));
    hn::Store(x, d, scores + j);
    sum = hn::Add(sum, x);
  }
  const float factor = hn::GetLane(Exp2(hn::Set(d, *row.largest - base)));
  *row.sum = *row.sum * factor + hn::GetLane(hn::SumOfLanes(d, sum));
  *row.largest = largest;
  for (int64_t u = 0; factor != 1 && u < p.d_head; ++u) row.z[u] *= factor;
  return all;
}

// A row of z from its spans, which lie one after the other.
template <class T>
void Join(int64_t d_head, int64_t spans, Partial first, T* out, float* row_max, float* row_scale) {
  auto span = [&](int64_t s) { return PartialAt(first.z, s, d_head); };
  float largest = kHidden;
  for (int64_t s = 0; s < spans; ++s) {
    const float x = *span(s).largest;
    if (x > largest || x != x) largest = x;
  }
  if (largest == kHidden) largest = 0;
  float sum = 0;
  for (int64_t s = 0; s < spans; ++s) {
    const Partial part = span(s);
    const float factor = std::exp2(*part.largest - largest);
    sum += factor * *part.sum;
    for (int64_t u = 0; u < d_head; ++u) {
      first.z[u] = factor * part.z[u] + (s == 0 ? 0 : first.z[u]);
    }
  }
  const float scale = sum == 0 ? 0 : 1 / sum;
  for (int64_t u = 0; u < d_head; ++u) RoundElement(first.z[u] * scale, out + u);
  if (row_max != nullptr) {
    *row_max = largest;
    *row_scale = scale;
  }
}

// Keys [begin, end) of batch b; partial(h, i) is where row i of head h goes.
template <class T, class F>
void DecodeSpan(const ForwardArgs<T>& args, int64_t b, int64_t begin, int64_t end, F partial) {
  struct Row {
    int64_t h, i, offset;  // of its k and v in a key
    float *q, *scores;
    Partial part;
    bool all;  // it sees every key of the block
  };
  const Problem& p = args.p;
  const int64_t n = p.d_head, stride = p.n_kv_heads * n;
  const int64_t room = kBlock + HWY_MAX_BYTES / sizeof(float);
  const float scale = static_cast<float>(p.scale) * kLog2E;
  std::vector<Row> rows(p.n_heads * p.query);
  Scratch scratch(rows.size() * (Scratch::Aligned(n) + Scratch::Aligned(room)));
  for (size_t r = 0; r < rows.size(); ++r) {
    const int64_t h = r / p.query, i = r % p.query;
    Row& row = rows[r];
    row = {h, i, h / p.group() * n, scratch.Take(n), scratch.Take(room), partial(h, i), true};
    const T* from = args.q + p.QueryRow(b, i, h);
    for (int64_t u = 0; u < n; ++u) row.q[u] = scale * Widened(from[u]);
    std::fill_n(row.part.z, n, 0.0f);
    *row.part.largest = kHidden;
    *row.part.sum = 0;
  }
  for (int64_t block = begin; block < end; block += kBlock) {
    const int64_t keys = std::min(kBlock, end - block);
    const T *k = args.k + p.KeyRow(b, block, 0), *v = args.v + p.KeyRow(b, block, 0);
    int64_t j = 0;
    for (; j + 4 <= keys; j += 4) {
      for (const Row& row : rows) {
        FourDots(n, row.q, k + j * stride + row.offset, stride, row.scores + j);
      }
    }
    for (; j < keys; ++j) {
      for (const Row& row : rows) {
        row.scores[j] = OneDot(n, row.q, k + j * stride + row.offset);
      }
    }
    for (Row& row : rows) {
      row.all = Weigh(p, b, row.h, row.i, block, block + keys, row.scores, row.part);
    }
    for (j = 0; j < keys; j += 8) {
      for (const Row& row : rows) {
        const T* at = v + j * stride + row.offset;
        if (row.all && j + 8 <= keys) {
          AddEight(n, row.scores + j, at, stride, row.part.z);
        } else {
          const int64_t rest = std::min<int64_t>(8, keys - j);
          for (int64_t u = 0; u < rest; ++u) {
            AddOne(n, row.scores[j + u], at + u * stride, row.part.z);
          }
        }
      }
    }
  }
}

template <class T>
void Decode(const ForwardArgs<T>& args) {
  const Problem& p = args.p;
  const int64_t blocks = (p.key + kBlock - 1) / kBlock, rows = p.n_heads * p.query;
  const int64_t span = (blocks * p.batch + kTasks - 1) / kTasks * kBlock;
  const int64_t spans = (p.key + span - 1) / span;
  const StorageRef storage = AllocateHost(p.batch * rows * spans * (p.d_head + 2) * sizeof(float));
  float* const partials = static_cast<float*>(storage->data());
  auto partial = [&](int64_t b, int64_t h, int64_t i, int64_t s) {
    return PartialAt(partials, ((b * p.n_heads + h) * p.query + i) * spans + s, p.d_head);
  };
  const int64_t work = rows * std::min(span, p.key) * (p.d_head + 4);
  ParallelFor(p.batch * spans, 100000 / work, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t b = task / spans, s = task % spans;
      DecodeSpan(args, b, s * span, std::min(p.key, (s + 1) * span),
                 [&](int64_t h, int64_t i) { return partial(b, h, i, s); });
    }
  });
  const int64_t join = rows * spans * (p.d_head + 4);
  ParallelFor(p.batch, 16384 / join, [&](int64_t begin, int64_t end) HWY_ATTR {
    for (int64_t r = begin * rows; r < end * rows; ++r) {
      const int64_t i = r % p.query, h = r / p.query % p.n_heads, b = r / rows;
      Join(p.d_head, spans, partial(b, h, i, 0), args.z + p.QueryRow(b, i, h),
           args.row_max ? args.row_max + r : nullptr, args.row_max ? args.row_scale + r : nullptr);
    }
  });
}

void DecodeF32(const ForwardArgs<float>& args) { Decode(args); }
void DecodeBF16(const ForwardArgs<BFloat16>& args) { Decode(args); }

}  // namespace HWY_NAMESPACE
}  // namespace flash_internal
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {
namespace flash_internal {

HWY_EXPORT(DecodeF32);
HWY_EXPORT(DecodeBF16);

void DecodeCpu(const ForwardArgs<float>& args) { HWY_DYNAMIC_DISPATCH(DecodeF32)(args); }
void DecodeCpu(const ForwardArgs<BFloat16>& args) { HWY_DYNAMIC_DISPATCH(DecodeBF16)(args); }

}  // namespace flash_internal
}  // namespace residual
#endif  // HWY_ONCE
