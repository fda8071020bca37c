#include "tools/classifiers/classifiers.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/classify/classifier_folder.h"
#include "models/classify/train_classifier.h"
#include "models/data/sets/labeled_set.h"
#include "models/nn/hook.h"
#include "models/nn/nearest.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

using nlohmann::json;

absl::StatusOr<LoadedClassifier> Load(const CommandLine& cli, const ModelFlags& flags) {
  const LoadOptions given = flags.options();
  if (given.dtype.has_value() || given.quantize != Quantization::kNone) {
    return UsageError(
        "--dtype and --quantize are for models of tokens; classifiers are held in f32");
  }
  ClassifierLoadOptions options;
  options.mmap = given.mmap;
  RESIDUAL_ASSIGN_OR_RETURN(LoadedClassifier loaded, LoadClassifier(flags.path(), options));
  for (const std::string& warning : loaded.warnings) PrintWarning(cli, warning);
  return loaded;
}

absl::Status At(const std::string& where, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(where, ": ", status.message()));
}

// What a class is called.
std::string ClassName(const ClassifierConfig& config, size_t c) {
  return config.class_names.empty() ? absl::StrCat(c) : config.class_names[c];
}

// How many positions of each row are its own, from a mask of ones and then zeros.
absl::StatusOr<std::vector<int64_t>> LengthsOf(const std::string& path, const std::string& name,
                                               const Tensor& mask) {
  std::vector<int64_t> lengths;
  for (int64_t row = 0; row < mask.dim(0); ++row) {
    const bool* own = mask.data<bool>() + row * mask.dim(1);
    const int64_t length = std::find(own, own + mask.dim(1), false) - own;
    if (std::find(own + length, own + mask.dim(1), true) != own + mask.dim(1)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": '", name, "': row ", row,
                       " has padding before a token, expected it behind: a classifier reads from "
                       "the first position on"));
    }
    lengths.push_back(length);
  }
  return lengths;
}

struct Rows {
  Tensor x;
  std::vector<int64_t> lengths;
};
absl::StatusOr<Rows> ReadRows(const ClassifierConfig& config, const ClassifierActivations& wanted) {
  Rows rows;
  if (config.channels == 0) {
    RESIDUAL_ASSIGN_OR_RETURN(const ModelInput input,
                              ReadModelInput(wanted.tokens, wanted.input, wanted.mask));
    rows.x = input.tokens;
    if (input.attention_mask.defined()) {
      const std::string mask = wanted.mask.empty() ? "attention_mask" : wanted.mask;
      RESIDUAL_ASSIGN_OR_RETURN(rows.lengths, LengthsOf(wanted.tokens, mask, input.attention_mask));
    }
    return rows;
  }
  RESIDUAL_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(wanted.tokens));
  const TensorInfo* found = file.Find(wanted.input);
  if (found == nullptr) {
    std::vector<std::string> names;
    for (const TensorInfo& tensor : file.tensors()) names.push_back(tensor.name);
    return absl::NotFoundError(absl::StrCat(wanted.tokens, ": no tensor '", wanted.input,
                                            "' (--input says which)",
                                            DidYouMean(wanted.input, names)));
  }
  if (!found->readable || !IsFloat(found->dtype)) {
    return absl::InvalidArgumentError(absl::StrCat(
        wanted.tokens, ": '", wanted.input, "' is ", found->dtype_name, found->shape.ToString(),
        ", expected floats [batch, pos, ", config.channels, "]"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor stored, file.Read(wanted.input));
  rows.x = ConvertTo(stored, kF32);
  return rows;
}

}  // namespace

absl::Status EvaluateClassifier(const CommandLine& cli, const ModelFlags& model_flags,
                                const ClassifierEvaluation& evaluation) {
  const absl::StatusOr<LabeledSetSpec> parsed = ParseLabeledSet(evaluation.labeled);
  if (!parsed.ok()) return UsageError(absl::StrCat("--labeled: ", parsed.status().message()));
  LabeledSetSpec spec = *parsed;
  if (!spec.path.empty()) spec.path = FromUserFolder(spec.path);
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedClassifier loaded, Load(cli, model_flags));
  const ClassifierConfig& config = loaded.model->config();
  RESIDUAL_ASSIGN_OR_RETURN(const LabeledSet set,
                            ReadLabeledSet(spec, {config.class_names, config.body.n_ctx}));
  const bool has_test = set.test.n() > 0;
  if (evaluation.rows == "test" && !has_test) {
    return UsageError(absl::StrCat("--rows=test: ", spec.ToString(), " has none set apart"));
  }
  const bool test = evaluation.rows == "test" || (evaluation.rows == "auto" && has_test);
  const LabeledSequences& data = test ? set.test : set.train;
  const absl::Status readable = CheckReadable(*loaded.model, data);
  if (!readable.ok()) return At(spec.ToString(), readable);
  const ClassifierScore score = ScoreClassifier(*loaded.model, data, 100, model_flags.precision());
  json result = {{"rows", data.n()},
                 {"of", test ? "test" : "train"},
                 {"accuracy", score.accuracy},
                 {"loss", score.loss},
                 {"classes", json::array()}};
  for (size_t c = 0; c < score.rows.size(); ++c) {
    result["classes"].push_back(
        {{"class", ClassName(config, c)}, {"rows", score.rows[c]}, {"right", score.right[c]}});
  }
  if (cli.json()) {
    std::printf("%s\n", result.dump().c_str());
    return absl::OkStatus();
  }
  absl::PrintF("%d rows to %s on\naccuracy       %.5f\nloss           %.5f nats per row\n",
               data.n(), test ? "test" : "train", score.accuracy, score.loss);
  for (const json& each : result["classes"]) {
    absl::PrintF("class %-10s %d of %d\n", each["class"].get<std::string>(),
                 each["right"].get<int64_t>(), each["rows"].get<int64_t>());
  }
  return absl::OkStatus();
}

absl::Status WriteClassifierActivations(const CommandLine& cli, const ModelFlags& model_flags,
                                        const ClassifierActivations& wanted) {
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedClassifier loaded, Load(cli, model_flags));
  RESIDUAL_ASSIGN_OR_RETURN(const Rows rows, ReadRows(loaded.model->config(), wanted));
  std::map<std::string, Tensor> found;
  Hooks hooks;
  for (const std::string& name : wanted.names) {
    hooks.Read(name, [&](absl::string_view point, const Tensor& x) {
      found[std::string(point)] = ConvertTo(x, kF32);
    });
  }
  const absl::Status known = hooks.Validate(HookPoints(*loaded.model));
  if (!known.ok()) return UsageError(absl::StrCat("--names: ", known.message()));
  const absl::StatusOr<Tensor> logits = loaded.model->Run(rows.x, rows.lengths, &hooks);
  if (!logits.ok()) return At(wanted.tokens, logits.status());
  found["logits"] = ConvertTo(*logits, kF32);
  const std::vector<NamedTensor> tensors(found.begin(), found.end());
  RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(wanted.out, tensors));
  json listed = {{"out", wanted.out}, {"tensors", json::array()}};
  for (const auto& [name, tensor] : tensors) {
    if (!cli.json()) std::printf("%-40s %s\n", name.c_str(), tensor.shape().ToString().c_str());
    listed["tensors"].push_back({{"name", name}, {"shape", tensor.shape().sizes()}});
  }
  if (cli.json()) std::printf("%s\n", listed.dump().c_str());
  return absl::OkStatus();
}

}  // namespace residual
