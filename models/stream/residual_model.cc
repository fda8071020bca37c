#include "models/stream/residual_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/dropout/dropout.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "ops/matmul/matmul.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"
#include "tensor/core/storage.h"

namespace residual {

namespace {

// Positions of a prompt that are read at once where a state keeps what was read: what a layer makes
// of them is the largest part of a prefill's memory. GPT-2 124M reads no faster with more. At most:
// the pieces are of equal size, so that one takes the memory that the one before it returned.
constexpr int64_t kPositionsAtOnce = 256;
constexpr int64_t kLeastPrompt = 16;

// Positions [begin, end) of [pos] or [batch, pos]; undefined stays undefined.
Tensor PositionsOf(const Tensor& x, int64_t begin, int64_t end) {
  return x.defined() ? Slice(x, x.rank() - 1, begin, end) : x;
}

// The first `count` positions of an input after `past`, or all but these.
ModelInput FirstPositions(ModelInput input, int64_t count, int64_t past) {
  input.tokens = PositionsOf(input.tokens, 0, count);
  input.positions = PositionsOf(input.positions, 0, count);
  input.attention_mask = PositionsOf(input.attention_mask, 0, past + count);
  return input;
}
ModelInput WithoutFirstPositions(ModelInput input, int64_t count) {
  const int64_t pos = input.tokens.dim(1);
  input.tokens = PositionsOf(input.tokens, count, pos);
  input.positions = PositionsOf(input.positions, count, pos);
  return input;
}

}  // namespace

ModelInput SelectRows(ModelInput input, absl::Span<const int64_t> rows) {
  const Tensor indices = Tensor::Of<int64_t>({static_cast<int64_t>(rows.size())}, rows);
  input.tokens = GatherRows(input.tokens, indices);
  if (input.attention_mask.defined()) {
    input.attention_mask = GatherRows(input.attention_mask, indices);
  }
  if (input.positions.defined() && input.positions.rank() == 2) {
    input.positions = GatherRows(input.positions, indices);
  }
  if (input.segments.defined()) input.segments = GatherRows(input.segments, indices);
  return input;
}

Tensor SinusoidalRows(const Tensor& positions, int64_t d_model, DType dtype) {
  RESIDUAL_CHECK(positions.dtype() == kI64 && IsFloat(dtype)) << positions.ToString();
  const int64_t pairs = (d_model + 1) / 2, n = positions.elements();
  std::vector<double> frequency(pairs);
  for (int64_t i = 0; i < pairs; ++i) frequency[i] = std::pow(10000.0, -2.0 * i / d_model);
  Tensor rows = Tensor::Uninitialized(positions.shape().Appended(d_model), kF64);
  double* out = rows.mutable_data<double>();
  const int64_t* p = positions.data<int64_t>();
  constexpr int64_t kGrain = 1 << 12;
  ParallelFor(n, std::max<int64_t>(1, kGrain / d_model), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t i = 0; i < d_model; ++i) {
        const double angle = static_cast<double>(p[row]) * frequency[i / 2];
        out[row * d_model + i] = i % 2 == 0 ? std::sin(angle) : std::cos(angle);
      }
    }
  });
  return ConvertTo(rows, dtype);
}

Embed::Embed(const EmbedOptions& options) : options_(options) {}

bool Embed::learns_table() const {
  return options_.positions == Positions::kLearned || options_.positions == Positions::kShortformer;
}

bool Embed::has_table() const {
  return learns_table() || options_.positions == Positions::kSinusoidal ||
         options_.positions == Positions::kSinusoidalOnQK;
}

bool Embed::positions_on_stream() const {
  return options_.positions == Positions::kLearned || options_.positions == Positions::kSinusoidal;
}

void Embed::Describe(Visitor& v) {
  v.Param("W_E", W_E_, {options_.d_vocab, options_.d_model}, Init::Normal(options_.init_scale));
}

Tensor Embed::PositionRows(const Tensor& positions) const {
  if (learns_table()) return LookUp(W_pos_, positions);
  return SinusoidalRows(positions, options_.d_model, W_E_.compute_dtype());
}

void Unembed::Describe(Visitor& v) {
  if (!options_.tied) {
    v.Param("W_U", W_U_, {options_.d_model, options_.d_vocab}, Init::Normal(options_.init_scale));
  }
  if (options_.bias) {
    v.Param("b_U", b_U_, {options_.d_vocab}, Init::Zeros(), ParamOptions::NoDecay());
  }
}

ModelState ModelState::Fork() const {
  ModelState fork;
  fork.length_ = length_;
  for (const BlockState& block : blocks_) {
    BlockState& copy = fork.blocks_.emplace_back();
    for (const auto& state : block) copy.push_back(state ? state->Fork() : nullptr);
  }
  return fork;
}

absl::Status ModelState::RollBack(int64_t length) {
  if (length < 0 || length > length_) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot roll back to ", length, " tokens: the state has seen ", length_));
  }
  ModelState back = Fork();  // one mixer may be able to go back and the next not: all or none
  for (BlockState& block : back.blocks_) {
    for (auto& state : block) {
      if (state) RESIDUAL_RETURN_IF_ERROR(state->RollBack(length));
    }
  }
  back.length_ = length;
  *this = std::move(back);
  return absl::OkStatus();
}

ModelState ModelState::Select(absl::Span<const int64_t> rows) const {
  ModelState selected;
  selected.length_ = length_;
  for (const BlockState& block : blocks_) {
    BlockState& copy = selected.blocks_.emplace_back();
    for (const auto& state : block) copy.push_back(state ? state->Select(rows) : nullptr);
  }
  return selected;
}

void ModelState::Reserve(int64_t length) {
  for (BlockState& block : blocks_) {
    for (auto& state : block) {
      if (state) state->Reserve(length);
    }
  }
}

size_t ModelState::bytes() const {
  size_t total = 0;
  for (const BlockState& block : blocks_) {
    for (const auto& state : block) {
      if (state) total += state->bytes();
    }
  }
  return total;
}

ResidualModel::ResidualModel(Embed embed, std::vector<Block> blocks, Norm ln_final, Unembed unembed,
                             int64_t n_ctx)
    : embed_(std::move(embed)),
      blocks_(std::move(blocks)),
      ln_final_(std::move(ln_final)),
      unembed_(std::move(unembed)),
      n_ctx_(n_ctx) {}

void ResidualModel::Describe(Visitor& v) {
  v.Child("embed", embed_);
  v.Hooks({Embed::kEmbed});
  if (embed_.has_table()) {
    struct PositionTable : Module {
      Embed* embed;
      void Describe(Visitor& visitor) override {
        const EmbedOptions& options = embed->options_;
        visitor.Param("W_pos", embed->W_pos_, {options.n_ctx, options.d_model},
                      Init::Normal(options.init_scale), ParamOptions::NoDecay());
      }
    } table;
    table.embed = &embed_;
    if (embed_.learns_table()) v.Child("pos_embed", table);
    v.Hooks({Embed::kPosEmbed});
  }
  for (int layer = 0; layer < n_layers(); ++layer) v.Child("blocks", layer, blocks_[layer]);
  v.Child("ln_final", ln_final_);
  v.Child("unembed", unembed_);
  v.Hooks({Unembed::kOut});
}

absl::Status ResidualModel::Validate(const ModelInput& input, const ModelState* state) const {
  const Tensor& tokens = input.tokens;
  if (!tokens.defined() || tokens.rank() != 2 ||
      (tokens.dtype() != kI64 && tokens.dtype() != kI32)) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens are ", tokens.ToString(), ", expected i64 or i32 [batch, pos]"));
  }
  if (tokens.dim(0) < 1 || tokens.dim(1) < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens are ", tokens.ToString(), ": empty, expected at least one token"));
  }
  const int64_t past = state ? state->length() : 0;
  const int64_t length = past + tokens.dim(1);
  if (n_ctx_ > 0 && length > n_ctx_) {
    return absl::InvalidArgumentError(
        absl::StrCat(length, " tokens, longer than the model's context of ", n_ctx_));
  }
  for (int layer = 0; state != nullptr && layer < n_layers(); ++layer) {
    for (const Branch& branch : blocks_[layer].branches()) {
      if (branch.mixer->causal()) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "blocks.", layer, ".", branch.name,
          " reads later positions too: a sequence is read as a whole, not from a state, and not "
          "generated from"));
    }
  }
  const Tensor ids = ConvertTo(tokens, kI64);
  for (int64_t i = 0; i < ids.elements(); ++i) {
    const int64_t id = ids.data<int64_t>()[i];
    if (id < 0 || id >= d_vocab()) {
      return absl::InvalidArgumentError(absl::StrCat("token ", id, " at row ", i / tokens.dim(1),
                                                     ", position ", i % tokens.dim(1),
                                                     " is outside the vocabulary of ", d_vocab()));
    }
  }
  const Tensor& mask = input.attention_mask;
  if (mask.defined() && (mask.dtype() != kBool || mask.shape() != Shape{tokens.dim(0), length})) {
    return absl::InvalidArgumentError(absl::StrCat("attention_mask is ", mask.ToString(),
                                                   ", expected bool[", tokens.dim(0), ", ", length,
                                                   "]"));
  }
  const Tensor& positions = input.positions;
  if (positions.defined()) {
    if (positions.dtype() != kI64 ||
        (positions.shape() != tokens.shape() && positions.shape() != Shape{tokens.dim(1)})) {
      return absl::InvalidArgumentError(absl::StrCat("positions are ", positions.ToString(),
                                                     ", expected i64 [pos] or [batch, pos]"));
    }
    for (int64_t p : positions.span<int64_t>()) {
      if (p < 0 || (n_ctx_ > 0 && p >= n_ctx_)) {
        return absl::InvalidArgumentError(
            absl::StrCat("position ", p, " is outside the context of ", n_ctx_));
      }
    }
  }
  const Tensor& segments = input.segments;
  if (segments.defined() && (segments.dtype() != kI64 || segments.shape() != tokens.shape())) {
    return absl::InvalidArgumentError(absl::StrCat("segments are ", segments.ToString(),
                                                   ", expected i64", tokens.shape().ToString()));
  }
  if (segments.defined() && state != nullptr) {
    return absl::InvalidArgumentError(
        "segments were given with a state, expected a run of whole sequences");
  }
  if (input.precision == Precision::kBF16 && dtype() != kF32) {
    return absl::InvalidArgumentError(absl::StrCat("precision is bf16 and the weights are ",
                                                   Name(dtype()), ", expected weights in f32"));
  }
  if (input.last_logits < 0 || input.last_logits > tokens.dim(1)) {
    return absl::InvalidArgumentError(absl::StrCat("last_logits is ", input.last_logits,
                                                   ", expected at most the ", tokens.dim(1),
                                                   " positions there are"));
  }
  return absl::OkStatus();
}

MixerContext ResidualModel::MakeContext(const ModelInput& input, const ModelState* state,
                                        const MixerContext* training) const {
  MixerContext context;
  if (training != nullptr) {
    context.training = true;
    context.seed = training->seed;
    context.step = training->step;
  }
  context.past = state ? state->length() : 0;
  context.key_mask = input.attention_mask;
  context.segments = input.segments;
  context.precision = input.precision;
  context.positions = input.positions;
  if (context.positions.defined()) return context;
  const int64_t n = input.tokens.dim(1);
  if (input.segments.defined()) {
    context.positions = Tensor::Uninitialized(input.segments.shape(), kI64);
    const int64_t* segments = input.segments.data<int64_t>();
    int64_t* positions = context.positions.mutable_data<int64_t>();
    for (int64_t i = 0; i < input.segments.elements(); ++i) {
      const bool goes_on = i % n > 0 && segments[i] == segments[i - 1];
      positions[i] = goes_on ? positions[i - 1] + 1 : 0;
    }
  } else {
    context.positions = Tensor::Uninitialized({n}, kI64);
    int64_t* positions = context.positions.mutable_data<int64_t>();
    for (int64_t i = 0; i < n; ++i) positions[i] = context.past + i;
  }
  return context;
}

Tensor ResidualModel::EmbedTokens(const ModelInput& input, const MixerContext& context,
                                  const Scope& hook) const {
  Tensor resid = hook(Embed::kEmbed, LookUp(embed_.W_E_, input.tokens));
  if (embed_.positions_on_stream()) {
    Tensor rows = embed_.PositionRows(context.positions);
    if (hook.Wants(Embed::kPosEmbed)) {
      rows = hook(Embed::kPosEmbed, BroadcastTo(rows, resid.shape()));
    }
    resid = Add(resid, rows);
  }
  if (context.training && embed_.options().dropout > 0) {
    resid = Dropout(resid, embed_.options().dropout, context.seed,
                    RandomStream("embed", 0, context.step));
  }
  return resid;
}

Tensor ResidualModel::Stream(Tensor resid, LayerRange layers, const MixerContext& context,
                             ModelState* state, const Scope& hook, int64_t last) const {
  RESIDUAL_CHECK(0 <= layers.begin && layers.begin <= layers.end && layers.end <= n_layers())
      << "layers [" << layers.begin << ", " << layers.end << ") of " << n_layers();
  MixerContext at_layer = context;
  if (embed_.has_table() && !embed_.positions_on_stream()) {
    Tensor rows = embed_.PositionRows(context.positions);
    if (hook.Wants(Embed::kPosEmbed)) {
      rows = hook(Embed::kPosEmbed, BroadcastTo(rows, resid.shape()));
    }
    at_layer.query_key_positions = rows;
  }
  for (int layer = layers.begin; layer < layers.end; ++layer) {
    at_layer.layer = layer;
    resid = blocks_[layer].Forward(resid, at_layer, state ? &state->blocks_[layer] : nullptr,
                                   hook.In("blocks", layer), layer + 1 == n_layers() ? last : 0);
  }
  return resid;
}

Tensor ResidualModel::UnembedStream(const Tensor& resid, const Scope& hook,
                                    Precision precision) const {
  const Tensor x = ln_final_.Forward(resid, hook.In("ln_final"));
  MatMulOptions options;
  options.transpose_b = unembed_.options().tied;
  options.bias = unembed_.b_U();
  const Weight& weight = unembed_.options().tied ? embed_.W_E_ : unembed_.W_U_;
  return hook(Unembed::kOut, Linear(x, weight, precision, options));
}

Tensor ResidualModel::Forward(const ModelInput& input, ModelState* state, Hooks* hooks,
                              const MixerContext* training) const {
  const Scope hook(hooks);
  const MixerContext context = MakeContext(input, state, training);
  Tensor resid = EmbedTokens(input, context, hook);
  resid = Stream(resid, {0, n_layers()}, context, state, hook);
  if (state != nullptr) state->length_ += input.tokens.dim(1);
  if (input.last_logits > 0) {
    resid = Slice(resid, 1, resid.dim(1) - input.last_logits, resid.dim(1));
  }
  return UnembedStream(resid, hook, input.precision);
}

Tensor ResidualModel::NextLogits(ModelInput input, ModelState* state) const {
  int64_t pieces = state == nullptr ? 1 : NumChunks(input.tokens.dim(1), kPositionsAtOnce);
  for (; pieces > 1; --pieces) {
    const int64_t count = NumChunks(input.tokens.dim(1), pieces);
    const ModelInput piece = FirstPositions(input, count, state->length());
    const MixerContext context = MakeContext(piece, state, nullptr);
    Stream(EmbedTokens(piece, context, Scope()), {0, n_layers()}, context, state, Scope());
    state->length_ += count;
    input = WithoutFirstPositions(input, count);
  }
  const int64_t batch = input.tokens.dim(0), pos = input.tokens.dim(1);
  const MixerContext context = MakeContext(input, state, nullptr);
  Tensor resid =
      Stream(EmbedTokens(input, context, Scope()), {0, n_layers()}, context, state, Scope());
  if (state != nullptr) state->length_ += pos;
  resid = Slice(resid, 1, pos - 1, pos);
  // Before the unembedding is read for the first time, what the positions of a prompt needed is
  // returned: so much less is the most that a process holds.
  if (pos >= kLeastPrompt) TrimHostPool();
  return UnembedStream(resid, Scope(), input.precision).Reshaped({batch, d_vocab()});
}

absl::StatusOr<Tensor> ResidualModel::Run(const ModelInput& input, Hooks* hooks,
                                          ModelState* state) const {
  RESIDUAL_RETURN_IF_ERROR(Validate(input, state));
  if (hooks != nullptr) {
    RESIDUAL_RETURN_IF_ERROR(hooks->Validate(HookPoints(*this)));
    hooks->Reset();
  }
  Tensor logits = Forward(input, state, hooks);
  if (hooks != nullptr) RESIDUAL_RETURN_IF_ERROR(hooks->CheckFired());
  return logits;
}

ModelState ResidualModel::NewState(int64_t batch) const {
  ModelState state;
  for (const Block& block : blocks_) state.blocks_.push_back(block.NewState(batch));
  return state;
}

void ResidualModel::SeparateUnembed() {
  unembed_.W_U_ = UnembedMatrix();
  unembed_.options_.tied = false;
  if (!unembed_.options_.bias) {
    unembed_.options_.bias = true;
    unembed_.b_U_ = Tensor::Zeros({d_vocab()}, dtype());
  }
}

Tensor ResidualModel::UnembedMatrix() const {
  return unembed_.options().tied ? Transpose(embed_.W_E_.Dense(), 0, 1) : unembed_.W_U_.Dense();
}

Tensor ResidualModel::UnembedDirections(absl::Span<const int64_t> ids) const {
  const int64_t n = static_cast<int64_t>(ids.size());
  if (unembed_.options().tied) return LookUp(embed_.W_E_, Tensor::Of<int64_t>({n}, ids));
  const Tensor columns = unembed_.W_U_.Dense();
  Tensor rows = Tensor::Uninitialized({n, columns.dim(0)}, columns.dtype());
  VisitDType(columns.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* from = columns.data<T>();
    T* to = rows.mutable_data<T>();
    for (const int64_t id : ids) {
      for (int64_t k = 0; k < columns.dim(0); ++k) *to++ = from[k * columns.dim(1) + id];
    }
  });
  return rows;
}

}  // namespace residual
