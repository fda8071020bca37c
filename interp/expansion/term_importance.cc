#include "interp/expansion/term_importance.h"

#include <cmath>
#include <functional>

#include "absl/strings/str_cat.h"
#include "interp/expansion/path_expansion.h"
#include "interp/heads/head_scores.h"
#include "models/nn/hook.h"
#include "ops/loss/cross_entropy.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// What stands in for what a layer adds.
using Instead = std::function<Tensor(int layer, const Tensor& added)>;

absl::StatusOr<double> LossWith(const ResidualModel& model, const Tensor& tokens,
                                const Tensor& targets, const std::vector<Tensor>& patterns,
                                const Instead& instead) {
  Hooks hooks;
  FreezePatterns(patterns, hooks);
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    hooks.Edit(absl::StrCat("blocks.", layer, ".hook_attn_out"),
               [layer, &instead](absl::string_view, const Tensor& x) { return instead(layer, x); });
  }
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor logits, model.Run({tokens}, &hooks));
  return CrossEntropy(logits, targets, {}).Item();
}

}  // namespace

absl::StatusOr<TermImportance> WeighTerms(const ResidualModel& model, const Tensor& tokens,
                                          const Tensor& targets) {
  RESIDUAL_RETURN_IF_ERROR(CheckPathsAddUp(model));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<Tensor> patterns, ReadPatterns(model, tokens));
  TermImportance terms;
  terms.uniform_loss = std::log(static_cast<double>(model.d_vocab()));
  std::vector<Tensor> direct, before;  // what the heads make of the direct path, of the run before
  for (int order = 0; order <= model.n_layers(); ++order) {
    std::vector<Tensor> added(model.n_layers());
    RESIDUAL_ASSIGN_OR_RETURN(
        const double loss,
        LossWith(model, tokens, targets, patterns, [&](int layer, const Tensor& x) {
          added[layer] = x;
          return order == 0 ? Tensor::Zeros(x.shape(), x.dtype()) : before[layer];
        }));
    terms.up_to_order.push_back(loss);
    before = added;
    if (order == 0) direct = added;
  }
  for (int only = 0; only < model.n_layers(); ++only) {
    RESIDUAL_ASSIGN_OR_RETURN(
        const double loss,
        LossWith(model, tokens, targets, patterns, [&](int layer, const Tensor& x) {
          return layer == only ? direct[layer] : Tensor::Zeros(x.shape(), x.dtype());
        }));
    terms.with_layer.push_back(loss);
  }
  return terms;
}

}  // namespace residual
