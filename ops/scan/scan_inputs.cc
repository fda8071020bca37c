#include "ops/scan/scan_inputs.h"

#include "tensor/core/op_check.h"

namespace residual {
namespace scan_internal {

void CheckInputs(const char* op, const SelectiveScanInputs& in) {
  const Tensor &u = in.u, &A = in.A;
  RESIDUAL_CHECK_OP(op, u.rank() == 3 && IsFloat(u.dtype()) && u.dtype() != kF16, u);
  RESIDUAL_CHECK_OP(op, A.rank() == 2 && A.dim(0) == u.dim(2), A, u);
  const DType exact = u.dtype() == kF64 ? kF64 : kF32;
  RESIDUAL_CHECK_OP(op, in.delta.shape() == u.shape() && in.delta.dtype() == exact, in.delta, u);
  RESIDUAL_CHECK_OP(op, A.dtype() == exact, A, u);
  for (const Tensor* x : {&in.B, &in.C}) {
    const bool constant = x->rank() == 2 && x->shape() == A.shape();
    const bool varying = (x->rank() == 3 || x->rank() == 4) && x->dim(0) == u.dim(0) &&
                         x->dim(1) == u.dim(1) && x->dim(-1) == A.dim(1);
    RESIDUAL_CHECK_OP(op, constant || varying, *x, A, u);
    RESIDUAL_CHECK_OP(op, x->rank() != 4 || (x->dim(2) > 0 && u.dim(2) % x->dim(2) == 0), *x, u);
    RESIDUAL_CHECK_OP(op, x->dtype() == u.dtype() || x->dtype() == exact, *x, u);
  }
  RESIDUAL_CHECK_OP(op, in.B.rank() != 4 || in.C.rank() != 4 || in.B.dim(2) == in.C.dim(2), in.B,
                    in.C);
  RESIDUAL_CHECK_OP(op, !in.z.defined() || (in.z.shape() == u.shape() && in.z.dtype() == u.dtype()),
                    in.z, u);
  for (const Tensor* x : {&in.D, &in.delta_bias}) {
    RESIDUAL_CHECK_OP(
        op, !x->defined() || (x->rank() == 1 && x->dim(0) == u.dim(2) && x->dtype() == exact), *x,
        u);
  }
  const Tensor& h = in.initial_state;
  RESIDUAL_CHECK_OP(
      op,
      !h.defined() || (h.shape() == Shape({u.dim(0), u.dim(2), A.dim(1)}) && h.dtype() == exact), h,
      u, A);
  RESIDUAL_CHECK_OP(op,
                    !in.segments.defined() || (in.segments.dtype() == kI64 &&
                                               in.segments.shape() == Shape({u.dim(0), u.dim(1)})),
                    in.segments, u);
}

std::vector<unsigned char> Restarts(const Tensor& segments) {
  if (!segments.defined()) return {};
  const int64_t length = segments.dim(1);
  const int64_t* s = segments.data<int64_t>();
  std::vector<unsigned char> restart(segments.elements());
  for (int64_t i = 0; i < segments.elements(); ++i)
    restart[i] = i % length != 0 && s[i] != s[i - 1];
  return restart;
}

ScanArgs ArgsOf(const SelectiveScanInputs& in, const Tensor& B, const Tensor& C,
                const std::vector<unsigned char>& restart) {
  ScanArgs args{};
  args.batch = in.u.dim(0);
  args.length = in.u.dim(1);
  args.dim = in.u.dim(2);
  args.state = in.A.dim(1);
  args.groups = B.rank() == 4 ? B.dim(2) : C.rank() == 4 ? C.dim(2) : 1;
  args.delta = in.delta.data<float>();
  args.A = in.A.data<float>();
  args.B = B.data<float>();
  args.C = C.data<float>();
  args.delta_bias = in.delta_bias.defined() ? in.delta_bias.data<float>() : nullptr;
  args.restart = restart.empty() ? nullptr : restart.data();
  args.constant_B = B.rank() == 2;
  args.constant_C = C.rank() == 2;
  args.softplus = in.softplus;
  return args;
}

}  // namespace scan_internal
}  // namespace residual
