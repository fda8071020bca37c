#include "tools/pairs/pair_flags.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "interp/tasks/prompt_pairs.h"
#include "models/text/tokenizer.h"
#include "tensor/base/status_macros.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/tensor_path.h"
#include "tools/units/unit_flags.h"

namespace residual {
namespace {

absl::StatusOr<ModelInput> ReadPrompts(const char* flag, const std::string& text) {
  const TensorPath at = SplitTensorPath(text, "input_ids");
  absl::StatusOr<ModelInput> input = ReadModelInput(at.path, at.name);
  if (!input.ok()) {
    return absl::Status(input.status().code(),
                        absl::StrCat("--", flag, ": ", input.status().message()));
  }
  return input;
}

// One id per row; a single one serves all rows.
absl::StatusOr<std::vector<int64_t>> ParseIds(const char* flag,
                                              const std::vector<std::string>& texts, int64_t rows,
                                              int64_t d_vocab) {
  std::vector<int64_t> ids;
  for (const std::string& text : texts) {
    int64_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return UsageError(absl::StrCat("--", flag, ": '", text, "', expected token ids"));
    }
    if (id < 0 || id >= d_vocab) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, ": token ", id, " is outside the vocabulary of ", d_vocab));
    }
    ids.push_back(id);
  }
  if (ids.empty()) return UsageError(absl::StrCat("--", flag, " is needed for this metric"));
  if (ids.size() == 1) ids.assign(rows, ids[0]);
  if (static_cast<int64_t>(ids.size()) != rows) {
    return UsageError(absl::StrCat("--", flag, " has ", ids.size(),
                                   " ids, expected one for each of the ", rows, " prompts"));
  }
  return ids;
}

}  // namespace

PairFlags::PairFlags(CommandLine& cli) : cli_(cli) {
  cli.Path("clean", &clean_,
           "safetensors file with input_ids [batch, pos], or FILE:NAME for another tensor of it");
  cli.Path("corrupted", &corrupted_, "the same of the corrupted prompts, row by row");
  const std::string tasks =
      absl::StrCat("prompts made for a task in place of files, kept in the result's file: ",
                   absl::StrJoin(PromptTaskNames(), ", "));
  cli.Text("task", &task_, tasks.c_str());
  cli.Int("rows", &rows_, 1, 1 << 16, "task: pairs of prompts");
  cli.Int("length", &length_, 4, 1 << 20, "task: tokens of a row of 'induction'");
  cli.List("answer", &answer_, "right token of each prompt, or one for all");
  cli.List("wrong", &wrong_, "wrong token of each prompt");
  cli.Choice("metric", &metric_, {"logit_difference", "loss", "probability", "kl"},
             "at the last position: logit of the answer minus that of the wrong token; loss or "
             "probability of the answer; divergence from the clean run");
}

absl::StatusOr<PromptSet> PairFlags::Read(const LoadedModel& loaded) const {
  PromptSet prompts;
  if (task_.empty()) {
    if (clean_.empty() || corrupted_.empty()) {
      return UsageError("--clean and --corrupted are needed, or --task");
    }
    RESIDUAL_ASSIGN_OR_RETURN(prompts.clean, ReadPrompts("clean", clean_));
    RESIDUAL_ASSIGN_OR_RETURN(prompts.corrupted, ReadPrompts("corrupted", corrupted_));
    prompts.answer = answer_;
    prompts.wrong = wrong_;
    return prompts;
  }
  if (!clean_.empty() || !corrupted_.empty() || !answer_.empty() || !wrong_.empty()) {
    return UsageError(
        "--task makes prompts and answers; leave out --clean, --corrupted, --answer "
        "and --wrong");
  }
  const auto tokenizer = LoadTokenizer(loaded.folder);
  if (!tokenizer.ok() && !absl::IsNotFound(tokenizer.status())) return tokenizer.status();
  PromptTaskOptions options;
  options.rows = rows_;
  options.induction_length = length_;
  options.seed = cli_.seed();
  const absl::StatusOr<PromptPairs> pairs = MakePromptPairs(
      task_, tokenizer.ok() ? tokenizer->get() : nullptr, loaded.model->d_vocab(), options);
  if (absl::IsInvalidArgument(pairs.status())) {
    return UsageError(absl::StrCat("--task: ", pairs.status().message()));
  }
  RESIDUAL_RETURN_IF_ERROR(pairs.status());
  prompts.clean.tokens = pairs->clean;
  prompts.corrupted.tokens = pairs->corrupted;
  for (const int64_t id : pairs->answer) prompts.answer.push_back(absl::StrCat(id));
  for (const int64_t id : pairs->wrong) prompts.wrong.push_back(absl::StrCat(id));
  prompts.made = {{"clean_ids", pairs->clean},
                  {"corrupted_ids", pairs->corrupted},
                  {"answer", Tensor::Of<int64_t>({rows_}, pairs->answer)},
                  {"wrong", Tensor::Of<int64_t>({rows_}, pairs->wrong)}};
  return prompts;
}

Journal::Subject PairFlags::Subject(const PromptSet& prompts) const {
  const auto digest = [](const ModelInput& input) {
    return absl::StrCat(Digest(input.tokens), "; mask ", Digest(input.attention_mask));
  };
  return {{"answer", Digest(absl::StrJoin(prompts.answer, ","))},
          {"clean", digest(prompts.clean)},
          {"corrupted", digest(prompts.corrupted)},
          {"metric", metric_},
          {"wrong", Digest(absl::StrJoin(prompts.wrong, ","))}};
}

absl::StatusOr<Metric> PairFlags::MetricOf(const PromptSet& prompts, int64_t d_vocab,
                                           const std::function<Tensor()>& clean_logits) const {
  if (metric_ == "kl") return KlDivergence(clean_logits());
  const int64_t rows = prompts.corrupted.tokens.dim(0);
  RESIDUAL_ASSIGN_OR_RETURN(std::vector<int64_t> answer,
                            ParseIds("answer", prompts.answer, rows, d_vocab));
  if (metric_ == "loss") return AnswerLoss(std::move(answer));
  if (metric_ == "probability") return AnswerProbability(std::move(answer));
  RESIDUAL_ASSIGN_OR_RETURN(std::vector<int64_t> wrong,
                            ParseIds("wrong", prompts.wrong, rows, d_vocab));
  return LogitDifference(std::move(answer), std::move(wrong));
}

}  // namespace residual
