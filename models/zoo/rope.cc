#include "models/zoo/rope.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace residual {
namespace {

using nlohmann::json;

// The object of parameters under one of its names, with a reader whose errors name it.
const json* FindObject(ConfigReader& config, const char* name) {
  const json* found = config.Find(name);
  if (found != nullptr && !found->is_object()) {
    config.FailField(name, *found, "an object");
    return nullptr;
  }
  return found;
}

void ReadScaling(ConfigReader& scaling, TransformerConfig& c) {
  const std::string kind = scaling.TextOr({"rope_type", "type"}, "default");
  RotaryScaling& s = c.rotary_scaling;
  if (kind == "linear" || kind == "llama3") {
    s.factor = scaling.NumberOr("factor", 0, 1, 1e6);
    if (s.factor == 0) scaling.FailField("factor", nullptr, "a number in [1, 1e+06]");
  }
  if (kind == "linear") {
    s.kind = RotaryScaling::kLinear;
  } else if (kind == "llama3") {
    s.kind = RotaryScaling::kLlama3;
    s.low_freq_factor = scaling.NumberOr("low_freq_factor", 1, 1e-6, 1e6);
    s.high_freq_factor = scaling.NumberOr("high_freq_factor", 4, 1e-6, 1e6);
    s.original_ctx = scaling.IntOr("original_max_position_embeddings", c.n_ctx, 1,
                                   TransformerConfig::kMaxContext);
    if (s.high_freq_factor <= s.low_freq_factor) {
      scaling.FailField("high_freq_factor", s.high_freq_factor, "more than 'low_freq_factor'");
    }
  } else if (kind != "default") {
    scaling.Fail(absl::StatusCode::kUnimplemented,
                 absl::StrCat("'rope_type' is ", ShortJson(json(kind)),
                              ", supported are only \"default\", \"linear\" and \"llama3\""));
  }
}

}  // namespace

double ReadRope(ConfigReader& config, const FieldNames& theta_names, double partial,
                TransformerConfig& c) {
  c.positions = Positions::kRotary;
  c.rotary_theta = config.NumberOr(theta_names, 10000, 1, 1e12);
  partial = config.NumberOr({"partial_rotary_factor", "rotary_pct"}, partial, 0, 1);
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    const json* object = FindObject(config, name);
    if (object == nullptr) continue;
    ConfigReader parameters(*object, config.file() + ": " + name);
    ReadScaling(parameters, c);
    c.rotary_theta = parameters.NumberOr("rope_theta", c.rotary_theta, 1, 1e12);
    partial = parameters.NumberOr("partial_rotary_factor", partial, 0, 1);
    config.Join(parameters);
  }
  return partial;
}

}  // namespace residual
