// Takes the stream apart into what was added to it, and says what every part does to a logit.

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "interp/attribution/decomposition.h"
#include "interp/attribution/logit_attribution.h"
#include "interp/lens/logit_lens.h"
#include "interp/weights/process_weights.h"
#include "models/nn/hook.h"
#include "models/nn/nearest.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"

namespace residual {
namespace {

using nlohmann::json;

const std::vector<std::string> kNames = {
    "decompose_resid", "accumulated_resid", "accumulated_resid_ln", "stack_head_results",
    "logit_attrs",     "logit_attrs_heads", "logit_attrs_neurons",  "logit_attrs_bias",
    "logit_diff",      "logit_lens"};

struct Flags {
  std::string tokens, out, input = "input_ids", mask;
  std::vector<std::string> answer, wrong, position, names = {"*"};
  bool process_weights = false;
};

absl::StatusOr<std::vector<int64_t>> ParseIds(const char* flag,
                                              const std::vector<std::string>& texts) {
  std::vector<int64_t> ids;
  for (const std::string& text : texts) {
    int64_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return UsageError(absl::StrCat("--", flag, ": '", text, "', expected an integer"));
    }
    ids.push_back(id);
  }
  return ids;
}

Tensor Row(const std::vector<double>& values) {
  return ConvertTo(Tensor::Of<double>({static_cast<int64_t>(values.size())}, values), kF32);
}

absl::Status Run(const CommandLine& cli, const ModelFlags& model_flags, const Flags& flags) {
  for (const std::string& pattern : flags.names) {
    if (std::none_of(kNames.begin(), kNames.end(),
                     [&](const std::string& name) { return GlobMatches(pattern, name); })) {
      return UsageError(
          absl::StrCat("--names: no tensor matches '", pattern, "'", DidYouMean(pattern, kNames)));
    }
  }
  auto wanted = [&](const std::string& name) {
    return std::any_of(flags.names.begin(), flags.names.end(),
                       [&](const std::string& pattern) { return GlobMatches(pattern, name); });
  };
  LogitTargets targets;
  RESIDUAL_ASSIGN_OR_RETURN(targets.answer, ParseIds("answer", flags.answer));
  RESIDUAL_ASSIGN_OR_RETURN(targets.wrong, ParseIds("wrong", flags.wrong));
  RESIDUAL_ASSIGN_OR_RETURN(targets.position, ParseIds("position", flags.position));

  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  if (flags.process_weights) RESIDUAL_RETURN_IF_ERROR(ProcessWeights(*loaded.model));
  RESIDUAL_ASSIGN_OR_RETURN(const ModelInput input,
                            ReadModelInput(flags.tokens, flags.input, flags.mask));
  const absl::Status readable = loaded.model->Validate(input);
  if (!readable.ok()) {
    return absl::Status(readable.code(), absl::StrCat(flags.tokens, ": ", readable.message()));
  }
  DecomposeOptions options;
  options.heads = wanted("stack_head_results") || wanted("logit_attrs_heads");
  options.neurons = wanted("logit_attrs_neurons");
  RESIDUAL_ASSIGN_OR_RETURN(const Decomposition found,
                            DecomposeStream(*loaded.model, input, options));
  const absl::StatusOr<LogitDirections> directions =
      DirectionsOf(*loaded.model, found, targets, input.attention_mask);
  if (!directions.ok()) return UsageError(absl::StrCat("--", directions.status().message()));

  std::map<std::string, Tensor> tensors;
  tensors["decompose_resid"] = found.parts.Stack();
  tensors["accumulated_resid"] = found.accumulated.Stack();
  if (wanted("accumulated_resid_ln")) {
    tensors["accumulated_resid_ln"] = NormedStreams(*loaded.model, found.accumulated);
  }
  tensors["logit_attrs"] = Attribute(found.parts, *directions);
  if (!found.heads.values.empty()) {
    tensors["stack_head_results"] = found.heads.Stack();
    tensors["logit_attrs_heads"] = Attribute(found.heads, *directions);
  }
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor neurons,
                            AttributeNeurons(*loaded.model, found, *directions));
  if (neurons.defined()) tensors["logit_attrs_neurons"] = neurons;
  tensors["logit_attrs_bias"] = Row(directions->bias);
  tensors["logit_diff"] = Row(directions->difference);
  if (wanted("logit_lens")) {
    tensors["logit_lens"] =
        LensDifferences(*loaded.model, found.accumulated, targets, directions->position);
  }
  std::vector<NamedTensor> written;
  json result = {{"out", flags.out},
                 {"labels",
                  {{"decompose_resid", found.parts.labels},
                   {"accumulated_resid", found.accumulated.labels},
                   {"heads", found.heads.labels},
                   {"neurons", found.neurons.labels}}},
                 {"position", directions->position},
                 {"sum_error", found.error},
                 {"tensors", json::array()}};
  for (const auto& [name, x] : tensors) {
    if (!wanted(name)) continue;
    written.emplace_back(name, x);
    result["tensors"].push_back({{"name", name}, {"shape", x.shape().sizes()}});
  }
  std::map<std::string, std::string> metadata;
  for (const auto& [name, labels] : result["labels"].items()) {
    metadata["labels." + name] = absl::StrJoin(labels.get<std::vector<std::string>>(), ",");
  }
  RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(flags.out, written, metadata));
  if (cli.json()) {
    std::printf("%s\n", result.dump().c_str());
    return absl::OkStatus();
  }
  const Tensor& attributions = tensors["logit_attrs"];
  for (int64_t row = 0; row < attributions.dim(1); ++row) {
    std::printf("row %lld, position %lld\n", static_cast<long long>(row),
                static_cast<long long>(directions->position[row]));
    for (int64_t i = 0; i < attributions.dim(0); ++i) {
      std::printf("  %-16s %+9.4f\n", found.parts.labels[i].c_str(),
                  attributions.data<float>()[i * attributions.dim(1) + row]);
    }
    std::printf("  %-16s %+9.4f\n  %-16s %+9.4f\n", "bias", directions->bias[row], "logit_diff",
                directions->difference[row]);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "attribute",
      "Takes the stream apart into what was added to it (decompose_resid; stack_head_results by "
      "attention heads) and the stream as it grew (accumulated_resid; _ln: behind the final norm), "
      "and says what every part, head and neuron does to logit[answer] - logit[wrong] "
      "(logit_attrs*, with the final norm's scale held; parts and logit_attrs_bias add up to "
      "logit_diff) and what that would be if the model stopped there (logit_lens). The names of "
      "the first axes are in the file's metadata and in --json.",
      "--model=DIR --tokens=tokens.safetensors --answer=262 --wrong=318 --out=out.safetensors");
  residual::ModelFlags model(cli);
  residual::Flags flags;
  cli.Path("tokens", &flags.tokens,
           "safetensors file with input_ids [batch, pos] and, where there is padding, "
           "attention_mask (1: token, 0: padding)")
      .Required();
  cli.Path("out", &flags.out, "safetensors file to write").Required();
  cli.List("answer", &flags.answer, "token ids, one for each row of the batch").Required();
  cli.List("wrong", &flags.wrong,
           "token ids to compare with, one for each row; the mean of all logits unless given");
  cli.List("position", &flags.position,
           "where to look, one for each row; its last token unless given");
  cli.Text("input", &flags.input, "tensor of the file to read instead of input_ids");
  cli.Text("mask", &flags.mask, "tensor of the file to read instead of attention_mask");
  cli.List("names", &flags.names, "tensors to write, * and ? allowed; all unless given");
  cli.Bool("process_weights", &flags.process_weights,
           "fold norms and value biases, centre writing weights and the unembedding, as "
           "TransformerLens does");
  return cli.Run(argc, argv, [&] { return residual::Run(cli, model, flags); });
}
