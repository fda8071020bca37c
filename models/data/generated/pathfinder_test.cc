#include "models/data/generated/pathfinder.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

struct Seen {
  int lit_groups = 0;           // curves
  std::vector<int> disc_group;  // of each disc, the curve it is on
  double disc_distance = 0;
};

// What eyes see in the pixels alone: pixels brighter than 0.24 belong together when they are at
// most sqrt(5) apart; discs are groups of pixels brighter than any dash.
Seen Look(absl::Span<const float> pixels, int size) {
  const auto groups = [&](float brighter, int reach2) {
    std::vector<int> group(pixels.size(), -1);
    int n = 0;
    for (size_t start = 0; start < pixels.size(); ++start) {
      if (pixels[start] <= brighter || group[start] >= 0) continue;
      std::vector<int> open = {static_cast<int>(start)};
      group[start] = n;
      while (!open.empty()) {
        const int at = open.back();
        open.pop_back();
        for (int dy = -2; dy <= 2; ++dy) {
          for (int dx = -2; dx <= 2; ++dx) {
            const int x = at % size + dx, y = at / size + dy;
            if (x < 0 || y < 0 || x >= size || y >= size || dx * dx + dy * dy > reach2) continue;
            const int next = y * size + x;
            if (pixels[next] > brighter && group[next] < 0) {
              group[next] = n;
              open.push_back(next);
            }
          }
        }
      }
      ++n;
    }
    return std::make_pair(group, n);
  };
  Seen seen;
  const auto [curve, n_curves] = groups(0.24f, 8);
  const auto [disc, n_discs] = groups(0.61f, 2);
  seen.lit_groups = n_curves;
  seen.disc_group.assign(n_discs, -1);
  std::vector<double> x(n_discs), y(n_discs), pixels_of(n_discs);
  for (size_t i = 0; i < pixels.size(); ++i) {
    if (disc[i] < 0) continue;
    seen.disc_group[disc[i]] = curve[i];
    x[disc[i]] += static_cast<double>(i % size);
    y[disc[i]] += static_cast<double>(i / size);
    pixels_of[disc[i]] += 1;
  }
  if (n_discs == 2) {
    seen.disc_distance = std::hypot(x[0] / pixels_of[0] - x[1] / pixels_of[1],
                                    y[0] / pixels_of[0] - y[1] / pixels_of[1]);
  }
  return seen;
}

absl::Span<const float> Image(const LabeledSequences& data, int64_t i) {
  return data.x.span<float>().subspan(i * data.length(), data.length());
}

TEST(PathfinderTest, TheLabelIsWhatEyesSee) {
  PathfinderOptions options;
  options.n = 300;
  const auto data = MakePathfinder(options, 4);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->x.shape(), Shape({300, 1024, 1}));
  EXPECT_EQ(data->n_classes, 2);
  for (int64_t i = 0; i < data->n(); ++i) {
    const auto pixels = Image(*data, i);
    EXPECT_GE(*std::min_element(pixels.begin(), pixels.end()), 0.0f);
    EXPECT_LE(*std::max_element(pixels.begin(), pixels.end()), 1.0f);
    const Seen seen = Look(pixels, options.size);
    ASSERT_EQ(seen.disc_group.size(), 2u) << i;
    EXPECT_EQ(seen.lit_groups, 5) << i;
    EXPECT_EQ(seen.disc_group[0] == seen.disc_group[1], data->label[i] == 1) << i;
  }
  EXPECT_NEAR(std::count(data->label.begin(), data->label.end(), 1), 150, 35);
}

TEST(PathfinderTest, TheDistanceOfTheDiscsTellsLittle) {
  PathfinderOptions options;
  options.n = 600;
  const auto data = MakePathfinder(options, 5).value();
  std::vector<std::pair<double, int>> order;
  for (int64_t i = 0; i < data.n(); ++i) {
    order.push_back({Look(Image(data, i), options.size).disc_distance, data.label[i]});
  }
  std::sort(order.begin(), order.end());
  // The best that "nearer (or further) than so much" can do.
  const auto ones = std::count(data.label.begin(), data.label.end(), 1);
  int64_t below = 0, best = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    below += order[i].second;
    const int64_t right = below + static_cast<int64_t>(order.size() - i - 1) - (ones - below);
    best = std::max({best, right, data.n() - right});
  }
  EXPECT_LT(static_cast<double>(best) / 600, 0.75);
}

TEST(PathfinderTest, RowsFollowTheSeedAndNotHowManyThereAre) {
  PathfinderOptions options;
  options.n = 20;
  const auto some = MakePathfinder(options, 1).value();
  options.n = 40;
  const auto more = MakePathfinder(options, 1).value(), other = MakePathfinder(options, 2).value();
  int64_t same = 0;
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(some.label[i], more.label[i]);
    EXPECT_EQ(Image(some, i), Image(more, i));
    same += Image(some, i) == Image(other, i);
  }
  EXPECT_EQ(same, 0);
}

TEST(PathfinderTest, OtherSizes) {
  PathfinderOptions options;
  options.n = 8;
  options.size = 128;
  options.n_dashes = 40;
  options.n_distractors = 10;
  const auto data = MakePathfinder(options, 1);
  ASSERT_TRUE(data.ok()) << data.status();
  for (int64_t i = 0; i < 8; ++i) {
    const Seen seen = Look(Image(*data, i), 128);
    ASSERT_EQ(seen.disc_group.size(), 2u);
    EXPECT_EQ(seen.disc_group[0] == seen.disc_group[1], data->label[i] == 1);
    EXPECT_EQ(seen.lit_groups, 12);
  }
}

TEST(PathfinderTest, WhatCannotBeIsSaid) {
  const auto message = [](const PathfinderOptions& options) {
    return std::string(MakePathfinder(options, 1).status().message());
  };
  PathfinderOptions options;
  options.n_dashes = 60;
  EXPECT_EQ(message(options),
            "pathfinder: two curves of 60 dashes and 3 distractors do not fit in 32 by 32 pixels "
            "(200000 trials): a larger size or a smaller clearance?");
  options = {};
  options.size = 7;
  EXPECT_EQ(message(options), "pathfinder: size is 7, expected 8 to 1024");
  options = {};
  options.dash = NAN;
  EXPECT_EQ(message(options), "pathfinder: dash is nan, expected 0.5 to 32");
  options = {};
  options.n = int64_t{1} << 40;
  EXPECT_EQ(message(options), "pathfinder: n is 1099511627776, expected 1 to 524288");
}

}  // namespace
}  // namespace residual
