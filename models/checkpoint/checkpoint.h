// Models on disk: a config that describes one, and tensors that hold its parameters.
//
// An architecture is a function from config.json to a model whose parameters have no value yet,
// and the ways its files may name them. Everything is checked against the headers of the files
// before a parameter is allocated.

#ifndef RESIDUAL_MODELS_CHECKPOINT_CHECKPOINT_H_
#define RESIDUAL_MODELS_CHECKPOINT_CHECKPOINT_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/checkpoint/config_reader.h"
#include "models/checkpoint/names.h"
#include "models/checkpoint/tensor_source.h"
#include "models/nn/module.h"
#include "models/stream/residual_model.h"

namespace residual {

struct BuiltModel {
  std::unique_ptr<ResidualModel> model;  // parameters of no value
  std::vector<NameMap> names;            // as its files may have them; the first is written
  std::vector<std::string> warnings;     // what the config says that changes nothing here
};

struct Architecture {
  const char* model_type;  // of config.json
  // Errors name the field: InvalidArgument for a bad value, Unimplemented for an option that would
  // change what the model computes and is not supported.
  absl::StatusOr<BuiltModel> (*build)(ConfigReader& config);
};

// Where one parameter's value comes from.
struct ParameterSource {
  std::string parameter;
  TensorEntry entry;       // its tensor is empty where the initial value is taken
  std::string file;        // path
  std::string dtype = "";  // in the file: "BF16"
};

struct LoadPlan {
  std::vector<ParameterSource> sources;  // in the order of Parameters(model)
  std::vector<std::string> unexpected;   // tensors that no parameter reads
};

// Finds every parameter in the source, under the naming that finds most. InvalidArgument names what
// is missing, misshapen or not of floats (up to five each, and how many more). `config` is the
// config's file name, for that message. Reads and allocates nothing.
absl::StatusOr<LoadPlan> PlanLoad(Module& model, absl::Span<const NameMap> names,
                                  const TensorSource& source, const std::string& config);

enum class Quantization { kNone, kInt8 };

// How parameters are held.
struct ParameterFormat {
  // They may be written; else those that lie in the file as in memory stay mapped. f32.
  bool writable = false;
  // Weights (matrices and tables) stay as the file has them, see Weight: in its dtype, mapped where
  // nothing has to move. The model can be run, and nothing else. Gains and biases are f32.
  bool stored = false;
  // stored: weights in this dtype, f32, bf16 or f16; none: in the file's (f64 becomes f32).
  std::optional<DType> dtype;
  // stored: what is multiplied by in 8 bits, see ops/quantized; other tables as `dtype` says.
  Quantization quantize = Quantization::kNone;
};

// Gives the parameters their values. Of tensors that are converted, the mapped memory is let go.
// InvalidArgument names the file and the tensor with a number that the wanted dtype would make
// infinite (beyond 65504 in f16), or with what cannot be quantized (an infinity or a NaN). In
// floats infinities and NaN are read as the file has them.
absl::Status ReadParameters(Module& model, const LoadPlan& plan, const TensorSource& source,
                            const ParameterFormat& format = {});

// The parameters as a file under this naming holds them. NotFound for a parameter it has no name
// for, unless it is implied and has its initial value.
absl::StatusOr<std::vector<NamedTensor>> TensorsToWrite(Module& model, const NameMap& names);

// "'a', 'b' and 7 more": at most five of the texts.
std::string FirstFew(const std::vector<std::string>& texts);

}  // namespace residual

#endif  // RESIDUAL_MODELS_CHECKPOINT_CHECKPOINT_H_
