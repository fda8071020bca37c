#include "interp/circuits/head_circuits.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ops/matmul/matmul.h"
#include "tensor/base/parallel.h"
#include "tensor/core/first_nan.h"

namespace residual {
namespace {

// A tensor as [rows, the rest].
RowMatrix ToMatrix(const Tensor& x, int64_t rows) {
  RowMatrix matrix(rows, x.elements() / std::max<int64_t>(rows, 1));
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* from = x.data<T>();
    for (int64_t i = 0; i < x.elements(); ++i) matrix.data()[i] = ToDouble(from[i]);
  });
  return matrix;
}

Tensor ToTensor(const RowMatrix& x, DType dtype) {
  return ConvertTo(Tensor::Wrap(x.data(), {x.rows(), x.cols()}, kF64, [] {}), dtype);
}

Tensor Times(const Tensor& a, const Tensor& b, bool transpose_a, bool transpose_b) {
  MatMulOptions options;
  options.transpose_a = transpose_a;
  options.transpose_b = transpose_b;
  return MatMul(a, b, options);
}

class Weights {
 public:
  explicit Weights(const ResidualModel& model) {
    for (const Parameter& parameter : Parameters(const_cast<ResidualModel&>(model))) {
      if (absl::StartsWith(parameter.name, "blocks.") &&
          absl::StrContains(parameter.name, ".attn.W_")) {
        parameters_.emplace(parameter.name, parameter);
      }
    }
  }
  // [n_heads, d_model, d_head] as on disk: a head is then a row of the leading axis. Undefined if
  // there is none.
  Tensor Find(const std::string& name) const {
    const auto found = parameters_.find(name);
    return found == parameters_.end() ? Tensor() : ToDisk(found->second, *found->second.value);
  }

 private:
  absl::flat_hash_map<std::string, Parameter> parameters_;
};

// What the norm before a read does to the weight [d_model, n] that reads.
RowMatrix Fold(const Norm& norm, RowMatrix weight) {
  if (norm.kind() == NormKind::kNone) return weight;
  weight.array().colwise() *= ToMatrix(norm.w(), norm.w().elements()).col(0).array();
  if (norm.kind() == NormKind::kLayerNorm) {
    const Eigen::RowVectorXd mean = weight.colwise().mean();
    weight.rowwise() -= mean;
  }
  return weight;
}

void CentreRows(RowMatrix& x) {
  const Eigen::VectorXd mean = x.rowwise().mean();
  x.colwise() -= mean;
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

Vocabulary::Vocabulary(const ResidualModel& model, bool process_weights, bool centre_embed)
    : W_E_(ConvertTo(model.embed().W_E(), model.dtype() == kF64 ? kF64 : kF32)),
      tied_(model.unembed().options().tied),
      centre_embed_(centre_embed),
      centre_vocabulary_(process_weights) {
  W_U_ = tied_ ? W_E_ : ConvertTo(model.unembed().W_U(), W_E_.dtype());
  const Norm& norm = model.ln_final();
  if (process_weights && norm.kind() != NormKind::kNone) {
    gain_ = ToMatrix(norm.w(), 1);
    centre_read_ = norm.kind() == NormKind::kLayerNorm;
  }
}

// x times what the final norm does to W_U before it reads: centre, then gain.
RowMatrix Vocabulary::Folded(RowMatrix x) const {
  if (centre_read_) CentreRows(x);
  if (gain_.size() > 0) x.array().rowwise() *= gain_.row(0).array();
  return x;
}

Tensor Vocabulary::Embed(const RowMatrix& x) const {
  RowMatrix centred = x;
  if (centre_embed_) {
    const Eigen::RowVectorXd mean = centred.colwise().mean();
    centred.rowwise() -= mean;
  }
  return Times(W_E_, ToTensor(centred, dtype()), false, false);
}

Tensor Vocabulary::Unembed(const RowMatrix& x) const {
  Tensor logits = Times(ToTensor(Folded(x), dtype()), W_U_, false, tied_);
  if (!centre_vocabulary_) return logits;
  VisitDType(dtype(), [&](auto tag) {
    using T = decltype(tag);
    const int64_t n = size();
    T* rows = logits.mutable_data<T>();
    ParallelFor(logits.dim(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < n; ++j) sum += ToDouble(rows[i * n + j]);
        const double mean = sum / static_cast<double>(n);
        for (int64_t j = 0; j < n; ++j) {
          rows[i * n + j] = FromDouble<T>(ToDouble(rows[i * n + j]) - mean);
        }
      }
    });
  });
  return logits;
}

RowMatrix Vocabulary::EmbedGram() const {
  RowMatrix gram = ToMatrix(Times(W_E_, W_E_, true, false), W_E_.dim(1));
  if (centre_embed_) {
    CentreRows(gram);
    const Eigen::RowVectorXd mean = gram.colwise().mean();
    gram.rowwise() -= mean;
  }
  return gram;
}

RowMatrix Vocabulary::UnembedTimesEmbed() const {
  const int64_t d_model = W_E_.dim(1);
  RowMatrix product = ToMatrix(Times(W_U_, W_E_, tied_, false), d_model);
  if (centre_vocabulary_) {
    // Of every column of W_U^T its mean: (W_U 1) (1^T W_E) / size less.
    const Tensor ones = Tensor::Full({1, size()}, 1, dtype());
    const RowMatrix embed_sum = ToMatrix(Times(ones, W_E_, false, false), 1);
    const RowMatrix unembed_sum = ToMatrix(Times(ones, W_U_, false, !tied_), 1);
    product -= unembed_sum.transpose() * embed_sum / static_cast<double>(size());
  }
  // The rows of W_U as they are read: gain, then centred.
  if (gain_.size() > 0) product.array().colwise() *= gain_.row(0).transpose().array();
  if (centre_read_) {
    const Eigen::RowVectorXd mean = product.colwise().mean();
    product.rowwise() -= mean;
  }
  if (centre_embed_) CentreRows(product);
  return product;
}

RowMatrix Vocabulary::W_E() const {
  RowMatrix matrix = ToMatrix(W_E_, size());
  if (centre_embed_) CentreRows(matrix);
  return matrix;
}

RowMatrix Vocabulary::W_U() const {
  const int64_t d_model = W_E_.dim(1);
  RowMatrix matrix = ToMatrix(W_U_, W_U_.dim(0));
  if (tied_) matrix = RowMatrix(matrix.transpose());
  if (gain_.size() > 0) matrix.array().colwise() *= gain_.row(0).transpose().array();
  if (centre_read_) {
    const Eigen::RowVectorXd mean = matrix.colwise().mean();
    matrix.rowwise() -= mean;
  }
  if (centre_vocabulary_) CentreRows(matrix);
  RESIDUAL_CHECK_EQ(matrix.rows(), d_model);
  return matrix;
}

absl::StatusOr<HeadCircuits> ReadHeadCircuits(const ResidualModel& model, bool process_weights) {
  const Weights weights(model);
  const int64_t d_model = model.d_model();
  const bool centre = process_weights && EveryReaderCentres(model);
  HeadCircuits circuits;
  circuits.d_model = d_model;
  bool any = false;
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    auto& heads = circuits.heads.emplace_back();
    const std::string attn = absl::StrCat("blocks.", layer, ".attn.");
    const Tensor W_Q = weights.Find(attn + "W_Q"), W_K = weights.Find(attn + "W_K"),
                 W_V = weights.Find(attn + "W_V"), W_O = weights.Find(attn + "W_O");
    const Branch* branch = AttentionOf(model.block(layer));
    if (branch == nullptr || !W_Q.defined()) continue;
    for (const auto& [weight, name] : {std::make_pair(W_Q, "W_Q"), std::make_pair(W_K, "W_K"),
                                       std::make_pair(W_V, "W_V"), std::make_pair(W_O, "W_O")}) {
      if (!FirstNaN(weight).has_value()) continue;
      return absl::FailedPreconditionError(absl::StrCat("'", attn, name, "' holds NaN"));
    }
    any = true;
    const bool fold = process_weights && model.block(layer).placement() == NormPlacement::kPre;
    auto read = [&](const Tensor& weight, int64_t head) {
      RowMatrix matrix = ToMatrix(weight.Row(head), d_model);
      return fold ? Fold(branch->norm, std::move(matrix)) : matrix;
    };
    const int64_t n_heads = W_Q.dim(0), group = n_heads / W_K.dim(0);
    heads.resize(n_heads);
    ParallelFor(n_heads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t h = begin; h < end; ++h) {
        HeadCircuits::Head& head = heads[h];
        head.W_Q = read(W_Q, h);
        head.W_K = read(W_K, h / group);
        head.W_V = read(W_V, h / group);
        head.W_O = ToMatrix(W_O.Row(h), W_O.dim(1));
        if (centre) CentreRows(head.W_O);
      }
    });
  }
  if (!any) return absl::NotFoundError("the model has no attention heads (blocks.*.attn.W_Q)");
  circuits.vocabulary = Vocabulary(model, process_weights, centre);
  return circuits;
}

}  // namespace residual
