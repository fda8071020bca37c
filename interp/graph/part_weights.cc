#include "interp/graph/part_weights.h"

#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "models/nn/module.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "ops/matmul/matmul.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

// Rows `heads` of a tensor of all heads; itself, if these are all of them in order.
Tensor OfHeads(const Tensor& x, const std::vector<int64_t>& heads) {
  std::vector<int64_t> all(x.dim(0));
  std::iota(all.begin(), all.end(), int64_t{0});
  if (heads == all) return x;
  return GatherRows(x, Tensor::Of<int64_t>({static_cast<int64_t>(heads.size())}, heads));
}

}  // namespace

PartWeights::PartWeights(const Mixer& mixer, const std::string& part) {
  const std::string name = absl::AsciiStrToUpper(part);
  for (const Parameter& p : Parameters(const_cast<Mixer&>(mixer))) {
    const auto value = [&p] { return p.weight != nullptr ? p.weight->Dense() : *p.value; };
    if (p.name == absl::StrCat("W_", name)) weight_ = ToDisk(p, value());
    if (p.name == absl::StrCat("b_", name)) bias_ = value();
  }
  RESIDUAL_CHECK(weight_.defined() && weight_.rank() == 3)
      << "'" << part << "' is read in heads, and its mixer has no W_" << name
      << " [d_model, heads, d_head]";
  if (bias_.defined()) bias_ = bias_.Reshaped({bias_.dim(0), 1, bias_.dim(1)});
}

Tensor PartWeights::Make(const Tensor& reads, const std::vector<int64_t>& heads) const {
  const int64_t n = reads.dim(0), rows = reads.dim(1) * reads.dim(2), d_head = weight_.dim(2);
  Tensor made = MatMul(reads.Reshaped({n, rows, reads.dim(3)}), OfHeads(weight_, heads));
  if (bias_.defined()) made = Add(made, BroadcastTo(OfHeads(bias_, heads), {n, rows, d_head}));
  return made.Reshaped({n, reads.dim(1), reads.dim(2), d_head});
}

Tensor PartWeights::Back(const Tensor& gradient) const {
  const int64_t batch = gradient.dim(0), pos = gradient.dim(1), heads = gradient.dim(2);
  MatMulOptions options;
  options.transpose_b = true;
  return MatMul(Permute(gradient, {2, 0, 1, 3}).Reshaped({heads, batch * pos, gradient.dim(3)}),
                weight_, options)
      .Reshaped({heads, batch, pos, weight_.dim(1)});
}

}  // namespace residual
