#include "interp/report/plots.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr int kBarHeight = 26;

// A finite number, or null.
json Number(double x) { return std::isfinite(x) ? json(x) : json(nullptr); }

// The parts all specifications share. The width follows the element the plot stands in.
json Frame(json height) {
  const char* width = "max(220, containerSize()[0])";
  return {
      {"width", 640},
      {"height", std::move(height)},
      {"padding", {{"left", 2}, {"right", 6}, {"top", 4}, {"bottom", 2}}},
      {"autosize", {{"type", "fit"}, {"contains", "padding"}, {"resize", true}}},
      {"signals",
       {{{"name", "width"},
         {"init", width},
         {"on", {{{"events", {{"source", "window"}, {"type", "resize"}}}, {"update", width}}}}}}}};
}

// {"scale": "color", "value": "2"}: a series colour of the page, by number.
json ColorOf(const std::string& field) { return {{"scale", "color"}, {"field", field}}; }

json ColorScale() {
  return {
      {"name", "color"}, {"type", "ordinal"}, {"domain", {0, 1, 2, 3, 4}}, {"range", "category"}};
}

json Linear(const std::string& name, const std::string& range, const std::optional<double>& low,
            const std::optional<double>& high, bool zero, json domain) {
  json scale = {{"name", name}, {"type", "linear"}, {"range", range},
                {"zero", zero}, {"nice", true},     {"domain", std::move(domain)}};
  if (low) scale["domainMin"] = *low;
  if (high) scale["domainMax"] = *high;
  return scale;
}

void MakeLogarithmic(json& scale) {
  scale["type"] = "log";
  scale["nice"] = false;  // whole decades would leave half of the plot empty
  scale.erase("zero");
}

json Axis(const std::string& orient, const std::string& scale, const std::string& title,
          const std::string& format, bool grid) {
  json axis = {
      {"orient", orient}, {"scale", scale}, {"grid", grid}, {"domain", !grid}, {"ticks", !grid}};
  if (!title.empty()) axis["title"] = title;
  if (!format.empty()) axis["format"] = format;
  return axis;
}

// Names and colours above the plot, in one column where it is narrow.
template <class Item>
json Legend(const std::vector<Item>& items, json& scales, const std::string& channel,
            const std::string& symbol) {
  json names = json::array(), numbers = json::array();
  for (const Item& item : items) {
    names.push_back(item.name);
    numbers.push_back({{"signal", absl::StrCat("scale('color', ", item.color, ")")}});
  }
  scales.push_back({{"name", "names"}, {"type", "ordinal"}, {"domain", names}, {"range", numbers}});
  return {{channel, "names"},
          {"orient", "top"},
          {"direction", "horizontal"},
          {"symbolType", symbol},
          {"columns", {{"signal", absl::StrCat("width < 460 ? 1 : ", items.size())}}},
          {"columnPadding", 18},
          {"offset", 8}};
}

json Value(json value) { return {{"value", std::move(value)}}; }
json Signal(const std::string& expression) { return {{"signal", expression}}; }

}  // namespace

json LinePlot(const std::vector<Series>& series, const AxesOptions& options,
              const std::optional<Band>& band) {
  json values = json::array();
  for (const Series& line : series) {
    RESIDUAL_CHECK_EQ(line.x.size(), line.y.size()) << line.name;
    for (size_t i = 0; i < line.x.size(); ++i) {
      const bool drawn = !options.log_y || line.y[i] > 0;
      values.push_back({{"s", line.name},
                        {"c", line.color},
                        {"d", line.dashed ? 1 : 0},
                        {"x", Number(line.x[i])},
                        {"y", drawn ? Number(line.y[i]) : json(nullptr)}});
    }
  }
  json spec = Frame(options.height);
  spec["data"] = {{{"name", "points"}, {"values", values}}};
  json& scales = spec["scales"] = json::array();
  scales.push_back(Linear("x", "width", std::nullopt, std::nullopt, false,
                          {{"data", "points"}, {"field", "x"}}));
  scales[0]["nice"] = false;
  if (!options.log_x_ticks.empty()) MakeLogarithmic(scales[0]);
  scales.push_back(Linear("y", "height", options.y_low, options.y_high, false,
                          {{"data", "points"}, {"field", "y"}}));
  if (options.log_y) MakeLogarithmic(scales[1]);
  scales.push_back(ColorScale());
  spec["axes"] = {Axis("left", "y", options.y_title, "~g", true),
                  Axis("bottom", "x", options.x_title, options.x_format, false)};
  spec["axes"][0]["tickCount"] = 5;
  spec["axes"][1]["tickCount"] = Signal("max(3, floor(width / 90))");
  if (!options.log_x_ticks.empty()) spec["axes"][1]["values"] = options.log_x_ticks;
  // Integers: no tick between two of them that would read as one of them.
  if (options.x_format == "d") spec["axes"][1]["tickMinStep"] = 1;
  if (options.legend && series.size() > 1)
    spec["legends"] = {Legend(series, scales, "stroke", "stroke")};

  json& marks = spec["marks"] = json::array();
  if (band) {
    marks.push_back({{"type", "rect"},
                     {"encode",
                      {{"update",
                        {{"x", {{"scale", "x"}, {"value", band->from}}},
                         {"x2", {{"scale", "x"}, {"value", band->to}}},
                         {"y", Value(0)},
                         {"y2", Signal("height")},
                         {"fill", Signal("bandcolor")},
                         {"fillOpacity", Value(0.3)}}}}}});
    marks.push_back({{"type", "text"},
                     {"encode",
                      {{"update",
                        {{"x", {{"scale", "x"}, {"value", (band->from + band->to) / 2}}},
                         {"y", Value(11)},
                         {"align", Value("center")},
                         {"fontSize", Value(11.5)},
                         {"text", Value(band->label)}}}}}});
  }
  const json facet = {
      {"facet", {{"name", "line"}, {"data", "points"}, {"groupby", {"s", "c", "d"}}}}};
  const json at_x = {{"scale", "x"}, {"field", "x"}}, at_y = {{"scale", "y"}, {"field", "y"}};
  const std::string drawn = "isValid(datum.y)";
  marks.push_back({{"type", "group"},
                   {"from", facet},
                   {"marks",
                    {{{"type", "line"},
                      {"from", {{"data", "line"}}},
                      {"encode",
                       {{"update",
                         {{"x", at_x},
                          {"y", at_y},
                          {"defined", Signal(drawn)},
                          {"stroke", ColorOf("c")},
                          {"strokeWidth", Value(2.2)},
                          {"strokeDash", Signal("datum.d ? [5, 4] : []")},
                          {"strokeJoin", Value("round")}}}}}}}}});
  // Dots that appear under the pointer.
  const std::string x_format = options.x_format.empty() ? ",.4~r" : options.x_format;
  marks.push_back(
      {{"type", "symbol"},
       {"from", {{"data", "points"}}},
       {"encode",
        {{"update",
          {{"x", at_x},
           {"y", at_y},
           {"fill", ColorOf("c")},
           {"size", Value(220)},
           {"opacity", Value(0)},
           {"tooltip",
            Signal(absl::StrCat(drawn, " ? datum.s + '\\n' + format(datum.y, '", options.y_format,
                                "') + ' at ' + format(datum.x, '", x_format, "') : ''"))}}},
         {"hover", {{"opacity", Signal(absl::StrCat(drawn, " ? 0.55 : 0"))}}}}}});
  return spec;
}

json BarPlot(const std::vector<Bar>& bars, const BarOptions& options) {
  json values = json::array(), points = json::array();
  std::set<std::string> labels;
  for (const Bar& bar : bars) {
    RESIDUAL_CHECK(labels.insert(bar.label).second) << "two bars are called " << bar.label;
    // The value is written beyond the bar and its dots.
    double end = bar.value;
    for (double point : bar.points) {
      end = bar.value < 0 ? std::min(end, point) : std::max(end, point);
    }
    values.push_back({{"label", bar.label},
                      {"v", Number(bar.value)},
                      {"e", Number(end)},
                      {"c", bar.color},
                      {"note", bar.note}});
    for (double point : bar.points) {
      points.push_back({{"label", bar.label}, {"v", Number(point)}, {"c", bar.color}});
    }
  }
  json spec = Frame(kBarHeight * static_cast<int>(std::max<size_t>(1, bars.size())) + 46);
  spec["data"] = {{{"name", "bars"}, {"values", values}}, {{"name", "points"}, {"values", points}}};
  json fields = {{{"data", "bars"}, {"field", "v"}}, {{"data", "points"}, {"field", "v"}}};
  json domain = {{"fields", std::move(fields)}};
  if (options.reference) domain["fields"].push_back({*options.reference});
  json& scales = spec["scales"] = json::array();
  scales.push_back(Linear("x", "width", options.low, options.high, true, std::move(domain)));
  scales.push_back({{"name", "y"},
                    {"type", "band"},
                    {"range", "height"},
                    {"padding", 0.28},
                    {"domain", {{"data", "bars"}, {"field", "label"}}}});
  scales.push_back(ColorScale());
  spec["axes"] = {Axis("bottom", "x", options.value_title, "~g", true),
                  Axis("left", "y", "", "", false)};
  spec["axes"][0]["tickCount"] = Signal("max(3, floor(width / 90))");
  spec["axes"][1]["ticks"] = spec["axes"][1]["domain"] = false;
  spec["axes"][1]["labelLimit"] = Signal("width * 0.6");
  spec["axes"][1]["labelFontSize"] = 12.5;

  const json row = {{"scale", "y"}, {"field", "label"}};
  const json row_middle = {{"scale", "y"}, {"field", "label"}, {"band", 0.5}};
  const std::string formatted = absl::StrCat("format(datum.v, '", options.format, "')");
  json& marks = spec["marks"] = json::array();
  marks.push_back(
      {{"type", "rect"},
       {"from", {{"data", "bars"}}},
       {"encode",
        {{"update",
          {{"x", {{"scale", "x"}, {"value", 0}}},
           {"x2", {{"scale", "x"}, {"field", "v"}}},
           {"y", row},
           {"height", {{"scale", "y"}, {"band", 1}}},
           {"cornerRadius", Value(2)},
           {"fill", ColorOf("c")},
           {"fillOpacity", Value(0.88)},
           {"tooltip", Signal(absl::StrCat("datum.label + '\\n' + ", formatted,
                                           " + (datum.note ? '\\n' + datum.note : '')"))}}},
         {"hover", {{"fillOpacity", Value(1)}}}}}});
  marks.push_back({{"type", "rule"},
                   {"encode",
                    {{"update",
                      {{"x", {{"scale", "x"}, {"value", 0}}},
                       {"y", Value(0)},
                       {"y2", Signal("height")},
                       {"stroke", Signal("soft")}}}}}});
  if (options.reference) {
    marks.push_back({{"type", "rule"},
                     {"encode",
                      {{"update",
                        {{"x", {{"scale", "x"}, {"value", *options.reference}}},
                         {"y", Value(-6)},
                         {"y2", Signal("height")},
                         {"stroke", Signal("ink")},
                         {"strokeDash", Value({4, 3})}}}}}});
    marks.push_back({{"type", "text"},
                     {"encode",
                      {{"update",
                        {{"x", {{"scale", "x"}, {"value", *options.reference}, {"offset", 5}}},
                         {"y", Value(-3)},
                         {"align", Value("left")},
                         {"fontSize", Value(11.5)},
                         {"text", Value(options.reference_label)}}}}}});
    spec["padding"]["top"] = 18;
  }
  marks.push_back({{"type", "symbol"},
                   {"from", {{"data", "points"}}},
                   {"encode",
                    {{"update",
                      {{"x", {{"scale", "x"}, {"field", "v"}}},
                       {"y", row_middle},
                       {"fill", Signal("paper")},
                       {"stroke", Signal("ink")},
                       {"strokeWidth", Value(1)},
                       {"size", Value(26)},
                       {"tooltip", Signal(formatted)}}}}}});
  // Beyond the end of the bar, or within a long one of those that reach the edge.
  const std::string end = "scale('x', datum.e)", zero = "scale('x', 0)";
  const std::string outside =
      absl::StrCat("(datum.v < 0 ? ", end, " > 44 : width - ", end, " > 44)");
  marks.push_back(
      {{"type", "text"},
       {"from", {{"data", "bars"}}},
       {"encode",
        {{"update",
          {{"x", Signal(absl::StrCat(end, " + (datum.v < 0 ? -1 : 1) * (", outside, " ? 6 : -6)"))},
           {"y", row_middle},
           {"baseline", Value("middle")},
           {"align", Signal(absl::StrCat("(datum.v < 0) == ", outside, " ? 'right' : 'left'"))},
           {"fill",
            Signal(absl::StrCat(outside, " || abs(", end, " - ", zero, ") < 44 ? ink : paper"))},
           {"text", Signal(formatted)}}}}}});
  return spec;
}

json PlanePlot(const std::vector<Dots>& dots, const std::string& x_title,
               const std::string& y_title) {
  json values = json::array();
  double limit = 0;
  for (const Dots& group : dots) {
    RESIDUAL_CHECK_EQ(group.x.size(), group.y.size()) << group.name;
    for (size_t i = 0; i < group.x.size(); ++i) {
      values.push_back({{"s", group.name},
                        {"c", group.color},
                        {"x", Number(group.x[i])},
                        {"y", Number(group.y[i])}});
      limit = std::max({limit, std::abs(group.x[i]), std::abs(group.y[i])});
    }
  }
  limit = limit > 0 ? 1.05 * limit : 1;
  json spec = Frame(340);
  spec["data"] = {{{"name", "points"}, {"values", values}}};
  // The side is the height; a wide page has room at the right.
  spec["signals"].push_back({{"name", "side"}, {"update", "min(width, height)"}});
  json& scales = spec["scales"] = json::array();
  for (const char* axis : {"x", "y"}) {
    const bool horizontal = axis[0] == 'x';
    scales.push_back({{"name", axis},
                      {"type", "linear"},
                      {"domain", {-limit, limit}},
                      {"range", horizontal ? json{0, Signal("side")} : json{Signal("side"), 0}}});
  }
  scales.push_back(ColorScale());
  spec["axes"] = {Axis("bottom", "x", x_title, "~r", false),
                  Axis("left", "y", y_title, "~r", false)};
  for (json& axis : spec["axes"]) axis["tickCount"] = 5;
  spec["axes"][0]["offset"] = Signal("side - height");
  if (dots.size() > 1) spec["legends"] = {Legend(dots, scales, "fill", "circle")};
  json& marks = spec["marks"] = json::array();
  for (const char* axis : {"x", "y"}) {
    const std::string other = axis[0] == 'x' ? "y" : "x";
    marks.push_back({{"type", "rule"},
                     {"encode",
                      {{"update",
                        {{axis, {{"scale", axis}, {"value", 0}}},
                         {other, Value(0)},
                         {other + "2", Signal("side")},
                         {"stroke", Signal("rulecolor")}}}}}});
  }
  marks.push_back(
      {{"type", "symbol"},
       {"from", {{"data", "points"}}},
       {"encode",
        {{"update",
          {{"x", {{"scale", "x"}, {"field", "x"}}},
           {"y", {{"scale", "y"}, {"field", "y"}}},
           {"fill", ColorOf("c")},
           {"fillOpacity", Value(0.75)},
           {"size", Value(46)},
           {"tooltip", Signal("datum.s + '\\n' + format(datum.x, '.3~r') + (datum.y < 0 ? ' - ' : "
                              "' + ') + format(abs(datum.y), '.3~r') + 'i'")}}},
         {"hover", {{"fillOpacity", Value(1)}}}}}});
  return spec;
}

json GraphPlot(const std::vector<GraphNode>& nodes, const std::vector<GraphLink>& links,
               const std::vector<LinkKind>& kinds, int height) {
  double largest = 0;
  for (const GraphLink& link : links) largest = std::max(largest, std::abs(link.weight));
  json points = json::array(), lines = json::array();
  for (const GraphNode& node : nodes) {
    points.push_back({{"t", node.label}, {"x", Number(node.x)}, {"y", Number(node.y)}});
  }
  const int count = static_cast<int>(nodes.size());
  for (const GraphLink& link : links) {
    RESIDUAL_CHECK(link.from >= 0 && link.from < count && link.to >= 0 && link.to < count)
        << link.from << " to " << link.to << " of " << count << " nodes";
    RESIDUAL_CHECK_LT(static_cast<size_t>(link.kind), kinds.size());
    const double share = largest > 0 ? std::abs(link.weight) / largest : 0;
    lines.push_back({{"x", Number(nodes[link.from].x)},
                     {"y", Number(nodes[link.from].y)},
                     {"x2", Number(nodes[link.to].x)},
                     {"y2", Number(nodes[link.to].y)},
                     {"w", 1 + 3 * share},
                     {"c", kinds[link.kind].color},
                     {"t", link.note}});
  }
  json spec = Frame(height);
  spec["data"] = {{{"name", "nodes"}, {"values", points}}, {{"name", "links"}, {"values", lines}}};
  json& scales = spec["scales"] = json::array();
  scales.push_back(
      {{"name", "x"}, {"type", "linear"}, {"domain", {0, 1}}, {"range", "width"}, {"nice", false}});
  scales.push_back(Linear("y", "height", std::nullopt, std::nullopt, false,
                          {{"data", "nodes"}, {"field", "y"}}));
  scales[1]["nice"] = false;
  scales[1]["padding"] = 16;
  scales.push_back(ColorScale());
  if (kinds.size() > 1) spec["legends"] = {Legend(kinds, scales, "stroke", "stroke")};
  const auto place = [](const char* channel, const char* field) {
    return json{{"scale", channel}, {"field", field}};
  };
  json& marks = spec["marks"] = json::array();
  marks.push_back({{"type", "rule"},
                   {"from", {{"data", "links"}}},
                   {"encode",
                    {{"update",
                      {{"x", place("x", "x")},
                       {"y", place("y", "y")},
                       {"x2", place("x", "x2")},
                       {"y2", place("y", "y2")},
                       {"stroke", ColorOf("c")},
                       {"strokeOpacity", Value(0.6)},
                       {"strokeWidth", {{"field", "w"}}},
                       {"tooltip", Signal("datum.t")}}},
                     {"hover", {{"strokeOpacity", Value(1)}}}}}});
  marks.push_back({{"type", "symbol"},
                   {"from", {{"data", "nodes"}}},
                   {"encode",
                    {{"update",
                      {{"x", place("x", "x")},
                       {"y", place("y", "y")},
                       {"size", Value(60)},
                       {"fill", Signal("ink")},
                       {"tooltip", Signal("datum.t")}}}}}});
  // First in the page's colour and fat: links end around names, not in them.
  for (const char* color : {"paper", "ink"}) {
    json name = {{"x", place("x", "x")},     {"y", place("y", "y")},  {"dy", Value(-9)},
                 {"align", Value("center")}, {"fill", Signal(color)}, {"text", {{"field", "t"}}}};
    if (color == std::string("paper")) {
      name["stroke"] = Signal(color);
      name["strokeWidth"] = Value(4);
      name["strokeJoin"] = Value("round");
    }
    marks.push_back(
        {{"type", "text"}, {"from", {{"data", "nodes"}}}, {"encode", {{"update", name}}}});
  }
  return spec;
}

}  // namespace residual
