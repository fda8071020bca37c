// The passages of a text that activate a model's neurons most.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "interp/neurons/max_examples.h"
#include "interp/report/html.h"
#include "models/text/tokenizer.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/progress.h"

namespace residual {
namespace {

using nlohmann::json;

struct Flags {
  std::string text, out, hook = "blocks.0.mlp.hook_post";
  std::vector<std::string> neurons;
  int64_t around = 12;
  MaxExamplesOptions options;
};

// The neurons of --neurons; the ten of the largest activations unless given.
absl::StatusOr<std::vector<int64_t>> Chosen(const std::vector<NeuronExamples>& found,
                                            const std::vector<std::string>& texts) {
  const int64_t n = static_cast<int64_t>(found.size());
  std::vector<int64_t> chosen;
  for (const std::string& text : texts) {
    int64_t id;
    if (!absl::SimpleAtoi(text, &id) || id < 0 || id >= n) {
      return UsageError(
          absl::StrCat("--neurons: '", text, "', expected integers from 0 to ", n - 1));
    }
    chosen.push_back(id);
  }
  if (!texts.empty()) return chosen;
  for (int64_t i = 0; i < n; ++i) chosen.push_back(i);
  std::stable_sort(chosen.begin(), chosen.end(), [&](int64_t a, int64_t b) {
    return found[a].examples[0].activation > found[b].examples[0].activation;
  });
  if (n > 10) chosen.resize(10);
  return chosen;
}

// The text around an example: before, the token itself, after.
struct Passage {
  std::string before, token, after;
};
Passage PassageOf(const Example& example, const std::vector<int32_t>& tokens,
                  const Tokenizer& tokenizer, int64_t around) {
  Passage passage;
  const int64_t begin = std::max(example.begin, example.position - around),
                end = std::min(example.end, example.position + around + 1);
  for (int64_t i = begin; i < end; ++i) {
    std::string& part = i < example.position   ? passage.before
                        : i > example.position ? passage.after
                                               : passage.token;
    part += tokenizer.TokenText(tokens[i]);
  }
  return passage;
}

// Tensors over all neurons: "activation" and "position" [n, count], "mean" and "active" [n].
absl::Status Write(const std::string& path, const std::vector<NeuronExamples>& found,
                   int64_t count) {
  const int64_t n = static_cast<int64_t>(found.size());
  Tensor activation = Tensor::Zeros({n, count}), position = Tensor::Full({n, count}, -1, kI64),
         mean = Tensor::Zeros({n}), active = Tensor::Zeros({n});
  for (int64_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < found[i].examples.size(); ++k) {
      activation.mutable_data<float>()[i * count + k] =
          static_cast<float>(found[i].examples[k].activation);
      position.mutable_data<int64_t>()[i * count + k] = found[i].examples[k].position;
    }
    mean.mutable_data<float>()[i] = static_cast<float>(found[i].mean);
    active.mutable_data<float>()[i] = static_cast<float>(found[i].active);
  }
  return WriteSafetensors(
      path,
      {{"activation", activation}, {"position", position}, {"mean", mean}, {"active", active}});
}

absl::Status Run(const CommandLine& cli, const ModelFlags& model_flags, const Flags& flags) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.text));
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                            LoadTokenizer(loaded.folder));
  const std::vector<int32_t> tokens = tokenizer->Encode(text);
  absl::StatusOr<std::vector<NeuronExamples>> found;
  {
    ProgressBar progress("reading", static_cast<int64_t>(tokens.size()));
    MaxExamplesOptions options = flags.options;
    options.on_progress = [&](int64_t done, int64_t) { progress.Update(done); };
    found = FindMaxExamples(*loaded.model, tokens, flags.hook, options);
  }
  if (!found.ok()) {
    return absl::IsNotFound(found.status())
               ? UsageError(absl::StrCat("--hook: ", found.status().message()))
               : found.status();
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<int64_t> chosen, Chosen(*found, flags.neurons));
  if (!flags.out.empty()) {
    RESIDUAL_RETURN_IF_ERROR(Write(flags.out, *found, flags.options.count));
  }
  json result = {{"tokens", tokens.size()}, {"neurons", json::array()}};
  for (const int64_t id : chosen) {
    const NeuronExamples& neuron = (*found)[id];
    json listed = {{"neuron", id},
                   {"mean", neuron.mean},
                   {"active", neuron.active},
                   {"examples", json::array()}};
    if (!cli.json()) {
      std::printf("neuron %lld: mean %.4f, active on %.2f %% of tokens\n",
                  static_cast<long long>(id), neuron.mean, 100 * neuron.active);
    }
    for (const Example& example : neuron.examples) {
      const Passage passage = PassageOf(example, tokens, *tokenizer, flags.around);
      listed["examples"].push_back({{"activation", example.activation},
                                    {"position", example.position},
                                    {"before", ValidUtf8(passage.before)},
                                    {"token", ValidUtf8(passage.token)},
                                    {"after", ValidUtf8(passage.after)}});
      if (!cli.json()) {
        std::printf("  %8.4f  %s[%s]%s\n", example.activation, VisibleToken(passage.before).c_str(),
                    VisibleToken(passage.token).c_str(), VisibleToken(passage.after).c_str());
      }
    }
    result["neurons"].push_back(listed);
  }
  if (cli.json()) std::printf("%s\n", result.dump().c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "neurons",
      "Finds the passages of a text that activate neurons most, at most one of each window, in one "
      "pass that keeps nothing else. A neuron is a coordinate of an activation [batch, pos, n] at "
      "a hook point of a block. With --out: tensors activation and position [n, count], mean and "
      "active (share of tokens above zero) [n] of all neurons.",
      "--model=DIR --text=FILE --hook=blocks.3.mlp.hook_post --neurons=0,17");
  residual::ModelFlags model(cli, residual::ModelFlags::kRun);
  residual::Flags flags;
  cli.Path("text", &flags.text, "the text").Required();
  cli.Text("hook", &flags.hook, "the hook point (//tools:inspect lists them)");
  cli.List("neurons", &flags.neurons,
           "neurons to list; those of the ten largest activations unless given");
  cli.Path("out", &flags.out, "safetensors file to write");
  cli.Int("count", &flags.options.count, 1, 1 << 16, "passages of a neuron");
  cli.Int("context", &flags.options.context, 1, 1 << 20, "tokens of a window");
  cli.Int("stride", &flags.options.stride, 0, 1 << 20,
          "tokens from one window to the next; 0: half of --context");
  cli.Int("rows", &flags.options.rows, 1, 1 << 12, "windows of one run");
  cli.Int("around", &flags.around, 0, 1 << 12, "tokens to show before and after");
  return cli.Run(argc, argv, [&] { return residual::Run(cli, model, flags); });
}
