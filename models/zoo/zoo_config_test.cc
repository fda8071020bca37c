// What configs may say, without files.

#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/zoo/zoo_fixture.h"

namespace residual {
namespace {

TEST(ZooConfigTest, Gpt2SpellingsAndDefaults) {
  const json spelled = {
      {"model_type", "gpt2"},     {"vocab_size", 13},           {"n_ctx", 8},
      {"hidden_size", 12},        {"num_hidden_layers", 2},     {"n_inner", nullptr},
      {"num_attention_heads", 3}, {"summary_type", "cls_index"}};
  const auto a = ModelFromConfig(spelled, "a"), b = ModelFromConfig(Gpt2Config(), "b");
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_EQ(CountParameters(**a), CountParameters(**b));
  EXPECT_EQ((*a)->n_ctx(), 8);
  // n_ctx counts only where it stands alone.
  EXPECT_EQ((*ModelFromConfig(With(Gpt2Config(), "n_ctx", 5), "c"))->n_ctx(), 8);
}

TEST(ZooConfigTest, Gpt2RefusesWhatItCannotRun) {
  const json config = Gpt2Config();
  for (const char* field : {"vocab_size", "n_positions", "n_embd", "n_layer", "n_head"}) {
    json without = config;
    without.erase(field);
    EXPECT_TRUE(absl::StartsWith(ConfigError(without), absl::StrCat("config.json: '", field, "'")))
        << ConfigError(without);
    for (const json& wrong : {json(0), json(-1), json(int64_t{1} << 40), json(2.5), json("2")}) {
      EXPECT_TRUE(absl::StartsWith(ConfigError(With(config, field, wrong)),
                                   absl::StrCat("config.json: '", field, "' is ", wrong.dump(),
                                                ", expected an integer in [1, ")))
          << ConfigError(With(config, field, wrong));
    }
  }
  EXPECT_EQ(ConfigError(With(config, "n_head", 5)),
            "config.json: 'n_head' is 5, expected a divisor of 'n_embd', 12");
  EXPECT_EQ(ConfigError(With(config, "add_cross_attention", true)),
            "config.json: 'add_cross_attention' is true, supported is only false");
  EXPECT_EQ(ConfigError(With(config, "layer_norm_epsilon", "1e-5")),
            "config.json: 'layer_norm_epsilon' is \"1e-5\", expected a number in [0.0, 1.0]");
  EXPECT_TRUE(
      absl::StartsWith(ConfigError(With(config, "activation_function", "swoosh")),
                       "config.json: 'activation_function' is \"swoosh\", expected one of"));
  json large = With(With(config, "n_embd", 3 << 18), "n_layer", 4096);
  EXPECT_NE(ConfigError(large).find("parameters, expected at most 2^40"), std::string::npos)
      << ConfigError(large);
}

TEST(ZooConfigTest, ModelTypes) {
  EXPECT_EQ(
      ConfigError({{"model_type", "gpt3"}}),
      "config.json: 'model_type' is \"gpt3\", expected one of \"gpt2\", \"gpt_neox\", \"llama\", "
      "\"mamba\", \"mamba2\", \"residual\", \"state_spaces\", \"transformer_lens\"; did you mean "
      "'gpt2'?");
  EXPECT_TRUE(absl::StartsWith(ConfigError(json::object()),
                               "config.json: 'model_type' is missing, expected one of \"gpt2\""));
  EXPECT_EQ(ConfigError({{"model_type", 7}}), "config.json: 'model_type' is 7, expected a text");
  EXPECT_EQ(ConfigError(json::array()), "config.json: holds [], expected a JSON object");
}

TEST(ZooConfigTest, RotaryPositionsInEverySpelling) {
  // What changes the function is refused by name.
  EXPECT_EQ(ConfigError(With(LlamaConfig(), "rope_scaling", {{"type", "yarn"}, {"factor", 2}})),
            "config.json: rope_scaling: 'rope_type' is \"yarn\", supported are only \"default\", "
            "\"linear\" and \"llama3\"");
  EXPECT_EQ(ConfigError(With(LlamaConfig(), "rope_parameters", {{"rope_type", "longrope"}})),
            "config.json: rope_parameters: 'rope_type' is \"longrope\", supported are only "
            "\"default\", \"linear\" and \"llama3\"");
  EXPECT_EQ(ConfigError(With(LlamaConfig(), "rope_scaling", {{"type", "linear"}})),
            "config.json: rope_scaling: 'factor' is null, expected a number in [1, 1e+06]");
  EXPECT_EQ(ConfigError(With(LlamaConfig(), "rope_scaling", 3)),
            "config.json: 'rope_scaling' is 3, expected an object");
  EXPECT_EQ(ConfigError(With(LlamaConfig(), "sliding_window", 4)).substr(0, 30),
            "config.json: 'sliding_window' ");
  EXPECT_EQ(
      ConfigError(With(LlamaConfig(), "num_key_value_heads", 4)),
      "config.json: 'num_key_value_heads' is 4, expected a divisor of 'num_attention_heads', 6");
  EXPECT_EQ(
      ConfigError(With(LlamaConfig(), "num_attention_heads", 5)),
      "config.json: 'num_attention_heads' is 5, expected a divisor of 'hidden_size', 12, or a "
      "'head_dim'");
  EXPECT_EQ(ConfigError(With(NeoxConfig(), "hidden_act", "mish")).substr(0, 26),
            "config.json: 'hidden_act' ");
  for (const json& config :
       {With(LlamaConfig(), "rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}),
        With(LlamaConfig(), "rope_scaling", nullptr), With(NeoxConfig(), "rotary_emb_base", 10000),
        With(NeoxConfig(), "rope_parameters", {{"partial_rotary_factor", 0.5}})}) {
    EXPECT_EQ(ConfigError(config), "") << config;
  }
}

TEST(ZooConfigTest, TransformerLensOptions) {
  const json config = TransformerLensConfig();
  const auto points = [](const json& c) {
    const auto model = ModelFromConfig(c, "config.json");
    EXPECT_TRUE(model.ok()) << model.status();
    std::set<std::string> names;
    for (const DeclaredHook& hook : HookPoints(**model)) names.insert(hook.name);
    return names;
  };
  EXPECT_EQ(points(config).count("blocks.0.mlp.hook_pre"), 0u);
  json gpt = With(With(config, "attn_only", false), "act_fn", "gelu_new");
  EXPECT_EQ(points(gpt).count("blocks.0.mlp.hook_pre"), 1u);
  EXPECT_EQ(points(gpt).count("blocks.0.hook_resid_mid"), 1u);
  EXPECT_EQ(points(With(gpt, "parallel_attn_mlp", true)).count("blocks.0.hook_resid_mid"), 0u);
  EXPECT_EQ(points(With(gpt, "normalization_type", nullptr)).count("blocks.0.ln1.hook_scale"), 0u);
  const json rotary = With(With(gpt, "positional_embedding_type", "rotary"), "rotary_dim", 4);
  EXPECT_EQ(points(rotary).count("blocks.0.attn.hook_rot_q"), 1u);

  EXPECT_EQ(ConfigError(With(config, "attention_dir", "bidirectional")),
            "config.json: 'attention_dir' is \"bidirectional\", supported is only \"causal\"");
  EXPECT_EQ(ConfigError(With(config, "attn_scores_soft_cap", 50.0)),
            "config.json: 'attn_scores_soft_cap' is 50.0, supported is only -1.0");
  EXPECT_EQ(ConfigError(With(config, "d_vocab_out", 5)),
            "config.json: 'd_vocab_out' is 5, supported is only 13");
  EXPECT_NE(ConfigError(With(config, "attn_only", false)).find("'act_fn' is missing"),
            std::string::npos);
  EXPECT_NE(ConfigError(With(config, "normalization_type", "GN")).find("\"LNPre\""),
            std::string::npos);
}

TEST(ZooConfigTest, OurOwnConfigsRefuseWhatTheyDoNotKnow) {
  const json config = ResidualConfig();
  EXPECT_EQ(ConfigError(With(config, "n_haeds", 4)),
            "config.json: no field \"n_haeds\" exists; did you mean 'n_heads'?");
  EXPECT_EQ(ConfigError(With(config, "n_heads", 5)),
            "config.json: 'n_heads' is 5, expected a divisor of 'd_model', 12, or a 'd_head'");
  EXPECT_EQ(
      ConfigError(With(config, "blocks", json::array({json::array({"attn", "convolution"})}))),
      "config.json: 'blocks' names the mixer 'convolution', expected one of 'attn', 'mlp', "
      "'mamba', 'mamba2', 's4', 's4d', 'dss'");
  EXPECT_EQ(ConfigError(With(config, "blocks", {"attn"})),
            "config.json: 'blocks' is [\"attn\"], expected a list of blocks, each a list of "
            "mixers: [[\"attn\", \"mlp\"], ...]");
  EXPECT_EQ(ConfigError(With(config, "norm", "batch_norm")).substr(0, 44),
            "config.json: 'norm' is \"batch_norm\", expecte");
  json missing = config;
  missing.erase("blocks");
  EXPECT_EQ(ConfigError(missing),
            "config.json: 'blocks' is null, expected a list of blocks, each a list of mixers: "
            "[[\"attn\", \"mlp\"], ...]");
}

}  // namespace
}  // namespace residual
