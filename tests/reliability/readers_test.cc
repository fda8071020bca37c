// A model's folder while somebody replaces it, and after its file was damaged.

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/nn/module.h"
#include "models/zoo/zoo.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

using nlohmann::json;

json Config() {
  return {{"model_type", "llama"},       {"vocab_size", 61},       {"hidden_size", 24},
          {"intermediate_size", 40},     {"num_hidden_layers", 3}, {"num_attention_heads", 4},
          {"max_position_embeddings", 8}};
}

// Every parameter is this number.
std::unique_ptr<ResidualModel> Filled(double number) {
  auto model = *ModelFromConfig(Config(), "config.json");
  for (const Parameter& p : Parameters(*model)) *p.value = Tensor::Full(p.shape, number, kF32);
  return model;
}

class ReadersTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/readers", GetParam());
    ASSERT_TRUE(SaveModel(*Filled(1), Config(), folder_).ok());
  }
  std::string path() const { return JoinPath(folder_, "model.safetensors"); }
  absl::StatusOr<LoadedModel> Load() const {
    LoadOptions options;
    options.mmap = GetParam();
    return LoadModel(folder_, options);
  }
  std::string folder_;
};

INSTANTIATE_TEST_SUITE_P(Mmap, ReadersTest, testing::Bool());

// What is loaded is one whole model, whichever.
TEST_P(ReadersTest, SixteenReadersWhileAWriterReplacesTheModel) {
  std::atomic<bool> done{false};
  std::atomic<int> loads{0}, mixed{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 16; ++i) {
    readers.emplace_back([&] {
      while (!done) {
        absl::StatusOr<LoadedModel> loaded = Load();
        if (!loaded.ok()) {
          ADD_FAILURE() << loaded.status();
          return;
        }
        double first = 0;
        for (const Parameter& p : Parameters(*loaded->model)) {
          for (const double x : p.value->ToDoubles()) {
            if (first == 0) first = x;
            mixed += x != first;
          }
        }
        ++loads;
      }
    });
  }
  const auto one = Filled(1), two = Filled(2);
  for (int i = 0; i < 200 || loads < 64; ++i) {
    EXPECT_TRUE(SaveModel(i % 2 ? *one : *two, Config(), folder_).ok());
  }
  done = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(mixed, 0);
}

// A file that is cut after it was opened, read without a mapping: an error that names it.
TEST(CutTest, UnderAReader) {
  const std::string folder = absl::StrCat(testing::TempDir(), "/cut"),
                    path = folder + "/model.safetensors";
  ASSERT_TRUE(SaveModel(*Filled(1), Config(), folder).ok());
  ReadOptions plain;
  plain.mmap = false;
  const auto file = SafetensorsFile::Open(path, plain);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(truncate(path.c_str(), 4000), 0);
  int errors = 0;
  for (const TensorInfo& tensor : file->tensors()) {
    const auto read = file->Read(tensor.name);
    if (read.ok()) continue;
    ++errors;
    EXPECT_NE(read.status().message().find(path), std::string::npos) << read.status();
  }
  EXPECT_GT(errors, 10);
}

// Every byte of the header changed, every length there can be up to its end and many after it: a
// model or an error that names the file, each with and without a mapping.
TEST_P(ReadersTest, DamagedFiles) {
  const std::string whole = *ReadFile(path());
  const size_t header =
      8 + static_cast<unsigned char>(whole[0]) + 256 * static_cast<unsigned char>(whole[1]);
  ASSERT_LT(header, whole.size());
  const auto expect_no_harm = [&](const std::string& bytes, size_t at) {
    std::FILE* file = std::fopen(path().c_str(), "wb");
    ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
    std::fclose(file);
    const auto loaded = Load();
    if (loaded.ok()) return;
    EXPECT_NE(loaded.status().message().find(path()), std::string::npos) << at << loaded.status();
    EXPECT_LT(loaded.status().message().size(), 2000u) << at;
  };
  for (size_t at = 0; at < header; ++at) {
    std::string changed = whole;
    for (const int flip : {0x01, 0x80}) {
      changed[at] = static_cast<char>(whole[at] ^ flip);
      expect_no_harm(changed, at);
    }
  }
  for (size_t length = 0; length < whole.size(); length += length < header ? 7 : 499) {
    expect_no_harm(whole.substr(0, length), length);
    EXPECT_FALSE(Load().ok()) << length;
  }
}

}  // namespace
}  // namespace residual
