#include "tools/experiments/claims/experiment.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<Claim> SomeClaims() {
  return {{"A is one", 1.0, 0.995, 0.99, 1},
          {"B is small", std::nullopt, 0.7, -kInfinity, 0.6},
          {"C is large", 80.0, 1234.5678, 3, kInfinity},
          {"D is known", 0.0, std::nan(""), -1, 1}};
}

TEST(ClaimTest, HoldsWithinItsBoundsAndNotAtNaN) {
  const std::vector<Claim> claims = SomeClaims();
  EXPECT_TRUE(claims[0].pass());
  EXPECT_FALSE(claims[1].pass());
  EXPECT_TRUE(claims[2].pass());
  EXPECT_FALSE(claims[3].pass());
  EXPECT_TRUE((Claim{"on the edge", std::nullopt, 2, 2, 2}).pass());
}

TEST(ClaimTest, AsJson) {
  const nlohmann::json got = FindingsJson("x", SomeClaims(), 1.5, "out/report.html");
  EXPECT_EQ(got["claims"].size(), 4);
  EXPECT_EQ(got["claims"][0].dump(),
            R"({"claim":"A is one","high":1.0,"low":0.99,"ours":0.995,"paper":1.0,"pass":true})");
  EXPECT_TRUE(got["claims"][1]["paper"].is_null());
  EXPECT_LT(got["claims"][1]["low"].get<double>(), -1e300);
  EXPECT_GT(got["claims"][2]["high"].get<double>(), 1e300);
  EXPECT_TRUE(got["claims"][3]["ours"].is_null());
  EXPECT_EQ(got["claims"][3]["pass"], false);
  EXPECT_EQ(got["report"], "out/report.html");
}

TEST(ClaimTest, AsLinesAndAsATable) {
  EXPECT_EQ(ClaimLines(SomeClaims()),
            "holds  A is one: 0.995, expected 0.99 to 1 (paper 1)\n"
            "FAILS  B is small: 0.7, expected at most 0.6\n"
            "holds  C is large: 1235, expected at least 3 (paper 80)\n"
            "FAILS  D is known: nan, expected -1 to 1 (paper 0)\n");
  Report report("Title", "Lead.");
  AddClaims(SomeClaims(), report);
  EXPECT_THAT(report.ToString(), HasSubstr("B is small"));
  EXPECT_THAT(report.ToString(), HasSubstr("<strong>fails</strong>"));
}

}  // namespace
}  // namespace residual
