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

// Where one head (or channel) looks on the prompt.
struct PromptPattern {
  std::string name;        // "L1H0", "L1C17", "L1 mean" of all channels
  std::string note;        // what it mostly looks at: "previous token", or ""
  Tensor pattern;          // [query, key], weights
  double attribution = 0;  // of the head to the difference of logits; 0 where it is not known
};

// One number with its name.
struct NamedValue {
  std::string name;
  double value = 0;
};

// What a fading memory (a state space's) does with every token of the prompt.
struct PromptMemory {
  std::string name;  // "L0"
  int64_t n_units = 0;
  // For each token: the mean step of the units, each relative to its own mean over the prompt (more
  // than 1: written more strongly than usual, and more of the past forgotten), and the share of the
  // past that is left in the median unit and in the one at the lowest tenth.
  std::vector<double> step, kept_median, kept_low;
  // Tokens that units remember (MemoryLengths), at the lowest tenth, the median, the highest tenth.
  double length_low = 0, length_median = 0, length_high = 0;
};

struct PromptStudy {
  std::vector<int64_t> tokens;
  double loss = 0;  // mean nats of the prompt's tokens but the first; NaN for one token
  // The most likely next tokens, those first.
  std::vector<int64_t> next;
  std::vector<double> next_probs;

  std::vector<PromptPattern> patterns;
  int64_t patterns_left_out = 0;
  bool has_channels = false;           // some patterns are sizes of signed maps, rows scaled to 1
  std::vector<PromptMemory> memories;  // of the mixers that have one

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
  // Channels of a state space to show of each layer that has more: those that move most from
  // earlier tokens to later ones, and the mean of all.
  int64_t channels = 8;
  const TunedLens* tuned_lens = nullptr;
};

// InvalidArgument for no tokens, tokens or ids outside the vocabulary, an answer that is `wrong`;
// else what DecomposeStream gives.
absl::StatusOr<PromptStudy> StudyPrompt(const ResidualModel& model,
                                        absl::Span<const int64_t> tokens,
                                        const PromptOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_LENS_PROMPT_STUDY_H_
