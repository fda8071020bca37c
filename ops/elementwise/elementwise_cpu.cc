#include "ops/elementwise/elementwise_kernels.h"
#include "ops/elementwise/elementwise_scalar.h"
#include "ops/elementwise/gelu_table.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/elementwise/elementwise_cpu.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h:
#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "ops/simd/activation-inl.h"
#include "ops/simd/reduce-inl.h"
#include "ops/simd/stream-inl.h"
#include "ops/simd/vec_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace residual {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// Applies f to vectors of one or two inputs. The rest of fewer lanes than a vector is padded with
// ones, which every function here takes. Four vectors at a time, whose chains of dependent
// instructions the compiler interleaves: exp of 16 numbers takes a Zen 4 13 cycles instead of 19.
// One input is fetched ahead: exp of 24 MiB on one core takes 1.0 ms instead of 1.25. Two are not:
// with prefetches a backward pass of gelu takes 1.75 ms instead of 1.55. One loop for both, over a
// function of the index, is a third slower for silu, which GCC then interleaves no longer.
template <class F>
HWY_INLINE void Map1(const float* x, float* y, int64_t count, bool stream, F f) {
  const D d;
  const size_t lanes = hn::Lanes(d), n = static_cast<size_t>(count);
  size_t i = 0;
  const auto four = [&](auto store) HWY_ATTR {
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
      for (size_t k = 0; k < 4; ++k) hwy::Prefetch(x + i + 512 + k * lanes);
      const V y0 = f(d, hn::LoadU(d, x + i)), y1 = f(d, hn::LoadU(d, x + i + lanes));
      const V y2 = f(d, hn::LoadU(d, x + i + 2 * lanes));
      const V y3 = f(d, hn::LoadU(d, x + i + 3 * lanes));
      store(y0, y + i);
      store(y1, y + i + lanes);
      store(y2, y + i + 2 * lanes);
      store(y3, y + i + 3 * lanes);
    }
  };
  if (StreamsWhole(y, stream)) {
    four([](V v, float* to) HWY_ATTR { hn::Stream(v, D(), to); });
    hwy::FlushStream();
  } else {
    four([](V v, float* to) HWY_ATTR { hn::StoreU(v, D(), to); });
  }
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(d, hn::LoadU(d, x + i)), d, y + i);
  if (i < n) {
    const int64_t part = static_cast<int64_t>(n - i);
    StorePart(d, f(d, LoadPart(d, x + i, part, 1)), y + i, part);
  }
}

template <class F>
HWY_INLINE void Map2(const float* a, const float* b, float* y, int64_t count, bool stream, F f) {
  const D d;
  const size_t lanes = hn::Lanes(d), n = static_cast<size_t>(count);
  size_t i = 0;
  const auto at = [&](size_t j) HWY_ATTR { return f(d, hn::LoadU(d, a + j), hn::LoadU(d, b + j)); };
  const auto four = [&](auto store) HWY_ATTR {
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
      const V y0 = at(i), y1 = at(i + lanes), y2 = at(i + 2 * lanes), y3 = at(i + 3 * lanes);
      store(y0, y + i);
      store(y1, y + i + lanes);
      store(y2, y + i + 2 * lanes);
      store(y3, y + i + 3 * lanes);
    }
  };
  if (StreamsWhole(y, stream)) {
    four([](V v, float* to) HWY_ATTR { hn::Stream(v, D(), to); });
    hwy::FlushStream();
  } else {
    four([](V v, float* to) HWY_ATTR { hn::StoreU(v, D(), to); });
  }
  for (; i + lanes <= n; i += lanes) hn::StoreU(at(i), d, y + i);
  if (i < n) {
    const int64_t part = static_cast<int64_t>(n - i);
    const V y0 = f(d, LoadPart(d, a + i, part, 1), LoadPart(d, b + i, part, 1));
    StorePart(d, y0, y + i, part);
  }
}

// The functions, and their derivatives as (d, x, dy) -> dx.

#if HWY_TARGET <= HWY_AVX3

// A GeluTable in registers: read through a pointer, it would be loaded again after every store.
struct TableVectors {
  explicit HWY_INLINE TableVectors(const GeluTable& table)
      : c0(hn::Load(D(), table.coefficients[0])),
        c1(hn::Load(D(), table.coefficients[1])),
        c2(hn::Load(D(), table.coefficients[2])),
        c3(hn::Load(D(), table.coefficients[3])),
        c4(hn::Load(D(), table.coefficients[4])),
        c5(hn::Load(D(), table.coefficients[5])),
        per_width(hn::Set(D(), table.per_width)),
        last(hn::Set(D(), table.last)) {
    static_assert(GeluTable::kDegree == 5, "six coefficients");
  }

  // The odd function of the table at x >= 0.
  HWY_INLINE V At(V x) const {
    const D d;
    const V magic = hn::Set(d, 12582912.0f);
    x = hn::Min(x, last);
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits, of which a look-up
    // takes four.
    const V shifted = hn::MulAdd(x, per_width, magic);
    const V u = hn::MulSub(x, per_width, hn::Sub(shifted, magic));
    const auto look_up = [&](V c) HWY_ATTR {
      return V{_mm512_permutexvar_ps(_mm512_castps_si512(shifted.raw), c.raw)};
    };
    V p = hn::MulAdd(look_up(c5), u, look_up(c4));
    p = hn::MulAdd(p, u, look_up(c3));
    p = hn::MulAdd(p, u, look_up(c2));
    p = hn::MulAdd(p, u, look_up(c1));
    return hn::MulAdd(p, u, look_up(c0));
  }

  V c0, c1, c2, c3, c4, c5, per_width, last;
};

void GeluOfAll(const float* x, float* y, int64_t n, bool stream, bool tanh) {
  const TableVectors table(GeluTableOf(tanh));
  Map1(x, y, n, stream, [table](D d, V v) HWY_ATTR {
    const V magnitude = hn::Abs(v);
    return hn::MulAdd(magnitude, table.At(magnitude), hn::Mul(v, hn::Set(d, 0.5f)));
  });
}

void GeluSlopeOfAll(const float* x, const float* dy, float* dx, int64_t n, bool stream, bool tanh) {
  const TableVectors table(GeluSlopeTableOf(tanh));
  Map2(x, dy, dx, n, stream, [table](D d, V v, V g) HWY_ATTR {
    const V slope = hn::Add(hn::Set(d, 0.5f), hn::CopySign(table.At(hn::Abs(v)), v));
    return hn::Mul(g, hn::IfThenElse(hn::IsNaN(v), v, slope));
  });
}

#else  // no table fits a register

HWY_INLINE V GeluTanhArgument(D d, V x) {  // 2 sqrt(2/pi) (x + 0.044715 x^3)
  const V square = hn::Mul(x, x);
  return hn::Mul(x,
                 hn::MulAdd(square, hn::Set(d, 0.0713548162726f), hn::Set(d, 1.59576912160573f)));
}

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

// (1 + tanh(u / 2)) / 2 = sigmoid(u), so gelu_tanh is x sigmoid(u): one exp and one division.
HWY_INLINE V GeluTanhOf(D d, V x) {
  return hn::Div(x, OnePlusExpOfNegative(d, GeluTanhArgument(d, x)));
}

void GeluOfAll(const float* x, float* y, int64_t n, bool stream, bool tanh) {
  if (tanh) {
    Map1(x, y, n, stream, [](D d, V v) HWY_ATTR { return GeluTanhOf(d, v); });
  } else {
    Map1(x, y, n, stream, [](D d, V v) HWY_ATTR { return GeluOf(d, v); });
  }
}

void GeluSlopeOfAll(const float* x, const float* dy, float* dx, int64_t n, bool stream, bool tanh) {
  if (tanh) {
    Map2(x, dy, dx, n, stream,
         [](D d, V v, V g) HWY_ATTR { return hn::Mul(g, GeluTanhSlope(d, v)); });
  } else {
    Map2(x, dy, dx, n, stream, [](D d, V v, V g) HWY_ATTR { return hn::Mul(g, GeluSlope(d, v)); });
  }
}

#endif

void UnaryImpl(UnaryOp op, const float* x, float* y, int64_t n, bool stream) {
  switch (op) {
    case UnaryOp::kExp:
      return Map1(x, y, n, stream, [](D d, V v) HWY_ATTR { return VecExp(d, v); });
    case UnaryOp::kLog:
      return Map1(x, y, n, stream, [](D d, V v) HWY_ATTR {
        const V zero = hn::Zero(d), inf = hn::Inf(d);
        V y = hn::Log(d, v);
        y = hn::IfThenElse(hn::Eq(v, zero), hn::Neg(inf), y);
        y = hn::IfThenElse(hn::Lt(v, zero), hn::NaN(d), y);
        return hn::IfThenElse(hn::Or(hn::IsNaN(v), hn::Eq(v, inf)), v, y);
      });
    case UnaryOp::kSqrt:
      return Map1(x, y, n, stream, [](D, V v) HWY_ATTR { return hn::Sqrt(v); });
    case UnaryOp::kSquare:
      return Map1(x, y, n, stream, [](D, V v) HWY_ATTR { return hn::Mul(v, v); });
    case UnaryOp::kRelu:
      return Map1(x, y, n, stream, [](D d, V v) HWY_ATTR {
        return hn::IfThenElse(hn::Lt(v, hn::Zero(d)), hn::Zero(d), v);
      });
    case UnaryOp::kGelu:
      return GeluOfAll(x, y, n, stream, false);
    case UnaryOp::kGeluTanh:
      return GeluOfAll(x, y, n, stream, true);
    case UnaryOp::kSilu:
      return Map1(x, y, n, stream, [](D d, V v) HWY_ATTR { return VecSilu(d, v); });
    case UnaryOp::kSigmoid:
      return Map1(x, y, n, stream, [](D d, V v) HWY_ATTR { return VecSigmoid(d, v); });
    case UnaryOp::kTanh:
      return Map1(x, y, n, stream, [](D d, V v) HWY_ATTR { return VecTanh(d, v); });
    case UnaryOp::kSoftplus:
      return Map1(x, y, n, stream, [](D d, V v) HWY_ATTR { return VecSoftplus(d, v); });
  }
}

void UnaryBackwardImpl(UnaryOp op, const float* x, const float* dy, float* dx, int64_t n,
                       bool stream) {
  switch (op) {
    case UnaryOp::kExp:
      return Map2(x, dy, dx, n, stream, [](D, V y, V g) HWY_ATTR { return hn::Mul(g, y); });
    case UnaryOp::kLog:
      return Map2(x, dy, dx, n, stream, [](D, V v, V g) HWY_ATTR { return hn::Div(g, v); });
    case UnaryOp::kSqrt:
      return Map2(x, dy, dx, n, stream, [](D d, V v, V g) HWY_ATTR {
        return hn::Mul(g, hn::Div(hn::Set(d, 0.5f), hn::Sqrt(v)));
      });
    case UnaryOp::kSquare:
      return Map2(x, dy, dx, n, stream,
                  [](D, V v, V g) HWY_ATTR { return hn::Mul(g, hn::Add(v, v)); });
    case UnaryOp::kRelu:
      return Map2(x, dy, dx, n, stream, [](D d, V v, V g) HWY_ATTR {
        return hn::IfThenElse(hn::Le(v, hn::Zero(d)), hn::Zero(d), g);
      });
    case UnaryOp::kGelu:
      return GeluSlopeOfAll(x, dy, dx, n, stream, false);
    case UnaryOp::kGeluTanh:
      return GeluSlopeOfAll(x, dy, dx, n, stream, true);
    case UnaryOp::kSilu:
      return Map2(x, dy, dx, n, stream,
                  [](D d, V v, V g) HWY_ATTR { return hn::Mul(g, VecSiluSlope(d, v)); });
    case UnaryOp::kSigmoid:
      return Map2(x, dy, dx, n, stream, [](D d, V v, V g) HWY_ATTR {
        const V s = VecSigmoid(d, v);
        return hn::Mul(g, hn::Mul(s, hn::Sub(hn::Set(d, 1.0f), s)));
      });
    case UnaryOp::kTanh:
      return Map2(x, dy, dx, n, stream, [](D d, V v, V g) HWY_ATTR {
        const V t = VecTanh(d, v);
        return hn::Mul(g, hn::NegMulAdd(t, t, hn::Set(d, 1.0f)));
      });
    case UnaryOp::kSoftplus:
      return Map2(x, dy, dx, n, stream, [](D d, V v, V g) HWY_ATTR {
        return hn::IfThenElse(hn::Gt(v, hn::Set(d, 20.0f)), g, hn::Mul(g, VecSigmoid(d, v)));
      });
  }
}

void BinaryImpl(BinaryOp op, const float* a, const float* b, float* y, int64_t n, bool stream) {
  switch (op) {
    case BinaryOp::kAdd:
      return Map2(a, b, y, n, stream, [](D, V u, V v) HWY_ATTR { return hn::Add(u, v); });
    case BinaryOp::kSub:
      return Map2(a, b, y, n, stream, [](D, V u, V v) HWY_ATTR { return hn::Sub(u, v); });
    case BinaryOp::kMul:
      return Map2(a, b, y, n, stream, [](D, V u, V v) HWY_ATTR { return hn::Mul(u, v); });
    case BinaryOp::kDiv:
      return Map2(a, b, y, n, stream, [](D, V u, V v) HWY_ATTR { return hn::Div(u, v); });
  }
}

void BinaryScalarImpl(BinaryOp op, const float* a, float b, float* y, int64_t n, bool stream) {
  const V v = hn::Set(D(), b);
  switch (op) {
    case BinaryOp::kAdd:
      return Map1(a, y, n, stream, [v](D, V u) HWY_ATTR { return hn::Add(u, v); });
    case BinaryOp::kSub:
      return Map1(a, y, n, stream, [v](D, V u) HWY_ATTR { return hn::Sub(u, v); });
    case BinaryOp::kMul:
      return Map1(a, y, n, stream, [v](D, V u) HWY_ATTR { return hn::Mul(u, v); });
    case BinaryOp::kDiv:
      return Map1(a, y, n, stream, [v](D, V u) HWY_ATTR { return hn::Div(u, v); });
  }
}

void SiluMulImpl(const float* a, const float* b, float* y, int64_t n, bool stream) {
  Map2(a, b, y, n, stream, [](D d, V u, V v) HWY_ATTR { return hn::Mul(VecSilu(d, u), v); });
}

void SiluMulBackwardImpl(const float* a, const float* b, const float* dy, float* da, float* db,
                         int64_t n) {
  const D d;
  const size_t lanes = hn::Lanes(d), count = static_cast<size_t>(n);
  const auto gradients = [&](V u, V v, V g, V& du, V& dv) HWY_ATTR {
    const V one = hn::Set(d, 1.0f), s = VecSigmoid(d, u);
    dv = hn::Mul(g, hn::Mul(u, s));
    du = hn::Mul(hn::Mul(g, v), hn::Mul(s, hn::MulAdd(u, hn::Sub(one, s), one)));
  };
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    V du, dv;
    gradients(hn::LoadU(d, a + i), hn::LoadU(d, b + i), hn::LoadU(d, dy + i), du, dv);
    hn::StoreU(du, d, da + i);
    hn::StoreU(dv, d, db + i);
  }
  if (i < count) {
    HWY_ALIGN float in[3][HWY_MAX_BYTES / 4] = {}, out[2][HWY_MAX_BYTES / 4];
    for (size_t j = i; j < count; ++j) {
      in[0][j - i] = a[j];
      in[1][j - i] = b[j];
      in[2][j - i] = dy[j];
    }
    V du, dv;
    gradients(hn::Load(d, in[0]), hn::Load(d, in[1]), hn::Load(d, in[2]), du, dv);
    hn::Store(du, d, out[0]);
    hn::Store(dv, d, out[1]);
    for (size_t j = i; j < count; ++j) {
      da[j] = out[0][j - i];
      db[j] = out[1][j - i];
    }
  }
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

void UnaryCpu(UnaryOp op, const float* x, float* y, int64_t n, bool stream) {
  HWY_DYNAMIC_DISPATCH(UnaryImpl)(op, x, y, n, stream);
}
void UnaryCpu(UnaryOp op, const double* x, double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = UnaryValue(op, x[i]);
}
void UnaryBackwardCpu(UnaryOp op, const float* x, const float* dy, float* dx, int64_t n,
                      bool stream) {
  HWY_DYNAMIC_DISPATCH(UnaryBackwardImpl)(op, x, dy, dx, n, stream);
}
void BinaryCpu(BinaryOp op, const float* a, const float* b, float* y, int64_t n, bool stream) {
  HWY_DYNAMIC_DISPATCH(BinaryImpl)(op, a, b, y, n, stream);
}
void BinaryScalarCpu(BinaryOp op, const float* a, float b, float* y, int64_t n, bool stream) {
  HWY_DYNAMIC_DISPATCH(BinaryScalarImpl)(op, a, b, y, n, stream);
}
void SiluMulCpu(const float* a, const float* b, float* y, int64_t n, bool stream) {
  HWY_DYNAMIC_DISPATCH(SiluMulImpl)(a, b, y, n, stream);
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
