#include "models/data/labeled/labeled.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace residual {
namespace {

// Row i: two values 10 i, 10 i + 1 and the label i % 3.
LabeledSequences Numbered(int64_t n) {
  LabeledSequences data;
  data.x = Tensor::Uninitialized({n, 2, 1});
  for (int64_t i = 0; i < n; ++i) {
    data.x.mutable_data<float>()[2 * i] = static_cast<float>(10 * i);
    data.x.mutable_data<float>()[2 * i + 1] = static_cast<float>(10 * i + 1);
    data.label.push_back(static_cast<int>(i % 3));
    data.lengths.push_back(1 + i % 2);
  }
  data.n_classes = 3;
  return data;
}

// Which rows of Numbered these are.
std::vector<int> Rows(const LabeledSequences& data) {
  std::vector<int> rows;
  for (int64_t i = 0; i < data.n(); ++i) {
    const int row = static_cast<int>(data.x.data<float>()[2 * i]) / 10;
    EXPECT_EQ(data.x.data<float>()[2 * i + 1], static_cast<float>(10 * row + 1));
    EXPECT_EQ(data.label[i], row % 3);
    EXPECT_EQ(data.lengths[i], 1 + row % 2);
    rows.push_back(row);
  }
  EXPECT_EQ(data.x.dim(0), data.n());
  EXPECT_EQ(data.n_classes, 3);
  return rows;
}

TEST(LabeledTest, RowsKeepWhatBelongsToThem) {
  const LabeledSequences data = Numbered(5);
  EXPECT_EQ(Rows(SelectRows(data, {4, 0, 4})), (std::vector<int>{4, 0, 4}));
  EXPECT_EQ(SelectRows(data, {}).x.shape(), Shape({0, 2, 1}));
  EXPECT_DEATH(SelectRows(data, {5}), "row 5 of 5");
}

TEST(LabeledTest, TokensStayTokens) {
  LabeledSequences data;
  data.x = Tensor::Of<int32_t>({2, 3}, {1, 2, 3, 4, 5, 6});
  data.label = {0, 1};
  data.n_classes = 2;
  data.d_vocab = 7;
  const LabeledSequences chosen = SelectRows(data, {1});
  EXPECT_EQ(chosen.x.dtype(), kI32);
  EXPECT_EQ(chosen.x.data<int32_t>()[2], 6);
  EXPECT_EQ(chosen.d_vocab, 7);
  EXPECT_TRUE(chosen.lengths.empty());
}

TEST(LabeledTest, SplitsTakeEveryRowOnceAndFollowTheSeed) {
  const LabeledSequences data = Numbered(101);
  const auto split = SplitRows(data, 17, 30, 5).value();
  const std::vector<int> train = Rows(split.train), validation = Rows(split.validation),
                         test = Rows(split.test);
  EXPECT_EQ(validation.size(), 17u);
  EXPECT_EQ(test.size(), 30u);
  std::vector<int> all = train;
  all.insert(all.end(), validation.begin(), validation.end());
  all.insert(all.end(), test.begin(), test.end());
  EXPECT_FALSE(std::is_sorted(all.begin(), all.end()));
  std::sort(all.begin(), all.end());
  for (int i = 0; i < 101; ++i) EXPECT_EQ(all[i], i);
  EXPECT_EQ(all.size(), 101u);
  EXPECT_EQ(Rows(SplitRows(data, 17, 30, 5)->train), train);
  EXPECT_NE(Rows(SplitRows(data, 17, 30, 6)->train), train);
}

TEST(LabeledTest, SplitsThatLeaveNothingToTrainOn) {
  const LabeledSequences data = Numbered(5);
  EXPECT_EQ(SplitRows(data, 2, 2, 0)->train.n(), 1);
  EXPECT_EQ(SplitRows(data, 0, 0, 0)->train.n(), 5);
  EXPECT_EQ(SplitRows(data, 2, 3, 0).status().message(),
            "2 rows to validate on and 3 to test on, expected 0 or more of each and together fewer "
            "than the 5 there are");
  EXPECT_FALSE(SplitRows(data, -1, 3, 0).ok());
  EXPECT_FALSE(SplitRows(data, 0, INT64_MAX, 0).ok());
  EXPECT_FALSE(SplitRows(Numbered(0), 0, 0, 0).ok());
}

}  // namespace
}  // namespace residual
