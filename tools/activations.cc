// Runs a model on the tokens of a file and writes its logits and activations.

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "interp/weights/process_weights.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"

namespace residual {
namespace {

struct Flags {
  std::string tokens, out, input = "input_ids", mask;
  std::vector<std::string> names = {"*"};
  bool process_weights = false;
};

// One list of patterns serves models of all kinds: those of a list may match nothing, names not.
bool IsGlob(const std::string& pattern) { return pattern.find_first_of("*?") != pattern.npos; }

bool MatchesAny(const std::string& pattern, const std::vector<DeclaredHook>& declared) {
  return std::any_of(declared.begin(), declared.end(),
                     [&](const DeclaredHook& point) { return GlobMatches(pattern, point.name); });
}

absl::Status WriteActivations(const CommandLine& cli, const ModelFlags& model_flags,
                              const Flags& flags) {
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  if (flags.process_weights) RESIDUAL_RETURN_IF_ERROR(ProcessWeights(*loaded.model));
  RESIDUAL_ASSIGN_OR_RETURN(const ModelInput input,
                            ReadModelInput(flags.tokens, flags.input, flags.mask));

  const std::vector<DeclaredHook> declared = HookPoints(*loaded.model);
  std::map<std::string, Tensor> found;
  Hooks hooks;
  for (const std::string& pattern : flags.names) {
    if (flags.names.size() > 1 && IsGlob(pattern) && !MatchesAny(pattern, declared)) {
      PrintWarning(cli, absl::StrCat("--names: no hook point matches '", pattern, "'"));
      continue;
    }
    hooks.Read(pattern, [&](absl::string_view name, const Tensor& x) {
      found[std::string(name)] = ConvertTo(x, kF32);
    });
  }
  const absl::Status known = hooks.Validate(declared);
  if (!known.ok()) return UsageError(absl::StrCat("--names: ", known.message()));
  const absl::Status readable = loaded.model->Validate(input);
  if (!readable.ok()) {
    return absl::Status(readable.code(), absl::StrCat(flags.tokens, ": ", readable.message()));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor logits, loaded.model->Run(input, &hooks));
  found["logits"] = ConvertTo(logits, kF32);
  RESIDUAL_RETURN_IF_ERROR(
      WriteSafetensors(flags.out, std::vector<NamedTensor>(found.begin(), found.end())));

  nlohmann::json listed = {{"out", flags.out}, {"tensors", nlohmann::json::array()}};
  for (const auto& [name, x] : found) {
    if (cli.json()) {
      listed["tensors"].push_back({{"name", name}, {"shape", x.shape().sizes()}});
    } else {
      std::printf("%-40s %s\n", name.c_str(), x.shape().ToString().c_str());
    }
  }
  if (cli.json()) std::printf("%s\n", listed.dump().c_str());
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
           "attention_mask (1: token, 0: padding)")
      .Required();
  cli.Path("out", &flags.out, "safetensors file to write").Required();
  cli.Text("input", &flags.input, "tensor of the file to read instead of input_ids");
  cli.Text("mask", &flags.mask, "tensor of the file to read instead of attention_mask");
  cli.List("names", &flags.names,
           "hook points to write, * and ? allowed; all unless given (//tools:inspect lists them)");
  cli.Bool("process_weights", &flags.process_weights,
           "fold norms and value biases, centre writing weights and the unembedding, as "
           "TransformerLens does");
  return cli.Run(argc, argv, [&] { return residual::WriteActivations(cli, model, flags); });
}
