#include "interp/token_maps/token_maps.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/nn/hook.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr int64_t kPieceEntries = 1 << 20;
constexpr double kLongest = 1e9;  // tokens

// The sizes of `maps`, each row divided by its sum.
Tensor RowsToWeights(const Tensor& maps) {
  const Tensor exact = ConvertTo(maps, kF32);
  Tensor weights = Tensor::Uninitialized(exact.shape());
  const int64_t keys = exact.dim(-1), rows = keys == 0 ? 0 : exact.elements() / keys;
  const float* from = exact.data<float>();
  float* to = weights.mutable_data<float>();
  ParallelFor(rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      double sum = 0;
      for (int64_t k = row * keys; k < (row + 1) * keys; ++k) sum += std::abs(from[k]);
      const double scale = sum > 0 ? 1 / sum : 0;
      for (int64_t k = row * keys; k < (row + 1) * keys; ++k) {
        to[k] = static_cast<float>(std::abs(from[k]) * scale);
      }
    }
  });
  return weights;
}

}  // namespace

TokenMapSource::TokenMapSource(int layer, const Mixer& mixer, int64_t batch, int64_t pos)
    : layer_(layer),
      mixer_(&mixer),
      kind_(mixer.token_map_kind()),
      batch_(batch),
      pos_(pos),
      activations_(kind_.made_of.size()) {}

std::string TokenMapSource::Name(int64_t i) const {
  return absl::StrCat("L", layer_, std::string(1, kind_.unit), i);
}

Tensor TokenMapSource::Maps(absl::Span<const int64_t> units) const {
  return mixer_->TokenMaps(activations_, units);
}

Tensor TokenMapSource::Weights(absl::Span<const int64_t> units) const {
  const Tensor maps = Maps(units);
  return is_attention() ? maps : RowsToWeights(maps);
}

void TokenMapSource::ForEachMapPiece(absl::FunctionRef<void(int64_t, const Tensor&)> piece) const {
  const int64_t of_unit = std::max<int64_t>(1, batch_ * pos_ * pos_);
  const int64_t step = std::max<int64_t>(1, kPieceEntries / of_unit);
  for (int64_t first = 0; first < n_units(); first += step) {
    std::vector<int64_t> units(std::min(step, n_units() - first));
    std::iota(units.begin(), units.end(), first);
    piece(first, Maps(units));
  }
}

void TokenMapSource::ForEachPiece(absl::FunctionRef<void(int64_t, const Tensor&)> piece) const {
  ForEachMapPiece([&](int64_t first, const Tensor& maps) {
    piece(first, is_attention() ? maps : RowsToWeights(maps));
  });
}

absl::StatusOr<std::vector<TokenMapSource>> ReadTokenMaps(const ResidualModel& model,
                                                          const Tensor& tokens) {
  RESIDUAL_RETURN_IF_ERROR(model.Validate({tokens}));
  std::vector<TokenMapSource> sources;
  std::vector<std::string> prefixes;
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    for (const Branch& branch : model.block(layer).branches()) {
      if (branch.mixer->token_map_kind().n_units == 0) continue;
      sources.emplace_back(layer, *branch.mixer, tokens.dim(0), tokens.dim(1));
      prefixes.push_back(absl::StrCat("blocks.", layer, ".", branch.name, "."));
    }
  }
  Hooks hooks;
  for (size_t i = 0; i < sources.size(); ++i) {
    for (size_t k = 0; k < sources[i].kind_.made_of.size(); ++k) {
      hooks.Read(
          prefixes[i] + sources[i].kind_.made_of[k].name,
          [&sources, i, k](absl::string_view, const Tensor& x) { sources[i].activations_[k] = x; });
    }
  }
  if (!hooks.empty()) RESIDUAL_RETURN_IF_ERROR(model.Run({tokens}, &hooks).status());
  return sources;
}

std::vector<double> MemoryLengths(const Retention& memory) {
  RESIDUAL_CHECK(memory.defined());
  const int64_t units = memory.kept.dim(2), positions = memory.kept.elements() / units;
  std::vector<double> faded(units);  // nats, over all positions
  for (int64_t i = 0; i < memory.kept.elements(); ++i) {
    faded[i % units] -= std::log(static_cast<double>(memory.kept.data<float>()[i]));
  }
  for (double& length : faded) {
    length = std::min(kLongest, static_cast<double>(positions) / length);
  }
  return faded;
}

}  // namespace residual
