#include "interp/attribution/logit_attribution.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "models/nn/module.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

double At(const Tensor& x, int64_t i) {
  double value = 0;
  VisitDType(x.dtype(), [&](auto tag) { value = ToDouble(x.data<decltype(tag)>()[i]); });
  return value;
}

// Column `id` of W_U, or the mean of all columns for id < 0; b_U's entry likewise.
struct Column {
  std::vector<double> w;
  double b = 0;
};
Column UnembedColumn(const ResidualModel& model, int64_t id) {
  const bool tied = model.unembed().options().tied;
  const Tensor& W = tied ? model.embed().W_E() : model.unembed().W_U();
  const Tensor& b = model.unembed().b_U();
  const int64_t d = model.d_model(), v = model.d_vocab();
  Column column{std::vector<double>(d)};
  if (id >= 0) {
    for (int64_t i = 0; i < d; ++i) column.w[i] = At(W, tied ? id * d + i : i * v + id);
    if (b.defined()) column.b = At(b, id);
    return column;
  }
  const std::vector<double> all = W.ToDoubles();
  for (int64_t i = 0; i < static_cast<int64_t>(all.size()); ++i) {
    column.w[tied ? i % d : i / v] += all[i] / static_cast<double>(v);
  }
  if (b.defined()) {
    for (const double x : b.ToDoubles()) column.b += x / static_cast<double>(v);
  }
  return column;
}

absl::Status CheckIds(const std::vector<int64_t>& ids, const char* what, int64_t batch,
                      int64_t below, const char* of) {
  if (static_cast<int64_t>(ids.size()) != batch) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": found ", ids.size(), " for ", batch,
                                                   batch == 1 ? " row" : " rows",
                                                   " of tokens, expected one for each"));
  }
  for (const int64_t id : ids) {
    if (id < 0 || id >= below) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": ", id, " is outside the ", of, " of ", below));
    }
  }
  return absl::OkStatus();
}

std::vector<int64_t> LastPositions(int64_t batch, int64_t pos, const Tensor& mask) {
  std::vector<int64_t> last(batch, pos - 1);
  if (!mask.defined()) return last;
  const std::vector<double> is_token = mask.ToDoubles();
  for (int64_t row = 0; row < batch; ++row) {
    while (last[row] > 0 && is_token[row * pos + last[row]] == 0) --last[row];
  }
  return last;
}

}  // namespace

absl::StatusOr<LogitDirections> DirectionsOf(const ResidualModel& model,
                                             const Decomposition& decomposition,
                                             const LogitTargets& targets, const Tensor& mask) {
  const Tensor& logits = decomposition.logits;
  const int64_t batch = logits.dim(0), pos = logits.dim(1), v = logits.dim(2), d = model.d_model();
  absl::Status status = CheckIds(targets.answer, "answer", batch, v, "vocabulary");
  if (status.ok() && !targets.wrong.empty()) {
    status = CheckIds(targets.wrong, "wrong", batch, v, "vocabulary");
  }
  if (status.ok() && !targets.position.empty()) {
    status = CheckIds(targets.position, "position", batch, pos, "length");
  }
  if (!status.ok()) return status;

  LogitDirections found;
  found.position = targets.position.empty() ? LastPositions(batch, pos, mask) : targets.position;
  const Norm& norm = model.ln_final();
  std::vector<double> directions(batch * d);
  Column mean;  // made once, where it is asked for
  if (targets.wrong.empty()) mean = UnembedColumn(model, -1);
  for (int64_t row = 0; row < batch; ++row) {
    const Column answer = UnembedColumn(model, targets.answer[row]);
    const Column wrong = targets.wrong.empty() ? mean : UnembedColumn(model, targets.wrong[row]);
    double* direction = directions.data() + row * d;
    double bias = answer.b - wrong.b;
    for (int64_t i = 0; i < d; ++i) direction[i] = answer.w[i] - wrong.w[i];
    if (norm.kind() != NormKind::kNone) {
      const double scale = At(decomposition.scale, row * pos + found.position[row]);
      double sum = 0;
      for (int64_t i = 0; i < d; ++i) {
        if (norm.b().defined()) bias += At(norm.b(), i) * direction[i];
        direction[i] *= At(norm.w(), i) / scale;
        sum += direction[i];
      }
      if (norm.kind() == NormKind::kLayerNorm) {
        for (int64_t i = 0; i < d; ++i) direction[i] -= sum / static_cast<double>(d);
      }
    }
    found.bias.push_back(bias);
    const int64_t at = (row * pos + found.position[row]) * v;
    double other = 0;
    if (targets.wrong.empty()) {
      for (int64_t i = 0; i < v; ++i) other += At(logits, at + i) / static_cast<double>(v);
    } else {
      other = At(logits, at + targets.wrong[row]);
    }
    found.difference.push_back(At(logits, at + targets.answer[row]) - other);
  }
  found.direction = Tensor::Of<double>({batch, d}, directions);
  return found;
}

Tensor Attribute(const LabelledStreams& streams, const LogitDirections& directions) {
  const int64_t n = static_cast<int64_t>(streams.values.size()),
                batch = directions.direction.dim(0), d = directions.direction.dim(1);
  Tensor result = Tensor::Uninitialized({n, batch}, kF32);
  float* to = result.mutable_data<float>();
  for (int64_t i = 0; i < n; ++i) {
    const Tensor& x = streams.values[i];
    RESIDUAL_CHECK(x.rank() == 3 && x.dim(0) == batch && x.dim(2) == d) << x.ToString();
    for (int64_t row = 0; row < batch; ++row) {
      const double* direction = directions.direction.data<double>() + row * d;
      double sum = 0;
      VisitDType(x.dtype(), [&](auto tag) {
        using T = decltype(tag);
        const T* at = x.data<T>() + (row * x.dim(1) + directions.position[row]) * d;
        for (int64_t k = 0; k < d; ++k) sum += ToDouble(at[k]) * direction[k];
      });
      to[i * batch + row] = static_cast<float>(sum);
    }
  }
  return result;
}

absl::StatusOr<Tensor> AttributeNeurons(const ResidualModel& model,
                                        const Decomposition& decomposition,
                                        const LogitDirections& directions) {
  const LabelledStreams& neurons = decomposition.neurons;
  if (neurons.values.empty()) return Tensor();
  const int64_t n = static_cast<int64_t>(neurons.values.size()),
                batch = directions.direction.dim(0), d = directions.direction.dim(1),
                width = neurons.values[0].dim(2);
  const std::vector<Parameter> parameters = Parameters(const_cast<ResidualModel&>(model));
  Tensor result = Tensor::Uninitialized({n, batch, width}, kF32);
  float* to = result.mutable_data<float>();
  for (int64_t i = 0; i < n; ++i) {
    const Tensor& post = neurons.values[i];
    const std::string& label = neurons.labels[i];  // "3_mlp"
    const std::string name =
        absl::StrCat("blocks.", label.substr(0, label.find('_')), ".mlp.W_out");
    Tensor W_out;  // [d_mlp, d_model]
    for (const Parameter& parameter : parameters) {
      if (parameter.name == name) W_out = *parameter.value;
    }
    if (post.dim(2) != width || !W_out.defined()) {
      return absl::FailedPreconditionError(
          absl::StrCat("neurons of '", label, "': found ", post.ToString(), " and ", name, " ",
                       W_out.ToString(), ", expected a width of ", width, " in every layer"));
    }
    const std::vector<double> writes = W_out.ToDoubles();
    ParallelFor(width, 64, [&](int64_t begin, int64_t end) {
      for (int64_t neuron = begin; neuron < end; ++neuron) {
        for (int64_t row = 0; row < batch; ++row) {
          const double* direction = directions.direction.data<double>() + row * d;
          double sum = 0;
          for (int64_t k = 0; k < d; ++k) sum += writes[neuron * d + k] * direction[k];
          const int64_t at = (row * post.dim(1) + directions.position[row]) * width + neuron;
          to[(i * batch + row) * width + neuron] = static_cast<float>(sum * At(post, at));
        }
      }
    });
  }
  return result;
}

}  // namespace residual
