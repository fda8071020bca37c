#include "interp/expansion/path_expansion.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "interp/circuits/head_circuits.h"
#include "models/nn/module.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

absl::Status NoSum(const std::string& what) {
  return absl::UnimplementedError(absl::StrCat(
      "the logits are no sum over paths: ", what,
      ", expected blocks of attention alone, without norms, biases and positions on the stream"));
}

// x [rows, n] of a row-major matrix.
RowMatrix MatrixOf(const Tensor& x) {
  const std::vector<double> values = x.ToDoubles();
  return Eigen::Map<const RowMatrix>(values.data(), x.dim(0), x.dim(1));
}

struct Streams {
  std::vector<HeadIndex> heads;
  std::vector<RowMatrix> rows;  // of each example, [pos, d_model]
};

}  // namespace

absl::Status CheckPathsAddUp(const ResidualModel& model) {
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    for (const Branch& branch : model.block(layer).branches()) {
      if (absl::string_view(branch.name) != "attn") {
        return NoSum(absl::StrCat("block ", layer, " has the mixer '", branch.name, "'"));
      }
      if (branch.norm.kind() != NormKind::kNone) {
        return NoSum(absl::StrCat("block ", layer, " has the norm '", branch.norm_name, "'"));
      }
    }
  }
  if (model.ln_final().kind() != NormKind::kNone) return NoSum("there is a final norm");
  if (model.embed().positions_on_stream()) return NoSum("positions are added to the embedding");
  for (const Parameter& parameter : Parameters(const_cast<ResidualModel&>(model))) {
    if (absl::StrContains(parameter.name, ".b_")) {
      return NoSum(absl::StrCat("there is the bias '", parameter.name, "'"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<PathExpansion> ExpandPaths(const ResidualModel& model, const Tensor& tokens,
                                          int64_t most_paths) {
  RESIDUAL_RETURN_IF_ERROR(CheckPathsAddUp(model));
  double paths = 1;
  for (const int64_t heads : HeadsPerLayer(model)) paths *= static_cast<double>(1 + heads);
  if (paths > static_cast<double>(most_paths)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model has ", paths, " paths, expected at most ", most_paths));
  }
  PathExpansion expansion;
  std::vector<Tensor> patterns(model.n_layers());
  std::vector<std::vector<HeadCircuits::Head>> heads;
  if (model.n_layers() > 0) {
    RESIDUAL_ASSIGN_OR_RETURN(patterns, ReadPatterns(model, tokens));
    RESIDUAL_ASSIGN_OR_RETURN(const HeadCircuits circuits,
                              ReadHeadCircuits(model, /*process_weights=*/false));
    heads = circuits.heads;
  }
  RESIDUAL_ASSIGN_OR_RETURN(expansion.logits, model.Run({tokens}));

  const Vocabulary vocabulary(model, /*process_weights=*/false, /*centre_embed=*/false);
  const RowMatrix W_E = vocabulary.W_E(), W_U = vocabulary.W_U();
  const Tensor ids = ConvertTo(tokens, kI64);
  const int64_t batch = ids.dim(0), pos = ids.dim(1), d_vocab = W_U.cols();
  std::vector<Streams> all(1);
  for (int64_t b = 0; b < batch; ++b) {
    RowMatrix& x = all[0].rows.emplace_back(pos, W_E.cols());
    for (int64_t p = 0; p < pos; ++p) x.row(p) = W_E.row(ids.data<int64_t>()[b * pos + p]);
  }
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    const size_t below = all.size();
    for (size_t h = 0; h < heads[layer].size(); ++h) {
      std::vector<RowMatrix> looks;
      for (int64_t b = 0; b < batch; ++b) {
        looks.push_back(MatrixOf(patterns[layer].Row(b).Row(static_cast<int64_t>(h))));
      }
      for (size_t i = 0; i < below; ++i) {
        Streams path;
        path.heads = all[i].heads;
        path.heads.push_back({layer, static_cast<int>(h)});
        for (int64_t b = 0; b < batch; ++b) {
          const RowMatrix moved = Product(looks[b], Product(all[i].rows[b], heads[layer][h].W_V));
          path.rows.push_back(Product(moved, heads[layer][h].W_O));
        }
        all.push_back(std::move(path));
      }
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const Streams& a, const Streams& b) {
    return a.heads.size() < b.heads.size();
  });

  std::vector<double> sum(batch * pos * d_vocab, 0.0);
  for (Streams& path : all) {
    Tensor logits = Tensor::Uninitialized({batch, pos, d_vocab}, kF64);
    double* out = logits.mutable_data<double>();
    for (int64_t b = 0; b < batch; ++b) {
      const RowMatrix rows = Product(path.rows[b], W_U);
      std::copy(rows.data(), rows.data() + rows.size(), out + b * pos * d_vocab);
    }
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += out[i];
    expansion.terms.push_back({std::move(path.heads), std::move(logits)});
  }
  const std::vector<double> want = expansion.logits.ToDoubles();
  double largest = 0;
  for (size_t i = 0; i < sum.size(); ++i) {
    // A NaN is no agreement.
    if (!(std::abs(sum[i] - want[i]) <= expansion.error)) {
      expansion.error = std::abs(sum[i] - want[i]);
    }
    largest = std::max(largest, std::abs(want[i]));
  }
  if (largest > 0) expansion.error /= largest;
  return expansion;
}

std::string PathName(const PathTerm& term) {
  if (term.heads.empty()) return "direct";
  std::string name;
  for (const HeadIndex& head : term.heads) {
    absl::StrAppend(&name, name.empty() ? "" : " > ", HeadName(head));
  }
  return name;
}

}  // namespace residual
