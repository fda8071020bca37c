#include "interp/lens/tuned_lens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "interp/lens/logit_lens.h"
#include "models/nn/hook.h"
#include "models/train/optimizer.h"
#include "ops/elementwise/elementwise.h"
#include "ops/matmul/matmul.h"
#include "ops/reduce/reduce.h"
#include "ops/softmax/softmax.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr int64_t kMeasuredRows = 16;  // windows of held-out text

// `rows` windows of text[begin, end), the first tokens of which `start` gives.
template <class Start>
Tensor Windows(absl::Span<const int32_t> text, int64_t rows, int64_t context, const Start& start) {
  Tensor tokens = Tensor::Uninitialized({rows, context}, kI64);
  int64_t* to = tokens.mutable_data<int64_t>();
  for (int64_t row = 0; row < rows; ++row) {
    to = std::copy_n(text.begin() + start(row), context, to);
  }
  return tokens;
}

// Mean KL of each layer on these tokens.
absl::StatusOr<std::vector<double>> MeanKl(const ResidualModel& model, const Tensor& tokens,
                                           const TunedLens* lens) {
  RESIDUAL_ASSIGN_OR_RETURN(const Decomposition found, DecomposeStream(model, {tokens}));
  Translator translate;
  if (lens != nullptr) {
    translate = [lens](int64_t i, const Tensor& x) {
      return lens->Translate(static_cast<int>(i), x);
    };
  }
  const LensReading reading = ReadLens(model, BlockInputs(found), found.logits, 1, translate);
  const std::vector<double> kl = Mean(Mean(reading.kl, 2), 1).ToDoubles();
  return kl;
}

}  // namespace

void TunedLens::Map::Describe(Visitor& v) {
  v.Param("A", A, {d_model_, d_model_}, Init::Zeros());
  v.Param("b", b, {d_model_}, Init::Zeros(), ParamOptions::NoDecay());
}

TunedLens::TunedLens(int n_layers, int64_t d_model, DType dtype) : maps_(n_layers, Map(d_model)) {
  Initialize(*this, 0, dtype);
}

void TunedLens::Describe(Visitor& v) {
  for (size_t layer = 0; layer < maps_.size(); ++layer) {
    v.Child("layers", static_cast<int>(layer), maps_[layer]);
  }
}

Tensor TunedLens::Translate(int layer, const Tensor& x) const {
  MatMulOptions options;
  options.bias = maps_[layer].b;
  return Add(x, MatMul(x, maps_[layer].A, options));
}

LabelledStreams BlockInputs(const Decomposition& decomposition) {
  LabelledStreams inputs;
  for (size_t i = 0; i < decomposition.accumulated.labels.size(); ++i) {
    if (!absl::EndsWith(decomposition.accumulated.labels[i], "_pre")) continue;
    inputs.labels.push_back(decomposition.accumulated.labels[i]);
    inputs.values.push_back(decomposition.accumulated.values[i]);
  }
  return inputs;
}

absl::StatusOr<TunedLensTraining> TrainTunedLens(const ResidualModel& model,
                                                 absl::Span<const int32_t> text,
                                                 const TunedLensOptions& options) {
  const int64_t n = static_cast<int64_t>(text.size());
  const int64_t context =
      model.n_ctx() > 0 ? std::min(options.context, model.n_ctx()) : options.context;
  const int64_t held_out =
      std::max<int64_t>(context, static_cast<int64_t>(static_cast<double>(n) * options.held_out));
  const int64_t train = n - held_out;
  if (train < context) {
    return absl::InvalidArgumentError(absl::StrCat("the text has ", n,
                                                   " tokens, expected at least ", 2 * context,
                                                   ": a window to train on and one to measure on"));
  }
  for (const int32_t token : text) {
    if (token < 0 || token >= model.d_vocab()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the text has the token ", token, ", outside the vocabulary of ", model.d_vocab()));
    }
  }
  const int64_t rows = std::min(kMeasuredRows, held_out / context);
  const Tensor measured = Windows(text, rows, context, [&](int64_t row) {
    return train + row * ((held_out - context) / std::max<int64_t>(1, rows - 1));
  });

  TunedLensTraining result{TunedLens(model.n_layers(), model.d_model(), model.dtype()), {}, {}};
  RESIDUAL_ASSIGN_OR_RETURN(result.logit_lens_kl, MeanKl(model, measured, nullptr));
  OptimizerConfig adam;
  adam.kind = OptimizerKind::kAdam;
  adam.beta2 = 0.99;  // a few hundred steps: the usual 0.999 remembers all of them
  Optimizer optimizer(adam, result.lens);
  const Philox random(options.seed, RandomStream("tuned lens"));
  for (int64_t step = 0; step < options.steps; ++step) {
    const Tensor tokens = Windows(text, options.rows, context, [&](int64_t row) {
      return random.Below(step * options.rows + row, train - context + 1);
    });
    RESIDUAL_ASSIGN_OR_RETURN(const Decomposition found, DecomposeStream(model, {tokens}));
    const Tensor log_p = LogSoftmax(found.logits), p = Exp(log_p);
    const double scale = 1.0 / static_cast<double>(options.rows * context);
    const double self = SumAll(Mul(p, log_p)).Item() * scale;  // sum p log p
    const LabelledStreams inputs = BlockInputs(found);
    std::vector<Parameter> parameters = Parameters(result.lens);
    std::vector<Tensor> grads(parameters.size());
    double total = 0;
    // A tape for each layer: the logits of one at a time.
    for (int layer = 0; layer < result.lens.n_layers(); ++layer) {
      Tape tape;
      for (size_t i = 2 * layer; i < 2 * static_cast<size_t>(layer) + 2; ++i) {
        tape.Watch(*parameters[i].value);
      }
      const Tensor translated = result.lens.Translate(layer, inputs.values[layer]);
      const Tensor log_q = LogSoftmax(model.UnembedStream(translated, Scope()));
      const Tensor cross = Scale(SumAll(Mul(p, log_q)), -scale);  // KL but for a constant
      total += cross.Item() + self;
      const Gradients gradients = tape.Backward(cross);
      for (size_t i = 2 * layer; i < 2 * static_cast<size_t>(layer) + 2; ++i) {
        grads[i] = gradients[*parameters[i].value];
      }
    }
    const double left = 1 - static_cast<double>(step) / static_cast<double>(options.steps);
    optimizer.Step(options.learning_rate * left, grads, 1);
    if (options.on_step) options.on_step(step + 1, total / std::max(1, model.n_layers()));
  }
  RESIDUAL_ASSIGN_OR_RETURN(result.tuned_lens_kl, MeanKl(model, measured, &result.lens));
  return result;
}

}  // namespace residual
