// Pastes activations of a clean run into a corrupted one, cell by cell, and measures what comes
// back.

#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "interp/attribution_patch/attribution.h"
#include "interp/metric/metric.h"
#include "interp/patch/session.h"
#include "interp/patch/statistics.h"
#include "interp/patch/sweep.h"
#include "interp/weights/process_weights.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/progress.h"
#include "tools/pairs/pair_flags.h"
#include "tools/processes/processes.h"
#include "tools/units/unit_flags.h"

namespace residual {
namespace {

struct Flags {
  std::string kind = "resid_pre", by = "pos", out;
  std::string method = "activation", gradient = "corrupted";
  bool grad_drop = false, process_weights = false, examples = false;
};

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

absl::Status CheckNumbers(const Sweep& sweep, const std::vector<int64_t>& unit,
                          const std::vector<std::vector<double>>& values, const Metric& metric) {
  for (size_t i = 0; i < unit.size(); ++i) {
    for (const double value : values[i]) {
      if (!std::isnan(value)) continue;
      return absl::FailedPreconditionError(absl::StrCat("the ", metric.name, " is NaN with ",
                                                        sweep.patches[unit[i]].cells[0].ToString(),
                                                        " patched"));
    }
  }
  return absl::OkStatus();
}

// The metric of every cell, on process 0. `done`: cells so far.
absl::StatusOr<UnitCounts> RunSweep(PatchSession& session, const Sweep& sweep, const Metric& metric,
                                    const UnitFlags& unit_flags, Journal::Subject subject,
                                    double& done, std::vector<std::vector<double>>& values) {
  ItemUnits work;
  work.subject = std::move(subject);
  work.numbers = session.batch();
  RESIDUAL_ASSIGN_OR_RETURN(work.units, session.Units(sweep.patches, metric));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> corrupted, session.Corrupted(metric));
  values.assign(sweep.patches.size(), corrupted);
  done = static_cast<double>(values.size());
  for (const std::vector<int64_t>& unit : work.units) done -= static_cast<double>(unit.size());
  work.run =
      [&](const std::vector<int64_t>& unit) -> absl::StatusOr<std::vector<std::vector<double>>> {
    RESIDUAL_ASSIGN_OR_RETURN(auto of_unit, session.RunUnit(sweep.patches, unit, metric));
    RESIDUAL_RETURN_IF_ERROR(CheckNumbers(sweep, unit, of_unit, metric));
    return of_unit;
  };
  work.take = [&](int64_t cell, std::vector<double> of_cell) {
    values[cell] = std::move(of_cell);
    ++done;
  };
  return unit_flags.Run(std::move(work));
}

absl::Status RunPatch(const CommandLine& cli, const ModelFlags& model_flags,
                      const PairFlags& pair_flags, const UnitFlags& unit_flags,
                      Processes& processes, const Flags& flags) {
  const absl::Time began = absl::Now();
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  Journal::Subject subject = unit_flags.ModelSubject(loaded);
  if (flags.process_weights) RESIDUAL_RETURN_IF_ERROR(ProcessWeights(*loaded.model));
  RESIDUAL_ASSIGN_OR_RETURN(const PromptSet prompts, pair_flags.Read(loaded));
  subject.merge(pair_flags.Subject(prompts));
  subject.insert({{"kind", flags.kind},
                  {"by", flags.by},
                  {"process_weights", flags.process_weights ? "true" : "false"}});

  const bool exact = flags.method == "activation" || flags.method == "exact";
  AttributionOptions attribution;
  attribution.run = flags.gradient == "clean" ? PatchRun::kClean : PatchRun::kCorrupted;
  attribution.qk_fix = flags.method == "qk_fix" || flags.method == "atp_star";
  attribution.grad_drop = flags.grad_drop || flags.method == "atp_star";
  if (exact && flags.grad_drop) {
    return UsageError("--grad_drop is of gradients: --method=attribution, qk_fix or atp_star");
  }
  if (!exact && unit_flags.given()) {
    return UsageError(absl::StrCat("--method=", flags.method,
                                   " is one run of all cells: no --journal, and one process"));
  }

  ProgressBar bar("patching", 1000);
  double done = 0;
  std::vector<std::vector<double>> values;
  PatchOptions options;
  options.progress = [&](double of_unit, double) {
    processes.Poll();
    const double all = static_cast<double>(values.size());
    if (processes.first() && !values.empty()) {
      bar.Update(static_cast<int64_t>(1000 * (done + of_unit) / all), absl::StrCat(all, " cells"));
    }
  };
  // Attribution makes the run of its gradient itself.
  if (!exact && attribution.run == PatchRun::kClean) options.plan_on = PatchRun::kCorrupted;
  RESIDUAL_ASSIGN_OR_RETURN(PatchSession session, PatchSession::Create(*loaded.model, prompts.clean,
                                                                       prompts.corrupted, options));
  RESIDUAL_ASSIGN_OR_RETURN(const Metric metric,
                            pair_flags.MetricOf(prompts, session.model().d_vocab(),
                                                [&session] { return session.CleanLogits(); }));
  const absl::Time loaded_at = absl::Now();
  const absl::StatusOr<Sweep> planned = PlanSweep(session, flags.kind, flags.by);
  if (absl::IsInvalidArgument(planned.status())) return UsageError(planned.status().message());
  RESIDUAL_RETURN_IF_ERROR(planned.status());
  const Sweep& sweep = *planned;
  // Attribution first: what it runs on its tape needs no other run.
  UnitCounts units;
  if (exact) {
    RESIDUAL_ASSIGN_OR_RETURN(
        units, RunSweep(session, sweep, metric, unit_flags, std::move(subject), done, values));
    if (!processes.first()) return absl::OkStatus();
  } else {
    RESIDUAL_ASSIGN_OR_RETURN(values,
                              AttributePatches(session, sweep.patches, metric, attribution));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> clean_metric, session.Clean(metric));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> corrupted_metric, session.Corrupted(metric));
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
    AddStatistics(sweep, values, exact ? corrupted_metric : none, cli.seed(), tensors);
  }
  RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(flags.out, tensors));

  if (cli.json()) {
    const nlohmann::json said = {
        {"out", flags.out},
        {"method", flags.method},
        {"qk_fix", attribution.qk_fix},
        {"grad_drop", attribution.grad_drop},
        {"metric", metric.name},
        {"kind", flags.kind},
        {"axes", sweep.axes},
        {"shape", sweep.shape.sizes()},
        {"clean", clean_mean},
        {"corrupted", corrupted_mean},
        {"cells", sweep.patches.size()},
        {"processes", processes.count()},
        {"units", {{"all", units.all}, {"from_journal", units.found}}},
        {"seconds", {{"load", absl::ToDoubleSeconds(loaded_at - began)}, {"patch", seconds}}}};
    std::printf("%s\n", said.dump().c_str());
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
  residual::Processes processes(residual::StartTransport(&argc, &argv));
  residual::CommandLine cli(
      "patch",
      "Activation patching: runs a model on corrupted prompts with one activation after the other "
      "replaced by that of the clean prompts, and measures the answer.",
      "--model=gpt2 --clean=prompts.safetensors:clean --corrupted=prompts.safetensors:corrupted "
      "--kind=z --by=head --answer=5335,3271 --wrong=3271,5335 --out=patched.safetensors");
  residual::ModelFlags model(cli);
  residual::PairFlags pairs(cli);
  residual::UnitFlags units(cli, processes);
  residual::Flags flags;
  cli.Text(
      "kind", &flags.kind,
      "what is patched, by the name of its hook point (//tools:inspect lists them): resid_pre, "
      "resid_mid, attn_out, mlp_out, z, q, k, v, pattern, mlp.post, ..; block_every and "
      "head_every are resid_pre, attn_out, mlp_out and z, q, k, v, pattern in one");
  cli.Text("by", &flags.by,
           "one cell for each layer and: pos, head, head_pos, head_pos_key, unit, ..; axes come in "
           "the activation's order");
  cli.Choice("method", &flags.method, {"activation", "exact", "attribution", "qk_fix", "atp_star"},
             "activation (exact): a run for each cell; attribution: the first-order estimate of "
             "each cell's effect, from one backward pass; qk_fix: the same, with the softmax made "
             "anew for queries and keys; atp_star: qk_fix with --grad_drop");
  cli.Bool("grad_drop", &flags.grad_drop,
           "attribution, qk_fix: the mean absolute estimate with each other layer's gradient "
           "dropped in turn, which effects that cancel out do not hide from");
  cli.Choice(
      "gradient", &flags.gradient, {"corrupted", "clean"},
      "of estimates: of the corrupted run, times clean minus corrupted (TransformerLens), or of "
      "the clean run, times corrupted minus clean (EAP)");
  cli.Bool("process_weights", &flags.process_weights,
           "fold norms and value biases, centre writing weights and the unembedding, as "
           "TransformerLens does");
  cli.Bool("examples", &flags.examples,
           "also write by_example, the mean's bootstrap interval (low, high: 95 %) and p_value");
  cli.Path("out", &flags.out, "safetensors file to write: result, clean, corrupted").Required();
  return cli.Run(
      argc, argv, [&] { return residual::RunPatch(cli, model, pairs, units, processes, flags); },
      [&](const absl::Status& own) { return processes.Join(own); });
}
