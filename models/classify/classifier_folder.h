// Classifiers in folders, as models are: config.json and model.safetensors.
//
//   {"model_type": "residual_classifier", "channels": 1, "n_classes": 10, "classes": ["0", ..],
//    "pooling": "mean", "center": 0.5, "scale": 0.5,
//    "body": {"model_type": "residual", "d_model": 64, "blocks": [["s4d"], ["s4d"]], ..}}
//
// "body" has the fields of a "residual" config (models/zoo); "classes" may be missing. Parameters
// lie under their own names.

#ifndef RESIDUAL_MODELS_CLASSIFY_CLASSIFIER_FOLDER_H_
#define RESIDUAL_MODELS_CLASSIFY_CLASSIFIER_FOLDER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "models/classify/classifier.h"
#include "nlohmann/json.hpp"

namespace residual {

nlohmann::json ClassifierToJson(const ClassifierConfig& config);

// InvalidArgument names the field, what was found and what is expected; `file` is the config's name
// in errors.
absl::StatusOr<ClassifierConfig> ClassifierFromJson(const nlohmann::json& config,
                                                    const std::string& file);

// Whether the folder's config.json is a classifier's. False too where there is none to read: what
// loads the folder as a model says what is wrong with it.
bool HoldsClassifier(const std::string& folder);

struct LoadedClassifier {
  std::unique_ptr<SequenceClassifier> model;  // f32
  nlohmann::json config;
  std::vector<ParameterSource> sources;  // where each parameter lies, in Parameters' order
  std::vector<std::string> warnings;     // tensors nobody reads
};

struct ClassifierLoadOptions {
  bool mmap = true;       // false: plain reads
  bool weights = true;    // false: the parameters stay without value; all is checked all the same
  bool writable = false;  // to train on
};

// As LoadModel: NotFound, InvalidArgument or DataLoss, with the file, the field or tensors, what
// was found and what was expected; checked as a whole before anything is allocated.
absl::StatusOr<LoadedClassifier> LoadClassifier(const std::string& folder,
                                                const ClassifierLoadOptions& options = {});

// Writes model.safetensors, then config.json, each atomically, into a folder that is made if need
// be.
absl::Status SaveClassifier(SequenceClassifier& model, const std::string& folder);

}  // namespace residual

#endif  // RESIDUAL_MODELS_CLASSIFY_CLASSIFIER_FOLDER_H_
