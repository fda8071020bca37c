#include "models/testing/model_contract.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/stream/state_file.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/testing/op_case.h"

namespace residual {

// Instantiated by the tests that link this.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ModelContractTest);

void ModelContractTest::SetUp() {
  model_ = GetParam().make();
  Initialize(*model_, 5);
  for (const Parameter& p : Parameters(*model_)) {
    if (p.init.kind != Init::kZeros && p.init.kind != Init::kNormal) continue;
    InitializeParameter({p.name, p.value, p.shape, Init::Normal(0.3), p.options}, 5);
  }
}

Tensor ModelContractTest::Tokens(int64_t batch, int64_t pos, uint64_t seed) const {
  const Philox random(seed, RandomStream("tokens"));
  Tensor tokens = Tensor::Uninitialized({batch, pos}, kI64);
  for (int64_t i = 0; i < tokens.elements(); ++i) {
    tokens.mutable_data<int64_t>()[i] = random.Below(i, model_->d_vocab());
  }
  return tokens;
}

namespace {

void ExpectNear(const Tensor& got, const Tensor& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  const std::vector<double> g = got.ToDoubles(), w = want.ToDoubles();
  for (size_t i = 0; i < g.size(); ++i) {
    ASSERT_NEAR(g[i], w[i], tolerance * (1 + std::abs(w[i]))) << what << ", element " << i;
  }
}

// The points that fire with everything wanted are the points declared, with the declared rank; in a
// whole pass and in a step of decoding.
TEST_P(ModelContractTest, WhatIsDeclaredFires) {
  std::map<std::string, int> declared;
  for (const DeclaredHook& hook : HookPoints(*model_)) {
    EXPECT_TRUE(
        declared.emplace(hook.name, std::count(hook.dims.begin(), hook.dims.end(), ',') + 1).second)
        << hook.name << " is declared twice";
  }
  ModelState state = model_->NewState(2);
  for (int64_t pos : {5, 1}) {
    std::map<std::string, int> fired;
    Hooks hooks;
    hooks.Read("*", [&](absl::string_view name, const Tensor& x) {
      EXPECT_TRUE(fired.emplace(std::string(name), x.rank()).second) << name << " fired twice";
    });
    model_->Forward({Tokens(2, pos)}, &state, &hooks);
    EXPECT_EQ(fired, declared);
  }
}

// The paths taken when everything is looked at compute what the fused ones do.
TEST_P(ModelContractTest, LookingChangesNothing) {
  const Tensor tokens = Tokens(3, 11);
  Hooks hooks;
  hooks.Read("*", [](absl::string_view, const Tensor&) {});
  ExpectNear(model_->Forward({tokens}, nullptr, &hooks), model_->Forward({tokens}), 2e-5, "logits");
}

TEST_P(ModelContractTest, AnySplitOfTheSequenceIsTheSame) {
  const Tensor tokens = Tokens(2, 12);
  const Tensor whole = model_->Forward({tokens});
  for (const std::vector<int64_t>& split :
       {std::vector<int64_t>{5, 7}, {1, 11}, {11, 1}, {3, 4, 5}, std::vector<int64_t>(12, 1)}) {
    ModelState state = model_->NewState(2);
    std::vector<Tensor> parts;
    int64_t begin = 0;
    for (int64_t size : split) {
      parts.push_back(model_->Forward({Slice(tokens, 1, begin, begin + size)}, &state));
      begin += size;
    }
    EXPECT_EQ(state.length(), 12);
    ExpectNear(Concat(parts, 1), whole, 1e-5, absl::StrCat("split in ", split.size()));
  }
}

TEST_P(ModelContractTest, ForksAndRollsBack) {
  const Tensor tokens = Tokens(1, 10), other = Tokens(1, 4, 9);
  const Tensor whole = model_->Forward({tokens});
  ModelState state = model_->NewState(1);
  model_->Forward({Slice(tokens, 1, 0, 6)}, &state);
  ModelState fork = state.Fork();
  model_->Forward({other}, &fork);
  ExpectNear(model_->Forward({Slice(tokens, 1, 6, 10)}, &state), Slice(whole, 1, 6, 10), 1e-5,
             "after a fork went another way");
  ModelState untouched = state.Fork();
  EXPECT_EQ(state.RollBack(11).code(), absl::StatusCode::kInvalidArgument);
  // A recurrence keeps nothing to go back to: it says so, and is where it was.
  const absl::Status back = state.RollBack(3);
  if (!back.ok()) {
    EXPECT_EQ(back.code(), absl::StatusCode::kUnimplemented) << back;
    EXPECT_EQ(state.length(), 10);
    ExpectIdentical(model_->Forward({other}, &state), model_->Forward({other}, &untouched),
                    "after not going back");
    ASSERT_TRUE(state.RollBack(0).ok());
  }
  const int64_t begin = state.length();
  EXPECT_EQ(begin, back.ok() ? 3 : 0);
  ExpectNear(model_->Forward({Slice(tokens, 1, begin, 10)}, &state), Slice(whole, 1, begin, 10),
             1e-5, "after going back");
}

TEST_P(ModelContractTest, SelectsRowsOfAState) {
  const Tensor tokens = Tokens(3, 9);
  ModelState state = model_->NewState(3);
  model_->Forward({Slice(tokens, 1, 0, 5)}, &state);
  const Tensor rows = Tensor::Of<int64_t>({4}, {2, 0, 0, 1});
  ModelState selected = state.Select(rows.span<int64_t>());
  EXPECT_EQ(selected.length(), 5);
  ExpectNear(model_->Forward({Slice(GatherRows(tokens, rows), 1, 5, 9)}, &selected),
             GatherRows(Slice(model_->Forward({tokens}), 1, 5, 9), rows), 1e-5, "selected");
  const std::vector<int64_t> one = {1};
  EXPECT_EQ(model_->NewState(2).Select(one).length(), 0);
}

// Rows of different lengths, stopped in the middle, saved, loaded, and gone on with.
TEST_P(ModelContractTest, ASavedStateGoesOnWithTheSameBits) {
  const Tensor tokens = Tokens(3, 12);
  const std::vector<int64_t> padding = {0, 4, 2};
  const auto part = [&](int64_t begin, int64_t end) {
    ModelInput input{Slice(tokens, 1, begin, end)};
    input.attention_mask = Tensor::Uninitialized({3, end}, kBool);
    input.positions = Tensor::Uninitialized({3, end - begin}, kI64);
    for (int64_t row = 0; row < 3; ++row) {
      for (int64_t i = 0; i < end; ++i) {
        input.attention_mask.mutable_data<bool>()[row * end + i] = i >= padding[row];
        if (i < begin) continue;
        input.positions.mutable_data<int64_t>()[row * (end - begin) + i - begin] =
            std::max<int64_t>(0, i - padding[row]);
      }
    }
    return input;
  };
  const std::string path = testing::TempDir() + "/state";
  for (const std::vector<int64_t>& ends : {std::vector<int64_t>{6, 7, 12}, {1, 2, 3, 4, 12}}) {
    ModelState state = model_->NewState(3), loaded = model_->NewState(3);
    int64_t begin = 0;
    for (const int64_t end : ends) {
      ExpectIdentical(model_->Forward(part(begin, end), &loaded),
                      model_->Forward(part(begin, end), &state), absl::StrCat("up to ", end));
      // The one is saved and loaded after every part, the other runs on.
      ASSERT_TRUE(SaveState(path, *model_, loaded, 3, {{"numbers", {5, -1}}}).ok());
      auto saved = LoadState(path, *model_, {"numbers"});
      ASSERT_TRUE(saved.ok()) << saved.status();
      EXPECT_EQ(saved->batch, 3);
      EXPECT_EQ(saved->lists["numbers"], (std::vector<int64_t>{5, -1}));
      EXPECT_EQ(saved->state.length(), end);
      loaded = std::move(saved->state);
      begin = end;
    }
    // What was loaded can do all that a state can.
    const std::vector<int64_t> rows = {2, 0};
    EXPECT_EQ(loaded.Fork().Select(rows).length(), 12);
    if (loaded.RollBack(7).ok()) {
      ASSERT_TRUE(state.RollBack(7).ok());
      ExpectIdentical(model_->Forward(part(7, 9), &loaded), model_->Forward(part(7, 9), &state),
                      "rolled back");
    }
  }
}

TEST_P(ModelContractTest, NextLogitsAreTheLast) {
  const Tensor tokens = Tokens(2, 8);
  const Tensor logits = model_->Forward({tokens});
  ModelState state = model_->NewState(2);
  for (const int64_t end : {5, 6, 8}) {
    const Tensor next = model_->NextLogits({Slice(tokens, 1, state.length(), end)}, &state);
    EXPECT_EQ(state.length(), end);
    ExpectNear(next, Slice(logits, 1, end - 1, end).Reshaped({2, model_->d_vocab()}), 1e-5,
               absl::StrCat("after ", end));
  }
}

TEST_P(ModelContractTest, ARowIsTheSameInAnyBatch) {
  const Tensor tokens = Tokens(5, 9);
  const Tensor together = model_->Forward({tokens});
  for (int64_t row = 0; row < 5; ++row) {
    ExpectNear(model_->Forward({tokens.Rows(row, row + 1)}), together.Rows(row, row + 1), 1e-5,
               absl::StrCat("row ", row));
  }
}

TEST_P(ModelContractTest, PaddingIsNotSeen) {
  const int64_t n = 8, pad = 3;
  const Tensor tokens = Tokens(1, n), filler = Tokens(1, pad, 77);
  const Tensor plain = model_->Forward({tokens});
  auto mask = [&](bool left) {
    Tensor m = Tensor::Uninitialized({1, n + pad}, kBool);
    for (int64_t i = 0; i < n + pad; ++i) {
      m.mutable_data<bool>()[i] = left ? i >= pad : i < n;
    }
    return m;
  };
  ModelInput right;
  right.tokens = Concat({tokens, filler}, 1);
  right.attention_mask = mask(false);
  ExpectNear(Slice(model_->Forward(right), 1, 0, n), plain, 1e-5, "padded on the right");

  ModelInput left;
  left.tokens = Concat({filler, tokens}, 1);
  left.attention_mask = mask(true);
  left.positions = Tensor::Uninitialized({n + pad}, kI64);
  for (int64_t i = 0; i < n + pad; ++i) {
    left.positions.mutable_data<int64_t>()[i] = std::max<int64_t>(0, i - pad);
  }
  ExpectNear(Slice(model_->Forward(left), 1, pad, n + pad), plain, 1e-5, "padded on the left");
}

// Sequences of random lengths, each alone or together in every way there is: padded on either side
// into one batch in any order, fed in random chunks, packed into one row.
TEST_P(ModelContractTest, ASequenceIsTheSameHoweverItIsRun) {
  const Philox random(17, RandomStream("however"));
  uint64_t draw = 0;
  for (int round = 0; round < 6; ++round) {
    std::vector<Tensor> sequences, alone;
    int64_t longest = 0, total = 0;
    while (sequences.size() < 4) {
      const int64_t length = 1 + random.Below(draw++, 11);
      if (model_->n_ctx() > 0 && total + length > model_->n_ctx() * 2) break;
      sequences.push_back(Tokens(1, length, draw++));
      alone.push_back(model_->Forward({sequences.back()}));
      longest = std::max(longest, length);
      total += length;
    }
    const int64_t batch = sequences.size();

    // Padded on the left or right of each row as drawn, in chunks as drawn.
    const int64_t pos = longest + random.Below(draw++, 3);
    ModelInput padded{Tokens(batch, pos, 99)};
    padded.attention_mask = Tensor::Zeros({batch, pos}, kBool);
    padded.positions = Tensor::Zeros({batch, pos}, kI64);
    std::vector<int64_t> begins;
    for (int64_t row = 0; row < batch; ++row) {
      const int64_t length = sequences[row].dim(1);
      begins.push_back(random.Below(draw++, pos - length + 1));
      for (int64_t i = 0; i < length; ++i) {
        const int64_t at = row * pos + begins[row] + i;
        padded.tokens.mutable_data<int64_t>()[at] = sequences[row].data<int64_t>()[i];
        padded.attention_mask.mutable_data<bool>()[at] = true;
        padded.positions.mutable_data<int64_t>()[at] = i;
      }
    }
    ModelState state = model_->NewState(batch);
    std::vector<Tensor> chunks;
    while (state.length() < pos) {
      const int64_t begin = state.length(), end = begin + 1 + random.Below(draw++, pos - begin);
      ModelInput chunk{Slice(padded.tokens, 1, begin, end)};
      chunk.attention_mask = Slice(padded.attention_mask, 1, 0, end);
      chunk.positions = Slice(padded.positions, 1, begin, end);
      ASSERT_TRUE(model_->Validate(chunk, &state).ok()) << model_->Validate(chunk, &state);
      chunks.push_back(model_->Forward(chunk, &state));
    }
    const Tensor together = model_->Forward(padded), in_chunks = Concat(chunks, 1);
    for (int64_t row = 0; row < batch; ++row) {
      const int64_t begin = begins[row], end = begin + sequences[row].dim(1);
      const auto part = [&](const Tensor& logits) {
        return Slice(logits.Rows(row, row + 1), 1, begin, end);
      };
      ExpectNear(part(together), alone[row], 1e-5, absl::StrCat("padded row ", row));
      ExpectNear(part(in_chunks), alone[row], 1e-5, absl::StrCat("row in chunks ", row));
    }

    // All in one row.
    ModelInput packed{Concat(sequences, 1)};
    std::vector<int64_t> segments;
    for (int64_t i = 0; i < batch; ++i) segments.resize(segments.size() + sequences[i].dim(1), i);
    packed.segments = Tensor::Of<int64_t>({1, total}, segments);
    ExpectNear(model_->Forward(packed), Concat(alone, 1), 1e-5, "packed");
  }
}

// At every point: an edit takes effect, and the gradient that the tape finds there is the
// difference an edit makes.
TEST_P(ModelContractTest, GradientsAtHookPointsMatchEdits) {
  ConvertParameters(*model_, kF64);
  const Tensor tokens = Tokens(2, 5);
  const Tensor g = RandomNormal({2, 5, model_->d_vocab()}, 3);
  const auto loss = [&](const Tensor& logits) {
    double sum = 0;
    for (int64_t i = 0; i < g.elements(); ++i) {
      sum += logits.data<double>()[i] * g.data<double>()[i];
    }
    return sum;
  };
  double edits = 0;
  for (const DeclaredHook& point : HookPoints(*model_)) {
    Tensor leaf, gradient, direction;
    {
      Tape tape;
      Hooks hooks;
      hooks.Edit(point.name, [&](absl::string_view, const Tensor& x) {
        leaf = x;
        tape.Watch(leaf);
        return leaf;
      });
      const Tensor logits = model_->Forward({tokens}, nullptr, &hooks);
      gradient = tape.Backward({logits}, {g}, {})[leaf];
    }
    direction = RandomNormal(leaf.shape(), 8);
    double analytic = 0, losses[2];
    for (int64_t i = 0; i < leaf.elements(); ++i) {
      analytic += gradient.data<double>()[i] * direction.data<double>()[i];
    }
    const double step = 1e-6;  // along a direction of all elements at once
    for (int side = 0; side < 2; ++side) {
      Hooks hooks;
      hooks.Edit(point.name, [&](absl::string_view, const Tensor& x) {
        Tensor moved = x.Clone();
        for (int64_t i = 0; i < x.elements(); ++i) {
          moved.mutable_data<double>()[i] += (2 * side - 1) * step * direction.data<double>()[i];
        }
        return moved;
      });
      losses[side] = loss(model_->Forward({tokens}, nullptr, &hooks));
    }
    const double numeric = (losses[1] - losses[0]) / (2 * step);
    EXPECT_NEAR(analytic, numeric, 2e-6 * (1 + std::abs(numeric))) << point.name;
    EXPECT_GT(std::abs(analytic), 1e-6) << point.name << " does not matter";
    ++edits;
  }
  EXPECT_GE(edits, 3);
}

// d (sum of logits * g) along random directions of all parameters at once, float64.
TEST_P(ModelContractTest, GradientsMatchDifferences) {
  ConvertParameters(*model_, kF64);
  const Tensor tokens = Tokens(2, 7);
  const Tensor g = RandomNormal({2, 7, model_->d_vocab()}, 3);
  auto loss = [&] {
    const std::vector<double> logits = model_->Forward({tokens}).ToDoubles(), w = g.ToDoubles();
    double sum = 0;
    for (size_t i = 0; i < logits.size(); ++i) sum += logits[i] * w[i];
    return sum;
  };
  std::vector<Parameter> parameters = Parameters(*model_);
  std::vector<Tensor> grads;
  {
    Tape tape;
    for (Parameter& p : parameters) tape.Watch(*p.value);
    const Gradients found = tape.Backward({model_->Forward({tokens})}, {g}, {});
    for (Parameter& p : parameters) grads.push_back(found[*p.value]);
    for (Parameter& p : parameters) p.value->set_tape_ref({});
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor original = *parameters[i].value;
    const Tensor direction = RandomNormal(original.shape(), 100 + i);
    double analytic = 0, losses[2];
    for (int64_t j = 0; j < original.elements(); ++j) {
      analytic += grads[i].data<double>()[j] * direction.data<double>()[j];
    }
    const double step = 1e-5;
    for (int side = 0; side < 2; ++side) {
      Tensor moved = original.Clone();
      for (int64_t j = 0; j < original.elements(); ++j) {
        moved.mutable_data<double>()[j] += (2 * side - 1) * step * direction.data<double>()[j];
      }
      *parameters[i].value = moved;
      losses[side] = loss();
    }
    *parameters[i].value = original;
    const double numeric = (losses[1] - losses[0]) / (2 * step);
    EXPECT_NEAR(analytic, numeric, 1e-5 * (1 + std::abs(numeric))) << parameters[i].name;
  }
}

double Norm(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

double Distance(const Tensor& a, const Tensor& b) {
  std::vector<double> difference = a.ToDoubles();
  const std::vector<double> other = b.ToDoubles();
  for (size_t i = 0; i < difference.size(); ++i) difference[i] -= other[i];
  return Norm(difference);
}

// Logits of a run, and gradients of all parameters for some gradient of the logits.
std::vector<Tensor> LogitsAndGradients(ResidualModel& model, const ModelInput& input) {
  Tape tape;
  std::vector<Parameter> parameters = Parameters(model);
  for (Parameter& p : parameters) tape.Watch(*p.value);
  const Tensor logits = model.Forward(input);
  const Gradients found =
      tape.Backward({logits}, {RandomNormal(logits.shape(), 11, logits.dtype())}, {});
  std::vector<Tensor> results = {logits};
  for (Parameter& p : parameters) {
    results.push_back(found[*p.value]);
    p.value->set_tape_ref({});
  }
  return results;
}

TEST_P(ModelContractTest, MixedPrecisionIsNearTheExact) {
  ModelInput input{Tokens(3, 11)};
  input.precision = Precision::kBF16;
  const std::vector<Tensor> mixed = LogitsAndGradients(*model_, input);
  const int before = NumThreads();
  for (const int threads : {1, 2, 3}) {
    SetNumThreads(threads);
    const std::vector<Tensor> again = LogitsAndGradients(*model_, input);
    for (size_t i = 0; i < mixed.size(); ++i) ExpectIdentical(again[i], mixed[i], "mixed");
  }
  SetNumThreads(before);
  Hooks hooks;
  hooks.Read("*", [](absl::string_view, const Tensor&) {});
  const Tensor looked_at = model_->Forward(input, nullptr, &hooks);

  SetUp();
  ConvertParameters(*model_, kF64);
  EXPECT_EQ(std::string(model_->Run(input).status().message()),
            "precision is bf16 and the weights are f64, expected weights in f32");
  input.precision = Precision::kFull;
  const std::vector<Tensor> exact = LogitsAndGradients(*model_, input);
  SetUp();
  ConvertParameters(*model_, kBF16);
  const std::vector<Tensor> narrow = LogitsAndGradients(*model_, input);

  std::vector<double> sizes;
  for (const Tensor& x : exact) sizes.push_back(Norm(x.ToDoubles()));
  EXPECT_GT(Distance(mixed[0], exact[0]), 1e-4 * sizes[0]) << "nothing was rounded";
  EXPECT_LT(Distance(looked_at, exact[0]), 0.02 * sizes[0]);
  const double largest = *std::max_element(sizes.begin(), sizes.end());
  const std::vector<Parameter> parameters = Parameters(*model_);
  double mixed_error = 0, narrow_error = 0;  // relative
  for (size_t i = 0; i < mixed.size(); ++i) {
    EXPECT_EQ(mixed[i].dtype(), kF32);
    // Two digits and a bit, and some products one after the other. Some gradients are sums that
    // cancel (those of key biases are 0).
    const double error = Distance(mixed[i], exact[i]), size = sizes[i] + 0.02 * largest;
    EXPECT_LT(error, 0.08 * size) << (i == 0 ? "logits" : parameters[i - 1].name);
    mixed_error += error / size;
    narrow_error += Distance(narrow[i], exact[i]) / size;
  }
  // Of the same kind as the error of a model all in bf16.
  EXPECT_LT(mixed_error, 1.3 * narrow_error);
}

TEST_P(ModelContractTest, LogitsOfTheLastPositionsAlone) {
  ModelInput input{Tokens(2, 8)};
  const Tensor logits = model_->Forward(input);
  for (const int64_t last : {1, 3, 8}) {
    input.last_logits = last;
    ExpectNear(model_->Forward(input), Slice(logits, 1, 8 - last, 8), 1e-5,
               absl::StrCat("the last ", last));
  }
  input.last_logits = 9;
  EXPECT_EQ(std::string(model_->Run(input).status().message()),
            "last_logits is 9, expected at most the 8 positions there are");
}

TEST_P(ModelContractTest, SameBitsForAnyNumberOfThreads) {
  const int before = NumThreads();
  const Tensor tokens = Tokens(4, 13);
  SetNumThreads(1);
  const Tensor one = model_->Forward({tokens});
  for (int threads : {2, 3, 7}) {
    SetNumThreads(threads);
    ExpectIdentical(model_->Forward({tokens}), one, "logits");
  }
  SetNumThreads(before);
}

TEST_P(ModelContractTest, ResumesFromAnyLayer) {
  const Tensor tokens = Tokens(2, 6);
  const ModelInput input{tokens};
  const MixerContext context = model_->MakeContext(input);
  const Scope none;
  const int n = model_->n_layers();
  for (int layer = 0; layer <= n; ++layer) {
    Tensor resid = model_->EmbedTokens(input, context, none);
    resid = model_->Stream(resid, {0, layer}, context, nullptr, none);
    resid = model_->Stream(resid, {layer, n}, context, nullptr, none);
    ExpectIdentical(model_->UnembedStream(resid, none), model_->Forward(input), "logits");
  }
}

TEST_P(ModelContractTest, RejectsWhatItCannotRead) {
  auto message = [&](const ModelInput& input) {
    return std::string(model_->Run(input).status().message());
  };
  const int64_t d_vocab = model_->d_vocab(), n_ctx = model_->n_ctx();
  EXPECT_EQ(message({Tensor::Of<int64_t>({1, 2}, {3, d_vocab})}),
            absl::StrCat("token ", d_vocab, " at row 0, position 1 is outside the vocabulary of ",
                         d_vocab));
  EXPECT_EQ(message({Tensor::Of<int64_t>({1, 1}, {-1})}),
            absl::StrCat("token -1 at row 0, position 0 is outside the vocabulary of ", d_vocab));
  if (n_ctx > 0) {
    EXPECT_EQ(message({Tensor::Zeros({1, n_ctx + 1}, kI64)}),
              absl::StrCat(n_ctx + 1, " tokens, longer than the model's context of ", n_ctx));
  }
  EXPECT_EQ(message({Tensor::Zeros({1, 0}, kI64)}),
            "tokens are i64[1, 0]: empty, expected at least one token");
  EXPECT_EQ(message({Tensor::Zeros({3}, kI64)}),
            "tokens are i64[3], expected i64 or i32 [batch, pos]");
  ModelInput masked{Tensor::Zeros({1, 3}, kI64)};
  masked.attention_mask = Tensor::Zeros({1, 2}, kBool);
  EXPECT_EQ(message(masked), "attention_mask is bool[1, 2], expected bool[1, 3]");
  Hooks hooks;
  hooks.Read("blocks.9.hook_resid_pre", [](absl::string_view, const Tensor&) {});
  EXPECT_EQ(model_->Run({Tensor::Zeros({1, 3}, kI64)}, &hooks).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace residual
