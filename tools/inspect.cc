// Lists what is in a model: its config, parameters and hook points; or the tensors of one
// safetensors file.

#include <cstdio>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/classify/classifier_folder.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"

namespace residual {
namespace {

using nlohmann::json;

json ListTensors(const SafetensorsFile& file) {
  json listed = {{"config", json::object()},
                 {"metadata", file.metadata()},
                 {"parameters", json::array()},
                 {"hook_points", json::array()}};
  int64_t count = 0;
  for (const TensorInfo& tensor : file.tensors()) {
    listed["parameters"].push_back(
        {{"name", tensor.name}, {"shape", tensor.shape.sizes()}, {"dtype", tensor.dtype_name}});
    count += tensor.shape.elements();
  }
  listed["n_parameters"] = count;
  return listed;
}

// Shapes as on disk (heads first); dtypes those of the file. Of models and of classifiers.
template <class Loaded>
json ListModel(const Loaded& loaded) {
  json listed = {
      {"config", loaded.config}, {"parameters", json::array()}, {"hook_points", json::array()}};
  const std::vector<Parameter> parameters = Parameters(*loaded.model);
  for (size_t i = 0; i < parameters.size(); ++i) {
    const ParameterSource& source = loaded.sources[i];
    listed["parameters"].push_back({{"name", parameters[i].name},
                                    {"shape", DiskShape(parameters[i]).sizes()},
                                    {"dtype", source.dtype},
                                    {"tensor", source.entry.tensor}});
  }
  for (const DeclaredHook& hook : HookPoints(*loaded.model)) {
    listed["hook_points"].push_back({{"name", hook.name}, {"dims", hook.dims}});
  }
  listed["n_parameters"] = CountParameters(*loaded.model);
  return listed;
}

void Print(const json& listed) {
  if (!listed["config"].empty()) {
    std::printf("config %s\n\n", listed["config"].dump(2).c_str());
  }
  for (const json& parameter : listed["parameters"]) {
    std::printf("%-40s %-6s [%s]\n", parameter["name"].get<std::string>().c_str(),
                parameter["dtype"].get<std::string>().c_str(),
                absl::StrJoin(parameter["shape"].get<std::vector<int64_t>>(), ", ").c_str());
  }
  if (!listed["hook_points"].empty()) std::printf("\nhook points\n");
  for (const json& hook : listed["hook_points"]) {
    std::printf("%-40s %s\n", hook["name"].get<std::string>().c_str(),
                hook["dims"].get<std::string>().c_str());
  }
  std::printf("\n%lld parameters\n", static_cast<long long>(listed["n_parameters"].get<int64_t>()));
}

absl::Status Inspect(const CommandLine& cli, const ModelFlags& flags) {
  json listed;
  if (absl::EndsWith(flags.path(), ".safetensors")) {
    ReadOptions options;
    options.mmap = flags.options().mmap;
    RESIDUAL_ASSIGN_OR_RETURN(const SafetensorsFile file,
                              SafetensorsFile::Open(flags.path(), options));
    listed = ListTensors(file);
  } else if (HoldsClassifier(flags.path())) {
    ClassifierLoadOptions options;
    options.mmap = flags.options().mmap;
    options.weights = false;
    RESIDUAL_ASSIGN_OR_RETURN(const LoadedClassifier loaded, LoadClassifier(flags.path(), options));
    for (const std::string& warning : loaded.warnings) PrintWarning(cli, warning);
    listed = ListModel(loaded);
  } else {
    LoadOptions options = flags.options();
    options.weights = false;
    RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(flags.path(), options));
    for (const std::string& warning : loaded.warnings) PrintWarning(cli, warning);
    listed = ListModel(loaded);
  }
  if (cli.json()) {
    std::printf("%s\n", listed.dump().c_str());
  } else {
    Print(listed);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli("inspect",
                            "Lists a model's config, parameters and hook points, or the tensors "
                            "of a safetensors file.",
                            "--model=DIR");
  residual::ModelFlags flags(cli);
  return cli.Run(argc, argv, [&] { return residual::Inspect(cli, flags); });
}
