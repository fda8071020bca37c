#include "interp/induction/study_summary.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace residual {
namespace {

bool Contains(const std::vector<HeadIndex>& heads, const HeadIndex& head) {
  return std::find(heads.begin(), heads.end(), head) != heads.end();
}

nlohmann::json ModelJson(const ModelStudy& model) {
  const TrainingPoint& last = model.points.back();
  return {{"induction", model.scores.induction},
          {"previous_token", model.scores.previous_token},
          {"duplicate_token", model.scores.duplicate_token},
          {"best_induction", Best(model.scores.induction).score},
          {"icl_score", last.icl_score},
          {"loss", last.loss},
          {"steps", last.step},
          {"tokens", last.tokens},
          {"parameters", model.parameters}};
}

nlohmann::json HeadsJson(const std::vector<HeadIndex>& heads) {
  nlohmann::json list = nlohmann::json::array();
  for (const HeadIndex& head : heads)
    list.push_back(nlohmann::json::array({head.layer, head.head}));
  return list;
}

nlohmann::json KnockOutJson(const KnockOut& knock_out) {
  return {{"icl_score", knock_out.without_induction},
          {"icl_score_matched", knock_out.without_matched},
          {"random_icl_score_mean", knock_out.random_mean},
          {"random_icl_scores", knock_out.without_random},
          {"ratio", knock_out.ratio}};
}

}  // namespace

std::string HeadRole(const InductionStudy& study, const HeadIndex& head) {
  if (Contains(study.ablations.induction_heads, head)) return "induction";
  if (Contains(study.ablations.previous_token_heads, head)) return "previous token";
  return "";
}

std::string InductionSummary(const InductionStudy& study) {
  const AblationStudy& ablations = study.ablations;
  const HeadScores& scores = study.two_layer.scores;
  std::string text = "\n  head    induction  previous token  duplicate token\n";
  for (size_t layer = 0; layer < scores.induction.size(); ++layer) {
    for (size_t h = 0; h < scores.induction[layer].size(); ++h) {
      const HeadIndex head{static_cast<int>(layer), static_cast<int>(h)};
      const std::string role = HeadRole(study, head);
      absl::StrAppendFormat(&text, "  %-6s  %9.2f  %14.2f  %15.2f%s\n", HeadName(head),
                            scores.induction[layer][h], scores.previous_token[layer][h],
                            scores.duplicate_token[layer][h], role.empty() ? "" : "   <- " + role);
    }
  }
  text += "\n";
  const PhaseChange change = FindPhaseChange(study.two_layer.points);
  if (change.found()) {
    absl::StrAppendFormat(&text,
                          "Phase change between %.2f and %.2f million tokens: induction %.2f -> "
                          "%.2f,\n  in-context learning %.2f -> %.2f nats\n",
                          study.two_layer.points[change.first].tokens / 1e6,
                          study.two_layer.points[change.last].tokens / 1e6,
                          study.two_layer.points[change.first].best_induction,
                          study.two_layer.points[change.last].best_induction,
                          study.two_layer.points[change.first].icl_score,
                          study.two_layer.points[change.last].icl_score);
  }
  if (ablations.induction_heads.empty()) {
    absl::StrAppendFormat(&text, "No induction head: the best score is %.2f\n",
                          ablations.best_induction);
  } else {
    absl::StrAppendFormat(&text, "In-context learning %.2f; without the induction heads %.2f\n",
                          ablations.icl_score, ablations.full.without_induction);
    if (!std::isnan(ablations.full.ratio)) {
      absl::StrAppendFormat(&text,
                            "  without as many other heads %.2f: the effect is %.0f times "
                            "as large\n",
                            ablations.full.random_mean, ablations.full.ratio);
    }
    absl::StrAppendFormat(&text,
                          "Best induction score %.2f; without the previous-token heads %.2f\n",
                          ablations.best_induction, ablations.best_induction_without_previous);
  }
  absl::StrAppendFormat(&text, "One layer, trained alike: best induction score %.2f\n",
                        Best(study.one_layer.scores.induction).score);
  return text;
}

nlohmann::json InductionJson(const InductionStudy& study) {
  const AblationStudy& ablations = study.ablations;
  nlohmann::json ablation = KnockOutJson(ablations.full);
  ablation["intact_icl_score"] = ablations.icl_score;
  ablation["frozen_patterns"] = KnockOutJson(ablations.frozen);
  return {{"two_layer", ModelJson(study.two_layer)},
          {"one_layer", ModelJson(study.one_layer)},
          {"induction_heads", HeadsJson(ablations.induction_heads)},
          {"previous_token_heads", HeadsJson(ablations.previous_token_heads)},
          {"ablation", ablation},
          {"previous_token_ablation",
           {{"best_induction", ablations.best_induction_without_previous},
            {"best_induction_without_others", ablations.best_induction_without_others}}},
          {"circuits",
           {{"ov_copying", study.circuits.ov_copying},
            {"k_composition", study.circuits.k_composition},
            {"k_baseline", study.circuits.k_baseline},
            {"qk_matching", study.circuits.qk_matching}}},
          {"seconds", study.seconds}};
}

}  // namespace residual
