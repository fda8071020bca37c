#include "tools/memory/memory_page.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "interp/report/plots.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

constexpr char kHippo[] = "https://arxiv.org/abs/2008.07669";
constexpr char kTrain[] = "https://arxiv.org/abs/2206.12037";

std::string Word(HippoMeasure measure) {
  switch (measure) {
    case HippoMeasure::kLegS:
      return "Legendre, all of the past";
    case HippoMeasure::kLegT:
      return "Legendre, a window";
    case HippoMeasure::kFourier:
      return "Fourier, a window";
    case HippoMeasure::kChebyshev:
      return "Chebyshev, a window";
    case HippoMeasure::kRandom:
      break;
  }
  return "a random system";
}

std::string Percent(double error) { return absl::StrCat(FormatNumber(100 * error, 1), "%"); }

Series SignalSeries(const MemoryFindings& found, const Remembered& at) {
  Series series{"signal", {}, {}, 4, true};
  for (const int64_t sample : at.samples) {
    series.x.push_back(static_cast<double>(sample));
    series.y.push_back(found.signal[sample]);
  }
  return series;
}

Series RecalledSeries(const std::string& name, const Remembered& at, int color) {
  Series series{name, {}, {}, color};
  for (size_t i = 0; i < at.samples.size(); ++i) {
    series.x.push_back(static_cast<double>(at.samples[i]));
    series.y.push_back(at.recalled[i]);
  }
  return series;
}

// The range of the signal and a half: edges where a basis is infinite do not flatten the rest.
void LimitRange(const MemoryFindings& found, AxesOptions& axes) {
  const auto [low, high] = std::minmax_element(found.signal.begin(), found.signal.end());
  const double margin = (*high - *low) / 4 + 1e-3 * (1 + std::abs(*high));
  axes.y_low = *low - margin;
  axes.y_high = *high + margin;
}

// Values beyond the axis are left out of a line.
void Clip(const AxesOptions& axes, std::vector<Series>& lines) {
  for (Series& line : lines) {
    for (double& y : line.y) {
      if (y < *axes.y_low || y > *axes.y_high) y = std::nan("");
    }
  }
}

void OverTime(const MemoryFindings& found, Report& report) {
  report.Section("What the state holds, as the signal goes on");
  AxesOptions axes;
  axes.x_title = "sample";
  axes.y_title = "signal";
  LimitRange(found, axes);
  const size_t count = found.over_time.size();
  std::vector<Series> lines = {SignalSeries(found, found.over_time.back())};
  int color = 0;
  std::set<size_t> moments;
  for (const size_t quarter : {1, 2, 4})
    moments.insert(std::max<size_t>(1, quarter * count / 4) - 1);
  for (const size_t moment : moments) {
    const Remembered& at = found.over_time[moment];
    lines.push_back(RecalledSeries(absl::StrCat("after ", at.at), at, color++));
  }
  Clip(axes, lines);
  report.Plot(
      LinePlot(lines, axes),
      Html(absl::StrCat("The past as ", found.n, " numbers tell it, at up to three moments (",
                        Word(found.measure), ").")),
      "The signal, dashed, and three curves that follow it up to the moments they were "
      "taken at.");
  AxesOptions errors;
  errors.x_title = "samples taken";
  errors.y_title = "error, relative";
  errors.y_low = 0;
  errors.y_format = ".3f";
  Series error{"error", {}, {}, 0};
  for (const Remembered& at : found.over_time) {
    error.x.push_back(static_cast<double>(at.at));
    error.y.push_back(at.error);
  }
  report.Plot(LinePlot({error}, errors),
              "Root mean square of the difference to all of the past so far, relative to the "
              "signal's.",
              "The error of the reconstruction against the number of samples taken.");
}

void BySize(const MemoryFindings& found, Report& report) {
  report.Section("Which basis, and how many numbers");
  AxesOptions errors;
  errors.x_title = "numbers in the state, N";
  errors.y_title = "error, relative";
  errors.y_format = ".3f";
  errors.y_low = 0;
  errors.y_high = 1.2;
  std::vector<Series> lines;
  Table table;
  table.caption = "Relative error at the end of the signal";
  table.columns.push_back({"basis", false});
  for (const int64_t n : found.sizes) table.columns.push_back({absl::StrCat("N = ", n)});
  for (size_t i = 0; i < found.curves.size(); ++i) {
    const ErrorCurve& curve = found.curves[i];
    Series line{Word(curve.measure), {}, {}, static_cast<int>(i % 5)};
    std::vector<TableCell> row = {{Word(curve.measure)}};
    for (size_t k = 0; k < found.sizes.size(); ++k) {
      line.x.push_back(static_cast<double>(found.sizes[k]));
      line.y.push_back(curve.errors[k]);
      row.push_back({Percent(curve.errors[k]), std::min(1.0, curve.errors[k])});
    }
    lines.push_back(line);
    table.rows.push_back(row);
  }
  Clip(errors, lines);
  report.Plot(LinePlot(lines, errors), "The error at the end of the signal against N.",
              "A curve for each basis: the error falls as N grows, that of a random system least.");
  report.AddTable(table);
  AxesOptions axes;
  axes.x_title = "sample";
  axes.y_title = "signal";
  LimitRange(found, axes);
  std::vector<Series> recalled = {SignalSeries(found, found.at_end[0])};
  for (size_t i = 0; i < found.at_end.size(); ++i) {
    if (found.curves[i].measure == HippoMeasure::kRandom) continue;
    recalled.push_back(
        RecalledSeries(Word(found.curves[i].measure), found.at_end[i], static_cast<int>(i)));
  }
  Clip(axes, recalled);
  report.Plot(LinePlot(recalled, axes),
              Html(absl::StrCat("The whole signal at its end, from ", found.n, " numbers each.")),
              "The signal, dashed, and its reconstructions in four bases.");
}

}  // namespace

Report MemoryPage(const MemoryFindings& found) {
  RESIDUAL_CHECK(!found.over_time.empty() && !found.at_end.empty());
  RESIDUAL_CHECK_EQ(found.curves.size(), found.at_end.size());
  for (const ErrorCurve& curve : found.curves) {
    RESIDUAL_CHECK_EQ(curve.errors.size(), found.sizes.size());
  }
  Report report("A memory of fixed size",
                Html("A linear system x' = A x + B u takes a signal sample by sample. Its state "
                     "holds the coefficients of what it took in an orthonormal basis (") +
                    Link(kHippo, "Gu et al. 2020") + "), so the past can be read from it.");
  const Remembered& end = found.over_time.back();
  report.Figures({{absl::StrCat(found.n), Html("numbers in the state"), Word(found.measure)},
                  {absl::StrCat(found.signal.size()), "samples", found.name},
                  {Percent(end.error), "relative error at the end", "over the whole signal"}});
  OverTime(found, report);
  BySize(found, report);
  report.Section("How to read this");
  report.List(
      {Html("Legendre over all of the past (HiPPO-LegS) has rates that fall as 1/t: no length is "
            "set "
            "beforehand. The others have a window, here of the signal's length, by the bilinear "
            "transform."),
       Html("Legendre in a window (HiPPO-LegT) and Chebyshev hold the same polynomial, as both "
            "close "
            "the equation by it. They are read in different bases: Chebyshev's is tilted by the "
            "weight "
            "1 / sqrt(1 - y") +
           Sup("2") + "), infinite at both ends of the window, where its errors are.",
       Html("Fourier's series is periodic in the window (") + Link(kTrain, "Gu et al. 2022") +
           "): where the signal's ends differ, it rings.",
       "A random system has no basis. It is read by the linear map that does best on white noise "
       "of "
       "the window's length: what is lost then is not in the state."});
  return report;
}

}  // namespace residual
