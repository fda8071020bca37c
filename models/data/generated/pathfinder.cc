#include "models/data/generated/pathfinder.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kHalfWidth = 0.5, kRadius = 1;  // of dashes and discs, pixels
constexpr float kDashBrightness = 0.6f;          // discs are 1
constexpr double kMargin = 2;                    // from the border to a dash's centre line
constexpr int kTrials = 200000;                  // of places for a dash, for an image
constexpr int kStarts = 20, kTurns = 6;          // of a curve, of a dash
constexpr int kBack = 4, kSteps = 4;  // dashes given up in a dead end, steps for each dash
constexpr int64_t kMostValues = int64_t{1} << 29;

struct Point {
  double x, y;
};

struct Dash {
  Point from, to;
};

using Curve = std::vector<Dash>;

double Distance(Point a, Point b) { return std::hypot(a.x - b.x, a.y - b.y); }

double DistanceTo(const Dash& dash, Point p) {
  const double dx = dash.to.x - dash.from.x, dy = dash.to.y - dash.from.y;
  const double along = ((p.x - dash.from.x) * dx + (p.y - dash.from.y) * dy) / (dx * dx + dy * dy);
  const double t = std::clamp(along, 0.0, 1.0);
  return Distance(p, {dash.from.x + t * dx, dash.from.y + t * dy});
}

// On which side of a line a point lies.
double Side(const Dash& line, Point p) {
  return (line.to.x - line.from.x) * (p.y - line.from.y) -
         (line.to.y - line.from.y) * (p.x - line.from.x);
}

double Between(const Dash& a, const Dash& b) {
  if (Side(a, b.from) * Side(a, b.to) < 0 && Side(b, a.from) * Side(b, a.to) < 0) return 0;
  return std::min(std::min(DistanceTo(b, a.from), DistanceTo(b, a.to)),
                  std::min(DistanceTo(a, b.from), DistanceTo(a, b.to)));
}

class Drawing {
 public:
  Drawing(const PathfinderOptions& options, uint64_t seed, int64_t row)
      : options_(options), random_(seed, RandomStream("pathfinder", static_cast<uint64_t>(row))) {}

  // False: the curves did not fit.
  bool Draw() {
    while (trials_ < kTrials) {
      if (Place()) return true;
    }
    return false;
  }

  // After Draw. Chooses the discs; renders to [size, size], zeros before.
  int Render(float* pixels) {
    const int label = static_cast<int>(random_.Below(next_++, 2));
    std::array<Point, 2> discs = Ends(curves_[0]);
    if (label == 0) discs = Apart(Distance(discs[0], discs[1]));
    for (const Curve& curve : curves_) {
      for (const Dash& dash : curve) {
        Spot(pixels, dash, kHalfWidth, kDashBrightness);
      }
    }
    for (const Point& disc : discs) Spot(pixels, {disc, {disc.x, disc.y + 1e-9}}, kRadius, 1);
    return label;
  }

 private:
  double Uniform(double low, double high) {
    return low + (high - low) * random_.UniformDouble(next_++);
  }

  bool Place() {
    curves_.clear();
    if (!Add(options_.n_dashes, 1) || !Add(options_.n_dashes, 1)) return false;
    for (int i = 0; i < options_.n_distractors; ++i) {
      if (!Add(std::max(1, options_.n_dashes / 3), 0)) return false;
    }
    return true;
  }

  // A curve more; `long_ends` 1 keeps room around both its ends, whether a disc comes or not.
  bool Add(int n_dashes, double long_ends) {
    for (int start = 0; start < kStarts && trials_ < kTrials; ++start) {
      const double far = options_.size - kMargin;
      const Point from{Uniform(kMargin, far), Uniform(kMargin, far)};
      Curve curve;
      if (Grow(from, Uniform(-kPi, kPi), n_dashes, long_ends, &curve)) {
        curves_.push_back(std::move(curve));
        return true;
      }
    }
    return false;
  }

  bool Grow(Point from, double angle, int n_dashes, double long_ends, Curve* curve) {
    // The angles of the dashes so far. From a dead end the way goes back a few dashes.
    std::vector<double> angles;
    for (int steps = 0; static_cast<int>(curve->size()) < n_dashes; ++steps) {
      bool placed = false;
      for (int turn = 0; turn < kTurns && !placed; ++turn) {
        if (++trials_ > kTrials) return false;
        const double before = angles.empty() ? angle : angles.back();
        const double towards = before + Uniform(-options_.max_turn, options_.max_turn);
        const double dx = std::cos(towards), dy = std::sin(towards);
        const Point last = curve->empty() ? from : curve->back().to;
        const double skip = curve->empty() ? 0 : options_.gap;
        const Point begin{last.x + skip * dx, last.y + skip * dy};
        const Dash dash{begin, {begin.x + options_.dash * dx, begin.y + options_.dash * dy}};
        const bool is_end = curve->empty() || static_cast<int>(curve->size()) + 1 == n_dashes;
        if (!Fits(dash, *curve, is_end ? long_ends : 0)) continue;
        curve->push_back(dash);
        angles.push_back(towards);
        placed = true;
      }
      if (placed) continue;
      if (curve->empty() || steps > kSteps * n_dashes) return false;
      const size_t kept = curve->size() - std::min<size_t>(curve->size(), kBack);
      curve->resize(kept);
      angles.resize(kept);
    }
    return true;
  }

  bool Fits(const Dash& dash, const Curve& own, double more) const {
    for (const Point& p : {dash.from, dash.to}) {
      if (std::min(p.x, p.y) < kMargin || std::max(p.x, p.y) > options_.size - kMargin) {
        return false;
      }
    }
    const double clearance = options_.clearance + more * kRadius;
    for (size_t i = 0; i + 1 < own.size(); ++i) {
      if (Between(dash, own[i]) < options_.clearance) return false;
    }
    for (size_t i = 0; i < curves_.size(); ++i) {
      for (const Dash& other : curves_[i]) {
        const bool end = i < 2 && (&other == &curves_[i].front() || &other == &curves_[i].back());
        if (Between(dash, other) < std::max(clearance, options_.clearance + (end ? kRadius : 0))) {
          return false;
        }
      }
    }
    return true;
  }

  static std::array<Point, 2> Ends(const Curve& curve) {
    return {curve.front().from, curve.back().to};
  }

  // An end of each long curve: the two whose distance is nearest to that of the ends of one, so
  // that the distance between the discs tells little.
  std::array<Point, 2> Apart(double wanted) const {
    std::array<Point, 2> best{};
    double least = INFINITY;
    for (const Point& a : Ends(curves_[0])) {
      for (const Point& b : Ends(curves_[1])) {
        const double off = std::abs(Distance(a, b) - wanted);
        if (off < least) {
          least = off;
          best = {a, b};
        }
      }
    }
    return best;
  }

  // A stroke with soft edges: full inside the half width, nothing a pixel further out.
  void Spot(float* pixels, const Dash& dash, double half_width, float brightness) const {
    const double reach = half_width + 0.5;
    const auto first = [&](double a, double b) {
      return std::max(0, static_cast<int>(std::floor(std::min(a, b) - reach - 0.5)));
    };
    const auto last = [&](double a, double b) {
      return std::min(options_.size - 1, static_cast<int>(std::ceil(std::max(a, b) + reach)));
    };
    for (int y = first(dash.from.y, dash.to.y); y <= last(dash.from.y, dash.to.y); ++y) {
      for (int x = first(dash.from.x, dash.to.x); x <= last(dash.from.x, dash.to.x); ++x) {
        const double inside = std::clamp(reach - DistanceTo(dash, {x + 0.5, y + 0.5}), 0.0, 1.0);
        float& pixel = pixels[y * options_.size + x];
        pixel = std::max(pixel, brightness * static_cast<float>(inside));
      }
    }
  }

  const PathfinderOptions& options_;
  const Philox random_;
  uint64_t next_ = 0;
  int trials_ = 0;
  std::vector<Curve> curves_;
};

template <class T>
absl::Status Check(const char* option, T found, T least, T most) {
  if (found >= least && found <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("pathfinder: ", option, " is ", found, ", expected ", least, " to ", most));
}

}  // namespace

absl::StatusOr<LabeledSequences> MakePathfinder(const PathfinderOptions& options, uint64_t seed) {
  RESIDUAL_RETURN_IF_ERROR(Check("size", options.size, 8, 1024));
  const int64_t pixels = int64_t{options.size} * options.size;
  RESIDUAL_RETURN_IF_ERROR(Check<int64_t>("n", options.n, 1, kMostValues / pixels));
  RESIDUAL_RETURN_IF_ERROR(Check("n_dashes", options.n_dashes, 1, 1000));
  RESIDUAL_RETURN_IF_ERROR(Check("n_distractors", options.n_distractors, 0, 1000));
  const double side = options.size;
  RESIDUAL_RETURN_IF_ERROR(Check("dash", options.dash, 0.5, side));
  RESIDUAL_RETURN_IF_ERROR(Check("gap", options.gap, 0.0, side));
  RESIDUAL_RETURN_IF_ERROR(Check("max_turn", options.max_turn, 0.0, kPi));
  RESIDUAL_RETURN_IF_ERROR(Check("clearance", options.clearance, 0.0, side));
  LabeledSequences data;
  data.x = Tensor::Zeros({options.n, pixels, 1});
  data.label.resize(options.n);
  data.n_classes = 2;
  float* x = data.x.mutable_data<float>();
  std::atomic<bool> failed{false};
  ParallelFor(options.n, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end && !failed; ++i) {
      Drawing drawing(options, seed, i);
      if (drawing.Draw()) {
        data.label[i] = drawing.Render(x + i * pixels);
      } else {
        failed = true;
      }
    }
  });
  if (failed) {
    return absl::InvalidArgumentError(absl::StrCat(
        "pathfinder: two curves of ", options.n_dashes, " dashes and ", options.n_distractors,
        " distractors do not fit in ", options.size, " by ", options.size, " pixels (", kTrials,
        " trials): a larger size or a smaller clearance?"));
  }
  return data;
}

}  // namespace residual
