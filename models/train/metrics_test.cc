#include "models/train/metrics.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tensor/io/file.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

std::string TestPath() {
  const std::string path = JoinPath(
      ::testing::TempDir(), ::testing::UnitTest::GetInstance()->current_test_info()->name());
  return path;
}

StepMetrics At(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 1.0 / 3;
  metrics.lr = 1e-3;
  metrics.grad_norm = 2;
  metrics.tokens = 100 * step;
  metrics.tokens_per_second = 5e4;
  return metrics;
}

// Lines {"step":n} for each.
std::string Steps(std::initializer_list<int64_t> steps) {
  std::string lines;
  for (const int64_t step : steps) lines += "{\"step\":" + std::to_string(step) + "}\n";
  return lines;
}

TEST(MetricsTest, OneObjectALine) {
  const auto file = MetricsFile::Open(TestPath(), 0).value();
  ASSERT_TRUE(file->Append(At(1)).ok());
  StepMetrics second = At(2);
  second.eval_loss = 0.1;
  ASSERT_TRUE(file->Append(second).ok());
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(ReadFile(TestPath()).value(),
            R"({"step":1,"loss":0.3333333333333333,"lr":0.001,"grad_norm":2.0,"tokens":100,)"
            R"("tokens_per_second":50000.0})"
            "\n"
            R"({"step":2,"loss":0.3333333333333333,"lr":0.001,"grad_norm":2.0,"tokens":200,)"
            R"("tokens_per_second":50000.0,"eval_loss":0.1})"
            "\n");
}

TEST(MetricsTest, GoesOnAfterTheStep) {
  struct {
    std::string before;
    int64_t step;
    std::string kept;
  } cases[] = {
      {Steps({1, 2, 3, 4}), 2, Steps({1, 2})},
      {Steps({1, 2}), 2, Steps({1, 2})},
      {Steps({1, 2, 3}), 0, ""},
      {Steps({1}) + "{\"step\":2", 2, Steps({1})},            // cut by a crash
      {Steps({1}) + "{\"ste\n" + Steps({2}), 2, Steps({1})},  // not JSON
      {Steps({1, 2}), 5, Steps({1, 2})},                      // a power cut took 3 to 5
      {Steps({1, 4}), 5, Steps({1, 4})},
      {Steps({1, 2, 2, 3}), 3, Steps({1, 2})},
      {Steps({1, 9, 2}), 3, Steps({1})},
      {"", 3, ""},
      {std::string("\0\0\0\0\n", 5), 3, ""},
  };
  for (const auto& c : cases) {
    std::ofstream(TestPath()) << c.before;
    const auto file = MetricsFile::Open(TestPath(), c.step);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(ReadFile(TestPath()).value(), c.kept) << c.before;
    ASSERT_TRUE((*file)->Append(At(c.step + 1)).ok());
    EXPECT_THAT(ReadFile(TestPath()).value(),
                HasSubstr(c.kept + "{\"step\":" + std::to_string(c.step + 1)));
  }
}

TEST(MetricsTest, NoFileYet) {
  std::filesystem::remove(TestPath());
  EXPECT_TRUE(MetricsFile::Open(TestPath(), 10).ok());
  EXPECT_EQ(ReadFile(TestPath()).value(), "");
}

TEST(MetricsTest, ErrorsNameThePath) {
  const absl::Status status = MetricsFile::Open(TestPath() + "/none/metrics.jsonl", 0).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("/none/metrics.jsonl"));
}

}  // namespace
}  // namespace residual
