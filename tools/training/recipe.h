// What a training run is made from: settings, and where its data come from. All of the train.json
// that a run leaves in its folder, so that --resume needs no other flag.

#ifndef RESIDUAL_TOOLS_TRAINING_RECIPE_H_
#define RESIDUAL_TOOLS_TRAINING_RECIPE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/settings/settings.h"
#include "models/text/tokenizer.h"
#include "models/train/data.h"
#include "nlohmann/json.hpp"

namespace residual {

// The flags of //tools:train as they were given; "" and nullopt: not given.
struct TrainFlags {
  std::string model, text, task, out, config;
  bool resume = false;
  std::optional<uint64_t> seed;
  std::vector<std::pair<std::string, std::string>> settings;  // --name=value
};

struct Recipe {
  Settings settings;
  std::string text, task;   // one of them: a path, or a task's name
  uint64_t text_bytes = 0;  // of the text when the run began
  std::string text_crc32;

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

struct TrainData {
  std::unique_ptr<DataSource> source;
  std::unique_ptr<Tokenizer> tokenizer;  // null for a task
};

// Reads and tokenises the text. For a new run its size and checksum go into the recipe and a
// tokenizer is made; for a resumed one they have to agree, and the tokenizer is that of OUT. Errors
// name the file; nothing is written.
absl::StatusOr<TrainData> LoadTrainData(const TrainFlags& flags, const TrainingPlan& plan,
                                        Recipe& recipe);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_TRAINING_RECIPE_H_
