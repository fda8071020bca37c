#include "models/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "models/nn/precision.h"
#include "ops/dropout/dropout.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "ops/rotary/rotary.h"
#include "ops/softmax/softmax.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// A bias [heads, d_head] of all heads.
Tensor AllHeadsBias(const Tensor& bias) {
  return bias.defined() ? bias.Reshaped({bias.elements()}) : bias;
}

// [batch, pos, heads * d_head] by head.
Tensor ByHead(const Tensor& x, int64_t d_head) {
  return x.Reshaped({x.dim(0), x.dim(1), x.dim(2) / d_head, d_head});
}

// z_h W_O[h] per head: [batch, pos, heads, d_head] -> [batch, pos, heads, d_model]. Their sum over
// heads plus b_O is the output.
Tensor HeadResults(const Tensor& z, const Tensor& W_O, Precision precision) {
  const Tensor by_head =
      Permute(z, {2, 0, 1, 3}).Reshaped({z.dim(2), z.dim(0) * z.dim(1), z.dim(3)});
  const Tensor results = Linear(by_head, W_O, precision, {});  // [heads, batch * pos, d_model]
  return Permute(results.Reshaped({z.dim(2), z.dim(0), z.dim(1), W_O.dim(2)}), {1, 2, 0, 3});
}

std::vector<int64_t> Iota(int64_t n) {
  std::vector<int64_t> numbers(n);
  std::iota(numbers.begin(), numbers.end(), int64_t{0});
  return numbers;
}

// Bytes of one position of one row of [batch, position, ...].
size_t PositionBytes(const Tensor& x) {
  return x.shape().elements(2, x.rank()) * SizeOf(x.dtype());
}

// The first `length` positions of some rows of x [batch, position, ...], in a buffer with `room`.
Tensor CopyRows(const Tensor& x, absl::Span<const int64_t> rows, int64_t length, int64_t room) {
  const size_t position = PositionBytes(x);
  const int64_t batch = static_cast<int64_t>(rows.size());
  Tensor copy = Tensor::Uninitialized(x.shape().With(0, batch).With(1, room), x.dtype());
  const char* from = static_cast<const char*>(x.raw_data());
  char* to = static_cast<char*>(copy.mutable_raw_data());
  ParallelFor(batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      std::memcpy(to + b * room * position, from + rows[b] * x.dim(1) * position,
                  length * position);
    }
  });
  return copy;
}

// Writes x [batch, n, ...] to positions [at, at + n) of the buffer.
void WritePositions(const Tensor& x, int64_t at, Tensor& buffer) {
  const size_t position = PositionBytes(x), row = x.dim(1) * position;
  const char* from = static_cast<const char*>(x.raw_data());
  char* to = static_cast<char*>(buffer.mutable_raw_data());
  for (int64_t b = 0; b < x.dim(0); ++b) {
    std::memcpy(to + (b * buffer.dim(1) + at) * position, from + b * row, row);
  }
}

// -infinity where query and key are of different segments, else 0: [batch, 1, pos, pos].
Tensor SegmentBias(const Tensor& segments, DType dtype) {
  const int64_t batch = segments.dim(0), pos = segments.dim(1);
  Tensor bias = Tensor::Uninitialized({batch, 1, pos, pos});
  float* out = bias.mutable_data<float>();
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t* segment = segments.data<int64_t>() + b * pos;
    for (int64_t i = 0; i < pos; ++i) {
      for (int64_t j = 0; j < pos; ++j) {
        *out++ = segment[i] == segment[j] ? 0 : -std::numeric_limits<float>::infinity();
      }
    }
  }
  return ConvertTo(bias, dtype);
}

// 0 at the first token of a row, after padding and of a segment, else 1, for keys of this shape;
// undefined where only rows begin. The difference from the key before is 0 there as it is.
Tensor FollowsAnother(const Shape& keys, const MixerContext& context, DType dtype) {
  if (!context.key_mask.defined() && !context.segments.defined()) return {};
  const int64_t batch = keys[0], pos = keys[1], width = keys[2] * keys[3];
  Tensor follows = Tensor::Uninitialized(keys);
  float* out = follows.mutable_data<float>();
  for (int64_t b = 0; b < batch; ++b) {
    const bool* mask =
        context.key_mask.defined() ? context.key_mask.data<bool>() + b * pos : nullptr;
    const int64_t* segment =
        context.segments.defined() ? context.segments.data<int64_t>() + b * pos : nullptr;
    for (int64_t j = 0; j < pos; ++j, out += width) {
      const bool first =
          j == 0 || (mask && !mask[j - 1]) || (segment && segment[j] != segment[j - 1]);
      std::fill_n(out, width, first ? 0.f : 1.f);
    }
  }
  return ConvertTo(follows, dtype);
}

// k_j <- k_j + (1 - sigmoid(alpha)) (k_{j-1} - k_j). keys: [batch, pos, heads, d_head], alpha:
// [heads].
Tensor Smear(const Tensor& keys, const Tensor& alpha, const MixerContext& context) {
  const int64_t pos = keys.dim(1), heads = keys.dim(2), d_head = keys.dim(3);
  if (pos == 1) return keys;
  const Tensor before = Concat({Slice(keys, 1, 0, 1), Slice(keys, 1, 0, pos - 1)}, 1);
  Tensor change = Sub(before, keys);
  const Tensor follows = FollowsAnother(keys.shape(), context, keys.dtype());
  if (follows.defined()) change = Mul(change, follows);
  const Tensor share = Sigmoid(Scale(Cast(alpha, keys.dtype()), -1)).Reshaped({heads, 1});
  return Add(keys, Mul(change, BroadcastTo(share, {heads, d_head})));
}

}  // namespace

Tensor AlibiSlopes(int64_t n_heads) {
  int64_t power = 1;
  while (power * 2 <= n_heads) power *= 2;
  std::vector<float> slopes;
  for (int64_t i = 1; i <= power; ++i) {
    slopes.push_back(static_cast<float>(std::exp2(-8.0 * i / power)));
  }
  for (int64_t i = 1; static_cast<int64_t>(slopes.size()) < n_heads; i += 2) {
    slopes.push_back(static_cast<float>(std::exp2(-8.0 * i / (2 * power))));
  }
  return Tensor::Of<float>({n_heads}, slopes);
}

std::unique_ptr<MixerState> KvState::Fork() const {
  auto fork = std::make_unique<KvState>(batch_, n_kv_heads_, d_head_);
  fork->length_ = length_;
  fork->reserved_ = reserved_;
  fork->keys_ = keys_;  // tensors are values: sharing is safe
  fork->values_ = values_;
  return fork;
}

absl::Status KvState::RollBack(int64_t length) {
  length_ = length;
  return absl::OkStatus();
}

std::unique_ptr<MixerState> KvState::Select(absl::Span<const int64_t> rows) const {
  auto selected =
      std::make_unique<KvState>(static_cast<int64_t>(rows.size()), n_kv_heads_, d_head_);
  selected->length_ = length_;
  selected->reserved_ = reserved_;
  if (length_ > 0) {
    selected->keys_ = CopyRows(keys_, rows, length_, keys_.dim(1));
    selected->values_ = CopyRows(values_, rows, length_, values_.dim(1));
  }
  return selected;
}

void KvState::Save(StateWriter& writer) const {
  writer.Write("keys", ExactKeys());
  writer.Write("values", ExactValues());
}

absl::Status KvState::Load(int64_t batch, int64_t length, StateReader& reader) {
  const Shape shape = {batch, length, n_kv_heads_, d_head_};
  RESIDUAL_ASSIGN_OR_RETURN(keys_, reader.ReadFloats("keys", shape));
  RESIDUAL_ASSIGN_OR_RETURN(values_, reader.ReadFloats("values", shape));
  values_ = ConvertTo(values_, keys_.dtype());
  batch_ = batch;
  length_ = length;
  return absl::OkStatus();
}

void KvState::Append(const Tensor& keys, const Tensor& values) {
  RESIDUAL_CHECK(keys.rank() == 4 &&
                 keys.shape() == Shape({batch_, keys.dim(1), n_kv_heads_, d_head_}) &&
                 keys.shape() == values.shape())
      << keys.ToString() << ", " << values.ToString();
  if (length_ > 0 && keys_.dtype() != keys.dtype()) {
    keys_ = ConvertTo(keys_, keys.dtype());
    values_ = ConvertTo(values_, keys.dtype());
  }
  const int64_t added = keys.dim(1), length = length_ + added;
  const bool tracked = Tape::For({&keys, &values, &keys_, &values_}) != nullptr;
  if (length_ == 0 && (tracked || reserved_ <= length)) {
    keys_ = keys;  // the first chunk is taken as it is
    values_ = values;
  } else if (tracked) {
    keys_ = Concat({ExactKeys(), keys}, 1);
    values_ = Concat({ExactValues(), values}, 1);
  } else {
    const bool fits = length_ > 0 && length <= keys_.dim(1);
    if (length_ == 0) {
      const Shape room = keys.shape().With(1, reserved_);
      keys_ = Tensor::Uninitialized(room, keys.dtype());
      values_ = Tensor::Uninitialized(room, keys.dtype());
    } else if (!fits || !keys_.unique() || !values_.unique()) {
      const int64_t room = fits                  ? keys_.dim(1)
                           : reserved_ >= length ? reserved_
                                                 : std::max(length, 2 * keys_.dim(1));
      const std::vector<int64_t> rows = Iota(batch_);
      keys_ = CopyRows(keys_, rows, length_, room);
      values_ = CopyRows(values_, rows, length_, room);
    }
    WritePositions(keys, length_, keys_);
    WritePositions(values, length_, values_);
  }
  length_ = length;
}

Tensor KvState::Exact(const Tensor& buffer) const {
  if (length_ == buffer.dim(1)) return buffer;
  if (Tape::For({&buffer}) != nullptr) return Slice(buffer, 1, 0, length_);
  const Shape exact = buffer.shape().With(1, length_);
  if (batch_ == 1) {
    return buffer.Reshaped(buffer.shape().Without(0)).Rows(0, length_).Reshaped(exact);
  }
  return CopyRows(buffer, Iota(batch_), length_, length_);
}

AttentionMixer::AttentionMixer(const AttentionConfig& config) : config_(config) {
  if (config_.n_kv_heads == 0) config_.n_kv_heads = config_.n_heads;
  if (config_.scale == 0) config_.scale = 1 / std::sqrt(static_cast<double>(config_.d_head));
  if (config_.out_init_scale == 0) config_.out_init_scale = config_.init_scale;
  rotary_.rotary_dim = config_.rotary_dim;
  rotary_.style = config_.rotary_interleaved ? RotaryStyle::kInterleaved : RotaryStyle::kHalf;
  rotary_.inv_freq =
      ScaledFrequencies(config_.rotary_dim, config_.rotary_theta, config_.rotary_scaling);
}

void AttentionMixer::Describe(Visitor& v) {
  const AttentionConfig& c = config_;
  const Init init = Init::Normal(c.init_scale);
  v.Param("W_Q", W_Q_, {c.d_model, c.n_heads, c.d_head}, init, ParamOptions::HeadsFirst());
  v.Param("W_K", W_K_, {c.d_model, c.n_kv_heads, c.d_head}, init, ParamOptions::HeadsFirst());
  v.Param("W_V", W_V_, {c.d_model, c.n_kv_heads, c.d_head}, init, ParamOptions::HeadsFirst());
  v.Param("W_O", W_O_, {c.n_heads, c.d_head, c.d_model}, Init::Normal(c.out_init_scale));
  if (c.bias) {
    v.Param("b_Q", b_Q_, {c.n_heads, c.d_head}, Init::Zeros(), ParamOptions::NoDecay());
    v.Param("b_K", b_K_, {c.n_kv_heads, c.d_head}, Init::Zeros(), ParamOptions::NoDecay());
    v.Param("b_V", b_V_, {c.n_kv_heads, c.d_head}, Init::Zeros(), ParamOptions::NoDecay());
    v.Param("b_O", b_O_, {c.d_model}, Init::Zeros(), ParamOptions::NoDecay());
  }
  // Half and half.
  if (c.smeared_keys) {
    v.Param("alpha", alpha_, {c.n_kv_heads}, Init::Zeros(), ParamOptions::NoDecay());
  }
  v.Hooks({kQIn, kKIn, kVIn, kQ, kK, kV});
  if (c.rotary_dim > 0) v.Hooks({kRotQ, kRotK});
  if (c.smeared_keys) v.Hooks({kSmearedK});
  v.Hooks({kScores, kPattern, kZ, kResult});
}

Tensor AttentionMixer::Forward(const Tensor& x, const MixerContext& context, MixerState* state,
                               const Scope& hook) const {
  const int64_t batch = x.dim(0), pos = x.dim(1);
  const Tensor& rows = context.query_key_positions;
  const Tensor qk_input = rows.defined() ? Add(x, rows) : x;
  const bool drops = context.training && config_.dropout > 0;
  const bool in_steps = drops || hook.Wants(kScores, kPattern);
  // Under bf16 the fused form reads bf16; the softmax in steps is to be in f32, as are rotations.
  const Precision precision = context.precision;
  const bool narrow = precision == Precision::kBF16 && !in_steps;
  const bool rotates = config_.rotary_dim > 0;

  Tensor q, k, v;
  if (rows.defined() || (narrow && rotates) || hook.Wants(kQIn, kKIn, kVIn)) {
    const auto project = [&](const Tensor& in, const Weight& weight, const Tensor& bias,
                             bool turns) {
      MatMulOptions with_bias;
      with_bias.bias = AllHeadsBias(bias);
      return Linear(in, weight, precision, with_bias, narrow && !turns);
    };
    q = project(hook(kQIn, qk_input), W_Q_, b_Q_, rotates);
    k = project(hook(kKIn, qk_input), W_K_, b_K_, rotates);
    v = project(hook(kVIn, x), W_V_, b_V_, false);
  } else {
    std::vector<Tensor> biases;
    if (b_Q_.defined()) biases = {b_Q_, b_K_, b_V_};
    const std::vector<Tensor> all = LinearEach(x, {&W_Q_, &W_K_, &W_V_}, biases, precision, narrow);
    q = all[0];
    k = all[1];
    v = all[2];
  }
  q = hook(kQ, ByHead(q, config_.d_head));
  k = hook(kK, ByHead(k, config_.d_head));
  v = hook(kV, ByHead(v, config_.d_head));
  if (rotates) {
    const RotaryTable table = MakeRotaryTable(context.positions, config_.d_head, rotary_,
                                              q.dtype() == kF64 ? kF64 : kF32);
    q = hook(kRotQ, Rotary(q, table));
    k = hook(kRotK, Rotary(k, table));
    if (narrow) {
      q = Cast(q, kBF16);
      k = Cast(k, kBF16);
    }
  }
  auto* const past = static_cast<KvState*>(state);
  if (past != nullptr) past->Append(k, v);

  AttentionOptions options;
  options.causal = config_.causal;
  options.scale = config_.scale;
  options.key_mask = context.key_mask;
  if (config_.alibi) options.alibi_slopes = AlibiSlopes(config_.n_heads);
  if (context.segments.defined()) options.bias = SegmentBias(context.segments, q.dtype());
  if (past != nullptr) {
    // The fused form reads the buffer where it is; rows behind one another need no room between.
    const bool exact = in_steps || config_.smeared_keys || batch == 1 ||
                       past->length() == past->keys().dim(1) || Tape::For({&q, &k, &v}) != nullptr;
    if (!exact) options.key_length = past->length();
    k = exact ? past->ExactKeys() : past->keys();
    v = exact ? past->ExactValues() : past->values();
  }
  if (config_.smeared_keys) {
    // The past is kept as it was before, so that it forks, rolls back and is saved like any other.
    const DType kept = k.dtype();
    k = Cast(hook(kSmearedK, Smear(Cast(k, kept == kF64 ? kF64 : kF32), alpha_, context)), kept);
  }
  Tensor z;
  if (in_steps) {
    const Tensor scores = hook(kScores, AttentionScores(q, k, options));
    Tensor pattern = hook(kPattern, Softmax(scores));
    if (drops) {
      pattern = Dropout(pattern, config_.dropout, context.seed,
                        RandomStream("pattern", context.layer, context.step));
    }
    z = WeightedSum(pattern, v);
  } else {
    z = Attention(q, k, v, options);
  }
  z = hook(kZ, z);

  if (hook.Wants(kResult)) {
    const Tensor results = hook(kResult, HeadResults(z, W_O_.Dense(), precision));
    const Tensor sum = Sum(results, 2);
    return b_O_.defined() ? Add(sum, b_O_) : sum;
  }
  MatMulOptions out;
  out.bias = b_O_;
  return Linear(z.Reshaped({batch, pos, config_.n_heads * config_.d_head}), W_O_, precision, out);
}

Tensor AttentionMixer::TokenMaps(absl::Span<const Tensor> made_of,
                                 absl::Span<const int64_t> units) const {
  const Tensor& pattern = made_of[0];
  std::vector<Tensor> chosen;
  bool all = static_cast<int64_t>(units.size()) == pattern.dim(1);
  for (size_t i = 0; i < units.size(); ++i) {
    all &= units[i] == static_cast<int64_t>(i);
    chosen.push_back(Slice(pattern, 1, units[i], units[i] + 1));
  }
  return all ? pattern : Concat(chosen, 1);
}

}  // namespace residual
