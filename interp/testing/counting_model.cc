#include "interp/testing/counting_model.h"

#include <utility>

#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"

namespace residual {
namespace {

constexpr int64_t kModel = 6, kVocab = 9, kCtx = 16;

class CountingMixer : public Mixer {
 public:
  // It sums over positions, so it has a state; one that is only ever made for a whole run.
  struct State : MixerState {
    int64_t batch = 0;
    Tensor sum;
    std::unique_ptr<MixerState> Fork() const override { return std::make_unique<State>(*this); }
    absl::Status RollBack(int64_t) override {
      return absl::UnimplementedError("a sum cannot be rolled back");
    }
    std::unique_ptr<MixerState> Select(absl::Span<const int64_t> rows) const override {
      auto selected = std::make_unique<State>(*this);
      std::vector<Tensor> parts;
      for (const int64_t row : rows) parts.push_back(sum.Rows(row, row + 1));
      if (sum.defined()) selected->sum = Concat(parts, 0);
      return selected;
    }
    size_t bytes() const override { return sum.defined() ? sum.bytes() : 0; }
    void Save(StateWriter& writer) const override { writer.Write("sum", sum); }
    absl::Status Load(int64_t rows, int64_t, StateReader& reader) override {
      batch = rows;
      const auto loaded = reader.ReadFloats("sum", {rows, 1, kModel});
      if (loaded.ok()) sum = *loaded;
      return loaded.status();
    }
  };

  explicit CountingMixer(int* count) : count_(count) {}
  void Describe(Visitor& v) override {}
  std::unique_ptr<MixerState> NewState(int64_t batch) const override {
    return std::make_unique<State>();
  }
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override {
    ++*count_;
    auto* const past = static_cast<State*>(state);
    Tensor sum = past != nullptr && past->sum.defined()
                     ? past->sum
                     : Tensor::Zeros({x.dim(0), 1, kModel}, x.dtype());
    std::vector<Tensor> means;
    for (int64_t i = 0; i < x.dim(1); ++i) {
      sum = Add(sum, Slice(x, 1, i, i + 1));
      means.push_back(Scale(sum, 1.0 / static_cast<double>(context.past + i + 1)));
    }
    if (past != nullptr) past->sum = sum;
    return Tanh(Concat(means, 1));
  }

 private:
  int* count_;
};

}  // namespace

std::unique_ptr<ResidualModel> CountingModel(int n_layers, std::vector<int>* counts) {
  counts->assign(n_layers, 0);
  EmbedOptions embed;
  embed.d_vocab = kVocab;
  embed.d_model = kModel;
  embed.n_ctx = kCtx;
  embed.init_scale = 1;
  std::vector<Block> blocks;
  for (int i = 0; i < n_layers; ++i) {
    std::vector<Branch> branches;
    branches.push_back(
        {"mixer", "ln1", "hook_mixer_out", std::make_unique<CountingMixer>(&(*counts)[i]), Norm()});
    blocks.emplace_back(std::move(branches), NormPlacement::kPre, false, 0);
  }
  UnembedOptions unembed;
  unembed.d_vocab = kVocab;
  unembed.d_model = kModel;
  auto model = std::make_unique<ResidualModel>(Embed(embed), std::move(blocks),
                                               Norm(NormKind::kLayerNorm, kModel, 1e-5),
                                               Unembed(unembed), kCtx);
  Initialize(*model, 3, kF64);
  return model;
}

}  // namespace residual
