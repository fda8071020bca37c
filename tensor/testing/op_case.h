// One table per op drives every test of it:
//
//   RESIDUAL_OP_TEST(Softmax, OpCase("softmax")
//       .Run([](const TensorList& x) { return TensorList{Softmax(x[0])}; })
//       .Reference([](const TensorList& x) { return TensorList{SoftmaxReference(x[0])}; })
//       .Shapes({{{1}}, {{3, 1}}, {{2, 7}}, {{4, 33}}, {{2, 3, 5, 64}}})
//       .Ulps(8));
//
// expands to a test suite that runs, for every Highway target this processor has and for every row
// of the table:
//   - the value in each dtype against the reference, which is plain loops in double;
//   - the VJP in float64 against central differences of the reference, and in the other dtypes
//     against the VJP in float64;
//   - the inputs unchanged, nothing written past the end of any tensor, misaligned inputs;
//   - outputs and gradients with 1, 2, 3, 4 and 7 threads, bit for bit equal.

#ifndef RESIDUAL_TENSOR_TESTING_OP_CASE_H_
#define RESIDUAL_TENSOR_TESTING_OP_CASE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "tensor/core/tensor.h"

namespace residual {

// How one operand is made. Random numbers are drawn in double and rounded to the dtype under test,
// so all dtypes and the reference see the same values.
struct OpInput {
  enum Kind {
    kNormal,    // standard normal, in the dtype under test
    kPositive,  // uniform in [0.5, 2)
    kUniform,   // uniform in [low, high)
    kIndex,     // int64, uniform in [0, high)
    kBits,      // bool, true with probability one half
    kGiven      // `value`; floats are converted to the dtype under test
  };
  OpInput(Shape s, Kind k = kNormal, double low_value = 0, double high_value = 1)  // NOLINT
      : shape(s), kind(k), low(low_value), high(high_value) {}
  OpInput(std::initializer_list<int64_t> s) : shape(s) {}  // NOLINT: a list of shapes reads well
  explicit OpInput(Tensor given) : shape(given.shape()), kind(kGiven), value(given) {}

  Shape shape;
  Kind kind = kNormal;
  double low = 0, high = 1;
  Tensor value;
};

class OpCase {
 public:
  using Function = std::function<TensorList(const TensorList&)>;

  explicit OpCase(std::string op) : op_(std::move(op)) {}

  // The op under test: inputs to outputs.
  OpCase& Run(Function run);
  // The same in double: gets float64 tensors (integers and bools as they are), returns float64.
  OpCase& Reference(Function reference);
  // Rows of the table, with standard normal inputs of these shapes.
  OpCase& Shapes(std::vector<std::vector<Shape>> rows);
  // One row with inputs made otherwise.
  OpCase& Row(std::vector<OpInput> inputs);
  // The dtypes of float inputs; default f32 and f64.
  OpCase& DTypes(std::vector<DType> dtypes);
  // Error allowed in a value, in units of the dtype's epsilon times (|value| + the largest
  // |value| of the tensor); default 8. Gradients: `gradient_ulps`, default 4 times as much.
  OpCase& Ulps(double value_ulps, double gradient_ulps = 0);
  // No VJP (an op on integers, an optimizer step).
  OpCase& NoGradient();

  void CheckValues() const;
  void CheckGradients() const;
  void CheckMemory() const;
  void CheckThreads() const;
  // The op on a GPU, or on an emulated one, against the reference, in each dtype; skips without
  // either. For ops that have a CUDA kernel.
  void CheckCuda() const;

 private:
  struct Inputs {
    TensorList tensors;  // in the dtype under test
    TensorList doubles;  // the same values in float64
  };
  Inputs Make(size_t row, DType dtype, bool misaligned = false) const;
  std::string Describe(size_t row, DType dtype) const;
  // Outputs, and the gradients of sum(output * g) for float inputs.
  struct Results {
    TensorList outputs, gradients;
  };
  Results Compute(const TensorList& inputs) const;

  std::string op_;
  Function run_, reference_;
  std::vector<std::vector<OpInput>> rows_;
  std::vector<DType> dtypes_ = {kF32, kF64};
  double value_ulps_ = 8, gradient_ulps_ = 32;
  bool gradient_ = true;
};

// Distance between neighbours of 1 in a float dtype.
double Epsilon(DType dtype);

// EXPECTs |got - want| <= ulps * Epsilon(got.dtype()) * (|want| + max |want|) for every element,
// infinities and NaNs equal. `want` is float64.
void ExpectClose(const Tensor& got, const Tensor& want, double ulps, const std::string& what);

// EXPECTs the same bits.
void ExpectIdentical(const Tensor& got, const Tensor& want, const std::string& what);

// Standard normal numbers in double, a pure function of the seed.
Tensor RandomNormal(const Shape& shape, uint64_t seed, DType dtype = kF64);

// x on another device, not tracked.
Tensor ToDevice(const Tensor& x, Device device);

// Runs each test once per Highway target of this processor.
class EachTarget : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::SetSupportedTargetsForTest(GetParam()); }
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

}  // namespace residual

#define RESIDUAL_EACH_TARGET(Suite)                                                  \
  INSTANTIATE_TEST_SUITE_P(Targets, Suite,                                           \
                           testing::ValuesIn(::hwy::SupportedAndGeneratedTargets()), \
                           [](const testing::TestParamInfo<int64_t>& info) {         \
                             return std::string(::hwy::TargetName(info.param));      \
                           })

#define RESIDUAL_OP_TEST(Name, ...)                                                 \
  class Name##OpTest : public ::residual::EachTarget {                              \
   protected:                                                                       \
    static const ::residual::OpCase& OpCase_() {                                    \
      static const auto* op_case = new ::residual::OpCase(__VA_ARGS__);             \
      return *op_case;                                                              \
    }                                                                               \
  };                                                                                \
  RESIDUAL_EACH_TARGET(Name##OpTest);                                               \
  TEST_P(Name##OpTest, ValuesMatchTheReference) { OpCase_().CheckValues(); }        \
  TEST_P(Name##OpTest, GradientsMatchDifferences) { OpCase_().CheckGradients(); }   \
  TEST_P(Name##OpTest, TouchesOnlyItsOutputs) { OpCase_().CheckMemory(); }          \
  TEST_P(Name##OpTest, SameBitsForAnyNumberOfThreads) { OpCase_().CheckThreads(); } \
  static_assert(true, "a semicolon follows")

// For an op that has a CUDA kernel; in NAME_cuda_test.cc. The reference may be the op itself, which
// gets float64 tensors on the host.
#define RESIDUAL_OP_CUDA_TEST(Name, ...) \
  TEST(Name##CudaTest, MatchesTheReference) { (__VA_ARGS__).CheckCuda(); }

#endif  // RESIDUAL_TENSOR_TESTING_OP_CASE_H_
