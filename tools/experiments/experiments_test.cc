#include "tools/experiments/experiments.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(ExperimentsTest, EachHasANameOfItsOwnForACommandLineAndALineOfSummary) {
  std::set<std::string> names;
  for (const Experiment& experiment : Experiments()) {
    const std::string name = experiment.name, summary = experiment.summary;
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), name.npos) << name;
    EXPECT_FALSE(summary.empty()) << name;
    EXPECT_EQ(summary.find('\n'), summary.npos) << name;
    EXPECT_NE(experiment.run, nullptr) << name;
  }
  EXPECT_EQ(names.count("mamba_induction"), 1);
}

}  // namespace
}  // namespace residual
