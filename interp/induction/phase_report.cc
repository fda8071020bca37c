#include "interp/induction/phase_report.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "interp/report/plots.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

Series Of(const PhaseStudy::Curve& curve, double TrainingPoint::*value) {
  Series series{curve.name, {}, {}, curve.color};
  for (const TrainingPoint& point : curve.points) {
    series.x.push_back(static_cast<double>(point.tokens) / 1e6);
    series.y.push_back(point.*value);
  }
  return series;
}

}  // namespace

void AddPhasePictures(const PhaseStudy& study, Report& report) {
  RESIDUAL_CHECK(!study.curves.empty());
  const PhaseChange window = FindPhaseChange(study.curves[0].points);
  std::optional<Band> band;
  if (window.found()) {
    band = Band{static_cast<double>(study.curves[0].points[window.first].tokens) / 1e6,
                static_cast<double>(study.curves[0].points[window.last].tokens) / 1e6,
                study.curves[0].name};
  }
  AxesOptions axes;
  axes.x_title = "tokens trained on (millions)";
  axes.x_format = ".1f";
  const auto plot = [&](double TrainingPoint::*value, const char* y_title, const char* caption,
                        const char* description) {
    axes.y_title = y_title;
    std::vector<Series> series;
    for (const PhaseStudy::Curve& curve : study.curves) series.push_back(Of(curve, value));
    report.Plot(LinePlot(series, axes, band), caption, description);
  };
  report.Section("The phase change");
  plot(&TrainingPoint::best_induction, "best prefix-matching score",
       "Attention of the best head, on random tokens twice, to what followed the earlier "
       "occurrence.",
       "Three curves rise, that of one layer with plain keys does not; smeared keys are earlier.");
  plot(&TrainingPoint::icl_score, "in-context score (nats)",
       "Loss in the last eighth of the context less loss between its sixteenth and its eighth, on "
       "held-out windows. Below zero: what was read helps.",
       "The in-context score falls where prefix matching rises.");
  plot(&TrainingPoint::loss, "training loss (nats)",
       "The same from outside: the loss bends down where the heads form.",
       "Training losses; those that form induction heads bend down.");
  if (!study.smears.empty()) {
    report.Paragraph(
        "What heads learned to keep of each key, the rest being that of the key "
        "before (all began with a half):");
    std::vector<Html> items;
    for (const std::string& line : study.smears) items.push_back(line);
    report.List(items);
  }

  report.Section("Without the induction heads");
  const AblationStudy& a = study.ablations;
  BarOptions options;
  options.value_title = "in-context score (nats)";
  std::vector<Bar> bars = {
      {"intact", a.icl_score, 0},
      {"without induction heads, patterns held", a.frozen.without_induction, 1},
      {"without induction heads", a.full.without_induction, 1}};
  if (!a.random_sets.empty()) {
    bars.push_back(
        {"without other heads, patterns held", a.frozen.random_mean, 2, a.frozen.without_random});
    bars.push_back({"without other heads", a.full.random_mean, 2, a.full.without_random});
  }
  std::vector<std::string> names;
  for (const HeadIndex& head : a.induction_heads) names.push_back(HeadName(head));
  report.Plot(BarPlot(bars, options),
              absl::StrCat("Two layers, at the end of training. Induction heads: ",
                           names.empty() ? "none" : absl::StrJoin(names, ", "), "."),
              "Without induction heads little of the in-context score is left.");
}

}  // namespace residual
