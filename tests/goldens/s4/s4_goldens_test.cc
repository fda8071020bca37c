// S4 and S4D against kernels and outputs that NumPy computed, see README.md.

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "ops/ssm_kernel/ssm_kernel.h"
#include "ops/ssm_recurrence/ssm_recurrence.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

class Golden {
 public:
  explicit Golden(const std::string& name)
      : inputs_(Open(name + "_inputs")), expected_(Open(name + "_expected")) {}

  Tensor Input(const std::string& name, DType dtype) const {
    return ConvertTo(inputs_.Read(name).value(), dtype);
  }
  const SafetensorsFile& inputs() const { return inputs_; }
  const SafetensorsFile& expected() const { return expected_; }

  // Rows of `got` against the tensor `name`, relative to each row's largest.
  void Expect(const Tensor& got, const std::string& name) const {
    const Tensor want = expected_.Read(name).value();
    ASSERT_EQ(got.shape(), want.shape()) << name;
    const double tolerance = got.dtype() == kF64 ? 1e-10 : 2e-5;
    const std::vector<double> ours = got.ToDoubles(), theirs = want.ToDoubles();
    const int64_t length = want.dim(1);
    for (int64_t row = 0; row < want.dim(0); ++row) {
      double worst = 0, largest = 0;
      for (int64_t i = row * length; i < (row + 1) * length; ++i) {
        worst = std::max(worst, std::abs(ours[i] - theirs[i]));
        largest = std::max(largest, std::abs(theirs[i]));
      }
      EXPECT_LE(worst, tolerance * largest) << name << " row " << row << " " << Name(got.dtype());
    }
  }

 private:
  static SafetensorsFile Open(const std::string& name) {
    return SafetensorsFile::Open("tests/goldens/s4/" + name + ".safetensors").value();
  }
  SafetensorsFile inputs_, expected_;
};

// [H, L] as one sequence, and back.
Tensor AsSequence(const Tensor& u) {
  Tensor turned = Tensor::Uninitialized({1, u.dim(1), u.dim(0)}, u.dtype());
  for (int64_t h = 0; h < u.dim(0); ++h) {
    for (int64_t t = 0; t < u.dim(1); ++t) {
      VisitDType(u.dtype(), [&](auto tag) {
        using T = decltype(tag);
        turned.mutable_data<T>()[t * u.dim(0) + h] = u.data<T>()[h * u.dim(1) + t];
      });
    }
  }
  return turned;
}
Tensor AsRows(const Tensor& y) {
  return AsSequence(y.Reshaped({y.dim(1), y.dim(2)})).Reshaped({y.dim(2), y.dim(1)});
}

TEST(S4GoldensTest, DiagonalKernelsAndRecurrences) {
  const Golden golden("s4d");
  int found = 0;
  for (const TensorInfo& info : golden.expected().tensors()) {
    if (!absl::EndsWith(info.name, ".K")) continue;
    const std::string key = info.name.substr(0, info.name.size() - 2);
    DiagonalKernelOptions options;
    if (absl::StrContains(key, "bilinear")) options.discretization = Discretization::kBilinear;
    for (const DType dtype : {kF64, kF32}) {
      const Tensor A = golden.Input(key + ".A", dtype), B = golden.Input(key + ".B", dtype);
      const Tensor C = golden.Input(key + ".C", dtype), dt = golden.Input(key + ".dt", dtype);
      golden.Expect(DiagonalSsmKernel(A, B, C, dt, info.shape[1], options), info.name);
      if (golden.inputs().Find(key + ".u") == nullptr) continue;
      const Tensor u = AsSequence(golden.Input(key + ".u", dtype));
      golden.Expect(AsRows(SsmRecurrence(DiscretizeDiagonal(A, B, C, dt, options), u).y),
                    key + ".y");
    }
    ++found;
  }
  EXPECT_EQ(found, 4);
}

TEST(S4GoldensTest, DiagonalPlusLowRankKernelsAndRecurrences) {
  const Golden golden("s4_dplr");
  DplrKernelOptions options;
  options.conjugate_pairs = false;
  for (const std::string key : {"0", "3"}) {
    for (const DType dtype : {kF64, kF32}) {
      const auto input = [&](const char* name) {
        return golden.Input(absl::StrCat(key, ".", name), dtype);
      };
      const Tensor Lambda = input("Lambda"), B = input("B_diag"), C = input("C_diag");
      const Tensor dt = input("dt");
      const Shape rank_one{1, Lambda.dim(0), 2};
      const Tensor P = input("P_diag").Reshaped(rank_one), Q = input("Q_diag").Reshaped(rank_one);
      const int64_t length = input("u").dim(1);
      golden.Expect(DplrSsmKernel(Lambda, P, Q, B, C, dt, length, options), key + ".K");
      const Tensor u = AsSequence(input("u"));
      golden.Expect(AsRows(SsmRecurrence(DiscretizeDplr(Lambda, P, Q, B, C, dt, false), u).y),
                    key + ".y_recurrent");
    }
  }
}

}  // namespace
}  // namespace residual
