// A classifier of sequences: an encoder, the blocks of a residual model, the mean of the stream
// over time and a linear layer (as Gu et al. 2022 classify images read pixel by pixel).

#ifndef RESIDUAL_MODELS_CLASSIFY_CLASSIFIER_H_
#define RESIDUAL_MODELS_CLASSIFY_CLASSIFIER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/nn/hook.h"
#include "models/nn/module.h"
#include "models/nn/norm.h"
#include "models/stream/block.h"
#include "models/transformer/transformer.h"

namespace residual {

enum class Pooling {
  kMean,  // over a sequence's own positions
  kLast   // the last of them
};

// "mean", "last"; nullopt if unknown.
const char* PoolingName(Pooling pooling);
std::optional<Pooling> PoolingFromName(absl::string_view name);

struct ClassifierConfig {
  // Blocks, norms and sizes. n_ctx: the longest sequence; d_vocab: kinds of token, where tokens are
  // read. Positions are not encoded (kNone or attention's own).
  TransformerConfig body;
  int64_t channels = 0;  // of values; 0: tokens
  int64_t n_classes = 0;
  std::vector<std::string> class_names = {};  // [n_classes], for people; or empty
  Pooling pooling = Pooling::kMean;
  // Values v are read as (v - center) / scale.
  double center = 0.5, scale = 0.5;
};

class SequenceClassifier : public Module {
 public:
  static constexpr HookPoint kEmbed{"hook_embed", "[batch, pos, d_model]"};
  // What the head reads.
  static constexpr HookPoint kPooled{"hook_pooled", "[batch, d_model]"};
  static constexpr HookPoint kLogits{"hook_logits", "[batch, n_classes]"};

  // InvalidArgument names the field. Parameters have no value yet: Initialize them.
  static absl::StatusOr<std::unique_ptr<SequenceClassifier>> Make(const ClassifierConfig& config);

  void Describe(Visitor& v) override;

  // x: values [batch, pos, channels] or tokens, i32 or i64 [batch, pos], pos <= n_ctx; lengths: how
  // many positions of each row are its own, empty: all. Logits [batch, n_classes]. training:
  // dropout is on, with its seed and step; precision is taken from it too.
  Tensor Forward(const Tensor& x, const std::vector<int64_t>& lengths = {},
                 const MixerContext* training = nullptr, Hooks* hooks = nullptr) const;

  // InvalidArgument for input that Forward does not take: what was found and what is expected.
  absl::Status Validate(const Tensor& x, const std::vector<int64_t>& lengths) const;
  // Forward after Validate, with the hooks' names checked before and their firing after the run.
  absl::StatusOr<Tensor> Run(const Tensor& x, const std::vector<int64_t>& lengths,
                             Hooks* hooks) const;

  // The same logits of rows that are read `chunk` positions at a time: what is kept between chunks,
  // `state_bytes` of it (may be null), are the states of the mixers and the sum so far. Where all
  // mixers are recurrences memory does not grow with the sequence. CHECKs that mixers are causal.
  Tensor ForwardInChunks(const Tensor& x, int64_t chunk, size_t* state_bytes = nullptr) const;

  const ClassifierConfig& config() const { return config_; }

 private:
  explicit SequenceClassifier(const ClassifierConfig& config);
  void CheckInput(const Tensor& x) const;
  Tensor Encode(const Tensor& x, Precision precision) const;
  Tensor Head(const Tensor& pooled, Precision precision) const;

  ClassifierConfig config_;
  Weight encoder_;  // [channels, d_model], or the embedding [d_vocab, d_model]
  Tensor encoder_bias_;
  std::vector<Block> blocks_;
  Norm ln_final_;
  Weight head_;  // [d_model, n_classes]
  Tensor head_bias_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_CLASSIFY_CLASSIFIER_H_
