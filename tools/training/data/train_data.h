// The data of a recipe.

#ifndef RESIDUAL_TOOLS_TRAINING_DATA_TRAIN_DATA_H_
#define RESIDUAL_TOOLS_TRAINING_DATA_TRAIN_DATA_H_

#include <memory>

#include "absl/status/statusor.h"
#include "models/data/labeled/labeled.h"
#include "models/settings/settings.h"
#include "models/text/tokenizer.h"
#include "models/train/data.h"
#include "tools/training/recipe.h"

namespace residual {

struct TrainData {
  std::unique_ptr<DataSource> source;    // null for labelled data
  std::unique_ptr<Tokenizer> tokenizer;  // null but for a text
  LabeledSplit labeled;                  // of labelled data: test rows may be none
};

// Reads and tokenises the text, or reads the labelled data and holds out rows to validate on. For a
// new run their size and checksum go into the recipe and a tokenizer is made; for a resumed one
// they have to agree, and the tokenizer is that of OUT. Errors name the file; nothing is written.
absl::StatusOr<TrainData> LoadTrainData(const TrainFlags& flags, const TrainingPlan& plan,
                                        Recipe& recipe);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_TRAINING_DATA_TRAIN_DATA_H_
