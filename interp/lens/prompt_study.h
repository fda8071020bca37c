// Everything a page about one prompt shows: where heads look, what the model would say at every
// layer, and which parts made it say what it says.

#ifndef RESIDUAL_INTERP_LENS_PROMPT_STUDY_H_
#define RESIDUAL_INTERP_LENS_PROMPT_STUDY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/heads/head_scores.h"
#include "interp/lens/logit_lens.h"
#include "interp/lens/tuned_lens.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// A pattern of one head (or channel) on the prompt.
struct PromptPattern {
  std::string name;        // "L1H0"
  std::string note;        // what it mostly looks at: "previous token", or ""
  Tensor pattern;          // [query, key]
  double attribution = 0;  // of the head to the difference of logits; 0 where it is not known
};

// One number with its name.
struct NamedValue {
  std::string name;
  double value = 0;
};

struct PromptStudy {
  std::vector<int64_t> tokens;
  double loss = 0;  // mean nats of the prompt's tokens but the first; NaN for one token
  // The most likely next tokens, those first.
  std::vector<int64_t> next;
  std::vector<double> next_probs;

  std::vector<PromptPattern> patterns;
  int64_t patterns_left_out = 0;

  // Streams at the beginning of every block, and the last: [n, 1, pos].
  LensReading logit_lens;
  std::optional<LensReading> tuned_lens;

  // logit[answer] - logit[wrong] after the last token, and what adds up to it.
  int64_t answer = 0, wrong = 0;
  double difference = 0;
  std::vector<NamedValue> parts;  // with "bias"
  HeadTable heads;                // [layer][head]
};

struct PromptOptions {
  int64_t top = 5;  // next tokens, and tokens of a lens
  // -1: the most likely next token, and the second.
  int64_t answer = -1, wrong = -1;
  // So many pattern entries are kept at most (a page carries half a byte each); of more, those of
  // the heads with the largest attributions.
  int64_t pattern_entries = 8 << 20;
  const TunedLens* tuned_lens = nullptr;
};

// InvalidArgument for no tokens, tokens or ids outside the vocabulary, an answer that is `wrong`;
// else what DecomposeStream gives.
absl::StatusOr<PromptStudy> StudyPrompt(const ResidualModel& model,
                                        absl::Span<const int64_t> tokens,
                                        const PromptOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_LENS_PROMPT_STUDY_H_
