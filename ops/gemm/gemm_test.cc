#include "ops/gemm/gemm.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tensor/base/parallel.h"
#include "tensor/core/tensor.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

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

const Sizes kSizes[] = {{1, 1, 1},      {1, 33, 17},   {3, 64, 5},   {17, 1, 31},
                        {16, 16, 16},   {37, 67, 41},  {5, 7, 0},    {0, 3, 2},
                        {61, 131, 300}, {1, 2003, 37}, {4, 1501, 48}};

// Raw memory between guard bytes: the op's own tests reach these kernels through tensors, these
// reach every layout, dtype and edge of a tile directly, with a bias and an activation.
TEST_P(GemmTest, MultipliesInEveryLayoutAndDType) {
  SetHostGuardBytes(true);
  const int threads = NumThreads();
  for (const DType dtype : {kF32, kF64, kBF16, kF16}) {
    const DType wide = dtype == kF64 ? kF64 : kF32;
    for (const Sizes& s : kSizes) {
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

// A b of 16 bits beside an f32 a is as exact as f32, in every layout and edge.
TEST_P(GemmTest, WidensANarrowB) {
  SetHostGuardBytes(true);
  const int threads = NumThreads();
  std::vector<Sizes> sizes(std::begin(kSizes), std::end(kSizes));
  for (const Sizes& s : {Sizes{1, 301, 523}, {2, 130, 97}, {64, 3, 40}, {1, 50, 256}}) {
    sizes.push_back(s);
  }
  for (const DType dtype : {kBF16, kF16}) {
    for (const Sizes& s : sizes) {
      for (int layout = 0; layout < 4; ++layout) {
        const bool transpose_a = layout & 1, transpose_b = layout & 2;
        const Tensor a = RandomNormal({s.M, s.K}, 1, kF32);
        const Tensor b = RandomNormal({s.K, s.N}, 2, dtype);
        const Tensor bias = RandomNormal({s.N}, 3, kF32);
        const Tensor want = Reference(a, b, bias, s, transpose_a, transpose_b);
        const std::string what = absl::StrCat(Name(dtype), " [", s.M, ", ", s.K, "] [", s.K, ", ",
                                              s.N, "], layout ", layout);
        Tensor first;
        for (int n : {1, 2}) {
          SetNumThreads(n);
          Tensor c = Tensor::Uninitialized({s.M, s.N});
          GemmArgs args = {
              kF32, a.raw_data(), b.raw_data(), bias.raw_data(), c.mutable_raw_data(), nullptr, s.M,
              s.N,  s.K,          transpose_a,  transpose_b,     Activation::kRelu};
          args.narrow_b = dtype;
          Gemm(args);
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

// Bit for bit what rounding the operands first gives, and within an f32 sum's error of the formula.
TEST_P(GemmTest, RoundsOperandsOfF32WhereItReadsThem) {
  SetHostGuardBytes(true);
  for (const Sizes& s : std::vector<Sizes>{{1, 1, 1},
                                           {5, 7, 0},
                                           {2, 3, 7},
                                           {1, 33, 17},
                                           {1, 50, 71},
                                           {3, 64, 5},
                                           {7, 67, 65},
                                           {17, 1, 31},
                                           {37, 67, 41},
                                           {61, 131, 1030}}) {
    const Tensor bias = RandomNormal({s.N}, 3, kF32);
    for (int layout = 0; layout < 4; ++layout) {
      const bool transpose_a = layout & 1, transpose_b = layout & 2;
      const Tensor wide_a = RandomNormal({s.M, s.K}, 1, kF32);
      const Tensor wide_b = RandomNormal({s.K, s.N}, 2, kF32);
      const Tensor narrow_a = ConvertTo(wide_a, kBF16), narrow_b = ConvertTo(wide_b, kBF16);
      const Tensor want = Reference(narrow_a, narrow_b, bias, s, transpose_a, transpose_b);
      for (const DType result : {kF32, kBF16}) {
        Tensor first;
        for (int wide = 0; wide < 4; ++wide) {
          const Tensor &a = wide & 1 ? wide_a : narrow_a, &b = wide & 2 ? wide_b : narrow_b;
          Tensor c = Tensor::Uninitialized({s.M, s.N}, result);
          Gemm({kBF16, a.raw_data(), b.raw_data(), bias.raw_data(), c.mutable_raw_data(), nullptr,
                s.M, s.N, s.K, transpose_a, transpose_b, Activation::kRelu, a.dtype() == kF32,
                b.dtype() == kF32, result == kF32});
          const std::string what =
              absl::StrCat(a.ToString(), " ", b.ToString(), " ", Name(result), ", layout ", layout);
          ExpectClose(c, want, 8, what);
          if (wide > 0) ExpectIdentical(c, first, what);
          first = c;
        }
      }
    }
  }
  SetHostGuardBytes(false);
}

TEST_P(GemmTest, RoundsToNearestEvenAndKeepsInfinitiesAndNan) {
  // Halfway to the even neighbour below and above; just over halfway; too large for bf16.
  const std::vector<double> values = {1 + 0x1p-8, 1 + 0x3p-8, 1 + 0x1.02p-8, -1 - 0x3p-8,
                                      3.4e38,     INFINITY,   NAN,           0};
  const std::vector<double> want = {1,        1 + 0x1p-6, 1 + 0x1p-7, -1 - 0x1p-6,
                                    INFINITY, INFINITY,   NAN,        0};
  const int64_t n = values.size();
  const Tensor x = ConvertTo(Tensor::Of<double>({n}, values), kF32);
  for (int64_t copies : {1, 40}) {  // as a column times one, and one times a row
    const Tensor ones = Tensor::Full({copies}, 1, kF32);
    for (bool column : {true, false}) {
      Tensor c = Tensor::Uninitialized({n * copies});
      Gemm({kBF16, column ? x.raw_data() : ones.raw_data(), column ? ones.raw_data() : x.raw_data(),
            nullptr, c.mutable_raw_data(), nullptr, column ? n : copies, column ? copies : n, 1,
            false, false, Activation::kNone, true, true, true});
      for (int64_t i = 0; i < n; ++i) {
        const float got = c.data<float>()[column ? i * copies : i];
        if (std::isnan(want[i])) {
          EXPECT_TRUE(std::isnan(got));
        } else {
          EXPECT_EQ(got, static_cast<float>(want[i])) << values[i];
        }
      }
    }
  }
}

// Products of one a with weights of every width that may stand beside one another, in every layout
// and each way to make a product: the bits of one by one, and right.
TEST_P(GemmTest, MultipliesOneAWithNarrowAndWideTogether) {
  SetHostGuardBytes(true);
  const int threads = NumThreads();
  struct Weight {
    DType dtype;
    int64_t columns;
    bool transposed;
  };
  const std::vector<Weight> f32_weights = {{kBF16, 67, false}, {kF32, 40, true},  {kF16, 131, true},
                                           {kF32, 67, false},  {kBF16, 64, true}, {kF16, 5, false}};
  const std::vector<Weight> bf16_weights = {{kBF16, 67, false},
                                            {kF32, 40, true},
                                            {kF32, 131, false},
                                            {kBF16, 64, true},
                                            {kF32, 5, false}};
  struct Case {
    DType products, a;
    const std::vector<Weight>* weights;
  };
  const Case cases[] = {
      {kF32, kF32, &f32_weights}, {kBF16, kF32, &bf16_weights}, {kBF16, kBF16, &bf16_weights}};
  for (const Case& c : cases) {
    for (const int64_t M : {1, 7, 61}) {
      for (const int64_t K : {33, 530}) {
        for (const bool transpose_a : {false, true}) {
          const Tensor a = RandomNormal({M, K}, 1, c.a);
          const DType rounded = c.products == kBF16 ? kBF16 : kF32;
          std::vector<Tensor> b, bias, want, got, alone;
          std::vector<GemmArgs> products;
          const auto args_of = [&](size_t i, Tensor& y) {
            const Weight& w = (*c.weights)[i];
            GemmArgs args = {c.products,
                             a.raw_data(),
                             b[i].raw_data(),
                             bias[i].raw_data(),
                             y.mutable_raw_data(),
                             nullptr,
                             M,
                             w.columns,
                             K,
                             transpose_a,
                             w.transposed,
                             Activation::kRelu};
            if (c.products == kF32) {
              args.narrow_b = w.dtype;
            } else {
              args.f32_a = c.a == kF32;
              args.f32_b = w.dtype == kF32;
              args.f32_c = true;
            }
            return args;
          };
          for (size_t i = 0; i < c.weights->size(); ++i) {
            const Weight& w = (*c.weights)[i];
            b.push_back(RandomNormal({K, w.columns}, 10 + i, w.dtype));
            bias.push_back(RandomNormal({w.columns}, 30 + i, kF32));
            const Tensor as_multiplied =
                c.products == kBF16 ? ConvertTo(b[i], rounded) : ConvertTo(b[i], kF32);
            want.push_back(Reference(ConvertTo(a, rounded), as_multiplied, bias[i],
                                     {M, w.columns, K}, transpose_a, w.transposed));
            got.push_back(Tensor::Uninitialized({M, w.columns}));
            alone.push_back(Tensor::Uninitialized({M, w.columns}));
          }
          for (const int n : {1, 3}) {
            SetNumThreads(n);
            products.clear();
            for (size_t i = 0; i < b.size(); ++i) products.push_back(args_of(i, got[i]));
            GemmOfSameA(products);
            for (size_t i = 0; i < b.size(); ++i) {
              const std::string what =
                  absl::StrCat(Name(c.products), " of ", a.ToString(), transpose_a ? "^T " : " ",
                               b[i].ToString(), " ", n, " threads");
              Gemm(args_of(i, alone[i]));
              ExpectClose(got[i], want[i], 8, what);
              ExpectIdentical(got[i], alone[i], what);
            }
          }
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
