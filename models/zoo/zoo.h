// Models in folders: config.json and model.safetensors (or shards and their index), as Hugging Face
// writes them, as TransformerLens names them, or of our own kinds.
//
//   RESIDUAL_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel("gpt2"));
//   Tensor logits = loaded.model->Forward({tokens});
//
// `model_type` in config.json picks the architecture:
//   gpt2       Hugging Face's GPT-2, saved with or without its "transformer." prefix
//   gpt_neox   Hugging Face's GPT-NeoX, of which Pythia is
//   llama      Hugging Face's Llama
//   mamba      Hugging Face's Mamba, also under the names of the authors' repository
//   mamba2     the same of Mamba-2
//   residual   our own: a list of blocks (ConfigToJson), parameters under their own names
//   none, with d_model, n_layers, d_vocab: TransformerLens's fields, its weights stacked ("W_Q"
//              [n_layers, n_heads, d_model, d_head]) or by state dict ("blocks.0.attn.W_Q")
//   none, with d_model, n_layer, vocab_size: the config of state-spaces/mamba
// What would make a model compute something else than its files mean is refused by name; a folder
// is checked as a whole, names, shapes and dtypes against the config, before anything is allocated.

#ifndef RESIDUAL_MODELS_ZOO_ZOO_H_
#define RESIDUAL_MODELS_ZOO_ZOO_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "models/checkpoint/checkpoint.h"
#include "models/stream/residual_model.h"
#include "models/transformer/transformer.h"
#include "nlohmann/json.hpp"

namespace residual {

struct LoadOptions {
  bool mmap = true;  // false: plain reads
  // False: the parameters stay without value; everything is checked all the same.
  bool weights = true;
  // Parameters may be written (to train on); else those that lie in the file as in memory are
  // mapped, not copied.
  bool writable = false;
  // The model is to be run and no more: its weights stay in the file's dtype, or in `dtype` (f32,
  // bf16 or f16), see ParameterFormat. What it computes is what it is in f32 with these weights.
  bool stored = false;
  std::optional<DType> dtype;
  // stored: matrices in 8 bits, see ops/quantized, which changes what the model computes a little.
  Quantization quantize = Quantization::kNone;
};

struct LoadedModel {
  std::unique_ptr<ResidualModel> model;  // f32, but for stored weights
  nlohmann::json config;
  std::string folder;
  std::vector<ParameterSource> sources;  // where each parameter lies, in Parameters' order
  // One line each: tensors nobody reads, fields that change nothing.
  std::vector<std::string> warnings;
};

// NotFound (no folder, no config.json, no weights), InvalidArgument, Unimplemented (an option that
// is not supported) or DataLoss; the message names the file, the field or tensors, what was found
// and what was expected.
absl::StatusOr<LoadedModel> LoadModel(const std::string& folder, const LoadOptions& options = {});

// A model of a config with parameters of no value: Initialize it. `config_name` is the config's
// name in errors.
absl::StatusOr<std::unique_ptr<ResidualModel>> ModelFromConfig(const nlohmann::json& config,
                                                               const std::string& config_name);

// Writes model.safetensors, then config.json, each atomically, into a folder that is made if need
// be. The config's architecture names the tensors: a "gpt2" folder is one Hugging Face reads.
// FailedPrecondition if the model is not the config's.
absl::Status SaveModel(ResidualModel& model, const nlohmann::json& config,
                       const std::string& folder);

// The "residual" config of a transformer: every field of it, under its name in TransformerConfig.
nlohmann::json ConfigToJson(const TransformerConfig& config);

// The config of a published architecture (gpt2, llama, gpt_neox, mamba or mamba2) that is the same
// model as this "residual" config, so that what is saved with it opens in Hugging Face's
// from_pretrained; the config itself where none is, or where it is of another type or not valid.
nlohmann::json PublishedConfig(const nlohmann::json& config);

// The model types, for messages and help.
std::vector<std::string> ModelTypes();

}  // namespace residual

#endif  // RESIDUAL_MODELS_ZOO_ZOO_H_
