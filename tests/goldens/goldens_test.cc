// Checkpoint folders of reference libraries, against what those libraries computed from them: see
// README.md.

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "interp/weights/process_weights.h"
#include "models/checkpoint/config_reader.h"
#include "models/zoo/zoo.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

class GoldenTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat("tests/goldens/", GetParam());
    absl::StatusOr<LoadedModel> loaded = LoadModel(folder_);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_TRUE(loaded->warnings.empty()) << loaded->warnings[0];
    model_ = std::move(loaded->model);
    inputs_ = ReadAll("inputs.safetensors");
    expected_ = ReadAll("expected.safetensors");
    const auto info = ReadJsonObject(folder_ + "/case.json", 1 << 20);
    ASSERT_TRUE(info.ok()) << info.status();
    limits_ = (*info)["tolerance"]["max_abs"].get<std::map<std::string, double>>();
  }

  std::map<std::string, Tensor> ReadAll(const std::string& name) const {
    std::map<std::string, Tensor> tensors;
    const auto file = SafetensorsFile::Open(folder_ + "/" + name);
    EXPECT_TRUE(file.ok()) << file.status();
    for (const TensorInfo& info : file->tensors()) tensors[info.name] = *file->Read(info.name);
    return tensors;
  }

  void ExpectMatches(const Tensor& got, const std::string& name) {
    const Tensor& want = expected_.at(name);
    const double limit = limits_.at(name);
    ASSERT_EQ(got.shape(), want.shape()) << name;
    const std::vector<double> g = got.ToDoubles(), w = want.ToDoubles();
    double worst = 0;
    for (size_t i = 0; i < g.size(); ++i) {
      if (std::isinf(w[i])) {
        ASSERT_EQ(g[i], w[i]) << name << ", element " << i;
      } else {
        ASSERT_TRUE(std::isfinite(g[i])) << name << ", element " << i;
        worst = std::max(worst, std::abs(g[i] - w[i]));
      }
    }
    EXPECT_LE(worst, limit) << name;
    compared_.push_back(name);
  }

  // Logits, and every activation under its declared name, of one run.
  struct Activations {
    Tensor logits;
    std::map<std::string, Tensor> by_name;
  };
  Activations Run(const ModelInput& input) const {
    Activations run;
    Hooks hooks;
    hooks.Read(
        "*", [&](absl::string_view name, const Tensor& x) { run.by_name[std::string(name)] = x; });
    const absl::StatusOr<Tensor> logits = model_->Run(input, &hooks);
    EXPECT_TRUE(logits.ok()) << logits.status();
    run.logits = *logits;
    return run;
  }

  // Logits of a run cut into parts of `size` positions, each going on from the one before.
  void ExpectSameInPartsOf(int64_t size) {
    const Tensor& tokens = inputs_.at("input_ids");
    ModelState state = model_->NewState(tokens.dim(0));
    std::vector<Tensor> logits;
    for (int64_t i = 0; i < tokens.dim(1); i += size) {
      const int64_t end = std::min(tokens.dim(1), i + size);
      logits.push_back(model_->Forward({Slice(tokens, 1, i, end)}, &state));
    }
    ExpectMatches(Concat(logits, 1), "logits_incremental");
  }

  // The ids that were generated greedily are the most likely ones of one pass over them.
  void ExpectGreedyContinuation() {
    const Tensor& ids = expected_.at("generated_greedy");
    const int64_t prompt = inputs_.at("prompt_ids").dim(1), length = ids.dim(1);
    const std::vector<double> logits = model_->Forward({ids}).ToDoubles();
    const int64_t d_vocab = model_->d_vocab();
    for (int64_t row = 0; row < ids.dim(0); ++row) {
      for (int64_t i = prompt; i < length; ++i) {
        const auto begin = logits.begin() + (row * length + i - 1) * d_vocab;
        EXPECT_EQ(std::max_element(begin, begin + d_vocab) - begin,
                  ids.data<int64_t>()[row * length + i])
            << "row " << row << ", position " << i;
      }
    }
  }

  std::string folder_;
  std::unique_ptr<ResidualModel> model_;
  std::map<std::string, Tensor> inputs_, expected_;
  std::map<std::string, double> limits_;
  std::vector<std::string> compared_;
};

// Hugging Face folders: logits, hidden states, patterns; the fused paths; padding; decoding.
class HuggingFaceTest : public GoldenTest {};
INSTANTIATE_TEST_SUITE_P(Cases, HuggingFaceTest,
                         testing::Values("gpt2_tiny", "gpt2_options", "neox_parallel",
                                         "neox_sequential", "llama_tiny", "llama_options"));

TEST_P(HuggingFaceTest, LogitsHiddenStatesAndPatterns) {
  const ModelInput input{inputs_.at("input_ids")};
  const Activations run = Run(input);
  ExpectMatches(run.logits, "logits");
  for (int layer = 0; layer < model_->n_layers(); ++layer) {
    ExpectMatches(run.by_name.at(absl::StrCat("blocks.", layer, ".hook_resid_pre")),
                  absl::StrCat("hidden_states.", layer));
    ExpectMatches(run.by_name.at(absl::StrCat("blocks.", layer, ".attn.hook_pattern")),
                  absl::StrCat("attentions.", layer));
  }
  // The last one is taken after the final norm.
  ExpectMatches(run.by_name.at("ln_final.hook_out"),
                absl::StrCat("hidden_states.", model_->n_layers()));
  ExpectMatches(model_->Forward(input), "logits");
}

// What older checkpoints' configs say means the same.
TEST_P(HuggingFaceTest, OldSpellingsOfTheConfig) {
  const std::string path = folder_ + "/config_hub_style.json";
  const auto old_config = ReadJsonObject(path, 1 << 20);
  if (!old_config.ok()) GTEST_SKIP() << "this kind has one spelling";
  auto model = ModelFromConfig(*old_config, path);
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<Parameter> from = Parameters(*model_), to = Parameters(**model);
  ASSERT_EQ(from.size(), to.size());
  for (size_t i = 0; i < from.size(); ++i) *to[i].value = *from[i].value;
  ExpectMatches((*model)->Forward({inputs_.at("input_ids")}), "logits");
}

// The reference's logits are zeroed where there is padding.
TEST_P(HuggingFaceTest, RightPadding) {
  ModelInput input{inputs_.at("padded_input_ids")};
  input.attention_mask = ConvertTo(inputs_.at("padded_attention_mask"), kBool);
  const Tensor logits = model_->Forward(input);
  const Tensor tokens =
      ConvertTo(input.attention_mask, kF32).Reshaped({logits.dim(0), logits.dim(1), 1});
  ExpectMatches(Mul(logits, BroadcastTo(tokens, logits.shape())), "logits_right_padded");
}

TEST_P(HuggingFaceTest, TokenByToken) { ExpectSameInPartsOf(1); }

TEST_P(HuggingFaceTest, GreedyContinuation) { ExpectGreedyContinuation(); }

// Mamba and Mamba-2: what is inside the mixer too.
class MambaTest : public GoldenTest {
 protected:
  // D x of a layer: hook_y holds C h + D x, the reference's y_ssm only C h.
  Tensor Skip(const Activations& run, const std::string& layer) const {
    const std::string mixer = absl::StrCat("blocks.", layer, ".mixer.");
    const Tensor &y = run.by_name.at(mixer + "hook_y"), &conv = run.by_name.at(mixer + "hook_conv");
    const int64_t channels = y.elements() / (y.dim(0) * y.dim(1));  // x is before B and C
    Tensor D;
    for (const Parameter& p : Parameters(*model_)) {
      if (p.name == mixer + "D") D = *p.value;
    }
    const Tensor x = Slice(conv, 2, 0, channels).Reshaped(y.shape());
    if (y.rank() == 4) D = BroadcastTo(D.Reshaped({y.dim(2), 1}), {y.dim(2), y.dim(3)});
    return Mul(x, D);
  }
};
INSTANTIATE_TEST_SUITE_P(Cases, MambaTest,
                         testing::Values("mamba_auto", "mamba_bias", "mamba2_tiny"));

// Here hidden_states.i is the output of block i; the last one is taken after the final norm.
TEST_P(MambaTest, LogitsAndHiddenStates) {
  const ModelInput input{inputs_.at("input_ids")};
  const Activations run = Run(input);
  ExpectMatches(run.logits, "logits");
  for (int layer = 0; layer < model_->n_layers(); ++layer) {
    ExpectMatches(run.by_name.at(absl::StrCat("blocks.", layer, ".hook_resid_post")),
                  absl::StrCat("hidden_states.", layer));
  }
  ExpectMatches(run.by_name.at("ln_final.hook_out"),
                absl::StrCat("hidden_states.", model_->n_layers()));
  ExpectMatches(model_->Forward(input), "logits");
}

TEST_P(MambaTest, HookPointsHoldWhatTheReferenceComputes) {
  const std::map<std::string, std::string> names = {{"in", "ln1.hook_out"},
                                                    {"in_proj", "mixer.hook_in_proj"},
                                                    {"conv_silu", "mixer.hook_conv"},
                                                    {"delta", "mixer.hook_delta"},
                                                    {"B", "mixer.hook_B"},
                                                    {"C", "mixer.hook_C"},
                                                    {"ssm_states", "mixer.hook_state"},
                                                    {"gate", "mixer.hook_gate"},
                                                    {"y_ssm", "mixer.hook_y"},
                                                    {"out", "mixer.hook_out"}};
  const Activations run = Run({inputs_.at("input_ids")});
  for (const auto& [name, value] : expected_) {
    const std::vector<std::string> parts = absl::StrSplit(name, '.');
    if (parts[0] != "mixer" || names.count(parts[2]) == 0) continue;
    Tensor got = run.by_name.at(absl::StrCat("blocks.", parts[1], ".", names.at(parts[2])));
    if (parts[2] == "y_ssm") got = Sub(got, Skip(run, parts[1]));
    ExpectMatches(got, name);
  }
  EXPECT_GE(compared_.size(), 9u);
}

TEST_P(MambaTest, InAnyParts) {
  for (const int64_t size : {1, 2, 7, 12}) ExpectSameInPartsOf(size);
}

// The reference's logits are zeroed where there is padding. Where in_proj has a bias, its padding
// is seen: the bias of padded positions is in the first windows of the convolution. Ours is not.
TEST_P(MambaTest, LeftPadding) {
  ModelInput input{inputs_.at("padded_input_ids")};
  input.attention_mask = ConvertTo(inputs_.at("padded_attention_mask"), kBool);
  const Tensor logits = model_->Forward(input);
  const bool* is_token = input.attention_mask.data<bool>();
  const int64_t row = 1, pos = input.tokens.dim(1);
  const int64_t pad = std::count(is_token + row * pos, is_token + (row + 1) * pos, false);
  ASSERT_GT(pad, 0);
  const Tensor alone = model_->Forward({Slice(input.tokens.Rows(row, row + 1), 1, pad, pos)});
  const std::vector<double> a = alone.ToDoubles(),
                            b = Slice(logits.Rows(row, row + 1), 1, pad, pos).ToDoubles();
  for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-5) << i;
  if (folder_ == "tests/goldens/mamba_bias") return;
  const Tensor tokens = ConvertTo(input.attention_mask, kF32).Reshaped({2, pos, 1});
  ExpectMatches(Mul(logits, BroadcastTo(tokens, logits.shape())), "logits_left_padded");
}

TEST_P(MambaTest, GreedyContinuation) { ExpectGreedyContinuation(); }

// TransformerLens: every activation its cache holds, by its names (aliases included).
class TransformerLensTest : public GoldenTest {};
INSTANTIATE_TEST_SUITE_P(Cases, TransformerLensTest, testing::Values("tl_attn_only", "tl_gpt2"));

TEST_P(TransformerLensTest, EveryHookPointByName) {
  const Activations run = Run({inputs_.at("clean")});
  ExpectMatches(run.logits, "raw.logits");
  const std::string prefix = "raw.cache.";
  for (const auto& [name, value] : expected_) {
    if (!absl::StartsWith(name, prefix)) continue;
    const std::string hook(absl::StripPrefix(name, prefix));
    const auto found = run.by_name.find(CanonicalHookName(hook));
    ASSERT_NE(found, run.by_name.end()) << hook << " did not fire";
    ExpectMatches(found->second, name);
  }
  EXPECT_GE(compared_.size(), 60u);
}

// process_weights_, as TransformerLens names and stacks its weights.
TEST_P(TransformerLensTest, ProcessedWeights) {
  ASSERT_TRUE(ProcessWeights(*model_).ok());
  std::map<std::string, std::vector<Tensor>> stacked;
  for (const Parameter& p : Parameters(*model_)) {
    stacked[p.name.substr(p.name.rfind('.') + 1)].push_back(ToDisk(p, *p.value));
  }
  const std::string prefix = "processed.weights.";
  for (const auto& [name, value] : expected_) {
    if (!absl::StartsWith(name, prefix)) continue;
    const std::vector<Tensor>& parts = stacked.at(std::string(absl::StripPrefix(name, prefix)));
    const bool per_layer = value.rank() > parts[0].rank();
    ExpectMatches(per_layer ? Concat(parts, 0).Reshaped(value.shape()) : parts[0], name);
  }
  EXPECT_GE(compared_.size(), 12u);
  ExpectMatches(model_->Forward({inputs_.at("clean")}), "processed.logits");
}

class ShortformerTest : public GoldenTest {};
INSTANTIATE_TEST_SUITE_P(Cases, ShortformerTest, testing::Values("attn_only_shortformer"));

TEST_P(ShortformerTest, LogitsAndActivations) {
  const Activations run = Run({inputs_.at("input_ids")});
  ExpectMatches(run.logits, "logits");
  for (const auto& [name, value] : expected_) {
    if (name != "logits") ExpectMatches(run.by_name.at(name), name);
  }
  EXPECT_EQ(compared_.size(), 6u);
}

}  // namespace
}  // namespace residual
