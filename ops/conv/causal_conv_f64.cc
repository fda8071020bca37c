// The formulas of causal_conv.h in double, one number at a time.

#include <algorithm>
#include <cmath>

#include "ops/conv/causal_conv_kernels.h"

namespace residual {
namespace conv_internal {
namespace {

double At(const void* p, int64_t i) { return static_cast<const double*>(p)[i]; }

double Pre(const ConvArgs& a, int64_t row, int64_t t, int64_t c) {
  double sum = a.bias != nullptr ? At(a.bias, c) : 0;
  for (int64_t j = 0; j < a.width; ++j) {
    sum += At(a.weight, j * a.channels + c) * a.Tap<double>(row, t, j)[c];
  }
  return sum;
}

void Forward(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, void* y) {
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t c = 0; c < a.channels; ++c) {
      const double pre = Pre(a, row, t, c);
      static_cast<double*>(y)[(row * a.length + t) * a.channels + c] =
          a.silu ? pre / (1 + std::exp(-pre)) : pre;
    }
  }
}

void BeforeSilu(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, const void* dy,
                void* dpre) {
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t c = 0; c < a.channels; ++c) {
      const int64_t at = (row * a.length + t) * a.channels + c;
      const double pre = Pre(a, row, t, c), s = 1 / (1 + std::exp(-pre));
      static_cast<double*>(dpre)[at] = At(dy, at) * s * (1 + pre * (1 - s));
    }
  }
}

void Input(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, const InputGradients& g) {
  const int64_t past = a.width - 1;
  for (int64_t t = begin; t < end; ++t) {
    const bool kept = t >= a.length - past && t >= a.First(row, a.length - 1);
    for (int64_t c = 0; c < a.channels; ++c) {
      double sum = 0;
      if (g.dlast != nullptr && kept) {
        sum = At(g.dlast, (row * past + t - (a.length - past)) * a.channels + c);
      }
      for (int64_t j = 0; j < a.width; ++j) {
        const int64_t reader = t + past - j;
        if (reader < 0 || reader >= a.length || a.First(row, reader) > t) continue;
        sum += At(a.weight, j * a.channels + c) *
               At(g.dpre, (row * a.length + reader) * a.channels + c);
      }
      if (t < 0) {
        static_cast<double*>(g.dbefore)[(row * past + past + t) * a.channels + c] = sum;
      } else {
        static_cast<double*>(g.dx)[(row * a.length + t) * a.channels + c] = sum;
      }
    }
  }
}

void Weight(const ConvArgs& a, int64_t row, int64_t begin, int64_t end, const void* dpre,
            void* sums) {
  double* to = static_cast<double*>(sums);
  std::fill_n(to, (a.width + 1) * a.channels, 0.0);
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t c = 0; c < a.channels; ++c) {
      const double d = At(dpre, (row * a.length + t) * a.channels + c);
      for (int64_t j = 0; j < a.width; ++j) {
        to[j * a.channels + c] += d * a.Tap<double>(row, t, j)[c];
      }
      to[a.width * a.channels + c] += d;
    }
  }
}

}  // namespace

ConvKernels KernelsF64() { return {Forward, BeforeSilu, Input, Weight, nullptr}; }

}  // namespace conv_internal
}  // namespace residual
