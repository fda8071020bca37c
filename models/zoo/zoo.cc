#include "models/zoo/zoo.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/nn/nearest.h"
#include "models/zoo/architectures.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr size_t kConfigLimit = size_t{16} << 20;

// The architecture of a config, asked for its model.
absl::StatusOr<BuiltModel> Build(const json& config, const std::string& file) {
  ConfigReader reader(config, file);
  std::string type = reader.TextOr("model_type", "");
  if (type.empty() && config.contains("d_model") && config.contains("n_layers") &&
      config.contains("d_vocab")) {
    type = kTransformerLens;
  }
  if (type.empty() && config.contains("d_model") && config.contains("n_layer") &&
      config.contains("vocab_size")) {
    type = kStateSpaces;
  }
  RESIDUAL_RETURN_IF_ERROR(reader.status());
  for (const Architecture& architecture : Architectures()) {
    if (type == architecture.model_type) return architecture.build(reader);
  }
  if (type == kClassifier) {
    return absl::UnimplementedError(absl::StrCat(
        file, ": 'model_type' is \"", kClassifier,
        "\", a classifier, which says no next token; //tools:inspect, :evaluate and :activations "
        "read it"));
  }
  const std::vector<std::string> known = ModelTypes();
  const std::string expected =
      absl::StrCat("expected one of \"", absl::StrJoin(known, "\", \""), "\"");
  if (type.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": 'model_type' is missing, ", expected));
  }
  return absl::UnimplementedError(absl::StrCat(file, ": 'model_type' is ", ShortJson(json(type)),
                                               ", ", expected,
                                               type.size() < 100 ? DidYouMean(type, known) : ""));
}

// The names and shapes of all parameters.
std::vector<std::pair<std::string, Shape>> Outline(ResidualModel& model) {
  std::vector<std::pair<std::string, Shape>> outline;
  for (const Parameter& p : Parameters(model)) outline.emplace_back(p.name, p.shape);
  return outline;
}

}  // namespace

std::vector<std::string> ModelTypes() {
  std::vector<std::string> types;
  for (const Architecture& architecture : Architectures()) types.push_back(architecture.model_type);
  return types;
}

absl::StatusOr<LoadedModel> LoadModel(const std::string& folder, const LoadOptions& options) {
  const std::string config_path = JoinPath(folder, "config.json");
  LoadedModel loaded;
  loaded.folder = folder;
  RESIDUAL_ASSIGN_OR_RETURN(loaded.config, ReadJsonObject(config_path, kConfigLimit));
  RESIDUAL_ASSIGN_OR_RETURN(BuiltModel built, Build(loaded.config, config_path));
  ReadOptions read;
  read.mmap = options.mmap;
  RESIDUAL_ASSIGN_OR_RETURN(const TensorSource source, TensorSource::Open(folder, read));
  RESIDUAL_ASSIGN_OR_RETURN(LoadPlan plan,
                            PlanLoad(*built.model, built.names, source, "config.json"));
  if (options.weights) {
    ParameterFormat format;
    format.writable = options.writable;
    format.stored = options.stored;
    format.dtype = options.dtype;
    format.quantize = options.quantize;
    RESIDUAL_RETURN_IF_ERROR(ReadParameters(*built.model, plan, source, format));
  }
  loaded.model = std::move(built.model);
  loaded.sources = std::move(plan.sources);
  loaded.warnings = std::move(built.warnings);
  if (!plan.unexpected.empty()) {
    for (std::string& name : plan.unexpected) name = ShortJson(json(name));
    loaded.warnings.push_back(absl::StrCat(source.path(), ": no parameter reads the tensors ",
                                           FirstFew(plan.unexpected)));
  }
  return loaded;
}

absl::StatusOr<std::unique_ptr<ResidualModel>> ModelFromConfig(const json& config,
                                                               const std::string& config_name) {
  if (!config.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(config_name, ": holds ", ShortJson(config), ", expected a JSON object"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(BuiltModel built, Build(config, config_name));
  return std::move(built.model);
}

absl::Status SaveModel(ResidualModel& model, const json& config, const std::string& folder) {
  RESIDUAL_ASSIGN_OR_RETURN(BuiltModel built, Build(config, "config"));
  if (Outline(*built.model) != Outline(model)) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, ": the model to save has other parameters than its config describes"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<NamedTensor> tensors,
                            TensorsToWrite(model, built.names[0]));
  RESIDUAL_RETURN_IF_ERROR(MakeFolders(folder));
  // Hugging Face reads files whose metadata names a format.
  RESIDUAL_RETURN_IF_ERROR(
      WriteSafetensors(JoinPath(folder, "model.safetensors"), tensors, {{"format", "pt"}}));
  return WriteFileAtomically(JoinPath(folder, "config.json"),
                             config.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace residual
