#include "models/data/labeled/drawn_digits.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

TEST(DrawnDigitsTest, AreImagesOfAllDigits) {
  const LabeledSequences data = DrawnDigits(200, 28, 1);
  EXPECT_EQ(data.x.shape(), Shape({200, 784, 1}));
  EXPECT_EQ(data.n_classes, 10);
  EXPECT_EQ(data.d_vocab, 0);
  for (int digit = 0; digit < 10; ++digit) {
    EXPECT_GE(std::count(data.label.begin(), data.label.end(), digit), 5) << digit;
  }
  for (int64_t i = 0; i < 200; ++i) {
    const float* image = data.x.data<float>() + i * 784;
    double ink = 0;
    for (int64_t k = 0; k < 784; ++k) {
      ASSERT_TRUE(image[k] >= 0 && image[k] <= 1);
      ink += image[k];
    }
    EXPECT_GT(ink, 784 * 0.03) << i;
    EXPECT_LT(ink, 784 * 0.4) << i;
  }
}

TEST(DrawnDigitsTest, AreAFunctionOfTheSeedAndTheRow) {
  const LabeledSequences few = DrawnDigits(3, 12, 7), more = DrawnDigits(5, 12, 7);
  ExpectIdentical(few.x, more.x.Rows(0, 3), "the first rows");
  EXPECT_NE(DrawnDigits(3, 12, 8).x.ToDoubles(), few.x.ToDoubles());
  EXPECT_NE(few.x.Row(0).ToDoubles(), few.x.Row(1).ToDoubles());
  EXPECT_EQ(DrawnDigits(0, 12, 7).n(), 0);
}

// Drawings of one digit are more alike than those of two: the nearest mean is right mostly.
TEST(DrawnDigitsTest, CanBeToldApart) {
  const LabeledSequences seen = DrawnDigits(500, 14, 1), other = DrawnDigits(200, 14, 2);
  std::vector<std::vector<double>> means(10, std::vector<double>(196));
  std::vector<double> counts(10);
  for (int64_t i = 0; i < 500; ++i) {
    ++counts[seen.label[i]];
    for (int64_t k = 0; k < 196; ++k) means[seen.label[i]][k] += seen.x.data<float>()[i * 196 + k];
  }
  int right = 0;
  for (int64_t i = 0; i < 200; ++i) {
    int best = 0;
    double least = 1e9;
    for (int digit = 0; digit < 10; ++digit) {
      double distance = 0;
      for (int64_t k = 0; k < 196; ++k) {
        const double d = means[digit][k] / counts[digit] - other.x.data<float>()[i * 196 + k];
        distance += d * d;
      }
      if (distance < least) {
        least = distance;
        best = digit;
      }
    }
    right += best == other.label[i];
  }
  EXPECT_GE(right, 120);
  EXPECT_LT(right, 200);  // and no template alone decides
}

TEST(PoolImagesTest, AveragesSquares) {
  LabeledSequences data;
  data.x = Tensor::Uninitialized({1, 16, 1});
  for (int i = 0; i < 16; ++i) data.x.mutable_data<float>()[i] = static_cast<float>(i);
  data.label = {0};
  data.n_classes = 1;
  EXPECT_EQ(PoolImages(data, 2)->x.ToDoubles(), (std::vector<double>{2.5, 4.5, 10.5, 12.5}));
  EXPECT_EQ(PoolImages(data, 1)->x.ToDoubles(), data.x.ToDoubles());
  EXPECT_EQ(std::string(PoolImages(data, 3).status().message()),
            "rows of 16 cannot be averaged over 3 x 3 pixels, expected square images whose side it "
            "divides");
}

}  // namespace
}  // namespace residual
