// The logit lens (nostalgebraist 2020): what the model would predict if it stopped at a layer. The
// stream there goes through the final norm, whose scale is made anew from it, and the unembedding.
//
// The tuned lens (Belrose et al. 2023) first moves it by an affine map of that layer, which
// interp/lens/tuned_lens trains.

#ifndef RESIDUAL_INTERP_LENS_LOGIT_LENS_H_
#define RESIDUAL_INTERP_LENS_LOGIT_LENS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "interp/attribution/decomposition.h"
#include "interp/attribution/logit_attribution.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// What a lens reads in n streams.
struct LensReading {
  std::vector<std::string> labels;
  Tensor top_ids;    // i64 [n, batch, pos, top]: the most likely tokens, those first
  Tensor top_probs;  // f32, the same shape
  Tensor kl;         // f32 [n, batch, pos]: KL(final || lens), nats
  Tensor entropy;    // f32 [n, batch, pos]: of the lens, nats
};

// Moves stream i before it is read; undefined function: not at all.
using Translator = std::function<Tensor(int64_t i, const Tensor& stream)>;

// Reads streams [batch, pos, d_model], one at a time. final_logits: [batch, pos, d_vocab]. `top` is
// cut to d_vocab.
LensReading ReadLens(const ResidualModel& model, const LabelledStreams& streams,
                     const Tensor& final_logits, int64_t top, const Translator& translate = {});

// [n, batch], f32: the difference of logits that `targets` asks for (of the answer, less the wrong
// one or the mean of all) if the model stopped at each stream, at position[row] of each row.
Tensor LensDifferences(const ResidualModel& model, const LabelledStreams& streams,
                       const LogitTargets& targets, absl::Span<const int64_t> position);

// [n, batch, pos, d_model], f32: the streams behind the final norm, each with its own scale
// (TransformerLens's accumulated_resid(apply_ln=True)).
Tensor NormedStreams(const ResidualModel& model, const LabelledStreams& streams);

}  // namespace residual

#endif  // RESIDUAL_INTERP_LENS_LOGIT_LENS_H_
