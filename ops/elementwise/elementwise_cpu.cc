#include "ops/elementwise/elementwise_kernels.h"
#include "ops/elementwise/elementwise_scalar.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/elementwise/elementwise_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "ops/simd/vec_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Applies f to vectors of up to three inputs. The rest of fewer lanes than a vector is padded with
// ones, which every function here takes.
template <class F>
HWY_INLINE void Map1(const float* x, float* y, int64_t count, F f) {
  const D d;
  const size_t lanes = hn::Lanes(d), n = static_cast<size_t>(count);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(d, hn::LoadU(d, x + i)), d, y + i);
  if (i < n) {
    HWY_ALIGN float in[HWY_MAX_BYTES / 4], out[HWY_MAX_BYTES / 4];
    hn::Store(hn::Set(d, 1.0f), d, in);
    for (size_t j = i; j < n; ++j) in[j - i] = x[j];
    hn::Store(f(d, hn::Load(d, in)), d, out);
    for (size_t j = i; j < n; ++j) y[j] = out[j - i];
  }
}

template <class F>
HWY_INLINE void Map2(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b,
                     float* HWY_RESTRICT y, int64_t count, F f) {
  const D d;
  const size_t lanes = hn::Lanes(d), n = static_cast<size_t>(count);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(f(d, hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, y + i);
  }
  if (i < n) {
    HWY_ALIGN float in[2][HWY_MAX_BYTES / 4], out[HWY_MAX_BYTES / 4];
    hn::Store(hn::Set(d, 1.0f), d, in[0]);
    hn::Store(hn::Set(d, 1.0f), d, in[1]);
    for (size_t j = i; j < n; ++j) {
      in[0][j - i] = a[j];
      in[1][j - i] = b[j];
    }
    hn::Store(f(d, hn::Load(d, in[0]), hn::Load(d, in[1])), d, out);
    for (size_t j = i; j < n; ++j) y[j] = out[j - i];
  }
}

// The functions, and their derivatives as (d, x, dy) -> dx.

HWY_INLINE V GeluTanhArgument(D d, V x) {  // 2 sqrt(2/pi) (x + 0.044715 x^3)
  const V square = hn::Mul(x, x);
  return hn::Mul(x,
                 hn::MulAdd(square, hn::Set(d, 0.0713548162726f), hn::Set(d, 1.59576912160573f)));
}

// (1 + tanh(u / 2)) / 2 = sigmoid(u), so gelu_tanh is x sigmoid(u): one exp and one division.
HWY_INLINE V GeluTanhOf(D d, V x) { return hn::Mul(x, VecSigmoid(d, GeluTanhArgument(d, x))); }

HWY_INLINE V GeluTanhSlope(D d, V x) {
  const V one = hn::Set(d, 1.0f), s = VecSigmoid(d, GeluTanhArgument(d, x));
  const V du =
      hn::MulAdd(hn::Mul(x, x), hn::Set(d, 3 * 0.0713548162726f), hn::Set(d, 1.59576912160573f));
  return hn::Mul(s, hn::MulAdd(hn::Mul(x, du), hn::Sub(one, s), one));
}

HWY_INLINE V GeluOf(D d, V x) {
  const V half = hn::Mul(x, hn::Set(d, 0.5f));
  return hn::MulAdd(half, VecErf(d, hn::Mul(x, hn::Set(d, 0.70710678118655f))), half);
}

HWY_INLINE V GeluSlope(D d, V x) {
  const V half = hn::Set(d, 0.5f);
  const V cdf = hn::MulAdd(half, VecErf(d, hn::Mul(x, hn::Set(d, 0.70710678118655f))), half);
  const V density =
      hn::Mul(hn::Set(d, 0.3989422804014f), VecExp(d, hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5f))));
  return hn::MulAdd(x, density, cdf);
}

HWY_INLINE V SiluSlope(D d, V x) {
  const V one = hn::Set(d, 1.0f), s = VecSigmoid(d, x);
  return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
}

HWY_INLINE V SoftplusOf(D d, V x) {  // max(x, 0) + log1p(e^-|x|)
  const V tail = hn::Log1p(d, VecExp(d, hn::Neg(hn::Abs(x))));
  const V y = hn::Add(hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), x), tail);
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenElse(hn::Gt(x, hn::Set(d, 20.0f)), x, y));
}

void UnaryImpl(UnaryOp op, const float* x, float* y, int64_t n) {
  switch (op) {
    case UnaryOp::kExp:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR { return VecExp(d, v); });
    case UnaryOp::kLog:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR {
        const V zero = hn::Zero(d), inf = hn::Inf(d);
        V y = hn::Log(d, v);
        y = hn::IfThenElse(hn::Eq(v, zero), hn::Neg(inf), y);
        y = hn::IfThenElse(hn::Lt(v, zero), hn::NaN(d), y);
        return hn::IfThenElse(hn::Or(hn::IsNaN(v), hn::Eq(v, inf)), v, y);
      });
    case UnaryOp::kSqrt:
      return Map1(x, y, n, [](D, V v) HWY_ATTR { return hn::Sqrt(v); });
    case UnaryOp::kSquare:
      return Map1(x, y, n, [](D, V v) HWY_ATTR { return hn::Mul(v, v); });
    case UnaryOp::kRelu:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR {
        return hn::IfThenElse(hn::Lt(v, hn::Zero(d)), hn::Zero(d), v);
      });
    case UnaryOp::kGelu:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR { return GeluOf(d, v); });
    case UnaryOp::kGeluTanh:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR { return GeluTanhOf(d, v); });
    case UnaryOp::kSilu:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR { return hn::Mul(v, VecSigmoid(d, v)); });
    case UnaryOp::kSigmoid:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR { return VecSigmoid(d, v); });
    case UnaryOp::kTanh:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR { return VecTanh(d, v); });
    case UnaryOp::kSoftplus:
      return Map1(x, y, n, [](D d, V v) HWY_ATTR { return SoftplusOf(d, v); });
  }
}

void UnaryBackwardImpl(UnaryOp op, const float* x, const float* dy, float* dx, int64_t n) {
  switch (op) {
    case UnaryOp::kExp:
      return Map2(x, dy, dx, n, [](D d, V v, V g) HWY_ATTR { return hn::Mul(g, VecExp(d, v)); });
    case UnaryOp::kLog:
      return Map2(x, dy, dx, n, [](D, V v, V g) HWY_ATTR { return hn::Div(g, v); });
    case UnaryOp::kSqrt:
      return Map2(x, dy, dx, n, [](D d, V v, V g) HWY_ATTR {
        return hn::Mul(g, hn::Div(hn::Set(d, 0.5f), hn::Sqrt(v)));
      });
    case UnaryOp::kSquare:
      return Map2(x, dy, dx, n, [](D, V v, V g) HWY_ATTR { return hn::Mul(g, hn::Add(v, v)); });
    case UnaryOp::kRelu:
      return Map2(x, dy, dx, n, [](D d, V v, V g) HWY_ATTR {
        return hn::IfThenElse(hn::Le(v, hn::Zero(d)), hn::Zero(d), g);
      });
    case UnaryOp::kGelu:
      return Map2(x, dy, dx, n, [](D d, V v, V g) HWY_ATTR { return hn::Mul(g, GeluSlope(d, v)); });
    case UnaryOp::kGeluTanh:
      return Map2(x, dy, dx, n,
                  [](D d, V v, V g) HWY_ATTR { return hn::Mul(g, GeluTanhSlope(d, v)); });
    case UnaryOp::kSilu:
      return Map2(x, dy, dx, n, [](D d, V v, V g) HWY_ATTR { return hn::Mul(g, SiluSlope(d, v)); });
    case UnaryOp::kSigmoid:
      return Map2(x, dy, dx, n, [](D d, V v, V g) HWY_ATTR {
        const V s = VecSigmoid(d, v);
        return hn::Mul(g, hn::Mul(s, hn::Sub(hn::Set(d, 1.0f), s)));
      });
    case UnaryOp::kTanh:
      return Map2(x, dy, dx, n, [](D d, V v, V g) HWY_ATTR {
        const V t = VecTanh(d, v);
        return hn::Mul(g, hn::NegMulAdd(t, t, hn::Set(d, 1.0f)));
      });
    case UnaryOp::kSoftplus:
      return Map2(x, dy, dx, n, [](D d, V v, V g) HWY_ATTR {
        return hn::IfThenElse(hn::Gt(v, hn::Set(d, 20.0f)), g, hn::Mul(g, VecSigmoid(d, v)));
      });
  }
}

void BinaryImpl(BinaryOp op, const float* a, const float* b, float* y, int64_t n) {
  switch (op) {
    case BinaryOp::kAdd:
      return Map2(a, b, y, n, [](D, V u, V v) HWY_ATTR { return hn::Add(u, v); });
    case BinaryOp::kSub:
      return Map2(a, b, y, n, [](D, V u, V v) HWY_ATTR { return hn::Sub(u, v); });
    case BinaryOp::kMul:
      return Map2(a, b, y, n, [](D, V u, V v) HWY_ATTR { return hn::Mul(u, v); });
    case BinaryOp::kDiv:
      return Map2(a, b, y, n, [](D, V u, V v) HWY_ATTR { return hn::Div(u, v); });
  }
}

void BinaryScalarImpl(BinaryOp op, const float* a, float b, float* y, int64_t n) {
  const V v = hn::Set(D(), b);
  switch (op) {
    case BinaryOp::kAdd:
      return Map1(a, y, n, [v](D, V u) HWY_ATTR { return hn::Add(u, v); });
    case BinaryOp::kSub:
      return Map1(a, y, n, [v](D, V u) HWY_ATTR { return hn::Sub(u, v); });
    case BinaryOp::kMul:
      return Map1(a, y, n, [v](D, V u) HWY_ATTR { return hn::Mul(u, v); });
    case BinaryOp::kDiv:
      return Map1(a, y, n, [v](D, V u) HWY_ATTR { return hn::Div(u, v); });
  }
}

void SiluMulImpl(const float* a, const float* b, float* y, int64_t n) {
  Map2(a, b, y, n, [](D d, V u, V v) HWY_ATTR { return hn::Mul(hn::Mul(u, VecSigmoid(d, u)), v); });
}

void SiluMulBackwardImpl(const float* a, const float* b, const float* dy, float* da, float* db,
                         int64_t n) {
  Map2(a, dy, db, n,
       [](D d, V u, V g) HWY_ATTR { return hn::Mul(g, hn::Mul(u, VecSigmoid(d, u))); });
  Map2(a, dy, da, n, [](D d, V u, V g) HWY_ATTR { return hn::Mul(g, SiluSlope(d, u)); });
  const D d;
  const size_t lanes = hn::Lanes(d), count = static_cast<size_t>(n);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, da + i), hn::LoadU(d, b + i)), d, da + i);
  }
  for (; i < count; ++i) da[i] *= b[i];
}

void AddRowsImpl(const float* x, int64_t rows, int64_t columns, float* HWY_RESTRICT sums) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + 4 * lanes <= columns; j += 4 * lanes) {  // four columns of vectors in registers
    V s0 = hn::LoadU(d, sums + j), s1 = hn::LoadU(d, sums + j + lanes),
      s2 = hn::LoadU(d, sums + j + 2 * lanes), s3 = hn::LoadU(d, sums + j + 3 * lanes);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = x + r * columns + j;
      s0 = hn::Add(s0, hn::LoadU(d, row));
      s1 = hn::Add(s1, hn::LoadU(d, row + lanes));
      s2 = hn::Add(s2, hn::LoadU(d, row + 2 * lanes));
      s3 = hn::Add(s3, hn::LoadU(d, row + 3 * lanes));
    }
    hn::StoreU(s0, d, sums + j);
    hn::StoreU(s1, d, sums + j + lanes);
    hn::StoreU(s2, d, sums + j + 2 * lanes);
    hn::StoreU(s3, d, sums + j + 3 * lanes);
  }
  for (; j + lanes <= columns; j += lanes) {
    V s = hn::LoadU(d, sums + j);
    for (int64_t r = 0; r < rows; ++r) s = hn::Add(s, hn::LoadU(d, x + r * columns + j));
    hn::StoreU(s, d, sums + j);
  }
  for (; j < columns; ++j) {
    for (int64_t r = 0; r < rows; ++r) sums[j] += x[r * columns + j];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace residual
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace residual {

HWY_EXPORT(UnaryImpl);
HWY_EXPORT(UnaryBackwardImpl);
HWY_EXPORT(BinaryImpl);
HWY_EXPORT(BinaryScalarImpl);
HWY_EXPORT(SiluMulImpl);
HWY_EXPORT(SiluMulBackwardImpl);
HWY_EXPORT(AddRowsImpl);

void UnaryCpu(UnaryOp op, const float* x, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(UnaryImpl)(op, x, y, n);
}
void UnaryCpu(UnaryOp op, const double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = UnaryValue(op, x[i]);
}
void UnaryBackwardCpu(UnaryOp op, const float* x, const float* dy, float* dx, int64_t n) {
  HWY_DYNAMIC_DISPATCH(UnaryBackwardImpl)(op, x, dy, dx, n);
}
void BinaryCpu(BinaryOp op, const float* a, const float* b, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(BinaryImpl)(op, a, b, y, n);
}
void BinaryScalarCpu(BinaryOp op, const float* a, float b, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(BinaryScalarImpl)(op, a, b, y, n);
}
void SiluMulCpu(const float* a, const float* b, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(SiluMulImpl)(a, b, y, n);
}
void SiluMulBackwardCpu(const float* a, const float* b, const float* dy, float* da, float* db,
                        int64_t n) {
  HWY_DYNAMIC_DISPATCH(SiluMulBackwardImpl)(a, b, dy, da, db, n);
}
void AddRowsCpu(const float* x, int64_t rows, int64_t columns, float* sums) {
  HWY_DYNAMIC_DISPATCH(AddRowsImpl)(x, rows, columns, sums);
}

}  // namespace residual
#endif  // HWY_ONCE
