#include "tensor/cuda/start.h"

#include "gtest/gtest.h"
#include "tensor/core/cuda_hooks.h"

namespace residual {
namespace {

TEST(StartCudaTest, EitherWorksOrSaysWhyNot) {
  EXPECT_FALSE(HaveCudaHooks()) << "nothing may touch the GPU before it is asked for";
  const absl::Status status = StartCuda();
  EXPECT_EQ(status.ok(), HaveCudaHooks()) << status;
  EXPECT_EQ(StartCuda(), status);
  if (!status.ok()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(status.message().find('\n'), absl::string_view::npos) << "one line";
    if (kBuiltWithCuda) {
      EXPECT_EQ(status.message().find("no GPU to use: "), 0) << status;
    } else {
      EXPECT_EQ(status.message().find("built without CUDA: "), 0) << status;
    }
  }
}

}  // namespace
}  // namespace residual
