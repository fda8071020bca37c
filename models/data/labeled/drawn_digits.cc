#include "models/data/labeled/drawn_digits.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

struct Point {
  double x, y;  // right and down, in [0, 1]
};
using Stroke = std::vector<Point>;

const std::vector<std::vector<Stroke>>& Drawings() {
  static const auto& drawings = *new std::vector<std::vector<Stroke>>{
      {{{.5, .13},
        {.32, .25},
        {.27, .5},
        {.33, .77},
        {.5, .88},
        {.67, .77},
        {.73, .5},
        {.68, .25},
        {.5, .13}}},
      {{{.36, .3}, {.52, .14}, {.52, .86}}},
      {{{.27, .3}, {.36, .17}, {.6, .15}, {.72, .3}, {.64, .48}, {.26, .85}, {.75, .85}}},
      {{{.28, .2},
        {.5, .13},
        {.7, .27},
        {.61, .44},
        {.44, .48},
        {.68, .56},
        {.72, .73},
        {.5, .87},
        {.26, .78}}},
      {{{.6, .86}, {.6, .14}, {.24, .62}, {.78, .62}}},
      {{{.71, .15}, {.34, .15}, {.3, .46}, {.55, .42}, {.72, .6}, {.61, .82}, {.28, .82}}},
      {{{.65, .14},
        {.42, .33},
        {.3, .6},
        {.38, .83},
        {.6, .85},
        {.71, .68},
        {.58, .52},
        {.34, .6}}},
      {{{.25, .15}, {.75, .15}, {.43, .86}}},
      {{{.5, .48},
        {.33, .36},
        {.36, .18},
        {.5, .13},
        {.64, .18},
        {.67, .36},
        {.5, .48},
        {.3, .64},
        {.34, .82},
        {.5, .88},
        {.66, .82},
        {.7, .64},
        {.5, .48}}},
      {{{.68, .4}, {.5, .5}, {.33, .4}, {.35, .2}, {.5, .14}, {.67, .22}, {.68, .4}, {.6, .86}}}};
  return drawings;
}

double Distance(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y, length = dx * dx + dy * dy;
  const double along =
      length == 0 ? 0 : std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length, 0.0, 1.0);
  return std::hypot(p.x - a.x - along * dx, p.y - a.y - along * dy);
}

}  // namespace

LabeledSequences DrawnDigits(int64_t n, int64_t side, uint64_t seed) {
  RESIDUAL_CHECK(n >= 0 && side >= 4) << n << " drawings of " << side;
  LabeledSequences data;
  data.n_classes = 10;
  data.x = Tensor::Uninitialized({n, side * side, 1});
  for (int64_t i = 0; i < n; ++i) {
    const Philox random(seed, RandomStream("drawn digit", static_cast<uint64_t>(i)));
    uint64_t next = 0;
    const auto between = [&](double low, double high) {
      return low + (high - low) * random.UniformDouble(next++);
    };
    data.label.push_back(static_cast<int>(random.Below(next++, 10)));
    const double angle = between(-0.25, 0.25), shear = between(-0.3, 0.3);
    const double width = between(0.75, 1.05), height = between(0.75, 1.05);
    const Point middle = {0.5 + between(-0.1, 0.1), 0.5 + between(-0.1, 0.1)};
    const double pen = between(0.03, 0.06), pixel = 1.0 / static_cast<double>(side);
    std::vector<Stroke> strokes = Drawings()[data.label.back()];
    for (Stroke& stroke : strokes) {
      for (Point& p : stroke) {
        const double y = (p.y - 0.5 + 0.025 * random.Normal(next++)) * height;
        const double x = (p.x - 0.5 + 0.025 * random.Normal(next++)) * width - shear * y;
        p = {middle.x + std::cos(angle) * x - std::sin(angle) * y,
             middle.y + std::sin(angle) * x + std::cos(angle) * y};
      }
    }
    float* const to = data.x.mutable_data<float>() + i * side * side;
    for (int64_t k = 0; k < side * side; ++k) {
      const Point at = {(static_cast<double>(k % side) + 0.5) * pixel,
                        (static_cast<double>(k / side) + 0.5) * pixel};
      double nearest = 2;
      for (const Stroke& stroke : strokes) {
        for (size_t s = 1; s < stroke.size(); ++s) {
          nearest = std::min(nearest, Distance(at, stroke[s - 1], stroke[s]));
        }
      }
      // Ink fades over a pixel at the pen's edge.
      to[k] = static_cast<float>(std::clamp((pen - nearest) / pixel + 0.5, 0.0, 1.0));
    }
  }
  return data;
}

absl::StatusOr<LabeledSequences> PoolImages(const LabeledSequences& data, int64_t pool) {
  const int64_t pixels = data.d_vocab > 0 ? 0 : data.length();
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(pixels))));
  if (pool < 1 || side == 0 || side * side != pixels || side % pool != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("rows of ", data.length(), " cannot be averaged over ", pool, " x ", pool,
                     " pixels, expected square images whose side it divides"));
  }
  if (pool == 1) return data;
  const int64_t n = data.n(), channels = data.x.dim(2), small = side / pool;
  LabeledSequences pooled = data;
  pooled.x = Tensor::Zeros({n, small * small, channels});
  float* const to = pooled.x.mutable_data<float>();
  const float* const from = data.x.data<float>();
  const float share = 1.0f / static_cast<float>(pool * pool);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < pixels; ++k) {
      const int64_t at = k / side / pool * small + k % side / pool;
      for (int64_t c = 0; c < channels; ++c) {
        to[(i * small * small + at) * channels + c] +=
            share * from[(i * pixels + k) * channels + c];
      }
    }
  }
  return pooled;
}

}  // namespace residual
