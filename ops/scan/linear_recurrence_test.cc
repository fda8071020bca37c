#include "ops/scan/linear_recurrence.h"

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

TensorList ReferenceRecurrence(const TensorList& x) {
  const Tensor &a = x[0], &b = x[1];
  const int64_t length = a.dim(1), dim = a.dim(2);
  Tensor h = Tensor::Uninitialized(a.shape(), kF64);
  double* out = h.mutable_data<double>();
  for (int64_t i = 0; i < a.elements(); ++i) {
    const int64_t row = i / (length * dim), t = i / dim % length, c = i % dim;
    double before = x[2].defined() ? x[2].data<double>()[row * dim + c] : 0;
    if (t > 0) before = out[i - dim];
    out[i] = a.data<double>()[i] * before + b.data<double>()[i];
  }
  return {h};
}

OpCase RecurrenceCase() {
  OpCase op_case("linear_recurrence");
  op_case.Run([](const TensorList& x) { return TensorList{LinearRecurrence(x[0], x[1], x[2])}; })
      .Reference(ReferenceRecurrence)
      .Ulps(8);
  for (const Shape& shape : {Shape({1, 1, 1}), Shape({2, 5, 3}), Shape({1, 13, 17}),
                             Shape({3, 2, 130}), Shape({0, 4, 2}), Shape({2, 0, 3})}) {
    const OpInput decay(shape, OpInput::kUniform, -1, 1);
    op_case.Row({decay, OpInput(shape), OpInput(shape.Without(1))});
    op_case.Row({decay, OpInput(shape), OpInput(Tensor())});
  }
  return op_case;
}
RESIDUAL_OP_TEST(LinearRecurrence, RecurrenceCase());

TEST(LinearRecurrenceTest, CutsHaveTheBitsOfTheWhole) {
  const Tensor a = RandomNormal({10, 19}, 1, kF32), b = RandomNormal({10, 19}, 2, kF32);
  const auto part = [](const Tensor& x, int64_t begin, int64_t end) {
    return x.Rows(begin, end).Reshaped({1, end - begin, 19});
  };
  const Tensor whole = LinearRecurrence(part(a, 0, 10), part(b, 0, 10)).Reshaped({10, 19});
  const Tensor first = LinearRecurrence(part(a, 0, 4), part(b, 0, 4)).Reshaped({4, 19});
  const Tensor second = LinearRecurrence(part(a, 4, 10), part(b, 4, 10), first.Rows(3, 4));
  ExpectIdentical(first, whole.Rows(0, 4), "first part");
  ExpectIdentical(second.Reshaped({6, 19}), whole.Rows(4, 10), "second part");
}

TEST(LinearRecurrenceDeathTest, SaysWhatDoesNotFit) {
  const Tensor a = Tensor::Zeros({1, 2, 3});
  EXPECT_DEATH(LinearRecurrence(a, Tensor::Zeros({1, 2, 4})),
               "linear_recurrence.*f32\\[1, 2, 4\\]");
  EXPECT_DEATH(LinearRecurrence(a, a, Tensor::Zeros({3})), "linear_recurrence.*f32\\[3\\]");
}

}  // namespace
}  // namespace residual
