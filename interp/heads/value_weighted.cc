#include "interp/heads/value_weighted.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/nn/hook.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {

absl::StatusOr<std::vector<Tensor>> ReadValueWeightedPatterns(const ResidualModel& model,
                                                              const Tensor& tokens) {
  const std::vector<int64_t> per_layer = HeadsPerLayer(model);
  std::vector<Tensor> patterns(per_layer.size()), values(per_layer.size());
  Hooks hooks;
  bool any = false;
  for (size_t layer = 0; layer < per_layer.size(); ++layer) {
    if (per_layer[layer] == 0) continue;
    any = true;
    const auto keep = [layer](std::vector<Tensor>& where) {
      return [layer, &where](absl::string_view, const Tensor& x) { where[layer] = x; };
    };
    hooks.Read(absl::StrCat("blocks.", layer, ".attn.hook_pattern"), keep(patterns));
    hooks.Read(absl::StrCat("blocks.", layer, ".attn.hook_v"), keep(values));
  }
  if (!any) return absl::NotFoundError("no layer has attention");
  RESIDUAL_RETURN_IF_ERROR(model.Run({tokens}, &hooks).status());
  for (size_t layer = 0; layer < per_layer.size(); ++layer) {
    if (per_layer[layer] == 0) continue;
    const Tensor& v = values[layer];  // [batch, pos, n_kv_heads, d_head]
    const int64_t batch = v.dim(0), pos = v.dim(1), groups = v.dim(2), d_head = v.dim(3);
    const int64_t heads = patterns[layer].dim(1);
    const std::vector<double> x = v.ToDoubles();
    Tensor weighted = Tensor::Of<double>(patterns[layer].shape(), patterns[layer].ToDoubles());
    double* row = weighted.mutable_data<double>();
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        std::vector<double> norms(pos);
        for (int64_t key = 0; key < pos; ++key) {
          const double* at = x.data() + ((b * pos + key) * groups + h / (heads / groups)) * d_head;
          for (int64_t k = 0; k < d_head; ++k) norms[key] += at[k] * at[k];
          norms[key] = std::sqrt(norms[key]);
        }
        for (int64_t query = 0; query < pos; ++query, row += pos) {
          double sum = 0;
          for (int64_t key = 0; key < pos; ++key) sum += row[key] *= norms[key];
          for (int64_t key = 0; key < pos && sum > 0; ++key) row[key] /= sum;
        }
      }
    }
    patterns[layer] = std::move(weighted);
  }
  return patterns;
}

HeadTable PrefixMatching(const std::vector<Tensor>& patterns, const Tensor& tokens) {
  const Tensor ids = ConvertTo(tokens, kI64);
  HeadTable table;
  for (const Tensor& pattern : patterns) {
    std::vector<double>& scores = table.emplace_back();
    if (!pattern.defined()) continue;
    const int64_t batch = pattern.dim(0), heads = pattern.dim(1), pos = pattern.dim(2);
    RESIDUAL_CHECK(ids.shape() == Shape({batch, pos})) << ids.ToString();
    const std::vector<double> weights = pattern.ToDoubles();
    for (int64_t h = 0; h < heads; ++h) {
      double total = 0;
      int64_t queries = 0;
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t* token = ids.data<int64_t>() + b * pos;
        for (int64_t query = 0; query < pos; ++query) {
          bool has = false;
          for (int64_t key = 1; key <= query; ++key) {
            if (token[key - 1] != token[query]) continue;
            has = true;
            total += weights[((b * heads + h) * pos + query) * pos + key];
          }
          queries += has;
        }
      }
      scores.push_back(queries > 0 ? total / static_cast<double>(queries) : 0);
    }
  }
  return table;
}

}  // namespace residual
