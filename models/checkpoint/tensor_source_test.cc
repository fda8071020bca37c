#include "models/checkpoint/tensor_source.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

class TensorSourceTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(testing::TempDir(), "/",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_TRUE(MakeFolders(folder_).ok());
  }
  void Write(const std::string& name, const std::vector<NamedTensor>& tensors) {
    ASSERT_TRUE(WriteSafetensors(JoinPath(folder_, name), tensors).ok());
  }
  void WriteIndex(const std::string& text) {
    ASSERT_TRUE(WriteFileAtomically(JoinPath(folder_, "model.safetensors.index.json"), text).ok());
  }
  // The message without the folder.
  std::string Error() const {
    const std::string message(TensorSource::Open(folder_).status().message());
    std::string shown;
    for (size_t i = 0; i < message.size();) {
      if (message.compare(i, folder_.size(), folder_) == 0) {
        shown += "DIR";
        i += folder_.size();
      } else {
        shown += message[i++];
      }
    }
    return shown;
  }

  std::string folder_;
  const Tensor a_ = Tensor::Of<float>({2}, {1, 2}), b_ = Tensor::Of<float>({1}, {3});
};

TEST_F(TensorSourceTest, OneFile) {
  Write("model.safetensors", {{"b", b_}, {"a", a_}});
  WriteIndex("not looked at");
  const auto source = TensorSource::Open(folder_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(source->Find("a")->shape, Shape({2}));
  EXPECT_EQ(source->Find("c"), nullptr);
  EXPECT_EQ(source->FileOf("a"), JoinPath(folder_, "model.safetensors"));
  EXPECT_EQ(source->Read("b")->ToDoubles(), std::vector<double>{3});
  EXPECT_EQ(source->Read("c").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(TensorSourceTest, Shards) {
  Write("x-1.safetensors", {{"a", a_}});
  Write("x-2.safetensors", {{"b", b_}, {"unlisted", b_}});
  WriteIndex(R"({"metadata": {}, "weight_map": {"b": "x-2.safetensors", "a": "x-1.safetensors"}})");
  const auto source = TensorSource::Open(folder_);
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(source->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(source->FileOf("b"), JoinPath(folder_, "x-2.safetensors"));
  EXPECT_EQ(source->Read("a")->ToDoubles(), (std::vector<double>{1, 2}));
}

TEST_F(TensorSourceTest, IndicesThatLie) {
  Write("x.safetensors", {{"a", a_}});
  WriteIndex(R"({"metadata": {}})");
  EXPECT_EQ(Error(), "DIR/model.safetensors.index.json: 'weight_map' is missing");
  WriteIndex(R"({"weight_map": ["a"]})");
  EXPECT_EQ(Error(),
            "DIR/model.safetensors.index.json: 'weight_map' is [\"a\"], expected an object");
  for (const char* file : {"7", "\"\"", "\".\"", "\"..\"", "\"../x.safetensors\"", "\"/dev/zero\"",
                           "\"a/b\"", "\"x\\u0000.safetensors\"", "null"}) {
    WriteIndex(absl::StrCat(R"({"weight_map": {"a": "x.safetensors", "b": )", file, "}}"));
    EXPECT_EQ(Error(), absl::StrCat("DIR/model.safetensors.index.json: the tensor \"b\" is in ",
                                    file, ", expected the name of a file in this folder"));
  }
  WriteIndex(R"({"weight_map": {"b": "x.safetensors"}})");
  EXPECT_EQ(Error(),
            "DIR/model.safetensors.index.json: the tensor \"b\" is said to be in "
            "\"x.safetensors\", which does not hold it");
  WriteIndex(R"({"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}})");
  EXPECT_EQ(TensorSource::Open(folder_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(Error().find("DIR/y.safetensors"), std::string::npos) << Error();
  EXPECT_NE(Error().find("(a shard of DIR/model.safetensors.index.json)"), std::string::npos)
      << Error();
}

TEST_F(TensorSourceTest, NoWeights) {
  EXPECT_EQ(Error(),
            "DIR: no model.safetensors and no model.safetensors.index.json in this folder");
  ASSERT_TRUE(WriteFileAtomically(JoinPath(folder_, "pytorch_model.bin"), "PK").ok());
  EXPECT_NE(Error().find("has pytorch_model.bin, a pickle, which is not read"), std::string::npos)
      << Error();
}

}  // namespace
}  // namespace residual
