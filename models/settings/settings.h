// The settings of a training run: a flat list of names and values, the same on the command line
// (--d_model=64), in a config file ({"d_model": 64}) and in the train.json that a run leaves.
//
//   RESIDUAL_ASSIGN_OR_RETURN(Settings settings, Settings::Of("attn_only"));
//   RESIDUAL_RETURN_IF_ERROR(settings.SetText("d_model", "64"));
//   RESIDUAL_ASSIGN_OR_RETURN(TrainingPlan plan, settings.Resolve());

#ifndef RESIDUAL_MODELS_SETTINGS_SETTINGS_H_
#define RESIDUAL_MODELS_SETTINGS_SETTINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/classify/classifier.h"
#include "models/train/data.h"
#include "models/train/run.h"
#include "nlohmann/json.hpp"

namespace residual {

// What the settings mean.
struct TrainingPlan {
  nlohmann::json model;  // a config.json; "d_vocab" is to be that of the data
  int64_t d_vocab = 0;   // 0: not given
  int64_t n_items = 0;   // of a task; 0: not given
  // Of a classifier. Rows kept from training to choose the best step by; 0: a tenth of them, at
  // most 1000.
  int64_t validation_rows = 0;
  Pooling pooling = Pooling::kMean;
  RunConfig run;
  TextOptions text;
  std::string tokenizer;  // "bytes", "bpe:SIZE" or a path
};

class Settings {
 public:
  // All settings at the values with which the preset learns something in minutes. InvalidArgument
  // lists the presets.
  static absl::StatusOr<Settings> Of(const std::string& preset);
  static std::vector<std::string> Presets();

  // Sets one from text, as its type asks. Besides the names: "n_ctx" (context), "dropout" (all
  // three), "betas" ("0.9,0.98"). InvalidArgument names the nearest setting, or what was expected.
  absl::Status SetText(const std::string& name, const std::string& text);
  // Sets every member of the object; `source` is its name in errors.
  absl::Status SetAll(const nlohmann::json& values, const std::string& source);

  // Checks ranges and what fits together. InvalidArgument names the setting, what was found and
  // what is expected.
  absl::StatusOr<TrainingPlan> Resolve() const;

  // All of them by name.
  const nlohmann::json& values() const { return values_; }

 private:
  explicit Settings(nlohmann::json values) : values_(std::move(values)) {}
  absl::Status Set(const std::string& name, const nlohmann::json& value, const std::string& source);

  nlohmann::json values_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_SETTINGS_SETTINGS_H_
