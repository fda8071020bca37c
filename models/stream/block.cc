#include "models/stream/block.h"

#include <utility>

#include "ops/dropout/dropout.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "tensor/base/random.h"

namespace residual {

Block::Block(std::vector<Branch> branches, NormPlacement placement, bool parallel, double dropout)
    : branches_(std::move(branches)),
      placement_(placement),
      parallel_(parallel),
      dropout_(dropout) {
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (branches_[i].mixer->NewState(0) != nullptr) position_wise_from_ = i + 1;
  }
}

void Block::Describe(Visitor& v) {
  v.Hooks({kResidPre});
  for (size_t i = 0; i < branches_.size(); ++i) {
    Branch& branch = branches_[i];
    if (branch.norm.kind() != NormKind::kNone) v.Child(branch.norm_name, branch.norm);
    v.Child(branch.name, *branch.mixer);
    v.Hooks({{branch.out_name, "[batch, pos, d_model]"}});
    if (i + 1 < branches_.size() && !parallel_) v.Hooks({kResidMid});
  }
  v.Hooks({kResidPost});
}

Tensor Block::Forward(const Tensor& resid, const MixerContext& context, BlockState* state,
                      const Scope& hook, int64_t last) const {
  const auto keep_last = [last](const Tensor& all) {
    return Slice(all, 1, all.dim(1) - last, all.dim(1));
  };
  Tensor resid_pre = hook(kResidPre, resid);
  Tensor x = resid_pre;
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (last > 0 && i == position_wise_from_) {
      x = keep_last(x);
      if (parallel_) resid_pre = keep_last(resid_pre);
    }
    const Branch& branch = branches_[i];
    const Scope norm_scope = hook.In(branch.norm_name);
    const Tensor& read = parallel_ ? resid_pre : x;
    const Tensor input =
        placement_ == NormPlacement::kPre ? branch.norm.Forward(read, norm_scope) : read;
    Tensor out = branch.mixer->Forward(input, context, state ? (*state)[i].get() : nullptr,
                                       hook.In(branch.name));
    if (context.training && dropout_ > 0) {
      out = Dropout(out, dropout_, context.seed,
                    RandomStream(branch.name, context.layer, context.step));
    }
    x = Add(x, hook({branch.out_name, ""}, out));
    if (placement_ == NormPlacement::kPost) x = branch.norm.Forward(x, norm_scope);
    if (i + 1 < branches_.size() && !parallel_) x = hook(kResidMid, x);
  }
  if (last > 0 && position_wise_from_ == branches_.size()) x = keep_last(x);
  return hook(kResidPost, x);
}

BlockState Block::NewState(int64_t batch) const {
  BlockState state;
  for (const Branch& branch : branches_) state.push_back(branch.mixer->NewState(batch));
  return state;
}

}  // namespace residual
