#include "models/mamba/mamba2.h"

#include <algorithm>
#include <cmath>

#include "models/nn/precision.h"
#include "ops/conv/causal_conv.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/norm/norm.h"
#include "ops/reduce/reduce.h"
#include "ops/ssd/ssd.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

// log U(1, 16): the reference's.
Init UniformRates() {
  const auto fill = [](Tensor& A_log, uint64_t seed, uint64_t stream) {
    const Philox random(seed, stream);
    for (int64_t i = 0; i < A_log.elements(); ++i) {
      A_log.mutable_data<double>()[i] = std::log(1 + 15 * random.UniformDouble(i));
    }
  };
  return {Init::kCustom, 0, fill};
}

// The recurrence position by position, with its states to look at and to edit: as Ssd for steps
// that are made.
SsdResult SsdInSteps(const SsdInputs& in, const Scope& hook) {
  const DType exact = in.A.dtype();
  const int64_t batch = in.x.dim(0), pos = in.x.dim(1), heads = in.x.dim(2), width = in.x.dim(3);
  const int64_t n = in.B.dim(3), heads_of_group = heads / std::max<int64_t>(1, in.B.dim(2));
  const Shape states = {batch, pos, heads, width, n};
  const auto dimensions = [&](const Tensor& x) {  // of B or C, for every head
    const Tensor by_head = Repeat(Cast(x, exact), 2, heads_of_group);
    return BroadcastTo(by_head.Reshaped({batch, pos, heads, 1, n}), states);
  };
  const auto channels = [&](const Tensor& x) {  // [batch, pos, heads, 1 or width]
    return BroadcastTo(x.Reshaped(x.shape().Appended(1)), states);
  };
  const Tensor x = Cast(in.x, exact), step = in.dt.Reshaped({batch, pos, heads, 1});
  const Tensor decay = channels(Exp(Mul(in.dt, in.A)).Reshaped({batch, pos, heads, 1}));
  const Tensor write = Mul(channels(Mul(x, BroadcastTo(step, x.shape()))), dimensions(in.B));
  const Tensor h = Recur(decay, hook(Mamba2Mixer::kWrite, write), in.initial_state, in.segments);
  SsdResult out;
  out.last_state = Slice(h, 1, pos - 1, pos).Reshaped({batch, heads, width, n});
  const Tensor read = Sum(Mul(hook(Mamba2Mixer::kState, h), dimensions(in.C)), -1);
  const Tensor skip = Mul(x, BroadcastTo(in.D.Reshaped({heads, 1}), {heads, width}));
  out.y = Cast(Add(read, skip), in.x.dtype());
  return out;
}

}  // namespace

Tensor Clamp(const Tensor& x, double low, double high) {
  const std::vector<double> values = x.ToDoubles();
  Tensor inside = Tensor::Full(x.shape(), 1, kF64), limits = Tensor::Zeros(x.shape(), kF64);
  bool clamped = false;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!(values[i] < low || values[i] > high)) continue;  // NaN stays
    clamped = true;
    inside.mutable_data<double>()[i] = 0;
    limits.mutable_data<double>()[i] = values[i] < low ? low : high;
  }
  if (!clamped) return x;
  return Add(Mul(x, ConvertTo(inside, x.dtype())), ConvertTo(limits, x.dtype()));
}

Mamba2Mixer::Mamba2Mixer(const Mamba2Config& config) : config_(config) {
  if (config_.d_inner == 0) config_.d_inner = 2 * config_.d_model;
}

void Mamba2Mixer::Describe(Visitor& v) {
  const Mamba2Config& c = config_;
  const ParamOptions no_decay = ParamOptions::NoDecay();
  ParamOptions exact = no_decay;  // what a NaN of would reach every state
  exact.finite = true;
  const int64_t channels = conv_channels(), projected = c.d_inner + channels + n_heads();
  v.Param("in_proj", in_proj_, {c.d_model, projected}, FanIn(c.d_model));
  if (c.bias) v.Param("in_proj_bias", in_bias_, {projected}, Init::Zeros(), no_decay);
  v.Param("conv1d", conv_, {channels, 1, c.d_conv}, FanIn(c.d_conv));
  if (c.conv_bias) v.Param("conv1d_bias", conv_bias_, {channels}, FanIn(c.d_conv), no_decay);
  v.Param("dt_bias", dt_bias_, {n_heads()}, StepBias(c.steps), exact);
  v.Param("A_log", A_log_, {n_heads()}, UniformRates(), exact);
  v.Param("D", D_, {n_heads()}, Init::Ones(), exact);
  v.Param("norm", norm_, {c.d_inner}, Init::Ones(), no_decay);
  v.Param("out_proj", out_proj_, {c.d_inner, c.d_model}, FanIn(c.d_inner, c.out_scale));
  if (c.bias) v.Param("out_proj_bias", out_bias_, {c.d_model}, Init::Zeros(), no_decay);
  v.Hooks({kInProj, kConv, kDelta, kB, kC, kWrite, kState, kY, kGate, kOut});
}

std::unique_ptr<MixerState> Mamba2Mixer::NewState(int64_t batch) const {
  const Mamba2Config& c = config_;
  return std::make_unique<MambaState>(batch, Shape{conv_channels(), c.d_conv - 1},
                                      Shape{n_heads(), c.d_head, c.d_state});
}

Tensor Mamba2Mixer::Forward(const Tensor& input, const MixerContext& context, MixerState* state,
                            const Scope& hook) const {
  const Mamba2Config& c = config_;
  const int64_t batch = input.dim(0), pos = input.dim(1), channels = conv_channels();
  const int64_t of_groups = c.n_groups * c.d_state;
  const Precision precision = context.precision;
  const DType exact = input.dtype() == kF64 ? kF64 : kF32;  // of steps and states
  auto* const past = static_cast<MambaState*>(state);

  // z, xBC, dt = W_in u, as the reference lays them out. In full precision also of a run of mixed
  // one: steps are among them. Padding is 0 where it could be seen.
  MatMulOptions in;
  in.bias = in_bias_;
  const Tensor mask = TokenMask(context, batch, pos, input.dtype());
  const Tensor projected = hook(kInProj, Linear(Masked(input, mask), in_proj_, precision, in));
  const TensorList parts = SplitLast(projected, {c.d_inner, channels, n_heads()});
  const Tensor z = hook(kGate, parts[0]);

  // x, B, C = silu(conv(xBC))
  CausalConvInputs conv;
  conv.x = Masked(parts[1], mask);
  conv.weight = conv_.Reshaped({channels, c.d_conv});
  conv.bias = conv_bias_;
  if (past != nullptr) conv.initial_state = past->window(conv.x.dtype());
  conv.segments = context.segments;
  conv.silu = true;
  const CausalConvResult convolved = CausalConv(conv);
  const TensorList xBC =
      SplitLast(hook(kConv, Masked(convolved.y, mask)), {c.d_inner, of_groups, of_groups});

  SsdInputs ssd;
  ssd.x = xBC[0].Reshaped({batch, pos, n_heads(), c.d_head});
  ssd.B = hook(kB, xBC[1].Reshaped({batch, pos, c.n_groups, c.d_state}));
  ssd.C = hook(kC, xBC[2].Reshaped({batch, pos, c.n_groups, c.d_state}));
  ssd.dt = Cast(parts[2], exact);
  ssd.dt_bias = Cast(dt_bias_, exact);
  // Stored weights are those of a model that is run and no more.
  ssd.A = Rates(A_log_, exact, in_proj_.stored(), past);
  ssd.D = Cast(D_, exact);
  ssd.softplus = true;
  ssd.dt_min = c.dt_low;
  ssd.dt_max = c.dt_high;
  ssd.segments = context.segments;
  if (past != nullptr) ssd.initial_state = past->hidden();
  const bool in_steps = hook.Wants(kWrite, kState);
  if (in_steps || hook.Wants(kDelta)) {
    const Tensor delta = Softplus(Add(ssd.dt, ssd.dt_bias));
    ssd.dt = hook(kDelta, Clamp(delta, c.dt_low, c.dt_high));
    ssd.dt_bias = Tensor();
    ssd.softplus = false;
    // Made already; and an edit of a step is not bound by them.
    ssd.dt_min = -std::numeric_limits<double>::infinity();
    ssd.dt_max = std::numeric_limits<double>::infinity();
  }
  const SsdResult scanned = in_steps ? SsdInSteps(ssd, hook) : Ssd(ssd);
  if (past != nullptr) past->Advance(pos, convolved.last_state, scanned.last_state);

  // Dao and Gu 2024, figure 6: the gate, then an RMS norm over each group.
  const Tensor y = hook(kY, scanned.y).Reshaped({batch, pos, c.d_inner});
  const Tensor gated = SiluMul(z, y).Reshaped({batch, pos, c.n_groups, c.d_inner / c.n_groups});
  const Tensor normalized =
      Mul(RmsNorm(gated, Tensor(), c.eps).Reshaped({batch, pos, c.d_inner}), norm_);
  MatMulOptions out;
  out.bias = out_bias_;
  return hook(kOut, Linear(normalized, out_proj_, precision, out));
}

Tensor Mamba2Mixer::RatesOfState() const {
  const Tensor A = Rates(A_log_, kF32, false, nullptr);
  return BroadcastTo(A.Reshaped({n_heads(), 1}), {n_heads(), config_.d_state});
}

Tensor Mamba2Mixer::TokenMaps(absl::Span<const Tensor> made_of,
                              absl::Span<const int64_t> units) const {
  return ScanMaps(made_of[0], RatesOfState(), made_of[1], made_of[2], units);
}

Retention Mamba2Mixer::MemoryOf(absl::Span<const Tensor> made_of) const {
  return ScanMemory(made_of[0], RatesOfState());
}

}  // namespace residual
