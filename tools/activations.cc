// Runs a model on the tokens of a file and writes its logits and activations.

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "interp/cache/activation_cache.h"
#include "interp/weights/process_weights.h"
#include "models/classify/classifier_folder.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"
#include "tools/classifiers/classifiers.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/tensor_path.h"

namespace residual {
namespace {

struct Flags {
  std::string tokens, out, input = "input_ids", mask, resid;
  std::vector<std::string> names = {"*"}, layers, positions, heads;
  int64_t start_at_layer = 0, stop_at_layer = kNoLayer, memory_limit = 4096;
  bool process_weights = false, plan = false, allow_nan = false;
  static constexpr int64_t kNoLayer = 1 << 20;
};

absl::StatusOr<std::vector<int64_t>> ParseNumbers(const char* flag,
                                                  const std::vector<std::string>& texts) {
  std::vector<int64_t> numbers;
  for (const std::string& text : texts) {
    int64_t number;
    if (!absl::SimpleAtoi(text, &number)) {
      return UsageError(absl::StrCat("--", flag, ": '", text, "', expected whole numbers"));
    }
    numbers.push_back(number);
  }
  return numbers;
}

// One list of patterns serves models of all kinds: those of a list may match nothing, names not.
bool IsGlob(const std::string& pattern) { return pattern.find_first_of("*?") != pattern.npos; }

bool MatchesAny(const std::string& pattern, const std::vector<DeclaredHook>& declared) {
  return std::any_of(declared.begin(), declared.end(),
                     [&](const DeclaredHook& point) { return GlobMatches(pattern, point.name); });
}

const char* OutputName(const Flags& flags) {
  return flags.stop_at_layer == Flags::kNoLayer ? "logits" : "resid";
}

absl::StatusOr<CacheSpec> SpecOf(const CommandLine& cli, const Flags& flags,
                                 const ResidualModel& model) {
  CacheSpec spec;
  spec.names.clear();
  const std::vector<DeclaredHook> declared = HookPoints(model);
  for (const std::string& pattern : flags.names) {
    if (flags.names.size() > 1 && IsGlob(pattern) && !MatchesAny(pattern, declared)) {
      PrintWarning(cli, absl::StrCat("--names: no hook point matches '", pattern, "'"));
      continue;
    }
    spec.names.push_back(pattern);
  }
  RESIDUAL_ASSIGN_OR_RETURN(spec.layers, ParseNumbers("layers", flags.layers));
  RESIDUAL_ASSIGN_OR_RETURN(spec.positions, ParseNumbers("positions", flags.positions));
  RESIDUAL_ASSIGN_OR_RETURN(spec.heads, ParseNumbers("heads", flags.heads));
  return spec;
}

absl::StatusOr<PartialRun> PartOf(const Flags& flags, DType dtype) {
  PartialRun part;
  part.start_at_layer = static_cast<int>(flags.start_at_layer);
  if (flags.stop_at_layer != Flags::kNoLayer) {
    part.stop_at_layer = static_cast<int>(flags.stop_at_layer);
  }
  if (flags.resid.empty()) return part;
  const TensorPath at =
      SplitTensorPath(flags.resid, absl::StrCat("blocks.", part.start_at_layer, ".hook_resid_pre"));
  RESIDUAL_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(at.path));
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor resid, file.Read(at.name));
  part.resid = IsFloat(resid.dtype()) ? ConvertTo(resid, dtype) : resid;
  return part;
}

// What there is, in the order of a run.
void List(const CommandLine& cli, const Flags& flags, const CachePlan& plan, const Tensor& output,
          bool on_disk) {
  nlohmann::json listed = {{"out", flags.out},
                           {"bytes", plan.file_bytes()},
                           {"on_disk", on_disk},
                           {"tensors", nlohmann::json::array()}};
  std::vector<std::pair<std::string, Shape>> tensors;
  for (const CacheEntry& entry : plan.entries) tensors.emplace_back(entry.name, entry.shape);
  if (output.defined()) tensors.emplace_back(OutputName(flags), output.shape());
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [name, shape] : tensors) {
    if (cli.json()) {
      listed["tensors"].push_back({{"name", name}, {"shape", shape.sizes()}});
    } else {
      std::printf("%-40s %s\n", name.c_str(), shape.ToString().c_str());
    }
  }
  if (cli.json()) {
    std::printf("%s\n", listed.dump().c_str());
  } else if (flags.plan) {
    std::printf("%lld bytes\n", static_cast<long long>(plan.file_bytes()));
  }
}

// A classifier's runs are whole.
absl::Status OfClassifier(const CommandLine& cli, const ModelFlags& model_flags,
                          const Flags& flags) {
  if (flags.plan || flags.process_weights || !flags.layers.empty() || !flags.positions.empty() ||
      !flags.heads.empty() || !flags.resid.empty() || flags.start_at_layer != 0 ||
      flags.stop_at_layer != Flags::kNoLayer) {
    return UsageError(
        "of a classifier --names alone chooses what is written: --plan, --layers, --positions, "
        "--heads, --resid, --start_at_layer, --stop_at_layer and --process_weights are for models "
        "of tokens");
  }
  return WriteClassifierActivations(
      cli, model_flags, {flags.tokens, flags.input, flags.mask, flags.out, flags.names});
}

absl::Status WriteActivations(const CommandLine& cli, const ModelFlags& model_flags,
                              const Flags& flags) {
  if (flags.out.empty() && !flags.plan) return UsageError("--out is needed, or --plan");
  if (HoldsClassifier(model_flags.path())) return OfClassifier(cli, model_flags, flags);
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  if (flags.process_weights) RESIDUAL_RETURN_IF_ERROR(ProcessWeights(*loaded.model));
  RESIDUAL_ASSIGN_OR_RETURN(const ModelInput input,
                            ReadModelInput(flags.tokens, flags.input, flags.mask));
  const absl::Status readable = loaded.model->Validate(input);
  if (!readable.ok()) {
    return absl::Status(readable.code(), absl::StrCat(flags.tokens, ": ", readable.message()));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const CacheSpec spec, SpecOf(cli, flags, *loaded.model));
  RESIDUAL_ASSIGN_OR_RETURN(const PartialRun part, PartOf(flags, loaded.model->dtype()));
  RESIDUAL_RETURN_IF_ERROR(CheckPartialRun(*loaded.model, input, part).status());
  const absl::StatusOr<CachePlan> plan = PlanCache(*loaded.model, input, spec, part);
  if (absl::IsNotFound(plan.status())) {
    return UsageError(absl::StrCat("--names: ", plan.status().message()));
  }
  if (absl::IsInvalidArgument(plan.status())) return UsageError(plan.status().message());
  RESIDUAL_RETURN_IF_ERROR(plan.status());
  if (flags.plan) {
    List(cli, flags, *plan, Tensor(), false);
    return absl::OkStatus();
  }
  CacheOptions options;
  options.memory_limit = flags.memory_limit << 20;
  options.path = flags.out;
  options.output_name = OutputName(flags);
  options.allow_nan = flags.allow_nan;
  RESIDUAL_ASSIGN_OR_RETURN(const CachedRun run,
                            RunWithCache(*loaded.model, input, *plan, options));
  if (!run.cache.on_disk()) RESIDUAL_RETURN_IF_ERROR(run.cache.Save(flags.out));
  List(cli, flags, *plan, run.output, run.cache.on_disk());
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "activations", "Writes a model's logits and the activations at its hook points, in float32.",
      "--model=DIR --tokens=tokens.safetensors --names='*hook_resid_pre,*attn.hook_pattern' "
      "--out=activations.safetensors");
  residual::ModelFlags model(cli);
  residual::Flags flags;
  cli.Path("tokens", &flags.tokens,
           "safetensors file with input_ids [batch, pos] and, where there is padding, "
           "attention_mask (1: token, 0: padding); for a classifier of values floats [batch, pos, "
           "channels], --input says under which name")
      .Required();
  cli.Path("out", &flags.out, "safetensors file to write");
  cli.Text("input", &flags.input, "tensor of the file to read instead of input_ids");
  cli.Text("mask", &flags.mask, "tensor of the file to read instead of attention_mask");
  cli.List("names", &flags.names,
           "hook points to write, * and ? allowed; all unless given (//tools:inspect lists them)");
  cli.List("layers", &flags.layers, "of points in blocks: of these alone; -1 is the last");
  cli.List("positions", &flags.positions, "of points that have them: these alone; -1 is the last");
  cli.List("heads", &flags.heads, "of points that have them: these alone");
  cli.Int("start_at_layer", &flags.start_at_layer, 0, 1 << 20,
          "the first block that runs; --resid is what enters it");
  cli.Path("resid", &flags.resid,
           "safetensors file with the stream that enters --start_at_layer, by its hook's name, or "
           "FILE:NAME for another tensor of it");
  cli.Int("stop_at_layer", &flags.stop_at_layer, -(1 << 20), 1 << 20,
          "the block that does not run any more: the stream that would enter it is written as "
          "'resid', and there are no logits; -1 is the last");
  cli.Int("memory_limit", &flags.memory_limit, 0, 1 << 30,
          "in MiB: activations that are more together go to the file while the model runs");
  cli.Bool("plan", &flags.plan, "only say what would be written, and its bytes");
  cli.Bool("allow_nan", &flags.allow_nan, "write also activations that hold NaN");
  cli.Bool("process_weights", &flags.process_weights,
           "fold norms and value biases, centre writing weights and the unembedding, as "
           "TransformerLens does");
  return cli.Run(argc, argv, [&] { return residual::WriteActivations(cli, model, flags); });
}
