// The passages of a text that activate neurons most, and how often neurons are active at all, in
// one pass over the text.
//
// A neuron is a coordinate of an activation [batch, pos, n] at any hook point within a block:
// "blocks.3.mlp.hook_post", but also a stream or what a mixer writes. Blocks above it are not run,
// and nothing is kept but the best passages so far.

#ifndef RESIDUAL_INTERP_NEURONS_MAX_EXAMPLES_H_
#define RESIDUAL_INTERP_NEURONS_MAX_EXAMPLES_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/stream/residual_model.h"

namespace residual {

// Where a neuron was most active in one window of the text.
struct Example {
  int64_t begin = 0, end = 0;  // tokens of the text that the window shows
  int64_t position = 0;        // the token of the largest activation, as counted in the text
  double activation = 0;
};

struct NeuronExamples {
  // The largest activations first, at most one of each window; of equal ones the earlier.
  std::vector<Example> examples;
  double mean = 0;
  double active = 0;  // share of tokens with an activation above zero
};

struct MaxExamplesOptions {
  int64_t count = 8;      // examples of a neuron
  int64_t context = 128;  // tokens of a window, cut to the model's
  // Windows begin so many tokens apart, and a token is looked at in the first window that has it;
  // at least 1, at most the context. 0: half a window, so that every token but the first ones has
  // at least as much before it.
  int64_t stride = 0;
  int64_t rows = 8;  // windows of one run
  std::function<void(int64_t tokens, int64_t of)> on_progress = {};
};

// One for each neuron. NotFound for a hook point the model does not have (with the nearest ones);
// InvalidArgument for a hook point outside blocks or whose activation is not [batch, pos, n], an
// empty text, tokens outside the vocabulary, or options out of range.
absl::StatusOr<std::vector<NeuronExamples>> FindMaxExamples(const ResidualModel& model,
                                                            absl::Span<const int32_t> text,
                                                            const std::string& hook_point,
                                                            const MaxExamplesOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_NEURONS_MAX_EXAMPLES_H_
