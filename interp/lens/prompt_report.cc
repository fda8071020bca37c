#include "interp/lens/prompt_report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "interp/report/html.h"
#include "interp/report/plots.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

enum Color { kBlue, kOrange, kGreen, kPurple, kGrey };

constexpr char kLens[] =
    "https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens";
constexpr char kHidden[] = "https://arxiv.org/abs/2403.01590";
constexpr char kMamba[] = "https://arxiv.org/abs/2312.00752";
constexpr char kTuned[] = "https://arxiv.org/abs/2303.08112";
constexpr int64_t kColumns = 48;  // positions in a lens table
constexpr size_t kBars = 24;      // parts in a plot

std::string Two(double x) { return FormatNumber(x, 2); }

std::string Percent(double p) { return FormatNumber(100 * p, p < 0.1 ? 1 : 0) + " %"; }

class Page {
 public:
  Page(const PromptStudy& study, const PromptPage& page, Report& report)
      : study_(study), page_(page), report_(report) {}

  void Write() {
    Opening();
    Patterns();
    Memory();
    Lens("What it would say at each layer", study_.logit_lens, /*tuned=*/false);
    if (study_.tuned_lens.has_value()) {
      Lens("The same through a tuned lens", *study_.tuned_lens, /*tuned=*/true);
    }
    Divergence();
    Attribution();
    Heads();
  }

 private:
  // A token where it stands alone: the spaces at its ends can be seen.
  std::string Shown(int64_t id) const {
    std::string text = VisibleToken(page_.token_text(id)), before, after;
    while (!text.empty() && text.front() == ' ') {
      text.erase(0, 1);
      before += "␣";
    }
    while (!text.empty() && text.back() == ' ') {
      text.pop_back();
      after += "␣";
    }
    return absl::StrCat(before, text, after);
  }
  Html Token(int64_t id) const { return Code(Shown(id)); }

  void Opening() {
    std::vector<KeyFigure> figures = {
        {Shown(study_.next[0]), "most likely next token", Percent(study_.next_probs[0])}};
    if (study_.next.size() > 1) {
      figures.push_back({Shown(study_.next[1]), "second", Percent(study_.next_probs[1])});
    }
    if (std::isfinite(study_.loss)) {
      figures.push_back({Two(study_.loss), "nats per token of the prompt",
                         absl::StrCat("perplexity ", Two(std::exp(study_.loss)))});
    }
    report_.Figures(figures);
  }

  void Patterns() {
    report_.Section(study_.has_channels ? "Where information comes from" : "Where heads look");
    if (study_.patterns.empty()) {
      report_.Paragraph("This model has no attention patterns.");
      return;
    }
    if (study_.has_channels) {
      report_.Paragraph(
          Html(
              "A state space, too, moves information between tokens: what each unit (C: a channel, "
              "H: a head) writes at a token is a weighted sum of what it read at earlier ones, its "
              "hidden attention (") +
          Link(kHidden, "Ali, Zimerman and Wolf 2024") +
          "). The weights have signs; shown are their sizes, those of each token scaled to sum to "
          "1. Of a layer with many channels, those that move most from earlier tokens to later "
          "ones, and the mean of all.");
    }
    TokenView view;
    view.caption =
        "Choose a head, then a token: what it attends to is shaded. Right: the whole pattern, "
        "queries from top to bottom. A head's note says where more than half of its attention "
        "goes.";
    if (study_.has_channels) {
      view.caption =
          "Choose a unit, then a token: what comes from where is shaded. Right: the whole map, "
          "the reading token from top to bottom. A note says where more than half comes from.";
    }
    if (study_.patterns_left_out > 0) {
      view.caption +=
          Html(absl::StrCat(" To keep the page small, ", study_.patterns_left_out,
                            " heads that do least to the next token's logit are not shown."));
    }
    for (const int64_t id : study_.tokens) view.tokens.push_back(page_.token_text(id));
    for (const PromptPattern& pattern : study_.patterns) {
      view.heads.push_back({pattern.name, pattern.note, pattern.pattern});
    }
    view.selected = static_cast<int64_t>(study_.tokens.size()) - 1;
    report_.Tokens(view);
  }

  static std::string Length(double tokens) {
    return tokens >= 1e6 ? "over a million" : FormatNumber(tokens, tokens < 10 ? 1 : 0);
  }

  void Memory() {
    if (study_.memories.empty()) return;
    report_.Section("What the memory keeps");
    report_.Paragraph(
        Html(
            "At every token a state space chooses a step. A large one resets its memory to what is "
            "read now, a small one lets the past persist and passes over the token (") +
        Link(kMamba, "Gu and Dao 2023, section 3.5") +
        "). Shown is the step relative to its mean over the prompt, averaged over the layer's "
        "units (1.0 everywhere: it does not depend on the token); point at a number for how much "
        "of "
        "the past is left.");
    const int64_t pos = static_cast<int64_t>(study_.tokens.size()),
                  first = std::max<int64_t>(0, pos - kColumns);
    Table steps;
    steps.columns.push_back({"layer", false});
    for (int64_t t = first; t < pos; ++t) steps.columns.push_back({Token(study_.tokens[t]), true});
    Table lengths;
    lengths.columns = {
        {"layer", false}, {"units"}, {"lowest tenth"}, {"median"}, {"highest tenth"}};
    double largest = 2;  // of all layers: a row of usual steps stays light
    for (const PromptMemory& memory : study_.memories) {
      largest =
          std::max(largest, *std::max_element(memory.step.begin() + first, memory.step.end()));
    }
    for (auto memory = study_.memories.rbegin(); memory != study_.memories.rend(); ++memory) {
      std::vector<TableCell> row = {{Html(memory->name)}};
      for (int64_t t = first; t < pos; ++t) {
        row.push_back({FormatNumber(memory->step[t], 1), memory->step[t] / largest,
                       absl::StrCat("left of the past: ", Percent(memory->kept_median[t]),
                                    " in the median unit\n", Percent(memory->kept_low[t]),
                                    " at the tenth that forgets most")});
      }
      steps.rows.push_back(row);
      lengths.rows.push_back({{Html(memory->name)},
                              {Html(absl::StrCat(memory->n_units))},
                              {Html(Length(memory->length_low))},
                              {Html(Length(memory->length_median))},
                              {Html(Length(memory->length_high))}});
    }
    steps.caption = "Relative steps. The stronger the shade, the more the memory is reset.";
    if (first > 0) {
      steps.caption += Html(absl::StrCat(" The last ", kColumns, " of ", pos, " tokens."));
    }
    report_.AddTable(steps);
    lengths.caption =
        "How many tokens a unit remembers: until what its slowest part held has faded to 1/e, at "
        "the steps of this prompt.";
    report_.AddTable(lengths);
  }

  void Lens(const std::string& title, const LensReading& reading, bool tuned) {
    report_.Section(title);
    report_.Paragraph(
        tuned ? Html("An affine map for each layer, trained on a text so that the final norm and "
                     "unembedding then predict what the model predicts at its end (") +
                    Link(kTuned, "Belrose et al. 2023") + ")."
              : Html("The stream at the beginning of each block, read by the final norm and the "
                     "unembedding as if the model ended there (the ") +
                    Link(kLens, "logit lens") +
                    "). The top row is what the model says. The stronger the shade, the more "
                    "probable; point at a token for its number and the next ones.");
    const int64_t n = reading.top_ids.dim(0), pos = reading.top_ids.dim(2),
                  top = reading.top_ids.dim(3), first = std::max<int64_t>(0, pos - kColumns);
    Table table;
    table.columns.push_back({"layer", false});
    for (int64_t t = first; t < pos; ++t) {
      table.columns.push_back({Token(study_.tokens[t]), false});
    }
    for (int64_t i = n - 1; i >= 0; --i) {
      std::vector<TableCell> row = {{Html(reading.labels[i])}};
      for (int64_t t = first; t < pos; ++t) {
        const int64_t* ids = reading.top_ids.data<int64_t>() + (i * pos + t) * top;
        const float* probs = reading.top_probs.data<float>() + (i * pos + t) * top;
        TableCell cell{Token(ids[0]), probs[0]};
        for (int64_t k = 0; k < top; ++k) {
          absl::StrAppend(&cell.note, k > 0 ? "\n" : "", Shown(ids[k]), "  ", Percent(probs[k]));
        }
        row.push_back(cell);
      }
      table.rows.push_back(row);
    }
    table.caption = Html("Below each token of the prompt, what was expected after it.");
    if (first > 0) {
      table.caption += Html(absl::StrCat(" The last ", kColumns, " of ", pos, " tokens."));
    }
    report_.AddTable(table);
  }

  static Series MeanKl(const LensReading& reading, const std::string& name, int color) {
    Series series{name, {}, {}, color};
    const int64_t n = reading.kl.dim(0), pos = reading.kl.dim(2);
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t t = 0; t < pos; ++t) sum += reading.kl.data<float>()[i * pos + t];
      series.x.push_back(static_cast<double>(i));
      series.y.push_back(sum / static_cast<double>(pos));
    }
    return series;
  }

  void Divergence() {
    std::vector<Series> series = {MeanKl(study_.logit_lens, "logit lens", kBlue)};
    if (study_.tuned_lens.has_value()) {
      series.push_back(MeanKl(*study_.tuned_lens, "tuned lens", kOrange));
    }
    AxesOptions axes;
    axes.x_title = "blocks passed";
    axes.y_title = "KL(final || lens), nats";
    axes.x_format = "d";
    axes.y_low = 0;
    report_.Plot(LinePlot(series, axes),
                 "How far what a lens reads is from what the model says, mean over the prompt.",
                 "A curve that ends at zero with the last block.");
    if (page_.logit_lens_kl.empty()) return;
    double plain = 0, tuned = 0;
    for (const double kl : page_.logit_lens_kl) plain += kl;
    for (const double kl : page_.tuned_lens_kl) tuned += kl;
    const double layers = static_cast<double>(page_.logit_lens_kl.size());
    report_.Paragraph(Html("On text the tuned lens was not trained on, the mean over layers is ") +
                      Two(tuned / layers) + " nats, " + Two(plain / layers) + " without the maps.");
  }

  void Attribution() {
    report_.Section("What made it say so");
    double sum = 0;
    for (const NamedValue& part : study_.parts) sum += part.value;
    report_.Paragraph(
        Html("After the last token, the logit of ") + Token(study_.answer) + " lies " +
        Strong(Two(study_.difference)) + " above that of " + Token(study_.wrong) +
        ". The stream is the sum of what was added to it, and with the final norm's scale held "
        "each part adds its own share: together " +
        Two(sum) + ".");
    std::vector<NamedValue> parts = study_.parts;
    std::stable_sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) {
      return std::abs(a.value) > std::abs(b.value);
    });
    double rest = 0;
    for (size_t i = kBars; i < parts.size(); ++i) rest += parts[i].value;
    const size_t others = parts.size() > kBars ? parts.size() - kBars : 0;
    // The largest ones, in the order of the model.
    std::vector<Bar> bars;
    const double least = std::abs(parts[std::min(kBars, parts.size()) - 1].value);
    for (const NamedValue& part : study_.parts) {
      if (bars.size() < kBars && std::abs(part.value) >= least) {
        bars.push_back({part.name, part.value, part.value < 0 ? kOrange : kBlue});
      }
    }
    if (others > 0) bars.push_back({absl::StrCat(others, " others"), rest, kGrey});
    BarOptions options;
    options.value_title = "logit";
    options.format = "+.2f";
    report_.Plot(BarPlot(bars, options),
                 "Direct logit attribution of the embedding and of what every mixer added.",
                 "A bar for each part of the stream.");
  }

  void Heads() {
    size_t widest = 0;
    double largest = 0;
    for (const std::vector<double>& layer : study_.heads) {
      widest = std::max(widest, layer.size());
      for (const double value : layer) largest = std::max(largest, std::abs(value));
    }
    if (widest == 0) return;
    Table table;
    table.columns.push_back({"layer", false});
    for (size_t h = 0; h < widest; ++h) table.columns.push_back({absl::StrCat("H", h), true});
    for (size_t layer = 0; layer < study_.heads.size(); ++layer) {
      if (study_.heads[layer].empty()) continue;
      std::vector<TableCell> row = {{Html(absl::StrCat("L", layer))}};
      for (size_t h = 0; h < widest; ++h) {
        if (h >= study_.heads[layer].size()) {
          row.push_back({Html("")});
          continue;
        }
        const double value = study_.heads[layer][h];
        row.push_back({FormatNumber(value, 2), largest > 0 ? std::abs(value) / largest : 0});
      }
      table.rows.push_back(row);
    }
    table.caption = "The same for every attention head. The shade is the size, whatever the sign.";
    report_.AddTable(table);
  }

  const PromptStudy& study_;
  const PromptPage& page_;
  Report& report_;
};

}  // namespace

Report PromptReport(const PromptStudy& study, const PromptPage& page) {
  RESIDUAL_CHECK(!study.tokens.empty() && !study.next.empty());
  std::string text;
  for (const int64_t id : study.tokens) text += page.token_text(id);
  if (text.size() > 160) text = absl::StrCat(text.substr(0, 160), " …");
  Report report(
      "A prompt, layer by layer",
      Html(absl::StrCat("What ", page.model, " does with “")) + VisibleToken(text) + "”.");
  Page(study, page, report).Write();
  report.Footer(
      Html(absl::StrCat(study.tokens.size(),
                        " tokens; one run of the model. Direct attribution says what a part "
                        "writes to the logits itself, not what later parts make of it.")));
  return report;
}

}  // namespace residual
