#include "models/attention/attention.h"

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/random.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int64_t kBatch = 2, kPos = 7, kModel = 12;

AttentionConfig Base() {
  AttentionConfig c;
  c.d_model = kModel;
  c.n_heads = 4;
  c.d_head = 6;
  c.init_scale = 0.5;
  return c;
}

MixerContext Context(int64_t past, int64_t pos) {
  MixerContext context;
  context.past = past;
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < pos; ++i) positions.push_back(past + i);
  context.positions = Tensor::Of<int64_t>({pos}, positions);
  return context;
}

// Gives biases values too.
void Randomize(Module& module, uint64_t seed, DType dtype) {
  for (const Parameter& p : Parameters(module)) {
    InitializeParameter({p.name, p.value, p.shape, Init::Normal(0.4), p.options}, seed, dtype);
  }
}

// Vaswani et al. 2017, eq. (1) and what the header says of the options, one number at a time.
Tensor Reference(const AttentionMixer& m, const Tensor& x, const MixerContext& context) {
  const AttentionConfig& c = m.config();
  const int64_t batch = x.dim(0), pos = x.dim(1), group = c.n_heads / c.n_kv_heads;
  const Tensor slopes = AlibiSlopes(c.n_heads);
  // The head h of a projection at row b, position i.
  const auto project = [&](const Tensor& weight, const Tensor& bias, bool with_positions, int64_t b,
                           int64_t i, int64_t h) {
    const int64_t heads = weight.dim(1);
    std::vector<double> out(c.d_head);
    for (int64_t d = 0; d < c.d_head; ++d) {
      if (bias.defined()) out[d] = bias.data<double>()[h * c.d_head + d];
      for (int64_t k = 0; k < c.d_model; ++k) {
        double in = x.data<double>()[(b * pos + i) * c.d_model + k];
        if (with_positions && context.query_key_positions.defined()) {
          in += context.query_key_positions.data<double>()[i * c.d_model + k];
        }
        out[d] += in * weight.data<double>()[(k * heads + h) * c.d_head + d];
      }
    }
    return out;
  };
  const auto rotate = [&](std::vector<double> v, int64_t position) {
    for (int64_t i = 0; i < c.rotary_dim / 2; ++i) {
      const int64_t a = c.rotary_interleaved ? 2 * i : i;
      const int64_t b = c.rotary_interleaved ? 2 * i + 1 : i + c.rotary_dim / 2;
      const double angle = position * std::pow(c.rotary_theta, -2.0 * i / c.rotary_dim);
      const double va = v[a], vb = v[b];
      v[a] = va * std::cos(angle) - vb * std::sin(angle);
      v[b] = vb * std::cos(angle) + va * std::sin(angle);
    }
    return v;
  };
  // The key of position j as queries meet it.
  const auto key = [&](int64_t b, int64_t j, int64_t h) {
    std::vector<double> k = rotate(project(m.W_K(), m.b_K(), true, b, j, h), j);
    const bool* mask =
        context.key_mask.defined() ? context.key_mask.data<bool>() + b * pos : nullptr;
    const int64_t* segment =
        context.segments.defined() ? context.segments.data<int64_t>() + b * pos : nullptr;
    if (!c.smeared_keys || j == 0 || (mask && !mask[j - 1]) ||
        (segment && segment[j - 1] != segment[j])) {
      return k;
    }
    const std::vector<double> before = rotate(project(m.W_K(), m.b_K(), true, b, j - 1, h), j - 1);
    const double s = 1 / (1 + std::exp(-m.alpha().data<double>()[h]));
    for (int64_t d = 0; d < c.d_head; ++d) k[d] = s * k[d] + (1 - s) * before[d];
    return k;
  };
  Tensor result = Tensor::Zeros({batch, pos, c.d_model}, kF64);
  double* out = result.mutable_data<double>();
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < pos; ++i) {
      double* to = out + (b * pos + i) * c.d_model;
      for (int64_t k = 0; k < c.d_model && c.bias; ++k) to[k] = m.b_O().data<double>()[k];
      for (int64_t h = 0; h < c.n_heads; ++h) {
        const auto q = rotate(project(m.W_Q(), m.b_Q(), true, b, i, h), i);
        std::vector<double> weights(pos), z(c.d_head);
        double sum = 0;
        for (int64_t j = 0; j < pos; ++j) {
          const bool* mask = context.key_mask.defined() ? context.key_mask.data<bool>() : nullptr;
          const int64_t* segment =
              context.segments.defined() ? context.segments.data<int64_t>() + b * pos : nullptr;
          if ((c.causal && j > i) || (mask && !mask[b * pos + j]) ||
              (segment && segment[i] != segment[j])) {
            continue;
          }
          const auto k = key(b, j, h / group);
          double score = 0;
          for (int64_t d = 0; d < c.d_head; ++d) score += q[d] * k[d];
          score *= c.scale;
          if (c.alibi) score -= slopes.data<float>()[h] * std::abs(i - j);
          sum += weights[j] = std::exp(score);
        }
        for (int64_t j = 0; j < pos; ++j) {
          if (weights[j] == 0) continue;
          const auto v = project(m.W_V(), m.b_V(), false, b, j, h / group);
          for (int64_t d = 0; d < c.d_head; ++d) z[d] += weights[j] / sum * v[d];
        }
        for (int64_t d = 0; d < c.d_head; ++d) {
          const double* W_O = m.W_O().data<double>() + (h * c.d_head + d) * c.d_model;
          for (int64_t k = 0; k < c.d_model; ++k) to[k] += z[d] * W_O[k];
        }
      }
    }
  }
  return result;
}

struct Variant {
  const char* name;
  AttentionConfig config;
  MixerContext context;
};

std::vector<Variant> Variants() {
  std::vector<Variant> variants;
  const auto add = [&](const char* name) -> Variant& {
    return variants.emplace_back(Variant{name, Base(), Context(0, kPos)});
  };
  add("Plain");
  add("NoBias").config.bias = false;
  add("Bidirectional").config.causal = false;
  add("GroupedQueries").config.n_kv_heads = 2;
  add("OwnScale").config.scale = 0.9;
  add("Alibi").config.alibi = true;
  {
    AttentionConfig& c = add("Rotary").config;
    c.rotary_dim = 4;
    c.rotary_theta = 100;
  }
  {
    AttentionConfig& c = add("RotaryInterleaved").config;
    c.rotary_dim = 6;
    c.rotary_interleaved = true;
    c.n_kv_heads = 1;
  }
  add("Shortformer").context.query_key_positions = RandomNormal({kPos, kModel}, 9);
  {
    Tensor mask = Tensor::Full({kBatch, kPos}, 1, kBool);
    mask.mutable_data<bool>()[2] = mask.mutable_data<bool>()[kPos + 5] = false;
    add("Padded").context.key_mask = mask;
  }
  add("Packed").context.segments =
      Tensor::Of<int64_t>({kBatch, kPos}, {0, 0, 0, 1, 1, 2, 2, 5, 5, 5, 5, 5, 6, 6});
  for (const bool packed : {false, true}) {
    Variant& variant = add(packed ? "SmearedKeysPacked" : "SmearedKeysPadded");
    variant.config.smeared_keys = true;
    variant.config.n_kv_heads = 2;
    if (packed) {
      variant.config.rotary_dim = 4;
      variant.context.segments =
          Tensor::Of<int64_t>({kBatch, kPos}, {0, 0, 0, 1, 1, 2, 2, 5, 5, 5, 5, 5, 6, 6});
    } else {
      Tensor mask = Tensor::Full({kBatch, kPos}, 1, kBool);
      mask.mutable_data<bool>()[0] = mask.mutable_data<bool>()[1] = false;
      variant.context.key_mask = mask;
    }
  }
  return variants;
}

class AttentionMixerTest : public testing::TestWithParam<Variant> {
 protected:
  AttentionMixerTest() : mixer_(GetParam().config), x_(RandomNormal({kBatch, kPos, kModel}, 3)) {
    Randomize(mixer_, 1, kF64);
  }
  Tensor Forward(Hooks* hooks = nullptr) {
    return mixer_.Forward(x_, GetParam().context, nullptr, Scope(hooks));
  }
  AttentionMixer mixer_;
  Tensor x_;
};

INSTANTIATE_TEST_SUITE_P(Variants, AttentionMixerTest, testing::ValuesIn(Variants()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(AttentionMixerTest, IsTheFormula) {
  ExpectClose(Forward(), Reference(mixer_, x_, GetParam().context), 1e4, "out");
}

TEST_P(AttentionMixerTest, InStepsItIsTheSame) {
  const Tensor fused = Forward();
  for (const DeclaredHook& hook : HookPoints(mixer_)) {
    Hooks hooks;
    int fired = 0;
    hooks.Read(hook.name, [&](absl::string_view, const Tensor&) { ++fired; });
    ExpectClose(Forward(&hooks), fused, 1e3, hook.name);
    EXPECT_EQ(fired, 1) << hook.name;
  }
}

// An edit at any point moves the output: what is handed out is what is used.
TEST_P(AttentionMixerTest, EditsTakeEffect) {
  const std::vector<double> before = Forward().ToDoubles();
  for (const DeclaredHook& hook : HookPoints(mixer_)) {
    Hooks hooks;
    hooks.Edit(hook.name, [](absl::string_view, const Tensor& x) {
      Tensor edited = x.Clone();
      for (int64_t i = 0; i < x.elements(); ++i) edited.mutable_data<double>()[i] *= 1.0 + i % 3;
      return edited;
    });
    const std::vector<double> after = Forward(&hooks).ToDoubles();
    double moved = 0;
    for (size_t i = 0; i < after.size(); ++i)
      moved = std::max(moved, std::abs(after[i] - before[i]));
    EXPECT_GT(moved, 1e-3) << hook.name;
  }
}

// Looking at a point takes no other path than that point needs: as many ops are recorded as with
// nobody looking, but for the scores and patterns (attention in steps), the results per head, and
// what queries, keys and values are each made of (three projections in place of one op).
TEST_P(AttentionMixerTest, APointCostsItsOwnPathOnly) {
  const auto ops = [&](const char* name) {
    Tape tape;
    Tensor x = x_;
    tape.Watch(x);
    Hooks hooks;
    if (name != nullptr) hooks.Read(name, [](absl::string_view, const Tensor&) {});
    mixer_.Forward(x, GetParam().context, nullptr, Scope(&hooks));
    return tape.size();
  };
  const int none = ops(nullptr);
  for (const DeclaredHook& hook : HookPoints(mixer_)) {
    const bool scores = hook.name == "hook_attn_scores" || hook.name == "hook_pattern";
    const bool result = hook.name == "hook_result";
    const bool input = hook.name.find(".hook_in") != std::string::npos;
    if (scores || result) {
      EXPECT_GT(ops(hook.name.c_str()), none) << hook.name;
    } else if (input && !GetParam().context.query_key_positions.defined()) {
      EXPECT_EQ(ops(hook.name.c_str()), none + 2) << hook.name;
    } else {
      EXPECT_EQ(ops(hook.name.c_str()), none) << hook.name;
    }
  }
}

TEST(AttentionHooksTest, InputsOfQueriesKeysAndValuesAreApart) {
  AttentionMixer mixer(Base());
  Randomize(mixer, 1, kF64);
  const Tensor x = RandomNormal({kBatch, kPos, kModel}, 3), other = RandomNormal(x.shape(), 4);
  for (const std::string part : {"q", "k", "v"}) {
    Hooks hooks;
    hooks.Edit(part + ".hook_in", [&](absl::string_view, const Tensor&) { return other; });
    std::map<std::string, std::vector<double>> seen;
    hooks.Read("hook_?", [&](absl::string_view name, const Tensor& t) {
      seen[std::string(name)] = t.ToDoubles();
    });
    mixer.Forward(x, Context(0, kPos), nullptr, Scope(&hooks));
    Hooks plain;
    std::map<std::string, std::vector<double>> before;
    plain.Read("hook_?", [&](absl::string_view name, const Tensor& t) {
      before[std::string(name)] = t.ToDoubles();
    });
    mixer.Forward(x, Context(0, kPos), nullptr, Scope(&plain));
    for (const std::string name : {"q", "k", "v"}) {
      EXPECT_EQ(seen["hook_" + name] == before["hook_" + name], name != part) << part << name;
    }
  }
}

TEST(AttentionHooksTest, ResultsOfHeadsAddUpToTheOutput) {
  AttentionMixer mixer(Base());
  Randomize(mixer, 1, kF64);
  const Tensor x = RandomNormal({kBatch, kPos, kModel}, 3);
  Tensor results;
  Hooks hooks;
  hooks.Read("hook_result", [&](absl::string_view, const Tensor& t) { results = t; });
  const Tensor out = mixer.Forward(x, Context(0, kPos), nullptr, Scope(&hooks));
  ASSERT_EQ(results.shape(), Shape({kBatch, kPos, 4, kModel}));
  const std::vector<double> sum = Sum(results, 2).ToDoubles(), b_O = mixer.b_O().ToDoubles();
  const std::vector<double> got = out.ToDoubles();
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], sum[i] + b_O[i % kModel], 1e-12);
}

TEST(AlibiTest, SlopesAreTheAuthors) {
  EXPECT_EQ(AlibiSlopes(8).ToDoubles(), (std::vector<double>{0.5, 0.25, 0.125, 0.0625, 0.03125,
                                                             0.015625, 0.0078125, 0.00390625}));
  const std::vector<double> three = AlibiSlopes(3).ToDoubles();  // 2^-4, 2^-8, then 2^-2 of four
  EXPECT_EQ(three, (std::vector<double>{0.0625, 0.00390625, 0.25}));
}

// --- KvState ---

// [batch, n, 1, 2] with numbers nobody else has.
Tensor Fresh(int64_t batch, int64_t n, uint64_t seed) {
  return RandomNormal({batch, n, 1, 2}, seed, kF32);
}

// Random appends, forks, roll-backs and selections on several states, against plain lists.
TEST(KvStateTest, DoesWhatConcatenationWould) {
  struct Mirror {
    std::unique_ptr<MixerState> state;
    Tensor keys, values;  // exact
    KvState& kv() { return static_cast<KvState&>(*state); }
  };
  const Philox random(11, 0);
  uint64_t draw = 0;
  std::vector<Mirror> live;
  live.push_back({std::make_unique<KvState>(2, 1, 2), Tensor(), Tensor()});
  for (int step = 0; step < 400; ++step) {
    Mirror& m = live[random.Below(draw++, live.size())];
    const int64_t batch = m.keys.defined() ? m.keys.dim(0) : 2;
    switch (random.Below(draw++, 6)) {
      case 0: {
        if (live.size() > 6) break;
        Mirror fork{m.state->Fork(), m.keys, m.values};
        live.push_back(std::move(fork));
        break;
      }
      case 1: {
        const int64_t length = random.Below(draw++, m.kv().length() + 1);
        ASSERT_TRUE(m.state->RollBack(length).ok());
        if (m.keys.defined()) {
          m.keys = Slice(m.keys, 1, 0, length);
          m.values = Slice(m.values, 1, 0, length);
        }
        break;
      }
      case 2: {
        if (!m.keys.defined()) break;
        std::vector<int64_t> rows;
        for (uint64_t i = 0; i <= random.Below(draw, 3); ++i) {
          rows.push_back(random.Below(draw + 1 + i, batch));
        }
        draw += 5;
        m.state = m.state->Select(rows);
        const Tensor indices = Tensor::Of<int64_t>({static_cast<int64_t>(rows.size())}, rows);
        m.keys = GatherRows(m.keys, indices);
        m.values = GatherRows(m.values, indices);
        break;
      }
      case 3: {
        if (live.size() > 1) live.erase(live.begin() + random.Below(draw++, live.size()));
        live[0].state->Reserve(random.Below(draw++, 40));
        break;
      }
      default: {
        const int64_t n = 1 + random.Below(draw++, 3);
        const Tensor keys = Fresh(batch, n, draw++), values = Fresh(batch, n, draw++);
        m.kv().Append(keys, values);
        m.keys = m.keys.defined() ? Concat({m.keys, keys}, 1) : keys;
        m.values = m.values.defined() ? Concat({m.values, values}, 1) : values;
      }
    }
    for (Mirror& each : live) {
      ASSERT_EQ(each.kv().length(), each.keys.defined() ? each.keys.dim(1) : 0);
      if (each.kv().length() == 0) continue;
      ExpectIdentical(each.kv().ExactKeys(), each.keys, "keys");
      ExpectIdentical(each.kv().ExactValues(), each.values, "values");
    }
  }
}

TEST(KvStateTest, AppendingMovesEverythingOnlyNowAndThen) {
  for (const int64_t batch : {1, 3}) {
    KvState state(batch, 1, 2);
    int moves = 0;
    const void* at = nullptr;
    for (int i = 0; i < 1000; ++i) {
      state.Append(Fresh(batch, 1, 2 * i), Fresh(batch, 1, 2 * i + 1));
      moves += state.keys().raw_data() != at;
      at = state.keys().raw_data();
    }
    EXPECT_LE(moves, 12);  // log2(1000), and the first
    EXPECT_EQ(state.length(), 1000);
    EXPECT_LE(state.keys().dim(1), 2000);
  }
}

TEST(KvStateTest, NothingMovesUpToWhatIsReserved) {
  for (const int64_t first : {1, 40, 99}) {
    KvState state(2, 1, 2);
    state.Reserve(100);
    state.Append(Fresh(2, first, 1), Fresh(2, first, 2));
    const void* keys = state.keys().raw_data();
    const void* values = state.values().raw_data();
    std::vector<Tensor> all = {Fresh(2, first, 1)};
    for (int64_t i = first; i < 100; ++i) {
      all.push_back(Fresh(2, 1, 2 * i));
      state.Append(all.back(), Fresh(2, 1, 2 * i + 1));
    }
    EXPECT_EQ(state.keys().raw_data(), keys);
    EXPECT_EQ(state.values().raw_data(), values);
    EXPECT_EQ(state.keys().dim(1), 100);
    ExpectIdentical(state.ExactKeys(), Concat(all, 1), "keys");
    state.Append(Fresh(2, 1, 7), Fresh(2, 1, 8));
    EXPECT_EQ(state.length(), 101);
  }
}

TEST(KvStateTest, AForkCostsNothingUntilItAppends) {
  KvState state(2, 1, 2);
  state.Append(Fresh(2, 5, 1), Fresh(2, 5, 2));
  state.Append(Fresh(2, 1, 3), Fresh(2, 1, 4));
  const void* at = state.keys().raw_data();
  {
    const std::unique_ptr<MixerState> fork = state.Fork();
    EXPECT_EQ(static_cast<const KvState&>(*fork).keys().raw_data(), at);
  }
  state.Append(Fresh(2, 1, 5), Fresh(2, 1, 6));
  EXPECT_EQ(state.keys().raw_data(), at) << "the fork is gone, so the buffer may be written";
  const std::unique_ptr<MixerState> fork = state.Fork();
  state.Append(Fresh(2, 1, 7), Fresh(2, 1, 8));
  EXPECT_NE(state.keys().raw_data(), at);
  EXPECT_EQ(static_cast<const KvState&>(*fork).keys().raw_data(), at);
}

// A prefix in the state, the rest on a tape: the gradient is that of the whole sequence with the
// prefix constant.
TEST(KvStateTest, GradientsFlowThroughWhatIsAppendedOnATape) {
  AttentionConfig config = Base();
  config.n_kv_heads = 2;
  AttentionMixer mixer(config);
  Randomize(mixer, 1, kF64);
  const Tensor x = RandomNormal({kBatch, kPos, kModel}, 3), g = RandomNormal(x.shape(), 5);
  Tensor whole;
  {
    Tape tape;
    Tensor leaf = x;
    tape.Watch(leaf);
    const Tensor out = mixer.Forward(leaf, Context(0, kPos), nullptr, Scope());
    whole = tape.Backward({Slice(out, 1, 3, kPos)}, {Slice(g, 1, 3, kPos)}, {})[leaf];
  }
  for (const int64_t step : {4, 2, 1}) {
    KvState state(kBatch, 2, 6);
    mixer.Forward(Slice(x, 1, 0, 2), Context(0, 2), &state, Scope());
    mixer.Forward(Slice(x, 1, 2, 3), Context(2, 1), &state, Scope());
    Tape tape;
    Tensor leaf = Slice(x, 1, 3, kPos);
    tape.Watch(leaf);
    std::vector<Tensor> outs, grads;
    for (int64_t at = 3; at < kPos; at += step) {
      const int64_t end = std::min(at + step, kPos);
      outs.push_back(
          mixer.Forward(Slice(leaf, 1, at - 3, end - 3), Context(at, end - at), &state, Scope()));
      grads.push_back(Slice(g, 1, at, end));
    }
    ExpectClose(tape.Backward(outs, grads, {})[leaf], Slice(whole, 1, 3, kPos), 1e4, "dx");
  }
}

// Only the query matrix is watched: keys and values are constants of a cache with room.
TEST(KvStateTest, QueriesAloneMayBeOnATape) {
  AttentionMixer mixer(Base());
  Randomize(mixer, 1, kF64);
  KvState state(kBatch, 4, 6);
  const Tensor x = RandomNormal({kBatch, kPos, kModel}, 3);
  for (int64_t i = 0; i < kPos - 1; ++i) {
    mixer.Forward(Slice(x, 1, i, i + 1), Context(i, 1), &state, Scope());
  }
  Tape tape;
  Tensor* W_Q = Parameters(mixer)[0].value;
  tape.Watch(*W_Q);
  const Tensor out =
      mixer.Forward(Slice(x, 1, kPos - 1, kPos), Context(kPos - 1, 1), &state, Scope());
  const Gradients grads = tape.Backward({out}, {RandomNormal(out.shape(), 6)}, {});
  double size = 0;
  for (double d : grads[*W_Q].ToDoubles()) size += std::abs(d);
  EXPECT_GT(size, 0.1);
}

// sigmoid(1000) is 1: nothing of the key before. And without the option there is no such parameter.
TEST(SmearedKeysTest, WithoutAShareOfTheKeyBeforeTheBitsAreThoseOfPlainAttention) {
  for (const DType dtype : {kF32, kF64}) {
    AttentionConfig config = Base();
    AttentionMixer plain(config);
    config.smeared_keys = true;
    AttentionMixer smeared(config);
    Randomize(plain, 1, dtype);
    Randomize(smeared, 1, dtype);
    EXPECT_EQ(Parameters(smeared).size(), Parameters(plain).size() + 1);
    for (const Parameter& p : Parameters(smeared)) {
      if (p.name == "alpha") *p.value = Tensor::Full({4}, 1000, dtype);
    }
    const Tensor x = ConvertTo(RandomNormal({kBatch, kPos, kModel}, 3), dtype);
    const auto forward = [&](const AttentionMixer& mixer) {
      return mixer.Forward(x, Context(0, kPos), nullptr, Scope()).ToDoubles();
    };
    EXPECT_EQ(forward(smeared), forward(plain));
    for (const Parameter& p : Parameters(smeared)) {
      if (p.name == "alpha") *p.value = Tensor::Full({4}, 0, dtype);
    }
    EXPECT_NE(forward(smeared), forward(plain));
  }
}

}  // namespace
}  // namespace residual
