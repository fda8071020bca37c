#include "interp/report/plots.h"

#include <functional>
#include <limits>
#include <set>

#include "gtest/gtest.h"

namespace residual {
namespace {

using nlohmann::json;

// Every {"scale": name} must name a scale of the specification, every {"data": name} a data set.
void CheckNames(const json& spec) {
  std::set<std::string> scales, data = {"line"};
  for (const json& scale : spec["scales"]) scales.insert(scale["name"].get<std::string>());
  for (const json& set : spec["data"]) data.insert(set["name"].get<std::string>());
  std::function<void(const json&)> visit = [&](const json& value) {
    if (value.is_object()) {
      if (value.contains("scale")) {
        EXPECT_TRUE(scales.count(value["scale"])) << value;
      }
      if (value.contains("data") && value["data"].is_string()) {
        EXPECT_TRUE(data.count(value["data"])) << value;
      }
    }
    if (value.is_structured()) {
      for (const json& child : value) visit(child);
    }
  };
  visit(spec["scales"]);
  visit(spec["axes"]);
  visit(spec["marks"]);
}

TEST(PlotsTest, Lines) {
  AxesOptions options;
  options.y_high = 1;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const json spec = LinePlot({{"one", {1, 2}, {nan, 0.5}, 2}, {"two", {1}, {3}, 4, true}}, options,
                             Band{1, 2, "here"});
  CheckNames(spec);
  const json& values = spec["data"][0]["values"];
  ASSERT_EQ(values.size(), 3);
  EXPECT_TRUE(values[0]["y"].is_null());
  EXPECT_EQ(values[1], json({{"s", "one"}, {"c", 2}, {"d", 0}, {"x", 2.0}, {"y", 0.5}}));
  EXPECT_EQ(values[2]["d"], 1);
  EXPECT_EQ(spec["legends"].size(), 1);
  EXPECT_EQ(spec["scales"][1]["domainMax"], 1);
  EXPECT_EQ(spec["marks"][0]["type"], "rect");  // the band is behind the lines
  EXPECT_TRUE(spec["signals"].is_array() && spec["signals"][0]["on"].is_array()) << spec["signals"];
  EXPECT_TRUE(LinePlot({{"one", {1}, {1}}}, options)["legends"].is_null());
  EXPECT_DEATH(LinePlot({{"one", {1, 2}, {1}}}, options), "one");
}

TEST(PlotsTest, TicksOfIntegersAreIntegers) {
  AxesOptions options;
  EXPECT_FALSE(LinePlot({{"a", {0, 1}, {1, 2}}}, options)["axes"][1].contains("tickMinStep"));
  options.x_format = "d";
  EXPECT_EQ(LinePlot({{"a", {0, 1}, {1, 2}}}, options)["axes"][1]["tickMinStep"], 1);
}

TEST(PlotsTest, LogarithmicAxes) {
  AxesOptions options;
  options.log_x_ticks = {4, 8, 32};
  options.log_y = true;
  options.legend = false;
  const json spec = LinePlot({{"a", {4, 8, 32}, {0.5, 0, 0.01}}, {"b", {4}, {1}}}, options);
  CheckNames(spec);
  EXPECT_EQ(spec["scales"][0]["type"], "log");
  EXPECT_EQ(spec["scales"][1]["type"], "log");
  EXPECT_EQ(spec["axes"][1]["values"], json({4.0, 8.0, 32.0}));
  EXPECT_EQ(spec["data"][0]["values"][0]["y"], 0.5);
  EXPECT_TRUE(spec["data"][0]["values"][1]["y"].is_null());  // 0 has no place
  EXPECT_FALSE(spec.contains("legends"));
  EXPECT_EQ(LinePlot({{"a", {4}, {1}}}, {})["scales"][0]["type"], "linear");
}

TEST(PlotsTest, Bars) {
  BarOptions options;
  options.reference = 0.125;
  options.reference_label = "chance";
  const json spec =
      BarPlot({{"a", 0.5, 1, {0.4, 0.7}, "note"}, {"b", -2, 0, {-3, -1}, ""}}, options);
  CheckNames(spec);
  EXPECT_EQ(spec["data"][0]["values"][0],
            json({{"label", "a"}, {"v", 0.5}, {"e", 0.7}, {"c", 1}, {"note", "note"}}));
  EXPECT_EQ(spec["data"][0]["values"][1]["e"], -3);
  EXPECT_EQ(spec["data"][1]["values"].size(), 4);
  EXPECT_EQ(spec["scales"][0]["domain"]["fields"][2], json({0.125}));
  EXPECT_GT(spec["height"], BarPlot({{"a", 0.5}}, options)["height"]);
  EXPECT_DEATH(BarPlot({{"a", 1}, {"a", 2}}, options), "two bars are called a");
}

TEST(PlotsTest, Planes) {
  const json spec = PlanePlot({{"e", {1, -2}, {0.5, 0}, 1}}, "re", "im");
  CheckNames(spec);
  EXPECT_EQ(spec["data"][0]["values"].size(), 2);
  EXPECT_EQ(spec["scales"][0]["domain"], spec["scales"][1]["domain"]);
  EXPECT_NEAR(spec["scales"][0]["domain"][1].get<double>(), 2.1, 1e-12);
  EXPECT_EQ(PlanePlot({}, "re", "im")["scales"][0]["domain"][1], 1);
}

TEST(GraphPlotTest, DrawsNodesAndLinks) {
  const auto spec = GraphPlot({{"embed", 0.5, 0}, {"L0H1", 0.25, 1}, {"logits", 0.5, 2}},
                              {{0, 1, 0.5, 0, "embed->L0H1.q"}, {1, 2, -2, 1, "L0H1->logits"}},
                              {{"queries", 0}, {"others", 3}}, 200);
  const auto& nodes = spec["data"][0]["values"];
  const auto& links = spec["data"][1]["values"];
  ASSERT_EQ(nodes.size(), 3);
  ASSERT_EQ(links.size(), 2);
  EXPECT_EQ(nodes[1]["t"], "L0H1");
  EXPECT_EQ(links[1]["w"], 4);  // the widest
  EXPECT_EQ(links[0]["w"], 1.75);
  EXPECT_EQ(links[1]["c"], 3);
  EXPECT_EQ(links[1]["y"], 1);
  EXPECT_EQ(links[1]["y2"], 2);
  EXPECT_EQ(spec["legends"].size(), 1);
  EXPECT_EQ(spec["height"], 200);
}

}  // namespace
}  // namespace residual
