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

constexpr int kGrey = 4;
constexpr int kPanel = 130;  // height of one of several plots that belong together, pixels

Series SignalSeries(const MemoryFindings& found, const Remembered& at) {
  Series series{"signal", {}, {}, kGrey};
  for (const int64_t sample : at.samples) {
    series.x.push_back(static_cast<double>(sample));
    series.y.push_back(found.signal[sample]);
  }
  return series;
}

Series RecalledSeries(const Remembered& at, int color) {
  Series series{"recalled", {}, {}, color};
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

// The signal and what is recalled of it. Several of them stand below one another on the same axes.
void Panel(const MemoryFindings& found, const Remembered& at, int color, bool first,
           const Html& caption, Report& report) {
  AxesOptions axes;
  axes.height = kPanel + (first ? 30 : 0);  // of the legend
  axes.legend = first;
  LimitRange(found, axes);
  // The whole signal behind each: the end of a memory's past is a place in it.
  std::vector<Series> lines = {SignalSeries(found, found.over_time.back()),
                               RecalledSeries(at, color)};
  Clip(axes, lines);
  report.Plot(LinePlot(lines, axes), caption, "The signal in grey and what is recalled of it.");
}

void OverTime(const MemoryFindings& found, Report& report) {
  report.Section("What the state holds, as the signal goes on");
  report.Paragraph(Html(absl::StrCat("The past as ", found.n, " numbers tell it (",
                                     Word(found.measure), "), at up to three moments.")));
  const size_t count = found.over_time.size();
  std::set<size_t> moments;
  for (const size_t quarter : {1, 2, 4})
    moments.insert(std::max<size_t>(1, quarter * count / 4) - 1);
  for (const size_t moment : moments) {
    const Remembered& at = found.over_time[moment];
    Panel(found, at, 0, moment == *moments.begin(),
          Html(absl::StrCat("after ", at.at, " samples: an error of ", Percent(at.error))), report);
  }
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
  errors.log_y = true;
  errors.height = 280;
  for (const int64_t n : found.sizes) errors.log_x_ticks.push_back(static_cast<double>(n));
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
  report.Plot(LinePlot(lines, errors),
              "The error at the end of the signal against N; both axes are logarithmic.",
              "A curve for each basis: the error falls as N grows, that of a random system least.");
  report.AddTable(table);
  report.Paragraph(
      Html(absl::StrCat("The whole signal at its end, from ", found.n, " numbers each.")));
  for (size_t i = 0; i < found.at_end.size(); ++i) {
    Panel(found, found.at_end[i], static_cast<int>(i % kGrey), i == 0,
          Html(absl::StrCat(Word(found.curves[i].measure), ": ", Percent(found.at_end[i].error))),
          report);
  }
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
