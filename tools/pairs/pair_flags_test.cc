#include "tools/pairs/pair_flags.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/counting_model.h"

namespace residual {
namespace {

struct Outcome {
  PromptSet prompts;
  std::string metric, error;
  int code = 0;
};

// What the flags make of a model with 9 tokens and no tokenizer.
Outcome Parse(std::vector<std::string> arguments) {
  CommandLine cli("demo", "Shows flags.", "");
  PairFlags flags(cli);
  arguments.insert(arguments.begin(), "demo");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  Outcome outcome;
  std::vector<int> counts;
  LoadedModel loaded;
  loaded.model = CountingModel(1, &counts);
  loaded.folder = testing::TempDir();
  testing::internal::CaptureStderr();
  outcome.code = cli.Run(static_cast<int>(argv.size()), argv.data(), [&]() -> absl::Status {
    auto prompts = flags.Read(loaded);
    if (!prompts.ok()) return prompts.status();
    outcome.prompts = *prompts;
    const auto metric = flags.MetricOf(*prompts, 9, [] { return Tensor::Zeros({2, 9}, kF64); });
    if (metric.ok()) outcome.metric = metric->name;
    return metric.status();
  });
  outcome.error = testing::internal::GetCapturedStderr();
  return outcome;
}

std::string File(int64_t rows) {
  const std::string path = testing::TempDir() + "/pairs.safetensors";
  const Tensor ids = Tensor::Zeros({rows, 3}, kI64);
  EXPECT_TRUE(WriteSafetensors(path, {{"input_ids", ids}, {"other", ids}}).ok());
  return path;
}

TEST(PairFlagsTest, ReadsFilesAndMakesTasks) {
  const std::string file = File(2);
  const Outcome read =
      Parse({"--clean=" + file, "--corrupted=" + file + ":other", "--answer=3", "--wrong=1,2"});
  EXPECT_EQ(read.error, "");
  EXPECT_EQ(read.prompts.clean.tokens.shape(), Shape({2, 3}));
  EXPECT_EQ(read.metric, "logit_difference");
  EXPECT_TRUE(read.prompts.made.empty());
  const Outcome made = Parse({"--task=induction", "--rows=2", "--length=6", "--metric=loss"});
  EXPECT_EQ(made.error, "");
  EXPECT_EQ(made.prompts.corrupted.tokens.shape(), Shape({2, 6}));
  EXPECT_EQ(made.metric, "loss");
  EXPECT_EQ(made.prompts.made.size(), 4);
  EXPECT_EQ(Parse({"--task=induction", "--rows=2", "--length=6", "--metric=kl"}).metric, "kl");
}

TEST(PairFlagsTest, WhatIsWrongIsNamed) {
  const std::string file = File(2), pair = "--corrupted=" + file;
  const auto fails = [&](std::vector<std::string> arguments, int code, const std::string& part) {
    const Outcome outcome = Parse(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.error;
    EXPECT_NE(outcome.error.find(part), std::string::npos) << outcome.error;
  };
  fails({"--clean=" + file}, 2, "--clean and --corrupted are needed, or --task");
  fails({"--task=induction", pair}, 2, "leave out --clean");
  fails({"--task=ioi"}, 2, "--task: ");
  fails({"--clean=" + file + ":othr", pair}, 1, "--clean: ");
  fails({"--clean=" + file, pair}, 2, "--answer is needed for this metric");
  fails({"--clean=" + file, pair, "--answer=1,2,3"}, 2, "--answer has 3 ids");
  fails({"--clean=" + file, pair, "--answer=9", "--wrong=1"}, 1, "outside the vocabulary of 9");
  fails({"--clean=" + file, pair, "--metric=los"}, 2, "--metric");
}

}  // namespace
}  // namespace residual
