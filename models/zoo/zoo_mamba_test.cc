// Mamba and Mamba-2: what their folders may say, and by which names.

#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "models/zoo/zoo_fixture.h"

namespace residual {
namespace {

json MambaConfig() {
  return {{"model_type", "mamba"},
          {"vocab_size", 13},
          {"hidden_size", 12},
          {"state_size", 3},
          {"num_hidden_layers", 2}};
}

json Mamba2Config() {
  return {{"model_type", "mamba2"}, {"vocab_size", 13},      {"hidden_size", 12},
          {"state_size", 3},        {"num_heads", 6},        {"head_dim", 4},
          {"n_groups", 2},          {"num_hidden_layers", 2}};
}

json StateSpacesConfig() {
  return {{"d_model", 12},          {"n_layer", 2},
          {"vocab_size", 13},       {"ssm_cfg", {{"d_state", 3}}},
          {"rms_norm", true},       {"residual_in_fp32", true},
          {"fused_add_norm", true}, {"pad_vocab_size_multiple", 8}};
}

class ZooMambaTest : public ZooTest {
 protected:
  // Every tensor under a name in which `from` is `to`.
  void Rename(const std::string& from, const std::string& to) {
    std::map<std::string, Tensor> renamed;
    for (const auto& [name, tensor] : ReadTensors()) {
      renamed[absl::StrReplaceAll(name, {{from, to}})] = tensor;
    }
    WriteTensors(renamed);
  }
};

TEST_F(ZooMambaTest, FoldersAreHuggingFaces) {
  Save(MambaConfig());
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
  std::map<std::string, Tensor> tensors = ReadTensors();
  EXPECT_EQ(tensors.size(), 2u + 2 * 10);
  const std::string mixer = "backbone.layers.1.mixer.";
  EXPECT_EQ(tensors["backbone.embeddings.weight"].shape(), Shape({13, 12}));
  EXPECT_EQ(tensors[mixer + "in_proj.weight"].shape(), Shape({48, 12}));
  EXPECT_EQ(tensors[mixer + "conv1d.weight"].shape(), Shape({24, 1, 4}));
  EXPECT_EQ(tensors[mixer + "conv1d.bias"].shape(), Shape({24}));
  EXPECT_EQ(tensors[mixer + "x_proj.weight"].shape(), Shape({7, 24}));
  EXPECT_EQ(tensors[mixer + "dt_proj.weight"].shape(), Shape({24, 1}));
  EXPECT_EQ(tensors[mixer + "dt_proj.bias"].shape(), Shape({24}));
  EXPECT_EQ(tensors[mixer + "A_log"].shape(), Shape({24, 3}));
  EXPECT_EQ(tensors[mixer + "D"].shape(), Shape({24}));
  EXPECT_EQ(tensors[mixer + "out_proj.weight"].shape(), Shape({12, 24}));
  EXPECT_EQ(tensors["backbone.layers.1.norm.weight"].shape(), Shape({12}));
  EXPECT_EQ(tensors["backbone.norm_f.weight"].shape(), Shape({12}));
}

TEST_F(ZooMambaTest, OptionsAndSecondKind) {
  json options = MambaConfig();
  options.update({{"expand", 3},
                  {"intermediate_size", 36},
                  {"conv_kernel", 3},
                  {"time_step_rank", 5},
                  {"use_bias", true},
                  {"use_conv_bias", false},
                  {"hidden_act", "swish"},
                  {"tie_word_embeddings", false}});
  Save(options);
  ExpectLoadsTheSame();
  EXPECT_EQ(ReadTensors().count("backbone.layers.0.mixer.conv1d.bias"), 0u);
  EXPECT_EQ(ReadTensors().count("backbone.layers.0.mixer.out_proj.bias"), 1u);
  EXPECT_EQ(ReadTensors().count("lm_head.weight"), 1u);

  json second =
      With(Mamba2Config(), "time_step_limit", json::array({0.1, {{"__float__", "Infinity"}}}));
  Save(second);
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
  EXPECT_EQ(ReadTensors()["backbone.layers.0.mixer.in_proj.weight"].shape(), Shape({66, 12}));
  EXPECT_EQ(ReadTensors()["backbone.layers.0.mixer.conv1d.weight"].shape(), Shape({36, 1, 4}));
  EXPECT_EQ(ReadTensors()["backbone.layers.0.mixer.dt_bias"].shape(), Shape({6}));
  EXPECT_EQ(ReadTensors()["backbone.layers.0.mixer.norm.weight"].shape(), Shape({24}));
}

// Saved without the head, as the authors name the embedding, or with a tied output all the same.
TEST_F(ZooMambaTest, NamesOfAllKinds) {
  Save(MambaConfig());
  Rename("backbone.embeddings", "backbone.embedding");
  ExpectLoadsTheSame();
  Rename("backbone.", "");
  ExpectLoadsTheSame();
  Rename("embedding.", "embeddings.");
  std::map<std::string, Tensor> tensors = ReadTensors();
  tensors["lm_head.weight"] = tensors["embeddings.weight"];
  WriteTensors(tensors);
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(ZooMambaTest, TheAuthorsFolders) {
  Save(StateSpacesConfig());
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
  // Rows of the vocabulary are padded to a multiple.
  EXPECT_EQ(ReadTensors()["backbone.embedding.weight"].shape(), Shape({16, 12}));
  // The same as Hugging Face's, which says the padded size.
  json other = MambaConfig();
  other["vocab_size"] = 16;
  ASSERT_TRUE(WriteFileAtomically(JoinPath(folder_, "config.json"), other.dump()).ok());
  ExpectLoadsTheSame();

  json second = StateSpacesConfig();
  second["ssm_cfg"] = {{"layer", "Mamba2"}, {"d_state", 5}, {"headdim", 8}, {"ngroups", 3}};
  second["rms_norm"] = false;
  second["tie_embeddings"] = false;
  Save(second);
  ExpectLoadsTheSame();
  EXPECT_EQ(ReadTensors().count("backbone.layers.0.norm.bias"), 1u);
}

TEST(ZooMambaConfigTest, RefusesWhatItCannotRun) {
  const json mamba = MambaConfig(), second = Mamba2Config(), authors = StateSpacesConfig();
  EXPECT_EQ(ConfigError(With(mamba, "hidden_act", "gelu")),
            "config.json: 'hidden_act' is \"gelu\", supported is only \"silu\"");
  EXPECT_EQ(ConfigError(With(mamba, "intermediate_size", 20)),
            "config.json: 'intermediate_size' is 20, expected 24, which is 'expand' times the "
            "stream's 12");
  EXPECT_EQ(ConfigError(With(mamba, "time_step_rank", "all")),
            "config.json: 'time_step_rank' is \"all\", expected \"auto\" or an integer");
  EXPECT_EQ(ConfigError(With(mamba, "state_size", 0)),
            "config.json: 'state_size' is 0, expected an integer in [1, 4096]");
  EXPECT_EQ(ConfigError(With(mamba, "conv_kernel", int64_t{1} << 40)),
            "config.json: 'conv_kernel' is 1099511627776, expected an integer in [1, 4096]");
  EXPECT_EQ(ConfigError(With(mamba, "rms_norm", false)),
            "config.json: 'rms_norm' is false, supported is only true");
  EXPECT_EQ(ConfigError(With(second, "num_heads", 5)),
            "config.json: 'num_heads' is 5, expected a number that times 'head_dim', 4, is 24, "
            "'expand' times 'hidden_size'");
  EXPECT_EQ(ConfigError(With(second, "n_groups", 4)),
            "config.json: 'n_groups' is 4, expected a divisor of 'num_heads', 6");
  EXPECT_EQ(ConfigError(With(second, "time_step_limit", {0.5, 0.1})),
            "config.json: 'time_step_limit' is [0.5,0.1], expected two numbers [low, high], 0 <= "
            "low < high");
  EXPECT_EQ(ConfigError(With(second, "time_step_limit", {0.5, "Infinity"})),
            "config.json: 'time_step_limit' is [0.5,\"Infinity\"], expected two numbers [low, "
            "high], 0 <= low < high");
  EXPECT_EQ(ConfigError(With(authors, "ssm_cfg", {{"layer", "Mamba3"}})),
            "config.json: ssm_cfg: 'layer' is \"Mamba3\", expected one of \"Mamba1\", "
            "\"Mamba2\"; did you mean 'Mamba1', 'Mamba2'?");
  EXPECT_EQ(ConfigError(With(authors, "ssm_cfg", {{"d_stat", 3}})),
            "config.json: ssm_cfg: no field \"d_stat\" exists; did you mean 'd_state'?");
  EXPECT_EQ(ConfigError(With(authors, "attn_layer_idx", {1})),
            "config.json: 'attn_layer_idx' is [1], supported is only []");
  EXPECT_EQ(ConfigError(With(authors, "d_intermediate", 64)),
            "config.json: 'd_intermediate' is 64, supported is only 0");
}

TEST_F(ZooMambaTest, FieldsNobodyKnows) {
  Save(With(MambaConfig(), "use_bcdt_rms", true));
  ExpectLoadsTheSame();
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_TRUE(absl::StrContains(warnings_[0], "the field \"use_bcdt_rms\" is not known"))
      << warnings_[0];
}

TEST_F(ZooMambaTest, SizesThatTheFileDoesNotHave) {
  Save(MambaConfig());
  const auto error_with = [&](const json& config) {
    EXPECT_TRUE(WriteFileAtomically(JoinPath(folder_, "config.json"), config.dump()).ok());
    return LoadError();
  };
  EXPECT_TRUE(absl::StrContains(
      error_with(With(MambaConfig(), "state_size", 4)),
      "does not fit config.json: 'backbone.layers.0.mixer.x_proj.weight' is [7, 24], expected [9, "
      "24], 'backbone.layers.0.mixer.A_log' is [24, 3], expected [24, 4]"))
      << LoadError();
  // Of a size that would not fit in memory.
  EXPECT_TRUE(absl::StrContains(error_with(With(MambaConfig(), "hidden_size", 1 << 18)),
                                "expected [13, 262144]"))
      << LoadError();
}

// A NaN there would be in every state after the first token.
TEST_F(ZooMambaTest, RatesThatAreNoNumbers) {
  Save(MambaConfig());
  std::map<std::string, Tensor> tensors = ReadTensors();
  Tensor rates = tensors["backbone.layers.1.mixer.A_log"].Clone();
  rates.mutable_data<float>()[7] = std::nanf("");
  tensors["backbone.layers.1.mixer.A_log"] = rates;
  WriteTensors(tensors);
  EXPECT_TRUE(absl::StrContains(LoadError(),
                                "model.safetensors: the tensor 'backbone.layers.1.mixer.A_log' "
                                "holds nan at element 7, expected finite numbers"))
      << LoadError();
}

TEST_F(ZooMambaTest, PublishedConfigsAreTheSameModel) {
  TransformerConfig mamba;
  mamba.d_model = 12;
  mamba.n_ctx = 9;
  mamba.d_vocab = 13;
  mamba.blocks = {{"mamba"}, {"mamba"}};
  mamba.norm = NormKind::kRmsNorm;
  mamba.positions = Positions::kNone;
  mamba.unembed_bias = false;
  TransformerConfig options = mamba;
  options.tied = options.mamba_bias = true;
  options.conv_bias = options.rescale_out_proj = false;
  options.d_inner = 36;
  options.d_state = 3;
  options.d_conv = 2;
  options.dt_rank = 4;
  options.eps = 1e-3;
  TransformerConfig second = mamba;
  second.blocks = {{"mamba2"}};
  second.mamba_d_head = 6;
  second.mamba_groups = 2;
  second.dt_low = 0.01;
  TransformerConfig limited = second;
  limited.dt_high = 0.5;
  for (const auto& [type, c] : std::vector<std::pair<std::string, TransformerConfig>>{
           {"mamba", mamba}, {"mamba", options}, {"mamba2", second}, {"mamba2", limited}}) {
    const json ours = ConfigToJson(c), published = PublishedConfig(ours);
    EXPECT_EQ(published["model_type"], type);
    Save(ours);
    ASSERT_TRUE(SaveModel(*model_, published, folder_).ok());
    ExpectLoadsTheSame();
    EXPECT_TRUE(warnings_.empty());
  }
  // What it does not compute stays as it is.
  for (TransformerConfig other : {mamba, mamba, mamba}) {
    static int which = 0;
    if (which == 0) other.blocks[0] = {"mamba2"};
    if (which == 1) other.norm = NormKind::kLayerNorm;
    if (which == 2) other.d_inner = 20;
    ++which;
    EXPECT_EQ(PublishedConfig(ConfigToJson(other)), ConfigToJson(other));
  }
}

}  // namespace
}  // namespace residual
