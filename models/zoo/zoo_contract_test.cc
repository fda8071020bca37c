// The contract of models/testing over every architecture of the zoo, from its config.

#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "models/testing/model_contract.h"
#include "models/zoo/architectures.h"
#include "models/zoo/zoo.h"

namespace residual {
namespace {

using nlohmann::json;

struct Example {
  const char* name;
  const char* model_type;
  json config;
};

// At least one for each architecture.
std::vector<Example> Examples() {
  const json gpt2 = {{"model_type", "gpt2"}, {"vocab_size", 19}, {"n_positions", 16},
                     {"n_embd", 12},         {"n_layer", 2},     {"n_head", 3}};
  json gpt2_options = gpt2;
  gpt2_options.update({{"n_inner", 20},
                       {"activation_function", "silu"},
                       {"scale_attn_by_inverse_layer_idx", true},
                       {"tie_word_embeddings", false}});
  const json llama = {{"model_type", "llama"},         {"vocab_size", 19},
                      {"max_position_embeddings", 16}, {"hidden_size", 12},
                      {"intermediate_size", 20},       {"num_hidden_layers", 2},
                      {"num_attention_heads", 6},      {"num_key_value_heads", 2}};
  json llama_options = llama;
  llama_options.update({{"head_dim", 6},
                        {"num_key_value_heads", 1},
                        {"attention_bias", true},
                        {"mlp_bias", true},
                        {"tie_word_embeddings", true},
                        {"rope_parameters",
                         {{"rope_type", "llama3"},
                          {"rope_theta", 500000},
                          {"factor", 8},
                          {"low_freq_factor", 1},
                          {"high_freq_factor", 4},
                          {"original_max_position_embeddings", 8}}}});
  const json neox = {{"model_type", "gpt_neox"},      {"vocab_size", 19},
                     {"max_position_embeddings", 16}, {"hidden_size", 24},
                     {"intermediate_size", 20},       {"num_hidden_layers", 2},
                     {"num_attention_heads", 3}};
  json neox_in_turn = neox;
  neox_in_turn.update({{"use_parallel_residual", false}, {"rotary_pct", 0.5}});
  const json lens = {{"d_model", 12},
                     {"n_layers", 2},
                     {"n_heads", 3},
                     {"d_head", 4},
                     {"n_ctx", 16},
                     {"d_vocab", 19},
                     {"attn_only", true},
                     {"normalization_type", "LN"},
                     {"positional_embedding_type", "shortformer"}};
  json lens_rotary = lens;
  lens_rotary.update({{"attn_only", false},
                      {"act_fn", "gelu"},
                      {"gated_mlp", true},
                      {"normalization_type", "RMS"},
                      {"positional_embedding_type", "rotary"},
                      {"rotary_dim", 2},
                      {"parallel_attn_mlp", true}});
  const json ours = {{"model_type", "residual"},
                     {"d_model", 12},
                     {"n_ctx", 16},
                     {"d_vocab", 19},
                     {"n_heads", 3},
                     {"positions", "sinusoidal_qk"},
                     {"blocks", json::array({{"attn"}, {"mlp"}, {"attn", "mlp"}})}};
  const json mamba = {{"model_type", "mamba"},
                      {"vocab_size", 19},
                      {"hidden_size", 12},
                      {"state_size", 4},
                      {"num_hidden_layers", 2}};
  json mamba_options = mamba;
  mamba_options.update({{"expand", 3},
                        {"conv_kernel", 3},
                        {"time_step_rank", 5},
                        {"use_bias", true},
                        {"use_conv_bias", false},
                        {"tie_word_embeddings", false}});
  const json mamba2 = {{"model_type", "mamba2"}, {"vocab_size", 19},      {"hidden_size", 12},
                       {"state_size", 4},        {"num_heads", 6},        {"head_dim", 4},
                       {"n_groups", 2},          {"num_hidden_layers", 2}};
  json mamba2_options = mamba2;
  mamba2_options.update({{"use_bias", true},
                         {"use_conv_bias", false},
                         {"n_groups", 1},
                         {"time_step_limit", {0.05, 1.5}}});
  const json state_spaces = {
      {"d_model", 12},
      {"n_layer", 2},
      {"vocab_size", 13},
      {"rms_norm", false},
      {"ssm_cfg", {{"layer", "Mamba2"}, {"d_state", 5}, {"headdim", 8}, {"conv_bias", false}}}};
  const json mixed = {{"model_type", "residual"},
                      {"d_model", 12},
                      {"n_ctx", 16},
                      {"d_vocab", 19},
                      {"n_heads", 3},
                      {"d_state", 3},
                      {"positions", "none"},
                      {"blocks", json::array({{"mamba"}, {"attn", "mlp"}, {"mlp", "mamba"}})}};
  const json s4 = {{"model_type", "residual"},
                   {"d_model", 10},
                   {"n_ctx", 24},
                   {"d_vocab", 19},
                   {"d_state", 6},
                   {"dt_min", 0.05},
                   {"dt_max", 0.5},
                   {"positions", "none"},
                   {"blocks", json::array({{"s4"}, {"s4"}})}};
  json s4_options = s4;
  s4_options.update({{"s4_init", "legt"}, {"s4_gated", false}, {"norm_placement", "post"}});
  json s4d = s4;
  s4d.update({{"blocks", json::array({{"s4d"}, {"s4d", "mlp"}})}, {"s4_init", "lin"}});
  json dss = s4;
  dss["blocks"] = json::array({{"dss"}, {"s4d"}});
  dss["s4_discretization"] = "bilinear";
  return {{"S4", "residual", s4},
          {"S4Options", "residual", s4_options},
          {"S4D", "residual", s4d},
          {"DssAndBilinear", "residual", dss},
          {"Gpt2", "gpt2", gpt2},
          {"Gpt2Options", "gpt2", gpt2_options},
          {"GptNeox", "gpt_neox", neox},
          {"GptNeoxInTurn", "gpt_neox", neox_in_turn},
          {"Llama", "llama", llama},
          {"LlamaOptions", "llama", llama_options},
          {"Mamba", "mamba", mamba},
          {"MambaOptions", "mamba", mamba_options},
          {"Mamba2", "mamba2", mamba2},
          {"Mamba2Options", "mamba2", mamba2_options},
          {"Mixed", "residual", mixed},
          {"StateSpaces", kStateSpaces, state_spaces},
          {"TransformerLens", kTransformerLens, lens},
          {"TransformerLensRotary", kTransformerLens, lens_rotary},
          {"Residual", "residual", ours}};
}

std::vector<ContractCase> Cases() {
  std::vector<ContractCase> cases;
  for (const Example& example : Examples()) {
    cases.push_back({example.name, [config = example.config] {
                       auto model = ModelFromConfig(config, "config.json");
                       RESIDUAL_CHECK(model.ok()) << model.status().message();
                       return *std::move(model);
                     }});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Zoo, ModelContractTest, testing::ValuesIn(Cases()), ContractName);

TEST(ZooTest, EveryArchitectureIsHeldToTheContract) {
  std::set<std::string> held, all;
  for (const Example& example : Examples()) held.insert(example.model_type);
  for (const Architecture& architecture : Architectures()) all.insert(architecture.model_type);
  EXPECT_EQ(held, all);
}

}  // namespace
}  // namespace residual
