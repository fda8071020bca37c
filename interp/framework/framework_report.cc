#include "interp/framework/framework_report.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "interp/report/plots.h"

namespace residual {
namespace {

enum Color { kBlue, kOrange, kGreen, kPurple, kGrey };

constexpr size_t kScatterPoints = 1200;
constexpr size_t kTrigramRows = 8, kCrossedRows = 12;

std::string Two(double x) { return FormatNumber(x, 2); }

class Page {
 public:
  Page(const FrameworkSetup& setup, const FrameworkMeasures& m, Report& report)
      : setup_(setup), m_(m), report_(report) {}

  void Models() {
    report_.Paragraph(Html(absl::StrFormat(
        "Trained on %s, %d tokens of %d kinds: windows of %d tokens, %d of them a step, %d steps. "
        "%d heads of width %d on a stream of %d; no norms, biases or MLPs; sines and cosines of "
        "the position are added to what queries and keys are made of, and to nothing else. With "
        "probability %.2f a window of the models with layers is a passage repeated. Pictures are "
        "of seed %d.",
        setup_.text_name, setup_.tokens, setup_.vocabulary.size(), setup_.context,
        setup_.batch_size, setup_.steps, setup_.n_heads, setup_.d_model / setup_.n_heads,
        setup_.d_model, setup_.repeat, m_.seed)));
    Table table;
    table.columns = {{"layers", false}, {"parameters"}, {"loss while training, nats"}, {"seconds"}};
    for (int layers = 0; layers <= 2; ++layers) {
      table.rows.push_back({{absl::StrCat(layers)},
                            {absl::StrCat(m_.parameters[layers])},
                            {FormatNumber(m_.train_loss[layers], 3)},
                            {FormatNumber(m_.seconds[layers], 0)}});
    }
    table.caption = "The model of no layers reads windows of text as it is.";
    report_.AddTable(table);
  }

  void Bigrams() {
    report_.Section("No layers: which token follows which");
    report_.Paragraph(Html(absl::StrFormat(
        "Without layers the logits after a token are its row of W_E W_U, and the best a row can be "
        "is the log-probability of what follows that token. Of what bigrams say beyond how common "
        "each token is, %.2f nats a token, the trained matrix has %.0f %% (before training: "
        "%.0f %%). In the models of one and two layers the same product has %.0f %% and %.0f %%: "
        "there heads do part of it.",
        m_.bigrams.unigram_kl, 100 * m_.bigrams.share(), 100 * m_.untrained_bigrams.share(),
        100 * m_.direct_share[0], 100 * m_.direct_share[1])));
    Dots dots{"a pair of tokens", {}, {}, kBlue};
    const size_t n = m_.bigrams.lift_p.size(), step = std::max<size_t>(1, n / kScatterPoints);
    for (size_t i = 0; i < n; i += step) {
      dots.x.push_back(m_.bigrams.lift_p[i]);
      dots.y.push_back(m_.bigrams.lift_q[i]);
    }
    report_.Plot(PlanePlot({dots}, "raised in the text (nats)", "raised by W_E W_U (nats)"),
                 Html(absl::StrFormat("How much a token raises the log-probability of the next, "
                                      "over pairs seen ten times or more. Correlation %.2f. (Of "
                                      "log-probabilities themselves %.2f; with unigrams %.2f.)",
                                      m_.bigrams.lift_correlation, m_.bigrams.correlation,
                                      m_.bigrams.unigram_correlation)),
                 "Points near the diagonal.", true);
  }

  void Copying() {
    report_.Section("One layer: heads that copy");
    report_.Paragraph(
        "A head that looks at a token changes all logits by that token's row of W_E OV W_U. If the "
        "matrix has positive eigenvalues, it raises the very tokens it looks at: it copies. The "
        "score is the sum of their real parts over the sum of their sizes.");
    std::vector<Bar> bars;
    for (size_t head = 0; head < m_.copying.size(); ++head) {
      bars.push_back({HeadName({0, static_cast<int>(head)}),
                      m_.copying[head],
                      m_.copying[head] > CopyingThreshold(m_) ? kBlue : kGrey,
                      {},
                      absl::StrCat("looks at the token itself and the one before: ",
                                   Two(m_.looks_near[head]))});
    }
    bars.push_back({absl::StrCat(m_.random_copying.size(), " untrained heads"),
                    std::accumulate(m_.random_copying.begin(), m_.random_copying.end(), 0.0) /
                        static_cast<double>(m_.random_copying.size()),
                    kOrange, m_.random_copying});
    BarOptions options;
    options.value_title = "copying score";
    options.low = -1;
    options.high = 1;
    options.reference = CopyingThreshold(m_);
    options.reference_label = "97.5 % of untrained heads";
    report_.Plot(
        BarPlot(bars, options),
        "Each head of the model of one layer, and untrained heads as dots. Heads that look "
        "at the token itself correct bigrams instead (point at a bar).",
        "Bars of copying scores; most are near one, some negative.");
    const auto plane = [&](const std::vector<std::complex<double>>& values, std::string name,
                           int color) {
      Dots dots{std::move(name), {}, {}, color};
      double largest = 0;
      for (const auto& value : values) largest = std::max(largest, std::abs(value));
      for (const auto& value : values) {
        dots.x.push_back(value.real() / largest);
        dots.y.push_back(value.imag() / largest);
      }
      return dots;
    };
    const size_t best = std::max_element(m_.copying.begin(), m_.copying.end()) - m_.copying.begin();
    const size_t worst =
        std::min_element(m_.copying.begin(), m_.copying.end()) - m_.copying.begin();
    report_.Plot(
        PlanePlot({plane(m_.eigenvalues[best], HeadName({0, static_cast<int>(best)}), kBlue),
                   plane(m_.eigenvalues[worst], HeadName({0, static_cast<int>(worst)}), kGrey),
                   plane(m_.random_eigenvalues, "untrained", kOrange)},
                  "real part", "imaginary part"),
        "Eigenvalues of W_E OV W_U of the heads with the highest and the lowest score and of an "
        "untrained one, relative to the largest of each.",
        "Eigenvalues in the complex plane.", true);
  }

  void SkipTrigrams() {
    report_.Section("One layer: skip-trigrams and what they cannot help");
    report_.Paragraph(
        "[source] … [destination] → [out]: the destination looks at the source (QK), which raises "
        "the out (OV). The largest products of each head that looks further back than one token:");
    Table table;
    table.columns = {{"head", false}, {"source … destination → out", false}, {"QK"}, {"OV"}};
    for (size_t head = 0; head < m_.skip_trigrams.size(); ++head) {
      if (m_.looks_near[head] >= 0.5) continue;
      for (size_t i = 0; i < std::min(kTrigramRows, m_.skip_trigrams[head].size()); ++i) {
        const SkipTrigram& triple = m_.skip_trigrams[head][i];
        table.rows.push_back({{HeadName({0, static_cast<int>(head)})},
                              {Words(triple.source, triple.destination, triple.out)},
                              {Two(triple.QK)},
                              {Two(triple.OV)}});
      }
    }
    if (!table.rows.empty()) report_.AddTable(table);
    report_.Paragraph(
        "Where a head looks does not depend on what it then says. If a source has two triples, "
        "each "
        "destination gets both outs, also those that never follow it. Crossed pairs of this kind, "
        "and by how much putting the source into held-out text raises each logit in the whole "
        "model (less the mean over all tokens):");
    Table crossed;
    crossed.columns = {{"head", false}, {"in the text", false},
                       {"raised"},      {"never in the text", false},
                       {"raised"},      {"more than, of all tokens"}};
    for (size_t i = 0; i < std::min(kCrossedRows, m_.crossed.size()); ++i) {
      const CrossedEffect& effect = m_.crossed[i];
      const SkipTrigram &a = effect.pair.first, &b = effect.pair.second;
      const std::string name = HeadName({0, effect.head});
      crossed.rows.push_back(
          {{name},
           {Words(a.source, a.destination, a.out)},
           {Two(effect.after_first[0])},
           {Words(a.source, a.destination, b.out)},
           {Two(effect.after_first[1])},
           {absl::StrCat(FormatNumber(100 * effect.rank_after_first, 0), " %")}});
      crossed.rows.push_back(
          {{name},
           {Words(a.source, b.destination, b.out)},
           {Two(effect.after_second[1])},
           {Words(a.source, b.destination, a.out)},
           {Two(effect.after_second[0])},
           {absl::StrCat(FormatNumber(100 * effect.rank_after_second, 0), " %")}});
    }
    crossed.caption = absl::StrFormat("Of %d crossed pairs found, %.0f %% are raised.",
                                      2 * m_.crossed.size(), 100 * CrossedRaised(m_));
    if (!crossed.rows.empty()) report_.AddTable(crossed);
  }

  void Composition() {
    report_.Section("Two layers: who reads whom");
    const double chance = CompositionByChance(setup_.d_model);
    report_.Paragraph(Html(absl::StrFormat(
        "How much of what a head of the first layer writes is read by a head of the second, by its "
        "queries, keys or values: ‖OV QK‖ / (‖OV‖ ‖QK‖) and its like. Heads that know nothing of "
        "one another have %.3f. Shaded above that; the largest of each kind: Q %.3f, K %.3f, V "
        "%.3f; of K before training %.3f.",
        chance, Largest(m_.q.score), Largest(m_.k.score), Largest(m_.v.score), m_.random_k)));
    const double most =
        std::max({Largest(m_.q.score), Largest(m_.k.score), Largest(m_.v.score)}) - chance;
    const std::pair<const char*, const CompositionScores*> kinds[] = {
        {"K: by keys", &m_.k}, {"Q: by queries", &m_.q}, {"V: by values", &m_.v}};
    for (const auto& [name, scores] : kinds) {
      Table table;
      table.caption = Html(name) + ". Rows write, columns read.";
      table.columns = {{"", false}, {"attention to the token before"}};
      for (const InductionCorner& corner : m_.corner)
        table.columns.push_back({HeadName(corner.head)});
      for (size_t from = 0; from < scores->score[0].size(); ++from) {
        std::vector<TableCell> row = {{HeadName({0, static_cast<int>(from)})},
                                      {Two(m_.scores.previous_token[0][from])}};
        for (const double score : scores->score[0][from][1]) {
          row.push_back({Two(score), std::max(0.0, (score - chance) / std::max(most, 1e-9))});
        }
        table.rows.push_back(std::move(row));
      }
      report_.AddTable(table);
    }
  }

  void Induction() {
    report_.Section("Two layers: induction heads");
    report_.Paragraph(
        "On random tokens, three times over, a head can only know what comes next by finding where "
        "its token stood before. Prefix matching is the attention, weighed by the size of the "
        "values, that goes to what followed earlier occurrences. To do so a head must look for its "
        "own kind through a head that wrote what came before (the QK circuit through "
        "K-composition), and copy what it finds (OV): both have positive eigenvalues.");
    Dots induction{"induction heads", {}, {}, kBlue}, others{"other heads", {}, {}, kGrey};
    Table table;
    table.columns = {{"head", false}, {"prefix matching"}, {"OV"}, {"QK"}, {"through", false}};
    for (const InductionCorner& corner : m_.corner) {
      const bool is = std::find(m_.induction_heads.begin(), m_.induction_heads.end(),
                                corner.head) != m_.induction_heads.end();
      Dots& dots = is ? induction : others;
      dots.x.push_back(corner.qk);
      dots.y.push_back(corner.ov);
      table.rows.push_back({{HeadName(corner.head)},
                            {Two(corner.prefix), corner.prefix},
                            {Two(corner.ov)},
                            {Two(corner.qk)},
                            {HeadName(corner.writer)}});
    }
    report_.Plot(PlanePlot({induction, others}, "QK through K-composition", "OV"),
                 "Eigenvalue positivity of both circuits of every head of the second layer: "
                 "induction heads are in the upper right corner.",
                 "Points in a square; those of induction heads in one corner.", true);
    report_.AddTable(table);
    View(m_.repeated, "Random tokens, three times over.");
    View(m_.text,
         "Held-out text: where a word comes again, an induction head finds what followed.");
  }

  void Terms() {
    report_.Section("Two layers: what each kind of path is worth");
    const TermImportance& t = m_.terms;
    report_.Paragraph(Html(absl::StrFormat(
        "With all patterns held, run after run puts in place of what heads add what they added in "
        "the run before, starting from nothing: the loss on held-out windows then counts paths of "
        "no, one and two heads. Nothing known: %.2f nats; direct path %.2f; with single heads "
        "%.2f; with virtual heads too, which is the whole model, %.2f.",
        t.uniform_loss, t.up_to_order[0], t.up_to_order[1], t.up_to_order[2])));
    BarOptions options;
    options.value_title = "taken off the loss (nats)";
    report_.Plot(BarPlot({{"direct path", t.direct(), kGrey},
                          {"single heads, after the direct path", t.single_heads(), kBlue},
                          {"  of the first layer alone", t.layer_alone(0), kGreen},
                          {"  of the second layer alone", t.layer_alone(1), kGreen},
                          {"  of the first layer, after the second", t.layer_last(0), kGreen},
                          {"  of the second layer, after the first", t.layer_last(1), kGreen},
                          {"virtual heads, after all single ones", t.virtual_heads(), kOrange}},
                         options),
                 "The marginal effect of each kind of term.",
                 "Bars: single heads of the second layer are largest, virtual heads small.");
  }

 private:
  std::string Word(int64_t id) const { return VisibleToken(setup_.vocabulary[id]); }
  Html Words(int64_t source, int64_t destination, int64_t out) const {
    return Code(Word(source)) + " … " + Code(Word(destination)) + " → " + Code(Word(out));
  }

  void View(const Passage& passage, const char* caption) {
    TokenView view;
    view.caption = caption;
    for (const int64_t id : passage.tokens) view.tokens.push_back(setup_.vocabulary[id]);
    view.selected = passage.selected;
    for (size_t layer = passage.patterns.size(); layer-- > 0;) {
      const Tensor& patterns = passage.patterns[layer];
      for (int64_t head = 0; patterns.defined() && head < patterns.dim(0); ++head) {
        const HeadIndex index{static_cast<int>(layer), static_cast<int>(head)};
        const bool is = std::find(m_.induction_heads.begin(), m_.induction_heads.end(), index) !=
                        m_.induction_heads.end();
        view.heads.push_back({HeadName(index), is ? "induction" : "", patterns.Row(head)});
      }
    }
    report_.Tokens(view);
  }

  const FrameworkSetup& setup_;
  const FrameworkMeasures& m_;
  Report& report_;
};

}  // namespace

Report FrameworkReport(const FrameworkSetup& setup, const FrameworkMeasures& measures) {
  Report report("A mathematical framework for transformer circuits",
                Html("A transformer of attention alone is a sum over paths through its heads. Here "
                     "three are trained, of no layer, one and two, and taken apart: what the "
                     "direct path knows, what single heads do, and what heads do together."));
  Page page(setup, measures, report);
  page.Models();
  page.Bigrams();
  page.Copying();
  page.SkipTrigrams();
  page.Composition();
  page.Induction();
  page.Terms();
  return report;
}

}  // namespace residual
