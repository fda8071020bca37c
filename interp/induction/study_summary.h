// A whole study of induction heads, told in a few lines for a terminal and as JSON.

#ifndef RESIDUAL_INTERP_INDUCTION_STUDY_SUMMARY_H_
#define RESIDUAL_INTERP_INDUCTION_STUDY_SUMMARY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "interp/induction/study.h"
#include "nlohmann/json.hpp"

namespace residual {

// What was trained, and on what.
struct StudySetup {
  std::string text_name;  // "tinyshakespeare.txt"
  int64_t text_bytes = 0, text_tokens = 0;
  std::string tokenizer;  // "byte-pair encoding, 512 tokens"
  int64_t d_model = 0, n_heads = 0, context = 0, batch_size = 0;
  double learning_rate = 0, weight_decay = 0, repeat = 0;
  uint64_t seed = 0;
};

struct ModelStudy {
  int64_t parameters = 0;
  std::vector<TrainingPoint> points;  // not empty
  HeadScores scores;
};

struct InductionStudy {
  StudySetup setup;
  ModelStudy two_layer, one_layer;
  AblationStudy ablations;  // of the two-layer model
  CircuitStudy circuits;
  // A passage with what to say of it, and the text of each of its tokens.
  struct Picture {
    std::string caption;
    Passage passage;
    std::vector<std::string> tokens;
  };
  std::vector<Picture> pictures;
  double seconds = 0;  // all of it
};

// What the study calls a head of its two-layer model: "induction", "previous token" or "".
std::string HeadRole(const InductionStudy& study, const HeadIndex& head);

// A few lines of plain text, 80 columns.
std::string InductionSummary(const InductionStudy& study);

// {"two_layer": {"induction": [[..]], "previous_token": [[..]], "best_induction", "icl_score",
// "loss", "steps"}, "one_layer": {..}, "induction_heads": [[l, h], ..], "ablation": {"icl_score",
// "random_icl_score_mean", "ratio", ..}, "previous_token_ablation": {"best_induction", ..},
// "seconds"}; a number there is none of is null.
nlohmann::json InductionJson(const InductionStudy& study);

}  // namespace residual

#endif  // RESIDUAL_INTERP_INDUCTION_STUDY_SUMMARY_H_
