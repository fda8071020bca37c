#include "tools/experiments/copying/plan/copying_plan.h"

#include <algorithm>

#include "models/checkpoint/config_reader.h"
#include "tensor/base/status_macros.h"

namespace residual {

CopyingPlan CpuCopying() { return {}; }

CopyingPlan QuickCopying() {
  CopyingPlan plan;
  plan.context = plan.first_context = 256;
  plan.n_items = 8;
  plan.batch_size = 32;
  plan.steps = 4000;
  plan.eval_every = 200;
  plan.seconds_limit = 1200;
  plan.seeds = 1;
  // With fewer to copy S4 gets further: 0.62 when the bounds were set, Mamba 0.999.
  plan.s4_most = 0.7;
  plan.gap_least = 0.3;
  return plan;
}

absl::StatusOr<CopyingPlan> ChangedPlan(CopyingPlan plan, const nlohmann::json& changes,
                                        const std::string& source) {
  constexpr int64_t kMany = int64_t{1} << 40;
  ConfigReader c(changes, source);
  plan.context = c.IntOr("context", plan.context, 3, kMany);
  plan.n_items = c.IntOr("n_items", plan.n_items, 1, kMany);
  plan.first_context =
      c.IntOr("first_context", std::min(plan.first_context, plan.context), 3, plan.context);
  plan.lesson_steps = c.IntOr("lesson_steps", plan.lesson_steps, 0, kMany);
  plan.d_model = c.IntOr("d_model", plan.d_model, 4, 1 << 14);
  plan.batch_size = c.IntOr("batch_size", plan.batch_size, 1, 1 << 16);
  plan.lr = c.NumberOr("lr", plan.lr, 0, 1e3);
  plan.warmup_steps = c.IntOr("warmup_steps", plan.warmup_steps, 0, kMany);
  plan.cosine = c.BoolOr("cosine", plan.cosine);
  plan.steps = c.IntOr("steps", plan.steps, 1, kMany);
  plan.eval_every = c.IntOr("eval_every", plan.eval_every, 1, kMany);
  plan.seconds_limit = c.NumberOr("seconds_limit", plan.seconds_limit, 0, 1e12);
  plan.seeds = c.IntOr("seeds", plan.seeds, 1, 1000);
  plan.measured_rows = c.IntOr("measured_rows", plan.measured_rows, 1, 1 << 20);
  plan.mamba_least = c.NumberOr("mamba_least", plan.mamba_least, 0, 1);
  plan.s4_most = c.NumberOr("s4_most", plan.s4_most, 0, 1);
  plan.gap_least = c.NumberOr("gap_least", plan.gap_least, 0, 1);
  c.FailOnUnreadKeys({});
  RESIDUAL_RETURN_IF_ERROR(c.status());
  return plan;
}

}  // namespace residual
