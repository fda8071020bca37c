#include "interp/circuits/skip_trigrams.h"

#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "interp/testing/golden.h"

namespace residual {
namespace {

// Against all 89^3 triples of the dense matrices.
TEST(SkipTrigramsTest, AreTheLargestOfAll) {
  const HeadCircuits circuits = *ReadHeadCircuits(*GoldenModel(kF64));
  const HeadCircuits::Head& head = circuits.heads[1][1];
  auto dense = [](const FactoredMatrix& f) -> RowMatrix { return f.A() * f.B(); };
  const RowMatrix QK = dense(circuits.FullQK(head)) / std::sqrt(8.0);
  const RowMatrix OV = dense(circuits.FullOV(head));
  std::vector<double> products;
  for (int source = 0; source < 89; ++source) {
    for (int destination = 0; destination < 89; ++destination) {
      for (int out = 0; out < 89; ++out) {
        if (QK(destination, source) > 0 && OV(source, out) > 0) {
          products.push_back(QK(destination, source) * OV(source, out));
        }
      }
    }
  }
  std::sort(products.rbegin(), products.rend());
  // A few sources at a time, one, and all at once.
  for (const int64_t at_once : {89 * 7, 1, 1 << 20}) {
    for (const int count : {1, 5, 40}) {
      const auto found = TopSkipTrigrams(circuits, head, count, at_once);
      ASSERT_EQ(found.size(), count);
      for (int i = 0; i < count; ++i) {
        const SkipTrigram& t = found[i];
        EXPECT_NEAR(t.score(), products[i], 1e-9 * products[0]);
        EXPECT_NEAR(t.QK, QK(t.destination, t.source), 1e-9);
        EXPECT_NEAR(t.OV, OV(t.source, t.out), 1e-9);
      }
    }
  }
}

TEST(SkipTrigramsTest, ThereMayBeNone) {
  HeadCircuits circuits = *ReadHeadCircuits(*GoldenModel(kF64));
  circuits.heads[0][0].W_O.setZero();
  EXPECT_TRUE(TopSkipTrigrams(circuits, circuits.heads[0][0], 3).empty());
}

}  // namespace
}  // namespace residual
