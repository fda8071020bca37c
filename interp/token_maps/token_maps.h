// Where information comes from, whatever moves it: the token-to-token maps of a model's mixers
// (TokenMapKind in models/stream/mixer.h) in one run. A head's attention pattern and the hidden
// attention of a state space's channel are looked at in the same way.

#ifndef RESIDUAL_INTERP_TOKEN_MAPS_TOKEN_MAPS_H_
#define RESIDUAL_INTERP_TOKEN_MAPS_TOKEN_MAPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// The maps of one mixer, made when asked for. Refers to the mixer: not to outlive the model.
class TokenMapSource {
 public:
  TokenMapSource(int layer, const Mixer& mixer, int64_t batch, int64_t pos);

  int layer() const { return layer_; }
  int64_t n_units() const { return kind_.n_units; }
  char unit() const { return kind_.unit; }             // 'H': heads, 'C': channels
  bool is_attention() const { return kind_.weights; }  // weights that sum to 1, not signed numbers
  std::string Name(int64_t i) const;                   // "L1H0", "L1C0"

  // As the mixer gives them, [batch, units.size(), query, key].
  Tensor Maps(absl::Span<const int64_t> units) const;
  // As weights: attention as it is; of signed maps the sizes, every row divided by its sum (zeros
  // stay zeros), f32. So both answer which share of what is read here comes from there.
  Tensor Weights(absl::Span<const int64_t> units) const;
  // Weights of all units, in pieces [batch, n, query, key] that take a few megabytes each, in
  // order: calls piece(first, weights) for the units [first, first + n).
  void ForEachPiece(absl::FunctionRef<void(int64_t first, const Tensor& weights)> piece) const;
  // The same of the maps themselves.
  void ForEachMapPiece(absl::FunctionRef<void(int64_t first, const Tensor& maps)> piece) const;

  // Undefined where the mixer's memory does not fade.
  Retention Memory() const { return mixer_->MemoryOf(activations_); }

 private:
  friend absl::StatusOr<std::vector<TokenMapSource>> ReadTokenMaps(const ResidualModel& model,
                                                                   const Tensor& tokens);
  int layer_;
  const Mixer* mixer_;
  TokenMapKind kind_;
  int64_t batch_, pos_;
  std::vector<Tensor> activations_;
};

// Of every mixer that has maps, in the order of the model; empty if none has. One run on tokens
// [batch, pos], all of them tokens. Errors are the model's.
absl::StatusOr<std::vector<TokenMapSource>> ReadTokenMaps(const ResidualModel& model,
                                                          const Tensor& tokens);

// How many tokens a unit remembers: after so many what it held has faded to 1/e, on average over
// the positions of a run; [n_units], at most 1e9.
std::vector<double> MemoryLengths(const Retention& memory);

}  // namespace residual

#endif  // RESIDUAL_INTERP_TOKEN_MAPS_TOKEN_MAPS_H_
