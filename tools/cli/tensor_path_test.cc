#include "tools/cli/tensor_path.h"

#include "gtest/gtest.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

TEST(TensorPathTest, TheLastColonSplits) {
  const auto is = [](const std::string& text, const std::string& path, const std::string& name) {
    const TensorPath split = SplitTensorPath(text, "input_ids");
    EXPECT_EQ(split.path, path);
    EXPECT_EQ(split.name, name);
  };
  is("a.safetensors", "a.safetensors", "input_ids");
  is("a.safetensors:clean", "a.safetensors", "clean");
  is("b:c/a.safetensors", "b:c/a.safetensors", "input_ids");
  is("b:c/a.safetensors:x", "b:c/a.safetensors", "x");
  // Unless there is such a file.
  const std::string odd = testing::TempDir() + "/a:b";
  ASSERT_TRUE(WriteFileAtomically(odd, "x").ok());
  is(odd, odd, "input_ids");
  is(odd + ":n", odd, "n");
}

}  // namespace
}  // namespace residual
