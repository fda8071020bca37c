#include "models/stream/state_file.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "models/stream/state_tensors.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

constexpr char kFormat[] = "residual_state", kVersion[] = "1", kProbe[] = "probe";
constexpr double kProbeTolerance = 1e-3;

using Metadata = std::map<std::string, std::string>;

Metadata Describe(const ResidualModel& model) {
  return {{"format", kFormat},
          {"version", kVersion},
          {"n_layers", absl::StrCat(model.n_layers())},
          {"d_model", absl::StrCat(model.d_model())},
          {"d_vocab", absl::StrCat(model.d_vocab())},
          {"n_ctx", absl::StrCat(model.n_ctx())}};
}

// Logits of the tokens 0, 1, 2, 3, as far as there are so many: at most 256 of the last position.
Tensor Probe(const ResidualModel& model) {
  int64_t n = 4;
  if (model.n_ctx() > 0) n = std::min(n, model.n_ctx());
  Tensor tokens = Tensor::Uninitialized({1, n}, kI64);
  for (int64_t i = 0; i < n; ++i) tokens.mutable_data<int64_t>()[i] = i % model.d_vocab();
  const std::vector<double> logits = model.NextLogits({tokens}, nullptr).ToDoubles();
  const size_t count = std::min<size_t>(logits.size(), 256);
  return Tensor::Of<float>({static_cast<int64_t>(count)},
                           std::vector<float>(logits.begin(), logits.begin() + count));
}

absl::Status CheckProbe(const std::string& path, StateReader& reader, const ResidualModel& model) {
  const Tensor expected = Probe(model);
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor probe, reader.ReadFloats(kProbe, expected.shape()));
  const std::vector<double> found = probe.ToDoubles(), want = expected.ToDoubles();
  for (size_t i = 0; i < want.size(); ++i) {
    if (!(std::abs(found[i] - want[i]) <= kProbeTolerance * (1 + std::abs(want[i])))) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": the state is of a model with other weights: element ", i,
                       " of 'probe' is ", found[i], ", expected ", want[i]));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Number(const std::string& path, const Metadata& metadata,
                               const std::string& field, int64_t low, int64_t high) {
  const auto found = metadata.find(field);
  int64_t number = 0;
  if (found == metadata.end() || !absl::SimpleAtoi(found->second, &number) || number < low ||
      number > high) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": '", field, "' is ", found == metadata.end() ? "missing" : found->second,
        ", expected an integer in [", low, ", ", high, "]"));
  }
  return number;
}

// Calls visit(prefix, state) for every mixer that keeps a state.
template <typename Visit>
absl::Status ForEachMixer(const ResidualModel& model, const ModelState& state, const Visit& visit) {
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    const std::vector<Branch>& branches = model.block(layer).branches();
    for (size_t i = 0; i < branches.size(); ++i) {
      MixerState* mixer = state.blocks()[layer][i].get();
      if (mixer == nullptr) continue;
      RESIDUAL_RETURN_IF_ERROR(
          visit(absl::StrCat("blocks.", layer, ".", branches[i].name, "."), *mixer));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SaveState(const std::string& path, const ResidualModel& model, const ModelState& state,
                       int64_t batch, const StateLists& lists) {
  RESIDUAL_CHECK_GE(state.length(), 1);
  Metadata metadata = Describe(model);
  metadata["batch"] = absl::StrCat(batch);
  metadata["length"] = absl::StrCat(state.length());
  StateWriter writer;
  writer.Write(kProbe, Probe(model));
  for (const auto& [name, numbers] : lists) {
    writer.Write(name, Tensor::Of<int64_t>({static_cast<int64_t>(numbers.size())}, numbers));
  }
  RESIDUAL_RETURN_IF_ERROR(
      ForEachMixer(model, state, [&](const std::string& prefix, const MixerState& mixer) {
        writer.set_prefix(prefix);
        mixer.Save(writer);
        return absl::OkStatus();
      }));
  return WriteSafetensors(path, writer.tensors(), metadata);
}

absl::StatusOr<SavedState> LoadState(const std::string& path, const ResidualModel& model,
                                     const std::vector<std::string>& lists) {
  // By plain reads: a file that is cut under us is an error, and the memory is the state's own.
  ReadOptions options;
  options.mmap = false;
  RESIDUAL_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path, options));
  const Metadata& metadata = file.metadata();
  const auto format = metadata.find("format");
  if (format == metadata.end() || format->second != kFormat) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": not a saved state: 'format' is ",
        format == metadata.end() ? "missing" : format->second, ", expected ", kFormat));
  }
  for (const auto& [field, expected] : Describe(model)) {
    const auto found = metadata.find(field);
    if (found != metadata.end() && found->second == expected) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": '", field, "' is ", found == metadata.end() ? "missing" : found->second,
        ", expected ", expected, field == "version" ? "" : " as the model has it"));
  }
  constexpr int64_t kMost = int64_t{1} << 40;
  SavedState saved;
  RESIDUAL_ASSIGN_OR_RETURN(saved.batch, Number(path, metadata, "batch", 1, kMost));
  RESIDUAL_ASSIGN_OR_RETURN(
      const int64_t length,
      Number(path, metadata, "length", 1, model.n_ctx() > 0 ? model.n_ctx() : kMost));

  StateReader reader(file);
  for (const std::string& name : lists) {
    RESIDUAL_ASSIGN_OR_RETURN(saved.lists[name], reader.ReadList(name));
  }
  std::vector<BlockState> blocks;
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    blocks.push_back(model.block(layer).NewState(0));
  }
  saved.state = ModelState(length, std::move(blocks));
  RESIDUAL_RETURN_IF_ERROR(
      ForEachMixer(model, saved.state, [&](const std::string& prefix, MixerState& mixer) {
        reader.set_prefix(prefix);
        return mixer.Load(saved.batch, length, reader);
      }));
  reader.set_prefix("");
  RESIDUAL_RETURN_IF_ERROR(CheckProbe(path, reader, model));
  RESIDUAL_RETURN_IF_ERROR(reader.CheckAllRead());
  return saved;
}

}  // namespace residual
