#include "interp/induction/phase_curves.h"

#include <cmath>
#include <string>

#include "gtest/gtest.h"
#include "interp/induction/phase_report.h"

namespace residual {
namespace {

TrainingPoint Point(int64_t tokens, double induction, double icl, double loss) {
  TrainingPoint point;
  point.tokens = tokens;
  point.best_induction = induction;
  point.icl_score = icl;
  point.loss = loss;
  return point;
}

TEST(PhaseCurvesTest, ReadsItsNumbersOffTheCurves) {
  const std::vector<TrainingPoint> points = {
      Point(0, 0.01, 0, NAN),     Point(10, 0.01, -0.1, 6),   Point(20, 0.02, -0.2, 5),
      Point(30, 0.02, -0.2, 4.5), Point(40, 0.2, -0.9, 4.0),  Point(50, 0.6, -2.0, 3.0),
      Point(60, 0.62, -2.2, 2.6), Point(70, 0.63, -2.2, 2.5), Point(80, 0.63, -2.2, 2.5),
      Point(90, 0.63, -2.2, 2.5), Point(100, 0.63, -2.2, 2.5)};
  const PhaseNumbers n = ReadCurves(points);
  EXPECT_EQ(n.window.first, 3);
  EXPECT_EQ(n.window.last, 5);
  EXPECT_NEAR(n.window_share, 0.2, 1e-12);
  EXPECT_NEAR(n.icl_in_window, 1.8 / 2.2, 1e-12);
  EXPECT_EQ(n.steepest_prefix, 5);
  EXPECT_EQ(n.steepest_icl, 5);
  EXPECT_EQ(SteepestFall(points, n.window), 1);                // 4 to 3
  EXPECT_NEAR(LossBend(points, n.window), 1.0 / 0.75, 1e-12);  // over 6 to 4.5 in two
  EXPECT_EQ(TokensUntil(points, 0.3), 50);
  EXPECT_EQ(TokensUntil(points, 0.01), 0);
  EXPECT_TRUE(std::isinf(TokensUntil(points, 0.7)));
  // Without a rise there is no window.
  const PhaseNumbers flat = ReadCurves({points[0], points[1], points[2]});
  EXPECT_FALSE(flat.window.found());
  EXPECT_EQ(flat.window_share, 0);
  EXPECT_EQ(SteepestFall(points, flat.window), 0);
  EXPECT_EQ(LossBend(points, flat.window), 0);
}

TEST(PhaseCurvesTest, AConvexLossDoesNotBend) {
  std::vector<TrainingPoint> points;
  for (int i = 0; i < 12; ++i) points.push_back(Point(i, 0, 0, 1 + std::exp(-0.5 * i)));
  PhaseChange window;
  window.last = 9;
  for (window.first = 2; window.first < 9; ++window.first) {
    EXPECT_GT(LossBend(points, window), 0);
    EXPECT_LT(LossBend(points, window), 1);
  }
  window.first = 1;  // the loss before it is of no training
  EXPECT_EQ(LossBend(points, window), 0);
  window.first = 0;
  window.last = 1;
  EXPECT_EQ(SteepestFall(points, window), 0);
  window.last = 9;
  // However long the window goes on after it, a bump is one.
  for (size_t i = 6; i < points.size(); ++i) points[i].loss -= 0.3;
  window.first = 4;
  const double bump = LossBend(points, window);
  EXPECT_GT(bump, 2);
  window.last = 11;
  EXPECT_EQ(LossBend(points, window), bump);
}

TEST(PhaseReportTest, HasTheCurvesAndWhatIsLeft) {
  PhaseStudy study;
  study.curves = {{"two layers", 0, {Point(0, 0, 0, NAN), Point(9, 0.5, -1, 3)}},
                  {"one <layer>", 1, {Point(0, 0, 0, NAN), Point(9, 0.1, 0, 4)}}};
  study.smears = {"alpha: 0.25"};
  study.ablations.icl_score = -1;
  study.ablations.induction_heads = {{1, 2}};
  Report report("Phase", "lead");
  AddPhasePictures(study, report);
  const std::string page = report.ToString();
  EXPECT_NE(page.find("alpha: 0.25"), page.npos);
  EXPECT_NE(page.find("Induction heads: L1H2"), page.npos);
  EXPECT_EQ(page.find("<layer>"), page.npos);
}

}  // namespace
}  // namespace residual
