// Scores the edges of a model between its heads and MLPs on pairs of prompts, finds a circuit, and
// says how faithful it is; or patches the paths from some writers to some readers.

#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "interp/graph/circuit.h"
#include "interp/graph/edge_scores.h"
#include "interp/graph/graph.h"
#include "interp/weights/process_weights.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "ops/layout/layout.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"
#include "tools/circuit_page/circuit_page.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/progress.h"
#include "tools/pairs/pair_flags.h"
#include "tools/path_flags/path_flags.h"
#include "tools/processes/processes.h"
#include "tools/units/unit_flags.h"

namespace residual {
namespace {

struct Flags {
  std::string method = "eap_ig_inputs", gradient = "clean", out, report;
  int64_t steps = 5, top = 20, sets = 20;
  double threshold = 0.01;
  std::vector<std::string> curve;
  bool process_weights = false;
};

// What was found, and the edges in the order of their scores.
struct Found {
  EdgeScores by_example;  // [edge][example]; empty: ACDC has none
  std::vector<double> scores;
  std::vector<int> circuit;
  int64_t runs = 0;
};

// A run for each edge; scores are on process 0.
absl::StatusOr<EdgeScores> ScoreExactly(const EdgePair& pair, const Metric& metric, PatchRun run,
                                        const UnitFlags& unit_flags, Processes& processes,
                                        Journal::Subject subject) {
  constexpr int kEdgesOfUnit = 8;
  const int edges = pair.clean.graph().edges();
  ProgressBar bar("edges", edges);
  int64_t done = 0;
  EdgeScores scores(edges);
  ItemUnits work;
  work.subject = std::move(subject);
  work.numbers = pair.clean.batch();
  for (int edge = 0; edge < edges; ++edge) {
    if (edge % kEdgesOfUnit == 0) work.units.emplace_back();
    work.units.back().push_back(edge);
  }
  work.run = [&](const std::vector<int64_t>& unit) {
    return ExactEdgeScores(pair, metric, std::vector<int>(unit.begin(), unit.end()), run,
                           [&](size_t of_unit) {
                             processes.Poll();
                             if (processes.first()) bar.Update(done + int64_t(of_unit));
                           });
  };
  work.take = [&](int64_t edge, std::vector<double> of_edge) {
    scores[edge] = std::move(of_edge);
    ++done;
  };
  RESIDUAL_RETURN_IF_ERROR(unit_flags.Run(std::move(work)).status());
  return scores;
}

absl::StatusOr<Found> Score(const EdgePair& pair, const Metric& metric, const Flags& flags,
                            const UnitFlags& unit_flags, Processes& processes,
                            const Journal::Subject& subject) {
  Found found;
  const int edges = pair.clean.graph().edges();
  const PatchRun run = flags.gradient == "clean" ? PatchRun::kClean : PatchRun::kCorrupted;
  if (flags.method == "acdc") {
    ProgressBar bar("pruning", edges);
    AcdcOptions options;
    options.threshold = flags.threshold;
    options.progress = [&bar](int done, int) { bar.Update(done, "edges"); };
    RESIDUAL_ASSIGN_OR_RETURN(AcdcResult result, Acdc(pair, metric, options));
    found.scores = std::move(result.rise);
    found.circuit = std::move(result.circuit);
    found.runs = result.runs;
    return found;
  }
  if (flags.method == "exact") {
    RESIDUAL_ASSIGN_OR_RETURN(found.by_example,
                              ScoreExactly(pair, metric, run, unit_flags, processes, subject));
    if (!processes.first()) return found;
    found.runs = edges;
  } else {
    EdgeScoreOptions options;
    options.method = flags.method == "eap"               ? EdgeMethod::kEap
                     : flags.method == "eap_ig_inputs"   ? EdgeMethod::kEapIgInputs
                     : flags.method == "clean_corrupted" ? EdgeMethod::kCleanCorrupted
                                                         : EdgeMethod::kEapIgActivations;
    options.run = run;
    options.steps = static_cast<int>(flags.steps);
    RESIDUAL_ASSIGN_OR_RETURN(found.by_example, ScoreEdges(pair, metric, options));
  }
  found.scores = MeanScores(found.by_example);
  found.circuit = TopEdges(found.scores, static_cast<int>(flags.top));
  return found;
}

// Those of --curve, or the usual ones.
absl::StatusOr<std::vector<int>> SizesOf(const Flags& flags, int edges) {
  std::vector<int> sizes;
  for (const std::string& text : flags.curve) {
    int size;
    if (!absl::SimpleAtoi(text, &size) || size < 1 || size > edges) {
      return UsageError(
          absl::StrCat("--curve: '", text, "', expected numbers of edges in [1, ", edges, "]"));
    }
    sizes.push_back(size);
  }
  return sizes.empty() ? CurveSizes(edges) : sizes;
}

absl::Status WriteScores(const std::string& path, const EdgeGraph& graph, const Found& found,
                         const PromptSet& prompts) {
  const int64_t edges = graph.edges();
  std::vector<float> scores(found.scores.begin(), found.scores.end()), by_example;
  std::vector<int64_t> writers, readers;
  std::map<std::string, std::string> names;
  for (int edge = 0; edge < edges; ++edge) {
    writers.push_back(graph.WriterOf(edge));
    readers.push_back(graph.ReaderOf(edge));
  }
  for (const GraphWriter& w : graph.writers()) absl::StrAppend(&names["writers"], w.name, "\n");
  for (const GraphReader& r : graph.readers()) absl::StrAppend(&names["readers"], r.name, "\n");
  std::vector<NamedTensor> tensors = prompts.made;
  tensors.emplace_back("result", Tensor::Of<float>({edges}, scores));
  tensors.emplace_back("writer", Tensor::Of<int64_t>({edges}, writers));
  tensors.emplace_back("reader", Tensor::Of<int64_t>({edges}, readers));
  if (!found.by_example.empty()) {
    for (const std::vector<double>& of_edge : found.by_example) {
      by_example.insert(by_example.end(), of_edge.begin(), of_edge.end());
    }
    const int64_t batch = static_cast<int64_t>(found.by_example[0].size());
    tensors.emplace_back("by_example", Tensor::Of<float>({edges, batch}, by_example));
  }
  return WriteSafetensors(path, tensors, names);
}

double MeanOf(const std::vector<double>& values) { return MeanScores({values})[0]; }

absl::Status RunEdges(const CommandLine& cli, const ModelFlags& model_flags,
                      const PairFlags& pair_flags, const PathFlags& path_flags,
                      const UnitFlags& unit_flags, Processes& processes, const Flags& flags) {
  if (flags.method == "acdc" && pair_flags.metric() != "kl" && pair_flags.metric() != "loss") {
    return UsageError(
        "--method=acdc prunes what does not raise the metric: --metric=kl or --metric=loss");
  }
  RESIDUAL_RETURN_IF_ERROR(path_flags.Check());
  if (unit_flags.given() && (flags.method != "exact" || path_flags.given())) {
    return UsageError("--journal and several processes are for --method=exact of all edges");
  }
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  Journal::Subject subject = unit_flags.ModelSubject(loaded);
  if (flags.process_weights) RESIDUAL_RETURN_IF_ERROR(ProcessWeights(*loaded.model));
  const ResidualModel& model = *loaded.model;
  RESIDUAL_ASSIGN_OR_RETURN(const PromptSet prompts, pair_flags.Read(loaded));
  subject.merge(pair_flags.Subject(prompts));
  subject.insert({{"gradient", flags.gradient},
                  {"method", flags.method},
                  {"process_weights", flags.process_weights ? "true" : "false"}});
  const absl::Time began = absl::Now();
  RESIDUAL_ASSIGN_OR_RETURN(const EdgeGraph graph, EdgeGraph::Of(model));
  if (path_flags.given()) {
    return path_flags.Run(cli, model, graph, pair_flags, prompts, flags.out);
  }
  RESIDUAL_ASSIGN_OR_RETURN(const EdgePair pair,
                            MakeEdgePair(model, graph, prompts.clean, prompts.corrupted));
  RESIDUAL_ASSIGN_OR_RETURN(const Metric metric, pair_flags.MetricOf(prompts, model.d_vocab(), [&] {
    const Tensor& resid = pair.clean.resid();
    const Tensor last = Slice(resid, 1, resid.dim(1) - 1, resid.dim(1));
    return model.UnembedStream(last, Scope()).Reshaped({resid.dim(0), model.d_vocab()});
  }));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<int> sizes, SizesOf(flags, graph.edges()));
  CircuitFindings page;
  page.model = loaded.folder;
  page.method = flags.method;
  page.metric = metric.name;
  page.graph = &graph;
  page.clean = MeanOf(pair.clean.Value(metric, pair.clean.resid()));
  page.corrupted = MeanOf(pair.corrupted.Value(metric, pair.corrupted.resid()));
  if (!std::isfinite(page.clean) || !std::isfinite(page.corrupted)) {
    return absl::FailedPreconditionError(absl::StrCat("the mean ", metric.name, " is ", page.clean,
                                                      " on the clean prompts and ", page.corrupted,
                                                      " on the corrupted ones"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const Found found,
                            Score(pair, metric, flags, unit_flags, processes, subject));
  if (!processes.first()) return absl::OkStatus();
  const absl::Time scored_at = absl::Now();
  page.scores = found.scores;
  page.circuit = found.circuit;
  RESIDUAL_ASSIGN_OR_RETURN(page.value, EvaluateCircuit(pair, metric, page.circuit));
  if (flags.method != "acdc" || !flags.curve.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(page.curve, FaithfulnessCurve(pair, metric, page.scores, sizes));
  }
  RESIDUAL_ASSIGN_OR_RETURN(
      page.random,
      CompareWithRandom(pair, metric, page.circuit, static_cast<int>(flags.sets), cli.seed()));
  if (!flags.out.empty()) RESIDUAL_RETURN_IF_ERROR(WriteScores(flags.out, graph, found, prompts));
  if (!flags.report.empty()) RESIDUAL_RETURN_IF_ERROR(CircuitPage(page).Write(flags.report));

  nlohmann::json done = {
      {"method", flags.method},
      {"metric", metric.name},
      {"clean", page.clean},
      {"corrupted", page.corrupted},
      {"writers", graph.writers().size()},
      {"readers", graph.readers().size()},
      {"edges", graph.edges()},
      {"runs", found.runs},
      {"circuit",
       {{"edges", nlohmann::json::array()},
        {"metric", page.value.mean},
        {"faithfulness", page.value.faithfulness}}},
      {"curve", nlohmann::json::array()},
      {"random", {{"faithfulness", page.random.random}, {"p_value", page.random.p_value}}},
      {"seconds",
       {{"score", absl::ToDoubleSeconds(scored_at - began)},
        {"circuit", absl::ToDoubleSeconds(absl::Now() - scored_at)}}}};
  for (const int edge : page.circuit) {
    done["circuit"]["edges"].push_back(
        {{"edge", graph.EdgeName(edge)}, {"score", page.scores[edge]}});
  }
  for (const CircuitValue& value : page.curve) {
    done["curve"].push_back(
        {{"edges", value.edges}, {"metric", value.mean}, {"faithfulness", value.faithfulness}});
  }
  if (!flags.out.empty()) done["out"] = flags.out;
  if (!flags.report.empty()) done["report"] = flags.report;
  if (cli.json()) {
    std::printf("%s\n", done.dump().c_str());
    return absl::OkStatus();
  }
  std::printf("%s: clean %.4g, corrupted %.4g; %d edges\n", metric.name.c_str(), page.clean,
              page.corrupted, graph.edges());
  for (const auto& edge : done["circuit"]["edges"]) {
    std::printf("  %-24s %10.4g\n", edge["edge"].get<std::string>().c_str(),
                edge["score"].get<double>());
  }
  if (page.clean == page.corrupted) {
    std::printf("clean and corrupted have the same metric: there is nothing to keep\n");
    return absl::OkStatus();
  }
  std::printf("these %zu keep %.1f%% of it; p of as many at random %.3g\n", page.circuit.size(),
              100 * page.value.faithfulness, page.random.p_value);
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::Processes processes(residual::StartTransport(&argc, &argv));
  residual::CommandLine cli(
      "edges",
      "Finds the circuit of a task: scores every edge between a model's heads and MLPs, and says "
      "how faithful the best of them are, against as many at random. With --sender and --receiver "
      "it patches the paths between these.",
      "--model=gpt2 --task=ioi --method=eap_ig_inputs --top=100 --report=circuit.html");
  residual::ModelFlags model(cli);
  residual::PairFlags pairs(cli);
  residual::PathFlags paths(cli);
  residual::UnitFlags units(cli, processes);
  residual::Flags flags;
  cli.Choice("method", &flags.method,
             {"eap", "eap_ig_inputs", "eap_ig_activations", "clean_corrupted", "exact", "acdc"},
             "to first order: eap, eap_ig_* (integrated gradients), clean_corrupted; exact: a run "
             "for each edge; acdc: pruned one after the other");
  cli.Choice("gradient", &flags.gradient, {"clean", "corrupted"},
             "clean: what breaking an edge of the clean run changes (EAP-IG); corrupted: what "
             "mending one of the corrupted run does (TransformerLens)");
  cli.Int("steps", &flags.steps, 1, 1 << 20, "of integrated gradients");
  cli.Int("top", &flags.top, 0, int64_t{1} << 30, "edges of the circuit, by the size of scores");
  cli.Number("threshold", &flags.threshold, 0, 1e9, "acdc: how much an edge may raise the metric");
  cli.List("curve", &flags.curve,
           "numbers of best edges whose faithfulness is measured; 1, 2, 5, 10, .. unless given");
  cli.Int("sets", &flags.sets, 0, 1 << 20, "random circuits to compare with");
  cli.Bool("process_weights", &flags.process_weights,
           "fold norms and value biases, centre writing weights and the unembedding, as "
           "TransformerLens does");
  cli.Path("out", &flags.out,
           "safetensors file to write: result and by_example, writer and reader of each edge "
           "(their names in the metadata); of paths [sender, receiver]");
  cli.Path("report", &flags.report, "page to write: the circuit drawn, and how faithful it is");
  return cli.Run(
      argc, argv,
      [&] { return residual::RunEdges(cli, model, pairs, paths, units, processes, flags); },
      [&](const absl::Status& own) { return processes.Join(own); });
}
