#include "tools/experiments/mamba/plan/induction_plan.h"

#include <algorithm>

#include "models/checkpoint/config_reader.h"
#include "tensor/base/status_macros.h"

namespace residual {

InductionPlan FullInduction() { return {}; }

InductionPlan QuickInduction() {
  InductionPlan plan;
  plan.train_log = 6;
  plan.claimed_log = 9;
  plan.longest_log = 14;
  plan.attention_log = 11;
  plan.batch_size = 64;
  plan.label_smoothing = 0;
  plan.pass_state = 0;
  plan.steps = 4000;
  plan.eval_every = 200;
  plan.seconds_limit = 600;
  plan.seeds = 1;
  plan.measured_tokens = int64_t{1} << 18;
  return plan;
}

absl::StatusOr<InductionPlan> ChangedPlan(InductionPlan plan, const nlohmann::json& changes,
                                          const std::string& source) {
  constexpr int64_t kMany = int64_t{1} << 40;
  ConfigReader c(changes, source);
  // An answer needs four tokens, and a row fits an int64.
  plan.train_log = c.IntOr("train_log", plan.train_log, 2, 30);
  plan.first_log =
      c.IntOr("first_log", std::min(plan.first_log, plan.train_log), 2, plan.train_log);
  plan.shortest_log =
      c.IntOr("shortest_log", std::min(plan.shortest_log, plan.train_log), 2, plan.train_log);
  plan.longest_log = c.IntOr("longest_log", plan.longest_log, plan.train_log, 30);
  plan.claimed_log = c.IntOr("claimed_log", plan.claimed_log, plan.train_log, plan.longest_log);
  plan.attention_log = c.IntOr("attention_log", plan.attention_log, plan.train_log, 30);
  plan.batch_size = c.IntOr("batch_size", plan.batch_size, 1, 1 << 16);
  plan.lr = c.NumberOr("lr", plan.lr, 0, 1e3);
  plan.attention_lr = c.NumberOr("attention_lr", plan.attention_lr, 0, 1e3);
  plan.eps = c.NumberOr("eps", plan.eps, 0, 1);
  plan.cosine = c.BoolOr("cosine", plan.cosine);
  plan.label_smoothing = c.NumberOr("label_smoothing", plan.label_smoothing, 0, 1);
  plan.pass_state = c.IntOr("pass_state", plan.pass_state, 0, kMany);
  plan.steps = c.IntOr("steps", plan.steps, 1, kMany);
  plan.eval_every = c.IntOr("eval_every", plan.eval_every, 1, kMany);
  plan.seconds_limit = c.NumberOr("seconds_limit", plan.seconds_limit, 0, 1e12);
  plan.seeds = c.IntOr("seeds", plan.seeds, 1, 1000);
  plan.measured_tokens = c.IntOr("measured_tokens", plan.measured_tokens, 1, kMany);
  c.FailOnUnreadKeys({});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  return plan;
}

}  // namespace residual
