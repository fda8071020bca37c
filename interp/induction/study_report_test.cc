#include "interp/induction/study_report.h"

#include <limits>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "interp/testing/planted_circuit.h"

namespace residual {
namespace {

// The study of the planted circuit, as if it had formed in training.
InductionStudy Planted(bool found) {
  const auto model = found ? PlantedInductionModel() : PlantedPreviousTokenModel();
  const auto one_layer = PlantedPreviousTokenModel();
  Probes probes;
  probes.repeated_random =
      Tensor::Of<int64_t>({1, 16}, {3, 1, 4, 15, 9, 2, 6, 5, 3, 1, 4, 15, 9, 2, 6, 5});
  probes.held_out = {probes.repeated_random,
                     Tensor::Of<int64_t>({1, 16}, {1, 4, 15, 9, 2, 6, 5, 3,  //
                                                   1, 4, 15, 9, 2, 6, 5, 3})};
  InductionStudy study;
  study.setup.text_name = "a <text>";
  study.setup.text_bytes = 1234567;
  study.setup.d_model = 56;
  study.setup.n_heads = 2;
  study.setup.context = 16;
  study.setup.repeat = 0.9;
  for (int step : {0, 10, 20, 30}) {
    TrainingPoint point;
    point.step = step;
    point.tokens = step * 1000;
    point.loss = step == 0 ? std::numeric_limits<double>::quiet_NaN() : 3;
    point.best_induction = 0.02;
    study.one_layer.points.push_back(point);
    if (found && step >= 20) point.best_induction = 0.9;
    point.icl_score = found && step >= 20 ? -2 : 0;
    study.two_layer.points.push_back(point);
  }
  study.two_layer.scores = *ScoreHeads(*model, probes.repeated_random);
  study.one_layer.scores = *ScoreHeads(*one_layer, probes.repeated_random);
  if (!found) {  // not even what attending to all alike gives
    for (auto& row : study.two_layer.scores.induction) row.assign(row.size(), 0.01);
  }
  study.ablations = *StudyAblations(*model, study.two_layer.scores, probes, 1);
  if (found) {
    study.circuits = *StudyCircuits(*model, {0, 0}, {1, 0});
  } else {
    study.circuits = *StudyCircuits(*model, {}, {});
  }
  const HeadIndex head = Best(study.two_layer.scores.induction).head;
  study.pictures.push_back({"A passage.", *FindPassage(*model, probes.repeated_random, head),
                            std::vector<std::string>(16, "</script>")});
  study.seconds = 12.3;
  return study;
}

// The page without the library.
std::string PageText(const InductionStudy& study) {
  const std::string page = InductionReport(study).ToString();
  return page.substr(0, page.find("Copyright (c) 2015"));
}

TEST(StudyReportTest, ThePageTellsWhatWasFound) {
  const std::string page = PageText(Planted(true));
  for (const char* text :
       {"Induction heads: <strong>L1H0</strong>. Previous-token heads below them: "
        "<strong>L0H0</strong>.",
        "Between 0.01 million and 0.02 million tokens the best induction score goes",
        "a &lt;text&gt;, 1,234,567 bytes", "Elhage et al. 2021", "Olsson et al. 2022",
        "With probability <strong>0.9</strong>", "knock out the previous-token head L0H0",
        "If the one induction head found is what makes"}) {
    EXPECT_TRUE(absl::StrContains(page, text)) << text;
  }
  EXPECT_FALSE(absl::StrContains(page, "nan"));
  EXPECT_FALSE(absl::StrContains(page, ">-"));  // minus signs are real ones
}

TEST(StudyReportTest, ThePageSaysSoIfNothingWasFound) {
  const std::string page = PageText(Planted(false));
  EXPECT_TRUE(absl::StrContains(page, "there is nothing to knock out"));
  EXPECT_TRUE(absl::StrContains(page, "no head reached a clear induction score"));
  EXPECT_TRUE(absl::StrContains(page, "<strong>none</strong>"));
}

TEST(StudyReportTest, Summary) {
  const std::string found = InductionSummary(Planted(true));
  EXPECT_TRUE(absl::StrContains(found, "<- induction")) << found;
  EXPECT_TRUE(absl::StrContains(found, "<- previous token")) << found;
  EXPECT_TRUE(absl::StrContains(found, "times as large")) << found;
  const std::string none = InductionSummary(Planted(false));
  EXPECT_TRUE(absl::StrContains(none, "No induction head: the best score is 0.01")) << none;
  for (const std::string& text : {found, none}) {
    EXPECT_FALSE(absl::StrContains(text, "nan")) << text;
    size_t width = 0;
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = text.find('\n', begin);
      width = std::max(width, end - begin);
      begin = end + 1;
    }
    EXPECT_LE(width, 80) << text;
  }
}

TEST(StudyReportTest, Json) {
  // As a reader sees it: NaN is null.
  const auto json = nlohmann::json::parse(InductionJson(Planted(true)).dump());
  EXPECT_EQ(json["two_layer"]["induction"].size(), 2);
  EXPECT_EQ(json["two_layer"]["previous_token"][0].size(), 2);
  EXPECT_EQ(json["one_layer"]["induction"].size(), 1);
  EXPECT_NEAR(json["two_layer"]["best_induction"].get<double>(), 1, 1e-9);
  EXPECT_EQ(json["two_layer"]["icl_score"], -2);
  EXPECT_EQ(json["two_layer"]["loss"], 3);
  EXPECT_EQ(json["two_layer"]["steps"], 30);
  EXPECT_EQ(json["induction_heads"], nlohmann::json::parse("[[1, 0]]"));
  EXPECT_EQ(json["previous_token_heads"], nlohmann::json::parse("[[0, 0]]"));
  EXPECT_GT(json["ablation"]["ratio"], 5);
  EXPECT_TRUE(json["ablation"]["icl_score"].is_number());
  EXPECT_TRUE(json["ablation"]["random_icl_score_mean"].is_number());
  EXPECT_LT(json["previous_token_ablation"]["best_induction"], 0.2);
  EXPECT_EQ(json["seconds"], 12.3);

  const auto none = nlohmann::json::parse(InductionJson(Planted(false)).dump());
  EXPECT_EQ(none["induction_heads"], nlohmann::json::array());
  EXPECT_TRUE(none["ablation"]["ratio"].is_null());
}

}  // namespace
}  // namespace residual
