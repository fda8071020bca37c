#include "interp/patch/session.h"

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "interp/patch/plain_patch.h"
#include "interp/patch/sweep.h"
#include "interp/testing/small_models.h"
#include "models/mamba/mamba.h"
#include "models/mamba/mamba2.h"
#include "models/transformer/transformer.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int64_t kVocab = 31;

// A recurrence whose past cannot be rolled back: s_t = s_(t-1) / 2 + x_t w, out = s^2 / 8.
class Recurrence : public Mixer {
 public:
  static constexpr HookPoint kDrive{"hook_drive", "[batch, pos, d_model]"};
  static constexpr HookPoint kOut{"hook_y", "[batch, pos, d_model]", true};
  struct State : MixerState {
    Tensor s;
    std::unique_ptr<MixerState> Fork() const override { return std::make_unique<State>(*this); }
    absl::Status RollBack(int64_t) override { return absl::UnimplementedError("a recurrence"); }
    std::unique_ptr<MixerState> Select(absl::Span<const int64_t> rows) const override {
      auto selected = std::make_unique<State>(*this);
      std::vector<Tensor> parts;
      for (const int64_t row : rows) parts.push_back(s.Rows(row, row + 1));
      selected->s = Concat(parts, 0);
      return selected;
    }
    size_t bytes() const override { return s.bytes(); }
    void Save(StateWriter&) const override {}
    absl::Status Load(int64_t, int64_t, StateReader&) override { return absl::OkStatus(); }
  };
  void Describe(Visitor& v) override {
    v.Param("w", w_, {8}, Init::Normal(1));
    v.Hooks({kDrive, kOut});
  }
  std::unique_ptr<MixerState> NewState(int64_t batch) const override {
    auto state = std::make_unique<State>();
    state->s = Tensor::Zeros({batch, 1, 8}, kF64);
    return state;
  }
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override {
    const Tensor drive = hook(kDrive, Mul(x, w_));
    Tensor s = state ? static_cast<State*>(state)->s : Tensor::Zeros({x.dim(0), 1, 8}, kF64);
    std::vector<Tensor> all;
    for (int64_t i = 0; i < x.dim(1); ++i) {
      s = Add(Scale(s, 0.5), Slice(drive, 1, i, i + 1));
      all.push_back(s);
    }
    if (state != nullptr) static_cast<State*>(state)->s = s;
    return hook(kOut, Scale(Square(Concat(all, 1)), 0.125));
  }

 private:
  Tensor w_;
};

// Adds the mean of all positions, those to come included.
class MeanOfAll : public Recurrence {
 public:
  bool causal() const override { return false; }
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override {
    const Tensor drive = hook(kDrive, x);
    Tensor sum = Slice(drive, 1, 0, 1);
    for (int64_t i = 1; i < x.dim(1); ++i) sum = Add(sum, Slice(drive, 1, i, i + 1));
    return hook(kOut, Add(Square(BroadcastTo(sum, x.shape())), x));
  }
};

std::unique_ptr<ResidualModel> OfMixers(const std::function<std::unique_ptr<Mixer>()>& make) {
  EmbedOptions embed;
  embed.d_vocab = kVocab;
  embed.d_model = 8;
  embed.n_ctx = 16;
  std::vector<Block> blocks;
  for (int i = 0; i < 3; ++i) {
    std::vector<Branch> branches;
    branches.push_back(
        {"mixer", "ln1", "hook_mixer_out", make(), Norm(NormKind::kLayerNorm, 8, 1e-5)});
    blocks.emplace_back(std::move(branches), NormPlacement::kPre, false, 0);
  }
  UnembedOptions unembed;
  unembed.d_vocab = kVocab;
  unembed.d_model = 8;
  return std::make_unique<ResidualModel>(Embed(embed), std::move(blocks),
                                         Norm(NormKind::kLayerNorm, 8, 1e-5), Unembed(unembed), 16);
}

std::unique_ptr<ResidualModel> Make(const std::string& name) {
  std::unique_ptr<ResidualModel> model;
  if (name == "recurrent") {
    model = OfMixers(std::make_unique<Recurrence>);
  } else if (name == "mean_of_all") {
    model = OfMixers(std::make_unique<MeanOfAll>);
  } else if (name == "mamba") {
    MambaConfig mamba;
    mamba.d_model = 8;
    mamba.d_inner = 12;
    mamba.d_state = 3;
    model = OfMixers([&] { return std::make_unique<MambaMixer>(mamba); });
  } else if (name == "mamba2") {
    Mamba2Config mamba;
    mamba.d_model = 8;
    mamba.d_inner = 12;
    mamba.d_head = 3;
    mamba.n_groups = 2;
    mamba.d_state = 5;
    model = OfMixers([&] { return std::make_unique<Mamba2Mixer>(mamba); });
  } else {
    // Without norms a third layer finds all softmaxes saturated.
    TransformerConfig config = SmallConfig(name, name == "attention_only" ? 2 : 3);
    if (name != "grouped_rotary") config.d_head = 5;  // rotations turn pairs
    config.tied = name == "post_norm";
    model = BuildTransformer(config);
  }
  Spread(*model, 0.5);
  return model;
}

Tensor Tokens(int64_t batch, int64_t pos, uint64_t seed) {
  const Philox random(seed, RandomStream("tokens"));
  Tensor tokens = Tensor::Uninitialized({batch, pos}, kI64);
  for (int64_t i = 0; i < tokens.elements(); ++i) {
    tokens.mutable_data<int64_t>()[i] = random.Below(i, kVocab);
  }
  return tokens;
}

// Every sweep of every kind that the model has, against whole forwards with hooks.
void ExpectAsPlain(const ResidualModel& model, const ModelInput& clean, const ModelInput& corrupted,
                   const Metric& metric, const PatchOptions& options,
                   const std::vector<std::pair<std::string, std::string>>& sweeps) {
  auto session = PatchSession::Create(model, clean, corrupted, options);
  ASSERT_TRUE(session.ok()) << session.status().message();
  const std::vector<double> before = *session->Corrupted(metric);
  for (const auto& [kind, by] : sweeps) {
    SCOPED_TRACE(kind + " by " + by);
    const auto sweep = PlanSweep(*session, kind, by);
    ASSERT_TRUE(sweep.ok()) << sweep.status().message();
    const auto values = session->Run(sweep->patches, metric);
    ASSERT_TRUE(values.ok()) << values.status().message();
    ASSERT_EQ(values->size(), sweep->patches.size());
    double moved = 0;
    for (size_t i = 0; i < sweep->patches.size(); ++i) {
      const PatchCell& cell = sweep->patches[i].cells[0];
      const PatchPoint& point = *(*session->Points({cell.point}))[0];
      const auto want = PatchPlainly(model, corrupted, {{cell, point.axes, point.clean}}, metric);
      ASSERT_TRUE(want.ok()) << want.status().message();
      for (size_t e = 0; e < want->size(); ++e) {
        ASSERT_NEAR((*values)[i][e], (*want)[e], 1e-9 * (1 + std::abs((*want)[e])))
            << cell.ToString() << ", example " << e;
        moved = std::max(moved, std::abs((*want)[e] - before[e]));
      }
    }
    EXPECT_GT(moved, 1e-6);  // a thousand times the tolerance
  }
}

class PatchSessionTest : public testing::TestWithParam<std::string> {
 protected:
  std::vector<std::pair<std::string, std::string>> Sweeps() const {
    std::vector<std::pair<std::string, std::string>> sweeps = {
        {"resid_pre", "pos"}, {"resid_post", "pos"}, {"resid_pre", "layer"}};
    if (GetParam() == "mamba" || GetParam() == "mamba2") {
      for (const char* kind : {"mixer.hook_in_proj", "conv", "delta", "B", "C", "write", "state",
                               "y", "gate", "mixer.hook_out", "mixer_out"}) {
        sweeps.emplace_back(kind, "pos");
      }
      sweeps.emplace_back("write", GetParam() == "mamba" ? "unit_pos" : "head_pos");
      sweeps.emplace_back("delta", GetParam() == "mamba" ? "channel" : "head");
      return sweeps;
    }
    const bool attention = GetParam() != "recurrent" && GetParam() != "mean_of_all";
    if (!attention) {
      for (const char* kind : {"hook_drive", "hook_y", "mixer_out", "ln1.hook_normalized"}) {
        sweeps.emplace_back(kind, "pos");
        sweeps.emplace_back(kind, "unit");
      }
      sweeps.emplace_back("hook_y", "pos_channel");
      return sweeps;
    }
    for (const char* kind : {"z", "q", "k", "v"}) {
      sweeps.emplace_back(kind, "head");
      sweeps.emplace_back(kind, "head_pos");
      sweeps.emplace_back(kind, "pos");
    }
    for (const char* by : {"head", "head_pos", "head_dest_src"}) sweeps.emplace_back("pattern", by);
    sweeps.emplace_back("attn.hook_attn_scores", "head_pos");
    sweeps.emplace_back("result", "head_pos");
    sweeps.emplace_back("q.hook_in", "pos");
    sweeps.emplace_back("attn_out", "pos");
    sweeps.emplace_back("embed", "pos");
    if (GetParam() == "attention_only") return sweeps;
    for (const char* kind : {"mlp_out", "mlp.post", "ln2.scale", "ln1.normalized"}) {
      sweeps.emplace_back(kind, "pos");
    }
    sweeps.emplace_back("mlp.hook_pre", "neuron");
    if (GetParam() != "parallel") sweeps.emplace_back("resid_mid", "pos");
    return sweeps;
  }
};

TEST_P(PatchSessionTest, IsWholeForwardsWithHooks) {
  const auto model = Make(GetParam());
  // Of different prompts throughout, and of such as differ in the middle alone.
  const Tensor clean = Tokens(2, 7, 1);
  Tensor close = clean.Clone();
  close.mutable_data<int64_t>()[3] = (close.data<int64_t>()[3] + 1) % kVocab;
  close.mutable_data<int64_t>()[7 + 4] = (close.data<int64_t>()[7 + 4] + 1) % kVocab;
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  ExpectAsPlain(*model, {clean}, {Tokens(2, 7, 2)}, metric, {}, Sweeps());
  ExpectAsPlain(*model, {clean}, {close}, metric, {}, Sweeps());
  // Small stacks, one run at a time, and small units.
  PatchOptions tight;
  tight.stacked_positions = 9;
  tight.enough_positions = 5;
  tight.unit_positions = 40;
  ExpectAsPlain(*model, {clean}, {Tokens(2, 7, 2)}, AnswerLoss({3, 9}), tight, Sweeps());
  tight.stacked_positions = 1;
  tight.enough_positions = 1;
  ExpectAsPlain(*model, {clean}, {close}, AnswerProbability({3, 9}), tight,
                {{"resid_pre", "pos"}, {"resid_post", "pos"}});
  tight.stacked_positions = 100;
  tight.remembered_positions = 1;
  ExpectAsPlain(*model, {clean}, {close}, AnswerProbability({3, 9}), tight,
                {{"resid_pre", "pos"}, {"resid_post", "pos"}});
}

INSTANTIATE_TEST_SUITE_P(Models, PatchSessionTest,
                         testing::Values("gpt2", "grouped_rotary", "parallel", "attention_only",
                                         "post_norm", "alibi", "recurrent", "mean_of_all", "mamba",
                                         "mamba2"),
                         [](const auto& info) { return info.param; });

TEST(PatchTest, PaddingAndPositions) {
  const auto model = Make("gpt2");
  ModelInput clean{Tokens(2, 6, 1)}, corrupted{Tokens(2, 6, 2)};
  Tensor mask = Tensor::Full({2, 6}, 1, kBool);
  mask.mutable_data<bool>()[0] = mask.mutable_data<bool>()[1] = false;
  clean.attention_mask = corrupted.attention_mask = mask;
  const Tensor positions = Tensor::Of<int64_t>({2, 6}, {0, 0, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5});
  clean.positions = corrupted.positions = positions;
  ExpectAsPlain(*model, clean, corrupted, LogitDifference({3, 9}, {17, 0}), {},
                {{"resid_pre", "pos"}, {"k", "head_pos"}, {"z", "head_pos"}, {"pattern", "head"}});
}

TEST(PatchTest, MetricsOfSeveralPositions) {
  const auto model = Make("gpt2");
  // The sum of token 2's logits at the last three positions, times the example's number.
  const auto sum = [](const Tensor& logits, absl::Span<const int64_t> examples) {
    std::vector<double> values;
    const int64_t n = logits.dim(1);
    for (size_t row = 0; row < examples.size(); ++row) {
      double value = 0;
      for (int64_t i = n - 3; i < n; ++i) {
        value += logits.data<double>()[(row * n + i) * kVocab + 2];
      }
      values.push_back(value * static_cast<double>(examples[row] + 1));
    }
    return values;
  };
  ExpectAsPlain(*model, {Tokens(3, 6, 1)}, {Tokens(3, 6, 2)}, FunctionOfLogits("sum", sum, 3), {},
                {{"resid_pre", "pos"}, {"z", "head_pos"}, {"k", "head"}, {"mlp_out", "pos"}});
}

TEST(PatchTest, SeveralCellsInOneRun) {
  const auto model = Make("grouped_rotary");
  const ModelInput clean{Tokens(2, 6, 1)}, corrupted{Tokens(2, 6, 2)};
  auto session = *PatchSession::Create(*model, clean, corrupted);
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  const auto z = *PlanSweep(session, "z", "head"), k = *PlanSweep(session, "k", "head_pos"),
             mlp = *PlanSweep(session, "mlp_out", "pos");
  std::vector<Patch> patches(4);
  for (size_t i = 0; i < 12; ++i) {
    for (const Sweep* sweep : {&z, &k, &mlp}) {
      const auto& cells = sweep->patches[(i * 5) % sweep->patches.size()].cells;
      patches[i % 3].cells.insert(patches[i % 3].cells.end(), cells.begin(), cells.end());
    }
  }
  const auto values = *session.Run(patches, metric);
  for (size_t p = 0; p < patches.size(); ++p) {
    std::vector<PlainEdit> edits;
    for (const PatchCell& cell : patches[p].cells) {
      const PatchPoint& point = *(*session.Points({cell.point}))[0];
      edits.push_back({cell, point.axes, point.clean});
    }
    const auto want = *PatchPlainly(*model, corrupted, edits, metric);
    for (size_t e = 0; e < 2; ++e) EXPECT_NEAR(values[p][e], want[e], 1e-9) << p;
  }
  // No cells: the corrupted run itself.
  EXPECT_EQ(values[3], *session.Corrupted(metric));
  EXPECT_TRUE(session.Run({}, metric)->empty());
}

TEST(PatchTest, PatchingEverythingIsTheCleanRun) {
  const auto model = Make("gpt2");
  auto session = *PatchSession::Create(*model, {Tokens(3, 5, 1)}, {Tokens(3, 5, 2)});
  const Metric metric = LogitDifference({3, 9, 1}, {17, 0, 2});
  const auto values = *session.Run({{{PatchCell{"blocks.1.hook_resid_pre"}}}}, metric);
  const auto clean = *session.Clean(metric), corrupted = *session.Corrupted(metric);
  for (int e = 0; e < 3; ++e) {
    EXPECT_NEAR(values[0][e], clean[e], 1e-12);
    EXPECT_GT(std::abs(clean[e] - corrupted[e]), 1e-3);
  }
  const auto kl =
      *session.Run({{{PatchCell{"blocks.2.hook_resid_pre"}}}}, KlDivergence(session.CleanLogits()));
  EXPECT_NEAR(kl[0][0], 0, 1e-12);
  EXPECT_GT((*session.Corrupted(KlDivergence(session.CleanLogits())))[0], 1e-3);
}

TEST(PatchTest, TheSameBitsForAnyNumberOfThreads) {
  const auto model = Make("gpt2");
  const int threads = NumThreads();
  std::vector<std::vector<std::vector<double>>> runs;
  for (const int n : {1, 2, 3}) {
    SetNumThreads(n);
    auto session = *PatchSession::Create(*model, {Tokens(2, 7, 1)}, {Tokens(2, 7, 2)});
    const auto sweep = *PlanSweep(session, "v", "head_pos");
    runs.push_back(*session.Run(sweep.patches, LogitDifference({3, 9}, {17, 0})));
  }
  SetNumThreads(threads);
  EXPECT_EQ(runs[1], runs[0]);
  EXPECT_EQ(runs[2], runs[0]);
}

// Units are the same however they are run: in any order, and in another session.
TEST(PatchTest, UnitsInAnyOrderHaveTheBitsOfOneRun) {
  for (const char* name : {"gpt2", "mean_of_all", "mamba"}) {
    const auto model = Make(name);
    const ModelInput clean{Tokens(2, 7, 1)};
    ModelInput corrupted{clean.tokens.Clone()};
    for (int64_t row = 0; row < 2; ++row) {
      int64_t& token = corrupted.tokens.mutable_data<int64_t>()[row * 7 + 3 + row];
      token = (token + 1) % kVocab;
    }
    PatchOptions options;
    options.unit_positions = 10;
    const Metric metric = LogitDifference({3, 9}, {17, 0});
    for (const auto& [kind, by] : std::vector<std::pair<std::string, std::string>>{
             {"resid_pre", "pos"}, {"resid_post", "pos_unit"}, {"embed", "pos"}}) {
      SCOPED_TRACE(absl::StrCat(name, " ", kind));
      auto session = *PatchSession::Create(*model, clean, corrupted, options);
      const auto sweep = *PlanSweep(session, kind, by);
      const auto want = *session.Run(sweep.patches, metric);
      const auto units = *session.Units(sweep.patches, metric);
      EXPECT_GT(units.size(), 1);
      std::vector<std::vector<double>> got(want.size());
      for (size_t i = units.size(); i-- > 0;) {  // the last one first, each in a session of its own
        auto other = *PatchSession::Create(*model, clean, corrupted, options);
        const auto plan = *PlanSweep(other, kind, by);
        const auto values = *other.RunUnit(plan.patches, units[i], metric);
        ASSERT_EQ(values.size(), units[i].size());
        for (size_t p = 0; p < values.size(); ++p) {
          EXPECT_TRUE(got[units[i][p]].empty()) << "in two units";
          got[units[i][p]] = values[p];
        }
      }
      const auto unchanged = *session.Corrupted(metric);
      size_t in_none = 0;
      for (auto& values : got) {
        if (!values.empty()) continue;
        values = unchanged;
        ++in_none;
      }
      EXPECT_EQ(got, want);
      EXPECT_GT(in_none, 0) << "before the first token that differs nothing changes";
    }
  }
}

TEST(PatchTest, UnitsAreOfAboutOneSizeAndCoverLayersInOrder) {
  const auto model = Make("gpt2");
  PatchOptions options;
  options.unit_positions = 60;
  auto session = *PatchSession::Create(*model, {Tokens(2, 7, 1)}, {Tokens(2, 7, 2)}, options);
  const auto sweep = *PlanSweep(session, "z", "head_pos");
  const auto units = *session.Units(sweep.patches, LogitDifference({3, 9}, {17, 0}));
  // Four heads by position, two prompts: 224 positions a layer; of the last one only what is read.
  EXPECT_EQ(units.size(), (2 * 224 + 8) / 60);
  std::string last;
  for (const auto& unit : units) {
    int64_t positions = 0;
    for (const int64_t patch : unit) {
      const PatchCell& cell = sweep.patches[patch].cells[0];
      positions += 2 * (7 - cell.pos);
      EXPECT_GE(cell.point, last) << "costly ones first";
      last = cell.point;
    }
    EXPECT_LT(positions, 60 + 2 * 14);
    EXPECT_GT(positions, 30);
  }
}

TEST(PatchTest, ProgressCountsPatches) {
  const auto model = Make("gpt2");
  std::vector<std::pair<double, double>> seen;
  PatchOptions options;
  options.unit_positions = 60;
  options.progress = [&](double done, double all) { seen.emplace_back(done, all); };
  auto session = *PatchSession::Create(*model, {Tokens(2, 7, 1)}, {Tokens(2, 7, 2)}, options);
  const auto sweep = *PlanSweep(session, "z", "head_pos");
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  ASSERT_TRUE(session.Run(sweep.patches, metric).ok());
  ASSERT_GT(seen.size(), 10);
  for (size_t i = 1; i < seen.size(); ++i) EXPECT_GE(seen[i].first, seen[i - 1].first);
  EXPECT_EQ(seen.back().first, seen.back().second);
  seen.clear();
  const auto units = *session.Units(sweep.patches, metric);
  ASSERT_TRUE(session.RunUnit(sweep.patches, units[1], metric).ok());
  EXPECT_EQ(seen.back(), std::make_pair(double(units[1].size()), double(units[1].size())));
}

TEST(PatchTest, WhatIsWrongIsNamed) {
  auto model = Make("gpt2");
  const auto message = [](const absl::Status& status) { return std::string(status.message()); };
  EXPECT_EQ(message(PatchSession::Create(*model, {Tokens(2, 5, 1)}, {Tokens(2, 6, 1)}).status()),
            "clean prompts are [2, 5] and corrupted ones [2, 6], expected pairs of equal length "
            "[batch, pos]");
  const Tensor outside = Tensor::Of<int64_t>({1, 2}, {1, 31});
  EXPECT_EQ(message(PatchSession::Create(*model, {Tokens(1, 2, 1)}, {outside}).status()),
            "corrupted: token 31 at row 0, position 1 is outside the vocabulary of 31");
  auto session = *PatchSession::Create(*model, {Tokens(1, 5, 1)}, {Tokens(1, 5, 2)});
  const auto run = [&](PatchCell cell, const Metric& metric) {
    return message(session.Run({{{cell}}}, metric).status());
  };
  const Metric metric = LogitDifference({3}, {4});
  PatchCell z{"blocks.1.attn.hook_z"};
  z.pos = 5;
  EXPECT_EQ(run(z, metric), "position 5 of 'blocks.1.attn.hook_z' is outside [0, 5)");
  z.pos = 0;
  z.head = 4;
  EXPECT_EQ(run(z, metric), "head 4 of 'blocks.1.attn.hook_z' is outside [0, 4)");
  PatchCell resid{"blocks.1.hook_resid_pre"};
  resid.head = 0;
  EXPECT_EQ(run(resid, metric),
            "'blocks.1.hook_resid_pre' is [batch, pos, d_model] and has no head 0");
  EXPECT_NE(run({"blocks.1.attn.hook_zz"}, metric).find("did you mean 'blocks.1.attn.hook_z'"),
            std::string::npos);
  EXPECT_EQ(run({"blocks.1.attn.hook_z"}, LogitDifference({3}, {31})),
            "token 31 of the metric is outside the vocabulary of 31");
  EXPECT_EQ(run({"blocks.1.attn.hook_z"}, AnswerLoss({3, 4})),
            "the metric 'loss' is of 2 examples, expected one of 1, as there are prompts");
  const auto plan = [&](const char* kind, const char* by) {
    return message(PlanSweep(session, kind, by).status());
  };
  EXPECT_NE(plan("resid_prr", "pos").find("did you mean 'resid_pre'"), std::string::npos);
  EXPECT_NE(plan("scale", "pos").find("ln1.hook_scale or ln2.hook_scale"), std::string::npos);
  EXPECT_NE(plan("resid_pre", "head").find("without an axis 'head'"), std::string::npos);
  EXPECT_NE(plan("z", "haed").find("did you mean 'head'"), std::string::npos);

  for (const Parameter& p : Parameters(*model)) {
    if (p.name == "blocks.1.attn.b_V") {
      *p.value = Tensor::Full(p.shape, std::nan(""), kF64);
    }
  }
  EXPECT_EQ(message(PlanSweep(session, "v", "head").status()),
            "the clean run's 'blocks.1.attn.hook_v' holds NaN");
  auto broken = *PatchSession::Create(*model, {Tokens(1, 5, 1)}, {Tokens(1, 5, 2)});
  EXPECT_EQ(message(broken.Clean(metric).status()),
            "the logit_difference of the clean run of example 0 is NaN");
}

}  // namespace
}  // namespace residual
