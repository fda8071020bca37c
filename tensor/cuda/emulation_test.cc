#include "tensor/cuda/emulation.h"

#include <vector>

#include "gtest/gtest.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace {

__global__ void WriteIndex(int64_t* to, int64_t n) {
  const int64_t width = int64_t{gridDim.x} * blockDim.x;
  const int64_t i = (int64_t{blockIdx.y} * blockDim.y + threadIdx.y) * width +
                    int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) to[i] = i;
}

TEST(EmulationTest, RunsEveryThreadOnce) {
  std::vector<int64_t> got(6 * 8 * 3 * 4, -1);
  LaunchKernel(WriteIndex, dim3(6, 3), dim3(8, 4), got.data(), static_cast<int64_t>(got.size()));
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], i);
}

// The sum of a block's numbers by halving; kBarrier leaves out what makes it right.
template <bool kBarrier>
__global__ void SumBlock(const float* x, float* sum) {
  __shared__ float parts[128];
  parts[threadIdx.x] = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (kBarrier) __syncthreads();
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
  }
  if (threadIdx.x == 0) sum[blockIdx.x] = parts[0];
}

TEST(EmulationTest, BarriersHoldTheBlockTogether) {
  std::vector<float> x(256), sums(2), wrong(2);
  for (int i = 0; i < 256; ++i) x[i] = static_cast<float>(i);
  int mistakes = 0;
  for (int direction = 0; direction < 2; ++direction) {
    LaunchKernel(SumBlock<true>, 2, 128, x.data(), sums.data());
    EXPECT_EQ(sums, (std::vector<float>{8128, 24512}));
  }
  for (int direction = 0; direction < 2; ++direction) {  // two launches: forwards and backwards
    wrong.assign(2, 0);
    LaunchKernel(SumBlock<false>, 2, 128, x.data(), wrong.data());
    mistakes += wrong != sums;
  }
  EXPECT_GT(mistakes, 0) << "a missing barrier was not seen";
}

__global__ void SumWarps(const double* x, double* sums) {
  double sum = x[threadIdx.x];
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  sums[threadIdx.x] = sum;
}

TEST(EmulationTest, LanesOfAWarpExchange) {
  std::vector<double> x(64), sums(64);
  for (int i = 0; i < 64; ++i) x[i] = i;
  LaunchKernel(SumWarps, 1, 64, x.data(), sums.data());
  for (int i = 0; i < 64; ++i) EXPECT_EQ(sums[i], i < 32 ? 496 : 1520) << i;
}

__global__ void LoneBarrier() {
  if (threadIdx.x == 0) __syncthreads();
}

__global__ void WriteOutside(float* x, int64_t i) { x[i] = 1; }

TEST(EmulationDeathTest, SaysWhatAGpuWouldNot) {
  EXPECT_DEATH(LaunchKernel(LoneBarrier, 1, 32), "wait at different barriers: of 32, 1 are at");
  EXPECT_DEATH(LaunchKernel(LoneBarrier, 1, 2048), "CUDA launches no grid");
  for (int64_t i : {-1, 3}) {
    EXPECT_DEATH(
        {
          Tensor x = Tensor::Uninitialized({3}, kF32, kCuda);
          LaunchKernel(WriteOutside, 1, 1, static_cast<float*>(x.mutable_raw_data()), i);
        },
        "outside a tensor of 12 bytes|use-after-poison|heap-buffer-overflow");
  }
}

}  // namespace
}  // namespace residual
