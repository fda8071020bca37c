#include "tools/circuit_page/circuit_page.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "interp/report/plots.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

constexpr size_t kMostDrawn = 200, kMostListed = 40;
constexpr int kLevel = 62;  // pixels

// A head is one node, whatever of it is read: "L4H2.q" is a reader of "L4H2". With grouped queries
// keys and values have heads of their own.
std::string NodeOf(const EdgeGraph& graph, const GraphReader& reader) {
  if (reader.part.empty() || reader.head < 0) return reader.name;
  const std::string node = reader.name.substr(0, reader.name.rfind('.'));
  int64_t of_part = 0, of_mixer = 0;
  for (const GraphReader& other : graph.readers()) {
    const bool same = other.layer == reader.layer && other.branch == reader.branch;
    of_part += same && other.part == reader.part;
  }
  const EdgeGraph::Range writers = graph.WritersOf(reader.layer, reader.branch);
  of_mixer = writers.end - writers.begin;
  return of_part == of_mixer ? node : absl::StrCat(node, ".", reader.part);
}

int KindOf(const std::string& part) {
  return part == "q" ? 0 : part == "k" ? 1 : part == "v" ? 2 : 3;
}

nlohmann::json Drawing(const CircuitFindings& found, int* height) {
  const EdgeGraph& graph = *found.graph;
  // Nodes by the height they stand at: the layer, and the mixer in it.
  std::map<std::pair<int, int>, std::vector<std::string>> levels;
  const auto add = [&](int layer, int branch, const std::string& name) {
    std::vector<std::string>& level = levels[{layer, branch}];
    if (std::find(level.begin(), level.end(), name) == level.end()) level.push_back(name);
  };
  std::vector<int> drawn = found.circuit;
  std::stable_sort(drawn.begin(), drawn.end(), [&](int a, int b) {
    return std::abs(found.scores[a]) > std::abs(found.scores[b]);
  });
  drawn.resize(std::min(drawn.size(), kMostDrawn));
  for (const int edge : drawn) {
    const GraphWriter& writer = graph.writers()[graph.WriterOf(edge)];
    const GraphReader& reader = graph.readers()[graph.ReaderOf(edge)];
    add(writer.layer, writer.branch, writer.name);
    add(reader.layer, reader.branch, NodeOf(graph, reader));
  }
  std::vector<GraphNode> nodes;
  std::map<std::string, int> index;
  double y = 0;
  for (auto& [level, names] : levels) {
    std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
      return std::make_pair(a.size(), a) < std::make_pair(b.size(), b);
    });
    for (size_t i = 0; i < names.size(); ++i) {
      index[names[i]] = static_cast<int>(nodes.size());
      // Every other level a little aside, so that links past a node are seen.
      const double shift = static_cast<int>(y) % 2 == 0 ? 0 : 0.04;
      nodes.push_back({names[i], (i + 1.0) / (names.size() + 1.0) + shift, y});
    }
    ++y;
  }
  std::vector<GraphLink> links;
  for (const int edge : drawn) {
    const GraphReader& reader = graph.readers()[graph.ReaderOf(edge)];
    links.push_back(
        {index.at(graph.writers()[graph.WriterOf(edge)].name), index.at(NodeOf(graph, reader)),
         found.scores[edge], KindOf(reader.part),
         absl::StrCat(graph.EdgeName(edge), "\n", FormatNumber(found.scores[edge], 4))});
  }
  *height = kLevel * std::max<int>(3, static_cast<int>(levels.size()));
  return GraphPlot(nodes, links, {{"queries", 0}, {"keys", 1}, {"values", 2}, {"others", 3}},
                   *height);
}

std::string Percent(double share) {
  return std::isnan(share) ? "undefined" : absl::StrCat(FormatNumber(100 * share, 1), "%");
}

}  // namespace

Report CircuitPage(const CircuitFindings& found) {
  RESIDUAL_CHECK(found.graph != nullptr);
  const EdgeGraph& graph = *found.graph;
  RESIDUAL_CHECK_EQ(found.scores.size(), static_cast<size_t>(graph.edges()));
  const auto name = std::filesystem::path(found.model + "/").parent_path().filename().string();
  Report report(absl::StrCat("A circuit of ", name),
                absl::StrCat("Which of the model's ", graph.edges(),
                             " edges carry what the prompts are about, by ", found.method, "."));
  // Undefined for all where it is for one: clean and corrupted prompts have the same metric.
  double best = std::isnan(found.value.faithfulness) ? NAN : 0;
  for (const double share : found.random.random) best = std::max(best, share);
  report.Figures(
      {{absl::StrCat(found.circuit.size()), "edges", absl::StrCat("of ", graph.edges())},
       {Percent(found.value.faithfulness), "faithfulness", absl::StrCat("of the ", found.metric)},
       {Percent(best), "best random circuit",
        absl::StrCat(found.random.random.size(),
                     " sets, p = ", FormatNumber(found.random.p_value, 3))}});
  report.Section("The circuit");
  if (found.circuit.empty()) {
    report.Paragraph("No edge is left.");
  } else {
    int height = 0;
    const nlohmann::json drawing = Drawing(found, &height);
    report.Plot(
        drawing, "Who writes to whom, the embeddings below, the logits above.",
        absl::StrCat("A graph of ", found.circuit.size(), " edges between heads and MLPs."));
    if (found.circuit.size() > kMostDrawn) {
      report.Paragraph(absl::StrCat("The ", kMostDrawn, " largest are drawn."));
    }
    Table table;
    table.caption = "The largest edges";
    table.columns = {{"edge", false}, {"score"}};
    std::vector<int> order = found.circuit;
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      return std::abs(found.scores[a]) > std::abs(found.scores[b]);
    });
    for (size_t i = 0; i < std::min(order.size(), kMostListed); ++i) {
      table.rows.push_back({{graph.EdgeName(order[i])}, {FormatNumber(found.scores[order[i]], 4)}});
    }
    report.AddTable(table);
  }
  report.Section("How faithful it is");
  report.Paragraph(absl::StrCat("On the clean prompts the mean ", found.metric, " is ",
                                FormatNumber(found.clean, 3), ", on the corrupted ones ",
                                FormatNumber(found.corrupted, 3),
                                ". A circuit keeps its edges; all others carry what they carry on "
                                "the corrupted prompts. Faithful is the share of the difference "
                                "that is left."));
  if (!found.curve.empty()) {
    Series curve{"the best edges", {}, {}, 0};
    for (const CircuitValue& value : found.curve) {
      curve.x.push_back(value.edges);
      curve.y.push_back(value.faithfulness);
    }
    AxesOptions axes;
    axes.x_title = "edges kept";
    axes.y_title = "faithfulness";
    // Of numbers that would be written over one another the larger.
    for (size_t i = 0; i < curve.x.size(); ++i) {
      if (i + 1 == curve.x.size() || curve.x[i + 1] > 1.4 * curve.x[i]) {
        axes.log_x_ticks.push_back(curve.x[i]);
      }
    }
    report.Plot(LinePlot({curve}, axes), "Faithfulness of the best edges, by how many.",
                "A curve from few edges to many.");
  }
  if (!found.random.random.empty()) {
    std::vector<Bar> bars = {{"this circuit", found.random.circuit, 0}};
    double mean = 0;
    for (const double share : found.random.random) {
      mean += share / static_cast<double>(found.random.random.size());
    }
    bars.push_back({"as many at random", mean, 4, found.random.random});
    BarOptions options;
    options.value_title = "faithfulness";
    report.Plot(BarPlot(bars, options), "The circuit, and as many edges drawn at random.",
                "Two bars, of random circuits with a dot for each.");
  }
  return report;
}

}  // namespace residual
