#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/zoo/small_configs.h"
#include "models/zoo/zoo.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

using nlohmann::json;

Tensor Wide(const Tensor& x) { return ConvertTo(x, kF64); }

class StoredModelTest : public testing::Test {
 protected:
  // A model of the config with random parameters, saved.
  void Save(const json& config) {
    folder_ = absl::StrCat(testing::TempDir(), "/stored_model");
    model_ = *ModelFromConfig(config, "config.json");
    for (const Parameter& p : Parameters(*model_)) {
      InitializeParameter({p.name, p.value, p.shape, Init::Normal(0.3), p.options}, 7);
    }
    ASSERT_TRUE(SaveModel(*model_, config, folder_).ok());
  }

  std::string folder_;
  const Tensor tokens_ = Tensor::Of<int64_t>({2, 3}, {1, 12, 0, 7, 7, 3});
  std::unique_ptr<ResidualModel> model_;
};

// Weights of any dtype, a token at a time as generation does: what all at once gives.
TEST_F(StoredModelTest, ReadsStoredWeightsTokenByToken) {
  Save(Gpt2Config());
  for (const DType dtype : {kF32, kBF16, kF16}) {
    LoadOptions options;
    options.stored = true;
    options.dtype = dtype;
    const auto loaded = LoadModel(folder_, options);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    const Tensor logits = loaded->model->Forward({tokens_});
    ModelState state = loaded->model->NewState(2);
    for (int64_t i = 0; i < 3; ++i) {
      const int64_t* ids = tokens_.data<int64_t>();
      const Tensor next =
          loaded->model->NextLogits({Tensor::Of<int64_t>({2, 1}, {ids[i], ids[3 + i]})}, &state);
      ExpectClose(next.Row(1), Wide(logits.Row(1).Row(i)), 64, Name(dtype));
    }
  }
}

// A model in 8 bits computes what it does with the rounded weights as tensors: of every way to hold
// them, and near what it does in f32.
TEST_F(StoredModelTest, RunsInEightBits) {
  json untied = Gpt2Config(),
       neox = {{"model_type", "gpt_neox"}, {"vocab_size", 13},       {"max_position_embeddings", 8},
               {"hidden_size", 16},        {"num_hidden_layers", 2}, {"num_attention_heads", 2},
               {"intermediate_size", 24}};
  untied["tie_word_embeddings"] = false;
  for (const json& config : {Gpt2Config(), untied, neox, ResidualConfig()}) {
    Save(config);
    LoadOptions options;
    options.stored = true;
    options.quantize = Quantization::kInt8;
    const auto loaded = LoadModel(folder_, options);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    const std::vector<Parameter> eight = Parameters(*loaded->model), full = Parameters(*model_);
    for (size_t i = 0; i < full.size(); ++i) {
      if (full[i].weight == nullptr) continue;
      const bool looked_up = full[i].name == "pos_embed.W_pos" ||
                             (full[i].name == "embed.W_E" && !model_->unembed().options().tied);
      EXPECT_NE(eight[i].weight->matrix().quantized.defined(), looked_up) << full[i].name;
      const Tensor rounded = eight[i].weight->Dense();
      const std::vector<double> got = rounded.ToDoubles(), want = full[i].value->ToDoubles();
      double most = 0, error = 0;
      for (size_t j = 0; j < got.size(); ++j) {
        most = std::max(most, std::abs(want[j]));
        error = std::max(error, std::abs(got[j] - want[j]));
      }
      EXPECT_LE(error, most / 253) << full[i].name;
      EXPECT_EQ(error == 0, looked_up) << full[i].name;
      *full[i].value = rounded;
    }
    const Tensor logits = loaded->model->Forward({tokens_});
    ExpectClose(logits, Wide(model_->Forward({tokens_})), 64, config.dump());
    ModelState state = loaded->model->NewState(2);
    for (int64_t i = 0; i < 3; ++i) {
      const int64_t* ids = tokens_.data<int64_t>();
      const Tensor next =
          loaded->model->NextLogits({Tensor::Of<int64_t>({2, 1}, {ids[i], ids[3 + i]})}, &state);
      ExpectClose(next.Row(1), Wide(logits.Row(1).Row(i)), 64, config.dump());
    }
  }
}

// Rewrites the folder's file with one element of a weight as something else.
void Spoil(const std::string& path, const std::string& name, double value, DType dtype) {
  std::vector<NamedTensor> tensors;
  {
    const auto file = SafetensorsFile::Open(path);
    for (const TensorInfo& info : file->tensors()) {
      Tensor x = ConvertTo(*file->Read(info.name), kF64).Clone();
      if (info.name == name) x.mutable_data<double>()[5] = value;
      tensors.emplace_back(info.name, ConvertTo(x, dtype));
    }
  }
  ASSERT_TRUE(WriteSafetensors(path, tensors).ok());
}

constexpr char kSpoiled[] = "transformer.h.1.mlp.c_fc.weight";

TEST_F(StoredModelTest, SaysWhichTensorHasNoEightBits) {
  Save(Gpt2Config());
  const std::string path = JoinPath(folder_, "model.safetensors");
  for (const double bad : {INFINITY, -INFINITY, NAN}) {
    Spoil(path, kSpoiled, bad, kF32);
    LoadOptions options;
    options.stored = true;
    EXPECT_TRUE(LoadModel(folder_, options).ok());
    options.quantize = Quantization::kInt8;
    const absl::Status status = LoadModel(folder_, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), absl::StrCat(path, ": the tensor '", kSpoiled,
                                             "' has an infinity or a NaN, expected finite numbers "
                                             "to quantize"));
  }
}

// A number that is none in the wanted dtype is refused, with what it is and what there is room for;
// the largest that still rounds to one is not.
TEST_F(StoredModelTest, SaysWhichNumberHasNoRoom) {
  Save(Gpt2Config());
  const std::string path = JoinPath(folder_, "model.safetensors");
  struct Case {
    double value;
    DType file, wanted;
    const char* error;  // null: fits
  };
  constexpr char kTooLargeF16[] = "expected at most 65504 in magnitude to hold it in f16";
  for (const Case& c : std::vector<Case>{{65519, kF32, kF16, nullptr},
                                         {65520, kF32, kF16, kTooLargeF16},
                                         {-1e6, kF32, kF16, kTooLargeF16},
                                         {-1e6, kBF16, kF16, kTooLargeF16},
                                         {1e6, kF64, kF16, kTooLargeF16},
                                         {1e6, kF32, kBF16, nullptr},
                                         {3.4e38, kF32, kBF16, "to hold it in bf16"},
                                         {1e39, kF64, kF32, "expected at most 3.40282e+38"},
                                         {-3e38, kF64, kF32, nullptr}}) {
    Spoil(path, kSpoiled, c.value, c.file);
    LoadOptions options;
    options.stored = true;
    options.dtype = c.wanted;
    const absl::Status status = LoadModel(folder_, options).status();
    if (c.error == nullptr) {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    const std::string message(status.message());
    EXPECT_EQ(message.find(absl::StrCat(path, ": the tensor '", kSpoiled, "' has ")), 0u)
        << message;
    EXPECT_NE(message.find(c.error), std::string::npos) << message;
  }
  // As a tensor of f32, and in 8 bits: doubles have to fit f32.
  Spoil(path, kSpoiled, 1e39, kF64);
  EXPECT_FALSE(LoadModel(folder_).ok());
  LoadOptions eight;
  eight.stored = true;
  eight.quantize = Quantization::kInt8;
  const std::string message(LoadModel(folder_, eight).status().message());
  EXPECT_NE(message.find("' has 1e+39, expected at most 3.40282e+38"), std::string::npos)
      << message;
}

// What the file itself has as an infinity or a NaN is read as it is, in any float.
TEST_F(StoredModelTest, ReadsInfinitiesAndNanOfTheFile) {
  Save(Gpt2Config());
  const std::string path = JoinPath(folder_, "model.safetensors");
  for (const double value : {INFINITY, -INFINITY, NAN}) {
    for (const DType file : {kF32, kF64, kF16}) {
      Spoil(path, kSpoiled, value, file);
      for (const DType wanted : {kF32, kBF16, kF16}) {
        LoadOptions options;
        options.stored = true;
        options.dtype = wanted;
        const auto loaded = LoadModel(folder_, options);
        ASSERT_TRUE(loaded.ok()) << loaded.status();
        int found = 0;
        for (const Parameter& p : Parameters(*loaded->model)) {
          const Tensor dense = p.weight != nullptr ? p.weight->Dense() : *p.value;
          for (const double x : dense.ToDoubles()) {
            found += std::isnan(value) ? std::isnan(x) : x == value;
          }
        }
        EXPECT_EQ(found, 1) << value << " " << Name(file) << " " << Name(wanted);
      }
    }
  }
}

// How much of mapped files whose paths end so is in this process's memory, in KiB.
int64_t ResidentKib(const std::string& end) {
  std::ifstream smaps("/proc/self/smaps");
  bool of_path = false;
  int64_t total = 0;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find('-') != std::string::npos && line.find(':') > line.find('-')) {
      of_path = absl::EndsWith(line, end);  // the head of a mapping
    } else if (int64_t kib = 0; of_path && std::sscanf(line.c_str(), "Rss: %ld", &kib) == 1) {
      total += kib;
    }
  }
  return total;
}

// What is converted as it is read leaves nothing of the file behind, not even pages with its gains
// and biases; what is not is where it was.
TEST_F(StoredModelTest, ConvertedModelsHoldNothingOfTheFile) {
  Save(Gpt2Config());
  const std::string file = "/stored_model/model.safetensors";
  LoadOptions stored, eight, narrow;
  stored.stored = eight.stored = narrow.stored = true;
  eight.quantize = Quantization::kInt8;
  narrow.dtype = kBF16;
  const Tensor tokens = Tensor::Of<int64_t>({1, 3}, {1, 12, 7});
  for (const LoadOptions& options : {eight, narrow}) {
    const auto loaded = LoadModel(folder_, options);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    loaded->model->Forward({tokens});
    EXPECT_EQ(ResidentKib(file), 0);
  }
  const auto mapped = LoadModel(folder_, stored);
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  mapped->model->Forward({tokens});
  EXPECT_GT(ResidentKib(file), 0);
}

}  // namespace
}  // namespace residual
