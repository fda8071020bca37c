#include "interp/cache/activation_cache.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/counting_model.h"
#include "models/transformer/transformer.h"
#include "ops/elementwise/elementwise.h"
#include "tensor/base/parallel.h"
#include "tensor/core/storage.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> Model(const std::vector<std::vector<std::string>>& blocks,
                                     int64_t width = 8) {
  TransformerConfig config;
  config.d_model = width;
  config.n_ctx = 64;
  config.d_vocab = 16;
  config.blocks = blocks;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = width / 4;
  config.d_mlp = 4 * width;
  auto model = BuildTransformer(config);
  Initialize(*model, 3);
  return model;
}

ModelInput Prompts(int64_t rows, int64_t length) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < rows * length; ++i) ids.push_back(i * 7 % 13);
  return {Tensor::Of<int64_t>({rows, length}, ids)};
}

std::string Path(const std::string& name) { return testing::TempDir() + "/" + name; }

// Every activation of a run, by plain hooks.
std::map<std::string, Tensor> All(const ResidualModel& model, const ModelInput& input) {
  std::map<std::string, Tensor> all;
  Hooks hooks;
  hooks.Read("*", [&](absl::string_view name, const Tensor& x) { all[std::string(name)] = x; });
  EXPECT_TRUE(model.Run(input, &hooks).ok());
  return all;
}

// Up to rounding: a run in which patterns are read makes them step by step, another fused.
constexpr double kRounding = 1e-5;
void ExpectSame(const Tensor& got, const Tensor& want, const std::string& name) {
  ASSERT_EQ(got.shape(), want.shape()) << name;
  const std::vector<double> a = got.ToDoubles(), b = want.ToDoubles();
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;  // also infinities
    ASSERT_NEAR(a[i], b[i], kRounding * (1 + std::abs(b[i]))) << name;
  }
}

const std::vector<std::vector<std::vector<std::string>>>& Kinds() {
  static const auto* kinds = new std::vector<std::vector<std::vector<std::string>>>{
      {{"attn", "mlp"}, {"attn", "mlp"}}, {{"mamba"}, {"mamba2"}}, {{"s4"}, {"attn"}}};
  return *kinds;
}

TEST(ActivationCacheTest, HoldsWhatAPlainRunReads) {
  for (const auto& blocks : Kinds()) {
    const auto model = Model(blocks, 64);
    const ModelInput input = Prompts(3, 20);
    const auto want = All(*model, input);
    const auto plan = PlanCache(*model, input, {});
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_EQ(plan->entries.size(), want.size());
    const auto run = RunWithCache(*model, input, *plan);
    ASSERT_TRUE(run.ok()) << run.status().message();
    ExpectSame(run->output, *model->Run(input), "logits");
    for (const auto& [name, x] : want) ExpectSame(*run->cache.Get(name), x, name);
    // The same through a file, which holds nothing in memory.
    CacheOptions options;
    options.memory_limit = plan->bytes() - 1;
    options.path = Path("all.safetensors");
    options.output_name = "logits";
    const auto on_disk = RunWithCache(*model, input, *plan, options);
    ASSERT_TRUE(on_disk.ok()) << on_disk.status().message();
    EXPECT_TRUE(on_disk->cache.on_disk());
    EXPECT_EQ(on_disk->cache.bytes(), 0);
    const auto opened = ActivationCache::Open(options.path);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    for (const auto& [name, x] : want) ExpectSame(*opened->Get(name), x, name);
    ExpectSame(*opened->Get("logits"), run->output, "logits");
    // And saved from memory.
    ASSERT_TRUE(run->cache.Save(Path("saved.safetensors")).ok());
    for (const auto& [name, x] : want) {
      ExpectSame(*ActivationCache::Open(Path("saved.safetensors"))->Get(name), x, name);
    }
  }
}

// Before the run, what the pool will hold: within 5 %, of sizes that it does not round up.
TEST(ActivationCacheTest, SizesAreKnownBeforeTheRun) {
  const int threads = NumThreads();
  SetNumThreads(1);  // threads keep buffers for products, those that come late take them later
  for (const auto& blocks : Kinds()) {
    const auto model = Model(blocks, 64);
    const ModelInput input = Prompts(4, 64);
    for (const std::vector<std::string>& names :
         std::vector<std::vector<std::string>>{{"*"}, {"*hook_resid_*"}, {"blocks.1.*"}}) {
      CacheSpec spec;
      spec.names = names;
      const CachePlan plan = *PlanCache(*model, input, spec);
      ASSERT_TRUE(RunWithCache(*model, input, plan).ok());  // from now on they are there
      const int64_t before = HostPoolStats().bytes_in_use;
      ActivationCache cache = RunWithCache(*model, input, plan)->cache;
      const auto held = static_cast<double>(HostPoolStats().bytes_in_use - before);
      EXPECT_NEAR(static_cast<double>(plan.bytes()), held, 0.05 * held) << names[0];
      EXPECT_EQ(plan.bytes(), cache.bytes());
      EXPECT_LT(plan.bytes(), plan.file_bytes());  // the stream is there more than once
    }
  }
  SetNumThreads(threads);
}

TEST(ActivationCacheTest, PartsAreTheParts) {
  const auto model = Model({{"attn", "mlp"}, {"attn", "mlp"}, {"attn"}});
  const ModelInput input = Prompts(2, 5);
  const auto want = All(*model, input);
  CacheSpec spec;
  spec.names = {"*hook_z", "*hook_resid_pre", "*hook_pattern", "*hook_k", "ln_final.hook_out"};
  spec.layers = {0, -1};
  spec.positions = {-1, 2};
  spec.heads = {1};
  spec.names.pop_back();
  const CachePlan plan = *PlanCache(*model, input, spec);
  const CachedRun run = *RunWithCache(*model, input, plan);
  EXPECT_EQ(run.cache.names().size(), 8);
  EXPECT_FALSE(run.cache.Has("blocks.1.attn.hook_z"));
  for (const int layer : {0, 2}) {
    const std::string block = "blocks." + std::to_string(layer) + ".";
    const Tensor z = *run.cache.Get(block + "attn.hook_z");
    ASSERT_EQ(z.shape(), Shape({2, 2, 1, 2}));
    const Tensor resid = *run.cache.Get(block + "hook_resid_pre");
    ASSERT_EQ(resid.shape(), Shape({2, 2, 8}));
    const Tensor pattern = *run.cache.Get(block + "attn.hook_pattern");
    ASSERT_EQ(pattern.shape(), Shape({2, 1, 2, 5}));
    EXPECT_EQ(run.cache.Get(block + "attn.hook_k")->shape(), Shape({2, 2, 1, 2}));
    const int64_t positions[] = {4, 2};
    for (int64_t row = 0; row < 2; ++row) {
      for (int64_t p = 0; p < 2; ++p) {
        for (int64_t k = 0; k < 8; ++k) {
          EXPECT_NEAR(
              resid.data<float>()[(row * 2 + p) * 8 + k],
              want.at(block + "hook_resid_pre").data<float>()[(row * 5 + positions[p]) * 8 + k],
              kRounding);
        }
        for (int64_t k = 0; k < 2; ++k) {
          EXPECT_NEAR(z.data<float>()[(row * 2 + p) * 2 + k],
                      want.at(block + "attn.hook_z")
                          .data<float>()[((row * 5 + positions[p]) * 4 + 1) * 2 + k],
                      kRounding);
        }
        for (int64_t key = 0; key < 5; ++key) {
          EXPECT_NEAR(pattern.data<float>()[(row * 2 + p) * 5 + key],
                      want.at(block + "attn.hook_pattern")
                          .data<float>()[((row * 4 + 1) * 5 + positions[p]) * 5 + key],
                      kRounding);
        }
      }
    }
  }
}

// Behind the blocks there are then fewer positions.
TEST(ActivationCacheTest, OfTheLastLogitsAlone) {
  const auto model = Model({{"attn", "mlp"}});
  ModelInput input = Prompts(2, 5);
  input.last_logits = 2;
  const CachePlan plan = *PlanCache(*model, input, {});
  const auto run = RunWithCache(*model, input, plan);
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->output.shape(), Shape({2, 2, 16}));
  const auto want = All(*model, input);
  for (const auto& [name, x] : want) ExpectSame(*run->cache.Get(name), x, name);
  CacheSpec spec;
  spec.positions = {-1};
  EXPECT_EQ(PlanCache(*model, input, spec).status().code(), absl::StatusCode::kInvalidArgument);
  spec.names = {"blocks.*"};
  EXPECT_TRUE(RunWithCache(*model, input, *PlanCache(*model, input, spec)).ok());
}

TEST(ActivationCacheTest, OfSomeLayers) {
  std::vector<int> counts;
  const auto model = CountingModel(4, &counts);
  const ModelInput input = Prompts(2, 3);
  ModelInput small = input;
  small.tokens = Tensor::Of<int64_t>({2, 3}, {1, 2, 3, 4, 5, 6});
  PartialRun part;
  part.stop_at_layer = 2;
  const CachePlan plan = *PlanCache(*model, small, {}, part);
  counts.assign(4, 0);
  const CachedRun run = *RunWithCache(*model, small, plan);
  EXPECT_EQ(counts, std::vector<int>({1, 1, 0, 0}));
  EXPECT_EQ(run.output.shape(), Shape({2, 3, 6}));
  EXPECT_TRUE(run.cache.Has("hook_embed"));
  EXPECT_FALSE(run.cache.Has("blocks.2.hook_resid_pre"));
  EXPECT_FALSE(run.cache.Has("hook_unembed"));
  PartialRun rest;
  rest.start_at_layer = 2;
  rest.resid = run.output;
  const CachePlan after = *PlanCache(*model, small, {}, rest);
  counts.assign(4, 0);
  const CachedRun above = *RunWithCache(*model, small, after);
  EXPECT_EQ(counts, std::vector<int>({0, 0, 1, 1}));
  ExpectSame(above.output, *model->Run(small), "logits");
  ExpectSame(*above.cache.Get("blocks.3.hook_resid_pre"),
             All(*model, small).at("blocks.3.hook_resid_pre"), "stream");
}

// What is kept is what the caller's rules made; bytes that were one may then be two.
TEST(ActivationCacheTest, SeesTheCallersEdits) {
  const auto model = Model({{"attn", "mlp"}, {"attn", "mlp"}});
  const ModelInput input = Prompts(2, 5);
  Hooks hooks;
  hooks.Edit("blocks.1.hook_resid_pre",
             [](absl::string_view, const Tensor& x) { return Scale(x, 2); });
  CacheSpec spec;
  spec.names = {"*hook_resid_*"};
  CacheOptions options;
  options.hooks = &hooks;
  const CachedRun run = *RunWithCache(*model, input, *PlanCache(*model, input, spec), options);
  const auto before = run.cache.Get("blocks.0.hook_resid_post")->ToDoubles();
  const auto after = run.cache.Get("blocks.1.hook_resid_pre")->ToDoubles();
  for (size_t i = 0; i < before.size(); ++i) ASSERT_EQ(after[i], 2 * before[i]);
  ExpectSame(run.output, *model->Run(input, &hooks), "logits");
}

TEST(ActivationCacheTest, WhatIsWrongIsNamed) {
  const auto model = Model({{"attn", "mlp"}, {"attn", "mlp"}});
  const ModelInput input = Prompts(2, 5);
  const auto message = [&](const CacheSpec& spec, const PartialRun& part = {}) {
    return std::string(PlanCache(*model, input, spec, part).status().message());
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  contains(message({{"blocks.0.attn.hook_zz"}}), "did you mean 'blocks.0.attn.hook_z'");
  EXPECT_EQ(message({{"*"}, {2}}), "layer 2 of the model is outside [-2, 2)");
  EXPECT_EQ(message({{"*"}, {}, {5}}), "position 5 of prompts of 5 tokens is outside [-5, 5)");
  EXPECT_EQ(message({{"*"}, {}, {4, -1}}), "position -1 of prompts of 5 tokens is asked for twice");
  EXPECT_EQ(message({{"*hook_z"}, {}, {}, {4}}),
            "head 4 of 'blocks.0.attn.hook_z' is outside [-4, 4)");
  EXPECT_EQ(message({{"*hook_k"}, {}, {}, {2}}),
            "head 2 of 'blocks.0.attn.hook_k' is outside [-2, 2)");
  PartialRun below;
  below.stop_at_layer = 1;
  contains(message({{"*"}, {1}}, below), "layer 1 is not among those that are run, [0, 1)");
  contains(message({{"blocks.1.hook_resid_pre"}}, below), "outside the layers");
  EXPECT_EQ(PlanCache(*model, Prompts(1, 65), {}).status().code(),
            absl::StatusCode::kInvalidArgument);

  const CachePlan plan = *PlanCache(*model, input, {});
  CacheOptions options;
  options.memory_limit = 10;
  EXPECT_EQ(RunWithCache(*model, input, plan, options).status().code(),
            absl::StatusCode::kResourceExhausted);
  options.path = "/proc/no/such/file";
  EXPECT_FALSE(RunWithCache(*model, input, plan, options).ok());
  const CachedRun run = *RunWithCache(*model, input, plan);
  contains(std::string(run.cache.Get("blocks.0.atn.hook_z").status().message()),
           "did you mean 'blocks.0.attn.hook_z'");
  EXPECT_TRUE(run.cache.Get("blocks.0.attn.o.hook_in").ok());  // TransformerLens's other name
  // Other prompts than the plan's, whatever of them is kept.
  CacheSpec last;
  last.positions = {-1};
  for (const CachePlan& of : {plan, *PlanCache(*model, input, last)}) {
    for (const ModelInput& other : {Prompts(2, 6), Prompts(2, 3), Prompts(1, 5)}) {
      const absl::Status status = RunWithCache(*model, other, of).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      contains(std::string(status.message()), "planned were [2, 5]");
    }
  }

  Hooks hooks;
  hooks.Edit("blocks.1.hook_mlp_out", [](absl::string_view, const Tensor& x) {
    Tensor edited = x.Clone();
    edited.mutable_data<float>()[8 * 7 + 3] = std::numeric_limits<float>::quiet_NaN();
    return edited;
  });
  options = {};
  options.hooks = &hooks;
  options.memory_limit = 10;
  options.path = Path("nan.safetensors");
  EXPECT_EQ(RunWithCache(*model, input, plan, options).status().message(),
            "'blocks.1.hook_mlp_out' holds NaN, first at [1, 2, 3]");
  EXPECT_FALSE(ActivationCache::Open(options.path).ok());  // nothing half written
  options.allow_nan = true;
  EXPECT_TRUE(RunWithCache(*model, input, plan, options).ok());
}

}  // namespace
}  // namespace residual
