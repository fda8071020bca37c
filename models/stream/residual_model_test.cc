#include "models/stream/residual_model.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/matmul/matmul.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int64_t kVocab = 7, kModel = 4, kCtx = 9;

// The running sum of the stream: a recurrent mixer whose past cannot be rolled back.
class RunningSum : public Mixer {
 public:
  struct State : MixerState {
    explicit State(int64_t batch) : sum(Tensor::Zeros({batch, 1, kModel}, kF64)) {}
    Tensor sum;
    std::unique_ptr<MixerState> Fork() const override { return std::make_unique<State>(*this); }
    absl::Status RollBack(int64_t) override {
      return absl::UnimplementedError("a sum cannot be rolled back");
    }
    std::unique_ptr<MixerState> Select(absl::Span<const int64_t> rows) const override {
      auto selected = std::make_unique<State>(*this);
      std::vector<Tensor> parts;
      for (int64_t row : rows) parts.push_back(sum.Rows(row, row + 1));
      selected->sum = Concat(parts, 0);
      return selected;
    }
    size_t bytes() const override { return sum.bytes(); }
    void Save(StateWriter& writer) const override { writer.Write("sum", sum); }
    absl::Status Load(int64_t batch, int64_t length, StateReader& reader) override {
      const auto loaded = reader.ReadFloats("sum", {batch, 1, kModel});
      if (loaded.ok()) sum = *loaded;
      return loaded.status();
    }
  };

  void Describe(Visitor& v) override {}
  std::unique_ptr<MixerState> NewState(int64_t batch) const override {
    return std::make_unique<State>(batch);
  }
  Tensor Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                 const Scope& hook) const override {
    Tensor sum = Tensor::Zeros({x.dim(0), 1, kModel}, kF64);
    if (state != nullptr) sum = static_cast<State*>(state)->sum;
    std::vector<Tensor> sums;
    for (int64_t i = 0; i < x.dim(1); ++i) {
      sum = Add(sum, Slice(x, 1, i, i + 1));
      sums.push_back(sum);
    }
    if (state != nullptr) static_cast<State*>(state)->sum = sum;
    return Concat(sums, 1);
  }
};

std::unique_ptr<ResidualModel> Make(Positions positions, bool tied, int n_layers = 2) {
  EmbedOptions embed;
  embed.d_vocab = kVocab;
  embed.d_model = kModel;
  embed.n_ctx = kCtx;
  embed.positions = positions;
  embed.init_scale = 1;
  std::vector<Block> blocks;
  for (int i = 0; i < n_layers; ++i) {
    std::vector<Branch> branches;
    branches.push_back({"mixer", "ln1", "hook_mixer_out", std::make_unique<RunningSum>(), Norm()});
    blocks.emplace_back(std::move(branches), NormPlacement::kPre, false, 0);
  }
  UnembedOptions unembed;
  unembed.d_vocab = kVocab;
  unembed.d_model = kModel;
  unembed.tied = tied;
  auto model = std::make_unique<ResidualModel>(Embed(embed), std::move(blocks),
                                               Norm(NormKind::kLayerNorm, kModel, 1e-5),
                                               Unembed(unembed), kCtx);
  Initialize(*model, 3, kF64);
  return model;
}

const Tensor& Tokens() {
  static const auto* tokens =
      new Tensor(Tensor::Of<int64_t>({2, 5}, {0, 6, 3, 3, 1, 2, 2, 5, 4, 0}));
  return *tokens;
}

TEST(SinusoidalRowsTest, AreThePapers) {
  const Tensor rows = SinusoidalRows(Tensor::Of<int64_t>({2, 2}, {0, 1, 7, 100000}), 5, kF64);
  ASSERT_EQ(rows.shape(), Shape({2, 2, 5}));
  const double* x = rows.data<double>();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(x[i], i % 2);  // position 0: sin 0, cos 0
  EXPECT_DOUBLE_EQ(x[5], std::sin(1.0));
  EXPECT_DOUBLE_EQ(x[6], std::cos(1.0));
  EXPECT_DOUBLE_EQ(x[10 + 2], std::sin(7 * std::pow(10000, -2.0 / 5)));
  EXPECT_DOUBLE_EQ(x[15 + 3], std::cos(100000 * std::pow(10000, -2.0 / 5)));
  EXPECT_DOUBLE_EQ(x[15 + 4], std::sin(100000 * std::pow(10000, -4.0 / 5)));
  const Tensor single = SinusoidalRows(Tensor::Of<int64_t>({1}, {7}), 5);
  EXPECT_EQ(single.data<float>()[2], static_cast<float>(x[10 + 2]));
}

TEST(ResidualModelTest, IsItsThreeParts) {
  for (const Positions positions :
       {Positions::kNone, Positions::kLearned, Positions::kSinusoidal, Positions::kShortformer}) {
    const auto model = Make(positions, false);
    const ModelInput input{Tokens()};
    const MixerContext context = model->MakeContext(input);
    Tensor resid = model->EmbedTokens(input, context, Scope());
    Tensor want = Tensor::Zeros({2, 5, kModel}, kF64);
    double* w = want.mutable_data<double>();
    for (int64_t i = 0; i < 10; ++i) {
      for (int64_t k = 0; k < kModel; ++k) {
        w[i * kModel + k] =
            model->embed().W_E().data<double>()[Tokens().data<int64_t>()[i] * kModel + k];
        if (positions == Positions::kLearned) {
          w[i * kModel + k] += model->embed().W_pos().data<double>()[i % 5 * kModel + k];
        } else if (positions == Positions::kSinusoidal) {
          w[i * kModel + k] +=
              SinusoidalRows(context.positions, kModel, kF64).data<double>()[i % 5 * kModel + k];
        }
      }
    }
    ExpectIdentical(resid, want, "embedding");
    resid = model->Stream(resid, {0, 1}, context, nullptr, Scope());
    resid = model->Stream(resid, {1, 2}, context, nullptr, Scope());
    const Tensor logits = model->UnembedStream(resid, Scope());
    ExpectIdentical(model->Forward(input), logits, "logits");
    const Tensor normed = model->ln_final().Forward(resid, Scope());
    ExpectClose(logits, Add(MatMul(normed, model->UnembedMatrix()), model->unembed().b_U()), 100,
                "unembedding");
  }
}

TEST(ModelInputTest, RowsInAnyOrder) {
  ModelInput input{Tensor::Of<int64_t>({2, 2}, {1, 2, 3, 4})};
  input.attention_mask = Tensor::Of<bool>({2, 2}, {false, true, true, true});
  input.positions = Tensor::Of<int64_t>({2, 2}, {0, 0, 5, 6});
  input.segments = Tensor::Of<int64_t>({2, 2}, {0, 1, 2, 2});
  const ModelInput rows = SelectRows(input, {1, 0, 1});
  EXPECT_EQ(rows.tokens.ToDoubles(), (std::vector<double>{3, 4, 1, 2, 3, 4}));
  EXPECT_EQ(rows.attention_mask.ToDoubles(), (std::vector<double>{1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(rows.positions.ToDoubles(), (std::vector<double>{5, 6, 0, 0, 5, 6}));
  EXPECT_EQ(rows.segments.ToDoubles(), (std::vector<double>{2, 2, 0, 1, 2, 2}));
  input.positions = Tensor::Of<int64_t>({2}, {7, 8});  // of all rows
  EXPECT_EQ(SelectRows(input, {1}).positions.ToDoubles(), (std::vector<double>{7, 8}));
}

TEST(ResidualModelTest, ATiedOutputIsTheEmbedding) {
  const auto model = Make(Positions::kNone, true);
  for (const Parameter& p : Parameters(*model)) EXPECT_NE(p.name, "unembed.W_U");
  ExpectIdentical(model->UnembedMatrix(), Transpose(model->embed().W_E(), 0, 1), "W_U");
  const Tensor logits = model->Forward({Tokens()});
  EXPECT_EQ(logits.shape(), Shape({2, 5, kVocab}));
  model->SeparateUnembed();
  ExpectClose(model->Forward({Tokens()}), logits, 100, "logits");
  EXPECT_EQ(model->unembed().W_U().shape(), Shape({kModel, kVocab}));
  EXPECT_EQ(Parameters(*model).back().name, "unembed.b_U");
}

TEST(ResidualModelTest, DirectionsOfTokensAreColumnsOfTheUnembedding) {
  for (const bool tied : {false, true}) {
    const auto model = Make(Positions::kNone, tied);
    const Tensor rows = Transpose(model->UnembedMatrix(), 0, 1);
    const Tensor got = model->UnembedDirections({6, 0, 6});
    ExpectIdentical(got, Concat({rows.Rows(6, 7), rows.Rows(0, 1), rows.Rows(6, 7)}, 0), "rows");
  }
}

TEST(ResidualModelTest, TheStreamOfTheLastPositionsAlone) {
  const auto model = Make(Positions::kLearned, false);
  const ModelInput input{Tokens()};
  const MixerContext context = model->MakeContext(input);
  const Tensor resid = model->EmbedTokens(input, context, Scope());
  const Tensor all = model->Stream(resid, {0, 2}, context, nullptr, Scope());
  ExpectIdentical(model->Stream(resid, {0, 2}, context, nullptr, Scope(), 2), Slice(all, 1, 3, 5),
                  "the last two");
  // Not the last block: all positions.
  EXPECT_EQ(model->Stream(resid, {0, 1}, context, nullptr, Scope(), 2).dim(1), 5);
}

TEST(ResidualModelTest, ListsPositionsWhereThereAreSome) {
  const auto names = [](Positions positions, bool parameters) {
    const auto model = Make(positions, false, 0);
    std::string names;
    if (parameters) {
      for (const Parameter& p : Parameters(*model)) names += p.name + " ";
    } else {
      for (const DeclaredHook& hook : HookPoints(*model)) names += hook.name + " ";
    }
    return names;
  };
  EXPECT_EQ(names(Positions::kNone, true),
            "embed.W_E ln_final.w ln_final.b unembed.W_U unembed.b_U ");
  EXPECT_EQ(names(Positions::kSinusoidal, true), names(Positions::kNone, true));
  EXPECT_EQ(names(Positions::kShortformer, true),
            "embed.W_E pos_embed.W_pos ln_final.w ln_final.b unembed.W_U unembed.b_U ");
  EXPECT_EQ(names(Positions::kRotary, false),
            "hook_embed ln_final.hook_in ln_final.hook_scale ln_final.hook_normalized "
            "ln_final.hook_out hook_unembed ");
  EXPECT_EQ(names(Positions::kSinusoidalOnQK, false).substr(0, 25), "hook_embed hook_pos_embed");
}

// A state of any mixer: splits, forks, selections; and a mixer that cannot go back says so.
TEST(ModelStateTest, WorksForRecurrentMixers) {
  const auto model = Make(Positions::kLearned, false);
  const Tensor whole = model->Forward({Tokens()});
  ModelState state = model->NewState(2);
  EXPECT_EQ(state.length(), 0);
  EXPECT_EQ(state.bytes(), 2u * 2 * kModel * 8);
  model->Forward({Slice(Tokens(), 1, 0, 2)}, &state);
  ModelState fork = state.Fork();
  const std::vector<int64_t> swap = {1, 0};
  ModelState swapped = state.Select(swap);
  ExpectClose(model->Forward({Slice(Tokens(), 1, 2, 5)}, &state), Slice(whole, 1, 2, 5), 100, "on");
  EXPECT_EQ(state.length(), 5);
  EXPECT_EQ(fork.length(), 2);
  ExpectClose(model->Forward({Slice(Tokens(), 1, 2, 5)}, &fork), Slice(whole, 1, 2, 5), 100,
              "fork");
  const Tensor other = Concat({Tokens().Rows(1, 2), Tokens().Rows(0, 1)}, 0);
  ExpectClose(model->Forward({Slice(other, 1, 2, 5)}, &swapped),
              Slice(Concat({whole.Rows(1, 2), whole.Rows(0, 1)}, 0), 1, 2, 5), 100, "swapped");
  EXPECT_EQ(state.RollBack(3).code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(state.length(), 5);
  EXPECT_EQ(state.RollBack(6).message(), "cannot roll back to 6 tokens: the state has seen 5");
  EXPECT_EQ(state.RollBack(-1).code(), absl::StatusCode::kInvalidArgument);
}

std::string Message(const ResidualModel& model, const ModelInput& input,
                    const ModelState* state = nullptr) {
  return std::string(model.Validate(input, state).message());
}

TEST(ResidualModelTest, ValidatesWhatComesFromOutside) {
  const auto model = Make(Positions::kLearned, false);
  ModelInput input{Tokens()};
  EXPECT_EQ(Message(*model, input), "");
  EXPECT_EQ(Message(*model, {Tensor::Of<int32_t>({1, 2}, {0, 7})}),
            "token 7 at row 0, position 1 is outside the vocabulary of 7");
  EXPECT_EQ(Message(*model, {Tensor()}), "tokens are undefined, expected i64 or i32 [batch, pos]");
  EXPECT_EQ(Message(*model, {Tensor::Zeros({1, 2})}),
            "tokens are f32[1, 2], expected i64 or i32 [batch, pos]");
  EXPECT_EQ(Message(*model, {Tensor::Zeros({0, 2}, kI64)}),
            "tokens are i64[0, 2]: empty, expected at least one token");
  EXPECT_EQ(Message(*model, {Tensor::Zeros({1, 10}, kI64)}),
            "10 tokens, longer than the model's context of 9");
  ModelState state = model->NewState(2);
  model->Forward({Tokens()}, &state);
  EXPECT_EQ(Message(*model, input, &state), "10 tokens, longer than the model's context of 9");
  input.positions = Tensor::Of<int64_t>({5}, {0, 1, 2, 9, 3});
  EXPECT_EQ(Message(*model, input), "position 9 is outside the context of 9");
  input.positions = Tensor::Zeros({4}, kI64);
  EXPECT_EQ(Message(*model, input), "positions are i64[4], expected i64 [pos] or [batch, pos]");
  input.positions = Tensor();
  input.attention_mask = Tensor::Zeros({2, 5});
  EXPECT_EQ(Message(*model, input), "attention_mask is f32[2, 5], expected bool[2, 5]");
  input.attention_mask = Tensor();
  input.segments = Tensor::Zeros({5}, kI64);
  EXPECT_EQ(Message(*model, input), "segments are i64[5], expected i64[2, 5]");
  input.segments = Tensor::Zeros({2, 5}, kI64);
  EXPECT_EQ(Message(*model, input), "");
  const ModelState empty = model->NewState(2);
  EXPECT_EQ(Message(*model, input, &empty),
            "segments were given with a state, expected a run of whole sequences");
}

TEST(ResidualModelTest, PositionsRestartWithEverySegment) {
  const auto model = Make(Positions::kLearned, false);
  ModelInput input{Tokens()};
  input.segments = Tensor::Of<int64_t>({2, 5}, {0, 0, 1, 1, 1, 3, 2, 2, 2, 3});
  const Tensor positions = model->MakeContext(input).positions;
  ExpectIdentical(positions, Tensor::Of<int64_t>({2, 5}, {0, 1, 0, 1, 2, 0, 0, 1, 2, 0}), "p");
}

TEST(ResidualModelTest, RunChecksHooksBeforeAndAfter) {
  const auto model = Make(Positions::kNone, false);
  Hooks unknown;
  unknown.Read("blocks.2.hook_resid_pre", [](absl::string_view, const Tensor&) {});
  EXPECT_EQ(model->Run({Tokens()}, &unknown).status().code(), absl::StatusCode::kNotFound);
  Hooks known;
  int fired = 0;
  known.Read("blocks.*.hook_in", [&](absl::string_view, const Tensor&) { ++fired; });
  EXPECT_TRUE(model->Run({Tokens()}, &known).ok());
  EXPECT_TRUE(model->Run({Tokens()}, &known).ok());
  EXPECT_EQ(fired, 4);
}

}  // namespace
}  // namespace residual
