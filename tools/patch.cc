// Pastes activations of a clean run into a corrupted one, cell by cell, and measures what comes
// back.

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "interp/metric/metric.h"
#include "interp/patch/attribution.h"
#include "interp/patch/session.h"
#include "interp/patch/statistics.h"
#include "interp/patch/sweep.h"
#include "interp/tasks/prompt_pairs.h"
#include "interp/weights/process_weights.h"
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

struct Flags {
  std::string clean, corrupted, task, kind = "resid_pre", by = "pos", out;
  int64_t rows = 16, length = 32;
  std::string method = "activation", metric = "logit_difference", gradient = "corrupted";
  std::vector<std::string> answer, wrong;
  bool process_weights = false, examples = false;
};

// FILE or FILE:NAME. A file of the whole name goes first: a name may hold a colon.
absl::StatusOr<ModelInput> ReadPrompts(const char* flag, const std::string& text) {
  const size_t colon = text.rfind(':');
  std::string path = text, name = "input_ids";
  std::FILE* const whole = std::fopen(text.c_str(), "rb");
  if (whole != nullptr) {
    std::fclose(whole);
  } else if (colon != std::string::npos && text.find('/', colon) == std::string::npos) {
    path = text.substr(0, colon);
    name = text.substr(colon + 1);
  }
  absl::StatusOr<ModelInput> input = ReadModelInput(path, name);
  if (!input.ok()) {
    return absl::Status(input.status().code(),
                        absl::StrCat("--", flag, ": ", input.status().message()));
  }
  return input;
}

struct Prompts {
  ModelInput clean, corrupted;
  std::vector<std::string> answer, wrong;
  std::vector<NamedTensor> made;  // those of a task, to be kept with the result
};

// Those of --clean and --corrupted, or made for --task.
absl::StatusOr<Prompts> GetPrompts(const Flags& flags, const LoadedModel& loaded, uint64_t seed) {
  Prompts prompts;
  if (flags.task.empty()) {
    if (flags.clean.empty() || flags.corrupted.empty()) {
      return UsageError("--clean and --corrupted are needed, or --task");
    }
    RESIDUAL_ASSIGN_OR_RETURN(prompts.clean, ReadPrompts("clean", flags.clean));
    RESIDUAL_ASSIGN_OR_RETURN(prompts.corrupted, ReadPrompts("corrupted", flags.corrupted));
    prompts.answer = flags.answer;
    prompts.wrong = flags.wrong;
    return prompts;
  }
  if (!flags.clean.empty() || !flags.corrupted.empty() || !flags.answer.empty() ||
      !flags.wrong.empty()) {
    return UsageError(
        "--task makes prompts and answers; leave out --clean, --corrupted, --answer "
        "and --wrong");
  }
  const auto tokenizer = LoadTokenizer(loaded.folder);
  if (!tokenizer.ok() && !absl::IsNotFound(tokenizer.status())) return tokenizer.status();
  PromptTaskOptions options;
  options.rows = flags.rows;
  options.induction_length = flags.length;
  options.seed = seed;
  const absl::StatusOr<PromptPairs> pairs = MakePromptPairs(
      flags.task, tokenizer.ok() ? tokenizer->get() : nullptr, loaded.model->d_vocab(), options);
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
                  {"answer", Tensor::Of<int64_t>({flags.rows}, pairs->answer)},
                  {"wrong", Tensor::Of<int64_t>({flags.rows}, pairs->wrong)}};
  return prompts;
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

absl::StatusOr<Metric> MakeMetric(const Flags& flags, const Prompts& prompts,
                                  PatchSession& session) {
  if (flags.metric == "kl") return KlDivergence(session.CleanLogits());
  const int64_t d_vocab = session.model().d_vocab();
  RESIDUAL_ASSIGN_OR_RETURN(std::vector<int64_t> answer,
                            ParseIds("answer", prompts.answer, session.batch(), d_vocab));
  if (flags.metric == "loss") return AnswerLoss(std::move(answer));
  if (flags.metric == "probability") return AnswerProbability(std::move(answer));
  RESIDUAL_ASSIGN_OR_RETURN(std::vector<int64_t> wrong,
                            ParseIds("wrong", prompts.wrong, session.batch(), d_vocab));
  return LogitDifference(std::move(answer), std::move(wrong));
}

Tensor ByExample(const Sweep& sweep, const std::vector<std::vector<double>>& values,
                 int64_t batch) {
  Tensor tensor = Tensor::Full(sweep.shape.Appended(batch), sweep.filling);
  float* const out = tensor.mutable_data<float>();
  for (size_t p = 0; p < values.size(); ++p) {
    for (int64_t e = 0; e < batch; ++e) {
      out[sweep.places[p] * batch + e] = static_cast<float>(values[p][e]);
    }
  }
  return tensor;
}

// Every example, and how sure the mean effect is.
void AddStatistics(const Sweep& sweep, const std::vector<std::vector<double>>& values,
                   const std::vector<double>& baseline, uint64_t seed,
                   std::vector<NamedTensor>& tensors) {
  std::vector<double> low, high, p_value;
  for (const std::vector<double>& of_cell : values) {
    std::vector<double> effects(of_cell.size());
    for (size_t e = 0; e < of_cell.size(); ++e) effects[e] = of_cell[e] - baseline[e];
    const Interval interval = BootstrapInterval(of_cell, 0.95, 1000, seed);
    low.push_back(interval.low);
    high.push_back(interval.high);
    p_value.push_back(SignFlipPValue(effects, 1000, seed));
  }
  tensors.emplace_back("by_example",
                       ByExample(sweep, values, static_cast<int64_t>(baseline.size())));
  tensors.emplace_back("low", sweep.ToTensor(low));
  tensors.emplace_back("high", sweep.ToTensor(high));
  tensors.emplace_back("p_value", sweep.ToTensor(p_value));
}

absl::Status RunPatch(const CommandLine& cli, const ModelFlags& model_flags, const Flags& flags) {
  const absl::Time began = absl::Now();
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  if (flags.process_weights) RESIDUAL_RETURN_IF_ERROR(ProcessWeights(*loaded.model));
  RESIDUAL_ASSIGN_OR_RETURN(const Prompts prompts, GetPrompts(flags, loaded, cli.seed()));

  ProgressBar bar("patching", 1000);
  PatchOptions options;
  options.progress = [&bar](double done, double all) {
    bar.Update(static_cast<int64_t>(1000 * done / all), absl::StrCat(all, " runs"));
  };
  RESIDUAL_ASSIGN_OR_RETURN(PatchSession session, PatchSession::Create(*loaded.model, prompts.clean,
                                                                       prompts.corrupted, options));
  RESIDUAL_ASSIGN_OR_RETURN(const Metric metric, MakeMetric(flags, prompts, session));
  const absl::Time loaded_at = absl::Now();
  const absl::StatusOr<Sweep> planned = PlanSweep(session, flags.kind, flags.by);
  if (absl::IsInvalidArgument(planned.status())) return UsageError(planned.status().message());
  RESIDUAL_RETURN_IF_ERROR(planned.status());
  const Sweep& sweep = *planned;
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> clean_metric, session.Clean(metric));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> corrupted_metric, session.Corrupted(metric));
  std::vector<std::vector<double>> values;
  const bool attribution = flags.method == "attribution";
  if (attribution) {
    const GradientRun run =
        flags.gradient == "clean" ? GradientRun::kClean : GradientRun::kCorrupted;
    RESIDUAL_ASSIGN_OR_RETURN(values, AttributePatches(session, sweep.patches, metric, run));
  } else {
    RESIDUAL_ASSIGN_OR_RETURN(values, session.Run(sweep.patches, metric));
    for (size_t p = 0; p < values.size(); ++p) {
      for (const double value : values[p]) {
        if (!std::isnan(value)) continue;
        return absl::FailedPreconditionError(absl::StrCat("the ", metric.name, " is NaN with ",
                                                          sweep.patches[p].cells[0].ToString(),
                                                          " patched"));
      }
    }
  }
  bar.Finish();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - loaded_at);

  const double clean_mean = Means({clean_metric})[0], corrupted_mean = Means({corrupted_metric})[0];
  const Tensor result = sweep.ToTensor(Means(values));
  std::vector<NamedTensor> tensors = {{"result", result},
                                      {"clean", Tensor::Scalar(clean_mean)},
                                      {"corrupted", Tensor::Scalar(corrupted_mean)}};
  tensors.insert(tensors.end(), prompts.made.begin(), prompts.made.end());
  if (flags.examples) {
    // An attribution is an effect already.
    const std::vector<double> none(corrupted_metric.size(), 0);
    AddStatistics(sweep, values, attribution ? none : corrupted_metric, cli.seed(), tensors);
  }
  RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(flags.out, tensors));

  if (cli.json()) {
    const nlohmann::json done = {
        {"out", flags.out},
        {"method", flags.method},
        {"metric", metric.name},
        {"kind", flags.kind},
        {"axes", sweep.axes},
        {"shape", sweep.shape.sizes()},
        {"clean", clean_mean},
        {"corrupted", corrupted_mean},
        {"cells", sweep.patches.size()},
        {"seconds", {{"load", absl::ToDoubleSeconds(loaded_at - began)}, {"patch", seconds}}}};
    std::printf("%s\n", done.dump().c_str());
    return absl::OkStatus();
  }
  std::printf("%s: clean %.6g, corrupted %.6g; %zu cells [%s] in %.2f s\n", metric.name.c_str(),
              clean_mean, corrupted_mean, sweep.patches.size(),
              absl::StrJoin(sweep.axes, ", ").c_str(), seconds);
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "patch",
      "Activation patching: runs a model on corrupted prompts with one activation after the other "
      "replaced by that of the clean prompts, and measures the answer.",
      "--model=gpt2 --clean=prompts.safetensors:clean --corrupted=prompts.safetensors:corrupted "
      "--kind=z --by=head --answer=5335,3271 --wrong=3271,5335 --out=patched.safetensors");
  residual::ModelFlags model(cli);
  residual::Flags flags;
  cli.Path("clean", &flags.clean,
           "safetensors file with input_ids [batch, pos], or FILE:NAME for another tensor of it");
  cli.Path("corrupted", &flags.corrupted, "the same of the corrupted prompts, row by row");
  const std::string tasks =
      absl::StrCat("prompts made for a task in place of files, kept in the result's file: ",
                   absl::StrJoin(residual::PromptTaskNames(), ", "));
  cli.Text("task", &flags.task, tasks.c_str());
  cli.Int("rows", &flags.rows, 1, 1 << 16, "task: pairs of prompts");
  cli.Int("length", &flags.length, 4, 1 << 20, "task: tokens of a row of 'induction'");
  cli.Text(
      "kind", &flags.kind,
      "what is patched, by the name of its hook point (//tools:inspect lists them): resid_pre, "
      "resid_mid, attn_out, mlp_out, z, q, k, v, pattern, mlp.post, ..; block_every and "
      "head_every are resid_pre, attn_out, mlp_out and z, q, k, v, pattern in one");
  cli.Text("by", &flags.by,
           "one cell for each layer and: pos, head, head_pos, head_pos_key, unit, ..; axes come in "
           "the activation's order");
  cli.List("answer", &flags.answer, "right token of each prompt, or one for all");
  cli.List("wrong", &flags.wrong, "wrong token of each prompt");
  cli.Choice("metric", &flags.metric, {"logit_difference", "loss", "probability", "kl"},
             "at the last position: logit of the answer minus that of the wrong token; loss or "
             "probability of the answer; divergence from the clean run");
  cli.Choice("method", &flags.method, {"activation", "attribution"},
             "attribution: the first-order estimate of each cell's effect, from one backward pass");
  cli.Choice(
      "gradient", &flags.gradient, {"corrupted", "clean"},
      "attribution: of the corrupted run, times clean minus corrupted (TransformerLens), or of "
      "the clean run, times corrupted minus clean (EAP)");
  cli.Bool("process_weights", &flags.process_weights,
           "fold norms and value biases, centre writing weights and the unembedding, as "
           "TransformerLens does");
  cli.Bool("examples", &flags.examples,
           "also write by_example, the mean's bootstrap interval (low, high: 95 %) and p_value");
  cli.Path("out", &flags.out, "safetensors file to write: result, clean, corrupted").Required();
  return cli.Run(argc, argv, [&] { return residual::RunPatch(cli, model, flags); });
}
