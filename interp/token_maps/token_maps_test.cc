#include "interp/token_maps/token_maps.h"

#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/testing/small_models.h"
#include "models/nn/module.h"
#include "models/transformer/transformer.h"

namespace residual {
namespace {

constexpr int64_t kState = 3, kInner = 12, kHead = 4;

// Channel and head state spaces, attention, and a block that moves nothing.
std::unique_ptr<ResidualModel> MixedModel() {
  TransformerConfig config;
  config.d_model = 6;
  config.n_ctx = 32;
  config.d_vocab = 13;
  config.n_heads = 2;
  config.d_head = 3;
  config.d_mlp = 5;
  config.d_inner = kInner;
  config.d_state = kState;
  config.mamba_d_head = kHead;
  config.blocks = {{"mamba"}, {"mlp"}, {"attn", "mlp"}, {"mamba2"}};
  auto model = BuildTransformer(config);
  Initialize(*model, 3);
  return model;
}

Tensor Tokens(int64_t batch, int64_t pos) {
  Tensor tokens = Tensor::Uninitialized({batch, pos}, kI64);
  for (int64_t i = 0; i < tokens.elements(); ++i) {
    tokens.mutable_data<int64_t>()[i] = (i * i + 3 * i) % 13;
  }
  return tokens;
}

std::vector<int64_t> AllOf(const TokenMapSource& source) {
  std::vector<int64_t> units(source.n_units());
  std::iota(units.begin(), units.end(), 0);
  return units;
}

// A parameter of a model, in double.
std::vector<double> Values(ResidualModel& model, const std::string& name) {
  for (const Parameter& p : Parameters(model)) {
    if (p.name == name) return p.value->ToDoubles();
  }
  ADD_FAILURE() << name;
  return {};
}

std::map<std::string, std::vector<double>> Read(const ResidualModel& model, const Tensor& tokens,
                                                const std::vector<std::string>& names) {
  std::map<std::string, std::vector<double>> read;
  Hooks hooks;
  for (const std::string& name : names) {
    hooks.Read(name, [&](absl::string_view, const Tensor& x) { read[name] = x.ToDoubles(); });
  }
  EXPECT_TRUE(model.Run({tokens}, &hooks).ok());
  return read;
}

TEST(TokenMapsTest, OfEveryMixerThatHasThem) {
  const auto model = MixedModel();
  const auto sources = ReadTokenMaps(*model, Tokens(2, 7));
  ASSERT_TRUE(sources.ok()) << sources.status();
  ASSERT_EQ(sources->size(), 3u);
  EXPECT_EQ((*sources)[0].Name(11), "L0C11");
  EXPECT_EQ((*sources)[0].n_units(), kInner);
  EXPECT_FALSE((*sources)[0].is_attention());
  EXPECT_EQ((*sources)[1].Name(1), "L2H1");
  EXPECT_TRUE((*sources)[1].is_attention());
  EXPECT_EQ((*sources)[2].Name(0), "L3H0");
  EXPECT_EQ((*sources)[2].n_units(), kInner / kHead);
  EXPECT_FALSE((*sources)[1].Memory().defined());
}

// y = M u + D u, in every channel: the map is the scan.
TEST(TokenMapsTest, AStateSpacesMapsGiveItsOutput) {
  const auto model = MixedModel();
  constexpr int64_t kBatch = 2, kPos = 19;
  const Tensor tokens = Tokens(kBatch, kPos);
  const auto sources = ReadTokenMaps(*model, tokens).value();
  for (const int which : {0, 2}) {
    const TokenMapSource& source = sources[which];
    const std::string mixer = which == 0 ? "blocks.0.mixer." : "blocks.3.mixer.";
    auto read = Read(*model, tokens, {mixer + "hook_conv", mixer + "hook_y"});
    const std::vector<double> D = Values(*model, mixer + "D");
    const std::vector<double> M = source.Maps(AllOf(source)).ToDoubles();
    const int64_t of_unit = kInner / source.n_units();
    // hook_conv of Mamba-2 holds x, B and C.
    const int64_t conv_width = which == 0 ? kInner : kInner + 2 * kState;
    double error = 0, largest = 0;
    for (int64_t b = 0; b < kBatch; ++b) {
      for (int64_t c = 0; c < kInner; ++c) {
        const int64_t unit = c / of_unit;
        const auto u = [&](int64_t t) {
          return read[mixer + "hook_conv"][(b * kPos + t) * conv_width + c];
        };
        for (int64_t t = 0; t < kPos; ++t) {
          double y = D[unit] * u(t);
          for (int64_t s = 0; s < kPos; ++s) {
            const double m = M[((b * source.n_units() + unit) * kPos + t) * kPos + s];
            EXPECT_TRUE(s <= t || m == 0);
            y += m * u(s);
          }
          const double wanted = read[mixer + "hook_y"][(b * kPos + t) * kInner + c];
          error = std::max(error, std::abs(y - wanted));
          largest = std::max(largest, std::abs(wanted));
        }
      }
    }
    EXPECT_LT(error, 1e-5 * largest) << mixer;
  }
}

// The same of systems that do not choose: y = M u + D u, M the kernel on every diagonal.
TEST(TokenMapsTest, AConvolutionsMapsGiveItsOutput) {
  constexpr int64_t kWidth = 6, kPos = 17;
  for (const char* kind : {"s4", "s4d", "dss"}) {
    for (const int directions : {1, 2, 3}) {
      TransformerConfig config;
      config.d_model = kWidth;
      config.n_ctx = 32;
      config.d_vocab = 13;
      config.d_state = 8;
      config.s4_bidirectional = directions > 1;
      config.s4_reverse_from_next = directions == 3;
      config.blocks = {{kind}};
      const auto model = BuildTransformer(config);
      Initialize(*model, 3);
      const Tensor tokens = Tokens(2, kPos);
      const auto sources = ReadTokenMaps(*model, tokens).value();
      ASSERT_EQ(sources.size(), 1u);
      auto read = Read(*model, tokens, {"blocks.0.ln1.hook_normalized", "blocks.0.mixer.hook_y"});
      const std::vector<double>& u = read["blocks.0.ln1.hook_normalized"];
      const std::vector<double>& y = read["blocks.0.mixer.hook_y"];
      const std::vector<double> D = Values(*model, "blocks.0.mixer.D");
      const std::vector<double> M = sources[0].Maps(AllOf(sources[0])).ToDoubles();
      double error = 0, largest = 0;
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t c = 0; c < kWidth; ++c) {
          for (int64_t t = 0; t < kPos; ++t) {
            const double wanted = y[(b * kPos + t) * kWidth + c];
            double found = D[c] * u[(b * kPos + t) * kWidth + c];
            for (int64_t s = 0; s < kPos; ++s) {
              found += M[((b * kWidth + c) * kPos + t) * kPos + s] * u[(b * kPos + s) * kWidth + c];
            }
            error = std::max(error, std::abs(found - wanted));
            largest = std::max(largest, std::abs(wanted));
          }
        }
      }
      EXPECT_LT(error, 1e-5 * largest) << kind << " " << directions;
      const Retention memory = sources[0].Memory();
      EXPECT_EQ(memory.defined(), std::string(kind) != "s4");
      if (!memory.defined()) continue;
      // Steps are exp(log_dt), rates of S4D-LegS -1/2.
      const std::vector<double> log_dt = Values(*model, "blocks.0.mixer.log_dt");
      for (int64_t c = 0; c < kWidth; ++c) {
        EXPECT_NEAR(MemoryLengths(memory)[c] * std::exp(log_dt[c]) / 2, 1, 1e-3) << kind;
      }
    }
  }
}

TEST(TokenMapsTest, AnAttentionsMapsAreItsPatterns) {
  const auto model = MixedModel();
  const Tensor tokens = Tokens(2, 7);
  const auto sources = ReadTokenMaps(*model, tokens).value();
  const std::string name = "blocks.2.attn.hook_pattern";
  const std::vector<double> pattern = Read(*model, tokens, {name})[name];
  EXPECT_EQ(sources[1].Maps({0, 1}).ToDoubles(), pattern);
  const std::vector<double> swapped = sources[1].Weights({1, 0}).ToDoubles();
  for (int64_t i = 0; i < 49; ++i) {
    EXPECT_EQ(swapped[i], pattern[49 + i]);
    EXPECT_EQ(swapped[2 * 49 + 49 + i], pattern[2 * 49 + i]);
  }
}

TEST(TokenMapsTest, WeightsAreSharesAndPiecesAreTheWhole) {
  const auto model = MixedModel();
  const auto sources = ReadTokenMaps(*model, Tokens(2, 32)).value();
  for (const TokenMapSource& source : sources) {
    const std::vector<double> maps = source.Maps(AllOf(source)).ToDoubles();
    const Tensor weights = source.Weights(AllOf(source));
    const std::vector<double> w = weights.ToDoubles();
    for (size_t row = 0; row < w.size(); row += 32) {
      double sum = 0, size = 0;
      for (size_t k = row; k < row + 32; ++k) {
        sum += w[k];
        size += std::abs(maps[k]);
        EXPECT_GE(w[k], 0);
      }
      EXPECT_NEAR(sum, 1, 1e-5);
      for (size_t k = row; k < row + 32; ++k) {
        EXPECT_NEAR(w[k] * size, std::abs(maps[k]), 1e-6 * size);
      }
    }
    int64_t next = 0;
    source.ForEachPiece([&](int64_t first, const Tensor& piece) {
      EXPECT_EQ(first, next);
      next += piece.dim(1);
      std::vector<int64_t> units(piece.dim(1));
      std::iota(units.begin(), units.end(), first);
      EXPECT_EQ(piece.ToDoubles(), source.Weights(units).ToDoubles());
    });
    EXPECT_EQ(next, source.n_units());
  }
}

TEST(TokenMapsTest, MemoryFadesAsTheSlowestPartOfTheState) {
  const auto model = MixedModel();
  const Tensor tokens = Tokens(2, 7);
  const auto sources = ReadTokenMaps(*model, tokens).value();
  const std::string name = "blocks.0.mixer.hook_delta";
  const std::vector<double> delta = Read(*model, tokens, {name})[name];
  const std::vector<double> A_log = Values(*model, "blocks.0.mixer.A_log");
  const Retention memory = sources[0].Memory();
  const std::vector<double> lengths = MemoryLengths(memory);
  ASSERT_EQ(lengths.size(), static_cast<size_t>(kInner));
  EXPECT_EQ(memory.step.ToDoubles(), delta);
  for (int64_t c = 0; c < kInner; ++c) {
    double slowest = INFINITY, faded = 0;
    for (int64_t n = 0; n < kState; ++n) {
      slowest = std::min(slowest, std::exp(A_log[c * kState + n]));
    }
    for (int64_t t = 0; t < 14; ++t) {
      const double nats = delta[t * kInner + c] * slowest;
      EXPECT_NEAR(memory.kept.ToDoubles()[t * kInner + c], std::exp(-nats), 1e-6);
      faded += nats;
    }
    EXPECT_NEAR(lengths[c] * faded / 14, 1, 1e-3);
  }
}

TEST(TokenMapsTest, ModelsWithoutMapsAndWrongTokens) {
  const auto model = BuildTransformer(MlpOnlyConfig());
  Initialize(*model, 3);
  EXPECT_TRUE(ReadTokenMaps(*model, Tensor::Zeros({1, 3}, kI64))->empty());
  EXPECT_EQ(ReadTokenMaps(*model, Tensor::Full({1, 3}, 11, kI64)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace residual
