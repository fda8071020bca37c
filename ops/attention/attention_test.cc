#include "ops/attention/attention.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/autograd/tape.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A row of the table is q, k, v, bias, key mask, and these options as integers.
enum Option { kCausal, kWindow, kAlibi, kScalePercent, kOptions };

Tensor Slopes(int64_t n_heads) {
  std::vector<double> slopes(n_heads);
  for (int64_t h = 0; h < n_heads; ++h) slopes[h] = std::exp2(-8.0 * (h + 1) / n_heads);
  return Tensor::Of<double>({n_heads}, slopes);
}

AttentionOptions OptionsOf(const TensorList& x) {
  const int64_t* flags = x[5].data<int64_t>();
  AttentionOptions options;
  options.causal = flags[kCausal] != 0;
  options.window = flags[kWindow];
  if (flags[kAlibi] != 0) options.alibi_slopes = Slopes(x[0].dim(2));
  if (flags[kScalePercent] != 0) options.scale = flags[kScalePercent] / 100.0;
  options.bias = x[3];
  options.key_mask = x[4];
  return options;
}

// The formula of attention.h, one number at a time, all in double.
Tensor Reference(const TensorList& x) {
  const Tensor &q = x[0], &k = x[1], &v = x[2];
  const AttentionOptions options = OptionsOf(x);
  const int64_t batch = q.dim(0), query = q.dim(1), heads = q.dim(2), d_head = q.dim(3);
  const int64_t key = k.dim(1), kv_heads = k.dim(2);
  const double scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(d_head)));
  auto elements = [](const Tensor& t) {  // t(a, b, c, d); not called where t is undefined
    const double* data = t.defined() ? t.data<double>() : nullptr;
    const Shape n = t.defined() ? t.shape() : Shape{0, 0, 0, 0};
    return [data, n1 = n[1], n2 = n[2], n3 = n[3]](int64_t a, int64_t b, int64_t c, int64_t d) {
      return data[((a * n1 + b) * n2 + c) * n3 + d];
    };
  };
  const auto q_at = elements(q), k_at = elements(k), v_at = elements(v);
  const auto bias_at = elements(options.bias);
  Tensor z = Tensor::Zeros(q.shape(), kF64);
  double* out = z.mutable_data<double>();
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < query; ++i) {
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t g = h / (heads / kv_heads), position = i + key - query;
        std::vector<double> weight(key);
        double sum = 0;
        for (int64_t j = 0; j < key; ++j) {
          if (options.causal && j > position) continue;
          if (options.window > 0 && std::abs(position - j) >= options.window) continue;
          const Tensor& mask = options.key_mask;
          if (mask.defined() && !mask.data<bool>()[(mask.dim(0) == 1 ? 0 : b) * key + j]) continue;
          double score = 0;
          for (int64_t d = 0; d < d_head; ++d) score += scale * q_at(b, i, h, d) * k_at(b, j, g, d);
          if (options.alibi_slopes.defined()) {
            const double slope = static_cast<float>(options.alibi_slopes.data<double>()[h]);
            score -= slope * static_cast<double>(std::abs(position - j));
          }
          const Tensor& bias = options.bias;
          if (bias.defined()) {
            score += bias_at(bias.dim(0) == 1 ? 0 : b, bias.dim(1) == 1 ? 0 : h, i, j);
          }
          weight[j] = std::exp(score);
          sum += weight[j];
        }
        for (int64_t j = 0; j < key && sum > 0; ++j) {
          for (int64_t d = 0; d < d_head && weight[j] > 0; ++d) {
            out[((b * query + i) * heads + h) * d_head + d] += weight[j] / sum * v_at(b, j, g, d);
          }
        }
      }
    }
  }
  return z;
}

struct Sizes {
  int64_t batch, query, key, heads, kv_heads, d_head;
};

std::vector<OpInput> Row(const Sizes& n, std::vector<int64_t> flags = {1}, Tensor key_mask = {},
                         OpInput bias = OpInput(Tensor())) {
  flags.resize(kOptions);
  return {OpInput(Shape{n.batch, n.query, n.heads, n.d_head}),
          OpInput(Shape{n.batch, n.key, n.kv_heads, n.d_head}),
          OpInput(Shape{n.batch, n.key, n.kv_heads, n.d_head}),
          bias,
          OpInput(key_mask),
          OpInput(Tensor::Of<int64_t>({kOptions}, flags))};
}

// [batch, key], of which batch b sees every key but multiples of b + 2, and the last one none.
Tensor SomeKeys(int64_t batch, int64_t key) {
  Tensor mask = Tensor::Zeros({batch, key}, kBool);
  bool* seen = mask.mutable_data<bool>();
  for (int64_t b = 0; b == 0 || b + 1 < batch; ++b) {
    for (int64_t j = 0; j < key; ++j) seen[b * key + j] = j % (b + 2) != 0;
  }
  return mask;
}

// Standard normal, with -infinity for a third of it and for the whole of query 1.
OpInput HidingBias(const Shape& shape) {
  Tensor bias = RandomNormal(shape, 7);
  double* values = bias.mutable_data<double>();
  for (int64_t i = 0; i < bias.elements(); ++i) {
    const int64_t query = i / shape[3] % shape[2];
    if (i % 3 == 1 || (query == 1 && shape[2] > 1)) values[i] = -kInfinity;
  }
  return OpInput(bias);
}

using Op = Tensor (*)(const Tensor&, const Tensor&, const Tensor&, const AttentionOptions&);

OpCase Case(const char* name, Op op) {
  return OpCase(name)
      .Run([op](const TensorList& x) { return TensorList{op(x[0], x[1], x[2], OptionsOf(x))}; })
      .Reference([](const TensorList& x) { return TensorList{Reference(x)}; })
      // Nothing, and one of everything.
      .Row(Row({0, 3, 3, 2, 2, 4}))
      .Row(Row({2, 0, 3, 2, 1, 4}))
      .Row(Row({1, 3, 0, 2, 2, 4}, {0}))
      .Row(Row({2, 3, 3, 2, 2, 0}))
      .Row(Row({1, 1, 1, 1, 1, 1}))
      // Primes, and around the lanes and the tiles of each target.
      .Row(Row({2, 7, 7, 3, 3, 5}))
      .Row(Row({1, 5, 5, 1, 1, 3}))
      .Row(Row({1, 15, 15, 2, 2, 15}))
      .Row(Row({2, 16, 16, 1, 1, 16}))
      .Row(Row({1, 17, 17, 2, 2, 17}))
      .Row(Row({1, 33, 33, 1, 1, 7}))
      .Row(Row({1, 49, 49, 1, 1, 9}))
      .Row(Row({1, 64, 64, 1, 1, 4}))
      .Row(Row({1, 140, 140, 1, 1, 2}))
      .Row(Row({1, 6, 6, 1, 1, 65}))
      // Grouped queries.
      .Row(Row({2, 19, 19, 6, 2, 8}))
      .Row(Row({1, 23, 23, 4, 1, 11}))
      // Bidirectional; more queries than keys; a scale.
      .Row(Row({2, 13, 13, 2, 2, 8}, {0}))
      .Row(Row({1, 29, 6, 2, 1, 8}, {0}))
      .Row(Row({1, 6, 161, 1, 1, 8}, {0, 0, 0, 150}))
      // The last queries of a sequence: chunks and single tokens.
      .Row(Row({1, 5, 21, 2, 2, 8}))
      .Row(Row({1, 37, 70, 2, 1, 8}))
      .Row(Row({1, 18, 300, 1, 1, 2}))  // keys in two spans
      .Row(Row({2, 1, 67, 6, 3, 16}))
      .Row(Row({1, 1, 1100, 2, 1, 5}))
      .Row(Row({1, 4, 70, 4, 2, 70}))
      .Row(Row({1, 3, 19, 2, 2, 6}, {0}))
      // Windows.
      .Row(Row({1, 41, 41, 1, 1, 8}, {1, 5}))
      .Row(Row({1, 41, 60, 1, 1, 8}, {0, 7}))
      .Row(Row({1, 2, 90, 2, 2, 8}, {1, 9}))
      .Row(Row({1, 40, 11, 1, 1, 8}, {0, 3}))  // the first queries see no key
      .Row(Row({1, 9, 9, 1, 1, 8}, {1, 100}))
      // ALiBi.
      .Row(Row({1, 35, 35, 2, 1, 4}, {1, 0, 1}))
      .Row(Row({1, 20, 20, 3, 3, 8}, {0, 0, 1}))
      .Row(Row({1, 1, 50, 4, 2, 8}, {1, 0, 1}))
      // Masks of keys, some of which leave a row nothing.
      .Row(Row({3, 20, 20, 2, 1, 8}, {1}, SomeKeys(3, 20)))
      .Row(Row({2, 20, 30, 2, 2, 8}, {0}, SomeKeys(1, 30)))
      .Row(Row({3, 1, 30, 2, 2, 8}, {1}, SomeKeys(3, 30)))
      // Biases of every shape.
      .Row(Row({2, 18, 18, 4, 2, 8}, {1}, {}, OpInput(Shape{2, 4, 18, 18})))
      .Row(Row({2, 6, 25, 2, 2, 8}, {1}, {}, OpInput(Shape{1, 2, 6, 25})))
      .Row(Row({2, 6, 6, 4, 2, 8}, {0}, {}, OpInput(Shape{2, 1, 6, 6})))
      .Row(Row({2, 18, 18, 2, 1, 8}, {0}, {}, HidingBias({1, 1, 18, 18})))
      .Row(Row({2, 1, 18, 2, 1, 8}, {0}, {}, HidingBias({1, 2, 1, 18})))
      // All at once.
      .Row(Row({3, 22, 30, 4, 2, 6}, {1, 13, 1, 70}, SomeKeys(3, 30), HidingBias({3, 4, 22, 30})))
      .Row(Row({3, 2, 30, 4, 2, 6}, {1, 13, 1, 70}, SomeKeys(3, 30), HidingBias({1, 4, 2, 30})));
}

RESIDUAL_OP_TEST(Attention,
                 Case("attention", Attention).DTypes({kF32, kF64, kBF16, kF16}).Ulps(16));
// On the best target only: its steps are tested on each. Scores and pattern are rounded to the
// dtype here.
TEST(AttentionUnfusedTest, IsTheFormulaToo) {
  const OpCase op_case = Case("attention_unfused", AttentionUnfused).DTypes({kF32, kBF16}).Ulps(24);
  op_case.CheckValues();
  op_case.CheckGradients();
  op_case.CheckMemory();
  op_case.CheckThreads();
}

class AttentionTest : public EachTarget {};
RESIDUAL_EACH_TARGET(AttentionTest);

TEST_P(AttentionTest, HiddenKeysMayHoldAnything) {
  const Shape shape{1, 40, 2, 6};
  AttentionOptions options;
  options.key_mask = SomeKeys(1, 40);  // hides the even ones
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    const Tensor clean_q = RandomNormal(shape, 1, dtype), clean_k = RandomNormal(shape, 2, dtype);
    const Tensor clean_v = RandomNormal(shape, 3, dtype);
    Tensor q = clean_q.Clone(), k = RandomNormal(shape, 2), v = RandomNormal(shape, 3);
    k.mutable_data<double>()[4 * 12 + 3] = std::nan("");
    v.mutable_data<double>()[38 * 12 + 7] = kInfinity;
    k = ConvertTo(k, dtype);
    v = ConvertTo(v, dtype);
    const Tensor last = RandomNormal({1, 1, 2, 6}, 5, dtype);
    ExpectIdentical(Attention(last, k, v, options), Attention(last, clean_k, clean_v, options),
                    "one query");
    Tape tape;
    for (Tensor* x : {&q, &k, &v}) tape.Watch(*x);
    const Tensor z = Attention(q, k, v, options);
    ExpectIdentical(z, Attention(clean_q, clean_k, clean_v, options), "z");
    const Gradients grads = tape.Backward({z}, {RandomNormal(shape, 4, dtype)}, {});
    for (const Tensor* x : {&q, &k, &v}) {
      for (double g : grads[*x].ToDoubles()) ASSERT_TRUE(std::isfinite(g));
    }
  }
}

TEST_P(AttentionTest, NaNInAQueryStaysInItsRow) {
  for (DType dtype : {kF32, kF64, kBF16, kF16}) {
    for (int64_t query : {1, 20}) {
      Tensor q = RandomNormal({1, query, 1, 6}, 1);
      const Tensor k = RandomNormal({1, 20, 1, 6}, 2, dtype);
      q.mutable_data<double>()[(query - 1) * 6 + 2] = std::nan("");
      const std::vector<double> z = Attention(ConvertTo(q, dtype), k, k).ToDoubles();
      for (size_t i = 0; i < z.size(); ++i) {
        EXPECT_EQ(std::isnan(z[i]), static_cast<int64_t>(i) >= (query - 1) * 6) << i;
      }
    }
  }
}

TEST_P(AttentionTest, HugeScoresDoNotOverflow) {
  for (DType dtype : {kF32, kF64, kBF16}) {
    for (int64_t query : {1, 20}) {
      const Tensor q = Tensor::Full({1, query, 1, 4}, 1e15, dtype);
      const Tensor k = Tensor::Full({1, 20, 1, 4}, 1e15, dtype);
      const Tensor v = Tensor::Full({1, 20, 1, 4}, 3, dtype);
      for (double z : Attention(q, k, v).ToDoubles()) EXPECT_NEAR(z, 3, 1e-5);
    }
  }
}

TEST_P(AttentionTest, ChunksAndSingleTokensGiveTheRowsOfTheWhole) {
  const int64_t key = 200;
  const Tensor q = RandomNormal({1, key, 4, 24}, 1, kF32);
  const Tensor k = RandomNormal({1, key, 2, 24}, 2, kF32);
  const Tensor v = RandomNormal({1, key, 2, 24}, 3, kF32);
  for (bool alibi : {false, true}) {
    for (int64_t window : {0, 30}) {
      AttentionOptions options;
      options.window = window;
      if (alibi) options.alibi_slopes = Slopes(4);
      const Tensor whole = ConvertTo(Attention(q, k, v, options), kF64).Row(0);
      for (int64_t end : {1, 63, 64, 200}) {
        for (int64_t rows : {1, 2, 4, 5, 19, 64}) {
          if (rows > end) continue;
          auto part = [&](const Tensor& x, int64_t begin) {
            const Tensor taken = x.Row(0).Rows(begin, end);
            return taken.Reshaped({1, end - begin, x.dim(2), x.dim(3)});
          };
          const Tensor z = Attention(part(q, end - rows), part(k, 0), part(v, 0), options);
          ExpectClose(z.Row(0), whole.Rows(end - rows, end), 8, "a chunk");
        }
      }
    }
  }
}

// What a layer that is hooked computes is what it computes unhooked.
TEST_P(AttentionTest, FusedIsUnfused) {
  Tensor q = RandomNormal({2, 70, 6, 16}, 1, kF32), k = RandomNormal({2, 70, 2, 16}, 2, kF32);
  Tensor v = RandomNormal({2, 70, 2, 16}, 3, kF32);
  const Tensor dz = RandomNormal(q.shape(), 4, kF32);
  AttentionOptions options;
  options.bias = RandomNormal({1, 6, 70, 70}, 5, kF32);
  options.key_mask = SomeKeys(2, 70);
  TensorList results[2];
  for (int fused = 0; fused < 2; ++fused) {
    Tape tape;
    for (Tensor* x : {&q, &k, &v, &options.bias}) tape.Watch(*x);
    const Tensor z = fused ? Attention(q, k, v, options) : AttentionUnfused(q, k, v, options);
    const Gradients grads = tape.Backward({z}, {dz}, {});
    results[fused] = {z, grads[q], grads[k], grads[v], grads[options.bias]};
  }
  for (size_t i = 0; i < results[0].size(); ++i) {
    ExpectClose(results[1][i], ConvertTo(results[0][i], kF64), 32, "of fused and unfused");
  }
}

TEST(AttentionScoresTest, AreTheFormulaAndMinusInfinityWhereHidden) {
  const Tensor q = Tensor::Of<float>({1, 2, 1, 1}, {2, 3});
  const Tensor k = Tensor::Of<float>({1, 3, 1, 1}, {1, 10, 100});
  AttentionOptions options;
  options.scale = 0.5;
  options.alibi_slopes = Tensor::Full({1}, 0.25);
  const float hidden = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(AttentionScores(q, k, options).ToDoubles(),
            (std::vector<double>{0.75, 10, hidden, 1, 14.75, 150}));
  options.key_mask = Tensor::Of<bool>({1, 3}, {false, true, true});
  options.window = 1;
  EXPECT_EQ(AttentionScores(q, k, options).ToDoubles(),
            (std::vector<double>{hidden, 10, hidden, hidden, hidden, 150}));
}

TEST(AttentionMemoryTest, IsLinearInTheLength) {
  const int64_t length = 3000, scores = length * length * 4;
  Tensor q = RandomNormal({1, length, 1, 4}, 1, kF32);
  Tensor k = RandomNormal({1, length, 1, 4}, 2, kF32);
  Tensor v = RandomNormal({1, length, 1, 4}, 3, kF32);
  for (DType dtype : {kF32, kBF16}) {
    for (Tensor* x : {&q, &k, &v}) *x = ConvertTo(*x, dtype);
    TrimHostPool();
    const int64_t before = HostPoolStats().system_bytes;
    {
      Tape tape;
      for (Tensor* x : {&q, &k, &v}) tape.Watch(*x);
      const Tensor z = Attention(q, k, v);
      tape.Backward({z}, {z}, {});
    }
    Attention(ConvertTo(Tensor::Zeros({1, 1, 1, 4}), dtype), k, v);
    // The pool keeps what it has asked for: this is the peak.
    EXPECT_LT(HostPoolStats().system_bytes - before, scores / 10);
  }
}

TEST(AttentionDeathTest, SaysWhatIsWrong) {
  const Tensor q = Tensor::Zeros({2, 3, 4, 5});
  EXPECT_DEATH(Attention(q, q.Reshaped({6, 20}), q), "attention: check failed.*f32\\[6, 20\\]");
  EXPECT_DEATH(Attention(q, Tensor::Zeros({2, 3, 3, 5}), Tensor::Zeros({2, 3, 3, 5})),
               "attention: check failed.*f32\\[2, 3, 4, 5\\] f32\\[2, 3, 3, 5\\]");
  EXPECT_DEATH(Attention(q, q, Tensor::Zeros({2, 3, 4, 6})), "attention: .*f32\\[2, 3, 4, 6\\]");
  EXPECT_DEATH(Attention(q, ConvertTo(q, kF64), q), "attention: check failed.*f64\\[2, 3, 4, 5\\]");
  EXPECT_DEATH(Attention(ConvertTo(q, kI64), ConvertTo(q, kI64), ConvertTo(q, kI64)),
               "attention: check failed.*i64\\[2, 3, 4, 5\\]");
  const Tensor fewer = Tensor::Zeros({2, 2, 4, 5});  // causal, but more queries than keys
  EXPECT_DEATH(Attention(q, fewer, fewer), "attention: check failed.*f32\\[2, 2, 4, 5\\]");
  AttentionOptions options;
  options.key_mask = Tensor::Zeros({2, 4}, kBool);
  EXPECT_DEATH(AttentionScores(q, q, options), "attention_scores: check failed.*bool\\[2, 4\\]");
  options.key_mask = Tensor();
  options.bias = Tensor::Zeros({2, 3, 3, 3});
  EXPECT_DEATH(Attention(q, q, q, options), "attention: check failed.*f32\\[2, 3, 3, 3\\]");
  options.bias = Tensor();
  options.alibi_slopes = Tensor::Zeros({3});
  EXPECT_DEATH(Attention(q, q, q, options), "attention: check failed.*f32\\[3\\]");
  options.alibi_slopes = Tensor();
  options.window = -1;
  EXPECT_DEATH(Attention(q, q, q, options), "attention: check failed: .*window");
  EXPECT_DEATH(WeightedSum(Tensor::Zeros({2, 4, 3, 2}), q),
               "weighted_sum: check failed.*f32\\[2, 4, 3, 2\\]");
}

}  // namespace
}  // namespace residual
