#include "models/stream/block.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// x * factor.
class Linear : public Mixer {
 public:
  explicit Linear(double factor) : factor_(factor) {}
  void Describe(Visitor& v) override {
    v.Param("w", w, {3}, Init::Zeros());
    v.Hooks({{"hook_x", "[batch, pos, d_model]"}});
  }
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override {
    return Scale(hook({"hook_x", ""}, x), factor_);
  }
  Tensor w;

 private:
  double factor_;
};

constexpr double kA = 2, kB = -0.5;

Block Make(NormPlacement placement, bool parallel, NormKind norm = NormKind::kNone,
           double dropout = 0) {
  std::vector<Branch> branches;
  branches.push_back(
      {"attn", "ln1", "hook_attn_out", std::make_unique<Linear>(kA), Norm(norm, 3, 1e-5)});
  branches.push_back(
      {"mlp", "ln2", "hook_mlp_out", std::make_unique<Linear>(kB), Norm(norm, 3, 1e-5)});
  Block block(std::move(branches), placement, parallel, dropout);
  Initialize(block, 1, kF64);
  return block;
}

std::vector<std::string> Names(const Block& block) {
  std::vector<std::string> names;
  for (const DeclaredHook& hook : HookPoints(block)) names.push_back(hook.name);
  return names;
}

const Tensor& X() {
  static const auto* x = new Tensor(RandomNormal({2, 2, 3}, 4));
  return *x;
}

Tensor Times(double factor) { return Scale(X(), factor); }

TEST(BlockTest, BranchesAddUpOneAfterTheOther) {
  const Block block = Make(NormPlacement::kPre, false);
  ExpectClose(block.Forward(X(), MixerContext(), nullptr, Scope()), Times((1 + kA) * (1 + kB)), 10,
              "x");
  EXPECT_EQ(Names(block), (std::vector<std::string>{"hook_resid_pre", "attn.hook_x",
                                                    "hook_attn_out", "hook_resid_mid", "mlp.hook_x",
                                                    "hook_mlp_out", "hook_resid_post"}));
}

// A running sum over positions: a mixer with a state, which this test never asks for.
class RunningSum : public Linear {
 public:
  RunningSum() : Linear(1) {}
  struct State : MixerState {
    std::unique_ptr<MixerState> Fork() const override { return std::make_unique<State>(); }
    absl::Status RollBack(int64_t) override { return absl::OkStatus(); }
    std::unique_ptr<MixerState> Select(absl::Span<const int64_t>) const override { return Fork(); }
    size_t bytes() const override { return 0; }
    void Save(StateWriter&) const override {}
    absl::Status Load(int64_t, int64_t, StateReader&) override { return absl::OkStatus(); }
  };
  std::unique_ptr<MixerState> NewState(int64_t) const override { return std::make_unique<State>(); }
  Tensor Forward(const Tensor& x, const MixerContext&, MixerState*, const Scope&) const override {
    Tensor sum = Slice(x, 1, 0, 1);
    std::vector<Tensor> sums = {sum};
    for (int64_t i = 1; i < x.dim(1); ++i) {
      sums.push_back(sum = Add(sum, Slice(x, 1, i, i + 1)));
    }
    return Concat(sums, 1);
  }
};

TEST(BlockTest, TheLastPositionsAlone) {
  const Tensor x = RandomNormal({2, 5, 3}, 4);
  for (const bool parallel : {false, true}) {
    for (const int order : {0, 1, 2, 3}) {  // sum and linear, linear and sum, two of each
      std::vector<Branch> branches;
      for (const bool second : {false, true}) {
        std::unique_ptr<Mixer> mixer;
        if (order == 2 || (order != 3 && second == (order == 1))) {
          mixer = std::make_unique<RunningSum>();
        } else {
          mixer = std::make_unique<Linear>(kB);
        }
        branches.push_back({second ? "mlp" : "attn", second ? "ln2" : "ln1",
                            second ? "hook_mlp_out" : "hook_attn_out", std::move(mixer),
                            Norm(NormKind::kLayerNorm, 3, 1e-5)});
      }
      Block block(std::move(branches), NormPlacement::kPre, parallel, 0);
      Initialize(block, 1, kF64);
      EXPECT_EQ(block.PositionWiseFrom(0), order == 3);
      EXPECT_EQ(block.PositionWiseFrom(1), order == 0 || order == 3);
      EXPECT_TRUE(block.PositionWiseFrom(2));
      const Tensor all = block.Forward(x, MixerContext(), nullptr, Scope());
      for (const int64_t last : {1, 2, 5}) {
        ExpectClose(block.Forward(x, MixerContext(), nullptr, Scope(), last),
                    Slice(all, 1, 5 - last, 5), 10, "last");
      }
    }
  }
}

TEST(BlockTest, ParallelBranchesReadTheSameStream) {
  const Block block = Make(NormPlacement::kPre, true);
  ExpectClose(block.Forward(X(), MixerContext(), nullptr, Scope()), Times(1 + kA + kB), 10, "x");
  for (const std::string& name : Names(block)) EXPECT_NE(name, "hook_resid_mid");
}

// x + f(norm(x)) against norm(x + f(x)), twice each.
TEST(BlockTest, NormsStandBeforeOrAfter) {
  const Norm norm = [] {
    Norm made(NormKind::kLayerNorm, 3, 1e-5);
    Initialize(made, 1, kF64);
    return made;
  }();
  const auto ln = [&](const Tensor& x) { return norm.Forward(x, Scope()); };
  const Block pre = Make(NormPlacement::kPre, false, NormKind::kLayerNorm);
  const Tensor mid = Add(X(), Scale(ln(X()), kA));
  ExpectClose(pre.Forward(X(), MixerContext(), nullptr, Scope()), Add(mid, Scale(ln(mid), kB)), 10,
              "pre");
  const Block post = Make(NormPlacement::kPost, false, NormKind::kLayerNorm);
  const Tensor after = ln(Times(1 + kA));
  ExpectClose(post.Forward(X(), MixerContext(), nullptr, Scope()), ln(Scale(after, 1 + kB)), 10,
              "post");
}

// Every declared point fires once, in any arrangement, with what stands there.
TEST(BlockTest, PointsFireWithWhatStandsThere) {
  for (const NormPlacement placement : {NormPlacement::kPre, NormPlacement::kPost}) {
    for (const bool parallel : {false, true}) {
      const Block block = Make(placement, parallel, NormKind::kRmsNorm);
      std::vector<std::string> fired;
      Hooks hooks;
      hooks.Read("*", [&](absl::string_view name, const Tensor& x) {
        fired.push_back(std::string(name));
        if (name == "hook_resid_pre") ExpectIdentical(x, X(), "hook_resid_pre");
      });
      const Tensor out = block.Forward(X(), MixerContext(), nullptr, Scope(&hooks));
      std::vector<std::string> declared = Names(block);
      std::sort(fired.begin(), fired.end());
      std::sort(declared.begin(), declared.end());
      EXPECT_EQ(fired, declared);
      Hooks edit;
      edit.Edit("hook_resid_post", [](absl::string_view, const Tensor&) { return Times(7); });
      ExpectIdentical(block.Forward(X(), MixerContext(), nullptr, Scope(&edit)), Times(7), "post");
    }
  }
}

// What a branch adds, edited to nothing, leaves the rest of the block.
TEST(BlockTest, ABranchCanBeKnockedOut) {
  const Block block = Make(NormPlacement::kPre, false);
  Hooks hooks;
  hooks.Edit("hook_attn_out", [](absl::string_view, const Tensor& x) { return Scale(x, 0); });
  ExpectClose(block.Forward(X(), MixerContext(), nullptr, Scope(&hooks)), Times(1 + kB), 10, "x");
}

TEST(BlockTest, DropsOnlyWhileTraining) {
  const Block block = Make(NormPlacement::kPre, false, NormKind::kNone, 0.5);
  const Tensor whole = block.Forward(X(), MixerContext(), nullptr, Scope());
  ExpectClose(whole, Times((1 + kA) * (1 + kB)), 10, "x");
  MixerContext training;
  training.training = true;
  training.seed = 3;
  const Tensor dropped = block.Forward(X(), training, nullptr, Scope());
  EXPECT_NE(dropped.ToDoubles(), whole.ToDoubles());
  ExpectIdentical(block.Forward(X(), training, nullptr, Scope()), dropped, "same seed and step");
  training.step = 1;
  EXPECT_NE(block.Forward(X(), training, nullptr, Scope()).ToDoubles(), dropped.ToDoubles());
}

}  // namespace
}  // namespace residual
