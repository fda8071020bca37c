#include "models/settings/settings.h"

#include <algorithm>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "models/checkpoint/config_reader.h"
#include "models/classify/classifier.h"
#include "models/nn/nearest.h"
#include "models/nn/precision.h"
#include "models/transformer/transformer.h"
#include "models/zoo/zoo.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 2;
constexpr double kLarge = 1e30;

struct Preset {
  const char* name;
  std::vector<std::string> block;
  json changes;  // to a TransformerConfig and to the training
};

const std::vector<Preset>& AllPresets() {
  static const auto& presets = *new std::vector<Preset>{
      // The least model with induction heads (Elhage et al. 2021).
      {"attn_only",
       {"attn"},
       {{"d_model", 64},
        {"n_layers", 2},
        {"n_heads", 4},
        {"context", 64},
        {"attention_bias", false},
        {"unembed_bias", false},
        {"positions", "sinusoidal_qk"},
        {"lr", 5e-3},
        {"beta2", 0.99}}},
      // Radford et al. 2019, small.
      {"gpt2",
       {"attn", "mlp"},
       {{"d_model", 128},
        {"n_layers", 4},
        {"n_heads", 4},
        {"context", 128},
        {"tied", true},
        {"unembed_bias", false},
        {"scale_residual_init", true},
        {"lr", 1e-3},
        {"weight_decay", 0.1}}},
      // Touvron et al. 2023, small.
      {"llama",
       {"attn", "mlp"},
       {{"d_model", 128},
        {"n_layers", 4},
        {"n_heads", 4},
        {"context", 128},
        {"norm", "rms_norm"},
        {"positions", "rotary"},
        {"activation", "silu"},
        {"gated_mlp", true},
        {"attention_bias", false},
        {"mlp_bias", false},
        {"unembed_bias", false},
        {"lr", 1e-3},
        {"beta2", 0.95},
        {"weight_decay", 0.1}}},
      // Gu and Dao 2023, small, with the recipe of their section E.2.
      {"mamba",
       {"mamba"},
       {{"d_model", 128},
        {"n_layers", 4},
        {"context", 128},
        {"norm", "rms_norm"},
        {"positions", "none"},
        {"tied", true},
        {"unembed_bias", false},
        {"lr", 2e-3},
        {"beta2", 0.95},
        {"weight_decay", 0.1}}},
      // Dao and Gu 2024, small.
      {"mamba2",
       {"mamba2"},
       {{"d_model", 128},
        {"n_layers", 4},
        {"context", 128},
        {"d_state", 32},
        {"mamba_d_head", 32},
        {"norm", "rms_norm"},
        {"positions", "none"},
        {"tied", true},
        {"unembed_bias", false},
        {"lr", 2e-3},
        {"beta2", 0.95},
        {"weight_decay", 0.1}}},
      // Gu et al. 2022, small: the paper's layer with what its reference trains with.
      {"s4",
       {"s4"},
       {{"d_model", 128},
        {"n_layers", 4},
        {"context", 128},
        {"d_state", 64},
        {"positions", "none"},
        {"tied", true},
        {"unembed_bias", false},
        {"lr", 4e-3},
        {"weight_decay", 0.05}}},
      {"s4d",
       {"s4d"},
       {{"d_model", 128},
        {"n_layers", 4},
        {"context", 128},
        {"d_state", 64},
        {"positions", "none"},
        {"tied", true},
        {"unembed_bias", false},
        {"lr", 4e-3},
        {"weight_decay", 0.05}}},
  };
  return presets;
}

// Of the run, beside those of the model.
json TrainingDefaults() {
  return {{"n_layers", 1},        {"context", 64},           {"tokenizer", "bytes"},
          {"repeat", 0.0},        {"eval_repeat", 0.0},      {"eval_fraction", 0.1},
          {"steps", 2000},        {"batch_size", 32},        {"accumulation", 1},
          {"clip_norm", 1.0},     {"label_smoothing", 0.0},  {"seed", 0},
          {"precision", "f32"},   {"optimizer", "adamw"},    {"lr", 1e-3},
          {"beta1", 0.9},         {"beta2", 0.999},          {"adam_eps", 1e-8},
          {"amsgrad", false},     {"momentum", 0.0},         {"dampening", 0.0},
          {"nesterov", false},    {"weight_decay", 0.0},     {"schedule", "cosine"},
          {"warmup_steps", 100},  {"final_fraction", 0.1},   {"eval_every", 100},
          {"eval_batches", 8},    {"checkpoint_every", 500}, {"n_items", 0},
          {"validation_rows", 0}, {"pooling", "mean"}};
}

absl::Status Wrong(absl::string_view source, absl::string_view name, absl::string_view found,
                   absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(source, name, "=", found, ", expected ", expected));
}

// Text as JSON of the type of `like`.
absl::StatusOr<json> Typed(const std::string& name, const std::string& text, const json& like) {
  if (like.is_string()) return json(text);
  if (like.is_boolean()) {
    if (text == "true" || text == "1") return json(true);
    if (text == "false" || text == "0") return json(false);
    return Wrong("--", name, text, "true or false");
  }
  if (like.is_number_integer()) {
    int64_t value = 0;
    if (absl::SimpleAtoi(text, &value)) return json(value);
    return Wrong("--", name, text, "an integer");
  }
  if (like.is_number()) {
    double value = 0;
    if (absl::SimpleAtod(text, &value)) return json(value);
    return Wrong("--", name, text, "a number");
  }
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return Wrong("--", name, text, "JSON");
  return value;
}

}  // namespace

std::vector<std::string> Settings::Presets() {
  std::vector<std::string> names;
  for (const Preset& preset : AllPresets()) names.push_back(preset.name);
  return names;
}

absl::StatusOr<Settings> Settings::Of(const std::string& name) {
  for (const Preset& preset : AllPresets()) {
    if (name != preset.name) continue;
    json values = ConfigToJson(TransformerConfig());
    for (const char* fixed : {"model_type", "n_ctx"}) values.erase(fixed);
    values.update(TrainingDefaults());
    values.update(preset.changes);
    values["model"] = name;
    // A block of the preset for each layer, unless "blocks" lists them.
    values["blocks"] = json::array({preset.block});
    return Settings(std::move(values));
  }
  const std::vector<std::string> known = Presets();
  return absl::InvalidArgumentError(absl::StrCat(
      "--model=", name, ", expected one of ", absl::StrJoin(known, ", "), DidYouMean(name, known)));
}

absl::Status Settings::SetText(const std::string& name, const std::string& text) {
  json like = values_.value(name, json());
  if (name == "n_ctx") like = 0;
  if (name == "dropout") like = 0.0;
  if (name == "betas") {
    std::vector<double> betas;
    for (const absl::string_view part : absl::StrSplit(text, ',')) {
      RESIDUAL_ASSIGN_OR_RETURN(const json beta, Typed(name, std::string(part), 0.0));
      betas.push_back(beta.get<double>());
    }
    return Set(name, betas, "--");
  }
  // Types of unknown names do not matter: Set refuses them.
  RESIDUAL_ASSIGN_OR_RETURN(const json value, Typed(name, text, like.is_null() ? json("") : like));
  return Set(name, value, "--");
}

absl::Status Settings::SetAll(const json& values, const std::string& source) {
  for (const auto& [name, value] : values.items()) {
    RESIDUAL_RETURN_IF_ERROR(Set(name, value, source + ": "));
  }
  return absl::OkStatus();
}

absl::Status Settings::Set(const std::string& name, const json& value, const std::string& source) {
  const auto set_each = [&](std::initializer_list<const char*> names) -> absl::Status {
    for (const char* each : names) RESIDUAL_RETURN_IF_ERROR(Set(each, value, source));
    return absl::OkStatus();
  };
  if (name == "n_ctx") return set_each({"context"});
  if (name == "dropout") return set_each({"embed_dropout", "resid_dropout", "attn_dropout"});
  if (name == "betas") {
    if (!value.is_array() || value.size() != 2) {
      return Wrong(source, name, ShortJson(value), "two numbers");
    }
    RESIDUAL_RETURN_IF_ERROR(Set("beta1", value[0], source));
    return Set("beta2", value[1], source);
  }
  const auto found = values_.find(name);
  if (found == values_.end()) {
    std::vector<std::string> known = {"n_ctx", "dropout", "betas", "text", "task", "out", "resume"};
    for (const auto& [key, unused] : values_.items()) known.push_back(key);
    return absl::InvalidArgumentError(absl::StrCat(
        source == "--" ? "no flag --" : source + "no setting ", name, DidYouMean(name, known)));
  }
  if (name == "model" && value != *found) {
    return Wrong(source, name, ShortJson(value), found->dump());
  }
  if (name == "blocks" && value.is_array() && !value.empty()) {
    values_["n_layers"] = static_cast<int64_t>(value.size());
  }
  *found = value;
  return absl::OkStatus();
}

absl::StatusOr<TrainingPlan> Settings::Resolve() const {
  ConfigReader c(values_, "settings");
  TrainingPlan plan;
  TrainConfig& train = plan.run.train;
  plan.tokenizer = c.TextOr("tokenizer", "");
  plan.text.context = c.Int("context", 2, TransformerConfig::kMaxContext);
  plan.text.repeat = c.NumberOr("repeat", 0, 0, 1);
  plan.text.eval_repeat = c.NumberOr("eval_repeat", 0, 0, 1);
  plan.text.eval_fraction = c.NumberOr("eval_fraction", 0, 1e-6, 0.999);
  plan.run.steps = c.Int("steps", 1, kMost);
  plan.run.eval_every = c.Int("eval_every", 0, kMost);
  plan.run.eval_batches = c.Int("eval_batches", 0, kMost);
  plan.run.checkpoint_every = c.Int("checkpoint_every", 0, kMost);
  train.batch_size = c.Int("batch_size", 1, 1 << 20);
  train.accumulation = c.Int("accumulation", 1, 1 << 20);
  train.clip_norm = c.NumberOr("clip_norm", 0, 0, kLarge);
  train.label_smoothing = c.NumberOr("label_smoothing", 0, 0, 0.999);
  train.seed = static_cast<uint64_t>(c.Int("seed", 0, kMost));
  train.precision =
      c.ChoiceOr<Precision>("precision", Precision::kFull, PrecisionFromName, PrecisionNames());
  train.optimizer.kind = c.ChoiceOr<OptimizerKind>("optimizer", OptimizerKind::kAdamW,
                                                   OptimizerKindFromName, OptimizerKindNames());
  train.optimizer.beta1 = c.NumberOr("beta1", 0, 0, 0.999999);
  train.optimizer.beta2 = c.NumberOr("beta2", 0, 0, 0.999999);
  train.optimizer.eps = c.NumberOr("adam_eps", 0, 0, 1);
  train.optimizer.amsgrad = c.BoolOr("amsgrad", false);
  train.optimizer.momentum = c.NumberOr("momentum", 0, 0, 0.999999);
  train.optimizer.dampening = c.NumberOr("dampening", 0, 0, 1);
  train.optimizer.nesterov = c.BoolOr("nesterov", false);
  train.optimizer.weight_decay = c.NumberOr("weight_decay", 0, 0, kLarge);
  Schedule& schedule = train.schedule;
  schedule.kind = c.ChoiceOr<ScheduleKind>("schedule", ScheduleKind::kConstant,
                                           ScheduleKindFromName, ScheduleKindNames());
  schedule.lr = c.NumberOr("lr", 0, 0, kLarge);
  schedule.warmup_steps = c.Int("warmup_steps", 0, kMost);
  schedule.total_steps = plan.run.steps;
  schedule.final_fraction = c.NumberOr("final_fraction", 0, 0, 1);
  schedule.d_model = c.Int("d_model", 1, TransformerConfig::kMaxWidth);
  if (train.optimizer.kind == OptimizerKind::kSgd && train.optimizer.amsgrad) {
    c.FailField("amsgrad", true, "false: sgd has no second moment");
  }
  if (train.optimizer.kind != OptimizerKind::kSgd && train.optimizer.momentum > 0) {
    c.FailField("momentum", train.optimizer.momentum, "0: it is of sgd; see beta1");
  }
  if (train.optimizer.dampening > 0 && train.optimizer.momentum == 0) {
    c.FailField("dampening", train.optimizer.dampening, "a momentum above 0 with it");
  }
  if (train.optimizer.nesterov &&
      (train.optimizer.momentum == 0 || train.optimizer.dampening > 0)) {
    c.FailField("nesterov", true, "a momentum above 0 and a dampening of 0 with it");
  }

  const int64_t layers = c.Int("n_layers", 1, TransformerConfig::kMaxLayers);
  const json* blocks = c.Find("blocks");
  plan.d_vocab = c.Int("d_vocab", 0, TransformerConfig::kMaxVocabulary);
  plan.n_items = c.Int("n_items", 0, TransformerConfig::kMaxContext);
  plan.validation_rows = c.Int("validation_rows", 0, kMost);
  plan.pooling = c.ChoiceOr<Pooling>("pooling", Pooling::kMean, PoolingFromName, {"mean", "last"});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  plan.model = ConfigToJson(TransformerConfig());
  for (auto& [name, value] : plan.model.items()) value = values_.value(name, value);
  plan.model["n_ctx"] = plan.text.context;
  if (plan.d_vocab == 0) plan.model["d_vocab"] = 1;
  if (blocks == nullptr || !blocks->is_array() || blocks->empty()) {
    c.FailField("blocks", values_["blocks"], "a list of blocks, each a list of mixers");
  } else if (blocks->size() == 1) {
    plan.model["blocks"] = json(static_cast<size_t>(layers), (*blocks)[0]);
  } else if (static_cast<int64_t>(blocks->size()) != layers) {
    c.FailField("n_layers", layers, absl::StrCat(blocks->size(), ", as many as there are blocks"));
  }
  RESIDUAL_RETURN_IF_ERROR(c.status());
  RESIDUAL_RETURN_IF_ERROR(ModelFromConfig(plan.model, "settings").status());
  return plan;
}

}  // namespace residual
