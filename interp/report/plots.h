// Vega specifications for the plots that reports use. They take their width from the page, their
// colours from its scheme, and show exact values when pointed at.

#ifndef RESIDUAL_INTERP_REPORT_PLOTS_H_
#define RESIDUAL_INTERP_REPORT_PLOTS_H_

#include <optional>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace residual {

struct Series {
  std::string name;
  std::vector<double> x, y;  // as many of each (CHECKed); a NaN leaves a gap
  int color = 0;             // of the page's series colours, 0 to 4
  bool dashed = false;
};

struct AxesOptions {
  std::string x_title, y_title;
  std::string x_format, y_format = ".2f";  // d3-format; of y: what is shown when pointed at
  std::optional<double> y_low, y_high;     // of the y axis; else from the data
  int height = 220;
  // A logarithmic x axis with ticks at these values, all positive; empty: a linear one.
  std::vector<double> log_x_ticks = {};
  // A logarithmic y axis; values that are not positive are left out.
  bool log_y = false;
  bool legend = true;  // where there are several series
};

// A stretch of the x axis that is shaded and named.
struct Band {
  double from = 0, to = 0;
  std::string label;
};

nlohmann::json LinePlot(const std::vector<Series>& series, const AxesOptions& options,
                        const std::optional<Band>& band = std::nullopt);

struct Bar {
  std::string label;
  double value = 0;
  int color = 0;
  std::vector<double> points = {};  // single values behind a mean, as dots
  std::string note = {};            // shown with the value when pointed at
};

struct BarOptions {
  std::string value_title;
  std::string format = ".2f";
  std::optional<double> low, high;  // of the value axis; else from the data, zero included
  std::optional<double> reference;  // a dashed rule, e.g. what chance gives
  std::string reference_label;
};

// Horizontal bars in the given order, each with its value at the end. Labels must differ.
nlohmann::json BarPlot(const std::vector<Bar>& bars, const BarOptions& options);

// A square with dots at (x, y) and rules through zero: eigenvalues in the complex plane. Both axes
// have the same scale and run from -limit to limit.
struct Dots {
  std::string name;
  std::vector<double> x, y;
  int color = 0;
};
nlohmann::json PlanePlot(const std::vector<Dots>& dots, const std::string& x_title,
                         const std::string& y_title);

// Nodes and links between them, drawn where the nodes say: a circuit. A link's width is its
// weight's size, of the largest.
struct GraphNode {
  std::string label;
  double x = 0, y = 0;  // x in [0, 1]; y is up
};
struct GraphLink {
  int from = 0, to = 0;  // nodes
  double weight = 0;
  int kind = 0;
  std::string note;  // shown when pointed at
};
struct LinkKind {
  std::string name;
  int color = 0;
};
// Links name nodes and kinds that there are (CHECKed).
nlohmann::json GraphPlot(const std::vector<GraphNode>& nodes, const std::vector<GraphLink>& links,
                         const std::vector<LinkKind>& kinds, int height);

}  // namespace residual

#endif  // RESIDUAL_INTERP_REPORT_PLOTS_H_
