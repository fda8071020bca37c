// Writes one self-contained HTML page: text, tables, plots and token views. The page carries its
// styles, its script and the Vega library inside and loads nothing (its own Content-Security-Policy
// forbids it); it follows the reader's light or dark scheme and fits phones and wide screens.
//
//   Report report("Induction heads", "What was found.");
//   report.Section("Scores");
//   report.Paragraph(Html("The best score is ") + Strong(FormatNumber(best, 2)) + ".");
//   report.Plot(LinePlot(lines, options), "Loss while training", "A curve that falls.");
//   RESIDUAL_RETURN_IF_ERROR(report.Write("out/report.html"));

#ifndef RESIDUAL_INTERP_REPORT_REPORT_H_
#define RESIDUAL_INTERP_REPORT_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "interp/report/html.h"
#include "nlohmann/json.hpp"
#include "tensor/core/tensor.h"

namespace residual {

// A number to be seen from afar.
struct KeyFigure {
  std::string value;  // "0.82"
  Html label;         // "best induction score"
  Html note;          // "one layer: 0.03"
};

struct TableCell {
  Html content;
  // In [0, 1]: the background's strength, for tables read as heat maps; negative: none.
  double shade = -1;
  std::string note = {};  // plain text, shown when pointed at; lines end in '\n'
};

struct Table {
  struct Column {
    Html title;
    bool number = true;  // right-aligned, digits of one width
  };
  Html caption;
  std::vector<Column> columns;
  // As many cells as columns (CHECKed); the first one names the row.
  std::vector<std::vector<TableCell>> rows;
};

// A passage and where heads look in it: choose a head, then point at a token, tap it or move to it
// with the arrow keys, and the tokens it attends to are shaded and read out.
struct TokenView {
  struct Head {
    std::string name;  // "L1H0"
    std::string note;  // "induction"
    Tensor pattern;    // [query, key], causal: keys after the query are not shown
  };
  Html caption;
  std::vector<std::string> tokens;  // their bytes; shown through VisibleToken
  std::vector<Head> heads;
  int64_t selected = 0;  // the token that is selected at first
};

class Report {
 public:
  // `lead`: the paragraph below the title.
  Report(std::string title, Html lead);

  // What comes before the first section has no heading.
  void Section(const Html& title);
  void Paragraph(const Html& text);
  void List(const std::vector<Html>& items);
  void Figures(const std::vector<KeyFigure>& figures);
  void AddTable(const Table& table);
  // A Vega 5 specification (see plots.h); it should take its width from the signal `width` and its
  // colours from the config. `description` says in words what is to be seen, for those who cannot
  // see it. `narrow`: for plots as high as they are wide.
  void Plot(const nlohmann::json& spec, const Html& caption, const std::string& description,
            bool narrow = false);
  void Tokens(const TokenView& view);
  // Small print at the end of the page.
  void Footer(const Html& text) { footer_ = text; }

  std::string ToString() const;
  // Atomic: the whole page or what was there before.
  absl::Status Write(const std::string& path) const;

 private:
  std::string title_, body_;
  Html lead_, footer_;
  struct Entry {
    Html title;
    std::string id;
  };
  std::vector<Entry> sections_;
  int plots_ = 0, views_ = 0;
};

// A causal pattern [n, n] as text: the lower triangle row by row, one byte per weight (255: 1),
// base64. What the page's script unpacks.
std::string PackPattern(const Tensor& pattern);

}  // namespace residual

#endif  // RESIDUAL_INTERP_REPORT_REPORT_H_
