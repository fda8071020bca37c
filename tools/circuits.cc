// Reads the circuits of a model's attention heads from its weights, and writes what they say.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "interp/circuits/circuit_tensors.h"
#include "interp/circuits/skip_trigrams.h"
#include "interp/heads/head_scores.h"
#include "interp/report/html.h"
#include "models/nn/hook.h"
#include "models/nn/nearest.h"
#include "models/text/tokenizer.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/progress.h"

namespace residual {
namespace {

using nlohmann::json;

struct Flags {
  std::string out;
  std::vector<std::string> names = {"*"}, heads;
  bool process_weights = false;
  int64_t skip_trigrams = 0, top = 5;
};

// The heads of --heads, all unless given.
absl::StatusOr<std::vector<HeadIndex>> ChosenHeads(const HeadCircuits& circuits,
                                                   const std::vector<std::string>& names) {
  std::vector<HeadIndex> chosen;
  std::vector<std::string> known;
  for (size_t layer = 0; layer < circuits.heads.size(); ++layer) {
    for (size_t head = 0; head < circuits.heads[layer].size(); ++head) {
      const HeadIndex index{static_cast<int>(layer), static_cast<int>(head)};
      known.push_back(HeadName(index));
      if (names.empty() || std::find(names.begin(), names.end(), known.back()) != names.end()) {
        chosen.push_back(index);
      }
    }
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return UsageError(absl::StrCat("--heads: the model has no head '", name, "'; its heads are ",
                                     known.front(), " to ", known.back()));
    }
  }
  return chosen;
}

json SkipTrigrams(const HeadCircuits& circuits, const std::vector<HeadIndex>& heads, int64_t count,
                  const Tokenizer* tokenizer) {
  ProgressBar progress("skip-trigrams", static_cast<int64_t>(heads.size()));
  json all = json::array();
  for (const HeadIndex& index : heads) {
    progress.Update(static_cast<int64_t>(all.size()), HeadName(index));
    json trigrams = json::array();
    for (const SkipTrigram& t :
         TopSkipTrigrams(circuits, circuits.heads[index.layer][index.head], count)) {
      json trigram = {{"source", t.source}, {"destination", t.destination},
                      {"out", t.out},       {"qk", t.QK},
                      {"ov", t.OV},         {"score", t.score()}};
      if (tokenizer != nullptr) {
        for (const char* token : {"source", "destination", "out"}) {
          trigram["text"].push_back(ValidUtf8(tokenizer->TokenText(trigram[token].get<int32_t>())));
        }
      }
      trigrams.push_back(trigram);
    }
    all.push_back({{"head", {index.layer, index.head}}, {"trigrams", trigrams}});
  }
  return all;
}

std::string PairText(const json& pair) {
  return absl::StrFormat("L%dH%d -> L%dH%d  %.4f  %+.1f deviations from chance",
                         pair["from"][0].get<int>(), pair["from"][1].get<int>(),
                         pair["to"][0].get<int>(), pair["to"][1].get<int>(),
                         pair["score"].get<double>(), pair["deviations"].get<double>());
}

void Print(const json& result) {
  for (const json& tensor : result["tensors"]) {
    std::printf("%-28s [%s]\n", tensor["name"].get<std::string>().c_str(),
                absl::StrJoin(tensor["shape"].get<std::vector<int64_t>>(), ", ").c_str());
  }
  for (const auto& [kind, pairs] : result["top_compositions"].items()) {
    std::printf("\n%s-composition (by chance %.4f)\n", kind.c_str(),
                result["composition_by_chance"].get<double>());
    for (const json& pair : pairs) std::printf("  %s\n", PairText(pair).c_str());
  }
  if (!result.contains("skip_trigrams")) return;
  for (const json& head : result["skip_trigrams"]) {
    std::printf("\nL%dH%d: source ... destination -> out\n", head["head"][0].get<int>(),
                head["head"][1].get<int>());
    for (const json& t : head["trigrams"]) {
      const json& tokens =
          t.contains("text") ? t["text"] : json{t["source"], t["destination"], t["out"]};
      std::printf("  %s ... %s -> %s  QK %.3f  OV %.3f\n", tokens[0].dump().c_str(),
                  tokens[1].dump().c_str(), tokens[2].dump().c_str(), t["qk"].get<double>(),
                  t["ov"].get<double>());
    }
  }
}

absl::Status Run(const CommandLine& cli, const ModelFlags& model_flags, const Flags& flags) {
  const std::vector<std::string> known = CircuitTensorNames();
  for (const std::string& pattern : flags.names) {
    if (std::none_of(known.begin(), known.end(),
                     [&](const std::string& name) { return GlobMatches(pattern, name); })) {
      return UsageError(
          absl::StrCat("--names: no tensor matches '", pattern, "'", DidYouMean(pattern, known)));
    }
  }
  const auto start = std::chrono::steady_clock::now();
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  RESIDUAL_ASSIGN_OR_RETURN(const HeadCircuits circuits,
                            ReadHeadCircuits(*loaded.model, flags.process_weights));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<HeadIndex> heads, ChosenHeads(circuits, flags.heads));
  const std::chrono::duration<double> load = std::chrono::steady_clock::now() - start;
  const CircuitTensors found = ComputeCircuitTensors(
      circuits,
      [&](const std::string& name) {
        return std::any_of(flags.names.begin(), flags.names.end(),
                           [&](const std::string& pattern) { return GlobMatches(pattern, name); });
      },
      flags.top);
  json result = {{"out", flags.out},
                 {"tensors", json::array()},
                 {"composition_by_chance", CompositionByChance(circuits.d_model)},
                 {"top_compositions", json::object()},
                 {"seconds", {{"load", load.count()}}}};
  for (const auto& [name, x] : found.tensors) {
    result["tensors"].push_back({{"name", name}, {"shape", x.shape().sizes()}});
  }
  for (const auto& [name, seconds] : found.seconds) result["seconds"][name] = seconds;
  for (const auto& [letter, pairs] : found.top_pairs) {
    json& listed = result["top_compositions"][letter] = json::array();
    for (const ComposedPair& pair : pairs) {
      listed.push_back({{"from", {pair.from.layer, pair.from.head}},
                        {"to", {pair.to.layer, pair.to.head}},
                        {"score", pair.score},
                        {"deviations", pair.deviations}});
    }
  }
  if (flags.skip_trigrams > 0) {
    const absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = LoadTokenizer(loaded.folder);
    result["skip_trigrams"] = SkipTrigrams(circuits, heads, flags.skip_trigrams,
                                           tokenizer.ok() ? tokenizer->get() : nullptr);
  }
  RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(
      flags.out, std::vector<NamedTensor>(found.tensors.begin(), found.tensors.end())));
  if (cli.json()) {
    std::printf("%s\n", result.dump().c_str());
  } else {
    Print(result);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "circuits",
      "Reads the circuits of attention heads from a model's weights: OV = W_V W_O and "
      "QK = W_Q W_K^T with their singular values, copying scores (sum Re(eigenvalues) / "
      "sum |eigenvalues|) without and with embeddings (full_OV = W_E OV W_U, full_QK = W_E QK "
      "W_E^T), and how much every later head composes with every earlier one by its queries, keys "
      "and values, with the standard deviations above what random heads of the same singular "
      "values have.",
      "--model=DIR --process_weights --out=circuits.safetensors");
  residual::ModelFlags model(cli);
  residual::Flags flags;
  cli.Path("out", &flags.out, "safetensors file to write").Required();
  cli.Bool("process_weights", &flags.process_weights,
           "fold norms into the weights behind them and centre, as TransformerLens does");
  cli.List("names", &flags.names,
           "tensors to write, * and ? allowed (composition.*); all unless given");
  cli.Int("top", &flags.top, 0, 1 << 20, "how many pairs of heads to list for each composition");
  cli.Int("skip_trigrams", &flags.skip_trigrams, 0, 1 << 16,
          "how many skip-trigrams to list for each head: the largest QK x OV over all triples of "
          "tokens; with a large vocabulary that is seconds a head");
  cli.List("heads", &flags.heads, "heads to list skip-trigrams of (L0H3,L1H2); all unless given");
  return cli.Run(argc, argv, [&] { return residual::Run(cli, model, flags); });
}
