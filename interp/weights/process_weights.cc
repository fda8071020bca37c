#include "interp/weights/process_weights.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// Which parameters of a mixer read the stream and which write to it, with their biases.
struct Side {
  const char* weight;
  const char* bias;  // nullptr: never has one
};
struct MixerSides {
  const char* mixer;
  std::vector<Side> reads;
  Side writes;
};
const std::vector<MixerSides>& Mixers() {
  static const auto* mixers = new std::vector<MixerSides>{
      {"attn", {{"W_Q", "b_Q"}, {"W_K", "b_K"}, {"W_V", "b_V"}}, {"W_O", "b_O"}},
      {"mlp", {{"W_in", "b_in"}, {"W_gate", nullptr}}, {"W_out", "b_out"}}};
  return *mixers;
}

const MixerSides* SidesOf(const std::string& mixer) {
  for (const MixerSides& sides : Mixers()) {
    if (mixer == sides.mixer) return &sides;
  }
  return nullptr;
}

// x [rows, columns] in double; what the arithmetic below works on.
struct Matrix {
  std::vector<double> x;
  int64_t rows = 0, columns = 0;
  double& at(int64_t r, int64_t c) { return x[r * columns + c]; }
};

// Subtracts from every column its mean over the rows, or from every row its mean over the columns.
void CenterColumns(Matrix& m) {
  std::vector<double> mean(m.columns);
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.columns; ++c) mean[c] += m.at(r, c) / m.rows;
  }
  for (int64_t r = 0; r < m.rows; ++r) {
    for (int64_t c = 0; c < m.columns; ++c) m.at(r, c) -= mean[c];
  }
}
void CenterRows(Matrix& m) {
  for (int64_t r = 0; r < m.rows; ++r) {
    double mean = 0;
    for (int64_t c = 0; c < m.columns; ++c) mean += m.at(r, c) / m.columns;
    for (int64_t c = 0; c < m.columns; ++c) m.at(r, c) -= mean;
  }
}

class Processor {
 public:
  explicit Processor(ResidualModel& model) : model_(model), dtype_(model.dtype()) {
    for (const Parameter& p : Parameters(model)) parameters_.emplace(p.name, p);
  }

  bool Has(const std::string& name) const { return parameters_.count(name) > 0; }

  // The parameter with its first axes (`lead` of them) as rows.
  Matrix Read(const std::string& name, int lead) const {
    const Parameter& p = parameters_.at(name);
    Matrix m;
    m.x = p.value->ToDoubles();
    m.rows = p.shape.elements(0, lead);
    m.columns = p.shape.elements(lead, p.shape.rank());
    return m;
  }
  void Write(const std::string& name, const Matrix& m) {
    const Parameter& p = parameters_.at(name);
    *p.value = ConvertTo(Tensor::Of<double>(p.shape, m.x), dtype_);
  }
  // Rows are all axes but the last, d_model.
  void CenterOutputs(const std::string& name) {
    if (!Has(name)) return;
    Matrix m = Read(name, parameters_.at(name).shape.rank() - 1);
    CenterRows(m);
    Write(name, m);
  }

  // Moves the norm's gain and bias into one matrix that reads it, [d_model, ...].
  void FoldInto(const std::string& norm, bool centre, const std::string& weight,
                const std::string& bias) {
    const Matrix w = Read(norm + ".w", 1);
    Matrix matrix = Read(weight, 1);
    if (Has(norm + ".b") && Has(bias)) {
      const Matrix b = Read(norm + ".b", 1);
      Matrix sum = Read(bias, 0);
      for (int64_t r = 0; r < matrix.rows; ++r) {
        for (int64_t c = 0; c < matrix.columns; ++c) sum.x[c] += b.x[r] * matrix.at(r, c);
      }
      Write(bias, sum);
    }
    for (int64_t r = 0; r < matrix.rows; ++r) {
      for (int64_t c = 0; c < matrix.columns; ++c) matrix.at(r, c) *= w.x[r];
    }
    if (centre) CenterColumns(matrix);
    Write(weight, matrix);
  }
  void Reset(const std::string& norm) {
    *parameters_.at(norm + ".w").value = Tensor::Full({model_.d_model()}, 1, dtype_);
    if (Has(norm + ".b")) *parameters_.at(norm + ".b").value = Zeros(norm + ".b");
  }

  // b_O += sum_h b_V[h] W_O[h]; with grouped queries a value head serves several heads.
  void FoldValueBias(const std::string& attention) {
    const std::string b_V = attention + "b_V", b_O = attention + "b_O";
    if (!Has(b_V)) return;
    const Matrix values = Read(b_V, 1);
    const Shape& shape = parameters_.at(attention + "W_O").shape;  // [n_heads, d_head, d_model]
    Matrix W_O = Read(attention + "W_O", 2), sum = Read(b_O, 1);
    const int64_t group = shape[0] / values.rows;
    for (int64_t h = 0; h < shape[0]; ++h) {
      for (int64_t d = 0; d < shape[1]; ++d) {
        const double value = values.x[h / group * shape[1] + d];
        for (int64_t k = 0; k < shape[2]; ++k) sum.x[k] += value * W_O.at(h * shape[1] + d, k);
      }
    }
    Write(b_O, sum);
    *parameters_.at(b_V).value = Zeros(b_V);
  }

  bool IsZero(const std::string& name) const {
    const std::vector<double> x = parameters_.at(name).value->ToDoubles();
    return std::all_of(x.begin(), x.end(), [](double value) { return value == 0; });
  }

 private:
  Tensor Zeros(const std::string& name) const {
    return Tensor::Zeros(parameters_.at(name).shape, dtype_);
  }

  ResidualModel& model_;
  DType dtype_;
  std::map<std::string, Parameter> parameters_;
};

std::string MixerPrefix(int layer, const Branch& branch) {
  return absl::StrCat("blocks.", layer, ".", branch.name, ".");
}

absl::Status CheckFoldable(const ResidualModel& model, const Processor& weights) {
  const Positions positions = model.embed().options().positions;
  if (positions == Positions::kShortformer || positions == Positions::kSinusoidalOnQK) {
    return absl::UnimplementedError(
        "norms cannot be folded: positions are added to what queries and keys read, after the "
        "norm");
  }
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    const Block& block = model.block(layer);
    for (const Branch& branch : block.branches()) {
      if (branch.norm.kind() == NormKind::kNone) continue;
      if (block.placement() != NormPlacement::kPre) {
        return absl::UnimplementedError("norms cannot be folded: they stand after the mixers");
      }
      const std::string norm = absl::StrCat("blocks.", layer, ".", branch.norm_name, ".b");
      if (!weights.Has(norm) || weights.IsZero(norm)) continue;
      for (const Side& read : SidesOf(branch.name)->reads) {
        const std::string prefix = MixerPrefix(layer, branch);
        if (!weights.Has(prefix + read.weight)) continue;
        if (read.bias == nullptr || !weights.Has(prefix + read.bias)) {
          return absl::UnimplementedError(absl::StrCat("the norm's bias '", norm,
                                                       "' cannot be folded: '", prefix, read.weight,
                                                       "' reads it and has no bias"));
        }
      }
    }
  }
  return absl::OkStatus();
}

void FoldNorms(ResidualModel& model, Processor& weights) {
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    for (const Branch& branch : model.block(layer).branches()) {
      if (branch.norm.kind() == NormKind::kNone) continue;
      const std::string norm = absl::StrCat("blocks.", layer, ".", branch.norm_name);
      const std::string prefix = MixerPrefix(layer, branch);
      for (const Side& read : SidesOf(branch.name)->reads) {
        if (!weights.Has(prefix + read.weight)) continue;
        weights.FoldInto(norm, branch.norm.kind() == NormKind::kLayerNorm, prefix + read.weight,
                         read.bias == nullptr ? "" : prefix + read.bias);
      }
      weights.Reset(norm);
    }
  }
  const NormKind last = model.ln_final().kind();
  if (last == NormKind::kNone) return;
  weights.FoldInto("ln_final", last == NormKind::kLayerNorm, "unembed.W_U", "unembed.b_U");
  weights.Reset("ln_final");
}

// Every reader of the stream takes the mean away.
bool AllLayerNorms(const ResidualModel& model) {
  if (model.ln_final().kind() != NormKind::kLayerNorm) return false;
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    const Block& block = model.block(layer);
    if (block.placement() != NormPlacement::kPre) return false;
    for (const Branch& branch : block.branches()) {
      if (branch.norm.kind() != NormKind::kLayerNorm) return false;
    }
  }
  return true;
}

}  // namespace

absl::Status ProcessWeights(ResidualModel& model, const ProcessOptions& options) {
  for (int layer = 0; layer < model.n_layers(); ++layer) {
    for (const Branch& branch : model.block(layer).branches()) {
      if (SidesOf(branch.name) == nullptr) {
        return absl::UnimplementedError(absl::StrCat("weights of the mixer 'blocks.", layer, ".",
                                                     branch.name, "' cannot be processed"));
      }
    }
  }
  if (options.fold_norms) RESIDUAL_RETURN_IF_ERROR(CheckFoldable(model, Processor(model)));
  model.SeparateUnembed();
  Processor weights(model);
  if (options.fold_norms) FoldNorms(model, weights);
  if (options.center_writing_weights && AllLayerNorms(model)) {
    weights.CenterOutputs("embed.W_E");
    if (model.embed().positions_on_stream()) weights.CenterOutputs("pos_embed.W_pos");
    for (int layer = 0; layer < model.n_layers(); ++layer) {
      for (const Branch& branch : model.block(layer).branches()) {
        const Side& writes = SidesOf(branch.name)->writes;
        weights.CenterOutputs(MixerPrefix(layer, branch) + writes.weight);
        weights.CenterOutputs(MixerPrefix(layer, branch) + writes.bias);
      }
    }
  }
  if (options.center_unembed) {
    weights.CenterOutputs("unembed.W_U");
    weights.CenterOutputs("unembed.b_U");
  }
  if (options.fold_value_biases) {
    for (int layer = 0; layer < model.n_layers(); ++layer) {
      for (const Branch& branch : model.block(layer).branches()) {
        if (std::string(branch.name) == "attn") weights.FoldValueBias(MixerPrefix(layer, branch));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace residual
