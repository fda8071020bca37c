#include "tools/cli/model_flags.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

// A file with these tensors.
std::string Saved(const std::string& name, const std::vector<NamedTensor>& tensors) {
  const std::string path = absl::StrCat(testing::TempDir(), "/", name);
  EXPECT_TRUE(WriteSafetensors(path, tensors).ok());
  return path;
}

Tensor Ids(const Shape& shape, std::vector<int64_t> ids) { return Tensor::Of<int64_t>(shape, ids); }

std::string Error(const std::string& path, const std::string& input, const std::string& mask = "") {
  const auto result = ReadModelInput(path, input, mask);
  return std::string(result.status().message());
}

TEST(ReadModelInputTest, ReadsTokensAndTheirMask) {
  const std::string path =
      Saved("tokens.safetensors", {{"input_ids", Ids({2, 2}, {1, 2, 3, 4})},
                                   {"attention_mask", Ids({2, 2}, {1, 0, 1, 1})},
                                   {"row", Ids({3}, {7, 8, 9})}});
  const auto both = ReadModelInput(path, "input_ids");
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->tokens.shape(), (Shape{2, 2}));
  EXPECT_EQ(both->attention_mask.dtype(), kBool);
  EXPECT_FALSE(both->attention_mask.data<bool>()[1]);
  // A mask of another shape is that of the ids, not of this tensor.
  const auto row = ReadModelInput(path, "row");
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->tokens.shape(), (Shape{1, 3}));
  EXPECT_FALSE(row->attention_mask.defined());
}

TEST(ReadModelInputTest, NamesFileTensorAndWhatWasExpected) {
  const std::string path =
      Saved("wrong.safetensors", {{"input_ids", Ids({1, 2}, {1, 2})},
                                  {"attention_mask", Ids({1, 2}, {1, 2})},
                                  {"short", Ids({1, 1}, {1})},
                                  {"floats", Tensor::Of<float>({1, 2}, {1, 2})}});
  EXPECT_EQ(Error(path, "input_id"),
            absl::StrCat(path, ": no tensor 'input_id'; did you mean 'input_ids'?"));
  EXPECT_EQ(Error(path, "floats"),
            absl::StrCat(path, ": 'floats' is F32[1, 2], expected integers [batch, pos]"));
  EXPECT_EQ(Error(path, "input_ids"),
            absl::StrCat(path, ": 'attention_mask' holds 2, expected 0 (padding) or 1"));
  EXPECT_NE(Error(path, "input_ids", "short").find("expected zeros and ones"), std::string::npos);
  EXPECT_NE(Error("/nowhere.safetensors", "input_ids").find("/nowhere.safetensors"),
            std::string::npos);
}

TEST(ModelFlagsTest, SaysHowToReadAndNamesTheFolder) {
  CommandLine cli("demo", "Shows flags.", "--model=DIR");
  const ModelFlags flags(cli);
  std::vector<std::string> arguments = {"demo", "--model=/nowhere", "--no_mmap"};
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  absl::Status loaded;
  EXPECT_EQ(cli.Run(3, argv.data(),
                    [&] {
                      loaded = flags.Load().status();
                      return absl::OkStatus();
                    }),
            0);
  EXPECT_FALSE(flags.options().mmap);
  EXPECT_EQ(flags.path(), "/nowhere");
  EXPECT_EQ(loaded.code(), absl::StatusCode::kNotFound) << loaded;
  EXPECT_NE(loaded.message().find("/nowhere"), absl::string_view::npos) << loaded;
}

TEST(ModelFlagsTest, ToolsThatOnlyRunAModelKeepWeightsAsTheyAre) {
  const std::pair<const char*, absl::optional<DType>> cases[] = {{"--dtype=auto", absl::nullopt},
                                                                 {"--dtype=f32", kF32},
                                                                 {"--dtype=bf16", kBF16},
                                                                 {"--dtype=f16", kF16}};
  for (const auto& [flag, dtype] : cases) {
    CommandLine cli("demo", "Shows flags.", "--model=DIR");
    const ModelFlags flags(cli, ModelFlags::kRun);
    std::vector<std::string> arguments = {"demo", "--model=/nowhere", flag};
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    EXPECT_EQ(cli.Run(3, argv.data(), [] { return absl::OkStatus(); }), 0);
    EXPECT_TRUE(flags.options().stored);
    EXPECT_EQ(flags.options().quantize, Quantization::kNone);
    EXPECT_EQ(flags.options().dtype.has_value(), dtype.has_value()) << flag;
    EXPECT_EQ(flags.options().dtype.value_or(kF32), dtype.value_or(kF32)) << flag;
  }
  CommandLine eight("demo", "Shows flags.", "--model=DIR");
  const ModelFlags quantized(eight, ModelFlags::kRun);
  std::string demo = "demo", model = "--model=/nowhere", flag = "--quantize=int8";
  char* argv[] = {demo.data(), model.data(), flag.data()};
  EXPECT_EQ(eight.Run(3, argv, [] { return absl::OkStatus(); }), 0);
  EXPECT_EQ(quantized.options().quantize, Quantization::kInt8);
  CommandLine cli("demo", "Shows flags.", "--model=DIR");
  const ModelFlags any(cli);
  EXPECT_FALSE(any.options().stored);
}

}  // namespace
}  // namespace residual
