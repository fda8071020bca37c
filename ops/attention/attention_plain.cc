#include "ops/attention/attention_plain.h"

#include <cmath>
#include <limits>
#include <vector>

#include "ops/flash/flash.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace attention_internal {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

// Calls fn(index of a * m + b, a, b) for 0 <= a < n, 0 <= b < m, in parallel.
template <class Fn>
void ForPairs(int64_t n, int64_t m, const Fn& fn) {
  ParallelFor(n * m, 1, [&](int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) fn(u / m, u % m);
  });
}

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void AddScaled(double factor, const double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

// Address arithmetic of one problem.
struct Rows {
  const Problem& p;
  template <class T>
  T* Query(T* x, int64_t b, int64_t i, int64_t h) const {
    return x + ((b * p.query + i) * p.n_heads + h) * p.d_head;
  }
  template <class T>
  T* Key(T* x, int64_t b, int64_t j, int64_t h) const {
    return x + p.KeyRow(b, j, h / p.group());
  }
};

// Row i of the scores.
void ScoresRow(const Problem& p, const double* q, const double* k, int64_t b, int64_t h, int64_t i,
               double* row) {
  const Rows at{p};
  const bool* mask = p.KeyMask(b);
  const double* bias = static_cast<const double*>(p.bias);
  if (bias != nullptr) bias += b * p.bias_batch_stride + h * p.bias_head_stride + i * p.key;
  const int64_t begin = p.KeyBegin(i), end = p.KeyEnd(i);
  for (int64_t j = 0; j < p.key; ++j) {
    row[j] = kHidden;
    if (j < begin || j >= end || (mask != nullptr && !mask[j])) continue;
    row[j] = p.scale * Dot(at.Query(q, b, i, h), at.Key(k, b, j, h), p.d_head);
    if (p.slopes != nullptr) {
      row[j] -= p.slopes[h] * static_cast<double>(std::abs(i + p.offset() - j));
    }
    if (bias != nullptr) row[j] += bias[j];
  }
}

// Row i of the pattern and of the gradient of the scores:
//   dS_ij = P_ij (<dz_i, v_j> - <dz_i, z_i>).
void GradientRow(const Problem& p, const double* q, const double* k, const double* v,
                 const double* z, const double* lse, const double* dz, int64_t b, int64_t h,
                 int64_t i, double* pattern, double* ds) {
  const Rows at{p};
  ScoresRow(p, q, k, b, h, i, pattern);
  const double total = lse[(b * p.n_heads + h) * p.query + i];
  const double* dz_row = at.Query(dz, b, i, h);
  const double delta = Dot(dz_row, at.Query(z, b, i, h), p.d_head);
  for (int64_t j = 0; j < p.key; ++j) {
    // A hidden key's v may hold anything, NaN included.
    const bool hidden = pattern[j] == kHidden;
    pattern[j] = hidden ? 0 : std::exp(pattern[j] - total);
    ds[j] = hidden ? 0 : pattern[j] * (Dot(dz_row, at.Key(v, b, j, h), p.d_head) - delta);
  }
}

}  // namespace

void PlainForward(const Problem& p, const double* q, const double* k, const double* v, double* z,
                  double* lse) {
  const Rows at{p};
  ForPairs(p.batch, p.n_heads, [&](int64_t b, int64_t h) {
    std::vector<double> row(p.key);
    for (int64_t i = 0; i < p.query; ++i) {
      ScoresRow(p, q, k, b, h, i, row.data());
      double largest = kHidden;
      for (double s : row) largest = std::max(largest, s);
      if (largest == kHidden) largest = 0;  // no key is seen (or a NaN decides)
      double* z_row = at.Query(z, b, i, h);
      std::fill_n(z_row, p.d_head, 0.0);
      double sum = 0;
      for (int64_t j = 0; j < p.key; ++j) {
        if (row[j] == kHidden) continue;
        const double e = std::exp(row[j] - largest);
        sum += e;
        AddScaled(e, at.Key(v, b, j, h), z_row, p.d_head);
      }
      if (sum != 0) {
        for (int64_t d = 0; d < p.d_head; ++d) z_row[d] /= sum;
      }
      if (lse != nullptr) lse[(b * p.n_heads + h) * p.query + i] = largest + std::log(sum);
    }
  });
}

void PlainBackward(const Problem& p, const double* q, const double* k, const double* v,
                   const double* z, const double* lse, const double* dz, double* dq, double* dk,
                   double* dv) {
  const Rows at{p};
  ForPairs(p.batch, p.n_kv_heads, [&](int64_t b, int64_t g) {
    std::vector<double> pattern(p.key), ds(p.key);
    for (int64_t j = 0; j < p.key; ++j) {
      if (dk != nullptr) std::fill_n(at.Key(dk, b, j, g * p.group()), p.d_head, 0.0);
      if (dv != nullptr) std::fill_n(at.Key(dv, b, j, g * p.group()), p.d_head, 0.0);
    }
    for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h) {
      for (int64_t i = 0; i < p.query; ++i) {
        GradientRow(p, q, k, v, z, lse, dz, b, h, i, pattern.data(), ds.data());
        if (dq != nullptr) std::fill_n(at.Query(dq, b, i, h), p.d_head, 0.0);
        for (int64_t j = p.KeyBegin(i); j < p.KeyEnd(i); ++j) {
          if (pattern[j] == 0) continue;
          const double factor = p.scale * ds[j];
          if (dq != nullptr) {
            AddScaled(factor, at.Key(k, b, j, h), at.Query(dq, b, i, h), p.d_head);
          }
          if (dk != nullptr) {
            AddScaled(factor, at.Query(q, b, i, h), at.Key(dk, b, j, h), p.d_head);
          }
          if (dv != nullptr) {
            AddScaled(pattern[j], at.Query(dz, b, i, h), at.Key(dv, b, j, h), p.d_head);
          }
        }
      }
    }
  });
}

void PlainBiasGradient(const Problem& p, const double* q, const double* k, const double* v,
                       const double* z, const double* lse, const double* dz, double* dbias) {
  ForPairs(p.bias_batch * p.bias_heads, p.query, [&](int64_t shared, int64_t i) {
    std::vector<double> pattern(p.key), ds(p.key);
    double* sum = dbias + (shared * p.query + i) * p.key;
    std::fill_n(sum, p.key, 0.0);
    const int64_t bias_b = shared / p.bias_heads, bias_h = shared % p.bias_heads;
    for (int64_t b = bias_b; b < p.batch; b += p.bias_batch) {
      for (int64_t h = bias_h; h < p.n_heads; h += p.bias_heads) {
        GradientRow(p, q, k, v, z, lse, dz, b, h, i, pattern.data(), ds.data());
        AddScaled(1, ds.data(), sum, p.key);
      }
    }
  });
}

}  // namespace attention_internal
}  // namespace residual
