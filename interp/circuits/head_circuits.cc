#include "interp/circuits/head_circuits.h"

#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace residual {
namespace {

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// A tensor as [rows, the rest].
Eigen::MatrixXd ToMatrix(const Tensor& x, int64_t rows) {
  const std::vector<double> values = x.ToDoubles();
  return Eigen::Map<const RowMajor>(values.data(), rows, x.elements() / std::max<int64_t>(rows, 1));
}

class Weights {
 public:
  explicit Weights(const ResidualModel& model) {
    for (const Parameter& parameter : Parameters(const_cast<ResidualModel&>(model))) {
      // [n_heads, d_model, d_head] as on disk: a head is then a row of the leading axis.
      values_[parameter.name] = ToDisk(parameter, *parameter.value);
    }
  }
  // Undefined if there is none.
  Tensor Find(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? Tensor() : found->second;
  }

 private:
  absl::flat_hash_map<std::string, Tensor> values_;
};

// What the norm before a read does to the weight [d_model, n] that reads.
Eigen::MatrixXd Fold(const Norm& norm, Eigen::MatrixXd weight) {
  if (norm.kind() == NormKind::kNone) return weight;
  const std::vector<double> gain = norm.w().ToDoubles();
  weight = Eigen::Map<const Eigen::VectorXd>(gain.data(), gain.size()).asDiagonal() * weight;
  if (norm.kind() == NormKind::kLayerNorm) weight.rowwise() -= weight.colwise().mean();
  return weight;
}

// True if every reader of the stream subtracts its mean.
bool EveryReaderCentres(const ResidualModel& model) {
  bool centres = model.ln_final().kind() == NormKind::kLayerNorm;
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    const Block& block = model.block(layer);
    centres &= block.placement() == NormPlacement::kPre;
    for (const Branch& branch : block.branches()) {
      centres &= branch.norm.kind() == NormKind::kLayerNorm;
    }
  }
  return centres;
}

const Branch* AttentionOf(const Block& block) {
  for (const Branch& branch : block.branches()) {
    if (absl::string_view(branch.name) == "attn") return &branch;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<HeadCircuits> ReadHeadCircuits(const ResidualModel& model, bool process_weights) {
  const Weights weights(model);
  const int64_t d_model = model.d_model();
  const bool centre = process_weights && EveryReaderCentres(model);
  HeadCircuits circuits;
  bool any = false;
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    auto& heads = circuits.heads.emplace_back();
    const std::string attn = absl::StrCat("blocks.", layer, ".attn.");
    const Tensor W_Q = weights.Find(attn + "W_Q"), W_K = weights.Find(attn + "W_K"),
                 W_V = weights.Find(attn + "W_V"), W_O = weights.Find(attn + "W_O");
    const Branch* branch = AttentionOf(model.block(layer));
    if (branch == nullptr || !W_Q.defined()) continue;
    any = true;
    const bool fold = process_weights && model.block(layer).placement() == NormPlacement::kPre;
    auto read = [&](const Tensor& weight, int64_t head) {
      Eigen::MatrixXd matrix = ToMatrix(weight.Row(head), d_model);
      return fold ? Fold(branch->norm, std::move(matrix)) : matrix;
    };
    const int64_t n_heads = W_Q.dim(0), group = n_heads / W_K.dim(0);
    for (int64_t h = 0; h < n_heads; ++h) {
      HeadCircuits::Head head;
      head.W_Q = read(W_Q, h);
      head.W_K = read(W_K, h / group);
      head.W_V = read(W_V, h / group);
      head.W_O = ToMatrix(W_O.Row(h), W_O.dim(1));
      if (centre) head.W_O.colwise() -= head.W_O.rowwise().mean();
      heads.push_back(std::move(head));
    }
  }
  if (!any) return absl::NotFoundError("the model has no attention heads (blocks.*.attn.W_Q)");
  circuits.W_E = ToMatrix(model.embed().W_E(), model.d_vocab());
  circuits.W_U = ToMatrix(model.UnembedMatrix(), d_model);
  if (centre) circuits.W_E.colwise() -= circuits.W_E.rowwise().mean();
  if (process_weights) {
    circuits.W_U = Fold(model.ln_final(), std::move(circuits.W_U));
    circuits.W_U.colwise() -= circuits.W_U.rowwise().mean();
  }
  return circuits;
}

namespace {

// W_E OV W_U has the eigenvalues of W_O (W_U W_E) W_V: [vocab, vocab] is never made, and the
// product over the vocabulary is shared by all heads.
FactoredMatrix AsSmallAsOV(const HeadCircuits::Head& head, const Eigen::MatrixXd& through_vocab) {
  return {through_vocab * head.W_V, head.W_O};
}

}  // namespace

HeadTable OvCopyingScores(const HeadCircuits& circuits) {
  const Eigen::MatrixXd through_vocab = circuits.W_U * circuits.W_E;
  HeadTable scores;
  for (const auto& layer : circuits.heads) {
    auto& row = scores.emplace_back();
    for (const HeadCircuits::Head& head : layer) {
      row.push_back(CopyingScore(AsSmallAsOV(head, through_vocab)));
    }
  }
  return scores;
}

std::vector<std::complex<double>> OvEigenvalues(const HeadCircuits& circuits, HeadIndex head) {
  return AsSmallAsOV(circuits.heads[head.layer][head.head], circuits.W_U * circuits.W_E)
      .Eigenvalues();
}

std::vector<std::complex<double>> KCompositionEigenvalues(const HeadCircuits& circuits,
                                                          HeadIndex earlier, HeadIndex later) {
  RESIDUAL_CHECK(earlier.layer < later.layer) << earlier.layer << " " << later.layer;
  const HeadCircuits::Head& writes = circuits.heads[earlier.layer][earlier.head];
  const HeadCircuits::Head& reads = circuits.heads[later.layer][later.head];
  const FactoredMatrix OV = writes.OV();
  return reads.QK()
      .TimesLeft(circuits.W_E)
      .TimesRight((circuits.W_E * OV.A() * OV.B()).transpose())
      .Eigenvalues();
}

CompositionTable Compositions(const HeadCircuits& circuits, CompositionKind kind) {
  CompositionTable table;
  for (size_t l1 = 0; l1 < circuits.heads.size(); ++l1) {
    auto& from_layer = table.emplace_back();
    for (const HeadCircuits::Head& earlier : circuits.heads[l1]) {
      HeadTable& to = from_layer.emplace_back();
      for (size_t l2 = 0; l2 < circuits.heads.size(); ++l2) {
        auto& row = to.emplace_back();
        for (const HeadCircuits::Head& later : circuits.heads[l2]) {
          if (l1 >= l2) {
            row.push_back(0);
            continue;
          }
          const FactoredMatrix read = kind == CompositionKind::kQ   ? later.QK()
                                      : kind == CompositionKind::kK ? later.QK().Transposed()
                                                                    : later.OV();
          row.push_back(Composition(earlier.OV(), read));
        }
      }
    }
  }
  return table;
}

}  // namespace residual
