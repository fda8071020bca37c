#include "models/generate/prompts.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "tensor/base/random.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

using Ids = std::vector<int64_t>;

std::unique_ptr<ResidualModel> Model(Positions positions, int64_t n_ctx, DType dtype = kF32) {
  TransformerConfig c;
  c.d_model = 12;
  c.n_ctx = n_ctx;
  c.d_vocab = 7;
  c.blocks = {{"attn", "mlp"}, {"attn"}};
  c.n_heads = 2;
  c.d_head = 6;
  c.d_mlp = 20;
  c.init_scale = 0.3;
  c.positions = positions;
  auto model = BuildTransformer(c);
  Initialize(*model, 5, dtype);
  return model;
}

Ids RandomIds(int64_t length, uint64_t seed) {
  const Philox random(seed, RandomStream("ids"));
  Ids ids;
  for (int64_t i = 0; i < length; ++i) ids.push_back(random.Below(i, 7));
  return ids;
}

TEST(PromptsTest, AreValidated) {
  const auto model = Model(Positions::kLearned, 4);
  const auto message = [&](const std::vector<Ids>& prompts) {
    return std::string(ValidatePrompts(*model, prompts).message());
  };
  EXPECT_EQ(message({{1, 2, 3, 4}, {0}}), "");
  EXPECT_NE(message({}), "");
  EXPECT_NE(message({{1}, {}}).find("empty"), std::string::npos) << message({{1}, {}});
  EXPECT_NE(message({{1}, {1, 7}}).find("7"), std::string::npos) << message({{1}, {1, 7}});
  EXPECT_NE(message({{1, 1, 1, 1, 1}}).find("4"), std::string::npos);
}

TEST(PromptsTest, PaddingStandsLeftBehindAMask) {
  const std::vector<Ids> prompts = {{5}, {1, 2, 3}};
  EXPECT_EQ(LeftPadding(prompts), (Ids{2, 0}));
  const ModelInput first = NextInput(prompts, {2, 0}, 0);
  EXPECT_EQ(first.tokens.ToDoubles(), (std::vector<double>{0, 0, 5, 1, 2, 3}));
  EXPECT_EQ(first.positions.ToDoubles(), (std::vector<double>{0, 0, 0, 0, 1, 2}));
  EXPECT_EQ(first.attention_mask.ToDoubles(), (std::vector<double>{0, 0, 1, 1, 1, 1}));
  const ModelInput next = NextInput({{6}, {4}}, {2, 0}, 3);
  EXPECT_EQ(next.tokens.ToDoubles(), (std::vector<double>{6, 4}));
  EXPECT_EQ(next.positions.ToDoubles(), (std::vector<double>{1, 3}));
  EXPECT_EQ(next.attention_mask.ToDoubles(), (std::vector<double>{0, 0, 1, 1, 1, 1, 1, 1}));
  const ModelInput plain = NextInput({{1, 2}, {3, 4}}, {0, 0}, 0);
  EXPECT_FALSE(plain.attention_mask.defined());
  EXPECT_FALSE(plain.positions.defined());
}

// A long prompt goes through the model in pieces; one beside it may begin in the last of them.
TEST(PromptsTest, LongOnesAreReadInPieces) {
  for (const Positions positions : {Positions::kLearned, Positions::kRotary, Positions::kAlibi}) {
    const auto model = Model(positions, 1000, kF64);
    for (const std::vector<Ids>& prompts :
         {std::vector<Ids>{RandomIds(900, 1)},
          std::vector<Ids>{RandomIds(1000, 2), RandomIds(30, 3), RandomIds(385, 4)}}) {
      const std::vector<int64_t> padding = LeftPadding(prompts);
      const ModelInput input = NextInput(prompts, padding, 0);
      const int64_t batch = input.tokens.dim(0);
      ModelInput at_once = input;
      at_once.last_logits = 1;
      const Tensor want = model->Forward(at_once).Reshaped({batch, 7});
      ModelState state = model->NewState(batch);
      ExpectClose(model->NextLogits(input, &state), want, 1e4, "logits");
      EXPECT_EQ(state.length(), input.tokens.dim(1));
      ExpectClose(model->NextLogits(input, nullptr), want, 1e4, "without a state");
    }
  }
}

}  // namespace
}  // namespace residual
