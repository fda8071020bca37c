#include "models/transformer/transformer.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "models/testing/model_contract.h"

namespace residual {
namespace {

TransformerConfig Base(std::vector<std::vector<std::string>> blocks) {
  TransformerConfig c;
  c.d_model = 24;
  c.n_ctx = 16;
  c.d_vocab = 31;
  c.blocks = std::move(blocks);
  c.n_heads = 4;
  c.d_head = 6;
  c.d_mlp = 40;
  c.init_scale = 0.3;  // large, so that a mistake shows
  return c;
}

std::vector<ContractCase> Variants() {
  const std::vector<std::vector<std::string>> attn_only = {{"attn"}, {"attn"}};
  const std::vector<std::vector<std::string>> gpt = {{"attn", "mlp"}, {"attn", "mlp"}};
  std::vector<ContractCase> variants;
  auto add = [&](const char* name, const TransformerConfig& config) {
    variants.push_back({name, [config] { return BuildTransformer(config); }});
  };
  add("AttnOnly", Base(attn_only));
  add("Gpt2", Base(gpt));

  TransformerConfig c = Base(attn_only);
  c.norm = NormKind::kNone;
  c.final_norm = false;
  c.positions = Positions::kShortformer;
  c.attention_bias = false;
  add("NoNormShortformer", c);

  c = Base(attn_only);
  c.positions = Positions::kSinusoidalOnQK;
  add("SinusoidalOnQK", c);

  c = Base(gpt);
  c.positions = Positions::kSinusoidal;
  c.norm_placement = NormPlacement::kPost;
  c.final_norm = false;
  c.activation = Activation::kRelu;
  add("PostNormSinusoidal", c);

  c = Base(gpt);
  c.positions = Positions::kRotary;
  c.rotary_dim = 4;
  c.parallel = true;
  c.activation = Activation::kGelu;
  add("ParallelRotary", c);

  c = Base(gpt);
  c.positions = Positions::kRotary;
  c.norm = NormKind::kRmsNorm;
  c.n_kv_heads = 2;
  c.gated_mlp = true;
  c.activation = Activation::kSilu;
  c.attention_bias = c.mlp_bias = c.unembed_bias = false;
  c.tied = true;
  add("LlamaLike", c);
  c.attention_bias = c.mlp_bias = c.gate_bias = true;
  c.rotary_scaling.kind = RotaryScaling::kLlama3;
  c.rotary_scaling.factor = 8;
  c.rotary_scaling.original_ctx = 8;
  add("LlamaLikeWithBiasesAndScaling", c);

  c = Base(gpt);
  c.positions = Positions::kAlibi;
  c.n_heads = 3;
  c.d_head = 8;
  c.scale_by_layer = true;
  add("Alibi", c);

  c = Base({{"attn"}, {"attn", "mlp"}});
  c.smeared_keys = true;
  c.n_kv_heads = 2;
  c.positions = Positions::kShortformer;
  add("SmearedKeys", c);
  c.positions = Positions::kRotary;
  c.attn_dropout = 0;
  add("SmearedKeysRotated", c);

  add("ZeroLayers", Base({}));
  return variants;
}

INSTANTIATE_TEST_SUITE_P(Transformers, ModelContractTest, testing::ValuesIn(Variants()),
                         ContractName);

TEST(TransformerConfigTest, NamesTheFieldThatIsWrong) {
  TransformerConfig c = Base({{"attn"}});
  EXPECT_TRUE(ValidateTransformerConfig(c).ok());
  c.n_heads = -1;
  EXPECT_EQ(ValidateTransformerConfig(c).message(),
            "'n_heads' is -1, expected an integer in [1, 1048576]");
  c = Base({{"attn"}});
  c.n_kv_heads = 3;
  EXPECT_EQ(ValidateTransformerConfig(c).message(),
            "'n_kv_heads' is 3, expected a divisor of n_heads, 4");
  c = Base({{"attn", "convolution"}});
  EXPECT_EQ(ValidateTransformerConfig(c).message(),
            "'blocks' names the mixer 'convolution', expected one of 'attn', 'mlp', "
            "'mamba', 'mamba2', 's4', 's4d', 'dss'");
  c = Base({{"attn", "attn"}});
  EXPECT_EQ(ValidateTransformerConfig(c).message(), "'blocks' has 'attn' twice in one block");
  c = Base({{"attn"}});
  c.positions = Positions::kRotary;
  c.rotary_scaling.kind = RotaryScaling::kLinear;
  c.rotary_scaling.factor = 0.5;
  EXPECT_EQ(ValidateTransformerConfig(c).message(),
            "'rotary_factor' is 0.5, expected a number of at least 1");
  c.rotary_scaling.kind = RotaryScaling::kLlama3;
  c.rotary_scaling.factor = 2;
  c.rotary_scaling.low_freq_factor = 4;
  EXPECT_EQ(ValidateTransformerConfig(c).message(),
            "'rotary_high_freq_factor' is 4, expected more than 'rotary_low_freq_factor', 4");
  c = Base({{"mlp"}});
  c.d_mlp = int64_t{1} << 40;
  EXPECT_FALSE(ValidateTransformerConfig(c).ok());
  c = Base({{"mlp"}});
  c.eps = 0;
  EXPECT_FALSE(ValidateTransformerConfig(c).ok());
}

}  // namespace
}  // namespace residual
