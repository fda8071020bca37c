// Scores a model's attention heads, and the channels of its state spaces, by where they look.

#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "interp/heads/detect.h"
#include "interp/heads/head_scores.h"
#include "interp/heads/map_scores.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"

namespace residual {
namespace {

using nlohmann::json;

struct Flags {
  std::string tokens, input = "input_ids", out;
  int64_t rows = 8, repeat = 0, first_token = -1;
  DetectOptions detect;
};

// The tokens of the file, or a first token and random ones twice.
absl::StatusOr<Tensor> TokensOf(const Flags& flags, const ResidualModel& model, uint64_t seed) {
  if (!flags.tokens.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(const ModelInput input, ReadModelInput(flags.tokens, flags.input));
    const absl::Status readable = model.Validate(input);
    if (!readable.ok()) {
      return absl::Status(readable.code(), absl::StrCat(flags.tokens, ": ", readable.message()));
    }
    if (input.attention_mask.defined()) {
      const std::vector<double> mask = input.attention_mask.ToDoubles();
      if (std::find(mask.begin(), mask.end(), 0) != mask.end()) {
        return absl::InvalidArgumentError(absl::StrCat(
            flags.tokens, ": 'attention_mask' has padding, expected rows of equal length"));
      }
    }
    return ConvertTo(input.tokens, kI64);
  }
  const int64_t longest = model.n_ctx() == 0 ? 101 : model.n_ctx();
  const int64_t n = flags.repeat > 0 ? flags.repeat : std::min<int64_t>(50, (longest - 1) / 2);
  if (1 + 2 * n > longest && model.n_ctx() > 0) {
    return UsageError(absl::StrCat("--repeat=", n, " makes ", 1 + 2 * n,
                                   " tokens, more than the model's context of ", longest));
  }
  if (n < 2)
    return UsageError(absl::StrCat("--repeat=", n, " in a context of ", longest,
                                   ": expected at least 2 tokens to repeat"));
  if (flags.first_token >= model.d_vocab()) {
    return UsageError(absl::StrCat("--first_token=", flags.first_token,
                                   " is outside the vocabulary of ", model.d_vocab()));
  }
  std::vector<int64_t> vocabulary(model.d_vocab());
  std::iota(vocabulary.begin(), vocabulary.end(), 0);
  return RepeatedTokensAfterFirst(
      flags.rows, n, vocabulary, seed,
      flags.first_token < 0 ? std::nullopt : std::optional(flags.first_token));
}

// "L1H3", "L0C17".
std::string UnitName(const MapScores& scores, const HeadIndex& index) {
  if (index.layer < 0) return "";
  return absl::StrCat("L", index.layer, std::string(1, scores.unit[index.layer]), index.head);
}

absl::Status Run(const CommandLine& cli, const ModelFlags& model_flags, const Flags& flags) {
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor tokens, TokensOf(flags, *loaded.model, cli.seed()));
  RESIDUAL_ASSIGN_OR_RETURN(const MapScores scores, ScoreMaps(*loaded.model, tokens, flags.detect));
  const std::map<std::string, HeadTable>& tables = scores.tables;
  if (tables.count("induction_stripe") == 0) {
    PrintWarning(cli, absl::StrCat("no induction_stripe: the tokens ", tokens.ToString(),
                                   " are not a first token and a passage twice"));
  }

  std::vector<NamedTensor> tensors;
  json result = {{"out", flags.out},
                 {"tokens", tokens.shape().sizes()},
                 {"best", json::object()},
                 {"tensors", json::array()}};
  for (const auto& [name, table] : tables) {
    tensors.emplace_back(name, TableTensor(table));
    result["tensors"].push_back({{"name", name}, {"shape", tensors.back().second.shape().sizes()}});
    const BestHead best = Best(table);
    result["best"][name] = {{"head", {best.head.layer, best.head.head}}, {"score", best.score}};
    if (best.head.layer >= 0) {
      result["best"][name]["unit"] = std::string(1, scores.unit[best.head.layer]);
    }
  }
  RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(flags.out, tensors));
  if (cli.json()) {
    std::printf("%s\n", result.dump().c_str());
    return absl::OkStatus();
  }
  std::printf("tokens %s\n%-24s %-8s %s\n", tokens.shape().ToString().c_str(), "", "highest", "");
  for (const auto& [name, table] : tables) {
    const BestHead best = Best(table);
    std::printf("%-24s %-8s %.4f\n", name.c_str(), UnitName(scores, best.head).c_str(), best.score);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "heads",
      "Scores attention heads by where they look. previous_token, duplicate_token, induction: the "
      "share of a head's attention that is where such a head attends (NAME.abs: 1 less the mean "
      "difference of the patterns, times their length); induction_stripe: mean attention to the "
      "token after the earlier occurrence, where the tokens are a first one and a passage twice; "
      "pattern.*: entropy (nats), mean distance, attention to the first and to the current token. "
      "Channels of a state space (heads of Mamba-2) are scored like heads, by the sizes of their "
      "hidden attention with rows scaled to 1; of them also memory.length, the tokens until what "
      "is held has faded to 1/e, and memory.step, the mean step. "
      "Without --tokens: random tokens, repeated once.",
      "--model=DIR --out=heads.safetensors");
  residual::ModelFlags model(cli, residual::ModelFlags::kRun);
  residual::Flags flags;
  cli.Path("out", &flags.out, "safetensors file to write").Required();
  cli.Path("tokens", &flags.tokens, "safetensors file with input_ids [batch, pos]");
  cli.Text("input", &flags.input, "tensor of the file to read instead of input_ids");
  cli.Int("rows", &flags.rows, 1, 1 << 16, "rows of random tokens, without --tokens");
  cli.Int("repeat", &flags.repeat, 0, 1 << 20,
          "how many random tokens are repeated; 0: 50, or what the context holds");
  cli.Int("first_token", &flags.first_token, -1, int64_t{1} << 31,
          "id before the random tokens, such as that of the beginning of a text; -1: a random one");
  cli.Bool("exclude_bos", &flags.detect.exclude_bos, "leave attention to the first token out");
  cli.Bool("exclude_current_token", &flags.detect.exclude_current_token,
           "leave attention of a token to itself out");
  return cli.Run(argc, argv, [&] { return residual::Run(cli, model, flags); });
}
