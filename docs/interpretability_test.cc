// The C++ of interpretability.md, run: tests/docs/snippets_test.py holds each piece of the page's
// code to be here, line by line.

#include <cstdio>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/attribution_patch/attribution.h"
#include "interp/cache/activation_cache.h"
#include "interp/graph/circuit.h"
#include "interp/graph/edge_scores.h"
#include "interp/patch/session.h"
#include "interp/patch/statistics.h"
#include "interp/patch/sweep.h"
#include "interp/tasks/prompt_pairs.h"
#include "models/zoo/zoo.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

const char* const kFolder = "interp/testdata/trained_induction";

absl::Status Hook(const std::string& folder) {
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(folder));
  const ResidualModel& model = *loaded.model;
  const ModelInput input{Tensor::Of<int64_t>({1, 4}, {5, 9, 3, 5})};

  Tensor pattern;
  Hooks hooks;
  hooks.Read("blocks.1.attn.hook_pattern",
             [&](absl::string_view name, const Tensor& x) { pattern = x; });
  hooks.Edit("blocks.0.attn.hook_z",
             [](absl::string_view name, const Tensor& z) { return Scale(z, 0); });
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor logits, model.Run(input, &hooks));

  EXPECT_EQ(pattern.shape(), Shape({1, 1, 4, 4}));
  EXPECT_EQ(logits.dim(1), 4);
  return absl::OkStatus();
}

absl::Status Cache(const ResidualModel& model, const ModelInput& input) {
  CacheSpec spec;
  spec.names = {"*attn.hook_pattern", "*hook_resid_post"};
  spec.positions = {-1};  // of the last token
  RESIDUAL_ASSIGN_OR_RETURN(const CachePlan plan, PlanCache(model, input, spec));
  CacheOptions options;
  options.memory_limit = int64_t{1} << 30;  // of plan.bytes(); more goes into the file
  options.path = testing::TempDir() + "/activations.safetensors";
  RESIDUAL_ASSIGN_OR_RETURN(const CachedRun run, RunWithCache(model, input, plan, options));
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor pattern, run.cache.Get("blocks.1.attn.hook_pattern"));

  EXPECT_EQ(pattern.shape(), Shape({input.tokens.dim(0), 1, 1, input.tokens.dim(1)}));
  return absl::OkStatus();
}

absl::Status Part(const ResidualModel& model, const ModelInput& input) {
  PartialRun below, rest;
  below.stop_at_layer = 1;
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor resid, RunLayers(model, input, below));
  rest.start_at_layer = 1;
  rest.resid = Scale(resid, 0.5);
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor logits, RunLayers(model, input, rest));

  EXPECT_EQ(logits.dim(2), model.d_vocab());
  return absl::OkStatus();
}

absl::Status PatchAndEstimate(const ResidualModel& model) {
  PromptTaskOptions task;
  task.induction_length = 24;
  RESIDUAL_ASSIGN_OR_RETURN(const PromptPairs pairs,
                            MakePromptPairs("induction", nullptr, model.d_vocab(), task));
  RESIDUAL_ASSIGN_OR_RETURN(PatchSession session,
                            PatchSession::Create(model, {pairs.clean}, {pairs.corrupted}));
  const Metric metric = LogitDifference(pairs.answer, pairs.wrong);
  RESIDUAL_ASSIGN_OR_RETURN(const Sweep sweep, PlanSweep(session, "z", "head_pos"));
  RESIDUAL_ASSIGN_OR_RETURN(const auto values, session.Run(sweep.patches, metric));
  const Tensor result = sweep.ToTensor(Means(values));  // [layer, pos, head]
  const Interval sure = BootstrapInterval(values[0]);   // of the first cell, over the prompts

  AttributionOptions atp_star;
  atp_star.qk_fix = true;
  atp_star.grad_drop = true;
  RESIDUAL_ASSIGN_OR_RETURN(const auto estimates,
                            AttributePatches(session, sweep.patches, metric, atp_star));

  EXPECT_EQ(result.shape(), Shape({2, 24, 1}));
  EXPECT_LE(sure.low, sure.high);
  EXPECT_EQ(estimates.size(), values.size());
  return absl::OkStatus();
}

absl::Status Circuit(const ResidualModel& model, const PromptPairs& pairs) {
  const Metric metric = LogitDifference(pairs.answer, pairs.wrong);
  RESIDUAL_ASSIGN_OR_RETURN(const EdgeGraph graph, EdgeGraph::Of(model));
  RESIDUAL_ASSIGN_OR_RETURN(const EdgePair pair,
                            MakeEdgePair(model, graph, {pairs.clean}, {pairs.corrupted}));
  EdgeScoreOptions options;
  options.method = EdgeMethod::kEapIgInputs;
  RESIDUAL_ASSIGN_OR_RETURN(const EdgeScores scores, ScoreEdges(pair, metric, options));
  const std::vector<int> circuit = TopEdges(MeanScores(scores), 3);
  for (const int edge : circuit) std::printf("%s\n", graph.EdgeName(edge).c_str());
  RESIDUAL_ASSIGN_OR_RETURN(const CircuitValue value, EvaluateCircuit(pair, metric, circuit));
  RESIDUAL_ASSIGN_OR_RETURN(const RandomCircuits random, CompareWithRandom(pair, metric, circuit));

  EXPECT_EQ(value.edges, 3);
  EXPECT_EQ(random.random.size(), 100);
  return absl::OkStatus();
}

TEST(InterpretabilityPageTest, ItsCodeRuns) {
  EXPECT_EQ(Hook(kFolder), absl::OkStatus());
  const LoadedModel loaded = *LoadModel(kFolder);
  PromptTaskOptions task;
  task.induction_length = 24;
  const PromptPairs pairs = *MakePromptPairs("induction", nullptr, loaded.model->d_vocab(), task);
  EXPECT_EQ(Cache(*loaded.model, {pairs.clean}), absl::OkStatus());
  EXPECT_EQ(Part(*loaded.model, {pairs.clean}), absl::OkStatus());
  EXPECT_EQ(PatchAndEstimate(*loaded.model), absl::OkStatus());
  EXPECT_EQ(Circuit(*loaded.model, pairs), absl::OkStatus());
}

}  // namespace
}  // namespace residual
