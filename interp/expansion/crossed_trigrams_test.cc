#include "interp/expansion/crossed_trigrams.h"

#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

// Tokens of the paper's example and others.
enum Token { kKeep, kIn, kMind, kAt, kBay, kOther, kElse, kVocab };

// One head, one-hot embeddings, no positions: "in" and "at" look at "keep", which raises "mind" and
// "bay". `outs`: what "keep" does to every logit.
std::unique_ptr<ResidualModel> KeepInMind() {
  TransformerConfig config;
  config.d_model = config.d_vocab = config.d_head = kVocab;
  config.n_ctx = 8;
  config.blocks = {{"attn"}};
  config.n_heads = 1;
  config.attention_bias = config.unembed_bias = false;
  config.norm = NormKind::kNone;
  config.positions = Positions::kNone;
  std::unique_ptr<ResidualModel> model = BuildTransformer(config);
  Initialize(*model, 0, kF64);
  const auto set = [&](const char* name, bool heads, std::vector<std::pair<int, double>> entries) {
    std::vector<double> values(kVocab * kVocab);
    for (const auto& [at, value] : entries) values[at] = value;
    const Shape square{kVocab, kVocab};
    SetParameter(*model, name, Tensor::Of<double>(heads ? square.Inserted(0, 1) : square, values));
  };
  std::vector<std::pair<int, double>> identity;
  for (int i = 0; i < kVocab; ++i) identity.push_back({i * kVocab + i, 1});
  set("embed.W_E", false, identity);
  set("unembed.W_U", false, identity);
  set("blocks.0.attn.W_Q", true, {{kIn * kVocab + kKeep, 9}, {kAt * kVocab + kKeep, 8}});
  set("blocks.0.attn.W_K", true, identity);
  set("blocks.0.attn.W_V", true, {{kKeep * kVocab, 1}});
  set("blocks.0.attn.W_O", true, {{kMind, 3}, {kBay, 2}});
  return model;
}

BigramTable Text(bool crossed_too) {
  std::vector<int32_t> text;
  for (int i = 0; i < 3; ++i) {
    for (int32_t token : {kKeep, kIn, kMind, kOther, kKeep, kAt, kBay, kElse}) {
      text.push_back(token);
    }
  }
  if (crossed_too) text.insert(text.end(), {kIn, kBay});
  return BigramTable(text, kVocab);
}

TEST(CrossedTrigramsTest, FindsKeepInMindAndKeepAtBay) {
  const auto model = KeepInMind();
  const HeadCircuits circuits = *ReadHeadCircuits(*model, false);
  const HeadCircuits::Head& head = circuits.heads[0][0];
  const auto found = FindCrossed(circuits, head, Text(false), 5);
  ASSERT_EQ(found.size(), 1);
  EXPECT_EQ(found[0].first.source, kKeep);
  EXPECT_EQ(found[0].first.destination, kIn);
  EXPECT_EQ(found[0].first.out, kMind);
  EXPECT_EQ(found[0].second.source, kKeep);
  EXPECT_EQ(found[0].second.destination, kAt);
  EXPECT_EQ(found[0].second.out, kBay);
  // Written once, it is no bug; nor is a pair that was seen too seldom a triple.
  EXPECT_TRUE(FindCrossed(circuits, head, Text(true), 5).empty());
  EXPECT_TRUE(FindCrossed(circuits, head, Text(false), 5, 1000, 4).empty());
  EXPECT_TRUE(FindCrossed(circuits, head, Text(false), 5, 1).empty());
}

TEST(CrossedTrigramsTest, TheCrossedPairsAreRaised) {
  const auto model = KeepInMind();
  const Tensor rows = Tensor::Of<int64_t>({2, 4}, {kOther, kElse, kOther, kOther,  //
                                                   kElse, kElse, kElse, kOther});
  const std::vector<double> in = *RaisedBySource(*model, rows, kKeep, kIn, 2);
  EXPECT_GT(in[kMind], 1);
  EXPECT_GT(in[kBay], 0.5);  // keep ... in bay
  EXPECT_LT(in[kOther], 0);
  double sum = 0;
  for (double x : in) sum += x;
  EXPECT_NEAR(sum, 0, 1e-12);
  // Another destination looks at all alike: a quarter of the attention.
  EXPECT_NEAR((*RaisedBySource(*model, rows, kKeep, kOther, 1))[kMind], 0.75 - 1.25 / kVocab,
              1e-12);
  // With the source there already, putting it there changes nothing.
  const Tensor there = Tensor::Of<int64_t>({1, 3}, {kElse, kKeep, kElse});
  EXPECT_NEAR((*RaisedBySource(*model, there, kKeep, kIn, 1))[kMind], 0, 1e-12);
  for (const int64_t distance : {0, 4}) {
    EXPECT_EQ(RaisedBySource(*model, rows, kKeep, kIn, distance).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace residual
