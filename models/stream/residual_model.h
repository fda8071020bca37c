// A model is Embed(tokens) -> Stream(resid) -> Unembed(resid).
//
// The stream, a tensor [batch, pos, d_model], is the whole interface between blocks: a run can stop
// at any layer, go on from a cached or edited stream at any layer, and every tool that looks at the
// stream works on every model.
//
//   Tensor logits = model.Forward({tokens});
//   absl::StatusOr<Tensor> logits = model.Run({tokens}, &hooks);   // with names checked
//   Tensor resid = model.Stream(cached, {3, model.n_layers()}, ...);

#ifndef RESIDUAL_MODELS_STREAM_RESIDUAL_MODEL_H_
#define RESIDUAL_MODELS_STREAM_RESIDUAL_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/nn/hook.h"
#include "models/nn/module.h"
#include "models/nn/norm.h"
#include "models/nn/precision.h"
#include "models/stream/block.h"
#include "tensor/core/tensor.h"

namespace residual {

// What positions are and where they enter.
enum class Positions {
  kNone,
  kLearned,         // a table [n_ctx, d_model] added to the embedding ("standard")
  kSinusoidal,      // the original Transformer's fixed table, added to the embedding
  kShortformer,     // a learned table added to what queries and keys are made of
  kSinusoidalOnQK,  // the fixed table, added there
  kRotary,          // queries and keys are rotated (in the attention)
  kAlibi            // scores are lowered with distance (in the attention)
};

// sin(p / 10000^(2i/d)), cos(same), interleaved: Vaswani et al. 2017, section 3.5. positions: i64,
// any shape; returns [positions..., d_model]. Angles are computed in double and rounded once.
Tensor SinusoidalRows(const Tensor& positions, int64_t d_model, DType dtype = kF32);

struct EmbedOptions {
  int64_t d_vocab = 0, d_model = 0;
  int64_t n_ctx = 0;  // longest sequence; for positions without a table it bounds nothing
  Positions positions = Positions::kLearned;
  double init_scale = 0.02;
  double dropout = 0;
};

// Tokens to stream.
class Embed : public Module {
 public:
  static constexpr HookPoint kEmbed{"hook_embed", "[batch, pos, d_model]"};
  static constexpr HookPoint kPosEmbed{"hook_pos_embed", "[batch, pos, d_model]"};

  explicit Embed(const EmbedOptions& options);
  void Describe(Visitor& v) override;

  // Rows of the position table for i64 positions [pos] or [batch, pos] -> [.., d_model].
  Tensor PositionRows(const Tensor& positions) const;

  const EmbedOptions& options() const { return options_; }
  bool has_table() const;  // learned or sinusoidal
  bool learns_table() const;
  bool positions_on_stream() const;  // the table is added to the stream
  const Tensor& W_E() const { return W_E_; }
  const Tensor& W_pos() const { return W_pos_; }  // undefined unless learned

 private:
  friend class ResidualModel;
  EmbedOptions options_;
  Weight W_E_;    // [d_vocab, d_model]
  Weight W_pos_;  // [n_ctx, d_model]
};

struct UnembedOptions {
  int64_t d_vocab = 0, d_model = 0;
  bool tied = false;  // logits = x W_E^T
  bool bias = true;
  double init_scale = 0.02;
};

// Stream to logits.
class Unembed : public Module {
 public:
  static constexpr HookPoint kOut{"hook_unembed", "[batch, pos, d_vocab]"};

  explicit Unembed(const UnembedOptions& options) : options_(options) {}
  void Describe(Visitor& v) override;

  const UnembedOptions& options() const { return options_; }
  const Tensor& W_U() const { return W_U_; }  // [d_model, d_vocab]; undefined if tied
  const Tensor& b_U() const { return b_U_; }  // [d_vocab]; undefined without bias

 private:
  friend class ResidualModel;
  UnembedOptions options_;
  Weight W_U_;
  Tensor b_U_;
};

// What a run reads.
struct ModelInput {
  Tensor tokens;  // i64 or i32 [batch, pos]
  // bool [batch, past + pos], true for tokens; undefined: no padding.
  Tensor attention_mask = {};
  // i64 [pos] or [batch, pos]; undefined: past, past + 1, ..., from 0 again at every new segment.
  Tensor positions = {};
  // i64 [batch, pos]: several sequences packed into a row, each a run of one number. Tokens see
  // those of their own segment only; not together with a state.
  Tensor segments = {};
  // kBF16: a model of f32 weights.
  Precision precision = Precision::kFull;
  // > 0: logits of so many positions at the end of each row alone, [batch, last_logits, d_vocab],
  // without the unembedding of those before. The points of ln_final and hook_unembed hold these
  // positions then.
  int64_t last_logits = 0;
};

// These rows of an input, each as often as it is named: an input of as many rows.
ModelInput SelectRows(ModelInput input, absl::Span<const int64_t> rows);

// The past of a run: one state per mixer, and how many tokens it has seen.
class ModelState {
 public:
  ModelState() = default;
  // Of blocks that have seen `length` tokens.
  ModelState(int64_t length, std::vector<BlockState> blocks)
      : length_(length), blocks_(std::move(blocks)) {}

  int64_t length() const { return length_; }
  const std::vector<BlockState>& blocks() const { return blocks_; }
  // A copy that goes on by itself.
  ModelState Fork() const;
  // Forgets all but the first `length` tokens. Unimplemented, and nothing changed, if one of the
  // mixers cannot.
  absl::Status RollBack(int64_t length);
  // A state whose row i goes on from row rows[i] of this one: rows can be dropped, put in another
  // order and repeated (beam search).
  ModelState Select(absl::Span<const int64_t> rows) const;
  size_t bytes() const;
  // Room for `length` tokens in all: up to there nothing that is remembered moves again.
  void Reserve(int64_t length);

 private:
  friend class ResidualModel;
  int64_t length_ = 0;
  std::vector<BlockState> blocks_;
};

// The blocks [begin, end).
struct LayerRange {
  int begin = 0, end = 0;
};

class ResidualModel : public Module {
 public:
  ResidualModel(Embed embed, std::vector<Block> blocks, Norm ln_final, Unembed unembed,
                int64_t n_ctx);

  void Describe(Visitor& v) override;

  // Checks tokens against vocabulary and context, shapes and dtypes; InvalidArgument says what was
  // found and expected. Forward CHECKs the same.
  absl::Status Validate(const ModelInput& input, const ModelState* state = nullptr) const;

  // Logits [batch, pos or input.last_logits, d_vocab], f32 under Precision::kBF16.
  Tensor Forward(const ModelInput& input, ModelState* state = nullptr, Hooks* hooks = nullptr,
                 const MixerContext* training = nullptr) const;

  // The logits after the last position alone, [batch, d_vocab]: what generation needs. With a state
  // a long input is read in pieces, for less memory.
  Tensor NextLogits(ModelInput input, ModelState* state) const;

  // Forward after Validate, with the hooks' names checked before and their firing after the run.
  absl::StatusOr<Tensor> Run(const ModelInput& input, Hooks* hooks = nullptr,
                             ModelState* state = nullptr) const;

  // The three parts. A context comes from MakeContext; training: dropout is on, with its seed and
  // step.
  MixerContext MakeContext(const ModelInput& input, const ModelState* state = nullptr,
                           const MixerContext* training = nullptr) const;
  Tensor EmbedTokens(const ModelInput& input, const MixerContext& context, const Scope& hook) const;
  // last > 0: if the model's last block is among the layers, so many last positions of the stream
  // after it alone, see Block.
  Tensor Stream(Tensor resid, LayerRange layers, const MixerContext& context, ModelState* state,
                const Scope& hook, int64_t last = 0) const;
  Tensor UnembedStream(const Tensor& resid, const Scope& hook,
                       Precision precision = Precision::kFull) const;

  // An empty past for `batch` rows.
  ModelState NewState(int64_t batch) const;

  int n_layers() const { return static_cast<int>(blocks_.size()); }
  int64_t d_model() const { return embed_.options().d_model; }
  int64_t d_vocab() const { return embed_.options().d_vocab; }
  int64_t n_ctx() const { return n_ctx_; }                     // 0: unbounded
  DType dtype() const { return embed_.W_E_.compute_dtype(); }  // of the stream
  const Embed& embed() const { return embed_; }
  const Block& block(int layer) const { return blocks_[layer]; }
  const Norm& ln_final() const { return ln_final_; }
  const Unembed& unembed() const { return unembed_; }
  // [d_model, d_vocab], tied or not (a tied one is transposed here: a copy).
  Tensor UnembedMatrix() const;
  // What the logits of these tokens are products with, [ids, d_model]: columns of that matrix.
  Tensor UnembedDirections(absl::Span<const int64_t> ids) const;
  // Gives the output layer a matrix of its own (the embedding transposed) where it is tied, and a
  // bias (zeros) where it has none. The model computes what it did.
  void SeparateUnembed();

 private:
  Embed embed_;
  std::vector<Block> blocks_;
  Norm ln_final_;
  Unembed unembed_;
  int64_t n_ctx_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_STREAM_RESIDUAL_MODEL_H_
