#include "interp/testing/golden.h"

#include <vector>

#include "interp/testing/planted_circuit.h"
#include "models/nn/module.h"
#include "models/transformer/transformer.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

// A test stands in the root of its runfiles.
SafetensorsFile Open(const std::string& name) {
  absl::StatusOr<SafetensorsFile> file =
      SafetensorsFile::Open("interp/testdata/" + name + ".safetensors");
  RESIDUAL_CHECK(file.ok()) << file.status().message();
  return *std::move(file);
}

}  // namespace

std::unique_ptr<ResidualModel> GoldenModel(DType dtype) {
  TransformerConfig config;
  config.d_model = 24;
  config.n_ctx = 32;
  config.d_vocab = 89;
  config.blocks = {{"attn"}, {"attn"}};
  config.n_heads = 3;
  config.d_head = 8;
  std::unique_ptr<ResidualModel> model = BuildTransformer(config);
  const SafetensorsFile file = Open("attn_only");
  for (const Parameter& parameter : Parameters(*model)) {
    // "blocks.1.attn.W_Q" is row 1 of "W_Q"; norms have their own names, the rest lose the
    // module's.
    std::string name = parameter.name;
    const bool stacked = name.find(".attn.") != std::string::npos;
    if (stacked || name.find("embed.") != std::string::npos)
      name = name.substr(name.rfind('.') + 1);
    absl::StatusOr<Tensor> value = file.Read(name);
    RESIDUAL_CHECK(value.ok()) << value.status().message();
    if (stacked) value = value->Row(parameter.name[7] - '0');
    SetParameter(*model, parameter.name, value->Clone());
  }
  ConvertParameters(*model, dtype);
  return model;
}

Tensor Golden(const std::string& name) {
  for (const char* file_name : {"attn_only_expected", "attn_only_attribution"}) {
    const SafetensorsFile file = Open(file_name);
    if (file.Find(name) == nullptr) continue;
    absl::StatusOr<Tensor> value = file.Read(name);
    RESIDUAL_CHECK(value.ok()) << value.status().message();
    return value->Clone();
  }
  RESIDUAL_CHECK(false) << "no golden tensor " << name;
  return Tensor();
}

}  // namespace residual
