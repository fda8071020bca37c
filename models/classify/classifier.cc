#include "models/classify/classifier.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "models/nn/precision.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

Init LinearInit(int64_t n) { return Init::Uniform(1 / std::sqrt(static_cast<double>(n))); }

}  // namespace

const char* PoolingName(Pooling pooling) { return pooling == Pooling::kLast ? "last" : "mean"; }

std::optional<Pooling> PoolingFromName(absl::string_view name) {
  for (const Pooling pooling : {Pooling::kMean, Pooling::kLast}) {
    if (name == PoolingName(pooling)) return pooling;
  }
  return std::nullopt;
}

absl::StatusOr<std::unique_ptr<SequenceClassifier>> SequenceClassifier::Make(
    const ClassifierConfig& c) {
  TransformerConfig body = c.body;
  if (c.channels > 0) body.d_vocab = 1;
  RESIDUAL_RETURN_IF_ERROR(ValidateTransformerConfig(body));
  const auto wrong = [](const char* field, int64_t found, const char* expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", field, "' is ", found, ", expected ", expected));
  };
  if (c.channels < 0) return wrong("channels", c.channels, "at least 0");
  if (c.n_classes < 2) return wrong("n_classes", c.n_classes, "at least 2");
  if (c.body.n_ctx < 1) return wrong("n_ctx", c.body.n_ctx, "the longest sequence");
  if (body.positions != Positions::kNone && body.positions != Positions::kRotary &&
      body.positions != Positions::kAlibi) {
    return absl::InvalidArgumentError(
        absl::StrCat("'positions' is \"", PositionsName(body.positions),
                     "\", expected none, rotary or alibi: a classifier has no table of them"));
  }
  if (!(c.scale > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'scale' is ", c.scale, ", expected a number above 0"));
  }
  return std::unique_ptr<SequenceClassifier>(new SequenceClassifier(c));
}

SequenceClassifier::SequenceClassifier(const ClassifierConfig& config) : config_(config) {
  if (config_.channels > 0) config_.body.d_vocab = 1;  // no tokens
  blocks_ = BuildBlocks(config_.body);
  const TransformerConfig& body = config_.body;
  ln_final_ = Norm(body.final_norm ? body.norm : NormKind::kNone, body.d_model, body.eps);
}

void SequenceClassifier::Describe(Visitor& v) {
  const ClassifierConfig& c = config_;
  const int64_t d_model = c.body.d_model;
  const ParamOptions no_decay = ParamOptions::NoDecay();
  if (c.channels > 0) {
    v.Param("encoder", encoder_, {c.channels, d_model}, LinearInit(c.channels));
    v.Param("encoder_bias", encoder_bias_, {d_model}, LinearInit(c.channels), no_decay);
  } else {
    v.Param("embed", encoder_, {c.body.d_vocab, d_model}, Init::Normal(1));
  }
  v.Hooks({kEmbed});
  for (size_t i = 0; i < blocks_.size(); ++i) v.Child("blocks", static_cast<int>(i), blocks_[i]);
  if (ln_final_.kind() != NormKind::kNone) v.Child("ln_final", ln_final_);
  v.Param("head", head_, {d_model, c.n_classes}, LinearInit(d_model));
  v.Param("head_bias", head_bias_, {c.n_classes}, LinearInit(d_model), no_decay);
  v.Hooks({kPooled, kLogits});
}

void SequenceClassifier::CheckInput(const Tensor& x) const {
  const bool tokens = config_.channels == 0;
  RESIDUAL_CHECK(x.rank() == (tokens ? 2 : 3) && x.dim(1) >= 1 && x.dim(1) <= config_.body.n_ctx &&
                 (tokens || x.dim(2) == config_.channels))
      << x.ToString() << " for " << config_.channels << " channels, n_ctx " << config_.body.n_ctx;
}

Tensor SequenceClassifier::Encode(const Tensor& x, Precision precision) const {
  if (config_.channels == 0) return LookUp(encoder_, x);
  MatMulOptions options;
  options.bias = encoder_bias_;
  const Tensor values = ConvertTo(x, head_bias_.dtype());
  return Linear(Scale(AddScalar(values, -config_.center), 1 / config_.scale), encoder_, precision,
                options);
}

Tensor SequenceClassifier::Head(const Tensor& pooled, Precision precision) const {
  MatMulOptions options;
  options.bias = head_bias_;
  return Linear(pooled, head_, precision, options);
}

Tensor SequenceClassifier::Forward(const Tensor& x, const std::vector<int64_t>& lengths,
                                   const MixerContext* training, Hooks* hooks) const {
  CheckInput(x);
  const int64_t batch = x.dim(0), pos = x.dim(1), d_model = config_.body.d_model;
  RESIDUAL_CHECK(lengths.empty() || static_cast<int64_t>(lengths.size()) == batch);
  const Scope hook(hooks);
  MixerContext context;
  if (training != nullptr) context = *training;
  context.positions = Tensor::Uninitialized({pos}, kI64);
  for (int64_t t = 0; t < pos; ++t) context.positions.mutable_data<int64_t>()[t] = t;
  const DType dtype = head_bias_.dtype();

  // What each position counts for in the mean or, where one alone is read, that one.
  Tensor weights;
  if (!lengths.empty() || config_.pooling == Pooling::kLast) {
    Tensor mask = Tensor::Uninitialized({batch, pos}, kBool);
    weights = Tensor::Zeros({batch, pos, 1}, kF64);
    for (int64_t row = 0; row < batch; ++row) {
      const int64_t length = lengths.empty() ? pos : lengths[row];
      RESIDUAL_CHECK(1 <= length && length <= pos) << "row " << row << " of " << length;
      double* weight = weights.mutable_data<double>() + row * pos;
      for (int64_t t = 0; t < pos; ++t) {
        mask.mutable_data<bool>()[row * pos + t] = t < length;
        if (config_.pooling == Pooling::kMean && t < length) {
          weight[t] = 1.0 / static_cast<double>(length);
        }
      }
      if (config_.pooling == Pooling::kLast) weight[length - 1] = 1;
    }
    weights = ConvertTo(weights, dtype);
    if (!lengths.empty()) context.key_mask = mask;
  }

  Tensor resid = hook(kEmbed, Encode(x, context.precision));
  for (size_t i = 0; i < blocks_.size(); ++i) {
    context.layer = static_cast<int>(i);
    resid = blocks_[i].Forward(resid, context, nullptr, hook.In("blocks", context.layer));
  }
  resid = ln_final_.Forward(resid, hook.In("ln_final"));
  const Tensor pooled = weights.defined()
                            ? Sum(Mul(resid, BroadcastTo(weights, {batch, pos, d_model})), 1)
                            : Mean(resid, 1);
  return hook(kLogits, Head(hook(kPooled, pooled), context.precision));
}

absl::Status SequenceClassifier::Validate(const Tensor& x,
                                          const std::vector<int64_t>& lengths) const {
  const auto wrong = [](auto&&... parts) {
    return absl::InvalidArgumentError(absl::StrCat(parts...));
  };
  const int64_t n_ctx = config_.body.n_ctx;
  if (config_.channels > 0) {
    if (!IsFloat(x.dtype()) || x.rank() != 3 || x.dim(2) != config_.channels) {
      return wrong("the rows are ", x.ToString(), ", expected values [batch, pos, ",
                   config_.channels, "]");
    }
  } else if ((x.dtype() != kI32 && x.dtype() != kI64) || x.rank() != 2) {
    return wrong("the rows are ", x.ToString(), ", expected tokens [batch, pos]");
  }
  if (x.dim(0) < 1 || x.dim(1) < 1 || x.dim(1) > n_ctx) {
    return wrong("there are ", x.dim(0), " rows of ", x.dim(1),
                 " positions, expected at least 1 of 1 to ", n_ctx);
  }
  if (config_.channels == 0) {
    const Tensor ids = ConvertTo(x, kI64);
    for (int64_t i = 0; i < ids.elements(); ++i) {
      const int64_t id = ids.data<int64_t>()[i];
      if (id < 0 || id >= config_.body.d_vocab) {
        return wrong("row ", i / x.dim(1), ", position ", i % x.dim(1), ": token ", id,
                     ", expected 0 to ", config_.body.d_vocab - 1);
      }
    }
  }
  if (!lengths.empty() && static_cast<int64_t>(lengths.size()) != x.dim(0)) {
    return wrong(lengths.size(), " lengths, expected ", x.dim(0));
  }
  for (const int64_t length : lengths) {
    if (length < 1 || length > x.dim(1)) {
      return wrong("a row has ", length, " positions of its own, expected 1 to ", x.dim(1));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Tensor> SequenceClassifier::Run(const Tensor& x, const std::vector<int64_t>& lengths,
                                               Hooks* hooks) const {
  RESIDUAL_RETURN_IF_ERROR(Validate(x, lengths));
  if (hooks != nullptr) {
    RESIDUAL_RETURN_IF_ERROR(hooks->Validate(HookPoints(*this)));
    hooks->Reset();
  }
  const Tensor logits = Forward(x, lengths, nullptr, hooks);
  if (hooks != nullptr) RESIDUAL_RETURN_IF_ERROR(hooks->CheckFired());
  return logits;
}

Tensor SequenceClassifier::ForwardInChunks(const Tensor& x, int64_t chunk,
                                           size_t* state_bytes) const {
  CheckInput(x);
  RESIDUAL_CHECK_GE(chunk, 1);
  const int64_t batch = x.dim(0), pos = x.dim(1);
  std::vector<BlockState> states;
  for (const Block& block : blocks_) {
    for (const Branch& branch : block.branches()) RESIDUAL_CHECK(branch.mixer->causal());
    states.push_back(block.NewState(batch));
  }
  MixerContext context;
  Tensor pooled;
  for (int64_t begin = 0; begin < pos; begin += chunk) {
    const int64_t end = std::min(pos, begin + chunk);
    context.past = begin;
    context.positions = Tensor::Uninitialized({end - begin}, kI64);
    for (int64_t t = begin; t < end; ++t) {
      context.positions.mutable_data<int64_t>()[t - begin] = t;
    }
    Tensor resid = Encode(Slice(x, 1, begin, end), context.precision);
    for (size_t i = 0; i < blocks_.size(); ++i) {
      context.layer = static_cast<int>(i);
      resid = blocks_[i].Forward(resid, context, &states[i], Scope());
    }
    resid = ln_final_.Forward(resid, Scope());
    if (config_.pooling == Pooling::kLast) {
      const int64_t last = resid.dim(1) - 1;
      pooled = Slice(resid, 1, last, last + 1).Reshaped({batch, resid.dim(2)});
    } else {
      const Tensor sum = Sum(resid, 1);
      pooled = pooled.defined() ? Add(pooled, sum) : sum;
    }
  }
  if (config_.pooling == Pooling::kMean) pooled = Scale(pooled, 1.0 / static_cast<double>(pos));
  if (state_bytes != nullptr) {
    *state_bytes = pooled.bytes();
    for (const BlockState& block : states) {
      for (const auto& mixer : block) *state_bytes += mixer == nullptr ? 0 : mixer->bytes();
    }
  }
  return Head(pooled, context.precision);
}

}  // namespace residual
