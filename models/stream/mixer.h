// A mixer: what a block computes from the stream and adds back to it. Attention, MLPs, S4, Mamba
// and block-sparse attention are mixers; a tool that looks at the stream works on all of them.

#ifndef RESIDUAL_MODELS_STREAM_MIXER_H_
#define RESIDUAL_MODELS_STREAM_MIXER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "models/nn/hook.h"
#include "models/nn/module.h"
#include "models/nn/precision.h"
#include "models/stream/state_tensors.h"
#include "tensor/base/check.h"
#include "tensor/core/tensor.h"

namespace residual {

// What a run tells every mixer. Shapes: [batch, pos] are the tokens of this call; `past` tokens of
// each row went before them and are in the state.
struct MixerContext {
  int64_t past = 0;
  // Absolute positions of this call's tokens: i64 [pos] or [batch, pos].
  Tensor positions;
  // bool [batch, past + pos], true: attend. Undefined: no padding.
  Tensor key_mask;
  // i64 [batch, pos]: several sequences packed into a row; tokens of different segments do not see
  // one another. Undefined: one sequence a row. Comes without a state.
  Tensor segments;
  // Added to what queries and keys are made of, never to values or the stream (shortformer
  // positions, Press et al. 2021): [pos, d_model] or [batch, pos, d_model]. Undefined: none.
  Tensor query_key_positions;
  // Training: dropout is on, drawn from (seed, step).
  bool training = false;
  uint64_t seed = 0, step = 0;
  // Of every product; x and what a mixer returns are f32 under kBF16.
  Precision precision = Precision::kFull;
  int layer = 0;
};

// What a mixer remembers of the tokens before: keys and values, a convolution window, a state-space
// state. The only thing a forward changes.
class MixerState {
 public:
  virtual ~MixerState() = default;
  // A copy that goes on by itself.
  virtual std::unique_ptr<MixerState> Fork() const = 0;
  // Forgets all but the first `length` tokens; Unimplemented where the past is not kept (a
  // recurrent state: fork before, and go back to the fork).
  virtual absl::Status RollBack(int64_t length) = 0;
  // A state whose row i goes on from row rows[i] of this one: rows can be dropped, put in another
  // order and repeated (beam search).
  virtual std::unique_ptr<MixerState> Select(absl::Span<const int64_t> rows) const = 0;
  virtual size_t bytes() const = 0;
  // Makes room, when next it grows, for `length` tokens in all: for states that grow with them.
  virtual void Reserve(int64_t length) {}
  // Writes what it remembers, every tensor in its exact size. Called after at least one token.
  virtual void Save(StateWriter& writer) const = 0;
  // Becomes, bit for bit, the state of `batch` rows that wrote these tensors after `length` > 0
  // tokens. Called on a NewState(0) of an equal mixer; `batch` is what a file claims, so nothing is
  // allocated for it. InvalidArgument names the tensor, what was found and what was expected.
  virtual absl::Status Load(int64_t batch, int64_t length, StateReader& reader) = 0;
};

// Maps from tokens to tokens: for each of a mixer's units a matrix [query, key] that says how much
// of what is read at the key's position goes into what is written at the query's. An attention has
// one in each head, a state space one in each channel.
struct TokenMapKind {
  char unit = 'H';      // what units are called in names: H for heads, C for channels
  int64_t n_units = 0;  // 0: the mixer has no such maps
  // Entries are at least 0 and the rows' sums 1 (or 0, where there is nothing to attend to).
  bool weights = false;
  // The mixer's hook points whose activations of a run the maps are made of.
  std::vector<HookPoint> made_of;
};

// What a fading memory does at every position, of each unit.
struct Retention {
  Tensor step;  // [batch, pos, n_units]: how strongly it writes what is read there
  // [batch, pos, n_units], in [0, 1]: how much is left of what it held before, of the part that
  // fades slowest. Near 0 the memory is reset to what is read now, near 1 it persists.
  Tensor kept;
  bool defined() const { return step.defined(); }
};

class Mixer : public Module {
 public:
  // x: [batch, pos, d_model], normalised if the block normalises. Returns what is added to the
  // stream, same shape. With a state, the tokens continue those the state has seen, and the state
  // is brought up to date; any split of a sequence gives the same result.
  virtual Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                         const Scope& hook) const = 0;

  // An empty state for `batch` rows; nullptr for a mixer that looks at one position at a time.
  virtual std::unique_ptr<MixerState> NewState(int64_t batch) const { return nullptr; }

  // False if what it gives at a position depends on later ones.
  virtual bool causal() const { return true; }

  virtual TokenMapKind token_map_kind() const { return {}; }
  // The maps of these units, [batch, units.size(), pos, pos], from the activations that
  // token_map_kind().made_of names, in that order, of a run without a past, padding or packing.
  // Not differentiable. Only called where there are such maps.
  virtual Tensor TokenMaps(absl::Span<const Tensor> made_of, absl::Span<const int64_t> units) const;
  // Of the same activations; undefined tensors for a mixer without a fading memory.
  virtual Retention MemoryOf(absl::Span<const Tensor> made_of) const { return {}; }
};

inline Tensor Mixer::TokenMaps(absl::Span<const Tensor>, absl::Span<const int64_t>) const {
  RESIDUAL_CHECK(false) << "a mixer without token maps was asked for them";
  return {};
}

}  // namespace residual

#endif  // RESIDUAL_MODELS_STREAM_MIXER_H_
