// Multi-head attention (Vaswani et al. 2017, eq. 1) as a mixer on the stream.

#ifndef RESIDUAL_MODELS_ATTENTION_ATTENTION_H_
#define RESIDUAL_MODELS_ATTENTION_ATTENTION_H_

#include <cstdint>
#include <memory>

#include "models/stream/mixer.h"
#include "ops/attention/attention.h"
#include "ops/rotary/rotary.h"

namespace residual {

struct AttentionConfig {
  int64_t d_model = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads =
      0;  // 0: n_heads. Fewer: grouped queries, head j reads group j / (heads/groups)
  int64_t d_head = 0;
  bool causal = true;
  bool bias = true;
  double scale = 0;        // of the scores; 0: 1 / sqrt(d_head)
  int64_t rotary_dim = 0;  // features of each head that are rotated; 0: no rotary positions
  double rotary_theta = 10000;
  bool rotary_interleaved = false;
  RotaryScaling rotary_scaling;
  bool alibi = false;  // Press et al. 2022
  // Keys are mixed with those before them, k_j <- s k_j + (1 - s) k_{j-1} with s = sigmoid(alpha)
  // and alpha learned for each head of keys (Olsson et al. 2022, "smeared key"); a row's first
  // token, the first after padding and the first of a segment keep theirs. Rotated before.
  bool smeared_keys = false;
  double dropout = 0;  // of the pattern, while training
  double init_scale = 0.02;
  double out_init_scale = 0;  // 0: init_scale
};

// Keys and values of the tokens before, in a buffer with room: appending a token moves nothing but
// that token, and once in a while everything, into a buffer twice as large; up to a length that was
// reserved nothing but what is appended.
//
// Forks share a buffer until one of them appends, which then copies what it needs of it.
class KvState : public MixerState {
 public:
  // For keys and values of so many heads.
  KvState(int64_t batch, int64_t n_kv_heads, int64_t d_head)
      : batch_(batch), n_kv_heads_(n_kv_heads), d_head_(d_head) {}

  std::unique_ptr<MixerState> Fork() const override;
  absl::Status RollBack(int64_t length) override;
  std::unique_ptr<MixerState> Select(absl::Span<const int64_t> rows) const override;
  size_t bytes() const override { return keys_.bytes() + values_.bytes(); }
  void Reserve(int64_t length) override { reserved_ = length; }
  // "keys" and "values", [batch, length, n_kv_heads, d_head].
  void Save(StateWriter& writer) const override;
  absl::Status Load(int64_t batch, int64_t length, StateReader& reader) override;

  // keys, values: [batch, pos, n_kv_heads, d_head]. What the current tape tracks is joined with
  // what is there by an op, so that gradients flow; the buffer is exact then. A run of another
  // precision than the last takes the buffer with it.
  void Append(const Tensor& keys, const Tensor& values);

  int64_t length() const { return length_; }
  // [batch, room, n_kv_heads, d_head] with room >= length(): the first length() positions count.
  const Tensor& keys() const { return keys_; }
  const Tensor& values() const { return values_; }
  // [batch, length(), ...]; a copy unless there is no room or one row.
  Tensor ExactKeys() const { return Exact(keys_); }
  Tensor ExactValues() const { return Exact(values_); }

 private:
  Tensor Exact(const Tensor& buffer) const;

  int64_t batch_, n_kv_heads_, d_head_, length_ = 0, reserved_ = 0;
  Tensor keys_, values_;  // undefined while empty
};

class AttentionMixer : public Mixer {
 public:
  // What the queries, keys and values are each made of, positions added where they are (an edit of
  // one leaves the others).
  static constexpr HookPoint kQIn{"q.hook_in", "[batch, pos, d_model]", true};
  static constexpr HookPoint kKIn{"k.hook_in", "[batch, pos, d_model]"};
  static constexpr HookPoint kVIn{"v.hook_in", "[batch, pos, d_model]"};
  static constexpr HookPoint kQ{"hook_q", "[batch, pos, n_heads, d_head]", true};
  static constexpr HookPoint kK{"hook_k", "[batch, pos, n_kv_heads, d_head]"};
  static constexpr HookPoint kV{"hook_v", "[batch, pos, n_kv_heads, d_head]"};
  static constexpr HookPoint kRotQ{"hook_rot_q", "[batch, pos, n_heads, d_head]", true};
  static constexpr HookPoint kRotK{"hook_rot_k", "[batch, pos, n_kv_heads, d_head]"};
  // What queries are compared with, where keys are smeared: those of the past too.
  static constexpr HookPoint kSmearedK{"hook_smeared_k", "[batch, key, n_kv_heads, d_head]"};
  static constexpr HookPoint kScores{"hook_attn_scores", "[batch, n_heads, query, key]", true};
  static constexpr HookPoint kPattern{"hook_pattern", "[batch, n_heads, query, key]", true};
  static constexpr HookPoint kZ{"hook_z", "[batch, pos, n_heads, d_head]", true};
  static constexpr HookPoint kResult{"hook_result", "[batch, pos, n_heads, d_model]", true};

  explicit AttentionMixer(const AttentionConfig& config);

  void Describe(Visitor& v) override;
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override;
  std::unique_ptr<MixerState> NewState(int64_t batch) const override {
    return std::make_unique<KvState>(batch, config_.n_kv_heads, config_.d_head);
  }

  bool causal() const override { return config_.causal; }

  // The patterns.
  TokenMapKind token_map_kind() const override {
    return {'H', config_.n_heads, /*weights=*/true, {kPattern}};
  }
  Tensor TokenMaps(absl::Span<const Tensor> made_of,
                   absl::Span<const int64_t> units) const override;

  const AttentionConfig& config() const { return config_; }
  // In memory all heads of a projection lie in one matrix: W_Q, W_K, W_V are
  // [d_model, heads, d_head], W_O is [n_heads, d_head, d_model].
  const Tensor& W_Q() const { return W_Q_; }
  const Tensor& W_K() const { return W_K_; }
  const Tensor& W_V() const { return W_V_; }
  const Tensor& W_O() const { return W_O_; }
  const Tensor& b_Q() const { return b_Q_; }  // [heads, d_head]; undefined without biases
  const Tensor& b_K() const { return b_K_; }
  const Tensor& b_V() const { return b_V_; }
  const Tensor& b_O() const { return b_O_; }      // [d_model]
  const Tensor& alpha() const { return alpha_; }  // [n_kv_heads]; undefined unless smeared

 private:
  AttentionConfig config_;
  RotaryOptions rotary_;
  Weight W_Q_, W_K_, W_V_, W_O_;
  Tensor b_Q_, b_K_, b_V_, b_O_;
  Tensor alpha_;
};

// The slopes of ALiBi: 2^(-8/n), 2^(-16/n), ... for n heads, n a power of two; for other n those of
// the power of two below, then every other one of twice that (the authors' rule).
Tensor AlibiSlopes(int64_t n_heads);

}  // namespace residual

#endif  // RESIDUAL_MODELS_ATTENTION_ATTENTION_H_
