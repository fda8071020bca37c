#include "interp/testing/planted_circuit.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "models/nn/module.h"
#include "models/transformer/transformer.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace {

// [rows, cols] with `value` at (i + from, i + to) for i < count, zero elsewhere.
void Diagonal(std::vector<double>& matrix, int64_t cols, int64_t from, int64_t to, int64_t count,
              double value) {
  for (int64_t i = 0; i < count; ++i) matrix[(from + i) * cols + to + i] = value;
}

std::unique_ptr<ResidualModel> Build(const PlantedOptions& options, int layers) {
  const int64_t v = options.d_vocab, t = options.n_ctx, d = 2 * v + t, d_head = std::max(v, t);
  const int64_t token = 0, position = v, previous = v + t;  // where the subspaces start
  TransformerConfig config;
  config.d_model = d;
  config.n_ctx = t;
  config.d_vocab = v;
  config.blocks.assign(layers, {"attn"});
  config.n_heads = 2;
  config.d_head = d_head;
  config.attention_bias = config.unembed_bias = false;
  config.norm = NormKind::kNone;
  config.positions = Positions::kLearned;
  std::unique_ptr<ResidualModel> model = BuildTransformer(config);
  Initialize(*model, 0, kF64);

  auto set = [&](const std::string& name, const Shape& shape,
                 const std::function<void(std::vector<double>&)>& fill) {
    std::vector<double> values(shape.elements());
    fill(values);
    SetParameter(*model, name, Tensor::Of<double>(shape, values));
  };
  set("embed.W_E", {v, d}, [&](auto& x) { Diagonal(x, d, 0, token, v, 1); });
  set("pos_embed.W_pos", {t, d}, [&](auto& x) { Diagonal(x, d, 0, position, t, 1); });
  set("unembed.W_U", {d, v}, [&](auto& x) { Diagonal(x, v, token, 0, v, 1); });

  // Head 0 is the first half of [2, d, d_head] and of [2, d_head, d]; head 1 stays zero.
  const double sharpness = options.sharpness * std::sqrt(static_cast<double>(d_head));
  const Shape in{2, d, d_head}, out{2, d_head, d};
  set("blocks.0.attn.W_Q", in,
      [&](auto& x) { Diagonal(x, d_head, position + 1, 0, t - 1, sharpness); });
  set("blocks.0.attn.W_K", in, [&](auto& x) { Diagonal(x, d_head, position, 0, t, 1); });
  set("blocks.0.attn.W_V", in, [&](auto& x) { Diagonal(x, d_head, token, 0, v, 1); });
  set("blocks.0.attn.W_O", out, [&](auto& x) {
    if (options.previous_token) Diagonal(x, d, 0, previous, v, 1);
  });
  if (layers > 1) {
    set("blocks.1.attn.W_Q", in, [&](auto& x) { Diagonal(x, d_head, token, 0, v, sharpness); });
    set("blocks.1.attn.W_K", in, [&](auto& x) {
      Diagonal(x, d_head, previous, 0, v, 1);
      std::fill_n(x.begin() + position * d_head, v, -1.0);  // position 0 has read itself
    });
    set("blocks.1.attn.W_V", in, [&](auto& x) { Diagonal(x, d_head, token, 0, v, 1); });
    set("blocks.1.attn.W_O", out, [&](auto& x) { Diagonal(x, d, 0, token, v, options.gain); });
  }
  return model;
}

}  // namespace

std::unique_ptr<ResidualModel> PlantedInductionModel(const PlantedOptions& options) {
  return Build(options, 2);
}

std::unique_ptr<ResidualModel> PlantedPreviousTokenModel(const PlantedOptions& options) {
  return Build(options, 1);
}

void SetParameter(ResidualModel& model, const std::string& name, const Tensor& value) {
  for (const Parameter& parameter : Parameters(model)) {
    if (parameter.name != name) continue;
    RESIDUAL_CHECK(value.shape() == DiskShape(parameter))
        << name << " is " << value.ToString() << ", expected " << DiskShape(parameter).ToString();
    *parameter.value = FromDisk(parameter, value);
    return;
  }
  RESIDUAL_CHECK(false) << "the model has no parameter " << name;
}

}  // namespace residual
