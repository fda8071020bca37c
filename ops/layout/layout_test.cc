#include "ops/layout/layout.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

// References: by index, one element at a time.

std::vector<int64_t> IndexOf(int64_t flat, const Shape& shape) {
  std::vector<int64_t> index(shape.rank());
  for (int i = shape.rank() - 1; i >= 0; --i) {
    index[i] = flat % shape[i];
    flat /= shape[i];
  }
  return index;
}

int64_t FlatOf(const std::vector<int64_t>& index, const Shape& shape) {
  int64_t flat = 0;
  for (int i = 0; i < shape.rank(); ++i) flat = flat * shape[i] + index[i];
  return flat;
}

// y[index] = x[source(index)].
template <class Source>
Tensor ByIndex(const Tensor& x, const Shape& shape, Source source) {
  Tensor y = Tensor::Uninitialized(shape, kF64);
  const std::vector<double> values = x.ToDoubles();
  for (int64_t i = 0; i < y.elements(); ++i) {
    y.mutable_data<double>()[i] = values[FlatOf(source(IndexOf(i, shape)), x.shape())];
  }
  return y;
}

Tensor SliceReference(const Tensor& x, int axis, int64_t begin, int64_t end) {
  return ByIndex(x, x.shape().With(axis, end - begin), [&](std::vector<int64_t> index) {
    index[axis] += begin;
    return index;
  });
}

Tensor ConcatReference(const TensorList& parts, int axis) {
  int64_t n = 0;
  for (const Tensor& part : parts) n += part.dim(axis);
  Tensor y = Tensor::Uninitialized(parts[0].shape().With(axis, n), kF64);
  for (int64_t i = 0; i < y.elements(); ++i) {
    std::vector<int64_t> index = IndexOf(i, y.shape());
    size_t p = 0;
    while (index[axis] >= parts[p].dim(axis)) index[axis] -= parts[p++].dim(axis);
    y.mutable_data<double>()[i] = parts[p].ToDoubles()[FlatOf(index, parts[p].shape())];
  }
  return y;
}

Tensor PermuteReference(const Tensor& x, const std::vector<int>& perm) {
  std::vector<int64_t> sizes;
  for (int axis : perm) sizes.push_back(x.dim(axis));
  return ByIndex(x, Shape(sizes), [&](const std::vector<int64_t>& index) {
    std::vector<int64_t> source(index.size());
    for (size_t i = 0; i < index.size(); ++i) source[perm[i]] = index[i];
    return source;
  });
}

Tensor BroadcastReference(const Tensor& x, const Shape& shape) {
  return ByIndex(x, shape, [&](const std::vector<int64_t>& index) {
    std::vector<int64_t> source(index.end() - x.rank(), index.end());
    for (int i = 0; i < x.rank(); ++i) source[i] = std::min(source[i], x.dim(i) - 1);
    return source;
  });
}

Tensor RepeatReference(const Tensor& x, int axis, int64_t times) {
  return ByIndex(x, x.shape().With(axis, x.dim(axis) * times), [&](std::vector<int64_t> index) {
    index[axis] /= times;
    return index;
  });
}

const std::vector<DType> kFloats = {kF32, kF64, kBF16, kF16};

RESIDUAL_OP_TEST(SliceRows,
                 OpCase("slice")
                     .Run([](const TensorList& x) { return TensorList{Slice(x[0], 0, 1, 3)}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{SliceReference(x[0], 0, 1, 3)};
                     })
                     .Shapes({{{3}}, {{4, 5}}, {{7, 1, 3}}, {{5, 0}}})
                     .DTypes(kFloats)
                     .Ulps(0));

RESIDUAL_OP_TEST(
    SliceMiddle,
    OpCase("slice")
        .Run([](const TensorList& x) { return TensorList{Slice(x[0], 1, 2, 5)}; })
        .Reference([](const TensorList& x) { return TensorList{SliceReference(x[0], 1, 2, 5)}; })
        .Shapes({{{3, 5}}, {{1, 6, 3}}, {{2, 7, 1}}, {{3, 9, 17}}, {{2, 11, 2, 5}}, {{0, 5, 3}}})
        .DTypes(kFloats)
        .Ulps(0));

RESIDUAL_OP_TEST(SliceNothing,
                 OpCase("slice")
                     .Run([](const TensorList& x) { return TensorList{Slice(x[0], -1, 1, 1)}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{SliceReference(x[0], x[0].rank() - 1, 1, 1)};
                     })
                     .Shapes({{{3}}, {{4, 5}}})
                     .Ulps(0));

RESIDUAL_OP_TEST(ConcatLast, OpCase("concat")
                                 .Run([](const TensorList& x) { return TensorList{Concat(x, -1)}; })
                                 .Reference([](const TensorList& x) {
                                   return TensorList{ConcatReference(x, x[0].rank() - 1)};
                                 })
                                 .Shapes({{{1}, {2}},
                                          {{3, 1}, {3, 4}, {3, 2}},
                                          {{2, 3, 17}, {2, 3, 0}, {2, 3, 31}},
                                          {{0, 3}, {0, 2}},
                                          {{4, 5}}})
                                 .DTypes(kFloats)
                                 .Ulps(0));

RESIDUAL_OP_TEST(ConcatFirst,
                 OpCase("concat")
                     .Run([](const TensorList& x) { return TensorList{Concat(x, 0)}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{ConcatReference(x, 0)};
                     })
                     .Shapes({{{1, 3}, {2, 3}}, {{5, 2, 2}, {1, 2, 2}, {0, 2, 2}, {3, 2, 2}}})
                     .Ulps(0));

RESIDUAL_OP_TEST(SplitMiddle,
                 OpCase("split")
                     .Run([](const TensorList& x) {
                       return Split(x[0], 1, {2, 0, 3});
                     })
                     .Reference([](const TensorList& x) {
                       return TensorList{SliceReference(x[0], 1, 0, 2),
                                         SliceReference(x[0], 1, 2, 2),
                                         SliceReference(x[0], 1, 2, 5)};
                     })
                     .Shapes({{{1, 5}}, {{3, 5}}, {{2, 5, 7}}, {{4, 5, 2, 3}}, {{0, 5}}})
                     .DTypes(kFloats)
                     .Ulps(0));

RESIDUAL_OP_TEST(TransposeLast,
                 OpCase("permute")
                     .Run([](const TensorList& x) { return TensorList{Transpose(x[0], -1, -2)}; })
                     .Reference([](const TensorList& x) {
                       std::vector<int> perm(x[0].rank());
                       std::iota(perm.begin(), perm.end(), 0);
                       std::swap(perm[x[0].rank() - 1], perm[x[0].rank() - 2]);
                       return TensorList{PermuteReference(x[0], perm)};
                     })
                     .Shapes({{{1, 1}},
                              {{1, 7}},
                              {{2, 3}},
                              {{15, 16}},
                              {{16, 16}},
                              {{17, 33}},
                              {{32, 96}},
                              {{3, 65, 31}},
                              {{0, 4}},
                              {{2, 71, 259}}})
                     .DTypes(kFloats)
                     .Ulps(0));

RESIDUAL_OP_TEST(
    PermuteHeads,
    OpCase("permute")
        .Run([](const TensorList& x) {
          return TensorList{Permute(x[0], {0, 2, 1, 3})};
        })
        .Reference([](const TensorList& x) {
          return TensorList{PermuteReference(x[0], {0, 2, 1, 3})};
        })
        .Shapes({{{1, 2, 3, 4}}, {{2, 5, 3, 1}}, {{2, 3, 4, 2}}, {{2, 17, 3, 64}}, {{3, 1, 4, 5}}})
        .DTypes(kFloats)
        .Ulps(0));

RESIDUAL_OP_TEST(PermuteReversed, OpCase("permute")
                                      .Run([](const TensorList& x) {
                                        return TensorList{Permute(x[0], {2, 1, 0})};
                                      })
                                      .Reference([](const TensorList& x) {
                                        return TensorList{PermuteReference(x[0], {2, 1, 0})};
                                      })
                                      .Shapes({{{2, 3, 4}}, {{17, 2, 18}}, {{5, 33, 1}}})
                                      .Ulps(0));

RESIDUAL_OP_TEST(BroadcastLeading, OpCase("broadcast_to")
                                       .Run([](const TensorList& x) {
                                         return TensorList{BroadcastTo(x[0], {3, 5, 7})};
                                       })
                                       .Reference([](const TensorList& x) {
                                         return TensorList{BroadcastReference(x[0], {3, 5, 7})};
                                       })
                                       .Shapes({{Shape{}},
                                                {{7}},
                                                {{1}},
                                                {{5, 7}},
                                                {{5, 1}},
                                                {{3, 1, 1}},
                                                {{1, 5, 1}},
                                                {{3, 1, 7}},
                                                {{3, 5, 7}}})
                                       .DTypes(kFloats)
                                       .Ulps(0, 8));

// Gradients that sum over thousands of terms of both signs, which all but cancel: their error is
// small beside the terms, not beside the sum.
RESIDUAL_OP_TEST(BroadcastFar, OpCase("broadcast_to")
                                   .Run([](const TensorList& x) {
                                     return TensorList{BroadcastTo(x[0], {2, 9001, 2})};
                                   })
                                   .Reference([](const TensorList& x) {
                                     return TensorList{BroadcastReference(x[0], {2, 9001, 2})};
                                   })
                                   .Shapes({{{1}}, {{2}}, {{2, 1, 1}}, {{2, 1, 2}}, {{9001, 1}}})
                                   .Ulps(0, 2000));

RESIDUAL_OP_TEST(BroadcastToNothing, OpCase("broadcast_to")
                                         .Run([](const TensorList& x) {
                                           return TensorList{BroadcastTo(x[0], {0, 3})};
                                         })
                                         .Reference([](const TensorList& x) {
                                           return TensorList{BroadcastReference(x[0], {0, 3})};
                                         })
                                         .Shapes({{{3}}, {{1, 1}}, {{0, 1}}})
                                         .Ulps(0));

RESIDUAL_OP_TEST(Repeat,
                 OpCase("repeat")
                     .Run([](const TensorList& x) { return TensorList{Repeat(x[0], 1, 3)}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{RepeatReference(x[0], 1, 3)};
                     })
                     .Shapes({{{2, 1}}, {{2, 3}}, {{2, 3, 5}}, {{1, 2, 2, 17}}, {{2, 0, 3}}})
                     .DTypes(kFloats)
                     .Ulps(0, 8));

RESIDUAL_OP_TEST(CastToDouble,
                 OpCase("cast")
                     .Run([](const TensorList& x) { return TensorList{Cast(x[0], kF64)}; })
                     .Reference([](const TensorList& x) { return TensorList{x[0]}; })
                     .Shapes({{Shape{}}, {{3}}, {{2, 17}}, {{0}}})
                     .DTypes(kFloats)
                     .Ulps(0, 1));

// The bytes of every dtype, every permutation, sizes around the tiles of the kernels.
TEST(LayoutTest, PermutesEveryDType) {
  for (DType dtype : {kF32, kF64, kBF16, kF16, kI64, kI32, DType::kI16, DType::kI8, kU8, kBool}) {
    for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{3, 1, 17, 34}, Shape{66, 2, 1, 65}}) {
      Tensor counting = Tensor::Uninitialized(shape, kI64);
      for (int64_t i = 0; i < counting.elements(); ++i) {
        counting.mutable_data<int64_t>()[i] = i * 7 % 127;
      }
      const Tensor x = ConvertTo(counting, dtype);
      std::vector<int> perm = {0, 1, 2, 3};
      do {
        const Tensor y = Permute(x, perm);
        ASSERT_EQ(y.dtype(), dtype);
        ExpectIdentical(ConvertTo(y, kF64), PermuteReference(x, perm), y.ToString());
      } while (std::next_permutation(perm.begin(), perm.end()));
    }
  }
}

TEST(LayoutTest, MovesIntegers) {
  const Tensor x = Tensor::Of<int64_t>({2, 3}, {1, 2, 3, 4, 5, int64_t{1} << 62});
  EXPECT_EQ(Slice(x, 1, 1, 3).span<int64_t>()[3], int64_t{1} << 62);
  EXPECT_EQ(Concat({x, x}, 1).ToDoubles(),
            (std::vector<double>{1, 2, 3, 1, 2, 3, 4, 5, 0x1p62, 4, 5, 0x1p62}));
  const Tensor flags = Tensor::Of<bool>({2, 1}, {true, false});
  EXPECT_EQ(BroadcastTo(flags, {2, 2}).ToDoubles(), (std::vector<double>{1, 1, 0, 0}));
  EXPECT_EQ(Repeat(flags, 0, 2).ToDoubles(), (std::vector<double>{1, 1, 0, 0}));
}

TEST(LayoutTest, CostsNothingWhereNothingMoves) {
  const Tensor x = RandomNormal({4, 1, 6}, 1);
  const char* bytes = static_cast<const char*>(x.raw_data());
  EXPECT_EQ(Slice(x, 0, 1, 3).raw_data(), bytes + 6 * sizeof(double));
  EXPECT_EQ(Slice(x, 2, 0, 6).raw_data(), bytes);
  EXPECT_EQ(Slice(x.Reshaped({1, 24}), 1, 5, 6).raw_data(), bytes + 5 * sizeof(double));
  EXPECT_EQ(Split(x, 0, {1, 3})[1].raw_data(), bytes + 6 * sizeof(double));
  EXPECT_EQ(Permute(x, {1, 0, 2}).raw_data(), bytes);
  EXPECT_EQ(BroadcastTo(x, {1, 4, 1, 6}).raw_data(), bytes);
  EXPECT_EQ(Concat({x}, 0).raw_data(), bytes);
  EXPECT_EQ(Cast(x, kF64).raw_data(), bytes);
}

// What is free is still on the tape.
TEST(LayoutTest, GradientsFlowThroughFreeMoves) {
  Tensor x = Tensor::Of<double>({3, 1, 2}, {1, 2, 3, 4, 5, 6});
  Tape tape;
  tape.Watch(x);
  const Tensor y = Permute(Slice(x, 0, 1, 2), {1, 0, 2});
  ASSERT_TRUE(tape.Tracks(y));
  const Gradients grads = tape.Backward({y}, {Tensor::Of<double>({1, 1, 2}, {10, 20})}, {});
  EXPECT_EQ(grads[x].ToDoubles(), (std::vector<double>{0, 0, 10, 20, 0, 0}));
}

TEST(LayoutTest, GradientOfASplitThatIsPartlyUsed) {
  Tensor x = Tensor::Of<double>({2, 3}, {1, 2, 3, 4, 5, 6});
  Tape tape;
  tape.Watch(x);
  const TensorList parts = Split(x, 1, {1, 2});
  const Gradients grads = tape.Backward({parts[1]}, {Tensor::Of<double>({2, 2}, {1, 2, 3, 4})}, {});
  EXPECT_EQ(grads[x].ToDoubles(), (std::vector<double>{0, 1, 2, 0, 3, 4}));
}

TEST(LayoutTest, OneTensorManyTimesInAConcat) {
  Tensor x = Tensor::Of<double>({1, 2}, {3, 5});
  Tape tape;
  tape.Watch(x);
  const std::vector<Tensor> parts(70, x);
  const Tensor y = Concat(parts, 0);
  EXPECT_EQ(y.shape(), (Shape{70, 2}));
  const Gradients grads = tape.Backward({y}, {Tensor::Full({70, 2}, 1, kF64)}, {});
  EXPECT_EQ(grads[x].ToDoubles(), (std::vector<double>{70, 70}));
}

TEST(LayoutTest, CastRoundsToNearestEvenAndTruncatesToIntegers) {
  const Tensor x = Tensor::Of<float>({4}, {1.00390625f, 1.01171875f, -2.75f, 3.99f});
  EXPECT_EQ(Cast(x, kBF16).ToDoubles(), (std::vector<double>{1, 1.015625, -2.75, 3.984375}));
  EXPECT_EQ(Cast(x, kI32).ToDoubles(), (std::vector<double>{1, 1, -2, 3}));
  EXPECT_EQ(Cast(Tensor::Of<float>({2}, {0, -0.5f}), kBool).ToDoubles(),
            (std::vector<double>{0, 1}));
}

// Long sums in f32 keep their digits: 2^24 + 1 could not be counted by adding ones.
TEST(LayoutTest, GradientOfALongBroadcast) {
  constexpr int64_t n = (1 << 22) + 3;
  Tensor x = Tensor::Scalar(1);
  Tape tape;
  tape.Watch(x);
  const Tensor y = BroadcastTo(x, {n});
  const Gradients grads = tape.Backward({y}, {Tensor::Full({n}, 0.1)}, {});
  EXPECT_NEAR(grads[x].Item(), 0.1f * static_cast<double>(n), 1e-6 * n);
}

TEST(LayoutDeathTest, NamesTheOpAndTheShapes) {
  const Tensor x = Tensor::Zeros({2, 3});
  EXPECT_DEATH(Slice(x, 1, 2, 4), "slice: \\[2, 4\\) of axis 1 of f32\\[2, 3\\]");
  EXPECT_DEATH(Slice(x, 2, 0, 1), "axis 2 of the shape \\[2, 3\\]");
  EXPECT_DEATH(Concat({x, Tensor::Zeros({3, 3})}, 1), "concat.*f32\\[2, 3\\].*f32\\[3, 3\\]");
  EXPECT_DEATH(Concat({x, Tensor::Zeros({2, 3}, kF64)}, 1), "concat.*f32.*f64");
  EXPECT_DEATH(Concat({}, 0), "concat of nothing");
  EXPECT_DEATH(Split(x, 1, {1, 1}), "split: parts of 2 in all along axis 1 of f32\\[2, 3\\]");
  EXPECT_DEATH(Permute(x, {0, 0}), "permute: axis 0 of f32\\[2, 3\\] is named twice");
  EXPECT_DEATH(Permute(x, {0}), "permute.*f32\\[2, 3\\]");
  EXPECT_DEATH(BroadcastTo(x, {3, 3}), "broadcast_to: f32\\[2, 3\\] to \\[3, 3\\]");
  EXPECT_DEATH(BroadcastTo(x, {3}), "broadcast_to: f32\\[2, 3\\] to \\[3\\]");
}

}  // namespace
}  // namespace residual
