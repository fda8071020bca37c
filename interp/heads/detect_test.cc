#include "interp/heads/detect.h"

#include <string>

#include "gtest/gtest.h"
#include "interp/testing/golden.h"
#include "interp/testing/planted_circuit.h"

namespace residual {
namespace {

TEST(DetectTest, IdealPatterns) {
  const std::vector<int64_t> tokens = {7, 3, 7, 7};
  EXPECT_EQ(DetectionPattern(HeadKind::kPreviousToken, tokens), (std::vector<double>{0, 0, 0, 0,  //
                                                                                     1, 0, 0, 0,  //
                                                                                     0, 1, 0, 0,  //
                                                                                     0, 0, 1, 0}));
  EXPECT_EQ(DetectionPattern(HeadKind::kDuplicateToken, tokens),
            (std::vector<double>{0, 0, 0, 0,  //
                                 0, 0, 0, 0,  //
                                 1, 0, 0, 0,  //
                                 1, 0, 1, 0}));
  EXPECT_EQ(DetectionPattern(HeadKind::kInduction, tokens), (std::vector<double>{0, 0, 0, 0,  //
                                                                                 0, 0, 0, 0,  //
                                                                                 0, 1, 0, 0,  //
                                                                                 0, 1, 0, 1}));
}

TEST(DetectTest, AgreesWithTransformerLens) {
  const auto model = GoldenModel();
  const Tensor tokens = Golden("repeated");
  const absl::StatusOr<std::vector<Tensor>> patterns = ReadPatterns(*model, tokens);
  ASSERT_TRUE(patterns.ok()) << patterns.status();
  struct Kind {
    HeadKind kind;
    const char* name;
  };
  for (const char* weights : {"raw.", "processed."}) {
    for (const Kind& kind : {Kind{HeadKind::kPreviousToken, "previous_token"},
                             Kind{HeadKind::kDuplicateToken, "duplicate_token"},
                             Kind{HeadKind::kInduction, "induction"}}) {
      for (DetectMeasure measure : {DetectMeasure::kMul, DetectMeasure::kAbs}) {
        for (bool exclude : {false, true}) {
          const bool mul = measure == DetectMeasure::kMul;
          const std::string name = std::string(weights) + "detect." + kind.name +
                                   (mul ? ".mul" : ".abs") +
                                   (exclude ? ".exclude_bos_and_current" : "");
          const std::vector<double> want = Golden(name).ToDoubles();
          const HeadTable got =
              DetectHeads(*patterns, tokens, kind.kind, {measure, exclude, exclude});
          ASSERT_EQ(got.size(), 2);
          for (int i = 0; i < 6; ++i) {
            // "abs" is rounded to three decimals there.
            EXPECT_NEAR(got[i / 3][i % 3], want[i], mul ? 2e-6 : 5.1e-4) << name << " " << i;
          }
        }
      }
    }
    const std::vector<double> want = Golden(std::string(weights) + "induction_stripe").ToDoubles();
    const HeadTable got = InductionStripes(*patterns);
    for (int i = 0; i < 6; ++i) EXPECT_NEAR(got[i / 3][i % 3], want[i], 2e-6) << weights << i;
  }
}

TEST(DetectTest, PlantedHeads) {
  const auto model = PlantedInductionModel();
  // A first token, then seven different ones twice.
  const Tensor tokens =
      Tensor::Of<int64_t>({1, 15}, {19, 3, 1, 4, 15, 9, 2, 6, 3, 1, 4, 15, 9, 2, 6});
  const std::vector<Tensor> patterns = *ReadPatterns(*model, tokens);
  // All queries but the first have a previous token.
  EXPECT_NEAR(DetectHeads(patterns, tokens, HeadKind::kPreviousToken)[0][0], 14.0 / 15, 1e-9);
  // Seven of fifteen queries have an earlier occurrence.
  EXPECT_NEAR(DetectHeads(patterns, tokens, HeadKind::kInduction)[1][0], 7.0 / 15, 1e-9);
  EXPECT_NEAR(DetectHeads(patterns, tokens, HeadKind::kDuplicateToken)[1][0], 0, 1e-9);
  // Nine queries lie on the stripe, two of them in the first copy, where the planted head looks at
  // all alike but for position 0: the first meets that one, the other one of seven keys.
  EXPECT_NEAR(InductionStripes(patterns)[1][0], (7 + 1.0 / 7) / 9, 1e-9);
}

TEST(DetectTest, RowsAreAveragedAndNothingLeftIsZero) {
  const auto model = GoldenModel();
  const Tensor tokens = Tensor::Of<int64_t>({2, 3}, {1, 2, 1, 4, 4, 4});
  const HeadTable both = DetectHeads(*ReadPatterns(*model, tokens), tokens, HeadKind::kInduction);
  HeadTable rows[2];
  for (int r : {0, 1}) {
    const Tensor row = tokens.Rows(r, r + 1);
    rows[r] = DetectHeads(*ReadPatterns(*model, row), row, HeadKind::kInduction);
  }
  for (int h = 0; h < 3; ++h) EXPECT_NEAR(both[1][h], (rows[0][1][h] + rows[1][1][h]) / 2, 1e-6);

  const Tensor one = Tensor::Of<int64_t>({1, 1}, {1});
  const HeadTable empty = DetectHeads(*ReadPatterns(*model, one), one, HeadKind::kPreviousToken,
                                      {DetectMeasure::kMul, true, true});
  EXPECT_EQ(empty[0][0], 0);
}

TEST(DetectTest, RepeatedTokens) {
  const Tensor drawn = RepeatedTokensAfterFirst(3, 4, {5, 6, 7, 8}, 1);
  EXPECT_EQ(drawn.shape(), Shape({3, 9}));
  EXPECT_TRUE(IsRepeatedAfterFirst(drawn));
  for (const double token : drawn.ToDoubles()) EXPECT_TRUE(token >= 5 && token <= 8);
  const Tensor given = RepeatedTokensAfterFirst(2, 4, {5, 6, 7, 8}, 1, 3);
  EXPECT_EQ(given.data<int64_t>()[0], 3);
  EXPECT_EQ(given.data<int64_t>()[9], 3);
  EXPECT_EQ(given.data<int64_t>()[1], drawn.data<int64_t>()[1]);

  EXPECT_TRUE(IsRepeatedAfterFirst(Tensor::Of<int64_t>({1, 5}, {9, 1, 2, 1, 2})));
  EXPECT_FALSE(IsRepeatedAfterFirst(Tensor::Of<int64_t>({1, 5}, {9, 1, 2, 1, 3})));
  EXPECT_FALSE(IsRepeatedAfterFirst(Tensor::Of<int64_t>({1, 4}, {1, 2, 1, 2})));
  EXPECT_FALSE(IsRepeatedAfterFirst(Tensor::Of<int64_t>({1, 3}, {1, 2, 2})));
  EXPECT_FALSE(IsRepeatedAfterFirst(Tensor::Of<int64_t>({2, 5}, {9, 1, 2, 1, 2, 9, 1, 2, 2, 1})));
}

}  // namespace
}  // namespace residual
