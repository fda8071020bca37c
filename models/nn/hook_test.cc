#include "models/nn/hook.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/nn/nearest.h"

namespace residual {
namespace {

constexpr HookPoint kQ{"hook_q", "[batch, pos]"};
constexpr HookPoint kPattern{"hook_pattern", "[batch, query, key]"};

Tensor Value(double x) { return Tensor::Full({2}, x); }

TEST(GlobTest, MatchesStarsAndQuestionMarks) {
  EXPECT_TRUE(GlobMatches("blocks.*.attn.hook_q", "blocks.12.attn.hook_q"));
  EXPECT_TRUE(GlobMatches("*hook_resid_pre", "blocks.0.hook_resid_pre"));
  EXPECT_TRUE(GlobMatches("*", ""));
  EXPECT_TRUE(GlobMatches("a*b*c", "aXbbYc"));
  EXPECT_TRUE(GlobMatches("hook_?", "hook_q"));
  EXPECT_FALSE(GlobMatches("hook_?", "hook_"));
  EXPECT_FALSE(GlobMatches("blocks.*.attn", "blocks.0.attn.hook_q"));
  EXPECT_FALSE(GlobMatches("", "x"));
}

TEST(HooksTest, NoRulesNoWork) {
  const Scope hook(nullptr);
  const Tensor x = Value(1);
  EXPECT_EQ(hook(kQ, x).raw_data(), x.raw_data());
  EXPECT_FALSE(hook.Wants(kQ, kPattern));
  Hooks empty;
  EXPECT_FALSE(Scope(&empty).In("blocks", 3).Wants(kQ));
}

TEST(HooksTest, ReadsAndEditsInOrder) {
  Hooks hooks;
  std::vector<std::string> seen;
  std::vector<double> values;
  auto read = [&](absl::string_view name, const Tensor& x) {
    seen.push_back(std::string(name));
    values.push_back(x.ToDoubles()[0]);
  };
  hooks.Read("blocks.*.attn.hook_q", read);
  hooks.Edit("blocks.1.attn.hook_q", [](absl::string_view, const Tensor&) { return Value(9); });
  hooks.Read("*hook_q", read);
  const Scope root(&hooks);
  EXPECT_EQ(root.In("blocks", 1).In("attn")(kQ, Value(5)).ToDoubles()[0], 9);
  EXPECT_EQ(root.In("blocks", 2).In("attn")(kQ, Value(6)).ToDoubles()[0], 6);
  EXPECT_EQ(seen, (std::vector<std::string>{"blocks.1.attn.hook_q", "blocks.1.attn.hook_q",
                                            "blocks.2.attn.hook_q", "blocks.2.attn.hook_q"}));
  EXPECT_EQ(values, (std::vector<double>{5, 9, 6, 6}));
}

TEST(HooksTest, WantsAsksWithoutFiring) {
  Hooks hooks;
  hooks.Read("blocks.0.hook_pattern", [](absl::string_view, const Tensor&) {});
  const Scope root(&hooks);
  EXPECT_TRUE(root.In("blocks", 0).Wants(kQ, kPattern));
  EXPECT_FALSE(root.In("blocks", 0).Wants(kQ));
  EXPECT_FALSE(root.In("blocks", 1).Wants(kPattern));
  EXPECT_FALSE(hooks.CheckFired().ok());
  root.In("blocks", 0)(kPattern, Value(0));
  EXPECT_TRUE(hooks.CheckFired().ok());
  hooks.Reset();
  EXPECT_EQ(hooks.CheckFired().message(),
            "requested hook points did not fire in this run: 'blocks.0.hook_pattern'");
}

TEST(HooksTest, AnUnknownNameIsAnErrorThatNamesTheNearest) {
  Hooks hooks;
  hooks.Read("blocks.0.attn.hook_patern", [](absl::string_view, const Tensor&) {});
  const std::vector<DeclaredHook> declared = {{"blocks.0.attn.hook_pattern", ""},
                                              {"blocks.0.attn.hook_q", ""}};
  const absl::Status status = hooks.Validate(declared);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_NE(status.message().find("did you mean 'blocks.0.attn.hook_pattern'"),
            absl::string_view::npos)
      << status.message();
  Hooks known;
  known.Read("*", [](absl::string_view, const Tensor&) {});
  EXPECT_TRUE(known.Validate(declared).ok());
}

TEST(HooksTest, KnowsTransformerLensOtherNames) {
  EXPECT_EQ(CanonicalHookName("blocks.3.attn.q.hook_out"), "blocks.3.attn.hook_q");
  EXPECT_EQ(CanonicalHookName("blocks.*.hook_in"), "blocks.*.hook_resid_pre");
  EXPECT_EQ(CanonicalHookName("embed.hook_out"), "hook_embed");
  EXPECT_EQ(CanonicalHookName("blocks.x.hook_in"), "blocks.x.hook_in");
  EXPECT_EQ(CanonicalHookName("hook_embed"), "hook_embed");
}

TEST(HooksDeathTest, AnEditMustKeepTheShape) {
  Hooks hooks;
  hooks.Edit("hook_q", [](absl::string_view, const Tensor&) { return Tensor::Zeros({3}); });
  const Scope root(&hooks);
  EXPECT_DEATH(root(kQ, Value(1)), "the edit of hook_q made f32\\[3\\] of f32\\[2\\]");
}

TEST(NearestTest, DistancesAndRanking) {
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("same", "same"), 0);
  EXPECT_EQ(NearestNames("lerning_rate", {"seed", "learning_rate", "model"}),
            std::vector<std::string>{"learning_rate"});
  EXPECT_EQ(DidYouMean("zzzzzz", {"model"}), "");
}

}  // namespace
}  // namespace residual
