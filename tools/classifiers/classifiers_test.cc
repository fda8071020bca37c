// What the tools do with a classifier's folder; as a user has it: tests/tools/classifier_test.py.

#include "tools/classifiers/classifiers.h"

#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/classify/classifier_folder.h"
#include "nlohmann/json.hpp"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

class ClassifiersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = JoinPath(::testing::TempDir(),
                       ::testing::UnitTest::GetInstance()->current_test_info()->name());
    ClassifierConfig c;
    c.n_classes = 10;
    c.body.d_vocab = 16;
    c.body.d_model = 4;
    c.body.d_state = 4;
    c.body.n_ctx = 9;
    c.body.blocks = {{"s4d"}};
    c.body.positions = Positions::kNone;
    auto model = SequenceClassifier::Make(c);
    ASSERT_TRUE(model.ok()) << model.status();
    Initialize(**model, 1);
    ASSERT_TRUE(SaveClassifier(**model, folder_).ok());
  }

  // The status of a tool's body, and in `out_` what it printed.
  absl::Status Run(const std::function<absl::Status(const CommandLine&, const ModelFlags&)>& body) {
    CommandLine cli("tool", "Does.", "--model=DIR");
    ModelFlags flags(cli, ModelFlags::kRun);
    std::vector<std::string> texts = {"tool", "--model=" + folder_, "--json"};
    std::vector<char*> argv;
    for (std::string& text : texts) argv.push_back(text.data());
    absl::Status status;
    ::testing::internal::CaptureStdout();
    cli.Run(static_cast<int>(argv.size()), argv.data(), [&] {
      status = body(cli, flags);
      return absl::OkStatus();
    });
    out_ = ::testing::internal::GetCapturedStdout();
    return status;
  }

  std::string folder_, out_;
};

TEST_F(ClassifiersTest, Evaluates) {
  const auto evaluate = [&](const ClassifierEvaluation& evaluation) {
    return Run([&](const CommandLine& cli, const ModelFlags& flags) {
      return EvaluateClassifier(cli, flags, evaluation);
    });
  };
  const std::string data = "list_ops,rows=6,test_rows=4,max_length=9,max_depth=3";
  ASSERT_TRUE(evaluate({data}).ok());
  const auto result = nlohmann::json::parse(out_);
  EXPECT_EQ(result["rows"], 4);
  EXPECT_EQ(result["of"], "test");
  ASSERT_TRUE(evaluate({data, "train"}).ok());
  EXPECT_EQ(nlohmann::json::parse(out_)["rows"], 6);
  EXPECT_TRUE(IsUsageError(evaluate({"lists"})));
  EXPECT_THAT(std::string(evaluate({"digits,rows=3,test_rows=3,side=4"}).message()),
              HasSubstr("channels (0: tokens) is 1, expected 0"));
}

TEST_F(ClassifiersTest, WritesActivationsOfPaddedRows) {
  const std::string tokens = JoinPath(folder_, "tokens.safetensors");
  const std::string out = JoinPath(folder_, "out.safetensors");
  const auto write = [&](std::vector<int64_t> mask) {
    return WriteSafetensors(
        tokens, {{"input_ids", Tensor::Of<int64_t>({2, 3}, std::vector<int64_t>{1, 2, 3, 4, 5, 6})},
                 {"attention_mask", Tensor::Of<int64_t>({2, 3}, mask)}});
  };
  const auto activations = [&](const std::string& name) {
    return Run([&](const CommandLine& cli, const ModelFlags& flags) {
      return WriteClassifierActivations(cli, flags, {tokens, "input_ids", "", out, {name}});
    });
  };
  ASSERT_TRUE(write({1, 1, 1, 1, 0, 0}).ok());
  const absl::Status written = activations("hook_pooled");
  ASSERT_TRUE(written.ok()) << written;
  const auto file = SafetensorsFile::Open(out);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->Read("hook_pooled")->shape(), Shape({2, 4}));
  EXPECT_EQ(file->Read("logits")->shape(), Shape({2, 10}));
  EXPECT_TRUE(IsUsageError(activations("hook_poled")));
  ASSERT_TRUE(write({1, 1, 1, 0, 1, 1}).ok());
  EXPECT_THAT(std::string(activations("hook_pooled").message()),
              HasSubstr("row 1 has padding before a token"));
}

}  // namespace
}  // namespace residual
