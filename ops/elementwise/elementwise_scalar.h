// Private: the functions of elementwise.h for one number, plainly. The float64 path of the CPU and
// the kernels of the GPU (f32 and f64) compute with these; the CPU's f32 kernels are vectors.

#ifndef RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_SCALAR_H_
#define RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_SCALAR_H_

#include <cmath>

#include "ops/elementwise/elementwise_kernels.h"
#include "tensor/core/device.h"

namespace residual {

// f(x). Written so that f32 loses nothing in the tails: erfc for 1 + erf, a logistic function for
// 1 + tanh.
template <class T>
RESIDUAL_HOST_DEVICE T UnaryValue(UnaryOp op, T x) {
  const T half = T(0.5);
  switch (op) {
    case UnaryOp::kExp:
      return std::exp(x);
    case UnaryOp::kLog:
      return std::log(x);
    case UnaryOp::kSqrt:
      return std::sqrt(x);
    case UnaryOp::kSquare:
      return x * x;
    case UnaryOp::kRelu:
      return x < 0 ? T(0) : x;
    case UnaryOp::kGelu:
      return half * x * std::erfc(-x * T(M_SQRT1_2));
    case UnaryOp::kGeluTanh: {
      const T twice = T(1.5957691216057308) * (x + T(0.044715) * x * x * x);  // 2 sqrt(2/pi) (..)
      return x / (1 + std::exp(-twice));
    }
    case UnaryOp::kSilu:
      return x / (1 + std::exp(-x));
    case UnaryOp::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case UnaryOp::kTanh:
      return std::tanh(x);
    case UnaryOp::kSoftplus:
      return x > 20 ? x : std::log1p(std::exp(x));
  }
  return 0;
}

// f'(x); for exp, whose result is kept for it, of y = f(x).
template <class T>
RESIDUAL_HOST_DEVICE T UnarySlope(UnaryOp op, T x) {
  const T half = T(0.5);
  switch (op) {
    case UnaryOp::kExp:
      return x;
    case UnaryOp::kLog:
      return 1 / x;
    case UnaryOp::kSqrt:
      return half / std::sqrt(x);
    case UnaryOp::kSquare:
      return 2 * x;
    case UnaryOp::kRelu:
      return x <= 0 ? T(0) : T(1);
    case UnaryOp::kGelu:  // the normal distribution and x times its density
      return half * std::erfc(-x * T(M_SQRT1_2)) +
             x * std::exp(-half * x * x) * T(0.3989422804014327);
    case UnaryOp::kGeluTanh: {
      const T c = T(0.7978845608028654);  // sqrt(2/pi)
      const T t = std::tanh(c * (x + T(0.044715) * x * x * x));
      return half * (1 + t) + half * x * (1 - t * t) * c * (1 + 3 * T(0.044715) * x * x);
    }
    case UnaryOp::kSilu: {
      const T s = 1 / (1 + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
    case UnaryOp::kSigmoid: {
      const T s = 1 / (1 + std::exp(-x));
      return s * (1 - s);
    }
    case UnaryOp::kTanh: {
      const T t = std::tanh(x);
      return 1 - t * t;
    }
    case UnaryOp::kSoftplus:
      return x > 20 ? T(1) : 1 / (1 + std::exp(-x));
  }
  return 0;
}

template <class T>
RESIDUAL_HOST_DEVICE T BinaryValue(BinaryOp op, T a, T b) {
  switch (op) {
    case BinaryOp::kAdd:
      return a + b;
    case BinaryOp::kSub:
      return a - b;
    case BinaryOp::kMul:
      return a * b;
    case BinaryOp::kDiv:
      return a / b;
  }
  return 0;
}

}  // namespace residual

#endif  // RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_SCALAR_H_
