#include "ops/embedding/embedding.h"

#include <vector>

#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

Tensor GatherReference(const Tensor& x, const Tensor& indices) {
  std::vector<int64_t> sizes(indices.shape().begin(), indices.shape().end());
  sizes.insert(sizes.end(), x.shape().begin() + 1, x.shape().end());
  Tensor y = Tensor::Uninitialized(Shape(sizes), kF64);
  const int64_t d = x.shape().elements(1, x.rank());
  const std::vector<double> rows = indices.ToDoubles(), values = x.ToDoubles();
  for (int64_t i = 0; i < indices.elements(); ++i) {
    for (int64_t c = 0; c < d; ++c) {
      y.mutable_data<double>()[i * d + c] = values[static_cast<int64_t>(rows[i]) * d + c];
    }
  }
  return y;
}

Tensor ScatterReference(int64_t rows, const Tensor& updates, const Tensor& indices) {
  std::vector<int64_t> sizes = {rows};
  sizes.insert(sizes.end(), updates.shape().begin() + indices.rank(), updates.shape().end());
  Tensor y = Tensor::Zeros(Shape(sizes), kF64);
  const int64_t d = y.shape().elements(1, y.rank());
  const std::vector<double> values = updates.ToDoubles();
  for (int64_t i = 0; i < indices.elements(); ++i) {
    for (int64_t c = 0; c < d; ++c) {
      y.mutable_data<double>()[indices.data<int64_t>()[i] * d + c] += values[i * d + c];
    }
  }
  return y;
}

Tensor TakeReference(const Tensor& x, const Tensor& indices, int axis) {
  const int64_t outer = x.shape().elements(0, axis), n = x.dim(axis), m = indices.dim(axis);
  const int64_t inner = x.shape().elements(axis + 1, x.rank());
  Tensor y = Tensor::Uninitialized(indices.shape(), kF64);
  const std::vector<double> values = x.ToDoubles(), at = indices.ToDoubles();
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t j = 0; j < m; ++j) {
      for (int64_t i = 0; i < inner; ++i) {
        const int64_t to = (o * m + j) * inner + i;
        y.mutable_data<double>()[to] = values[(o * n + static_cast<int64_t>(at[to])) * inner + i];
      }
    }
  }
  return y;
}

OpInput Ids(Shape shape, int64_t limit) {
  return OpInput(shape, OpInput::kIndex, 0, static_cast<double>(limit));
}

const std::vector<DType> kFloats = {kF32, kF64, kBF16, kF16};

RESIDUAL_OP_TEST(Embedding,
                 OpCase("embedding")
                     .Run([](const TensorList& x) { return TensorList{Embedding(x[0], x[1])}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{GatherReference(x[0], x[1])};
                     })
                     .Row({{1, 1}, Ids({}, 1)})
                     .Row({{5, 3}, Ids({7}, 5)})
                     .Row({{3, 17}, Ids({2, 9}, 3)})
                     .Row({{2, 300}, Ids({40}, 2)})
                     .Row({{100, 67}, Ids({3, 50}, 100)})
                     .Row({{4, 0}, Ids({3}, 4)})
                     .Row({{4, 5}, Ids({0}, 4)})
                     .Row({{5000, 33}, Ids({64}, 5000)})
                     .DTypes(kFloats)
                     .Ulps(0, 8));

RESIDUAL_OP_TEST(GatherRows,
                 OpCase("gather_rows")
                     .Run([](const TensorList& x) { return TensorList{GatherRows(x[0], x[1])}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{GatherReference(x[0], x[1])};
                     })
                     .Row({{6}, Ids({2, 2}, 6)})
                     .Row({{3, 2, 5}, Ids({4}, 3)})
                     .Ulps(0, 8));

RESIDUAL_OP_TEST(ScatterAddRows, OpCase("scatter_add_rows")
                                     .Run([](const TensorList& x) {
                                       return TensorList{ScatterAddRows(6, x[0], x[1])};
                                     })
                                     .Reference([](const TensorList& x) {
                                       return TensorList{ScatterReference(6, x[0], x[1])};
                                     })
                                     .Row({{7}, Ids({7}, 6)})
                                     .Row({{4, 3}, Ids({4}, 6)})
                                     .Row({{20, 3, 129}, Ids({20, 3}, 6)})
                                     .Row({{0, 3}, Ids({0}, 6)})
                                     .Row({{3, 0}, Ids({3}, 6)})
                                     .DTypes(kFloats)
                                     .Ulps(8, 1));

RESIDUAL_OP_TEST(TakeAlongLast,
                 OpCase("take_along")
                     .Run([](const TensorList& x) { return TensorList{TakeAlong(x[0], x[1])}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{TakeReference(x[0], x[1], x[0].rank() - 1)};
                     })
                     .Row({{1}, Ids({1}, 1)})
                     .Row({{3, 7}, Ids({3, 1}, 7)})
                     .Row({{2, 3, 5}, Ids({2, 3, 9}, 5)})
                     .Row({{2, 5}, Ids({2, 0}, 5)})
                     .DTypes(kFloats)
                     .Ulps(0, 8));

RESIDUAL_OP_TEST(TakeAlongFirst,
                 OpCase("take_along")
                     .Run([](const TensorList& x) { return TensorList{TakeAlong(x[0], x[1], 0)}; })
                     .Reference([](const TensorList& x) {
                       return TensorList{TakeReference(x[0], x[1], 0)};
                     })
                     .Row({{4, 3}, Ids({6, 3}, 4)})
                     .Row({{5, 2, 33}, Ids({1, 2, 33}, 5)})
                     .Ulps(0, 8));

TEST(EmbeddingTest, IdsOfEitherWidth) {
  const Tensor table = RandomNormal({9, 4}, 1, kF32);
  const Tensor ids = Tensor::Of<int64_t>({2, 2}, {8, 0, 3, 3});
  const Tensor narrow = ConvertTo(ids, kI32);
  ExpectIdentical(Embedding(table, narrow), Embedding(table, ids), "embedding");
  ExpectIdentical(ScatterAddRows(9, Embedding(table, ids), narrow),
                  ScatterAddRows(9, Embedding(table, ids), ids), "scatter");
}

TEST(EmbeddingTest, GathersIntegers) {
  const Tensor x = Tensor::Of<int64_t>({3, 1}, {10, 20, int64_t{1} << 60});
  EXPECT_EQ(GatherRows(x, Tensor::Of<int64_t>({2}, {2, 0})).span<int64_t>()[0], int64_t{1} << 60);
  EXPECT_EQ(TakeAlong(x, Tensor::Of<int32_t>({1, 1}, {1}), 0).span<int64_t>()[0], 20);
}

// Many reads of one row: bf16 gradients are added in f32 and rounded once.
TEST(EmbeddingTest, SumsOfNarrowFloatsAreRoundedOnce) {
  for (DType dtype : {kBF16, kF16}) {
    Tensor table = Tensor::Full({1, 19}, 1, dtype);
    Tape tape;
    tape.Watch(table);
    const Tensor y = Embedding(table, Tensor::Zeros({1000}, kI64));
    const Gradients grads = tape.Backward({y}, {Tensor::Full(y.shape(), 1, dtype)}, {});
    for (double value : grads[table].ToDoubles()) EXPECT_EQ(value, 1000);
  }
}

// The gradient into a table like GPT-2's: mostly rows that nothing read.
TEST(EmbeddingTest, GradientOfALargeTable) {
  Tensor table = Tensor::Zeros({50257, 5});
  const Tensor ids = Tensor::Of<int64_t>({4}, {50256, 7, 50256, 0});
  Tape tape;
  tape.Watch(table);
  const Tensor y = Embedding(table, ids);
  const Tensor dy = RandomNormal({4, 5}, 3, kF32);
  const Gradients grads = tape.Backward({y}, {dy}, {});
  ExpectClose(grads[table], ScatterReference(50257, dy, ids), 1, "gradient");
}

TEST(EmbeddingDeathTest, NamesTheIndexAndTheTable) {
  const Tensor table = Tensor::Zeros({5, 2});
  EXPECT_DEATH(Embedding(table, Tensor::Of<int64_t>({1, 3}, {0, 4, 5})),
               "embedding: index 5 at position 2 of i64\\[1, 3\\] is not in \\[0, 5\\)");
  EXPECT_DEATH(Embedding(table, Tensor::Of<int32_t>({1}, {-1})), "index -1 at position 0");
  EXPECT_DEATH(Embedding(table, Tensor::Zeros({1})), "embedding.*f32\\[1\\]");
  EXPECT_DEATH(Embedding(Tensor::Zeros({5}), Tensor::Zeros({1}, kI64)), "embedding.*f32\\[5\\]");
  EXPECT_DEATH(ScatterAddRows(5, Tensor::Zeros({3, 2}), Tensor::Zeros({4}, kI64)),
               "scatter_add_rows.*f32\\[3, 2\\].*i64\\[4\\]");
  EXPECT_DEATH(TakeAlong(table, Tensor::Zeros({4, 1}, kI64)), "take_along.*i64\\[4, 1\\]");
  EXPECT_DEATH(TakeAlong(table, Tensor::Of<int64_t>({5, 1}, {0, 1, 2, 0, 0})),
               "take_along: index 2 at position 2");
}

}  // namespace
}  // namespace residual
