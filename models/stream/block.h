// A block: mixers put on the stream one after the other, or side by side.

#ifndef RESIDUAL_MODELS_STREAM_BLOCK_H_
#define RESIDUAL_MODELS_STREAM_BLOCK_H_

#include <memory>
#include <string>
#include <vector>

#include "models/nn/norm.h"
#include "models/stream/mixer.h"

namespace residual {

// Where the norm stands.
//   kPre:  x + f(norm(x))    GPT-2, Llama, Mamba
//   kPost: norm(x + f(x))    the original Transformer, BERT
enum class NormPlacement { kPre, kPost };

// One mixer of a block with its norm.
struct Branch {
  const char* name;       // "attn", "mlp", "mixer": the child's name
  const char* norm_name;  // "ln1", "ln2"
  const char* out_name;   // "hook_attn_out": what is added to the stream
  std::unique_ptr<Mixer> mixer;
  Norm norm;  // kind kNone: none
};

using BlockState = std::vector<std::unique_ptr<MixerState>>;  // one per branch

class Block : public Module {
 public:
  static constexpr HookPoint kResidPre{"hook_resid_pre", "[batch, pos, d_model]"};
  static constexpr HookPoint kResidMid{"hook_resid_mid", "[batch, pos, d_model]"};
  static constexpr HookPoint kResidPost{"hook_resid_post", "[batch, pos, d_model]"};

  // parallel: every branch reads the block's input (GPT-J, GPT-NeoX) instead of the sum so far.
  Block(std::vector<Branch> branches, NormPlacement placement, bool parallel, double dropout);

  void Describe(Visitor& v) override;

  // resid: [batch, pos, d_model]. Returns the stream after the block. state: of NewState, or null.
  // last > 0: the stream at so many last positions alone; what mixers that look at one position at
  // a time do to those before is left out, and hook points from there on hold these positions.
  Tensor Forward(const Tensor& resid, const MixerContext& context, BlockState* state,
                 const Scope& hook, int64_t last = 0) const;

  BlockState NewState(int64_t batch) const;

  const std::vector<Branch>& branches() const { return branches_; }
  // Whether the mixers from this one on look at one position at a time.
  bool PositionWiseFrom(size_t branch) const { return branch >= position_wise_from_; }
  NormPlacement placement() const { return placement_; }
  bool parallel() const { return parallel_; }

 private:
  std::vector<Branch> branches_;
  NormPlacement placement_;
  bool parallel_;
  double dropout_;  // of what a branch adds, while training
  size_t position_wise_from_ = 0;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_STREAM_BLOCK_H_
