#include "interp/attribution_patch/qk_fix.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "ops/layout/layout.h"
#include "tensor/base/check.h"

namespace residual {
namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();

// sum_j softmax(s)_j g_j with s[j] alone replaced; `replace` -1: none. 0 where all is hidden.
double MeanWith(const double* s, const double* g, int64_t n, int64_t replace = -1,
                double replaced = 0) {
  const auto score = [&](int64_t j) { return j == replace ? replaced : s[j]; };
  double largest = kNone;
  for (int64_t j = 0; j < n; ++j) largest = std::max(largest, score(j));
  if (largest == kNone) return 0;
  double weighted = 0, all = 0;
  for (int64_t j = 0; j < n; ++j) {
    const double e = std::exp(score(j) - largest);
    weighted += e * g[j];
    all += e;
  }
  return weighted / all;
}

}  // namespace

QueryKeyPoint QueryKeyPointOf(const std::string& point) {
  static constexpr struct {
    const char *name, *other;
    bool queries;
  } kPoints[] = {{"hook_q", "hook_k", true},
                 {"hook_k", "hook_q", false},
                 {"hook_rot_q", "hook_rot_k", true},
                 {"hook_rot_k", "hook_rot_q", false}};
  for (const auto& [name, other, queries] : kPoints) {
    if (!absl::EndsWith(point, absl::StrCat(".", name))) continue;
    const std::string module = point.substr(0, point.size() - std::string(name).size());
    return {queries, module + other, module + "hook_pattern"};
  }
  return {};
}

QueryKeyEffects QueryKeyEffects::Of(PatchSession& session, PatchRun which,
                                    const std::string& name) {
  const QueryKeyPoint at = QueryKeyPointOf(name);
  const auto points = session.Points({name, at.other});
  RESIDUAL_CHECK(points.ok()) << points.status().message();
  const PatchPoint& mine = *(*points)[0];
  const PatchPoint& met = *(*points)[1];
  const PatchRun other = which == PatchRun::kClean ? PatchRun::kCorrupted : PatchRun::kClean;

  // The mixer of the run, on any stream: its queries and keys are put in. Once those of the run,
  // and once with the other's at this point, behind one another in the batch.
  const ResidualModel& model = session.model();
  const std::string module = at.pattern.substr(0, at.pattern.rfind('.'));  // "blocks.3.attn"
  const Mixer* mixer = nullptr;
  for (const Branch& branch : model.block(mine.layer).branches()) {
    if (module == absl::StrCat("blocks.", mine.layer, ".", branch.name)) {
      mixer = branch.mixer.get();
    }
  }
  RESIDUAL_CHECK(mixer != nullptr) << name;
  std::vector<int64_t> twice;
  for (int64_t i = 0; i < 2 * session.batch(); ++i) twice.push_back(i % session.batch());
  const ModelInput input = SelectRows(session.input(which), twice);
  MixerContext context = model.MakeContext(input);
  context.layer = mine.layer;
  Hooks hooks;
  const auto put = [&](const std::string& point, const Tensor& first, const Tensor& second) {
    hooks.Edit(point.substr(module.size() + 1), [first, second](absl::string_view, const Tensor&) {
      return Concat({first, second}, 0);
    });
  };
  put(name, mine.of(which), mine.of(other));
  put(at.other, met.of(which), met.of(which));
  Tensor scores;
  hooks.Read("hook_attn_scores", [&scores](absl::string_view, const Tensor& x) { scores = x; });
  mixer->Forward(
      Tensor::Zeros({input.tokens.dim(0), session.positions(), model.d_model()}, model.dtype()),
      context, nullptr, Scope(&hooks));
  RESIDUAL_CHECK(scores.defined()) << module;

  QueryKeyEffects effects;
  effects.queries_ = at.queries;
  effects.batch_ = session.batch();
  effects.heads_ = scores.dim(1);
  effects.groups_ = mine.any().dim(2);
  effects.positions_ = scores.dim(3);
  const std::vector<double> both = scores.ToDoubles();
  const size_t half = both.size() / 2;
  effects.scores_.assign(both.begin(), both.begin() + half);
  effects.others_.assign(both.begin() + half, both.end());
  return effects;
}

std::vector<double> QueryKeyEffects::Effect(const PatchCell& cell,
                                            absl::Span<const double> gradient) const {
  RESIDUAL_CHECK_EQ(gradient.size(), scores_.size()) << cell.ToString();
  const int64_t n = positions_, per_group = heads_ / groups_;
  std::vector<double> effects(batch_, 0);
  for (int64_t e = 0; e < batch_; ++e) {
    for (int64_t h = 0; h < heads_; ++h) {
      if (cell.head != PatchCell::kAll && cell.head != h / per_group) continue;
      for (int64_t i = 0; i < n; ++i) {
        if (queries_ && cell.pos != PatchCell::kAll && cell.pos != i) continue;
        const int64_t row = (e * heads_ + h) * n + i;
        const double* const s = &scores_[row * n];
        const double* const replaced = &others_[row * n];
        const double* const g = &gradient[row * n];
        const bool one_key = !queries_ && cell.pos != PatchCell::kAll;
        if (one_key && s[cell.pos] == kNone && replaced[cell.pos] == kNone) continue;
        effects[e] +=
            (one_key ? MeanWith(s, g, n, cell.pos, replaced[cell.pos]) : MeanWith(replaced, g, n)) -
            MeanWith(s, g, n);
      }
    }
  }
  return effects;
}

}  // namespace residual
