#include "tensor/autograd/tape.h"

#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

// Three ops in double, enough to test a tape: the real ones live above it.
Tensor Elementwise(const Tensor& a, const Tensor& b, double (*f)(double, double)) {
  Tensor y = Tensor::Uninitialized(a.shape(), kF64);
  double* out = y.mutable_data<double>();
  for (int64_t i = 0; i < a.elements(); ++i) out[i] = f(a.data<double>()[i], b.data<double>()[i]);
  return y;
}

Tensor Product(const Tensor& a, const Tensor& b) {
  auto times = [](double x, double y) { return x * y; };
  Tensor y = Elementwise(a, b, times);
  if (Tape* tape = Tape::For({&a, &b})) {
    tape->Record("product", {&a, &b}, {&y}, [a, b, times](auto dy, Needs needs) {
      return TensorList{needs[0] ? Elementwise(dy[0], b, times) : Tensor(),
                        needs[1] ? Elementwise(dy[0], a, times) : Tensor()};
    });
  }
  return y;
}

Tensor Total(const Tensor& a) {
  double sum = 0;
  for (double x : a.span<double>()) sum += x;
  Tensor y = Tensor::Scalar(sum, kF64);
  if (Tape* tape = Tape::For({&a})) {
    tape->Record("total", {&a}, {&y}, [shape = a.shape()](auto dy, Needs) {
      return TensorList{Tensor::Full(shape, dy[0].Item(), kF64)};
    });
  }
  return y;
}

// Two outputs: x + 1 and 2 x.
std::pair<Tensor, Tensor> Split(const Tensor& x) {
  Tensor a = Elementwise(x, x, [](double u, double) { return u + 1; });
  Tensor b = Elementwise(x, x, [](double u, double) { return 2 * u; });
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("split", {&x}, {&a, &b}, [](auto dy, Needs) {
      if (!dy[0].defined())
        return TensorList{Elementwise(dy[1], dy[1], [](double u, double) { return 2 * u; })};
      if (!dy[1].defined()) return TensorList{dy[0]};
      return TensorList{Elementwise(dy[0], dy[1], [](double u, double v) { return u + 2 * v; })};
    });
  }
  return {a, b};
}

Tensor Vector(std::vector<double> values) {
  const Shape shape{static_cast<int64_t>(values.size())};
  return Tensor::Of<double>(shape, values);
}

TEST(TapeTest, GradientOfAPolynomial) {
  Tensor x = Vector({2, -3});
  Tape tape;
  tape.Watch(x);
  const Tensor loss = Total(Product(Product(x, x), x));  // x^3
  Gradients grads = tape.Backward(loss);
  EXPECT_EQ(grads[x].ToDoubles(), (std::vector<double>{12, 27}));
}

TEST(TapeTest, RecordsOnlyWhatDependsOnAWatchedTensor) {
  Tensor x = Vector({1});
  const Tensor constant = Vector({5});
  Tape tape;
  tape.Watch(x);
  Product(constant, constant);
  EXPECT_EQ(tape.size(), 0);
  {
    NoTape no_tape;
    Product(x, x);
  }
  EXPECT_EQ(tape.size(), 0);
  EXPECT_EQ(tape.Backward(Total(Product(x, constant)))[x].Item(), 5);
}

TEST(TapeTest, KeepsTheGradientOfAnyTensorAskedFor) {
  Tensor x = Vector({2});
  Tape tape;
  tape.Watch(x);
  const Tensor square = Product(x, x);
  const Tensor fourth = Product(square, square);
  const Gradients grads = tape.Backward(Total(fourth), {square});
  EXPECT_EQ(grads[square].Item(), 8);
  EXPECT_EQ(grads[x].Item(), 32);
  EXPECT_DEATH(grads[fourth], "was not kept");
}

TEST(TapeTest, ManyUsesAddUp) {
  Tensor x = Vector({3});
  Tape tape;
  tape.Watch(x);
  const auto [plus_one, twice] = Split(x);
  const Tensor y = Product(plus_one, twice);  // 2 x (x + 1)
  const Tensor z = Product(y, x);             // 2 x^3 + 2 x^2
  EXPECT_EQ(tape.Backward(Total(z))[x].Item(), 6 * 9 + 4 * 3);
}

TEST(TapeTest, OutputsNothingReachedAreUndefined) {
  Tensor x = Vector({3});
  Tape tape;
  tape.Watch(x);
  EXPECT_EQ(tape.Backward(Total(Split(x).second))[x].Item(), 2);
}

TEST(TapeTest, UnconnectedIsZero) {
  Tensor x = Vector({3}), y = Vector({4, 5});
  Tape tape;
  tape.Watch(x);
  tape.Watch(y);
  const Gradients grads = tape.Backward(Total(x));
  EXPECT_EQ(grads[y].ToDoubles(), (std::vector<double>{0, 0}));
  EXPECT_FALSE(grads.Find(y).defined());
}

TEST(TapeTest, ReshapesAreTransparent) {
  Tensor x = Vector({1, 2, 3, 4});
  Tape tape;
  tape.Watch(x);
  const Tensor matrix = x.Reshaped({2, 2});
  const Tensor loss = Total(Product(matrix, matrix));
  const Gradients grads = tape.Backward(loss, {matrix});
  EXPECT_EQ(grads[x].shape(), (Shape{4}));
  EXPECT_EQ(grads[matrix].shape(), (Shape{2, 2}));
  EXPECT_EQ(grads[x].ToDoubles(), (std::vector<double>{2, 4, 6, 8}));
  EXPECT_DEATH(x.Rows(0, 1), "use Slice");
}

TEST(TapeTest, TapesNest) {
  Tensor x = Vector({2});
  Tape outer;
  outer.Watch(x);
  const Tensor y = Product(x, x);
  {
    Tensor inner_x = Vector({7});
    Tape inner;
    inner.Watch(inner_x);
    EXPECT_EQ(inner.Backward(Total(Product(inner_x, inner_x)))[inner_x].Item(), 14);
  }
  EXPECT_EQ(outer.Backward(Total(y))[x].Item(), 4);
}

TEST(TapeTest, SavedTensorsAreFreedDuringBackward) {
  const int64_t before = HostPoolStats().bytes_in_use;
  Tensor x = Tensor::Full({1 << 16}, 2, kF64);
  {
    Tape tape;
    tape.Watch(x);
    Tensor y = x;
    for (int i = 0; i < 8; ++i) y = Product(y, x);
    const Tensor loss = Total(y);
    y = Tensor();
    const int64_t recorded = HostPoolStats().bytes_in_use - before;
    EXPECT_GE(recorded, 8 * x.bytes());
    const Gradients grads = tape.Backward(loss);
    EXPECT_LE(HostPoolStats().bytes_in_use - before, 2 * x.bytes() + 4096);
    EXPECT_EQ(grads[x].data<double>()[17], 9 * 256.0);
  }
}

TEST(TapeDeathTest, SaysWhatIsWrong) {
  Tensor x = Vector({2});
  Tensor ids = Tensor::Zeros({2}, kI64);
  Tape tape;
  EXPECT_DEATH(tape.Watch(ids), "watching i64\\[2\\]");
  tape.Watch(x);
  EXPECT_DEATH(tape.Backward(Tensor::Zeros({3}, kF64)), "Backward of f64\\[3\\]");
  const Tensor loss = Total(x);
  tape.Backward(loss);
  EXPECT_DEATH(tape.Backward(loss), "ran already");
}

}  // namespace
}  // namespace residual
