// The tuned lens (Belrose et al. 2023, "Eliciting latent predictions from transformers with the
// tuned lens"): an affine map for each layer, trained so that the model's own final norm and
// unembedding, applied to the mapped stream, predict what the model predicts at its end.
//
//   lens_l(x) = Unembed(LnFinal(x + x A_l + b_l)),   loss_l = mean KL(final || lens_l)
//
// A_l and b_l start at zero: the logit lens. Any model whose blocks add to the stream has one.

#ifndef RESIDUAL_INTERP_LENS_TUNED_LENS_H_
#define RESIDUAL_INTERP_LENS_TUNED_LENS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/attribution/decomposition.h"
#include "models/nn/module.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

class TunedLens : public Module {
 public:
  // The maps of the streams at the beginning of each block ("0_pre", "1_pre", ...), all zero.
  TunedLens(int n_layers, int64_t d_model, DType dtype = kF32);
  void Describe(Visitor& v) override;

  // x [.., d_model] at the beginning of block `layer` -> x + x A + b.
  Tensor Translate(int layer, const Tensor& x) const;
  int n_layers() const { return static_cast<int>(maps_.size()); }

 private:
  class Map : public Module {
   public:
    explicit Map(int64_t d_model) : d_model_(d_model) {}
    void Describe(Visitor& v) override;
    Tensor A, b;

   private:
    int64_t d_model_;
  };
  std::vector<Map> maps_;
};

// The streams at the beginning of each block, of a decomposition's `accumulated`: what a tuned lens
// has maps for.
LabelledStreams BlockInputs(const Decomposition& decomposition);

struct TunedLensOptions {
  int64_t steps = 250;
  int64_t rows = 8, context = 64;  // windows of text in a step
  double learning_rate = 1e-3;     // of Adam; falls to zero in a line
  double held_out = 0.1;           // the last part of the text, never trained on
  uint64_t seed = 0;
  std::function<void(int64_t step, double kl)> on_step = {};  // kl: mean over layers of that step
};

struct TunedLensTraining {
  TunedLens lens;
  // Mean KL(final || lens) on held-out text, nats, for each layer: without and with the maps.
  std::vector<double> logit_lens_kl, tuned_lens_kl;
};

// InvalidArgument if the text is too short for windows to train and to measure on, or has a token
// outside the vocabulary; else what DecomposeStream gives.
absl::StatusOr<TunedLensTraining> TrainTunedLens(const ResidualModel& model,
                                                 absl::Span<const int32_t> text,
                                                 const TunedLensOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_LENS_TUNED_LENS_H_
