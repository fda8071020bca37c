#include "models/stream/state_file.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

// That a loaded state goes on with the same bits is among the tests of every model
// (models/testing/model_contract.h); here is what is refused.

namespace residual {
namespace {

TransformerConfig Config() {
  TransformerConfig c;
  c.d_model = 12;
  c.n_ctx = 16;
  c.d_vocab = 11;
  c.blocks = {{"attn", "mlp"}, {"attn"}};
  c.n_heads = 4;
  c.n_kv_heads = 2;
  c.d_head = 3;
  c.d_mlp = 20;
  c.init_scale = 0.3;
  return c;
}

std::unique_ptr<ResidualModel> Model(const TransformerConfig& config, uint64_t seed = 1) {
  auto model = BuildTransformer(config);
  Initialize(*model, seed);
  return model;
}

class StateFileTest : public testing::Test {
 protected:
  StateFileTest() : path_(testing::TempDir() + "/state"), model_(Model(Config())) {
    ModelState state = model_->NewState(2);
    model_->Forward({Tensor::Of<int64_t>({2, 3}, {1, 2, 3, 4, 5, 6})}, &state);
    EXPECT_TRUE(SaveState(path_, *model_, state, 2, {{"ids", {7, 8}}}).ok());
    const auto file = SafetensorsFile::Open(path_);
    metadata_ = file->metadata();
    for (const TensorInfo& info : file->tensors()) tensors_[info.name] = *file->Read(info.name);
  }

  // Loads what was saved, into another model or after a change of what is in the file.
  std::string Error(const ResidualModel& model) const {
    const auto saved = LoadState(path_, model, {"ids"});
    EXPECT_FALSE(saved.ok());
    EXPECT_EQ(saved.status().message().find(path_ + ": "), 0) << saved.status();
    return std::string(saved.status().message().substr(path_.size() + 2));
  }
  std::string ErrorWith(const TransformerConfig& config) const { return Error(*Model(config)); }
  std::string ErrorAfter(const std::function<void()>& change) {
    const auto metadata = metadata_;
    const auto tensors = tensors_;
    change();
    Write();
    const std::string error = Error(*model_);
    metadata_ = metadata;
    tensors_ = tensors;
    return error;
  }
  void Write() const {
    const std::vector<NamedTensor> list(tensors_.begin(), tensors_.end());
    ASSERT_TRUE(WriteSafetensors(path_, list, metadata_).ok());
  }

  std::string path_;
  std::unique_ptr<ResidualModel> model_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(StateFileTest, HoldsWhatItSays) {
  EXPECT_EQ(metadata_.at("format"), "residual_state");
  EXPECT_EQ(metadata_.at("length"), "3");
  std::string names;
  for (const auto& [name, tensor] : tensors_) names += name + tensor.ToString() + " ";
  EXPECT_EQ(names,
            "blocks.0.attn.keysf32[2, 3, 2, 3] blocks.0.attn.valuesf32[2, 3, 2, 3] "
            "blocks.1.attn.keysf32[2, 3, 2, 3] blocks.1.attn.valuesf32[2, 3, 2, 3] "
            "idsi64[2] probef32[11] ");
}

TEST_F(StateFileTest, RefusesAnotherModelByField) {
  TransformerConfig c = Config();
  c.d_model = 16;
  EXPECT_EQ(ErrorWith(c), "'d_model' is 12, expected 16 as the model has it");
  c = Config();
  c.d_vocab = 12;
  EXPECT_EQ(ErrorWith(c), "'d_vocab' is 11, expected 12 as the model has it");
  c = Config();
  c.n_ctx = 17;
  EXPECT_EQ(ErrorWith(c), "'n_ctx' is 16, expected 17 as the model has it");
  c = Config();
  c.blocks.push_back({"mlp"});
  EXPECT_EQ(ErrorWith(c), "'n_layers' is 2, expected 3 as the model has it");
  c = Config();
  c.n_kv_heads = 4;
  EXPECT_EQ(ErrorWith(c),
            "'blocks.0.attn.keys' is F32[2, 3, 2, 3], expected floats of the shape [2, 3, 4, 3]");
  c = Config();
  c.blocks = {{"attn", "mlp"}, {"mlp"}};
  EXPECT_TRUE(absl::StrContains(ErrorWith(c), "weights")) << ErrorWith(c);
  c.blocks = {{"mlp"}, {"mlp", "attn"}};
  EXPECT_TRUE(absl::StrContains(ErrorWith(c), "weights")) << ErrorWith(c);
}

TEST_F(StateFileTest, KnowsTheWeightsAgain) {
  for (const uint64_t seed : {2, 3}) {
    EXPECT_TRUE(absl::StartsWith(Error(*Model(Config(), seed)),
                                 "the state is of a model with other weights: element "));
  }
  EXPECT_TRUE(LoadState(path_, *Model(Config()), {"ids"}).ok());
  // One matrix of the last block, trained on a little.
  const auto tuned = Model(Config());
  for (const Parameter& p : Parameters(*tuned)) {
    if (p.name != "blocks.1.attn.W_V") continue;
    Tensor moved = p.value->Clone();
    for (int64_t i = 0; i < moved.elements(); ++i) moved.mutable_data<float>()[i] *= 1.05F;
    *p.value = moved;
  }
  EXPECT_TRUE(absl::StartsWith(Error(*tuned), "the state is of a model with other weights"));
}

TEST_F(StateFileTest, NamesWhatIsWrongInTheFile) {
  EXPECT_EQ(ErrorAfter([&] { metadata_.clear(); }),
            "not a saved state: 'format' is missing, expected residual_state");
  EXPECT_EQ(ErrorAfter([&] { metadata_["format"] = "pt"; }),
            "not a saved state: 'format' is pt, expected residual_state");
  EXPECT_EQ(ErrorAfter([&] { metadata_["version"] = "2"; }), "'version' is 2, expected 1");
  EXPECT_EQ(ErrorAfter([&] { metadata_.erase("length"); }),
            "'length' is missing, expected an integer in [1, 16]");
  for (const char* length : {"0", "17", "-1", "3x", "99999999999999999999"}) {
    EXPECT_EQ(ErrorAfter([&] { metadata_["length"] = length; }),
              absl::StrCat("'length' is ", length, ", expected an integer in [1, 16]"));
  }
  EXPECT_EQ(ErrorAfter([&] { metadata_["length"] = "4"; }),
            "'blocks.0.attn.keys' is F32[2, 3, 2, 3], expected floats of the shape [2, 4, 2, 3]");
  // A batch that would need a terabyte is refused before anything is allocated.
  EXPECT_EQ(ErrorAfter([&] { metadata_["batch"] = "1000000000"; }),
            "'blocks.0.attn.keys' is F32[2, 3, 2, 3], expected floats of the shape "
            "[1000000000, 3, 2, 3]");
  EXPECT_EQ(ErrorAfter([&] { tensors_.erase("blocks.1.attn.values"); }),
            "'blocks.1.attn.values' is missing, expected floats of the shape [2, 3, 2, 3]");
  EXPECT_EQ(ErrorAfter([&] { tensors_["blocks.2.attn.keys"] = Tensor::Zeros({2}); }),
            "'blocks.2.attn.keys' is no part of a state of this model");
  EXPECT_EQ(ErrorAfter([&] { tensors_["probe"] = Tensor::Zeros({10}); }),
            "'probe' is F32[10], expected floats of the shape [11]");
  for (const DType dtype : {kI32, kI64, kBool}) {
    EXPECT_TRUE(
        absl::StrContains(ErrorAfter([&] {
                            tensors_["blocks.0.attn.values"] = Tensor::Zeros({2, 3, 2, 3}, dtype);
                          }),
                          "'blocks.0.attn.values' is "));
  }
  EXPECT_EQ(ErrorAfter([&] { tensors_["ids"] = Tensor::Zeros({2}); }),
            "'ids' is F32[2], expected I64[any length]");
  EXPECT_EQ(ErrorAfter([&] { tensors_.erase("ids"); }),
            "'ids' is missing, expected I64[any length]");
}

// A state of a run in bf16 goes on in f32, and the other way.
TEST_F(StateFileTest, ARunOfAnotherPrecisionTakesTheStateWithIt) {
  ModelInput next{Tensor::Of<int64_t>({2, 2}, {9, 1, 2, 4})};
  for (const Precision before : {Precision::kFull, Precision::kBF16}) {
    ModelState state = model_->NewState(2);
    ModelInput first{Tensor::Of<int64_t>({2, 3}, {1, 2, 3, 4, 5, 6})};
    first.precision = before;
    model_->Forward(first, &state);
    ASSERT_TRUE(SaveState(path_, *model_, state, 2).ok());
    auto saved = LoadState(path_, *model_);
    ASSERT_TRUE(saved.ok()) << saved.status();
    EXPECT_EQ(saved->state.bytes(), state.bytes());
    next.precision = before == Precision::kFull ? Precision::kBF16 : Precision::kFull;
    const std::vector<double> got = model_->Forward(next, &saved->state).ToDoubles();
    ModelState exact = model_->NewState(2);
    first.precision = next.precision = Precision::kFull;
    model_->Forward(first, &exact);
    const std::vector<double> want = model_->Forward(next, &exact).ToDoubles();
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 0.05);
  }
}

TEST_F(StateFileTest, EveryCutAndEveryFlippedBitIsAnErrorOrAState) {
  const std::string whole = *ReadFile(path_);
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_TRUE(WriteFileAtomically(path_, whole.substr(0, size)).ok());
    ASSERT_FALSE(LoadState(path_, *model_, {"ids"}).ok()) << size;
  }
  int loaded = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string changed = whole;
    changed[at] ^= static_cast<char>(1 << at % 8);
    ASSERT_TRUE(WriteFileAtomically(path_, changed).ok());
    loaded += LoadState(path_, *model_, {"ids"}).ok();
  }
  EXPECT_GT(loaded, 0);  // keys and values are any numbers
}

}  // namespace
}  // namespace residual
