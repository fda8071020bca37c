// What a training run is made from: settings, and where its data come from (data/ reads them). All
// of the train.json that a run leaves in its folder, so that --resume needs no other flag.

#ifndef RESIDUAL_TOOLS_TRAINING_RECIPE_H_
#define RESIDUAL_TOOLS_TRAINING_RECIPE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "models/settings/settings.h"
#include "nlohmann/json.hpp"

namespace residual {

// The flags of //tools:train as they were given; "" and nullopt: not given.
struct TrainFlags {
  std::string model, text, task, labeled, out, config;
  bool resume = false;
  std::optional<uint64_t> seed;
  std::vector<std::pair<std::string, std::string>> settings;  // --name=value
};

struct Recipe {
  Settings settings;
  // One of them: a path, a task's name, labelled data to classify (models/data/sets).
  std::string text = {}, task = {}, labeled = {};
  uint64_t text_bytes = 0;  // of the text when the run began
  std::string text_crc32 = {};
  int64_t labeled_rows = 0;  // the same of the rows to train on
  std::string labeled_crc32 = {};

  nlohmann::json ToJson() const;
};

// "OUT/train.json".
std::string RecipePath(const TrainFlags& flags);

// That of the flags, over those of --config, over the defaults of --model. A UsageError names the
// flag or setting that cannot be.
absl::StatusOr<Recipe> NewRecipe(const TrainFlags& flags);

// That of OUT/train.json. Flags may repeat what it says; a UsageError names one that contradicts
// it. The text may lie elsewhere now.
absl::StatusOr<Recipe> ResumedRecipe(const TrainFlags& flags);

// "bytes" or "bpe:SIZE": made from the text; anything else is a path.
bool IsTokenizerKind(const std::string& value);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_TRAINING_RECIPE_H_
