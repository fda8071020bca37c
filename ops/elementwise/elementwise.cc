#include "ops/elementwise/elementwise.h"

#include <algorithm>
#include <initializer_list>
#include <type_traits>
#include <vector>

#include "ops/elementwise/elementwise_cuda.h"
#include "ops/elementwise/elementwise_kernels.h"
#include "ops/elementwise/elementwise_scalar.h"
#include "ops/layout/layout.h"
#include "ops/simd/convert.h"
#include "ops/simd/stream.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements: 64 KiB of f32, about 5 us of work

bool IsHalf(DType dtype) { return dtype == kBF16 || dtype == kF16; }

// The elements of an f32 tensor on any device.
const float* Floats(const Tensor& x) { return static_cast<const float*>(x.raw_data()); }
float* MutableFloats(Tensor& x) { return static_cast<float*>(x.mutable_raw_data()); }

// 16-bit floats: computed in f32, rounded once. Casts record themselves.
template <class F>
Tensor InF32(const Tensor& x, F f) {
  return Cast(f(Cast(x, kF32)), x.dtype());
}

// Runs an f32 kernel on n elements of 16-bit floats, a part at a time that stays in cache:
// kernel(inputs, output, n).
template <class Kernel>
void InF32Parts(DType dtype, std::initializer_list<const void*> inputs, void* output, int64_t n,
                Kernel kernel) {
  constexpr int64_t kPart = 1024;
  alignas(64) float wide[3][kPart];
  const float* const in[2] = {wide[0], wide[1]};
  for (int64_t begin = 0; begin < n; begin += kPart) {
    const int64_t count = std::min(kPart, n - begin);
    int which = 0;
    for (const void* input : inputs) {
      Widen(dtype, static_cast<const uint16_t*>(input) + begin, wide[which++], count);
    }
    kernel(in, wide[2], count);
    Round(dtype, wide[2], static_cast<uint16_t*>(output) + begin, count);
  }
}

Tensor UnaryBackward(UnaryOp op, const Tensor& x, const Tensor& dy) {
  Tensor dx = Tensor::Uninitialized(x.shape(), x.dtype(), x.device());
  if (x.device() == kCuda) {
    if constexpr (kBuiltWithCuda) {
      UnaryBackwardCuda(op, x.dtype(), x.raw_data(), dy.raw_data(), dx.mutable_raw_data(),
                        x.elements());
    }
    return dx;
  }
  const bool stream = PastCaches(dx.bytes());
  const char* in = static_cast<const char*>(x.raw_data());
  const char* grad = static_cast<const char*>(dy.raw_data());
  char* out = static_cast<char*>(dx.mutable_raw_data());
  ParallelFor(x.elements(), kGrain, [&](int64_t begin, int64_t end) {
    const int64_t n = end - begin, first = begin * SizeOf(x.dtype());
    if (x.dtype() == kF32) {
      UnaryBackwardCpu(op, reinterpret_cast<const float*>(in + first),
                       reinterpret_cast<const float*>(grad + first),
                       reinterpret_cast<float*>(out + first), n, stream);
    } else if (x.dtype() == kF64) {
      const double* u = reinterpret_cast<const double*>(in + first);
      const double* g = reinterpret_cast<const double*>(grad + first);
      double* to = reinterpret_cast<double*>(out + first);
      for (int64_t i = 0; i < n; ++i) to[i] = g[i] * UnarySlope(op, u[i]);
    } else {
      InF32Parts(x.dtype(), {in + first, grad + first}, out + first, n,
                 [op](const float* const* from, float* to, int64_t count) {
                   UnaryBackwardCpu(op, from[0], from[1], to, count);
                 });
    }
  });
  return dx;
}

Tensor Unary(const char* name, UnaryOp op, const Tensor& x) {
  RESIDUAL_CHECK_OP(name, IsFloat(x.dtype()), x);
  if (IsHalf(x.dtype()) && x.device() == kCuda) {
    return InF32(x, [&](const Tensor& wide) { return Unary(name, op, wide); });
  }
  Tensor y = Tensor::Uninitialized(x.shape(), x.dtype(), x.device());
  if (x.device() == kCuda) {
    if constexpr (kBuiltWithCuda) {
      UnaryCuda(op, x.dtype(), x.raw_data(), y.mutable_raw_data(), x.elements());
    }
  } else {
    const bool stream = PastCaches(y.bytes());
    const char* in = static_cast<const char*>(x.raw_data());
    char* out = static_cast<char*>(y.mutable_raw_data());
    ParallelFor(x.elements(), kGrain, [&](int64_t begin, int64_t end) {
      const int64_t n = end - begin, first = begin * SizeOf(x.dtype());
      if (x.dtype() == kF32) {
        UnaryCpu(op, reinterpret_cast<const float*>(in + first),
                 reinterpret_cast<float*>(out + first), n, stream);
      } else if (x.dtype() == kF64) {
        UnaryCpu(op, reinterpret_cast<const double*>(in + first),
                 reinterpret_cast<double*>(out + first), n);
      } else {
        InF32Parts(x.dtype(), {in + first}, out + first, n,
                   [op](const float* const* from, float* to, int64_t count) {
                     UnaryCpu(op, from[0], to, count);
                   });
      }
    });
  }
  if (Tape* tape = Tape::For({&x})) {  // dx = f'(x) dy, for exp y dy
    const bool is_exp = op == UnaryOp::kExp;
    tape->Record(name, {&x}, {&y}, [op, saved = is_exp ? y : x](auto dy, Needs) {
      return TensorList{UnaryBackward(op, saved, dy[0])};
    });
  }
  return y;
}

bool IsSuffix(const Shape& b, const Shape& a) {
  if (b.rank() > a.rank()) return false;
  const int64_t* size = a.end() - b.rank();
  for (int64_t wanted : b) {  // std::equal calls memcmp, which takes longer
    if (*size++ != wanted) return false;
  }
  return true;
}

// y = a op b without recording; b is a's shape, a suffix or one element.
Tensor BinaryForward(BinaryOp op, const Tensor& a, const Tensor& b) {
  Tensor y = Tensor::Uninitialized(a.shape(), a.dtype(), a.device());
  const int64_t width = b.elements(), n = a.elements();
  if (n == 0) return y;
  if (a.device() == kCuda) {
    if constexpr (kBuiltWithCuda) {
      BinaryCuda(op, a.dtype(), a.raw_data(), b.raw_data(), width, y.mutable_raw_data(), n);
    }
    return y;
  }
  // Chunks are whole rows, or parts of the one row there is.
  const int64_t grain = width == 1 || width == n ? kGrain : std::max<int64_t>(1, kGrain / width);
  const int64_t rows = width == 1 || width == n ? n : n / width;
  if (a.dtype() == kF32) {
    const float *u = a.data<float>(), *v = b.data<float>();
    float* out = y.mutable_data<float>();
    const bool stream = PastCaches(y.bytes());
    ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      if (width == n) {
        BinaryCpu(op, u + begin, v + begin, out + begin, end - begin, stream);
      } else if (width == 1) {
        BinaryScalarCpu(op, u + begin, v[0], out + begin, end - begin, stream);
      } else {
        for (int64_t r = begin; r < end; ++r) {
          BinaryCpu(op, u + r * width, v, out + r * width, width, stream);
        }
      }
    });
  } else if (IsHalf(a.dtype())) {
    const uint16_t* u = static_cast<const uint16_t*>(a.raw_data());
    const uint16_t* v = static_cast<const uint16_t*>(b.raw_data());
    uint16_t* out = static_cast<uint16_t*>(y.mutable_raw_data());
    const float scalar = width == 1 ? static_cast<float>(b.Item()) : 0;
    const auto run = [&](const uint16_t* from, const uint16_t* with, uint16_t* to, int64_t count) {
      InF32Parts(a.dtype(), {from, with}, to, count,
                 [op](const float* const* in, float* result, int64_t part) {
                   BinaryCpu(op, in[0], in[1], result, part);
                 });
    };
    ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
      if (width == n) {
        run(u + begin, v + begin, out + begin, end - begin);
      } else if (width == 1) {
        InF32Parts(a.dtype(), {u + begin}, out + begin, end - begin,
                   [&](const float* const* in, float* result, int64_t part) {
                     BinaryScalarCpu(op, in[0], scalar, result, part);
                   });
      } else {
        for (int64_t r = begin; r < end; ++r) run(u + r * width, v, out + r * width, width);
      }
    });
  } else {
    const double *u = a.data<double>(), *v = b.data<double>();
    double* out = y.mutable_data<double>();
    for (int64_t i = 0; i < n; ++i) out[i] = BinaryValue(op, u[i], v[width == n ? i : i % width]);
  }
  return y;
}

// Sums [rows, shape] over the rows. Chunks of rows are summed one after the other and then
// together, in order: the same bits for any number of threads.
Tensor SumRows(const Tensor& x, const Shape& shape) {
  const int64_t width = shape.elements();
  if (x.elements() == width) return x.Reshaped(shape);
  if (x.device() == kCuda) {
    Tensor sum = Tensor::Uninitialized(shape, x.dtype(), kCuda);
    if constexpr (kBuiltWithCuda) {
      const int64_t rows = width == 0 ? 0 : x.elements() / width;
      Tensor partial = Tensor::Uninitialized({SumRowsChunks(rows), width}, kF64, kCuda);
      SumRowsCuda(x.dtype(), x.raw_data(), rows, width,
                  static_cast<double*>(partial.mutable_raw_data()), sum.mutable_raw_data());
    }
    return sum;
  }
  Tensor sum = Tensor::Zeros(shape, x.dtype());
  if (x.elements() == 0) return sum;
  const int64_t rows = x.elements() / width;
  if (x.dtype() == kF64 || width == 1) {
    std::vector<double> totals(width);
    const std::vector<double> values = x.ToDoubles();
    for (int64_t i = 0; i < x.elements(); ++i) totals[i % width] += values[i];
    VisitDType(x.dtype(), [&](auto tag) {
      using T = decltype(tag);
      T* out = sum.mutable_data<T>();
      for (int64_t j = 0; j < width; ++j) out[j] = FromDouble<T>(totals[j]);
    });
    return sum;
  }
  const int64_t grain = std::max<int64_t>(1, 2 * kGrain / width), chunks = NumChunks(rows, grain);
  Tensor partial = Tensor::Zeros({chunks, width});
  const float* in = x.data<float>();
  float* parts = partial.mutable_data<float>();
  ParallelFor(rows, grain, [&](int64_t begin, int64_t end) {
    AddRowsCpu(in + begin * width, end - begin, width, parts + begin / grain * width);
  });
  AddRowsCpu(parts, chunks, width, sum.mutable_data<float>());
  return sum;
}

// Of y = a op b. a and b are defined where they are needed, y for a quotient. 16-bit floats in f32.
TensorList BinaryGradients(BinaryOp op, const Shape& shape_of_b, const Tensor& a, const Tensor& b,
                           const Tensor& y, const Tensor& g, Needs needs) {
  if (IsHalf(g.dtype())) {
    const auto wide = [](const Tensor& x) { return x.defined() ? ConvertTo(x, kF32) : x; };
    TensorList grads = BinaryGradients(op, shape_of_b, wide(a), wide(b), wide(y), wide(g), needs);
    for (Tensor& grad : grads) {
      if (grad.defined()) grad = ConvertTo(grad, g.dtype());
    }
    return grads;
  }
  TensorList dx(2);
  switch (op) {
    case BinaryOp::kAdd:
      if (needs[0]) dx[0] = g;
      if (needs[1]) dx[1] = SumRows(g, shape_of_b);
      break;
    case BinaryOp::kSub:
      if (needs[0]) dx[0] = g;
      if (needs[1]) dx[1] = Scale(SumRows(g, shape_of_b), -1);
      break;
    case BinaryOp::kMul:  // da = g b, db = g a
      if (needs[0]) dx[0] = BinaryForward(op, g, b);
      if (needs[1]) dx[1] = SumRows(BinaryForward(op, g, a), shape_of_b);
      break;
    case BinaryOp::kDiv:  // da = g / b, db = -g y / b
      if (needs[0]) dx[0] = BinaryForward(op, g, b);
      if (needs[1]) {
        const Tensor product = BinaryForward(BinaryOp::kMul, g, y);
        dx[1] = Scale(SumRows(BinaryForward(op, product, b), shape_of_b), -1);
      }
      break;
  }
  return dx;
}

Tensor Binary(const char* name, BinaryOp op, const Tensor& a, const Tensor& b) {
  RESIDUAL_CHECK_OP(name, IsFloat(a.dtype()) && a.dtype() == b.dtype(), a, b);
  RESIDUAL_CHECK_OP(name, a.device() == b.device(), a, b);
  RESIDUAL_CHECK_OP(name, b.elements() == 1 || IsSuffix(b.shape(), a.shape()), a, b);
  if (IsHalf(a.dtype()) && a.device() == kCuda) {
    return Cast(Binary(name, op, Cast(a, kF32), Cast(b, kF32)), a.dtype());
  }
  Tensor y = BinaryForward(op, a, b);
  if (Tape* tape = Tape::For({&a, &b})) {
    const bool keep = op == BinaryOp::kMul || op == BinaryOp::kDiv;
    tape->Record(name, {&a, &b}, {&y},
                 [op, shape = b.shape(), a = keep ? a : Tensor(), b = keep ? b : Tensor(),
                  y = op == BinaryOp::kDiv ? y : Tensor()](auto dy, Needs needs) {
                   return BinaryGradients(op, shape, a, b, y, dy[0], needs);
                 });
  }
  return y;
}

Tensor WithConstant(const char* name, BinaryOp op, const Tensor& x, double s) {
  RESIDUAL_CHECK_OP(name, IsFloat(x.dtype()), x);
  if (IsHalf(x.dtype())) {
    return InF32(x, [&](const Tensor& wide) { return WithConstant(name, op, wide, s); });
  }
  Tensor y;
  if (x.device() == kCpu) {
    y = BinaryForward(op, x, Tensor::Full({}, s, x.dtype()));
  } else if constexpr (kBuiltWithCuda) {
    y = Tensor::Uninitialized(x.shape(), x.dtype(), kCuda);
    BinaryScalarCuda(op, x.dtype(), x.raw_data(), s, y.mutable_raw_data(), x.elements());
  }
  if (Tape* tape = Tape::For({&x})) {
    tape->Record(name, {&x}, {&y}, [op, s](auto dy, Needs) {
      return TensorList{op == BinaryOp::kMul ? Scale(dy[0], s) : dy[0]};
    });
  }
  return y;
}

// relu, sigmoid and tanh: f'(x) from y = f(x).
Tensor SlopeFromOutput(Activation activation, const Tensor& y, const Tensor& dy) {
  if (activation == Activation::kRelu) return UnaryBackward(UnaryOp::kRelu, y, dy);
  // sigmoid: dy (y - y^2); tanh: dy (1 - y^2)
  const bool sigmoid = activation == Activation::kSigmoid;
  Tensor dx = Tensor::Uninitialized(y.shape(), y.dtype());
  VisitDType(y.dtype(), [&](auto tag) {
    using T = decltype(tag);
    if constexpr (std::is_floating_point_v<T>) {
      const T *out = y.data<T>(), *grad = dy.data<T>();
      T* to = dx.mutable_data<T>();
      ParallelFor(y.elements(), kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          to[i] = grad[i] * ((sigmoid ? out[i] : T{1}) - out[i] * out[i]);
        }
      });
    }
  });
  return dx;
}

}  // namespace

UnaryOp UnaryOpOf(Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return UnaryOp::kRelu;
    case Activation::kGelu:
      return UnaryOp::kGelu;
    case Activation::kGeluTanh:
      return UnaryOp::kGeluTanh;
    case Activation::kSilu:
      return UnaryOp::kSilu;
    case Activation::kSigmoid:
      return UnaryOp::kSigmoid;
    case Activation::kTanh:
      return UnaryOp::kTanh;
    case Activation::kSoftplus:
      return UnaryOp::kSoftplus;
    case Activation::kNone:
      break;
  }
  RESIDUAL_CHECK(false) << "not an activation: " << static_cast<int>(activation);
  return UnaryOp::kRelu;
}

bool GradientNeedsOnlyOutput(Activation activation) {
  return activation == Activation::kRelu || activation == Activation::kSigmoid ||
         activation == Activation::kTanh;
}

Tensor ActivationGradient(Activation activation, const Tensor& saved, const Tensor& dy) {
  if (activation == Activation::kNone) return dy;
  if (IsHalf(saved.dtype())) {
    return ConvertTo(ActivationGradient(activation, ConvertTo(saved, kF32), ConvertTo(dy, kF32)),
                     saved.dtype());
  }
  return GradientNeedsOnlyOutput(activation) ? SlopeFromOutput(activation, saved, dy)
                                             : UnaryBackward(UnaryOpOf(activation), saved, dy);
}

Tensor Add(const Tensor& a, const Tensor& b) { return Binary("add", BinaryOp::kAdd, a, b); }
Tensor Sub(const Tensor& a, const Tensor& b) { return Binary("sub", BinaryOp::kSub, a, b); }
Tensor Mul(const Tensor& a, const Tensor& b) { return Binary("mul", BinaryOp::kMul, a, b); }
Tensor Div(const Tensor& a, const Tensor& b) { return Binary("div", BinaryOp::kDiv, a, b); }

Tensor Scale(const Tensor& x, double s) { return WithConstant("scale", BinaryOp::kMul, x, s); }
Tensor AddScalar(const Tensor& x, double s) {
  return WithConstant("add_scalar", BinaryOp::kAdd, x, s);
}

Tensor Exp(const Tensor& x) { return Unary("exp", UnaryOp::kExp, x); }
Tensor Log(const Tensor& x) { return Unary("log", UnaryOp::kLog, x); }
Tensor Sqrt(const Tensor& x) { return Unary("sqrt", UnaryOp::kSqrt, x); }
Tensor Square(const Tensor& x) { return Unary("square", UnaryOp::kSquare, x); }
Tensor Relu(const Tensor& x) { return Activate(x, Activation::kRelu); }
Tensor Gelu(const Tensor& x) { return Activate(x, Activation::kGelu); }
Tensor GeluTanh(const Tensor& x) { return Activate(x, Activation::kGeluTanh); }
Tensor Silu(const Tensor& x) { return Activate(x, Activation::kSilu); }
Tensor Sigmoid(const Tensor& x) { return Activate(x, Activation::kSigmoid); }
Tensor Tanh(const Tensor& x) { return Activate(x, Activation::kTanh); }
Tensor Softplus(const Tensor& x) { return Activate(x, Activation::kSoftplus); }

Tensor Activate(const Tensor& x, Activation activation) {
  static const char* const kNames[] = {"none", "relu",    "gelu", "gelu_tanh",
                                       "silu", "sigmoid", "tanh", "softplus"};
  if (activation == Activation::kNone) return x;
  return Unary(kNames[static_cast<int>(activation)], UnaryOpOf(activation), x);
}

Tensor SiluMul(const Tensor& a, const Tensor& b) {
  RESIDUAL_CHECK_OP("silu_mul",
                    IsFloat(a.dtype()) && a.dtype() == b.dtype() && a.shape() == b.shape(), a, b);
  RESIDUAL_CHECK_OP("silu_mul", a.device() == b.device(), a, b);
  if (IsHalf(a.dtype())) return Cast(SiluMul(Cast(a, kF32), Cast(b, kF32)), a.dtype());
  if (a.dtype() == kF64) return Mul(Silu(a), b);
  Tensor y = Tensor::Uninitialized(a.shape(), kF32, a.device());
  if (a.device() == kCpu) {
    const float *u = a.data<float>(), *v = b.data<float>();
    float* out = y.mutable_data<float>();
    const bool stream = PastCaches(y.bytes());
    ParallelFor(a.elements(), kGrain, [&](int64_t begin, int64_t end) {
      SiluMulCpu(u + begin, v + begin, out + begin, end - begin, stream);
    });
  } else if constexpr (kBuiltWithCuda) {
    SiluMulCuda(Floats(a), Floats(b), MutableFloats(y), a.elements());
  }
  if (Tape* tape = Tape::For({&a, &b})) {
    tape->Record("silu_mul", {&a, &b}, {&y}, [a, b](auto dy, Needs) {
      Tensor da = Tensor::Uninitialized(a.shape(), kF32, a.device());
      Tensor db = Tensor::Uninitialized(a.shape(), kF32, a.device());
      const float *u = Floats(a), *v = Floats(b), *g = Floats(dy[0]);
      float *du = MutableFloats(da), *dv = MutableFloats(db);
      if (a.device() == kCpu) {
        ParallelFor(a.elements(), kGrain, [&](int64_t begin, int64_t end) {
          SiluMulBackwardCpu(u + begin, v + begin, g + begin, du + begin, dv + begin, end - begin);
        });
      } else if constexpr (kBuiltWithCuda) {
        SiluMulBackwardCuda(u, v, g, du, dv, a.elements());
      }
      return TensorList{da, db};
    });
  }
  return y;
}

}  // namespace residual
