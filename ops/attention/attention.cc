#include "ops/attention/attention.h"

#include <cmath>
#include <utility>

#include "ops/attention/attention_options.h"
#include "ops/attention/attention_plain.h"
#include "ops/flash/flash.h"
#include "tensor/autograd/tape.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using attention_internal::CheckQueryAndKey;
using attention_internal::Masks;
using flash_internal::Problem;

// What the backward pass needs.
struct Saved {
  Tensor q, k, v, z;
  Masks masks;
  AttentionOptions options;
  // [batch, n_heads, query]. f64: row_max is the log-sum-exp; else see ForwardArgs.
  Tensor row_max, row_scale;

  Problem MakeProblem() const { return attention_internal::MakeProblem(q, k, masks, options); }
};

template <class T>
T* MutableOrNull(Tensor& x) {
  return x.defined() ? x.mutable_data<T>() : nullptr;
}

// bf16 and f16 as f32; the others as they are.
Tensor Widened(const Tensor& x) {
  return !x.defined() || x.dtype() == kF64 ? x : ConvertTo(x, kF32);
}

Saved Widened(const Saved& s) {
  Saved wide = s;
  wide.q = Widened(s.q);
  wide.k = Widened(s.k);
  wide.v = Widened(s.v);
  wide.z = Widened(s.z);
  wide.masks.bias = Widened(s.masks.bias);
  return wide;
}

template <class T>
flash_internal::ForwardArgs<T> MakeArgs(const Problem& p, Saved& s) {
  return {p,
          s.q.data<T>(),
          s.k.data<T>(),
          s.v.data<T>(),
          s.z.mutable_data<T>(),
          MutableOrNull<float>(s.row_max),
          MutableOrNull<float>(s.row_scale)};
}

// No size is 0. Fills in z, and what is saved of rows if `record`.
void Forward(Saved& s, bool record) {
  const Problem p = s.MakeProblem();
  const DType dtype = s.q.dtype();
  s.z = Tensor::Uninitialized(s.q.shape(), dtype);
  if (record) {
    const Shape rows{p.batch, p.n_heads, p.query};
    s.row_max = Tensor::Uninitialized(rows, dtype == kF64 ? kF64 : kF32);
    if (dtype != kF64) s.row_scale = Tensor::Uninitialized(rows, kF32);
  }
  const bool few = p.query <= flash_internal::kDecodeQueries;
  if (dtype == kF64) {
    attention_internal::PlainForward(p, s.q.data<double>(), s.k.data<double>(), s.v.data<double>(),
                                     s.z.mutable_data<double>(), MutableOrNull<double>(s.row_max));
  } else if (dtype == kF32) {
    const auto args = MakeArgs<float>(p, s);
    few ? flash_internal::DecodeCpu(args) : flash_internal::ForwardCpu(args);
  } else {
    if (dtype == kBF16) {
      Problem widened = p;
      const Tensor bias = Widened(s.masks.bias);
      widened.bias = bias.defined() ? bias.raw_data() : nullptr;
      const auto args = MakeArgs<BFloat16>(widened, s);
      if (few) return flash_internal::DecodeCpu(args);
      if (flash_internal::ForwardPairsCpu(args)) return;
    }
    Saved wide = Widened(s);
    Forward(wide, record);
    s.z = ConvertTo(wide.z, dtype);
    s.row_max = wide.row_max;
    s.row_scale = wide.row_scale;
  }
}

template <class T>
flash_internal::BackwardArgs<T> MakeArgs(const Problem& p, const Saved& s, const Tensor& dz,
                                         Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  return {p,
          s.q.data<T>(),
          s.k.data<T>(),
          s.v.data<T>(),
          s.z.data<T>(),
          dz.data<T>(),
          s.row_max.data<float>(),
          s.row_scale.data<float>(),
          MutableOrNull<float>(dq),
          MutableOrNull<float>(dk),
          MutableOrNull<float>(dv),
          MutableOrNull<float>(dbias)};
}

// dS = P * (dz v^T - rowsum(dz * z)); dq = scale dS k, dk = scale dS^T q, dv = P^T dz, dbias = dS.
TensorList Backward(const Saved& s, const Tensor& dz, Needs needs) {
  const DType dtype = s.q.dtype();
  Tensor dq, dk, dv, dbias;
  if (needs[0]) dq = Tensor::Uninitialized(s.q.shape(), dtype);
  if (needs[1]) dk = Tensor::Uninitialized(s.k.shape(), dtype);
  if (needs[2]) dv = Tensor::Uninitialized(s.v.shape(), dtype);
  if (needs[3]) dbias = Tensor::Uninitialized(s.masks.bias.shape(), dtype);
  const bool any = needs[0] || needs[1] || needs[2];
  const Problem p = s.MakeProblem();
  if (dtype == kF64) {
    const double *q = s.q.data<double>(), *k = s.k.data<double>(), *v = s.v.data<double>();
    const double *z = s.z.data<double>(), *lse = s.row_max.data<double>();
    if (any) {
      attention_internal::PlainBackward(p, q, k, v, z, lse, dz.data<double>(),
                                        MutableOrNull<double>(dq), MutableOrNull<double>(dk),
                                        MutableOrNull<double>(dv));
    }
    if (needs[3]) {
      attention_internal::PlainBiasGradient(p, q, k, v, z, lse, dz.data<double>(),
                                            dbias.mutable_data<double>());
    }
  } else {
    const auto args = MakeArgs<float>(p, s, dz, dq, dk, dv, dbias);
    if (any) flash_internal::BackwardCpu(args);
    if (needs[3]) flash_internal::BiasGradientCpu(args);
  }
  return {dq, dk, dv, dbias};
}

// dq, dk and dv in f32 by products of bf16. False where the processor cannot.
bool BackwardInBF16(const Saved& s, const Tensor& dz, Needs needs, TensorList& grads) {
  const Tensor* inputs[] = {&s.q, &s.k, &s.v};
  bool any = false;
  for (int i = 0; i < 3; ++i) {
    if (needs[i]) grads[i] = Tensor::Uninitialized(inputs[i]->shape(), kF32);
    any = any || needs[i];
  }
  Problem p = s.MakeProblem();
  const Tensor bias = Widened(s.masks.bias);
  p.bias = bias.defined() ? bias.raw_data() : nullptr;
  Tensor none;
  return !any || flash_internal::BackwardPairsCpu(
                     MakeArgs<BFloat16>(p, s, dz, grads[0], grads[1], grads[2], none));
}

// Of q, k, v and the bias, in their dtype.
TensorList GradientsOf(const Saved& s, const Tensor& dz, Needs needs) {
  const DType dtype = s.q.dtype();
  TensorList grads(4);
  const bool done = dtype == kBF16 && BackwardInBF16(s, dz, needs, grads);
  if (!done) {
    grads = Backward(Widened(s), Widened(dz), needs);
  } else if (needs[3]) {
    grads[3] = Backward(Widened(s), Widened(dz), Needs(1 << 3))[3];
  }
  for (Tensor& grad : grads) {
    if (grad.defined()) grad = ConvertTo(grad, dtype);
  }
  return grads;
}

// Gradients where nothing was computed: z is zeros, or empty.
TensorList ZeroGradients(const Saved& s, Needs needs) {
  TensorList grads(4);
  const Tensor* inputs[] = {&s.q, &s.k, &s.v, &s.masks.bias};
  for (int i = 0; i < 4; ++i) {
    if (needs[i]) grads[i] = Tensor::Zeros(inputs[i]->shape(), s.q.dtype());
  }
  return grads;
}

}  // namespace

Tensor Attention(const Tensor& q, const Tensor& k, const Tensor& v,
                 const AttentionOptions& options) {
  CheckQueryAndKey("attention", q, k);
  RESIDUAL_CHECK_OP("attention", v.dtype() == q.dtype() && v.shape() == k.shape(), q, k, v);
  const DType dtype = q.dtype();
  Saved s{q,       k,  v, {}, attention_internal::CheckOptions("attention", q, k, options),
          options, {}, {}};
  Tape* const tape = Tape::For({&q, &k, &v, &options.bias});
  const bool empty = q.elements() == 0 || k.elements() == 0 || options.key_length == 0;
  RESIDUAL_CHECK_OP("attention", !options.key_length || tape == nullptr, q, k, v);
  Tensor z;
  if (empty) {
    z = Tensor::Zeros(q.shape(), dtype);
  } else {
    Forward(s, tape != nullptr);
    z = s.z;
  }
  if (tape != nullptr) {
    tape->Record("attention", {&q, &k, &v, &options.bias}, {&z},
                 [s = std::move(s), empty](absl::Span<const Tensor> dy, Needs needs) {
                   return empty ? ZeroGradients(s, needs) : GradientsOf(s, dy[0], needs);
                 });
  }
  return z;
}

}  // namespace residual
