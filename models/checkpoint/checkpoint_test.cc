#include "models/checkpoint/checkpoint.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/transformer/transformer.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// A small model, and its parameters in a folder under their own names.
class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeFolders(folder_).ok());
    config_.d_model = 8;
    config_.n_ctx = 6;
    config_.d_vocab = 11;
    config_.blocks = {{"attn"}, {"attn"}};
    config_.n_heads = 2;
    config_.d_head = 4;
    model_ = BuildTransformer(config_);
    Initialize(*model_, 1);
    tensors_ = *TensorsToWrite(*model_, NameMap());
  }
  void Write() {
    ASSERT_TRUE(WriteSafetensors(JoinPath(folder_, "model.safetensors"), tensors_).ok());
  }
  Tensor& Find(const std::string& name) {
    for (NamedTensor& tensor : tensors_) {
      if (tensor.first == name) return tensor.second;
    }
    ADD_FAILURE() << name;
    return tensors_[0].second;
  }
  void Remove(const std::string& name) {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i].first == name) tensors_.erase(tensors_.begin() + i);
    }
  }
  absl::StatusOr<LoadPlan> Plan(const std::vector<NameMap>& maps = {NameMap()}) {
    Write();
    loaded_ = BuildTransformer(config_);
    source_ = *TensorSource::Open(folder_, read_);
    return PlanLoad(*loaded_, maps, *source_, "config.json");
  }
  std::string PlanError() {
    const std::string message(Plan().status().message());
    const std::string file = JoinPath(folder_, "model.safetensors");
    EXPECT_EQ(message.substr(0, file.size()), file);
    return message.size() > file.size() ? message.substr(file.size()) : message;
  }
  void ExpectSameAsModel(double tolerance = 0) {
    const std::vector<Parameter> got = Parameters(*loaded_), want = Parameters(*model_);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].value->dtype(), kF32);
      const std::vector<double> g = got[i].value->ToDoubles(), w = want[i].value->ToDoubles();
      ASSERT_EQ(got[i].value->shape(), want[i].shape) << got[i].name;
      for (size_t j = 0; j < g.size(); ++j) ASSERT_NEAR(g[j], w[j], tolerance) << got[i].name;
    }
  }

  std::string folder_;
  TransformerConfig config_;
  std::unique_ptr<ResidualModel> model_, loaded_;
  std::vector<NamedTensor> tensors_;
  absl::optional<TensorSource> source_;
  ReadOptions read_;
};

TEST_F(CheckpointTest, ReadsMappedOrNot) {
  for (const bool mmap : {true, false}) {
    for (const bool writable : {false, true}) {
      read_.mmap = mmap;
      const auto plan = Plan();
      ASSERT_TRUE(plan.ok()) << plan.status();
      EXPECT_TRUE(plan->unexpected.empty());
      ParameterFormat format;
      format.writable = writable;
      ASSERT_TRUE(ReadParameters(*loaded_, *plan, *source_, format).ok());
      ExpectSameAsModel();
      // The embedding lies in the file as in memory; a query matrix has its heads first there.
      EXPECT_EQ(loaded_->embed().W_E().unique(), writable || !mmap);
      if (writable) {
        for (const Parameter& p : Parameters(*loaded_)) EXPECT_TRUE(p.value->unique()) << p.name;
      }
    }
  }
}

TEST_F(CheckpointTest, ConvertsOtherFloats) {
  for (const DType dtype : {kF16, kBF16, kF64}) {
    tensors_ = *TensorsToWrite(*model_, NameMap());
    for (NamedTensor& tensor : tensors_) tensor.second = ConvertTo(tensor.second, dtype);
    const auto plan = Plan();
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->sources[0].dtype, dtype == kF16 ? "F16" : dtype == kBF16 ? "BF16" : "F64");
    ASSERT_TRUE(ReadParameters(*loaded_, *plan, *source_).ok());
    ExpectSameAsModel(dtype == kF64 ? 0 : dtype == kF16 ? 1e-3 : 4e-3);
  }
}

// A stored weight is the file's own bytes where it lies there as it is multiplied, of its dtype; or
// of the dtype asked for. Gains and biases are f32.
TEST_F(CheckpointTest, KeepsWeightsAsTheyAreStored) {
  for (NamedTensor& tensor : tensors_) tensor.second = ConvertTo(tensor.second, kBF16);
  const auto plan = Plan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  ParameterFormat format;
  format.stored = true;
  for (const absl::optional<DType>& dtype :
       {absl::optional<DType>(), absl::optional<DType>(kF32), absl::optional<DType>(kF16)}) {
    if (dtype.has_value()) format.dtype = *dtype;
    ASSERT_TRUE(ReadParameters(*loaded_, *plan, *source_, format).ok());
    int weights = 0;
    for (const Parameter& p : Parameters(*loaded_)) {
      if (p.weight == nullptr) {
        EXPECT_EQ(p.value->dtype(), kF32) << p.name;
        continue;
      }
      ++weights;
      ASSERT_TRUE(p.weight->stored()) << p.name;
      EXPECT_EQ(p.weight->matrix().values.dtype(), dtype.value_or(kBF16)) << p.name;
      EXPECT_EQ(p.weight->Dense().shape(), p.shape) << p.name;
      Tensor want;
      for (const Parameter& q : Parameters(*model_)) {
        if (q.name == p.name) want = ConvertTo(ConvertTo(*q.value, kBF16), kF32);
      }
      ExpectIdentical(p.weight->Dense(), want, p.name);
    }
    EXPECT_EQ(weights, 3 + 2 * 4);
    const bool mapped = !dtype.has_value();
    EXPECT_EQ(Parameters(*loaded_)[0].weight->matrix().values.unique(), !mapped);
  }
}

TEST_F(CheckpointTest, NamesWhatIsMissingAndMisshapen) {
  Remove("blocks.1.attn.W_Q");
  EXPECT_EQ(PlanError(), " does not fit config.json: missing 'blocks.1.attn.W_Q'");
  Find("ln_final.w") = Tensor::Zeros({9});
  Find("blocks.0.attn.b_V") = ConvertTo(Find("blocks.0.attn.b_V"), kI32);
  EXPECT_EQ(PlanError(),
            " does not fit config.json: missing 'blocks.1.attn.W_Q'; 'ln_final.w' is [9], "
            "expected [8]; 'blocks.0.attn.b_V' is I32, expected floats (F32, F16, BF16 or F64)");
  for (const char* name :
       {"attn.W_K", "attn.W_V", "attn.W_O", "attn.b_Q", "attn.b_K", "attn.b_O"}) {
    Remove(absl::StrCat("blocks.1.", name));
  }
  const std::string many = PlanError();
  EXPECT_NE(many.find("'blocks.1.attn.b_Q' and 2 more; "), std::string::npos) << many;
}

TEST_F(CheckpointTest, ListsWhatNobodyReads) {
  tensors_.emplace_back("foo.bar", Tensor::Zeros({1}));
  tensors_.emplace_back("blocks.0.attn.mask", Tensor::Zeros({1}));
  EXPECT_EQ(Plan()->unexpected, (std::vector<std::string>{"blocks.0.attn.mask", "foo.bar"}));
  NameMap map;
  map.ignorable = [](absl::string_view tensor) { return tensor == "blocks.0.attn.mask"; };
  EXPECT_EQ(Plan({map})->unexpected, std::vector<std::string>{"foo.bar"});
}

// The embedding under another name: the map that finds most parameters is taken.
TEST_F(CheckpointTest, TakesTheNamingThatFits) {
  static constexpr NameRule kRules[] = {
      {"embed.W_E", "W_E"},   {"pos_embed.W_pos", "W_pos"}, {"unembed.W_U", "W_U"},
      {"unembed.b_U", "b_U"}, {"ln_final.w", "ln_final.w"}, {"ln_final.b", "ln_final.b"},
  };
  config_.blocks.clear();
  model_ = BuildTransformer(config_);
  Initialize(*model_, 2);
  NameMap other;
  other.rules = kRules;
  tensors_ = *TensorsToWrite(*model_, other);
  for (const auto& maps : {std::vector<NameMap>{NameMap(), other}, {other, NameMap()}}) {
    const auto plan = Plan(maps);
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_TRUE(ReadParameters(*loaded_, *plan, *source_).ok());
    ExpectSameAsModel();
  }
}

TEST_F(CheckpointTest, ImpliedParametersGetTheirInitialValue) {
  NameMap folded;
  folded.implied = {"blocks.*.ln?.?", "ln_final.?"};
  tensors_ = *TensorsToWrite(*model_, folded);
  for (const NamedTensor& tensor : tensors_) {
    EXPECT_EQ(tensor.first.find("ln"), std::string::npos) << tensor.first;
  }
  const auto plan = Plan({folded});
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_TRUE(ReadParameters(*loaded_, *plan, *source_).ok());
  ExpectSameAsModel();

  *Parameters(*model_).back().value = Tensor::Zeros({11});  // b_U: named, may be anything
  EXPECT_TRUE(TensorsToWrite(*model_, folded).ok());
  for (const Parameter& p : Parameters(*model_)) {
    if (p.name == "ln_final.w") *p.value = Tensor::Full({8}, 2);
  }
  EXPECT_EQ(TensorsToWrite(*model_, folded).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace residual
