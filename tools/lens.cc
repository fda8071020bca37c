// A page about one prompt: where heads and channels look, what the model would say at every layer,
// and why it says what it says.

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "interp/lens/prompt_report.h"
#include "interp/lens/prompt_study.h"
#include "interp/lens/tuned_lens.h"
#include "interp/report/html.h"
#include "models/text/tokenizer.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/progress.h"
#include "tools/cli/prompt_flags.h"

namespace residual {
namespace {

using nlohmann::json;

struct Flags {
  std::string out = "report.html", tune_on;
  PromptOptions study;
  TunedLensOptions tune;
};

absl::StatusOr<TunedLensTraining> Tune(const ResidualModel& model, const Tokenizer* tokenizer,
                                       const std::string& folder, const Flags& flags) {
  if (tokenizer == nullptr) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": no tokenizer to read ", flags.tune_on, " with"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(flags.tune_on));
  const std::vector<int32_t> tokens = tokenizer->Encode(text);
  ProgressBar progress("tuning the lens", flags.tune.steps);
  TunedLensOptions options = flags.tune;
  options.on_step = [&](int64_t step, double kl) {
    progress.Update(step, absl::StrFormat("KL %.3f", kl));
  };
  absl::StatusOr<TunedLensTraining> trained = TrainTunedLens(model, tokens, options);
  if (!trained.ok()) {
    return absl::Status(trained.status().code(),
                        absl::StrCat(flags.tune_on, ": ", trained.status().message()));
  }
  return trained;
}

absl::Status Run(const CommandLine& cli, const ModelFlags& model_flags,
                 const PromptFlags& prompt_flags, Flags flags) {
  RESIDUAL_RETURN_IF_ERROR(prompt_flags.Check());
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  const ResidualModel& model = *loaded.model;
  auto tokenizer = LoadTokenizer(loaded.folder);
  if (!tokenizer.ok() && !absl::IsNotFound(tokenizer.status())) {
    if (!prompt_flags.ids_given()) return tokenizer.status();
    PrintWarning(cli, tokenizer.status().message());  // ids need none
  }
  const Tokenizer* words = tokenizer.ok() ? tokenizer->get() : nullptr;
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<std::vector<int64_t>> prompts,
                            prompt_flags.Read(words, loaded.folder));
  if (prompts.size() != 1) {
    return UsageError(absl::StrCat("--prompts: found ", prompts.size(),
                                   " prompts, expected one: a page is about one"));
  }

  PromptPage page;
  page.model = std::filesystem::path(loaded.folder + "/").parent_path().filename();
  page.token_text = [words](int64_t id) {
    return words == nullptr ? absl::StrCat("[", id, "]")
                            : words->TokenText(static_cast<int32_t>(id));
  };
  std::optional<TunedLensTraining> tuned;
  if (!flags.tune_on.empty()) {
    flags.tune.seed = cli.seed();
    RESIDUAL_ASSIGN_OR_RETURN(tuned, Tune(model, words, loaded.folder, flags));
    flags.study.tuned_lens = &tuned->lens;
    page.logit_lens_kl = tuned->logit_lens_kl;
    page.tuned_lens_kl = tuned->tuned_lens_kl;
  }
  RESIDUAL_ASSIGN_OR_RETURN(const PromptStudy study, StudyPrompt(model, prompts[0], flags.study));
  RESIDUAL_RETURN_IF_ERROR(PromptReport(study, page).Write(flags.out));

  auto token = [&](int64_t id) {
    return json{{"id", id}, {"text", ValidUtf8(page.token_text(id))}};
  };
  if (cli.json()) {
    json result = {{"report", flags.out},
                   {"tokens", study.tokens},
                   {"answer", token(study.answer)},
                   {"wrong", token(study.wrong)},
                   {"logit_diff", study.difference},
                   {"next", json::array()},
                   {"attribution", json::object()}};
    for (size_t k = 0; k < study.next.size(); ++k) {
      json next = token(study.next[k]);
      next["probability"] = study.next_probs[k];
      result["next"].push_back(next);
    }
    for (const NamedValue& part : study.parts) result["attribution"][part.name] = part.value;
    for (const PromptMemory& memory : study.memories) {
      result["memory"].push_back({{"layer", memory.name},
                                  {"step", memory.step},
                                  {"kept_median", memory.kept_median},
                                  {"kept_low", memory.kept_low},
                                  {"length",
                                   {{"low", memory.length_low},
                                    {"median", memory.length_median},
                                    {"high", memory.length_high}}}});
    }
    if (tuned.has_value()) {
      result["held_out_kl"] = {{"logit_lens", tuned->logit_lens_kl},
                               {"tuned_lens", tuned->tuned_lens_kl}};
    }
    std::printf("%s\n", result.dump().c_str());
    return absl::OkStatus();
  }
  for (size_t k = 0; k < study.next.size(); ++k) {
    std::printf("%5.1f %%  %s\n", 100 * study.next_probs[k],
                VisibleToken(page.token_text(study.next[k])).c_str());
  }
  std::printf("%s\n", flags.out.c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "lens",
      "Writes one page about a prompt: its tokens and where heads look (the channels of a state "
      "space by their hidden attention, with what its memory keeps), what the model would say "
      "at every layer (logit lens; with --tune_on a tuned lens beside it), and what every part of "
      "the stream adds to the logit of the next token. The page carries all it needs inside.",
      "--model=DIR --prompt='The cat sat on the' --out=report.html");
  residual::ModelFlags model(cli);
  residual::PromptFlags prompt(cli);
  residual::Flags flags;
  cli.Path("out", &flags.out, "the page to write");
  cli.Int("answer", &flags.study.answer, -1, int64_t{1} << 31,
          "id of the token to explain; -1: the most likely next one");
  cli.Int("wrong", &flags.study.wrong, -1, int64_t{1} << 31,
          "id of the token to compare with; -1: the second most likely");
  cli.Int("top", &flags.study.top, 2, 100, "how many tokens to list of each prediction");
  cli.Int("channels", &flags.study.channels, 1, 1 << 20,
          "channels of a state space to show of each layer: those that move most");
  cli.Path("tune_on", &flags.tune_on, "a text to train a tuned lens on");
  cli.Int("tune_steps", &flags.tune.steps, 1, 1 << 20, "steps of that training");
  cli.Int("tune_rows", &flags.tune.rows, 1, 1 << 12, "windows of text in a step");
  cli.Int("tune_context", &flags.tune.context, 2, 1 << 16, "tokens in a window");
  cli.Number("tune_learning_rate", &flags.tune.learning_rate, 1e-8, 10, "of Adam, at first");
  return cli.Run(argc, argv, [&] { return residual::Run(cli, model, prompt, flags); });
}
