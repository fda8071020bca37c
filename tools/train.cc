// train: trains a model on a text or on a generated task, and goes on after whatever stopped it.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "models/data/sets/labeled_set.h"
#include "models/data/tasks/tasks.h"
#include "models/settings/settings.h"
#include "models/train/run.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"
#include "tools/cli/progress.h"
#include "tools/training/job/job.h"
#include "tools/training/recipe.h"

namespace residual {
namespace {

using nlohmann::json;

// A signal handler may set it.
std::atomic<bool> stop{false};
static_assert(std::atomic<bool>::is_always_lock_free);

// What a step holds at least: weights, gradients, moments; logits and what becomes of them.
absl::Status CheckMemory(TrainingJob& job, const RunConfig& run) {
  const double have = 1.0 * sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
  const int64_t parameters = CountParameters(job.module());
  const double need = 16.0 * parameters + 4.0 * job.StepElements();
  if (need <= have) return absl::OkStatus();
  return UsageError(absl::StrFormat(
      "%d parameters and steps of batch_size %d need at least %.0f GB, this machine has %.0f",
      parameters, run.train.batch_size, need / 1e9, have / 1e9));
}

// Tells a person how the run goes: a bar on a terminal, a line for each evaluation.
class Reporter {
 public:
  Reporter(const CommandLine& cli, int64_t steps)
      : quiet_(cli.json()), name_(cli.name()), bar_("training", steps), steps_(steps) {}

  void Start(const RunResult& start) {
    for (const std::string& note : start.notes) {
      bar_.Print(absl::StrCat(name_, ": warning: passed over a broken checkpoint: ", note));
    }
    if (!start.checkpoint.empty()) Say(absl::StrCat("goes on from ", start.checkpoint));
  }
  void Step(const StepMetrics& m) {
    // Over about the last 20 steps: a batch is small.
    loss_ = loss_ == 0 ? m.loss : 0.95 * loss_ + 0.05 * m.loss;
    speed_ = speed_ == 0 ? m.tokens_per_second : 0.95 * speed_ + 0.05 * m.tokens_per_second;
    const std::string note = absl::StrFormat("loss %.3f  %s tokens/s", loss_, ShortNumber(speed_));
    bar_.Update(m.step, note);
    if (m.eval_loss) {
      std::string line =
          absl::StrFormat("step %d/%d  %s  evaluation %.3f", m.step, steps_, note, *m.eval_loss);
      if (m.eval_accuracy) absl::StrAppendFormat(&line, "  accuracy %.4f", *m.eval_accuracy);
      Say(line);
    }
  }
  void Say(const std::string& line) {
    if (bar_.shown()) {
      bar_.Print(line);
    } else if (!quiet_) {
      std::printf("%s\n", line.c_str());
      std::fflush(stdout);
    }
  }
  void Finish() { bar_.Finish(); }

 private:
  bool quiet_;
  std::string name_;
  ProgressBar bar_;
  int64_t steps_;
  double loss_ = 0, speed_ = 0;
};

absl::Status Train(const CommandLine& cli, const TrainFlags& flags) {
  RESIDUAL_ASSIGN_OR_RETURN(Recipe recipe, flags.resume ? ResumedRecipe(flags) : NewRecipe(flags));
  absl::StatusOr<TrainingPlan> plan = recipe.settings.Resolve();
  if (!plan.ok()) return UsageError(plan.status().message());
  if (!flags.resume && std::filesystem::exists(RecipePath(flags))) {
    return UsageError(absl::StrCat(
        flags.out, ": has a run already; go on with it by --resume, or choose another --out"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<TrainingJob> job, MakeJob(flags, *plan, recipe));
  RESIDUAL_RETURN_IF_ERROR(CheckMemory(*job, plan->run));

  // All is checked: only now something is written.
  RunOptions options;
  RESIDUAL_RETURN_IF_ERROR(MakeFolders(flags.out));
  RESIDUAL_RETURN_IF_ERROR(RemoveTemporaries(flags.out));
  options.files = {{"config.json", job->config().dump(2) + "\n"}};
  if (job->tokenizer() != nullptr) {
    if (!flags.resume) {
      RESIDUAL_RETURN_IF_ERROR(job->tokenizer()->Save(flags.out));
      // For transformers' AutoTokenizer.
      RESIDUAL_RETURN_IF_ERROR(
          WriteFileAtomically(JoinPath(flags.out, "tokenizer_config.json"),
                              "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}\n"));
    }
    const std::string path = JoinPath(flags.out, "tokenizer.json");
    RESIDUAL_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
    options.files.emplace_back("tokenizer.json", std::move(text));
  }
  if (!flags.resume) {
    RESIDUAL_RETURN_IF_ERROR(
        WriteFileAtomically(RecipePath(flags), recipe.ToJson().dump(2) + "\n"));
  }
  Initialize(job->module(), plan->run.train.seed);

  Reporter reporter(cli, plan->run.steps);
  reporter.Say(absl::StrFormat("%s: %d parameters, %s",
                               recipe.settings.values()["model"].get<std::string>(),
                               CountParameters(job->module()), job->Summary()));
  options.folder = flags.out;
  options.resume = flags.resume;
  options.stop = &stop;
  options.on_start = [&](const RunResult& start) { reporter.Start(start); };
  options.on_step = [&](const StepMetrics& metrics) { reporter.Step(metrics); };
  RESIDUAL_ASSIGN_OR_RETURN(const RunResult result,
                            RunTraining(plan->run, options, job->MakeLearner()));
  if (!result.stopped) RESIDUAL_RETURN_IF_ERROR(job->Save(flags.out));
  reporter.Finish();
  const std::string where = result.stopped ? result.checkpoint : flags.out;
  if (cli.json()) {
    json summary = {{"model", where},
                    {"steps", result.step},
                    {"stopped", result.stopped},
                    {"resumed_from", result.first_step},
                    {"loss", result.loss},
                    {"tokens", result.tokens},
                    {"seconds", result.seconds},
                    {"n_parameters", CountParameters(job->module())},
                    {"checkpoint", result.checkpoint},
                    {"notes", result.notes}};
    if (result.eval_loss) summary["eval_loss"] = *result.eval_loss;
    if (result.eval_accuracy) summary["eval_accuracy"] = *result.eval_accuracy;
    if (!result.stopped) job->Result(summary);
    std::printf("%s\n", summary.dump().c_str());
  } else {
    json members;
    const std::string found = result.stopped ? "" : job->Result(members);
    if (!found.empty()) std::printf("%s\n", found.c_str());
    std::printf("%s step %d; the model is in %s%s\n",
                result.stopped ? "stopped after" : "done:", static_cast<int>(result.step),
                where.c_str(), result.stopped ? "; --resume goes on" : "");
  }
  return absl::OkStatus();
}

std::string Summary() {
  std::string text =
      "Trains a model on a text or on a generated task, or a classifier on labelled rows. Saves as "
      "it goes: what stops a run, also "
      "kill -9 or a power cut, costs the steps since the last checkpoint, and --resume goes on "
      "from "
      "there to the same bits. Ctrl-C saves and ends. --out gets config.json, model.safetensors "
      "and "
      "tokenizer.json (a model's folder), metrics.jsonl, train.json (the settings) and "
      "checkpoints/.\n\nSettings, as --name=value or in --config=FILE.json, here as "
      "--model=attn_only has them (besides dropout: all three; betas: both; n_ctx: context):\n";
  const json values = Settings::Of("attn_only")->values();
  std::string line = " ";
  for (const auto& [name, value] : values.items()) {
    const std::string item =
        absl::StrCat(" ", name, "=", value.is_string() ? value.get<std::string>() : value.dump());
    if (line.size() + item.size() > 100) {
      absl::StrAppend(&text, line, "\n");
      line = " ";
    }
    line += item;
  }
  return absl::StrCat(text, line, "\n");
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  struct sigaction action = {};
  action.sa_handler = [](int) { residual::stop = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second one ends at once
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGXFSZ, SIG_IGN);  // a file past the limit of its size is an error, not the end

  residual::CommandLine cli("train", residual::Summary(),
                            "--model=attn_only --text=FILE --out=run --d_model=64 --repeat=0.9");
  residual::TrainFlags flags;
  cli.Text("model", &flags.model,
           ("kind of model: " + absl::StrJoin(residual::Settings::Presets(), ", ")).c_str());
  cli.Path("text", &flags.text, "text to train on");
  cli.Text("task", &flags.task,
           ("generated data to train on: " + absl::StrJoin(residual::TaskNames(), ", ")).c_str());
  cli.Text(
      "labeled", &flags.labeled,
      ("labelled data to classify, as KIND[,OPTION=N..][:PATH]: " + residual::LabeledSetKinds() +
       "; options: rows, pool (of images), max_length (of texts). Rows are as long as the data, "
       "and of the steps evaluated the most accurate is kept")
          .c_str());
  cli.Path("out", &flags.out, "folder of the run and of the model").Required();
  cli.Path("config", &flags.config, "settings as a JSON object");
  cli.Bool("resume", &flags.resume, "go on with the run in --out");
  cli.Others(&flags.settings);
  const bool seeded = std::any_of(
      argv, argv + argc, [](const char* text) { return absl::StartsWith(text, "--seed"); });
  return cli.Run(argc, argv, [&] {
    if (seeded) flags.seed = cli.seed();
    return residual::Train(cli, flags);
  });
}
