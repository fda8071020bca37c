#include "ops/gemm/gemm_tiny.h"

#include <algorithm>

#include "ops/elementwise/elementwise_kernels.h"
#include "ops/simd/convert.h"
#include "tensor/core/dtype.h"

namespace residual {
namespace gemm_internal {
namespace {

float Value(float x) { return x; }
double Value(double x) { return x; }
float Value(BFloat16 x) { return x.ToFloat(); }
float Value(Float16 x) { return x.ToFloat(); }

// A few products, as the sum is written. T: of the operands, C: of the result, B: of b.
template <class T, class Sum, class C = T, class B = T>
void Tiny(const GemmArgs& g) {
  const int64_t a_row = g.transpose_a ? 1 : g.K, a_k = g.transpose_a ? g.M : 1;
  const int64_t b_column = g.transpose_b ? g.K : 1, b_k = g.transpose_b ? 1 : g.N;
  const T* a = static_cast<const T*>(g.a);
  const B* b = static_cast<const B*>(g.b);
  const Sum* bias = static_cast<const Sum*>(g.bias);
  constexpr int64_t kPart = 64;
  Sum sums[kPart];
  for (int64_t r = 0; r < g.M; ++r) {
    for (int64_t j0 = 0; j0 < g.N; j0 += kPart) {
      const int64_t n = std::min(kPart, g.N - j0);
      for (int64_t j = 0; j < n; ++j) {
        Sum sum = bias != nullptr ? bias[j0 + j] : Sum{0};
        for (int64_t k = 0; k < g.K; ++k) {
          sum += Value(a[r * a_row + k * a_k]) * Value(b[(j0 + j) * b_column + k * b_k]);
        }
        sums[j] = sum;
      }
      const auto store = [&](void* to) {
        for (int64_t j = 0; j < n; ++j) {
          static_cast<C*>(to)[r * g.N + j0 + j] = FromDouble<C>(sums[j]);
        }
      };
      if (g.pre != nullptr) store(g.pre);
      if (g.activation != Activation::kNone) {
        UnaryCpu(UnaryOpOf(g.activation), sums, sums, n);
      }
      store(g.c);
    }
  }
}

// Some products of bf16, of operands that may be f32.
void TinyRounded(GemmArgs g) {
  BFloat16 a[static_cast<int>(kTiny)], b[static_cast<int>(kTiny)];  // K = 0, or both have kTiny
  if (g.f32_a && g.K > 0) {
    Round(kBF16, static_cast<const float*>(g.a), a, g.M * g.K);
    g.a = a;
  }
  if (g.f32_b && g.K > 0) {
    Round(kBF16, static_cast<const float*>(g.b), b, g.K * g.N);
    g.b = b;
  }
  return g.f32_c ? Tiny<BFloat16, float, float>(g) : Tiny<BFloat16, float>(g);
}

}  // namespace

void RunTiny(const GemmArgs& g) {
  switch (g.dtype) {
    case DType::kF64:
      return Tiny<double, double>(g);
    case DType::kBF16:
      return TinyRounded(g);
    case DType::kF16:
      return Tiny<Float16, float>(g);
    default:
      if (g.narrow_b == kBF16) return Tiny<float, float, float, BFloat16>(g);
      if (g.narrow_b == kF16) return Tiny<float, float, float, Float16>(g);
      return Tiny<float, float>(g);
  }
}

}  // namespace gemm_internal
}  // namespace residual
