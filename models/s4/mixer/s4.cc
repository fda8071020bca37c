#include "models/s4/mixer/s4.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/nn/precision.h"
#include "models/s4/mixer/whole_output.h"
#include "models/stream/token_mask.h"
#include "ops/dropout/dropout.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/fft/fft_conv.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "ops/ssm_recurrence/ssm_recurrence.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

constexpr double kMostRate = 1e-3;  // of the optimizer, for A, B and dt

// One start for all channels, of which `part` takes out numbers.
using StartPart = std::function<void(const S4Start& start, int64_t i, double* to)>;
Init Started(const S4Config& c, StartPart part, int64_t numbers) {
  const auto fill = [c, part, numbers](Tensor& value, uint64_t seed, uint64_t) {
    const S4Start start = MakeS4Start(c.kind, c.init, c.d_state, seed, c.layer);
    const int64_t channel = value.elements() / c.d_model;
    for (int64_t i = 0; i < value.elements() / numbers; ++i) {
      part(start, i % (channel / numbers), value.mutable_data<double>() + i * numbers);
    }
  };
  return {Init::kCustom, 0, fill};
}

void PutComplex(std::complex<double> z, double* to) {
  to[0] = z.real();
  to[1] = z.imag();
}

// x as [.., 1], side by side with y.
Tensor Complex(const Tensor& x, const Tensor& y) {
  return Concat({x.Reshaped(x.shape().Appended(1)), y.Reshaped(y.shape().Appended(1))}, -1);
}

// The sequences of packed rows, each in a row of its own, and back.
class Packing {
 public:
  explicit Packing(const Tensor& segments) {
    if (!segments.defined()) return;
    const int64_t pos = segments.dim(1), total = segments.elements();
    const int64_t* s = segments.data<int64_t>();
    std::vector<int64_t> begins;
    for (int64_t i = 0; i < total; ++i) {
      if (i % pos == 0 || s[i] != s[i - 1]) begins.push_back(i);
    }
    const int64_t count = static_cast<int64_t>(begins.size());
    begins.push_back(total);
    int64_t longest = 0;
    for (int64_t k = 0; k < count; ++k) longest = std::max(longest, begins[k + 1] - begins[k]);
    rows_ = Tensor::Full({count, longest}, static_cast<double>(total), kI64);  // a row of zeros
    places_ = Tensor::Uninitialized(segments.shape(), kI64);
    for (int64_t k = 0; k < count; ++k) {
      for (int64_t i = begins[k]; i < begins[k + 1]; ++i) {
        rows_.mutable_data<int64_t>()[k * longest + i - begins[k]] = i;
        places_.mutable_data<int64_t>()[i] = k * longest + i - begins[k];
      }
    }
  }

  // [batch, pos, d] -> [sequences, longest, d], with zeros after the end.
  Tensor Pack(const Tensor& x) const {
    if (!rows_.defined()) return x;
    const Tensor flat = x.Reshaped({x.dim(0) * x.dim(1), x.dim(2)});
    return GatherRows(Concat({flat, Tensor::Zeros({1, x.dim(2)}, x.dtype())}, 0), rows_);
  }
  // [sequences, longest, ...] -> [batch, pos, ...].
  Tensor Unpack(const Tensor& x) const {
    if (!rows_.defined()) return x;
    return GatherRows(x.Reshaped(x.shape().Without(0).With(0, x.dim(0) * x.dim(1))), places_);
  }

 private:
  Tensor rows_, places_;
};

absl::Status Expected(const char* field, const std::string& found, const std::string& expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", field, "' is ", found, ", expected ", expected));
}

const char* KindName(S4Kind kind) {
  return kind == S4Kind::kS4 ? "s4" : kind == S4Kind::kS4D ? "s4d" : "dss";
}

}  // namespace

absl::Status ValidateS4Config(const S4Config& c) {
  if (c.d_model < 1) return Expected("d_model", absl::StrCat(c.d_model), "at least 1");
  if (c.d_state < 2 || c.d_state % 2 != 0 || c.d_state > 4096) {
    return Expected("d_state", absl::StrCat(c.d_state),
                    "an even number in [2, 4096]: states come as pairs of conjugates");
  }
  if (!StartsFrom(c.kind, c.init)) {
    std::string known;
    for (const std::string& name : S4InitNames()) {
      if (StartsFrom(c.kind, *ParseS4Init(name))) {
        absl::StrAppend(&known, known.empty() ? "" : ", ", name);
      }
    }
    return Expected("s4_init", absl::StrCat("\"", S4InitName(c.init), "\""),
                    absl::StrCat("one of those of ", KindName(c.kind), ": ", known));
  }
  if (c.discretization == Discretization::kDssSoftmax) {
    return Expected("s4_discretization", "a softmax", "zoh or bilinear");
  }
  if (c.kind != S4Kind::kS4D && c.length < 1) {
    return Expected("s4_length", absl::StrCat(c.length),
                    absl::StrCat("at least 1: the parameters of ", KindName(c.kind),
                                 " depend on the longest sequence"));
  }
  if (!(c.dt_min > 0 && c.dt_min <= c.dt_max && c.dt_max < 1e6)) {
    return Expected("dt_min", absl::StrCat(c.dt_min),
                    absl::StrCat("a number in (0, dt_max], 'dt_max' being ", c.dt_max));
  }
  if (!(c.dropout >= 0 && c.dropout < 1)) {
    return Expected("s4_dropout", absl::StrCat(c.dropout), "a number in [0, 1)");
  }
  return absl::OkStatus();
}

S4Mixer::S4Mixer(const S4Config& config) : config_(config) {
  const absl::Status valid = ValidateS4Config(config);
  RESIDUAL_CHECK(valid.ok()) << valid.message();
}

void S4Mixer::Describe(Visitor& v) {
  const S4Config& c = config_;
  const int64_t H = c.d_model, modes = c.d_state / 2, rank = S4Rank(c.kind, c.init);
  ParamOptions plain;
  plain.finite = true;  // a NaN would reach every state
  ParamOptions step = plain;
  step.weight_decay = false;
  step.most_lr = kMostRate;
  ParamOptions matrix = step;
  if (!c.learn_state) matrix.lr_scale = 0;

  // A = -exp(log_A_real) + i A_imag: it decays whatever is learned.
  const auto log_rate = [](const S4Start& s, int64_t n, double* to) {
    *to = std::log(-s.A[n].real());
  };
  const auto frequency = [](const S4Start& s, int64_t n, double* to) { *to = s.A[n].imag(); };
  const auto input = [](const S4Start& s, int64_t n, double* to) { PutComplex(s.B[n], to); };
  const auto low_rank = [modes](const S4Start& s, int64_t i, double* to) {
    PutComplex(s.P(i % modes, i / modes), to);
  };
  v.Param("log_A_real", log_A_real_, {H, modes}, Started(c, log_rate, 1), matrix);
  v.Param("A_imag", A_imag_, {H, modes}, Started(c, frequency, 1), matrix);
  if (rank > 0) v.Param("P", P_, {H, rank, modes, 2}, Started(c, low_rank, 2), matrix);
  v.Param("B", B_, {H, modes, 2}, Started(c, input, 2), matrix);

  const auto steps = [c](Tensor& log_dt, uint64_t seed, uint64_t) {
    const std::vector<double> dt = S4Steps(c.d_model, c.dt_min, c.dt_max, seed, c.layer);
    for (int64_t h = 0; h < c.d_model; ++h) log_dt.mutable_data<double>()[h] = std::log(dt[h]);
  };
  v.Param("log_dt", log_dt_, {H}, {Init::kCustom, 0, steps}, step);

  // C, or of S4 C (I - A_bar^length).
  const auto output = [c, modes, rank](Tensor& C, uint64_t seed, uint64_t stream) {
    C = S4Output(c.d_model, modes, seed, stream);
    if (c.kind != S4Kind::kS4) return;
    const S4Start start = MakeS4Start(c.kind, c.init, c.d_state, seed, c.layer);
    Tensor A = Tensor::Uninitialized({modes, 2}, kF64);
    Tensor P = Tensor::Uninitialized({rank, modes, 2}, kF64);
    for (int64_t n = 0; n < modes; ++n) PutComplex(start.A[n], A.mutable_data<double>() + 2 * n);
    for (int64_t i = 0; i < rank * modes; ++i) {
      PutComplex(start.P(i % modes, i / modes), P.mutable_data<double>() + 2 * i);
    }
    const std::vector<double> dt = S4Steps(c.d_model, c.dt_min, c.dt_max, seed, c.layer);
    C = TruncatedOutput(A, P, P, C, Tensor::Of<double>({c.d_model}, dt), c.length);
  };
  v.Param("C", C_, {H, modes, 2}, {Init::kCustom, 0, output}, plain);
  if (c.bidirectional) {
    v.Param("C_reverse", C_reverse_, {H, modes, 2}, {Init::kCustom, 0, output}, plain);
  }
  v.Param("D", D_, {H}, Init::Normal(1), plain);

  const Init linear = Init::Uniform(1 / std::sqrt(static_cast<double>(H)));
  const ParamOptions no_decay = ParamOptions::NoDecay();
  v.Param("out_proj", out_proj_, {H, H}, linear);
  v.Param("out_proj_bias", out_proj_bias_, {H}, linear, no_decay);
  if (c.gated) {
    v.Param("gate_proj", gate_proj_, {H, H}, linear);
    v.Param("gate_proj_bias", gate_proj_bias_, {H}, linear, no_decay);
  }
  v.Hooks({kKernel, kState, kY, kOut});
  if (c.bidirectional) v.Hooks({kReverseKernel});
}

std::unique_ptr<MixerState> S4Mixer::NewState(int64_t batch) const {
  return std::make_unique<S4State>(batch, config_.d_model, config_.d_state / 2);
}

S4Mixer::System S4Mixer::SystemIn(DType dtype) const {
  System s;
  s.A = Complex(Scale(Exp(Cast(log_A_real_, dtype)), -1), Cast(A_imag_, dtype));
  if (P_.defined()) s.P = Cast(P_, dtype);
  s.B = Cast(B_, dtype);
  s.C = Cast(C_, dtype);
  if (C_reverse_.defined()) s.C_reverse = Cast(C_reverse_, dtype);
  s.dt = Exp(Cast(log_dt_, dtype));
  s.D = Cast(D_, dtype);
  return s;
}

// K_l = 2 Re(C A_bar^l B_bar).
Tensor S4Mixer::Kernel(const System& s, const Tensor& C, int64_t positions) const {
  const S4Config& c = config_;
  if (c.kind == S4Kind::kS4D) {
    return DiagonalSsmKernel(s.A, s.B, C, s.dt, positions, {c.discretization});
  }
  RESIDUAL_CHECK(positions <= c.length) << positions << " positions, of at most " << c.length;
  if (c.kind == S4Kind::kDss) {
    return DiagonalSsmKernel(s.A, s.B, C, s.dt, c.length, {Discretization::kDssSoftmax});
  }
  DplrKernelOptions options;
  options.truncated_c = true;
  return DplrSsmKernel(s.A, s.P, s.P, s.B, C, s.dt, c.length, options);
}

DiscreteSsm S4Mixer::Discretized(const System& s) const {
  const S4Config& c = config_;
  if (c.kind != S4Kind::kS4) {
    const bool dss = c.kind == S4Kind::kDss;
    return DiscretizeDiagonal(s.A, s.B, s.C, s.dt,
                              {dss ? Discretization::kDssSoftmax : c.discretization},
                              dss ? c.length : 0);
  }
  DiscreteSsm ssm = DiscretizeDplr(s.A, s.P, s.P, s.B, s.C, s.dt);
  ssm.C = WholeOutput(ssm, c.length);
  return ssm;
}

// x at all positions of u [batch, pos, d_model]: a convolution too, with a kernel for the real part
// of each number of the state and one for the imaginary part, Re(A_bar^l B_bar)_n and
// Re(-i A_bar^l B_bar)_n. [batch, pos, d_model, N/2, 2].
Tensor S4Mixer::States(const System& s, const Tensor& u) const {
  const S4Config& c = config_;
  const int64_t batch = u.dim(0), pos = u.dim(1), H = c.d_model, modes = c.d_state / 2;
  const DType dtype = u.dtype();
  const Tensor dt = Repeat(s.dt, 0, modes);
  const auto kernel_of = [&](double re, double im) {
    if (c.kind != S4Kind::kS4) {
      DiagonalKernelOptions options;
      options.discretization =
          c.kind == S4Kind::kDss ? Discretization::kDssSoftmax : c.discretization;
      options.conjugate_pairs = false;
      const Tensor C = ConvertTo(Tensor::Of<double>({1, 2}, {re, im}), dtype);
      return DiagonalSsmKernel(s.A.Reshaped({H * modes, 1, 2}), s.B.Reshaped({H * modes, 1, 2}), C,
                               dt, c.kind == S4Kind::kDss ? c.length : pos, options);
    }
    Tensor C = Tensor::Zeros({H * modes, modes, 2}, kF64);  // halved: it is for pairs
    for (int64_t i = 0; i < H * modes; ++i) {
      double* to = C.mutable_data<double>() + 2 * (i * modes + i % modes);
      to[0] = re / 2;
      to[1] = im / 2;
    }
    const auto all = [&](const Tensor& x) { return Repeat(x, 0, modes); };
    return DplrSsmKernel(all(s.A), all(s.P), all(s.P), all(s.B), ConvertTo(C, dtype), dt, pos);
  };
  const Tensor re = kernel_of(1, 0), im = kernel_of(0, -1);
  const Shape apart = {H * modes, 1, re.dim(1)};
  FftConvInputs conv{
      Repeat(u, 2, 2 * modes),
      Concat({re.Reshaped(apart), im.Reshaped(apart)}, 1).Reshaped({2 * H * modes, re.dim(1)})};
  return FftConv(conv).Reshaped({batch, pos, H, modes, 2});
}

// 2 Re(C x), [batch, pos, d_model]. Of S4 a constant in C: what it learns is another number.
Tensor S4Mixer::Read(const System& s, const Tensor& states) const {
  const int64_t modes = config_.d_state / 2;
  Tensor C = s.C;
  if (config_.kind == S4Kind::kS4) C = ConvertTo(Discretized(s).C, states.dtype());
  const Tensor signs = ConvertTo(Tensor::Of<double>({2}, {2, -2}), states.dtype());
  const Tensor products = Mul(states, Mul(C, signs));
  return Sum(products.Reshaped({states.dim(0), states.dim(1), config_.d_model, 2 * modes}), -1);
}

// A whole sequence, by its kernel.
Tensor S4Mixer::Convolved(const Tensor& u, const MixerContext& context, const Scope& hook) const {
  const System s = SystemIn(u.dtype());
  const Packing packing(context.segments);
  const Tensor packed = packing.Pack(u);
  FftConvInputs conv{packed, hook(kKernel, Kernel(s, s.C, packed.dim(1)))};
  if (config_.bidirectional) {
    Tensor reverse = hook(kReverseKernel, Kernel(s, s.C_reverse, packed.dim(1)));
    if (config_.reverse_from_next) {
      // The last tap would be of a position past the end.
      const Tensor none = Tensor::Zeros({config_.d_model, 1}, u.dtype());
      reverse = Concat({none, Slice(reverse, 1, 0, reverse.dim(1) - 1)}, 1);
    }
    conv.reverse_kernel = reverse;
  }
  conv.D = s.D;
  const Tensor y = packing.Unpack(FftConv(conv));
  if (!hook.Wants(kState)) return y;
  const Tensor states = packing.Unpack(States(s, packed));
  return Add(y, Sub(Read(s, hook(kState, states)), Read(s, states)));
}

// Goes on from a state, position by position.
Tensor S4Mixer::Stepped(const Tensor& u, S4State& past, const Scope& hook) const {
  RESIDUAL_CHECK(!config_.bidirectional) << "S4 of both directions reads a sequence as a whole";
  TensorList parameters = {log_A_real_, A_imag_, B_, C_, log_dt_};
  if (P_.defined()) parameters.push_back(P_);
  for (const Tensor& p : parameters) {
    RESIDUAL_CHECK(Tape::For({&p, &u}) == nullptr) << "S4 with a state is not differentiable";
  }
  // Of A, B, C and dt as the convolution has them, rounded to u's dtype.
  const PackedSsm& ssm =
      past.SystemOf(parameters, [&] { return Discretized(SystemIn(u.dtype())); });
  const Tensor before = past.hidden(u.dtype()), D = Cast(D_, u.dtype());
  const int64_t pos = u.dim(1);
  SsmOutput out;
  if (!hook.Wants(kState)) {
    out = SsmRecurrence(ssm, u, before);
  } else {
    TensorList ys, states;
    out.state = before;
    for (int64_t t = 0; t < pos; ++t) {
      out = SsmRecurrence(ssm, Slice(u, 1, t, t + 1), out.state);
      ys.push_back(out.y);
      states.push_back(out.state.Reshaped(out.state.shape().Inserted(1, 1)));
    }
    const Tensor all = Concat(states, 1);
    const System s = SystemIn(u.dtype());
    out.y = Add(Concat(ys, 1), Sub(Read(s, hook(kState, all)), Read(s, all)));
  }
  past.Advance(pos, {out.state});
  if (hook.Wants(kKernel)) {
    // What these positions give one another, by the kernel; what was before, by the recurrence.
    const System s = SystemIn(u.dtype());
    const Tensor kernel = Kernel(s, s.C, pos);
    const Tensor edited = hook(kKernel, kernel);
    out.y = Add(out.y, FftConv({u, Sub(edited, kernel)}));
  }
  return Add(out.y, Mul(u, D));
}

Tensor S4Mixer::Forward(const Tensor& input, const MixerContext& context, MixerState* state,
                        const Scope& hook) const {
  const int64_t batch = input.dim(0), pos = input.dim(1);
  const DType exact = input.dtype() == kF64 ? kF64 : kF32;  // of kernels and states
  const Tensor u = Cast(Masked(input, TokenMask(context, batch, pos, input.dtype())), exact);
  const Tensor convolved = state == nullptr ? Convolved(u, context, hook)
                                            : Stepped(u, *static_cast<S4State*>(state), hook);
  Tensor y = Gelu(Cast(hook(kY, convolved), input.dtype()));
  if (context.training && config_.dropout > 0) {
    y = Dropout(y, config_.dropout, context.seed, RandomStream("s4", context.layer, context.step));
  }
  MatMulOptions out;
  out.bias = out_proj_bias_;
  Tensor result = Linear(y, out_proj_, context.precision, out);
  if (config_.gated) {
    MatMulOptions gate;
    gate.bias = gate_proj_bias_;
    gate.activation = Activation::kSigmoid;
    result = Mul(result, Linear(y, gate_proj_, context.precision, gate));
  }
  return hook(kOut, result);
}

TokenMapKind S4Mixer::token_map_kind() const {
  TokenMapKind kind{'C', config_.d_model, false, {kY, kKernel}};
  if (config_.bidirectional) kind.made_of.push_back(kReverseKernel);
  return kind;
}

Tensor S4Mixer::TokenMaps(absl::Span<const Tensor> made_of, absl::Span<const int64_t> units) const {
  const int64_t batch = made_of[0].dim(0), pos = made_of[0].dim(1), taps = made_of[1].dim(1);
  const int64_t n = static_cast<int64_t>(units.size()), shift = config_.reverse_from_next ? 1 : 0;
  std::vector<double> maps(n * pos * pos);
  const std::vector<double> K = made_of[1].ToDoubles();
  const std::vector<double> back = config_.bidirectional ? made_of[2].ToDoubles() : K;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t query = 0; query < pos; ++query) {
      double* const row = maps.data() + (i * pos + query) * pos;
      for (int64_t key = 0; key <= query; ++key) row[key] = K[units[i] * taps + query - key];
      for (int64_t key = query + shift; config_.bidirectional && key < pos; ++key) {
        row[key] += back[units[i] * taps + key - query - shift];
      }
    }
  }
  const Tensor one = ConvertTo(Tensor::Of<double>({n, pos, pos}, maps), kF32);
  return BroadcastTo(one.Reshaped({1, n, pos, pos}), {batch, n, pos, pos});
}

Retention S4Mixer::MemoryOf(absl::Span<const Tensor> made_of) const {
  if (config_.kind == S4Kind::kS4) return {};
  const int64_t H = config_.d_model, modes = config_.d_state / 2;
  const std::vector<double> log_rate = log_A_real_.ToDoubles(), log_dt = log_dt_.ToDoubles();
  std::vector<double> step(H), kept(H);
  for (int64_t h = 0; h < H; ++h) {
    const double slowest =
        *std::min_element(log_rate.begin() + h * modes, log_rate.begin() + (h + 1) * modes);
    step[h] = std::exp(log_dt[h]);
    kept[h] = std::exp(-step[h] * std::exp(slowest));
  }
  const Shape everywhere = {made_of[0].dim(0), made_of[0].dim(1), H};
  const auto of = [&](const std::vector<double>& x) {
    return BroadcastTo(ConvertTo(Tensor::Of<double>({H}, x), kF32), everywhere);
  };
  return {of(step), of(kept)};
}

}  // namespace residual
