#include "interp/induction/study_report.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "interp/report/plots.h"

namespace residual {
namespace {

enum Color { kBlue, kOrange, kGreen, kPurple, kGrey };

constexpr char kFramework[] = "https://transformer-circuits.pub/2021/framework/index.html";
constexpr char kInduction[] = "https://arxiv.org/abs/2209.11895";

Html Elhage() { return Link(kFramework, "Elhage et al. 2021"); }
Html Olsson() { return Link(kInduction, "Olsson et al. 2022"); }

// W with an index.
Html W(const char* index) { return Html("W") + Sub(index); }
Html OvPath() { return W("E") + W("V") + W("O") + W("U"); }

std::string Two(double x) { return FormatNumber(x, 2); }

bool Contains(const std::vector<HeadIndex>& heads, const HeadIndex& head) {
  return std::find(heads.begin(), heads.end(), head) != heads.end();
}

// "L1H0, L1H2 and L1H3"
std::string Names(const std::vector<HeadIndex>& heads) {
  if (heads.empty()) return "none";
  std::vector<std::string> names;
  for (const HeadIndex& head : heads) names.push_back(HeadName(head));
  if (names.size() == 1) return names[0];
  const std::string last = names.back();
  names.pop_back();
  return absl::StrCat(absl::StrJoin(names, ", "), " and ", last);
}

std::string Count(size_t n, const std::string& noun) {
  static const char* const kWords[] = {"no", "one", "two", "three", "four", "five", "six"};
  return absl::StrCat(n < 7 ? std::string(kWords[n]) : absl::StrCat(n), " ", noun,
                      n == 1 ? "" : "s");
}

// "1,536,000"
std::string Thousands(int64_t n) {
  std::string digits = absl::StrCat(n);
  for (int i = static_cast<int>(digits.size()) - 3; i > 0; i -= 3) digits.insert(i, ",");
  return digits;
}

std::string Millions(int64_t tokens) { return FormatNumber(tokens / 1e6, 2) + " million"; }

Series Curve(const ModelStudy& model, const std::string& name, int color,
             double TrainingPoint::*value) {
  Series series{name, {}, {}, color};
  for (const TrainingPoint& point : model.points) {
    series.x.push_back(point.tokens / 1e6);
    series.y.push_back(point.*value);
  }
  return series;
}

Series ByPosition(const std::string& name, int color, const std::vector<double>& losses) {
  Series series{name, {}, {}, color};
  for (size_t i = 0; i < losses.size(); ++i) {
    series.x.push_back(static_cast<double>(i + 1));
    series.y.push_back(losses[i]);
  }
  return series;
}

void Opening(const InductionStudy& study, Report& report) {
  const AblationStudy& ablations = study.ablations;
  const BestHead best = Best(study.two_layer.scores.induction);
  report.Figures({{Two(best.score), "attention on what followed last time",
                   Html("best head, ") + HeadName(best.head) +
                       "; one layer: " + Two(Best(study.one_layer.scores.induction).score)},
                  {Two(ablations.icl_score), "in-context learning, nats per token",
                   "loss late in the context minus loss early"},
                  {std::isnan(ablations.full.ratio) ? std::string("–")
                                                    : FormatNumber(ablations.full.ratio, 0) + "×",
                   "effect of knocking them out", "compared with as many other heads"},
                  {FormatNumber(study.seconds, 0) + " s", "to train both models and measure",
                   "on this computer's processor"}});
  report.Paragraph(
      Html("Suppose a text says “") + Emphasis("Mr and Mrs Dursley") + "”, and later “" +
      Emphasis("Mr and Mrs Dur") +
      "”. You know what comes next, even if you never met the name "
      "before: you remember that last time, “" +
      Emphasis("sley") + "” followed. An " + Strong("induction head") +
      " is an attention head that does exactly this: from the current "
      "token A it looks back to where A occurred before, moves on to the token B that followed, "
      "and "
      "predicts B again. In short: [A][B] … [A] → [B]. " +
      Elhage() +
      " found such heads by taking "
      "small transformers apart; " +
      Olsson() +
      " showed that they are where much of a language "
      "model's ability to learn from its context comes from. Below are both arguments, repeated on "
      "two models small enough to train while you wait.");
}

void TrainingSection(const InductionStudy& study, Report& report) {
  const std::vector<TrainingPoint>& points = study.two_layer.points;
  const PhaseChange change = FindPhaseChange(points);
  std::optional<Band> band;
  report.Section("A sudden change");
  Html story = Html(
      "Both models see the same text. The two-layer model first learns what any model learns: "
      "which tokens are common and which follow which. Then something else happens. ");
  if (change.found()) {
    const TrainingPoint &from = points[change.first], &to = points[change.last];
    band = Band{from.tokens / 1e6, to.tokens / 1e6, "phase change"};
    story += Html("Between ") + Millions(from.tokens) + " and " + Millions(to.tokens) +
             " tokens the best induction score goes from " + Two(from.best_induction) + " to " +
             Two(to.best_induction) +
             ", and within the same stretch the in-context learning score "
             "goes from " +
             Two(from.icl_score) + " to " + Two(to.icl_score) +
             ". That two things which are measured so differently change together is the first "
             "piece of evidence in " +
             Olsson() + ", who call it a phase change. ";
  } else {
    story += "In this run it did not: no head reached a clear induction score. ";
  }
  report.Paragraph(story + "The one-layer model, trained alike, has no such moment.");

  AxesOptions axes;
  axes.x_title = "tokens trained on (millions)";
  axes.x_format = ".1f";
  axes.height = 190;
  auto plot = [&](double TrainingPoint::*value, const std::string& y_title, const Html& caption,
                  const std::string& description, std::optional<double> low,
                  std::optional<double> high) {
    axes.y_title = y_title;
    axes.y_low = low;
    axes.y_high = high;
    report.Plot(LinePlot({Curve(study.two_layer, "two layers", kBlue, value),
                          Curve(study.one_layer, "one layer", kGrey, value)},
                         axes, band),
                caption, description);
  };
  plot(&TrainingPoint::best_induction, "best induction score",
       Html("Induction. ") +
           "The share of its attention that the best head pays, on random tokens "
           "it has never seen in this order, to the token after the earlier occurrence.",
       "The best induction score while training: the two-layer curve rises steeply, the one-layer "
       "curve stays near zero.",
       0, 1);
  plot(
      &TrainingPoint::icl_score, "in-context learning score",
      Html("In-context learning. ") +
          "Loss in the last eighth of the context minus loss between "
          "its sixteenth and its eighth part, on held-out text, in nats per token. Below zero: the "
          "model is better at predicting what it has read more of.",
      "The in-context learning score while training: it falls steeply for two layers.",
      std::nullopt, std::nullopt);
  plot(&TrainingPoint::loss, "training loss (nats)",
       Html("Loss. ") +
           "Mean over the steps since the point before. The drop in the two-layer curve "
           "is the phase change seen from outside.",
       "The training loss of both models.", std::nullopt, std::nullopt);
}

void ScoresTable(const HeadScores& scores, const InductionStudy* study, const Html& caption,
                 Report& report) {
  Table table;
  table.caption = caption;
  table.columns = {{"head", false}, {"induction"}, {"previous token"}, {"duplicate token"}};
  if (study != nullptr) table.columns.push_back({"called", false});
  for (size_t layer = 0; layer < scores.induction.size(); ++layer) {
    for (size_t h = 0; h < scores.induction[layer].size(); ++h) {
      const HeadIndex head{static_cast<int>(layer), static_cast<int>(h)};
      std::vector<TableCell> row = {{HeadName(head)}};
      for (const HeadTable* kind :
           {&scores.induction, &scores.previous_token, &scores.duplicate_token}) {
        row.push_back({Two((*kind)[layer][h]), (*kind)[layer][h]});
      }
      if (study != nullptr) row.push_back({HeadRole(*study, head)});
      table.rows.push_back(std::move(row));
    }
  }
  report.AddTable(table);
}

void ScoresSection(const InductionStudy& study, Report& report) {
  report.Section("What each head does");
  report.Paragraph(
      Html("How do you catch an induction head? Give the model ") + Emphasis("random") +
      " tokens, and then the same random tokens once more. Nothing in a language helps there: no "
      "grammar, no common words. In the second copy, the only way to know what comes next is to "
      "find the earlier occurrence. So we ask where each head looks from the second copy.");
  report.List({Strong("Induction") +
                   " (prefix matching): at the token after the earlier occurrence "
                   "of the current one, which is the token to predict.",
               Strong("Previous token") + ": at the token just before.",
               Strong("Duplicate token") + ": at the earlier occurrence itself."});
  ScoresTable(
      study.two_layer.scores, &study,
      Html("Mean attention paid there: 1 is all of it. LxHy is head y of layer x. A head is "
           "called by a name if it has at least half the best score of that kind, and at "
           "least ") +
          Two(kHeadFloor) +
          "; previous-token heads only where they can feed "
          "an induction head, in a layer below.",
      report);
  report.Paragraph(Html("Induction heads: ") + Strong(Names(study.ablations.induction_heads)) +
                   ". Previous-token heads below them: " +
                   Strong(Names(study.ablations.previous_token_heads)) + ".");
}

void CircuitsSection(const InductionStudy& study, Report& report) {
  const CircuitStudy& circuits = study.circuits;
  report.Section("How it is wired");
  report.Paragraph(Html("A head does two things, and they can be read off its weights without "
                        "running the model (") +
                   Elhage() + "). Its " + Strong("QK circuit") +
                   ", W_Q W_K^T, decides where it looks; its " + Strong("OV circuit") +
                   ", W_V W_O, decides what it carries over from there. Both are products "
                   "of thin matrices, " +
                   absl::StrCat(study.setup.d_model) + " by " +
                   absl::StrCat(study.setup.d_model / study.setup.n_heads) +
                   ", so their eigenvalues cost next to "
                   "nothing. (The norms' gains are folded in.)");
  report.Paragraph(
      Html("Does the OV circuit copy? Follow it from the embedding of a token to the logits, ") +
      OvPath() +
      ". If that matrix has positive eigenvalues, attending to a token makes the "
      "same token likelier. The copying score is the sum of the eigenvalues over the sum of "
      "their magnitudes: 1 for a head that copies, −1 for one that suppresses, about 0 for "
      "random weights.");
  std::vector<Bar> bars;
  for (size_t layer = 0; layer < circuits.ov_copying.size(); ++layer) {
    for (size_t h = 0; h < circuits.ov_copying[layer].size(); ++h) {
      const HeadIndex head{static_cast<int>(layer), static_cast<int>(h)};
      const std::string role = HeadRole(study, head);
      bars.push_back({absl::StrCat(HeadName(head), role.empty() ? "" : " " + role),
                      circuits.ov_copying[layer][h],
                      role == "induction"        ? kBlue
                      : role == "previous token" ? kGreen
                                                 : kGrey});
    }
  }
  BarOptions options;
  options.value_title = "copying score";
  options.low = -1;
  options.high = 1;
  report.Plot(BarPlot(bars, options),
              "The induction heads copy: what they look at becomes likelier.",
              "The copying score of every head.");

  std::vector<Dots> dots;
  auto add = [&](const std::string& name, int color,
                 const std::vector<std::complex<double>>& values) {
    if (values.empty()) return;
    Dots& group = dots.emplace_back();
    group.name = name;
    group.color = color;
    for (const std::complex<double>& value : values) {
      group.x.push_back(value.real());
      group.y.push_back(value.imag());
    }
  };
  add("OV circuit: what it copies", kBlue, circuits.ov_eigenvalues);
  add("QK circuit: what it looks for", kGreen, circuits.qk_eigenvalues);
  if (dots.size() == 2) {
    const HeadIndex later = study.ablations.induction_heads[0],
                    earlier = study.ablations.previous_token_heads[0];
    report.Paragraph(
        Html("And where does it look? In one layer a head can only compare a token with another "
             "token. To find “the token after an earlier A”, the key of a position must know the "
             "token ") +
        Emphasis("before") +
        " it. That is the work of the previous-token head one "
        "layer below: " +
        HeadName(earlier) + " writes into each position what came before, and " + HeadName(later) +
        " reads it as its key. This is " + Strong("K-composition") +
        ". Multiply the weights along that path and you get a matrix over tokens again, whose "
        "score "
        "is " +
        Strong(Two(circuits.qk_matching)) +
        ": positive, so the head looks for its own kind, "
        "for positions whose previous token equals the current one.");
    report.Plot(PlanePlot(dots, "real part", "imaginary part"),
                Html("Eigenvalues of both circuits of ") + HeadName(later) +
                    ", relative to the "
                    "largest of each. To the right of zero: copying, and matching.",
                "Eigenvalues in the complex plane; most lie on the positive real side.", true);
  }

  bars.clear();
  for (size_t l1 = 0; l1 < circuits.k_composition.size(); ++l1) {
    for (size_t h1 = 0; h1 < circuits.k_composition[l1].size(); ++h1) {
      for (size_t l2 = l1 + 1; l2 < circuits.k_composition[l1][h1].size(); ++l2) {
        for (size_t h2 = 0; h2 < circuits.k_composition[l1][h1][l2].size(); ++h2) {
          const HeadIndex writer{static_cast<int>(l1), static_cast<int>(h1)};
          const HeadIndex reader{static_cast<int>(l2), static_cast<int>(h2)};
          const bool circuit = Contains(study.ablations.previous_token_heads, writer) &&
                               Contains(study.ablations.induction_heads, reader);
          bars.push_back({absl::StrCat(HeadName(writer), " → ", HeadName(reader)),
                          circuits.k_composition[l1][h1][l2][h2],
                          circuit ? kBlue : kGrey,
                          {},
                          circuit ? "previous token to induction" : ""});
        }
      }
    }
  }
  std::stable_sort(bars.begin(), bars.end(),
                   [](const Bar& a, const Bar& b) { return a.value > b.value; });
  BarOptions composition;
  composition.value_title = "K-composition";
  composition.low = 0;
  composition.reference = circuits.k_baseline;
  composition.reference_label = "chance, 1/√d_model";
  report.Plot(
      BarPlot(bars, composition),
      Html("How much of what a head writes is read by the keys of a later head: ‖OV QK") +
          Sup("T") +
          "‖ / (‖OV‖ ‖QK‖), "
          "Frobenius norms. Weights that know nothing of each other give 1/√d" +
          Sub("model") + " = " + Two(circuits.k_baseline) +
          ". In colour: from a previous-token head to an induction head. "
          "(The first version of the paper's figure was wrong because its library took ‖AB‖ for "
          "‖BA‖; these norms are checked against full matrices.)",
      "K-composition of every pair of heads; pairs of the circuit stand out above chance.");
}

void ProofSection(const InductionStudy& study, Report& report) {
  const AblationStudy& ablations = study.ablations;
  const size_t found = ablations.induction_heads.size();
  report.Section("The proof: knock them out");
  if (found == 0) {
    report.Paragraph(Html("No head has an induction score of ") + Two(kHeadFloor) +
                     " or more, so there is nothing to knock out. More training (" +
                     Code("--max_steps") + "), more repetition (" + Code("--repeat") +
                     ") or a longer text may bring the heads about.");
    return;
  }
  report.Paragraph(
      Html("That two curves move together proves little. So we switch heads off: a head that is "
           "knocked out still looks where it looks, but adds nothing. If the ") +
      Count(found, "induction head") + " found " + (found == 1 ? "is" : "are") +
      " what makes the "
      "model learn in context, then without " +
      (found == 1 ? "it" : "them") +
      " in-context learning must be gone, and without as many other heads it must stay.");

  auto knock_out_bars = [&](const KnockOut& knock_out) {
    std::vector<Bar> bars = {{"intact", ablations.icl_score, kBlue},
                             {"without the induction heads",
                              knock_out.without_induction,
                              kOrange,
                              {},
                              Names(ablations.induction_heads)}};
    if (!ablations.random_sets.empty()) {
      const size_t size = ablations.random_sets[0].size();
      if (size < found) {
        bars.push_back(
            {absl::StrCat("without the ", size, " strongest"), knock_out.without_matched, kOrange});
      }
      bars.push_back({absl::StrCat("without ", size, " other head", size == 1 ? "" : "s"),
                      knock_out.random_mean, kGreen, knock_out.without_random,
                      absl::StrCat("mean over ", ablations.random_sets.size(), " sets")});
    }
    return bars;
  };
  BarOptions options;
  options.value_title = "in-context learning score (below zero: learns from its context)";
  report.Plot(
      BarPlot(knock_out_bars(ablations.full), options),
      "In-context learning with heads knocked out; dots are the single sets of other heads.",
      "Without the induction heads the score is near zero or above; without other heads it "
      "stays.");
  if (!ablations.random_sets.empty()) {
    const size_t size = ablations.random_sets[0].size();
    const KnockOut &full = ablations.full, &frozen = ablations.frozen;
    Html text = Html("Knocking ") +
                (size < found ? absl::StrCat("the ", size, " strongest of them")
                              : std::string(found == 1 ? "it" : "them")) +
                " out moves the score by " + Two(full.without_matched - ablations.icl_score) +
                " nats, " + Strong(FormatNumber(full.ratio, 0) + " times") +
                " as far as knocking "
                "out as many heads that are neither induction nor previous-token heads (" +
                Count(ablations.random_sets.size(), "set") + ", the mean distance";
    if (size < found) text += absl::StrCat("; there are only ", size, " such heads");
    text += Html("). With every other head's pattern held fixed, which is how ") + Olsson() +
            " do it and removes only what a head writes itself, the score goes from " +
            Two(ablations.icl_score) + " to " + Two(frozen.without_induction) +
            " without the induction heads and to " + Two(frozen.random_mean) +
            " without other ones.";
    report.Paragraph(text);
  } else {
    report.Paragraph(
        "In this model every head is an induction or a previous-token head, so there "
        "are no others to compare with.");
  }

  AxesOptions axes;
  axes.x_title = "position in the context";
  axes.x_format = ".0f";
  axes.y_title = "loss (nats)";
  axes.y_low = 0;
  std::vector<Series> curves = {
      ByPosition("intact", kBlue, ablations.loss_by_position),
      ByPosition("without the induction heads", kOrange, ablations.loss_without_induction)};
  if (!ablations.loss_without_random.empty()) {
    curves.push_back(ByPosition("without other heads", kGreen, ablations.loss_without_random));
  }
  report.Plot(LinePlot(curves, axes),
              Html("The same, position by position. The intact model becomes better once passages "
                   "begin to repeat (after 1/8 to 1/2 of the window). Without its induction heads, "
                   "a repetition is news to it."),
              "Loss by position: falls with position for the intact model, not without its "
              "induction heads.");

  if (!ablations.previous_token_heads.empty()) {
    report.Paragraph(Html("The other half of the circuit: knock out the previous-token head") +
                     (ablations.previous_token_heads.size() == 1 ? "" : "s") + " " +
                     Names(ablations.previous_token_heads) +
                     ", and the induction heads above, themselves "
                     "untouched, no longer know where to look.");
    std::vector<Bar> bars = {{"intact", ablations.best_induction, kBlue},
                             {"without previous-token heads",
                              ablations.best_induction_without_previous,
                              kOrange,
                              {},
                              Names(ablations.previous_token_heads)}};
    if (!std::isnan(ablations.best_induction_without_others)) {
      bars.push_back({"without other heads below",
                      ablations.best_induction_without_others,
                      kGreen,
                      {},
                      "as many of the same layers, mean"});
    }
    BarOptions induction;
    induction.value_title = "best induction score";
    induction.low = 0;
    induction.high = 1;
    report.Plot(BarPlot(bars, induction), "",
                "The best induction score falls to almost nothing without previous-token heads.");
  }
}

void ControlSection(const InductionStudy& study, Report& report) {
  const double best = Best(study.one_layer.scores.induction).score;
  report.Section("The control: one layer is not enough");
  report.Paragraph(
      Html("An induction head needs a head below it that tells each position what came before. A "
           "one-layer model has nothing below. Trained on the same windows, for as many steps (") +
      Thousands(study.one_layer.points.back().step) + "), its best induction score is " +
      Strong(Two(best)) + "; a head that looked everywhere alike would have " +
      // The mean of 1 / (i + 1) over the second half of the probe.
      Two(std::log(2.0) * 2 / static_cast<double>(study.setup.context)) +
      ". Its in-context learning score of " + Two(study.one_layer.points.back().icl_score) +
      " comes from something simpler: a token that was read is likelier to come again.");
  ScoresTable(study.one_layer.scores, nullptr,
              "The heads of the one-layer model on the same random tokens.", report);
}

void PicturesSection(const InductionStudy& study, Report& report) {
  if (study.pictures.empty()) return;
  report.Section("See where they look");
  report.Paragraph(
      "Choose a head, then point at a token, tap it, or move with the arrow keys. The marked token "
      "is where the head looks from; the shaded ones are where it looks to. The square is the "
      "whole "
      "pattern: one row for each token, one column for each token it can look at.");
  for (const InductionStudy::Picture& picture : study.pictures) {
    TokenView view;
    view.caption = picture.caption;
    view.tokens = picture.tokens;
    view.selected = picture.passage.selected;
    std::vector<HeadIndex> heads = study.ablations.induction_heads;
    heads.insert(heads.end(), study.ablations.previous_token_heads.begin(),
                 study.ablations.previous_token_heads.end());
    for (size_t layer = 0; layer < picture.passage.patterns.size(); ++layer) {
      const Tensor& pattern = picture.passage.patterns[layer];
      for (int h = 0; pattern.defined() && h < pattern.dim(0); ++h) {
        const HeadIndex head{static_cast<int>(layer), h};
        if (!Contains(heads, head)) heads.push_back(head);
      }
    }
    for (const HeadIndex& head : heads) {
      view.heads.push_back({HeadName(head), HeadRole(study, head),
                            picture.passage.patterns[head.layer].Row(head.head)});
    }
    report.Tokens(view);
  }
}

void MethodSection(const InductionStudy& study, Report& report) {
  const StudySetup& setup = study.setup;
  report.Section("How this was made");
  const int64_t low = std::max<int64_t>(1, setup.context / 8),
                high = std::max<int64_t>(low, setup.context / 2);
  report.List(
      {Html("Text: ") + setup.text_name + ", " + Thousands(setup.text_bytes) + " bytes, " +
           Thousands(setup.text_tokens) + " tokens (" + setup.tokenizer +
           "). The last tenth is "
           "held out; all scores on text are measured there.",
       Html("A training window has ") + absl::StrCat(setup.context) + " tokens. With probability " +
           Strong(absl::StrCat(setup.repeat)) + " it is a passage of " + absl::StrCat(low) +
           " to " + absl::StrCat(high) +
           " tokens, repeated to fill the window, as documents repeat "
           "themselves. That brings the phase change from billions of tokens to a minute, and it "
           "is "
           "why the in-context learning score is larger here than in a large model.",
       Html("Models: attention only, pre-norm, ") + absl::StrCat(setup.n_heads) +
           " heads a layer, "
           "width " +
           absl::StrCat(setup.d_model) +
           ", sinusoidal positions added to what queries "
           "and keys are made of (not to the stream, as in Elhage et al.); " +
           Thousands(study.two_layer.parameters) + " and " + Thousands(study.one_layer.parameters) +
           " parameters.",
       Html("Training: AdamW, learning rate ") + absl::StrCat(setup.learning_rate) +
           ", weight decay " + absl::StrCat(setup.weight_decay) + ", batches of " +
           absl::StrCat(setup.batch_size) + " windows; " +
           Thousands(study.two_layer.points.back().step) + " steps, " +
           Millions(study.two_layer.points.back().tokens) +
           " tokens, for each model. Training ends "
           "when the induction score no longer rises.",
       Html("Scores of heads: 16 passages of ") + absl::StrCat(setup.context / 2) +
           " random tokens, drawn from those of the text, each twice. In-context learning: 64 "
           "held-out windows."});
  report.Footer(
      Html("Made by residual’s tour with seed ") + absl::StrCat(setup.seed) +
      ": the same seed and text give the same numbers on any number of threads. This page "
      "is one file and loads nothing.");
}

}  // namespace

Report InductionReport(const InductionStudy& study) {
  Report report(
      "Induction heads, found and proved",
      Html("A two-layer attention-only transformer was just trained on ") + study.setup.text_name +
          ". Partway through, it learned to continue what it had "
          "read only once. Here is when that happened, which of its heads do it, how they "
          "are wired, and why it is they and nothing else.");
  Opening(study, report);
  TrainingSection(study, report);
  ScoresSection(study, report);
  CircuitsSection(study, report);
  ProofSection(study, report);
  ControlSection(study, report);
  PicturesSection(study, report);
  MethodSection(study, report);
  return report;
}

}  // namespace residual
