// Structured state spaces as mixers on the stream: S4 (Gu, Goel, Re 2022), S4D (Gu, Goel, Gupta, Re
// 2022) and DSS (Gupta, Gu, Berant 2022). Each channel of the stream is the input u of a linear
// system of its own,
//
//   x' = A x + B u,  y = Re(C x) + D u      x: N/2 complex numbers, each with its conjugate
//
// which, discretised with the step dt, is a convolution and a recurrence at once:
//
//   y = K * u + D u,  K_l = 2 Re(C A_bar^l B_bar)                    training, whole sequences
//   x_t = A_bar x_(t-1) + B_bar u_t,  y_t = 2 Re(C x_t) + D u_t      with a state: decoding, chunks
//
//   S4   A = diag(Lambda) - P P*, HiPPO in its own basis; bilinear; K by a Cauchy kernel
//   S4D  A = diag(Lambda); zero-order hold or bilinear; K by a Vandermonde product
//   DSS  A = diag(Lambda); A_bar^l under a softmax over l
//
// and between channels: out = W_out g(y) + b, times sigmoid(W_gate g(y) + b_gate) where gated; g is
// GELU.

#ifndef RESIDUAL_MODELS_S4_MIXER_S4_H_
#define RESIDUAL_MODELS_S4_MIXER_S4_H_

#include <cstdint>
#include <memory>

#include "models/s4/mixer/s4_start.h"
#include "models/s4/mixer/s4_state.h"
#include "models/stream/mixer.h"
#include "ops/ssm_kernel/ssm_kernel.h"

namespace residual {

struct S4Config {
  int64_t d_model = 0;
  int64_t d_state = 64;  // N, even
  S4Kind kind = S4Kind::kS4D;
  S4Init init = S4Init::kLegS;  // see StartNames
  // Of S4D; S4 is bilinear, DSS has its own.
  Discretization discretization = Discretization::kZoh;
  // The longest sequence, of S4 and DSS, whose parameters depend on it; > 0 (S4D: not used).
  int64_t length = 0;
  double dt_min = 0.001, dt_max = 0.1;  // steps at the start: exp(U(log dt_min, log dt_max))
  // Reads later positions too, by a second kernel of the same A, B and dt. The whole sequence at
  // once: without a state.
  bool bidirectional = false;
  // The backward kernel's first tap on the next position, not on the position itself, as in
  // state-spaces/s4.
  bool reverse_from_next = false;
  bool gated = true;
  // Whether A (Lambda, P) and B are trained.
  bool learn_state = true;
  double dropout = 0;  // of g(y), while training
  int layer = 0;       // what is drawn at the start differs between layers
};

// InvalidArgument names the field, what was found and what is expected.
absl::Status ValidateS4Config(const S4Config& config);

// The optimizer's rate for A, B and dt is at most 1e-3 and they do not decay, as in the reference:
// at the rate of the other weights a state space forgets what it was made for.
//
// Padding (context.key_mask) is 0 where it is read, so nothing of it is in a state; packed
// sequences (context.segments) are convolved each by itself.
class S4Mixer : public Mixer {
 public:
  // Taps: as many as there are positions (S4D), or `length`.
  static constexpr HookPoint kKernel{"hook_kernel", "[d_model, taps]"};
  static constexpr HookPoint kReverseKernel{"hook_reverse_kernel", "[d_model, taps]"};
  // x after a position, re and im; of both directions the forward one. An edit changes what is read
  // there, y, and nothing later.
  static constexpr HookPoint kState{"hook_state", "[batch, pos, d_model, d_state / 2, 2]", true};
  // K * u + D u, before GELU.
  static constexpr HookPoint kY{"hook_y", "[batch, pos, d_model]", true};
  static constexpr HookPoint kOut{"hook_out", "[batch, pos, d_model]", true};

  explicit S4Mixer(const S4Config& config);

  void Describe(Visitor& v) override;
  // With a state nothing is recorded on a tape (CHECKed): sequences are trained by convolution.
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override;
  std::unique_ptr<MixerState> NewState(int64_t batch) const override;
  bool causal() const override { return !config_.bidirectional; }
  // Of each channel the convolution as a matrix, K_(query - key): y = M u + D u.
  TokenMapKind token_map_kind() const override;
  Tensor TokenMaps(absl::Span<const Tensor> made_of,
                   absl::Span<const int64_t> units) const override;
  // Undefined for S4, whose rates are not those of its diagonal.
  Retention MemoryOf(absl::Span<const Tensor> made_of) const override;

  const S4Config& config() const { return config_; }

 private:
  // The operands of the kernels of ops/ssm_kernel, of one dtype.
  struct System {
    Tensor A, P;  // [d_model, N/2, 2]; [d_model, rank, N/2, 2] of S4: Lambda and P
    Tensor B, C, C_reverse;
    Tensor dt, D;  // [d_model]
  };
  System SystemIn(DType dtype) const;
  Tensor Kernel(const System& system, const Tensor& C, int64_t positions) const;
  DiscreteSsm Discretized(const System& system) const;
  Tensor States(const System& system, const Tensor& u) const;
  Tensor Read(const System& system, const Tensor& states) const;
  Tensor Convolved(const Tensor& u, const MixerContext& context, const Scope& hook) const;
  Tensor Stepped(const Tensor& u, S4State& past, const Scope& hook) const;

  S4Config config_;
  Tensor log_A_real_, A_imag_, P_, B_, C_, C_reverse_, D_, log_dt_;
  Weight out_proj_, gate_proj_;  // [d_model, d_model]
  Tensor out_proj_bias_, gate_proj_bias_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_S4_MIXER_S4_H_
