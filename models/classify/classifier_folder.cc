#include "models/classify/classifier_folder.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/config_reader.h"
#include "models/checkpoint/tensor_source.h"
#include "models/zoo/architectures.h"
#include "models/zoo/zoo.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr size_t kConfigLimit = size_t{16} << 20;
constexpr int64_t kMostClasses = int64_t{1} << 20;

// The config of the "residual" kind within it.
TransformerConfig ReadBody(ConfigReader& c) {
  static const json kMissing;
  const json* body = c.Find("body");
  if (body == nullptr) body = &kMissing;
  if (!body->is_object()) {
    c.FailField("body", *body, "the object of a \"residual\" config");
    return {};
  }
  ConfigReader reader(*body, absl::StrCat(c.file(), ": 'body'"));
  const absl::StatusOr<TransformerConfig> read = ReadResidual(reader);
  c.Join(reader);
  return read.value_or(TransformerConfig());
}

std::vector<std::string> ReadClassNames(ConfigReader& c, int64_t n_classes) {
  const json* found = c.Find("classes");
  if (found == nullptr) return {};
  const bool names =
      found->is_array() &&
      std::all_of(found->begin(), found->end(), [](const json& name) { return name.is_string(); });
  if (!names || static_cast<int64_t>(found->size()) != n_classes) {
    const json shown = names ? json(absl::StrCat(found->size(), " names")) : *found;
    c.FailField("classes", shown, absl::StrCat(n_classes, " names, as 'n_classes' says"));
    return {};
  }
  return found->get<std::vector<std::string>>();
}

}  // namespace

json ClassifierToJson(const ClassifierConfig& config) {
  TransformerConfig body = config.body;
  if (config.channels > 0) body.d_vocab = 1;
  json written = {{"model_type", kClassifier},     {"channels", config.channels},
                  {"n_classes", config.n_classes}, {"pooling", PoolingName(config.pooling)},
                  {"center", config.center},       {"scale", config.scale},
                  {"body", ConfigToJson(body)}};
  if (!config.class_names.empty()) written["classes"] = config.class_names;
  return written;
}

absl::StatusOr<ClassifierConfig> ClassifierFromJson(const json& config, const std::string& file) {
  ConfigReader c(config, file);
  ClassifierConfig read;
  const std::string type = c.TextOr("model_type", "");
  if (type != kClassifier) {
    c.FailField("model_type", type, absl::StrCat("\"", kClassifier, "\""));
  }
  read.channels = c.Int("channels", 0, TransformerConfig::kMaxWidth);
  read.n_classes = c.Int("n_classes", 2, kMostClasses);
  read.class_names = ReadClassNames(c, read.n_classes);
  read.pooling = c.ChoiceOr<Pooling>("pooling", read.pooling, PoolingFromName, {"mean", "last"});
  read.center = c.NumberOr("center", read.center, -1e30, 1e30);
  read.scale = c.NumberOr("scale", read.scale, 1e-30, 1e30);
  read.body = ReadBody(c);
  c.FailOnUnreadKeys({});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  return read;
}

bool HoldsClassifier(const std::string& folder) {
  const absl::StatusOr<json> config = ReadJsonObject(JoinPath(folder, "config.json"), kConfigLimit);
  return config.ok() && config->value("model_type", json()) == kClassifier;
}

absl::StatusOr<LoadedClassifier> LoadClassifier(const std::string& folder,
                                                const ClassifierLoadOptions& options) {
  const std::string config_path = JoinPath(folder, "config.json");
  LoadedClassifier loaded;
  RESIDUAL_ASSIGN_OR_RETURN(loaded.config, ReadJsonObject(config_path, kConfigLimit));
  RESIDUAL_ASSIGN_OR_RETURN(const ClassifierConfig config,
                            ClassifierFromJson(loaded.config, config_path));
  absl::StatusOr<std::unique_ptr<SequenceClassifier>> model = SequenceClassifier::Make(config);
  if (!model.ok()) {
    return absl::Status(model.status().code(),
                        absl::StrCat(config_path, ": ", model.status().message()));
  }
  ReadOptions read;
  read.mmap = options.mmap;
  RESIDUAL_ASSIGN_OR_RETURN(const TensorSource source, TensorSource::Open(folder, read));
  RESIDUAL_ASSIGN_OR_RETURN(LoadPlan plan, PlanLoad(**model, {NameMap()}, source, "config.json"));
  if (options.weights) {
    ParameterFormat format;
    format.writable = options.writable;
    RESIDUAL_RETURN_IF_ERROR(ReadParameters(**model, plan, source, format));
  }
  loaded.model = *std::move(model);
  loaded.sources = std::move(plan.sources);
  if (!plan.unexpected.empty()) {
    for (std::string& name : plan.unexpected) name = ShortJson(json(name));
    loaded.warnings.push_back(absl::StrCat(source.path(), ": no parameter reads the tensors ",
                                           FirstFew(plan.unexpected)));
  }
  return loaded;
}

absl::Status SaveClassifier(SequenceClassifier& model, const std::string& folder) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<NamedTensor> tensors,
                            TensorsToWrite(model, NameMap()));
  RESIDUAL_RETURN_IF_ERROR(MakeFolders(folder));
  RESIDUAL_RETURN_IF_ERROR(
      WriteSafetensors(JoinPath(folder, "model.safetensors"), tensors, {{"format", "pt"}}));
  return WriteFileAtomically(JoinPath(folder, "config.json"),
                             ClassifierToJson(model.config()).dump(2) + "\n");
}

}  // namespace residual
