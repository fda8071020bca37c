#include "interp/cache/partial_run.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "interp/hook_names/hook_name.h"
#include "ops/layout/layout.h"
#include "tensor/base/status_macros.h"
#include "tensor/core/first_nan.h"

namespace residual {
absl::StatusOr<LayersRun> CheckPartialRun(const ResidualModel& model, const ModelInput& input,
                                          const PartialRun& part) {
  RESIDUAL_RETURN_IF_ERROR(model.Validate(input));
  const int layers = model.n_layers();
  LayersRun run;
  run.layers = {part.start_at_layer, layers};
  run.embeds = !part.resid.defined();
  run.unembeds = !part.stop_at_layer.has_value();
  if (part.start_at_layer < 0 || part.start_at_layer > layers) {
    return absl::InvalidArgumentError(absl::StrCat("start_at_layer is ", part.start_at_layer,
                                                   ", expected one of [0, ", layers, "]"));
  }
  if (part.stop_at_layer.has_value()) {
    const int stop = *part.stop_at_layer < 0 ? layers + *part.stop_at_layer : *part.stop_at_layer;
    if (stop < 0 || stop > layers) {
      return absl::InvalidArgumentError(absl::StrCat("stop_at_layer is ", *part.stop_at_layer,
                                                     ", expected one of [", -layers, ", ", layers,
                                                     "]"));
    }
    if (stop < part.start_at_layer) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop_at_layer ", stop, " is before start_at_layer ", part.start_at_layer));
    }
    run.layers.end = stop;
  }
  if (run.embeds && part.start_at_layer > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a run that starts at layer ", part.start_at_layer,
                     " needs the stream that enters it, and there is none"));
  }
  if (!run.embeds) {
    const Shape want = input.tokens.shape().Appended(model.d_model());
    if (part.resid.shape() != want || part.resid.dtype() != model.dtype()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the stream that enters layer ", part.start_at_layer, " is ",
                       part.resid.ToString(), ", expected ", Name(model.dtype()), want.ToString()));
    }
    if (FirstNaN(part.resid).has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the stream that enters layer ", part.start_at_layer, " holds NaN"));
    }
  }
  return run;
}

bool IsBehindBlocks(absl::string_view point) {
  return SplitBlockName(point).layer < 0 && point != Embed::kEmbed.name &&
         point != Embed::kPosEmbed.name;
}

bool FiresIn(const ResidualModel& model, const LayersRun& run, absl::string_view point) {
  const int layer = SplitBlockName(point).layer;
  if (layer >= 0) return layer >= run.layers.begin && layer < run.layers.end;
  if (point == Embed::kEmbed.name) return run.embeds;
  // Positions of queries and keys alone are looked up for the blocks.
  if (point == Embed::kPosEmbed.name) return run.embeds || !model.embed().positions_on_stream();
  return run.unembeds;
}

absl::StatusOr<Tensor> RunLayers(const ResidualModel& model, const ModelInput& input,
                                 const PartialRun& part, Hooks* hooks) {
  RESIDUAL_ASSIGN_OR_RETURN(const LayersRun run, CheckPartialRun(model, input, part));
  if (hooks != nullptr) {
    std::vector<DeclaredHook> declared = HookPoints(model), firing;
    RESIDUAL_RETURN_IF_ERROR(hooks->Validate(declared));
    for (const DeclaredHook& hook : declared) {
      if (FiresIn(model, run, hook.name)) firing.push_back(hook);
    }
    const absl::Status inside = hooks->Validate(firing);
    if (!inside.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(inside.message(), "; the run is of layers [",
                                                     run.layers.begin, ", ", run.layers.end, ")"));
    }
    hooks->Reset();
  }
  const Scope scope(hooks);
  const MixerContext context = model.MakeContext(input);
  Tensor resid = run.embeds ? model.EmbedTokens(input, context, scope) : part.resid;
  resid = model.Stream(resid, run.layers, context, nullptr, scope);
  if (run.unembeds) {
    if (input.last_logits > 0) {
      resid = Slice(resid, 1, resid.dim(1) - input.last_logits, resid.dim(1));
    }
    resid = model.UnembedStream(resid, scope, input.precision);
  }
  if (hooks != nullptr) RESIDUAL_RETURN_IF_ERROR(hooks->CheckFired());
  return resid;
}

}  // namespace residual
