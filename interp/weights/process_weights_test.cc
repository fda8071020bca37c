#include "interp/weights/process_weights.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "ops/softmax/softmax.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

TransformerConfig Base() {
  TransformerConfig c;
  c.d_model = 12;
  c.n_ctx = 8;
  c.d_vocab = 17;
  c.blocks = {{"attn", "mlp"}, {"attn", "mlp"}};
  c.n_heads = 4;
  c.d_head = 3;
  c.d_mlp = 20;
  return c;
}

std::unique_ptr<ResidualModel> Make(const TransformerConfig& config) {
  auto model = BuildTransformer(config);
  for (const Parameter& p : Parameters(*model)) {
    InitializeParameter({p.name, p.value, p.shape, Init::Normal(0.4), p.options}, 5, kF64);
  }
  return model;
}

const Tensor& Tokens() {
  static const auto* tokens =
      new Tensor(Tensor::Of<int64_t>({2, 6}, {1, 16, 3, 3, 0, 9, 5, 5, 2, 11, 12, 13}));
  return *tokens;
}

std::map<std::string, std::vector<double>> Values(ResidualModel& model) {
  std::map<std::string, std::vector<double>> values;
  for (const Parameter& p : Parameters(model)) values[p.name] = p.value->ToDoubles();
  return values;
}

struct Variant {
  const char* name;
  TransformerConfig config;
};

std::vector<Variant> Variants() {
  std::vector<Variant> variants = {{"Gpt2", Base()}};
  TransformerConfig c = Base();
  c.tied = true;
  c.unembed_bias = false;
  c.scale_by_layer = true;
  variants.push_back({"Tied", c});
  c = Base();
  c.blocks = {{"attn"}, {"attn"}};
  variants.push_back({"AttnOnly", c});
  c = Base();
  c.positions = Positions::kRotary;
  c.rotary_dim = 2;
  c.parallel = true;
  c.n_kv_heads = 2;
  variants.push_back({"ParallelRotaryGrouped", c});
  c = Base();
  c.positions = Positions::kRotary;
  c.rotary_dim = 2;
  c.norm = NormKind::kRmsNorm;
  c.gated_mlp = true;
  c.activation = Activation::kSilu;
  c.attention_bias = c.mlp_bias = c.unembed_bias = false;
  variants.push_back({"Llama", c});
  c = Base();
  c.norm = NormKind::kNone;
  c.final_norm = false;
  variants.push_back({"NoNorm", c});
  return variants;
}

class ProcessWeightsTest : public testing::TestWithParam<Variant> {};
INSTANTIATE_TEST_SUITE_P(Variants, ProcessWeightsTest, testing::ValuesIn(Variants()),
                         [](const auto& info) { return std::string(info.param.name); });

// Every option alone and all together: the log-probabilities stay.
TEST_P(ProcessWeightsTest, TheModelPredictsTheSame) {
  const auto original = Make(GetParam().config);
  const Tensor want = LogSoftmax(original->Forward({Tokens()}));
  for (int bits = 0; bits < 16; ++bits) {
    const auto model = Make(GetParam().config);
    ProcessOptions options;
    options.fold_norms = bits & 1;
    options.center_writing_weights = bits & 2;
    options.center_unembed = bits & 4;
    options.fold_value_biases = bits & 8;
    ASSERT_TRUE(ProcessWeights(*model, options).ok());
    ExpectClose(LogSoftmax(model->Forward({Tokens()})), want, 1e4, "log-probabilities");
  }
}

// Doing it again changes nothing.
TEST_P(ProcessWeightsTest, IsDoneOnce) {
  const auto model = Make(GetParam().config);
  ASSERT_TRUE(ProcessWeights(*model).ok());
  const auto once = Values(*model);
  ASSERT_TRUE(ProcessWeights(*model).ok());
  for (const auto& [name, values] : Values(*model)) {
    for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(values[i], once.at(name)[i], 1e-12);
  }
}

TEST(ProcessedWeightsTest, LeavesWhatItPromises) {
  const auto model = Make(Base());
  ASSERT_TRUE(ProcessWeights(*model).ok());
  const auto values = Values(*model);
  for (const char* norm : {"blocks.0.ln1", "blocks.1.ln2", "ln_final"}) {
    EXPECT_EQ(values.at(std::string(norm) + ".w"), std::vector<double>(12, 1)) << norm;
    EXPECT_EQ(values.at(std::string(norm) + ".b"), std::vector<double>(12, 0)) << norm;
  }
  EXPECT_EQ(values.at("blocks.1.attn.b_V"), std::vector<double>(12, 0));
  // Means over d_model: of what writes along the rows, of what reads along the columns.
  for (const char* name : {"embed.W_E", "pos_embed.W_pos", "blocks.0.attn.W_O", "blocks.0.attn.b_O",
                           "blocks.1.mlp.W_out", "blocks.1.mlp.b_out"}) {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += values.at(name)[i];
    EXPECT_NEAR(sum, 0, 1e-12) << name;
  }
  for (const char* name :
       {"blocks.0.attn.W_Q", "blocks.0.attn.W_V", "blocks.1.mlp.W_in", "unembed.W_U"}) {
    const std::vector<double>& x = values.at(name);
    double sum = 0;
    for (size_t i = 0; i < 12; ++i) sum += x[i * x.size() / 12 + 1];
    EXPECT_NEAR(sum, 0, 1e-12) << name;
  }
  double sum = 0;
  for (int i = 0; i < 17; ++i) sum += values.at("unembed.W_U")[i];
  EXPECT_NEAR(sum, 0, 1e-12);
}

TEST(ProcessedWeightsTest, RefusesWhatCannotBeFolded) {
  const auto message = [](const TransformerConfig& config) {
    const auto model = Make(config);
    const auto before = Values(*model);
    const absl::Status status = ProcessWeights(*model);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_EQ(Values(*model), before);
    return std::string(status.message());
  };
  TransformerConfig c = Base();
  c.norm_placement = NormPlacement::kPost;
  EXPECT_EQ(message(c), "norms cannot be folded: they stand after the mixers");
  c = Base();
  c.positions = Positions::kShortformer;
  EXPECT_NE(message(c).find("after the norm"), std::string::npos);
  c = Base();
  c.attention_bias = false;
  EXPECT_EQ(message(c),
            "the norm's bias 'blocks.0.ln1.b' cannot be folded: 'blocks.0.attn.W_Q' reads it and "
            "has no bias");
}

TEST(ProcessedWeightsTest, KeepsTheDType) {
  auto model = Make(Base());
  ConvertParameters(*model, kF32);
  ASSERT_TRUE(ProcessWeights(*model).ok());
  for (const Parameter& p : Parameters(*model)) EXPECT_EQ(p.value->dtype(), kF32) << p.name;
}

}  // namespace
}  // namespace residual
