#include "ops/gemm/gemm.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "ops/gemm/gemm_kernels.h"
#include "tensor/base/parallel.h"
#include "tensor/core/tensor.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

using gemm_internal::Panels;

TEST(PanelsTest, CoverEveryRowOnce) {
  for (int64_t total : {0, 1, 5, 6, 7, 12, 13, 97}) {
    for (int64_t width : {1, 4, 6}) {
      for (int64_t wide = 0; wide * (width + 1) <= total && wide < 3; ++wide) {
        const Panels panels{total, width, wide};
        int64_t next = 0;
        for (int64_t p = 0; p < panels.Count(); ++p) {
          EXPECT_EQ(panels.Begin(p), next);
          EXPECT_GE(panels.Width(p), 1);
          EXPECT_LE(panels.Width(p), p < wide ? width + 1 : width);
          next += panels.Width(p);
        }
        EXPECT_EQ(next, total) << total << " rows, " << width << " wide, " << wide << " wider";
      }
    }
  }
}

struct Sizes {
  int64_t M, N, K;
};

// What the header says, in double, on the values as they are after rounding to the dtype.
Tensor Reference(const Tensor& a, const Tensor& b, const Tensor& bias, const Sizes& s,
                 bool transpose_a, bool transpose_b) {
  const std::vector<double> x = a.ToDoubles(), y = b.ToDoubles(), z = bias.ToDoubles();
  Tensor c = Tensor::Uninitialized({s.M, s.N}, kF64);
  double* out = c.mutable_data<double>();
  for (int64_t i = 0; i < s.M; ++i) {
    for (int64_t j = 0; j < s.N; ++j) {
      double sum = z[j];
      for (int64_t k = 0; k < s.K; ++k) {
        sum +=
            x[transpose_a ? k * s.M + i : i * s.K + k] * y[transpose_b ? j * s.K + k : k * s.N + j];
      }
      out[i * s.N + j] = std::max(sum, 0.0);
    }
  }
  return c;
}

class GemmTest : public EachTarget {};
RESIDUAL_EACH_TARGET(GemmTest);

// Raw memory between guard bytes: the op's own tests reach these kernels through tensors, these
// reach every layout, dtype and edge of a tile directly, with a bias and an activation.
TEST_P(GemmTest, MultipliesInEveryLayoutAndDType) {
  SetHostGuardBytes(true);
  const int threads = NumThreads();
  for (const DType dtype : {kF32, kF64, kBF16, kF16}) {
    const DType wide = dtype == kF64 ? kF64 : kF32;
    for (const Sizes& s : std::vector<Sizes>{{1, 1, 1},
                                             {1, 33, 17},
                                             {3, 64, 5},
                                             {17, 1, 31},
                                             {16, 16, 16},
                                             {37, 67, 41},
                                             {5, 7, 0},
                                             {0, 3, 2},
                                             {61, 131, 300}}) {
      for (int layout = 0; layout < 4; ++layout) {
        const bool transpose_a = layout & 1, transpose_b = layout & 2;
        const Tensor a = RandomNormal({s.M, s.K}, 1, dtype), b = RandomNormal({s.K, s.N}, 2, dtype);
        const Tensor bias = RandomNormal({s.N}, 3, wide);
        const Tensor want = Reference(a, b, bias, s, transpose_a, transpose_b);
        const std::string what = absl::StrCat(Name(dtype), " [", s.M, ", ", s.K, "] [", s.K, ", ",
                                              s.N, "], layout ", layout);
        Tensor first;
        for (int n : {1, 2, 3}) {
          SetNumThreads(n);
          Tensor c = Tensor::Uninitialized({s.M, s.N}, dtype);
          Gemm({dtype, a.raw_data(), b.raw_data(), bias.raw_data(), c.mutable_raw_data(), nullptr,
                s.M, s.N, s.K, transpose_a, transpose_b, Activation::kRelu});
          ExpectClose(c, want, 8, what);
          if (n > 1) ExpectIdentical(c, first, what);
          first = c;
        }
      }
    }
  }
  SetNumThreads(threads);
  SetHostGuardBytes(false);
}

TEST_P(GemmTest, KeepsWhatTheActivationIsAppliedTo) {
  const Sizes s{19, 35, 23};
  const Tensor a = RandomNormal({s.M, s.K}, 4, kF32), b = RandomNormal({s.K, s.N}, 5, kF32);
  Tensor c = Tensor::Uninitialized({s.M, s.N}), pre = Tensor::Uninitialized({s.M, s.N});
  Gemm({kF32, a.raw_data(), b.raw_data(), nullptr, c.mutable_raw_data(), pre.mutable_raw_data(),
        s.M, s.N, s.K, false, false, Activation::kRelu});
  bool negative = false;
  for (int64_t i = 0; i < c.elements(); ++i) {
    EXPECT_EQ(c.data<float>()[i], std::max(pre.data<float>()[i], 0.0f));
    negative |= pre.data<float>()[i] < 0;
  }
  EXPECT_TRUE(negative);
}

}  // namespace
}  // namespace residual
