#include "models/mamba/mamba.h"

#include <cmath>

#include "models/nn/precision.h"
#include "ops/conv/causal_conv.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "ops/scan/selective_scan.h"

namespace residual {
namespace {

// A_n = -(n + 1) in every channel: S4D-Real (Gu et al. 2022), the paper's section 3.6.
Init S4dReal() {
  const auto fill = [](Tensor& A_log, uint64_t, uint64_t) {
    const int64_t state = A_log.dim(1);
    for (int64_t i = 0; i < A_log.elements(); ++i) {
      A_log.mutable_data<double>()[i] = std::log(static_cast<double>(i % state + 1));
    }
  };
  return {Init::kCustom, 0, fill};
}

// The scan of algorithm 2 position by position, with its states to look at and to edit. As
// SelectiveScan for steps that are made, without a gate.
SelectiveScanResult ScanInSteps(const SelectiveScanInputs& in, const Scope& hook) {
  const DType exact = in.A.dtype();
  const int64_t batch = in.u.dim(0), pos = in.u.dim(1), d = in.u.dim(2), n = in.A.dim(1);
  const Shape states = {batch, pos, d, n};
  const auto channels = [&](const Tensor& x) {
    return BroadcastTo(x.Reshaped({batch, pos, d, 1}), states);
  };
  const auto dimensions = [&](const Tensor& x) {
    return BroadcastTo(Cast(x, exact).Reshaped({batch, pos, 1, n}), states);
  };
  const Tensor u = Cast(in.u, exact);
  const Tensor decay = Exp(Mul(channels(in.delta), in.A));
  const Tensor write = Mul(channels(Mul(in.delta, u)), dimensions(in.B));
  const Tensor h = Recur(decay, hook(MambaMixer::kWrite, write), in.initial_state, in.segments);
  SelectiveScanResult out;
  out.last_state = Slice(h, 1, pos - 1, pos).Reshaped({batch, d, n});
  const Tensor read = Sum(Mul(hook(MambaMixer::kState, h), dimensions(in.C)), -1);
  out.y = Cast(Add(read, Mul(u, in.D)), in.u.dtype());
  return out;
}

}  // namespace

MambaMixer::MambaMixer(const MambaConfig& config) : config_(config) {
  if (config_.d_inner == 0) config_.d_inner = 2 * config_.d_model;
  if (config_.dt_rank == 0) config_.dt_rank = (config_.d_model + 15) / 16;
}

void MambaMixer::Describe(Visitor& v) {
  const MambaConfig& c = config_;
  const ParamOptions no_decay = ParamOptions::NoDecay();
  ParamOptions exact = no_decay;  // what a NaN of would reach every state
  exact.finite = true;
  v.Param("in_proj", in_proj_, {c.d_model, 2 * c.d_inner}, FanIn(c.d_model));
  if (c.bias) v.Param("in_proj_bias", in_bias_, {2 * c.d_inner}, Init::Zeros(), no_decay);
  v.Param("conv1d", conv_, {c.d_inner, 1, c.d_conv}, FanIn(c.d_conv));
  if (c.conv_bias) v.Param("conv1d_bias", conv_bias_, {c.d_inner}, FanIn(c.d_conv), no_decay);
  v.Param("x_proj", x_proj_, {c.d_inner, c.dt_rank + 2 * c.d_state}, FanIn(c.d_inner));
  v.Param("dt_proj", dt_proj_, {c.dt_rank, c.d_inner}, FanIn(c.dt_rank));
  v.Param("dt_proj_bias", dt_bias_, {c.d_inner}, StepBias(c.steps), exact);
  v.Param("A_log", A_log_, {c.d_inner, c.d_state}, S4dReal(), exact);
  v.Param("D", D_, {c.d_inner}, Init::Ones(), exact);
  v.Param("out_proj", out_proj_, {c.d_inner, c.d_model}, FanIn(c.d_inner, c.out_scale));
  if (c.bias) v.Param("out_proj_bias", out_bias_, {c.d_model}, Init::Zeros(), no_decay);
  v.Hooks({kInProj, kConv, kDelta, kB, kC, kWrite, kState, kY, kGate, kOut});
}

std::unique_ptr<MixerState> MambaMixer::NewState(int64_t batch) const {
  const MambaConfig& c = config_;
  return std::make_unique<MambaState>(batch, Shape{c.d_inner, c.d_conv - 1},
                                      Shape{c.d_inner, c.d_state});
}

Tensor MambaMixer::Forward(const Tensor& input, const MixerContext& context, MixerState* state,
                           const Scope& hook) const {
  const MambaConfig& c = config_;
  const int64_t batch = input.dim(0), pos = input.dim(1);
  const Precision precision = context.precision;
  const DType exact = input.dtype() == kF64 ? kF64 : kF32;  // of steps and states
  auto* const past = static_cast<MambaState*>(state);

  // x, z: the two branches of figure 3. Padding is 0 where it could be seen.
  MatMulOptions in;
  in.bias = in_bias_;
  const Tensor token_mask = TokenMask(context, batch, pos, input.dtype());
  const Tensor xz = hook(kInProj, Linear(Masked(input, token_mask), in_proj_, precision, in, true));
  const TensorList branches = SplitLast(xz, {c.d_inner, c.d_inner});
  const Tensor mask = token_mask.defined() ? ConvertTo(token_mask, xz.dtype()) : token_mask;
  const Tensor z = hook(kGate, branches[1]);

  // x = silu(conv(x))
  CausalConvInputs conv;
  conv.x = Masked(branches[0], mask);
  conv.weight = conv_.Reshaped({c.d_inner, c.d_conv});
  conv.bias = conv_bias_;
  if (past != nullptr) conv.initial_state = past->window(xz.dtype());
  conv.segments = context.segments;
  conv.silu = true;
  const CausalConvResult convolved = CausalConv(conv);
  const Tensor x = hook(kConv, Masked(convolved.y, mask));

  // delta = softplus(W_dt s_delta(x) + b), B = s_B(x), C = s_C(x): algorithm 2, lines 2 to 4.
  const TensorList selected =
      SplitLast(Linear(x, x_proj_, precision, {}), {c.dt_rank, c.d_state, c.d_state});
  SelectiveScanInputs scan;
  scan.u = x;
  scan.delta = Cast(Linear(selected[0], dt_proj_, precision, {}), exact);
  scan.delta_bias = Cast(dt_bias_, exact);
  scan.softplus = true;
  // Stored weights are those of a model that is run and no more.
  scan.A = Rates(A_log_, exact, in_proj_.stored(), past);
  scan.B = hook(kB, selected[1]);
  scan.C = hook(kC, selected[2]);
  scan.D = Cast(D_, exact);
  scan.segments = context.segments;
  if (past != nullptr) scan.initial_state = past->hidden();
  const bool in_steps = hook.Wants(kWrite, kState);
  if (in_steps || hook.Wants(kDelta)) {
    scan.delta = hook(kDelta, Softplus(Add(scan.delta, scan.delta_bias)));
    scan.delta_bias = Tensor();
    scan.softplus = false;
  }

  // y = SSM(A, B, C, delta)(x) silu(z)
  const bool gate_apart = in_steps || hook.Wants(kY);
  if (!gate_apart) scan.z = z;
  const SelectiveScanResult scanned = in_steps ? ScanInSteps(scan, hook) : SelectiveScan(scan);
  if (past != nullptr) past->Advance(pos, convolved.last_state, scanned.last_state);
  const Tensor y = gate_apart ? SiluMul(z, hook(kY, scanned.y)) : scanned.y;

  MatMulOptions out;
  out.bias = out_bias_;
  return hook(kOut, Linear(y, out_proj_, precision, out));
}

Tensor MambaMixer::TokenMaps(absl::Span<const Tensor> made_of,
                             absl::Span<const int64_t> units) const {
  return ScanMaps(made_of[0], Rates(A_log_, kF32, false, nullptr), made_of[1], made_of[2], units);
}

Retention MambaMixer::MemoryOf(absl::Span<const Tensor> made_of) const {
  return ScanMemory(made_of[0], Rates(A_log_, kF32, false, nullptr));
}

}  // namespace residual
