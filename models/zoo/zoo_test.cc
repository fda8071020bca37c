#include "models/zoo/zoo.h"

#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "models/zoo/zoo_fixture.h"

namespace residual {
namespace {

TEST_F(ZooTest, Gpt2FoldersAreHuggingFaces) {
  Save(Gpt2Config());
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
  const std::map<std::string, Tensor> tensors = ReadTensors();
  EXPECT_EQ(tensors.size(), 2u + 2 * 12 + 2);
  EXPECT_EQ(tensors.at("transformer.h.1.attn.c_attn.weight").shape(), Shape({12, 36}));
  EXPECT_EQ(tensors.at("transformer.h.0.mlp.c_fc.weight").shape(), Shape({12, 48}));
  EXPECT_EQ(tensors.count("lm_head.weight"), 0u);  // tied
  const auto file = SafetensorsFile::Open(JoinPath(folder_, "model.safetensors"));
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(*ReadJsonObject(JoinPath(folder_, "config.json"), 1 << 20), Gpt2Config());
}

TEST_F(ZooTest, Gpt2WithItsOptions) {
  json config = Gpt2Config();
  config.update({{"n_inner", 20},
                 {"activation_function", "relu"},
                 {"layer_norm_epsilon", 1e-3},
                 {"scale_attn_by_inverse_layer_idx", true},
                 {"scale_attn_weights", false},
                 {"reorder_and_upcast_attn", true},
                 {"tie_word_embeddings", false}});
  Save(config);
  ExpectLoadsTheSame();
  EXPECT_EQ(ReadTensors().at("lm_head.weight").shape(), Shape({13, 12}));
  EXPECT_EQ(ReadTensors().at("transformer.h.0.mlp.c_proj.weight").shape(), Shape({20, 12}));
}

TEST_F(ZooTest, Gpt2WithoutPrefixAndWithOldBuffers) {
  Save(Gpt2Config());
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, x] : ReadTensors()) tensors[name.substr(sizeof("transformer.") - 1)] = x;
  tensors["h.0.attn.bias"] = Tensor::Zeros({1, 1, 8, 8});
  tensors["h.0.attn.masked_bias"] = Tensor::Scalar(-1e4);
  tensors["lm_head.weight"] = tensors["wte.weight"];
  WriteTensors(tensors);
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
  tensors["score.weight"] = Tensor::Zeros({2, 12});
  WriteTensors(tensors);
  ExpectLoadsTheSame();
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_TRUE(absl::EndsWith(warnings_[0],
                             "model.safetensors: no parameter reads the tensors \"score.weight\""))
      << warnings_[0];
}

TEST_F(ZooTest, Gpt2InShards) {
  Save(Gpt2Config());
  std::vector<NamedTensor> shards[2];
  json map;
  int i = 0;
  for (const auto& [name, x] : ReadTensors()) {
    map[name] = absl::StrCat("model-", i % 2, ".safetensors");
    shards[i++ % 2].emplace_back(name, x.Clone());
  }
  std::remove(JoinPath(folder_, "model.safetensors").c_str());
  for (int k : {0, 1}) {
    const std::string path = JoinPath(folder_, absl::StrCat("model-", k, ".safetensors"));
    ASSERT_TRUE(WriteSafetensors(path, shards[k]).ok());
  }
  ASSERT_TRUE(WriteFileAtomically(JoinPath(folder_, "model.safetensors.index.json"),
                                  json({{"weight_map", map}}).dump())
                  .ok());
  ExpectLoadsTheSame();
}

TEST_F(ZooTest, LlamaFoldersAreHuggingFaces) {
  Save(LlamaConfig());
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
  std::map<std::string, Tensor> tensors = ReadTensors();
  EXPECT_EQ(tensors.size(), 1u + 2 * 9 + 2);
  EXPECT_EQ(tensors.at("model.layers.1.self_attn.q_proj.weight").shape(), Shape({12, 12}));
  EXPECT_EQ(tensors.at("model.layers.1.self_attn.k_proj.weight").shape(), Shape({4, 12}));
  EXPECT_EQ(tensors.at("model.layers.0.mlp.gate_proj.weight").shape(), Shape({20, 12}));
  EXPECT_EQ(tensors.at("lm_head.weight").shape(), Shape({13, 12}));
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = Tensor::Zeros({1});
  WriteTensors(tensors);
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
}

TEST_F(ZooTest, LlamaWithItsOptions) {
  json config = LlamaConfig();
  config.update({{"head_dim", 4},
                 {"num_key_value_heads", 1},
                 {"attention_bias", true},
                 {"mlp_bias", true},
                 {"tie_word_embeddings", true},
                 {"rope_theta", 500000},
                 {"rope_scaling", {{"type", "linear"}, {"factor", 2}}}});
  Save(config);
  ExpectLoadsTheSame();
  EXPECT_EQ(ReadTensors().at("model.layers.0.self_attn.o_proj.weight").shape(), Shape({12, 24}));
  EXPECT_EQ(ReadTensors().at("model.layers.0.mlp.gate_proj.bias").shape(), Shape({20}));
  EXPECT_EQ(ReadTensors().count("lm_head.weight"), 0u);
}

TEST_F(ZooTest, GptNeoxFoldersAreHuggingFaces) {
  Save(NeoxConfig());
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
  std::map<std::string, Tensor> tensors = ReadTensors();
  EXPECT_EQ(tensors.size(), 1u + 2 * 12 + 3);
  EXPECT_EQ(tensors.at("gpt_neox.layers.1.attention.query_key_value.weight").shape(),
            Shape({72, 24}));
  EXPECT_EQ(tensors.at("embed_out.weight").shape(), Shape({13, 24}));
  // A base model, saved with the buffers of old versions.
  std::map<std::string, Tensor> base;
  for (const auto& [name, x] : tensors) {
    base[std::string(absl::StripPrefix(name, "gpt_neox."))] = x;
  }
  base["layers.0.attention.masked_bias"] = Tensor::Scalar(-1e9);
  base["layers.0.attention.bias"] = Tensor::Zeros({1, 1, 8, 8});
  base["layers.0.attention.rotary_emb.inv_freq"] = Tensor::Zeros({1});
  WriteTensors(base);
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
}

// A transformer of our own that is one of these is saved as such: the same model.
TEST_F(ZooTest, PublishedConfigsAreTheSameModel) {
  TransformerConfig gpt2;
  gpt2.d_model = 24;
  gpt2.n_ctx = 9;
  gpt2.d_vocab = 13;
  gpt2.blocks = {{"attn", "mlp"}, {"attn", "mlp"}};
  gpt2.n_heads = 3;
  gpt2.d_head = 8;
  gpt2.d_mlp = 20;
  gpt2.unembed_bias = false;
  TransformerConfig gpt2_options = gpt2;
  gpt2_options.scale_by_layer = gpt2_options.tied = gpt2_options.scale_residual_init = true;
  gpt2_options.attention_scale = 1;
  gpt2_options.activation = Activation::kRelu;
  gpt2_options.eps = 1e-3;
  TransformerConfig neox = gpt2;
  neox.positions = Positions::kRotary;
  neox.rotary_dim = 2;
  neox.parallel = true;
  neox.activation = Activation::kGelu;
  TransformerConfig llama = gpt2;
  llama.positions = Positions::kRotary;
  llama.norm = NormKind::kRmsNorm;
  llama.gated_mlp = true;
  llama.activation = Activation::kSilu;
  llama.attention_bias = llama.mlp_bias = false;
  llama.n_kv_heads = 1;
  llama.d_head = 6;
  TransformerConfig llama_options = llama;
  llama_options.attention_bias = llama_options.mlp_bias = llama_options.gate_bias = true;
  llama_options.rotary_theta = 500;
  llama_options.rotary_scaling.kind = RotaryScaling::kLlama3;
  llama_options.rotary_scaling.factor = 8;
  llama_options.rotary_scaling.original_ctx = 5;

  const std::vector<std::pair<std::string, TransformerConfig>> cases = {{"gpt2", gpt2},
                                                                        {"gpt2", gpt2_options},
                                                                        {"gpt_neox", neox},
                                                                        {"llama", llama},
                                                                        {"llama", llama_options}};
  for (const auto& [type, c] : cases) {
    const json ours = ConfigToJson(c), published = PublishedConfig(ours);
    EXPECT_EQ(published["model_type"], type);
    Save(ours);
    ASSERT_TRUE(SaveModel(*model_, published, folder_).ok());
    ExpectLoadsTheSame();
    EXPECT_TRUE(warnings_.empty());
    EXPECT_EQ(PublishedConfig(published), published);
  }

  // What none of them computes stays as it is.
  TransformerConfig other = gpt2;
  other.blocks[0] = {"attn"};
  EXPECT_EQ(PublishedConfig(ConfigToJson(other)), ConfigToJson(other));
  other = gpt2;
  other.positions = Positions::kAlibi;
  EXPECT_EQ(PublishedConfig(ConfigToJson(other)), ConfigToJson(other));
  other = llama;
  other.norm_placement = NormPlacement::kPost;
  EXPECT_EQ(PublishedConfig(ConfigToJson(other)), ConfigToJson(other));
  EXPECT_EQ(PublishedConfig(json::array()), json::array());
  EXPECT_EQ(PublishedConfig({{"model_type", "residual"}}), json({{"model_type", "residual"}}));
}

TEST_F(ZooTest, TransformerLensByStateDictAndStacked) {
  Save(TransformerLensConfig());
  std::map<std::string, Tensor> tensors = ReadTensors();
  EXPECT_EQ(tensors.at("blocks.1.attn.W_Q").shape(), Shape({3, 12, 4}));
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
  tensors["blocks.0.attn.mask"] = Tensor::Zeros({8, 8}, kBool);
  tensors["blocks.0.attn.IGNORE"] = Tensor::Scalar(-1e5);
  WriteTensors(tensors);
  ExpectLoadsTheSame();
  EXPECT_TRUE(warnings_.empty());
}

// TransformerLens's default: norms folded into the weights, so no gains and biases in the file.
TEST_F(ZooTest, TransformerLensWithFoldedNorms) {
  for (const char* kind : {"LN", "RMS"}) {
    Save(With(TransformerLensConfig(), "normalization_type", kind));
    std::map<std::string, Tensor> tensors;
    for (const auto& [name, x] : ReadTensors()) {
      if (!absl::StrContains(name, "ln")) tensors[name] = x.Clone();
    }
    WriteTensors(tensors);
    EXPECT_NE(LoadError().find("missing 'blocks.0.ln1.w'"), std::string::npos) << LoadError();
    ASSERT_TRUE(
        WriteFileAtomically(
            JoinPath(folder_, "config.json"),
            With(TransformerLensConfig(), "normalization_type", absl::StrCat(kind, "Pre")).dump())
            .ok());
    for (const Parameter& p : Parameters(*model_)) {
      if (absl::StrContains(p.name, "ln")) InitializeParameter(p, 0);
    }
    logits_ = model_->Forward({tokens_});
    ExpectLoadsTheSame();
  }
}

TEST_F(ZooTest, TransformerLensFieldsNobodyKnows) {
  Save(With(TransformerLensConfig(), "positional_embeding_type", "alibi"));
  ExpectLoadsTheSame();
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_NE(warnings_[0].find("the field \"positional_embeding_type\" is not known"),
            std::string::npos)
      << warnings_[0];
}

TEST_F(ZooTest, OurOwnConfigsKeepEveryField) {
  Save(ResidualConfig());
  ExpectLoadsTheSame();
  EXPECT_EQ(ReadTensors().count("blocks.1.mlp.W_in"), 1u);

  TransformerConfig c;
  c.d_model = 12;
  c.n_ctx = 9;
  c.d_vocab = 13;
  c.blocks = {{"mlp"}, {"attn", "mlp"}, {"mamba"}, {"mamba2"}, {"s4"}};
  c.s4_init = S4Init::kLegT;
  c.s4_discretization = Discretization::kBilinear;
  c.s4_length = 10;
  c.s4_gated = c.s4_learn_state = false;
  c.s4_bidirectional = c.s4_reverse_from_next = true;
  c.s4_dropout = 0.15;
  c.d_inner = 8;
  c.d_state = 4;
  c.d_conv = 2;
  c.mamba_bias = true;
  c.conv_bias = c.rescale_out_proj = false;
  c.steps = {0.002, 0.2, 1e-3};
  c.dt_rank = 2;
  c.mamba_d_head = 4;
  c.mamba_groups = 2;
  c.dt_low = 0.01;
  c.dt_high = 5;
  c.n_heads = 4;
  c.n_kv_heads = 2;
  c.d_head = 6;
  c.attention_bias = c.mlp_bias = c.final_norm = c.unembed_bias = false;
  c.smeared_keys = true;
  c.scale_by_layer = c.gated_mlp = c.parallel = c.tied = c.rotary_interleaved = true;
  c.attention_scale = 0.3;
  c.d_mlp = 20;
  c.activation = Activation::kSilu;
  c.norm = NormKind::kRmsNorm;
  c.norm_placement = NormPlacement::kPost;
  c.eps = 1e-3;
  c.positions = Positions::kRotary;
  c.rotary_dim = 4;
  c.rotary_theta = 500;
  c.gate_bias = true;
  c.rotary_scaling.kind = RotaryScaling::kLlama3;
  c.rotary_scaling.factor = 4;
  c.rotary_scaling.low_freq_factor = 2;
  c.rotary_scaling.high_freq_factor = 5;
  c.rotary_scaling.original_ctx = 6;
  c.embed_dropout = 0.1;
  c.resid_dropout = 0.2;
  c.attn_dropout = 0.3;
  c.init_scale = 0.5;
  c.scale_residual_init = true;
  const json written = ConfigToJson(c);
  const auto read = ModelFromConfig(written, "config.json");
  ASSERT_TRUE(read.ok()) << read.status();
  auto built = BuildTransformer(c);
  Initialize(*built, 4);
  Initialize(**read, 4);
  ExpectIdentical((*read)->Forward({tokens_}), built->Forward({tokens_}), "logits");
  MixerContext training;
  training.training = true;
  ExpectIdentical((*read)->Forward({tokens_}, nullptr, nullptr, &training),
                  built->Forward({tokens_}, nullptr, nullptr, &training), "with dropout");
  // Every field of the struct is in the file: all but "model_type" differ from a default's.
  const json standard = ConfigToJson(TransformerConfig());
  EXPECT_EQ(written.size(), standard.size());
  for (const auto& [field, value] : written.items()) {
    EXPECT_TRUE(field == "model_type" || value != standard[field]) << field;
  }
}

// Sizes that would take all memory are found out before any is taken.
TEST_F(ZooTest, HostileSizesAreRefusedByTheFile) {
  Save(ResidualConfig());
  json huge = ResidualConfig();
  huge.update({{"d_model", 1 << 16},
               {"d_vocab", 1 << 20},
               {"n_ctx", 1 << 20},
               {"n_heads", 1 << 10},
               {"positions", "sinusoidal"}});
  ASSERT_TRUE(WriteFileAtomically(JoinPath(folder_, "config.json"), huge.dump()).ok());
  EXPECT_NE(LoadError().find("'embed.W_E' is [13, 12], expected [1048576, 65536]"),
            std::string::npos)
      << LoadError();
}

TEST_F(ZooTest, LoadErrorsNameTheFile) {
  folder_ = "/no/such/folder";
  EXPECT_EQ(LoadModel(folder_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(LoadError().find("/no/such/folder/config.json"), std::string::npos) << LoadError();
}

TEST_F(ZooTest, WhatIsReadMayBeWrittenWhereAskedFor) {
  Save(ResidualConfig());
  LoadOptions options;
  options.writable = true;
  const auto writable = LoadModel(folder_, options);
  ASSERT_TRUE(writable.ok());
  for (const Parameter& p : Parameters(*writable->model)) EXPECT_TRUE(p.value->unique()) << p.name;
  options.weights = false;
  const auto unread = LoadModel(folder_, options);
  ASSERT_TRUE(unread.ok());
  EXPECT_FALSE(unread->model->embed().W_E().defined());
}

TEST_F(ZooTest, SavesOnlyWhatTheConfigDescribes) {
  Save(ResidualConfig());
  const absl::Status other = SaveModel(*model_, Gpt2Config(), folder_);
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(SaveModel(*model_, ResidualConfig(), "/proc/no/such").ok());
}

}  // namespace
}  // namespace residual
