// Folders written, read again and compared; for the tests of this package.

#ifndef RESIDUAL_MODELS_ZOO_ZOO_FIXTURE_H_
#define RESIDUAL_MODELS_ZOO_ZOO_FIXTURE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/zoo/small_configs.h"
#include "models/zoo/zoo.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"
#include "tensor/testing/op_case.h"

namespace residual {

using nlohmann::json;

inline std::string ConfigError(const json& config) {
  const absl::Status status = ModelFromConfig(config, "config.json").status();
  return std::string(status.message());
}

class ZooTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  // A model of the config, saved; its logits of some tokens.
  void Save(const json& config) {
    auto model = ModelFromConfig(config, "config.json");
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    Initialize(*model_, 1);
    // Biases start as zeros, which would hide a mistake.
    for (const Parameter& p : Parameters(*model_)) {
      Init init = Init::Normal(0.3);
      InitializeParameter({p.name, p.value, p.shape, init, p.options}, 7);
    }
    ASSERT_TRUE(SaveModel(*model_, config, folder_).ok());
    logits_ = model_->Forward({tokens_});
  }
  std::map<std::string, Tensor> ReadTensors() const {
    std::map<std::string, Tensor> tensors;
    const auto file = SafetensorsFile::Open(JoinPath(folder_, "model.safetensors"));
    for (const TensorInfo& info : file->tensors()) tensors[info.name] = *file->Read(info.name);
    return tensors;
  }
  void WriteTensors(const std::map<std::string, Tensor>& tensors) const {
    const std::vector<NamedTensor> list(tensors.begin(), tensors.end());
    ASSERT_TRUE(WriteSafetensors(JoinPath(folder_, "model.safetensors"), list).ok());
  }
  void ExpectLoadsTheSame() {
    const absl::StatusOr<LoadedModel> loaded = LoadModel(folder_);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    warnings_ = loaded->warnings;
    ExpectIdentical(loaded->model->Forward({tokens_}), logits_, "logits");
    const std::string path = JoinPath(folder_, "model.safetensors");
    const absl::StatusOr<std::string> file = ReadFile(path);
    if (!file.ok()) return;  // shards, of which the tensors are the same
    for (const DType dtype : {kF32, kBF16, kF16}) ExpectRunsAsStored(dtype);
    ASSERT_TRUE(WriteFileAtomically(path, *file).ok());
  }
  // Stored weights of this dtype compute what tensors of them do, at every hook point.
  void ExpectRunsAsStored(DType dtype) {
    std::map<std::string, Tensor> tensors = ReadTensors(), want;
    for (auto& [name, x] : tensors) x = ConvertTo(x, dtype);
    WriteTensors(tensors);
    LoadOptions as_stored;
    as_stored.stored = true;
    const auto stored = LoadModel(folder_, as_stored), dense = LoadModel(folder_);
    ASSERT_TRUE(stored.ok() && dense.ok()) << stored.status();
    const Tensor logits = dense->model->Forward({tokens_});
    ExpectClose(stored->model->Forward({tokens_}), ConvertTo(logits, kF64), 64, Name(dtype));
    Hooks record, compare;
    record.Read("*", [&](absl::string_view name, const Tensor& x) { want[std::string(name)] = x; });
    compare.Read("*", [&](absl::string_view name, const Tensor& x) {
      ExpectClose(x, ConvertTo(want[std::string(name)], kF64), 256, std::string(name));
    });
    EXPECT_TRUE(dense->model->Run({tokens_}, &record).ok());
    EXPECT_TRUE(stored->model->Run({tokens_}, &compare).ok());
  }
  std::string LoadError() const { return std::string(LoadModel(folder_).status().message()); }

  std::string folder_;
  const Tensor tokens_ = Tensor::Of<int64_t>({2, 3}, {1, 12, 0, 7, 7, 3});
  std::unique_ptr<ResidualModel> model_;
  Tensor logits_;
  std::vector<std::string> warnings_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_ZOO_ZOO_FIXTURE_H_
