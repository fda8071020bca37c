#include "models/classify/classifier_folder.h"

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/nn/module.h"
#include "models/zoo/zoo.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ClassifierConfig Config() {
  ClassifierConfig c;
  c.channels = 2;
  c.n_classes = 3;
  c.class_names = {"one", "two", "three"};
  c.pooling = Pooling::kLast;
  c.center = 0.25;
  c.scale = 2;
  c.body.d_model = 6;
  c.body.d_state = 4;
  c.body.n_ctx = 12;
  c.body.blocks = {{"s4d"}, {"s4"}};
  c.body.s4_init = S4Init::kRandom;
  c.body.positions = Positions::kNone;
  return c;
}

std::unique_ptr<SequenceClassifier> Model(const ClassifierConfig& config) {
  auto model = SequenceClassifier::Make(config);
  RESIDUAL_CHECK(model.ok()) << model.status().message();
  Initialize(**model, 3);
  return *std::move(model);
}

class ClassifierFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = JoinPath(::testing::TempDir(),
                       ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    ASSERT_TRUE(SaveClassifier(*Model(Config()), folder_).ok());
  }
  std::string Message() const { return std::string(LoadClassifier(folder_).status().message()); }
  json Stored() const { return ClassifierToJson(Config()); }
  void Write(const json& config) {
    ASSERT_TRUE(WriteFileAtomically(JoinPath(folder_, "config.json"), config.dump()).ok());
  }

  std::string folder_;
};

TEST_F(ClassifierFolderTest, GivesBackTheSameBits) {
  for (ClassifierConfig config : {Config(), Config()}) {
    if (config.channels == 2 && folder_.back() != '2') {
      config.channels = 0;
      config.body.d_vocab = 9;
      folder_ += "2";
    }
    const auto model = Model(config);
    ASSERT_TRUE(SaveClassifier(*model, folder_).ok());
    EXPECT_TRUE(HoldsClassifier(folder_));
    for (const bool mmap : {true, false}) {
      ClassifierLoadOptions options;
      options.mmap = mmap;
      const auto loaded = LoadClassifier(folder_, options);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_THAT(loaded->warnings, ElementsAre());
      EXPECT_EQ(loaded->config, ClassifierToJson(config));
      EXPECT_EQ(ClassifierToJson(loaded->model->config()), loaded->config);
      const std::vector<Parameter> before = Parameters(*model), after = Parameters(*loaded->model);
      ASSERT_EQ(before.size(), after.size());
      ASSERT_EQ(before.size(), loaded->sources.size());
      for (size_t i = 0; i < before.size(); ++i) {
        ExpectIdentical(*before[i].value, *after[i].value, before[i].name);
        EXPECT_EQ(loaded->sources[i].parameter, before[i].name);
      }
      const Tensor x = config.channels > 0
                           ? RandomNormal({3, 12, 2}, 5)
                           : Tensor::Of<int64_t>({1, 3}, std::vector<int64_t>{0, 8, 4});
      const auto logits = loaded->model->Run(x, {}, nullptr);
      ASSERT_TRUE(logits.ok()) << logits.status();
      ExpectIdentical(model->Forward(x), *logits, "logits");
    }
  }
}

TEST_F(ClassifierFolderTest, ATrainableCopyIsItsOwn) {
  ClassifierLoadOptions options;
  options.writable = true;
  const auto loaded = LoadClassifier(folder_, options);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  for (const Parameter& p : Parameters(*loaded->model)) EXPECT_TRUE(p.value->unique()) << p.name;
}

TEST_F(ClassifierFolderTest, SaysWhatIsWrongInTheConfig) {
  struct Case {
    json changes;
    std::vector<std::string> parts;
  };
  for (const Case& c : std::vector<Case>{
           {{{"n_classes", 4}}, {"config.json: 'classes' is \"3 names\", expected 4 names"}},
           {{{"n_classes", 1}}, {"'n_classes' is 1", "[2, 1048576]"}},
           {{{"n_classes", 4}, {"classes", nullptr}},
            {"model.safetensors does not fit config.json", "'head' is [6, 3], expected [6, 4]",
             "'head_bias' is [3], expected [4]"}},
           {{{"channels", 1}}, {"'encoder' is [2, 6], expected [1, 6]"}},
           {{{"channels", -1}}, {"'channels' is -1"}},
           {{{"pooling", "max"}}, {"'pooling' is \"max\"", "\"mean\", \"last\""}},
           {{{"scale", 0}}, {"'scale' is 0"}},
           {{{"chanels", 1}}, {"no field \"chanels\" exists; did you mean 'channels'"}},
           {{{"body", 5}}, {"'body' is 5, expected the object"}},
           {{{"body", {{"model_type", "residual"}, {"d_model", 0}}}},
            {"config.json: 'body': 'd_model' is 0"}}}) {
    json config = Stored();
    config.merge_patch(c.changes);
    Write(config);
    for (const std::string& part : c.parts) EXPECT_THAT(Message(), HasSubstr(part)) << c.changes;
  }
  json config = Stored();
  config["body"]["positions"] = "standard";
  Write(config);
  EXPECT_THAT(Message(), HasSubstr("config.json: 'positions' is \"standard\", expected none"));
  config = Stored();
  config["body"]["blocks"] = {{"s5"}};
  Write(config);
  EXPECT_THAT(Message(), AllOf(HasSubstr(folder_), HasSubstr("s5")));
  config = Stored();
  config["model_type"] = "residual";
  Write(config);
  EXPECT_FALSE(HoldsClassifier(folder_));
  EXPECT_THAT(Message(),
              HasSubstr("'model_type' is \"residual\", expected \"residual_classifier\""));
}

TEST_F(ClassifierFolderTest, SaysWhatIsWrongInTheWeights) {
  const std::string path = JoinPath(folder_, "model.safetensors");
  const std::string whole = ReadFile(path).value();
  ASSERT_TRUE(WriteFileAtomically(path, whole.substr(0, whole.size() - 8)).ok());
  EXPECT_THAT(Message(), HasSubstr("model.safetensors"));
  ASSERT_TRUE(WriteFileAtomically(path, whole.substr(0, 20)).ok());
  EXPECT_THAT(Message(), HasSubstr("model.safetensors"));

  std::vector<NamedTensor> tensors;
  const auto model = Model(Config());
  for (const Parameter& p : Parameters(*model)) {
    if (p.name != "head") tensors.emplace_back(p.name, *p.value);
  }
  ASSERT_TRUE(WriteSafetensors(path, tensors).ok());
  EXPECT_THAT(Message(), HasSubstr("does not fit config.json: missing 'head'"));
  tensors.emplace_back("head", *Parameters(*model).end()[-2].value);
  tensors.emplace_back("tail", Tensor::Zeros({2}));
  ASSERT_TRUE(WriteSafetensors(path, tensors).ok());
  const auto loaded = LoadClassifier(folder_);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(loaded->warnings, ElementsAre(HasSubstr("no parameter reads the tensors \"tail\"")));
  std::filesystem::remove(path);
  EXPECT_EQ(LoadClassifier(folder_).status().code(), absl::StatusCode::kNotFound);
  std::filesystem::remove(JoinPath(folder_, "config.json"));
  EXPECT_EQ(LoadClassifier(folder_).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(HoldsClassifier(folder_));
}

// What reads models of tokens says what this folder is.
TEST_F(ClassifierFolderTest, IsNoModelOfTokens) {
  const absl::Status status = LoadModel(folder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("a classifier, which says no next token"));
}

TEST_F(ClassifierFolderTest, RunsCheckWhatTheyRead) {
  const auto model = Model(Config());
  const auto message = [&](const SequenceClassifier& of, const Tensor& x,
                           const std::vector<int64_t>& lengths = {}) {
    return std::string(of.Run(x, lengths, nullptr).status().message());
  };
  EXPECT_EQ(message(*model, RandomNormal({2, 12, 2}, 1), {12, 1}), "");
  EXPECT_THAT(message(*model, RandomNormal({2, 12, 3}, 1)),
              HasSubstr("expected values [batch, pos, 2]"));
  EXPECT_THAT(message(*model, RandomNormal({2, 13, 2}, 1)),
              HasSubstr("2 rows of 13 positions, expected at least 1 of 1 to 12"));
  EXPECT_THAT(message(*model, Tensor::Zeros({2, 0, 2})), HasSubstr("2 rows of 0 positions"));
  EXPECT_THAT(message(*model, Tensor::Zeros({0, 3, 2})), HasSubstr("0 rows"));
  EXPECT_THAT(message(*model, RandomNormal({2, 12, 2}, 1), {12, 13}),
              HasSubstr("13 positions of its own, expected 1 to 12"));
  EXPECT_THAT(message(*model, RandomNormal({2, 12, 2}, 1), {12}),
              HasSubstr("1 lengths, expected 2"));
  ClassifierConfig config = Config();
  config.channels = 0;
  config.body.d_vocab = 9;
  const auto tokens = Model(config);
  EXPECT_THAT(message(*tokens, RandomNormal({2, 12, 2}, 1)), HasSubstr("expected tokens"));
  EXPECT_EQ(message(*tokens, Tensor::Of<int64_t>({1, 3}, std::vector<int64_t>{0, 9, 4})),
            "row 0, position 1: token 9, expected 0 to 8");
  Hooks hooks;
  hooks.Read("blocks.7.*", [](absl::string_view, const Tensor&) {});
  EXPECT_EQ(model->Run(RandomNormal({2, 12, 2}, 1), {}, &hooks).status().code(),
            absl::StatusCode::kNotFound);
}

// Every hook point fires, and no other.
TEST_F(ClassifierFolderTest, HookPointsFire) {
  const auto model = Model(Config());
  std::vector<std::string> declared, fired;
  for (const DeclaredHook& point : HookPoints(*model)) declared.push_back(point.name);
  Hooks hooks;
  hooks.Read("*", [&](absl::string_view name, const Tensor&) { fired.emplace_back(name); });
  ASSERT_TRUE(model->Run(RandomNormal({2, 12, 2}, 1), {}, &hooks).ok());
  EXPECT_THAT(fired, ::testing::UnorderedElementsAreArray(declared));
}

}  // namespace
}  // namespace residual
