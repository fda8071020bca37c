#include "models/stream/token_loss.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

Tensor Logits(const UnembedLossArgs& args, const Tensor& x) {
  MatMulOptions options;
  options.transpose_b = args.transposed;
  options.bias = args.bias;
  return Linear(x, args.weight, args.precision, options);
}

// The loss of rows and, where `grads` is not null, its gradients in x, weight and bias.
double PartLoss(UnembedLossArgs args, const CrossEntropyOptions& options, Tensor (*grads)[3]) {
  if (grads == nullptr) return CrossEntropy(Logits(args, args.x), args.targets, options).Item();
  Tape tape;
  Tensor* const inputs[] = {&args.x, &args.weight, &args.bias};
  for (Tensor* input : inputs) {
    if (input->defined()) tape.Watch(*input);
  }
  const Tensor loss = CrossEntropy(Logits(args, args.x), args.targets, options);
  const Gradients found = tape.Backward(loss);
  for (int i = 0; i < 3; ++i) {
    if (!inputs[i]->defined()) continue;
    (*grads)[i] = found.Find(*inputs[i]);
    (*grads)[i].set_tape_ref({});
  }
  return loss.Item();
}

int64_t Counted(const Tensor& targets, int64_t ignore_index) {
  const Tensor ids = ConvertTo(targets, kI64);
  const absl::Span<const int64_t> span = ids.span<int64_t>();
  return static_cast<int64_t>(span.size()) - std::count(span.begin(), span.end(), ignore_index);
}

// How many parts of at most `logits_at_once` logits.
int64_t NumParts(int64_t rows, int64_t d_vocab, int64_t logits_at_once) {
  const int64_t rows_at_once = std::max<int64_t>(1, logits_at_once / std::max<int64_t>(1, d_vocab));
  return (rows + rows_at_once - 1) / rows_at_once;
}

// A handle that no tape knows.
Tensor Untracked(Tensor x) {
  x.set_tape_ref({});
  return x;
}

}  // namespace

Tensor UnembedLoss(const UnembedLossArgs& args, const CrossEntropyOptions& options) {
  RESIDUAL_CHECK(options.reduction != Reduction::kNone) << "the loss of all rows is one number";
  const int64_t rows = args.x.dim(0), d_vocab = args.weight.dim(args.transposed ? 0 : 1);
  const int64_t parts = NumParts(rows, d_vocab, args.logits_at_once);
  if (parts <= 1) return CrossEntropy(Logits(args, args.x), args.targets, options);

  CrossEntropyOptions sum = options;
  sum.reduction = Reduction::kSum;
  // 0 / 0 without a row that counts, and gradients of 0.
  const int64_t counted = Counted(args.targets, options.ignore_index);
  const bool mean = options.reduction == Reduction::kMean;
  const double scale = mean ? (counted > 0 ? 1.0 / counted : 0) : 1;

  Tape* const tape = Tape::For({&args.x, &args.weight, &args.bias});
  UnembedLossArgs part = args;
  part.weight = Untracked(args.weight);
  part.bias = Untracked(args.bias);
  const Tensor x = Untracked(args.x);
  std::vector<Tensor> dx;
  Tensor dweight, dbias;
  double total = 0;
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t begin = rows * i / parts, end = rows * (i + 1) / parts;
    part.x = x.Rows(begin, end);
    part.targets = args.targets.Rows(begin, end);
    Tensor grads[3];
    total += PartLoss(part, sum, tape != nullptr ? &grads : nullptr);
    if (tape == nullptr) continue;
    dx.push_back(std::move(grads[0]));
    for (auto [to, grad] :
         {std::pair<Tensor*, Tensor*>{&dweight, &grads[1]}, {&dbias, &grads[2]}}) {
      if (!to->defined()) {
        *to = std::move(*grad);
      } else if (grad->defined()) {
        AddInto(*to, *grad);
      }
    }
  }
  if (mean && counted == 0) total = std::numeric_limits<double>::quiet_NaN();
  Tensor loss = Tensor::Scalar(total * scale, args.x.dtype() == kF64 ? kF64 : kF32);
  if (tape != nullptr) {
    const NoTape none;
    tape->Record("unembed_loss", {&args.x, &args.weight, &args.bias}, {&loss},
                 [dx = Concat(dx, 0), dweight, dbias, scale](absl::Span<const Tensor> dy, Needs) {
                   TensorList grads = {dx, dweight, dbias};
                   for (Tensor& grad : grads) {
                     if (grad.defined()) grad = Scale(grad, scale * dy[0].Item());
                   }
                   return grads;
                 });
  }
  return loss;
}

Tensor TokenLoss(const ResidualModel& model, const ModelInput& input, const Tensor& targets,
                 const CrossEntropyOptions& options, const MixerContext* training,
                 const ModelState* past) {
  RESIDUAL_CHECK_EQ(input.last_logits, 0) << "a loss is of all positions";
  const Scope none;
  const MixerContext context = model.MakeContext(input, past, training);
  ModelState state;
  if (past != nullptr) state = past->Fork();
  const Tensor resid = model.Stream(model.EmbedTokens(input, context, none), {0, model.n_layers()},
                                    context, past != nullptr ? &state : nullptr, none);
  const Tensor x = model.ln_final().Forward(resid, none);
  UnembedLossArgs args;
  args.x = x.Reshaped({x.dim(0) * x.dim(1), x.dim(2)});
  args.transposed = model.unembed().options().tied;
  args.weight = args.transposed ? model.embed().W_E() : model.unembed().W_U();
  args.bias = model.unembed().b_U();
  args.targets = targets.Reshaped({targets.elements()});
  args.precision = input.precision;
  return UnembedLoss(args, options);
}

}  // namespace residual
