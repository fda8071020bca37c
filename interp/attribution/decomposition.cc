#include "interp/attribution/decomposition.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "models/nn/hook.h"
#include "models/nn/module.h"
#include "ops/layout/layout.h"
#include "tensor/base/status_macros.h"
#include "tensor/core/first_nan.h"

namespace residual {
namespace {

constexpr double kTolerance = 1e-5;

// "3" of "blocks.3.attn.hook_z".
std::string LayerOf(absl::string_view name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '.');
  return parts.size() > 1 ? parts[1] : "";
}

void Put(LabelledStreams& streams, std::string label, const Tensor& value) {
  streams.labels.push_back(std::move(label));
  streams.values.push_back(value);
}

// max |sum of parts - stream| / max |stream|, summed in f64.
double SumError(const std::vector<Tensor>& parts, const Tensor& stream) {
  std::vector<double> sum(stream.elements(), 0.0);
  for (const Tensor& part : parts) {
    RESIDUAL_CHECK_EQ(part.elements(), stream.elements());
    VisitDType(part.dtype(), [&](auto tag) {
      using T = decltype(tag);
      const T* x = part.data<T>();
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += ToDouble(x[i]);
    });
  }
  const std::vector<double> want = stream.ToDoubles();
  double error = 0, largest = 0;
  for (size_t i = 0; i < sum.size(); ++i) {
    // A NaN is no agreement.
    if (!(std::abs(sum[i] - want[i]) <= error)) error = std::abs(sum[i] - want[i]);
    largest = std::max(largest, std::abs(want[i]));
  }
  return largest > 0 ? error / largest : error;
}

}  // namespace

Tensor LabelledStreams::Stack() const {
  RESIDUAL_CHECK(!values.empty());
  std::vector<Tensor> rows;
  for (const Tensor& value : values) {
    rows.push_back(ConvertTo(value, kF32).Reshaped(value.shape().Inserted(0, 1)));
  }
  return Concat(rows, 0);
}

absl::StatusOr<Decomposition> DecomposeStream(const ResidualModel& model, const ModelInput& input,
                                              const DecomposeOptions& options) {
  std::set<std::string> added;  // names of what blocks add
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    const Block& block = model.block(layer);
    for (const Branch& branch : block.branches()) {
      if (block.placement() == NormPlacement::kPost && branch.norm.kind() != NormKind::kNone) {
        return absl::UnimplementedError(
            absl::StrCat("the stream is no sum of parts: block ", layer, " has the norm '",
                         branch.norm_name, "' behind what its mixer '", branch.name, "' adds"));
      }
      added.insert(absl::StrCat("blocks.", layer, ".", branch.out_name));
    }
  }
  RESIDUAL_RETURN_IF_ERROR(model.Validate(input));

  Decomposition found;
  Tensor last;
  Hooks hooks;
  for (const DeclaredHook& hook : HookPoints(model)) {
    const std::string& name = hook.name;
    const std::string layer = LayerOf(name);
    Hooks::Reader reader;
    if (name == "hook_embed" || (name == "hook_pos_embed" && model.embed().positions_on_stream())) {
      reader = [&found](absl::string_view point, const Tensor& x) {
        Put(found.parts, std::string(absl::StripPrefix(point, "hook_")), x);
      };
    } else if (added.count(name) > 0) {
      // "blocks.0.hook_attn_out": "0_attn_out".
      const std::string label = absl::StrCat(layer, "_", name.substr(name.rfind("hook_") + 5));
      reader = [&found, label](absl::string_view, const Tensor& x) { Put(found.parts, label, x); };
    } else if (absl::EndsWith(name, ".hook_resid_pre") || absl::EndsWith(name, ".hook_resid_mid")) {
      const std::string label = absl::StrCat(layer, name.substr(name.rfind('_')));
      reader = [&found, label](absl::string_view, const Tensor& x) {
        Put(found.accumulated, label, x);
      };
    } else if (name == absl::StrCat("blocks.", model.n_layers() - 1, ".hook_resid_post")) {
      reader = [&](absl::string_view, const Tensor& x) {
        last = x;
        Put(found.accumulated, "final_post", x);
      };
    } else if (name == "ln_final.hook_scale") {
      reader = [&found](absl::string_view, const Tensor& x) { found.scale = x; };
    } else if (options.heads && absl::EndsWith(name, ".attn.hook_result")) {
      reader = [&found, layer](absl::string_view, const Tensor& x) {  // [batch, pos, head, d_model]
        for (int64_t head = 0; head < x.dim(2); ++head) {
          Put(found.heads, absl::StrCat("L", layer, "H", head),
              Slice(x, 2, head, head + 1).Reshaped(x.shape().Without(2)));
        }
      };
    } else if (options.neurons && absl::EndsWith(name, ".mlp.hook_post")) {
      reader = [&found, layer](absl::string_view, const Tensor& x) {
        Put(found.neurons, absl::StrCat(layer, "_mlp"), x);
      };
    }
    if (reader) hooks.Read(name, reader);
  }
  RESIDUAL_ASSIGN_OR_RETURN(found.logits, model.Run(input, &hooks));
  if (!last.defined()) {  // no blocks: the embedding is all there is
    return absl::UnimplementedError("the model has no blocks to take apart");
  }
  found.error = SumError(found.parts.values, last);
  if (FirstNaN(last).has_value()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the run's 'blocks.", model.n_layers() - 1, ".hook_resid_post' holds NaN"));
  }
  if (!(found.error <= kTolerance)) {
    return absl::InternalError(absl::StrFormat(
        "the parts of the stream add up to something else: off by %.2g of its largest entry",
        found.error));
  }
  return found;
}

}  // namespace residual
