// Small models of attention alone, for experiments that train them on a text.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_TEXT_MODELS_TEXT_MODELS_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_TEXT_MODELS_TEXT_MODELS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/stream/residual_model.h"

namespace residual {

struct TokenizedText {
  std::vector<int32_t> tokens;
  std::vector<std::string> vocabulary;  // the text of each token

  std::vector<int64_t> occurring() const;  // the tokens there are in it, rising
};
// By byte-pair encoding learned from it. Errors are those of TrainBpe.
absl::StatusOr<TokenizedText> TokenizeText(const std::string& text, int64_t vocab_size);

// Sines and cosines of the position are added to what queries and keys are made of.
struct AttentionOnly {
  int layers = 0;  // 0: the embedding and the unembedding alone, which know no positions
  int64_t d_model = 0, n_heads = 0, context = 0, d_vocab = 0;
  double init_scale = 0.02;
  // Without norms and biases, so that logits are a sum over paths (Elhage et al. 2021).
  bool sum_of_paths = false;
  bool smeared_keys = false;
};
// n_heads must divide d_model (CHECKed). Initialised from the seed.
std::unique_ptr<ResidualModel> NewAttentionOnly(const AttentionOnly& shape, uint64_t seed);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_TEXT_MODELS_TEXT_MODELS_H_
