// Elementwise arithmetic and activations. Shapes any, dtypes f32, f64, bf16, f16 (16-bit floats are
// computed in f32 and rounded once). NaN gives NaN; infinities what the scalar formula gives. On
// the CPU or a GPU: all operands on one device, the result there too.

#ifndef RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_H_
#define RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_H_

#include "tensor/core/tensor.h"

namespace residual {

// a op b. b has a's shape, or is a suffix of it (a bias: [.., n] op [n]), or has one element.
// Returns a's shape; both operands have one dtype. The gradient of b is summed over what it was
// repeated over, in a fixed order.
Tensor Add(const Tensor& a, const Tensor& b);
Tensor Sub(const Tensor& a, const Tensor& b);
Tensor Mul(const Tensor& a, const Tensor& b);
Tensor Div(const Tensor& a, const Tensor& b);

// s * x and x + s, the constant rounded to x's dtype.
Tensor Scale(const Tensor& x, double s);
Tensor AddScalar(const Tensor& x, double s);

Tensor Exp(const Tensor& x);
Tensor Log(const Tensor& x);  // of 0: -inf; of a negative number: NaN
Tensor Sqrt(const Tensor& x);
Tensor Square(const Tensor& x);

// The activations:
//   relu      max(x, 0)                               gradient 0 at 0
//   gelu      x (1 + erf(x / sqrt 2)) / 2             Hendrycks and Gimpel 2016, exact
//   gelu_tanh x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2         ibid., "gelu_new"
//   silu      x / (1 + e^-x)
//   softplus  log(1 + e^x); x itself above 20, as PyTorch
enum class Activation { kNone, kRelu, kGelu, kGeluTanh, kSilu, kSigmoid, kTanh, kSoftplus };
Tensor Activate(const Tensor& x, Activation activation);
// For ops that fuse an activation: its gradient f'(x) dy, not recorded. `saved` is f(x) where that
// is enough (relu, sigmoid, tanh), else x.
bool GradientNeedsOnlyOutput(Activation activation);
Tensor ActivationGradient(Activation activation, const Tensor& saved, const Tensor& dy);
Tensor Relu(const Tensor& x);
Tensor Gelu(const Tensor& x);
Tensor GeluTanh(const Tensor& x);
Tensor Silu(const Tensor& x);
Tensor Sigmoid(const Tensor& x);
Tensor Tanh(const Tensor& x);
Tensor Softplus(const Tensor& x);

// silu(a) * b, of one shape (SwiGLU, Shazeer 2020).
Tensor SiluMul(const Tensor& a, const Tensor& b);

}  // namespace residual

#endif  // RESIDUAL_OPS_ELEMENTWISE_ELEMENTWISE_H_
