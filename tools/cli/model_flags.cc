#include "tools/cli/model_flags.h"

#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/nn/nearest.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

absl::Status NoTensor(const SafetensorsFile& file, const std::string& name) {
  std::vector<std::string> names;
  for (const TensorInfo& tensor : file.tensors()) names.push_back(tensor.name);
  return absl::NotFoundError(
      absl::StrCat(file.path(), ": no tensor '", name, "'", DidYouMean(name, names)));
}

bool HoldsIntegers(const TensorInfo& tensor) { return tensor.readable && !IsFloat(tensor.dtype); }

// 0 and 1 to false and true.
absl::StatusOr<Tensor> ReadMask(const SafetensorsFile& file, const TensorInfo& info,
                                const Shape& shape) {
  if (!HoldsIntegers(info) || info.shape != shape) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.path(), ": '", info.name, "' is ", info.dtype_name, info.shape.ToString(),
                     ", expected zeros and ones of the tokens' shape, ", shape.ToString()));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor stored, file.Read(info.name));
  const Tensor values = ConvertTo(stored, kI64);
  for (int64_t value : values.span<int64_t>()) {
    if (value != 0 && value != 1) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": '", info.name, "' holds ",
                                                     value, ", expected 0 (padding) or 1"));
    }
  }
  return ConvertTo(values, kBool);
}

}  // namespace

ModelFlags::ModelFlags(CommandLine& cli, Use use) : cli_(cli), use_(use) {
  cli.Path("model", &path_, "folder of the model: config.json and model.safetensors").Required();
  cli.Bool("no_mmap", &no_mmap_, "read weights into memory instead of mapping them");
  if (use_ == kAny) return;
  cli.Choice("dtype", &dtype_, {"auto", "f32", "bf16", "f16"},
             "what weights are held in; auto: what the file has");
  cli.Choice(
      "quantize", &quantize_, {"none", "int8"},
      "int8: matrices in 8 bits, a scale for every 64 weights: less memory and faster tokens "
      "for slightly other logits");
  cli.Choice(
      "precision", &precision_, PrecisionNames(),
      "f32: what the model computes with its weights as they are; bf16: operands of products "
      "and of attention, keys and values that are kept too, are rounded to bf16 and summed "
      "in f32, but with weights of f16 or of 8 bits nothing changes. Measured with "
      "GPT-2 small on a processor that multiplies bf16: a prompt of 512 tokens is read in 0.6 of "
      "the time, tokens are made in 1.2 to 1.5 times the time, log-probabilities are off by up "
      "to 0.05");
}

LoadOptions ModelFlags::options() const {
  LoadOptions options;
  options.mmap = !no_mmap_;
  options.stored = use_ == kRun;
  if (quantize_ == "int8") options.quantize = Quantization::kInt8;
  for (const DType dtype : {kF32, kBF16, kF16}) {
    if (dtype_ == Name(dtype)) options.dtype = dtype;
  }
  return options;
}

absl::StatusOr<LoadedModel> ModelFlags::Load() const {
  RESIDUAL_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(path_, options()));
  for (const std::string& warning : loaded.warnings) PrintWarning(cli_, warning);
  return loaded;
}

void PrintWarning(const CommandLine& cli, absl::string_view message) {
  std::fprintf(stderr, "%s: warning: %s\n", cli.name().c_str(), std::string(message).c_str());
}

absl::StatusOr<ModelInput> ReadModelInput(const std::string& path, const std::string& input,
                                          const std::string& mask) {
  RESIDUAL_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  const TensorInfo* tokens = file.Find(input);
  if (tokens == nullptr) return NoTensor(file, input);
  if (!HoldsIntegers(*tokens) || tokens->dtype == kBool || tokens->shape.rank() < 1 ||
      tokens->shape.rank() > 2) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": '", input, "' is ", tokens->dtype_name,
                                                   tokens->shape.ToString(),
                                                   ", expected integers [batch, pos]"));
  }
  ModelInput result;
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor stored, file.Read(input));
  result.tokens = ConvertTo(stored, kI64);
  const bool row = tokens->shape.rank() == 1;
  if (row) result.tokens = result.tokens.Reshaped(tokens->shape.Inserted(0, 1));

  const std::string mask_name = mask.empty() ? "attention_mask" : mask;
  const TensorInfo* found = file.Find(mask_name);
  if (found == nullptr && !mask.empty()) return NoTensor(file, mask);
  const bool optional = mask.empty() && input != "input_ids";
  if (found == nullptr || (optional && found->shape != tokens->shape)) return result;
  RESIDUAL_ASSIGN_OR_RETURN(result.attention_mask, ReadMask(file, *found, tokens->shape));
  result.attention_mask = result.attention_mask.Reshaped(result.tokens.shape());
  return result;
}

}  // namespace residual
