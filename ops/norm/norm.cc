#include "ops/norm/norm.h"

#include <algorithm>
#include <cmath>

#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/norm/norm_kernels.h"
#include "ops/simd/stream.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

int64_t Rows(const Tensor& x) { return x.shape().elements(0, x.rank() - 1); }
int64_t RowGrain(int64_t n) { return std::max<int64_t>(1, (1 << 14) / n); }
// Rows per chunk when chunks also make partial sums of n floats: enough to make those cheap.
int64_t BackwardGrain(int64_t n) { return std::max<int64_t>(32, (1 << 15) / n); }

// What forward leaves for backward.
struct Statistics {
  Tensor mean;   // [rows]; undefined for RMS norm
  Tensor scale;  // [..., 1]
};

template <class T>
const T* DataOrNull(const Tensor& x) {
  return x.defined() ? x.data<T>() : nullptr;
}

void ForwardF64(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, Tensor& y,
                Statistics& s) {
  const int64_t n = x.dim(-1);
  const double *in = x.data<double>(), *w = DataOrNull<double>(weight),
               *b = DataOrNull<double>(bias);
  double* out = y.mutable_data<double>();
  double* means = s.mean.defined() ? s.mean.mutable_data<double>() : nullptr;
  double* scales = s.scale.mutable_data<double>();
  for (int64_t r = 0; r < Rows(x); ++r, in += n, out += n) {
    double mean = 0, squares = 0;
    if (means) {
      for (int64_t i = 0; i < n; ++i) mean += in[i];
      means[r] = mean /= static_cast<double>(n);
    }
    for (int64_t i = 0; i < n; ++i) squares += (in[i] - mean) * (in[i] - mean);
    scales[r] = std::sqrt(squares / static_cast<double>(n) + eps);
    for (int64_t i = 0; i < n; ++i) {
      out[i] = (in[i] - mean) / scales[r] * (w ? w[i] : 1) + (b ? b[i] : 0);
    }
  }
}

struct NormGradients {
  Tensor dx, dweight, dbias;
};

NormGradients BackwardF64(const Tensor& x, const Tensor& weight, const Statistics& s,
                          const Tensor& dy, const Tensor& dscale, bool weighted, bool biased) {
  const int64_t n = x.dim(-1);
  NormGradients g;
  g.dx = Tensor::Zeros(x.shape(), kF64);
  if (weighted) g.dweight = Tensor::Zeros({n}, kF64);
  if (biased) g.dbias = Tensor::Zeros({n}, kF64);
  const double *in = x.data<double>(), *w = DataOrNull<double>(weight),
               *grad = DataOrNull<double>(dy), *scales = s.scale.data<double>();
  double* dx = g.dx.mutable_data<double>();
  double* dw = weighted ? g.dweight.mutable_data<double>() : nullptr;
  double* db = biased ? g.dbias.mutable_data<double>() : nullptr;
  const double count = static_cast<double>(n);
  for (int64_t r = 0; r < Rows(x); ++r) {
    const double mean = s.mean.defined() ? s.mean.data<double>()[r] : 0;
    double sum_g = 0, sum_gh = 0;
    for (int64_t i = r * n, j = 0; j < n; ++i, ++j) {
      const double h = (in[i] - mean) / scales[r], dyi = grad ? grad[i] : 0;
      const double gi = dyi * (w ? w[j] : 1);
      if (dw) dw[j] += dyi * h;
      if (db) db[j] += dyi;
      sum_g += gi;
      sum_gh += gi * h;
    }
    if (!s.mean.defined()) sum_g = 0;
    if (dscale.defined()) sum_gh -= dscale.data<double>()[r] * scales[r];
    for (int64_t i = r * n, j = 0; j < n; ++i, ++j) {
      const double h = (in[i] - mean) / scales[r];
      const double gi = (grad ? grad[i] : 0) * (w ? w[j] : 1);
      dx[i] = (gi - sum_g / count - h * sum_gh / count) / scales[r];
    }
  }
  return g;
}

NormGradients BackwardF32(const Tensor& x, const Tensor& weight, const Statistics& s,
                          const Tensor& dy, const Tensor& dscale, bool weighted, bool biased,
                          const Tensor& dsum = Tensor()) {
  const int64_t n = x.dim(-1), rows = Rows(x), grain = BackwardGrain(n);
  const int64_t chunks = NumChunks(rows, grain);
  NormGradients g;
  g.dx = Tensor::Uninitialized(x.shape());
  Tensor zero;  // where only the scale has a gradient
  if (!dy.defined()) zero = Tensor::Zeros(x.shape());
  NormBackwardArgs args{x.data<float>(),
                        DataOrNull<float>(weight),
                        DataOrNull<float>(s.mean),
                        s.scale.data<float>(),
                        dy.defined() ? dy.data<float>() : zero.data<float>(),
                        DataOrNull<float>(dscale),
                        DataOrNull<float>(dsum),
                        g.dx.mutable_data<float>(),
                        n,
                        PastCaches(g.dx.bytes())};
  // One row of partial sums per chunk, added up in chunk order.
  Tensor parts = Tensor::Zeros({2, weighted || biased ? chunks : 0, n});
  float* partial = parts.mutable_data<float>();
  ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
    const int64_t chunk = begin / grain;
    NormBackwardCpu(args, begin, end, weighted ? partial + chunk * n : nullptr,
                    biased ? partial + (chunks + chunk) * n : nullptr);
  });
  auto total = [&](const float* from) {
    Tensor sum = Tensor::Zeros({n});
    float* out = sum.mutable_data<float>();
    for (int64_t c = 0; c < chunks; ++c) {
      for (int64_t i = 0; i < n; ++i) out[i] += from[c * n + i];
    }
    return sum;
  };
  if (weighted) g.dweight = total(partial);
  if (biased) g.dbias = total(partial + chunks * n);
  return g;
}

// With `add`, of x + add, which becomes `sum`: only in f32.
Tensor Forward(const char* name, bool centred, const Tensor& x, const Tensor& weight,
               const Tensor& bias, double eps, Statistics& s, const Tensor& add = Tensor(),
               Tensor* sum = nullptr) {
  RESIDUAL_CHECK_OP(name, x.rank() >= 1 && IsFloat(x.dtype()) && x.dim(-1) >= 1, x, weight, bias);
  for (const Tensor* p : {&weight, &bias}) {
    RESIDUAL_CHECK_OP(
        name,
        !p->defined() || (p->dtype() == x.dtype() && p->elements() == x.dim(-1) && p->rank() == 1),
        x, weight, bias);
  }
  Tensor y = Tensor::Uninitialized(x.shape(), x.dtype());
  if (centred) s.mean = Tensor::Uninitialized({Rows(x)}, x.dtype());
  s.scale = Tensor::Uninitialized(x.shape().With(-1, 1), x.dtype());
  if (x.dtype() == kF64) {
    ForwardF64(x, weight, bias, eps, y, s);
    return y;
  }
  if (sum != nullptr) *sum = Tensor::Uninitialized(x.shape());
  const NormArgs args{x.data<float>(),
                      DataOrNull<float>(add),
                      sum != nullptr ? sum->mutable_data<float>() : nullptr,
                      DataOrNull<float>(weight),
                      DataOrNull<float>(bias),
                      y.mutable_data<float>(),
                      centred ? s.mean.mutable_data<float>() : nullptr,
                      s.scale.mutable_data<float>(),
                      x.dim(-1),
                      static_cast<float>(eps),
                      PastCaches(y.bytes())};
  ParallelFor(Rows(x), RowGrain(x.dim(-1)),
              [&](int64_t begin, int64_t end) { NormCpu(args, begin, end); });
  return y;
}

NormGradients Backward(const Tensor& x, const Tensor& weight, const Statistics& s, const Tensor& dy,
                       const Tensor& dscale, bool weighted, bool biased) {
  return x.dtype() == kF64 ? BackwardF64(x, weight, s, dy, dscale, weighted, biased)
                           : BackwardF32(x, weight, s, dy, dscale, weighted, biased);
}

bool IsHalf(DType dtype) { return dtype == kBF16 || dtype == kF16; }
Tensor Wide(const Tensor& x) { return x.defined() ? Cast(x, kF32) : x; }

Tensor NormOp(const char* name, bool centred, const Tensor& x, const Tensor& weight,
              const Tensor& bias, double eps) {
  if (IsHalf(x.dtype())) {
    return Cast(NormOp(name, centred, Cast(x, kF32), Wide(weight), Wide(bias), eps), x.dtype());
  }
  Statistics s;
  Tensor y = Forward(name, centred, x, weight, bias, eps, s);
  if (Tape* tape = Tape::For({&x, &weight, &bias})) {
    tape->Record(name, {&x, &weight, &bias}, {&y}, [x, weight, s](auto dy, Needs needs) {
      const NormGradients g = Backward(x, weight, s, dy[0], Tensor(), needs[1], needs[2]);
      return TensorList{g.dx, g.dweight, g.dbias};
    });
  }
  return y;
}

NormParts PartsOp(const char* name, bool centred, const Tensor& x, double eps) {
  if (IsHalf(x.dtype())) {
    const NormParts wide = PartsOp(name, centred, Cast(x, kF32), eps);
    return {Cast(wide.normalized, x.dtype()), Cast(wide.scale, x.dtype())};
  }
  Statistics s;
  NormParts parts;
  parts.normalized = Forward(name, centred, x, Tensor(), Tensor(), eps, s);
  parts.scale = s.scale;
  if (Tape* tape = Tape::For({&x})) {
    tape->Record(name, {&x}, {&parts.normalized, &parts.scale}, [x, s](auto dy, Needs) {
      return TensorList{Backward(x, Tensor(), s, dy[0], dy[1], false, false).dx};
    });
  }
  return parts;
}

AddNorm AddNormOp(const char* name, bool centred, const Tensor& a, const Tensor& b,
                  const Tensor& weight, const Tensor& bias, double eps) {
  RESIDUAL_CHECK_OP(name, a.shape() == b.shape() && a.dtype() == b.dtype(), a, b);
  AddNorm result;
  if (a.dtype() != kF32) {
    result.sum = Add(a, b);
    result.normalized = NormOp(name, centred, result.sum, weight, bias, eps);
    return result;
  }
  Statistics s;
  result.normalized = Forward(name, centred, a, weight, bias, eps, s, b, &result.sum);
  if (Tape* tape = Tape::For({&a, &b, &weight, &bias})) {
    tape->Record(name, {&a, &b, &weight, &bias}, {&result.sum, &result.normalized},
                 [x = result.sum, weight, s](auto dy, Needs needs) {
                   if (!dy[1].defined()) return TensorList{dy[0], dy[0], Tensor(), Tensor()};
                   const NormGradients g =
                       BackwardF32(x, weight, s, dy[1], Tensor(), needs[2], needs[3], dy[0]);
                   return TensorList{g.dx, g.dx, g.dweight, g.dbias};
                 });
  }
  return result;
}

}  // namespace

Tensor LayerNorm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps) {
  return NormOp("layer_norm", true, x, weight, bias, eps);
}
Tensor RmsNorm(const Tensor& x, const Tensor& weight, double eps) {
  return NormOp("rms_norm", false, x, weight, Tensor(), eps);
}
AddNorm AddLayerNorm(const Tensor& a, const Tensor& b, const Tensor& weight, const Tensor& bias,
                     double eps) {
  return AddNormOp("add_layer_norm", true, a, b, weight, bias, eps);
}
AddNorm AddRmsNorm(const Tensor& a, const Tensor& b, const Tensor& weight, double eps) {
  return AddNormOp("add_rms_norm", false, a, b, weight, Tensor(), eps);
}
NormParts LayerNormParts(const Tensor& x, double eps) {
  return PartsOp("layer_norm_parts", true, x, eps);
}
NormParts RmsNormParts(const Tensor& x, double eps) {
  return PartsOp("rms_norm_parts", false, x, eps);
}

}  // namespace residual
