#include "tensor/base/check.h"

#include <string>

#include "gtest/gtest.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

TEST(CheckTest, PassesSilently) {
  int calls = 0;
  RESIDUAL_CHECK(++calls == 1) << "never evaluated";
  if (calls == 1)
    RESIDUAL_CHECK_EQ(calls, 1);
  else
    FAIL() << "the macro must be one statement";
}

TEST(CheckDeathTest, SaysWhereAndWhat) {
  const int rows = 3;
  EXPECT_DEATH(RESIDUAL_CHECK(rows == 4) << "rows of x", "check_test.cc:.*rows == 4.*rows of x");
  EXPECT_DEATH(RESIDUAL_CHECK_EQ(rows, 5), "3 against 5");
}

absl::StatusOr<int> Half(int x) {
  if (x % 2 != 0) return absl::InvalidArgumentError("odd");
  return x / 2;
}

absl::StatusOr<int> Quarter(int x) {
  RESIDUAL_ASSIGN_OR_RETURN(const int half, Half(x));
  RESIDUAL_ASSIGN_OR_RETURN(const int quarter, Half(half));
  RESIDUAL_RETURN_IF_ERROR(absl::OkStatus());
  return quarter;
}

TEST(StatusMacrosTest, PassValuesAndErrors) {
  EXPECT_EQ(Quarter(12).value(), 3);
  EXPECT_EQ(Quarter(6).status().message(), "odd");
}

}  // namespace
}  // namespace residual
