#include "models/nn/hook.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "models/nn/nearest.h"

namespace residual {
namespace {

// TransformerLens (compatibility mode) fires these under a second name. The first column is what
// follows "blocks.L." or stands alone.
struct Alias {
  const char* other;
  const char* declared;
};
constexpr Alias kBlockAliases[] = {
    {"hook_in", "hook_resid_pre"},
    {"hook_out", "hook_resid_post"},
    {"attn.q.hook_out", "attn.hook_q"},
    {"attn.k.hook_out", "attn.hook_k"},
    {"attn.v.hook_out", "attn.hook_v"},
    {"attn.o.hook_in", "attn.hook_z"},
    {"attn.o.hook_out", "hook_attn_out"},
    {"attn.hook_out", "hook_attn_out"},
    {"attn.hook_hidden_states", "hook_attn_out"},
    {"attn.hook_in", "ln1.hook_out"},
    {"mlp.hook_in", "ln2.hook_out"},
    {"mlp.in.hook_in", "ln2.hook_out"},
    {"mlp.in.hook_out", "mlp.hook_pre"},
    {"mlp.out.hook_in", "mlp.hook_post"},
    {"mlp.out.hook_out", "hook_mlp_out"},
    {"mlp.hook_out", "hook_mlp_out"},
};
constexpr Alias kModelAliases[] = {
    {"embed.hook_out", "hook_embed"},
    {"pos_embed.hook_out", "hook_pos_embed"},
    {"unembed.hook_in", "ln_final.hook_out"},
    {"unembed.hook_out", "hook_unembed"},
};

}  // namespace

bool GlobMatches(absl::string_view pattern, absl::string_view text) {
  // Greedy with one way back: to the last `*`, which then swallows one character more.
  size_t p = 0, t = 0, star = absl::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (star != absl::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string CanonicalHookName(absl::string_view name) {
  for (const Alias& alias : kModelAliases) {
    if (name == alias.other) return alias.declared;
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(name, absl::MaxSplits('.', 2));
  int layer;
  if (parts.size() == 3 && parts[0] == "blocks" &&
      (parts[1] == "*" || absl::SimpleAtoi(parts[1], &layer))) {
    for (const Alias& alias : kBlockAliases) {
      if (parts[2] == alias.other) return absl::StrCat("blocks.", parts[1], ".", alias.declared);
    }
  }
  return std::string(name);
}

void Hooks::Read(std::string pattern, Reader reader) {
  rules_.push_back({CanonicalHookName(pattern), std::move(reader), nullptr});
  matches_.clear();
}

void Hooks::Edit(std::string pattern, Editor editor) {
  rules_.push_back({CanonicalHookName(pattern), nullptr, std::move(editor)});
  matches_.clear();
}

absl::Status Hooks::Validate(const std::vector<DeclaredHook>& declared) const {
  for (const Rule& rule : rules_) {
    if (std::none_of(declared.begin(), declared.end(), [&](const DeclaredHook& hook) {
          return GlobMatches(rule.pattern, hook.name);
        })) {
      std::vector<std::string> names;
      for (const DeclaredHook& hook : declared) names.push_back(hook.name);
      return absl::NotFoundError(absl::StrCat("no hook point matches '", rule.pattern, "'",
                                              DidYouMean(rule.pattern, names)));
    }
  }
  return absl::OkStatus();
}

absl::Status Hooks::CheckFired() const {
  std::vector<std::string> silent;
  for (const Rule& rule : rules_) {
    if (!rule.fired) silent.push_back(absl::StrCat("'", rule.pattern, "'"));
  }
  if (silent.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "requested hook points did not fire in this run: ", absl::StrJoin(silent, ", ")));
}

void Hooks::Reset() {
  for (Rule& rule : rules_) rule.fired = false;
}

const std::vector<int>& Hooks::RulesFor(const std::string& name) {
  auto [entry, inserted] = matches_.try_emplace(name);
  if (inserted) {
    for (size_t i = 0; i < rules_.size(); ++i) {
      if (GlobMatches(rules_[i].pattern, name)) entry->second.push_back(static_cast<int>(i));
    }
  }
  return entry->second;
}

Tensor Hooks::Apply(const std::string& name, Tensor x) {
  for (int index : RulesFor(name)) {
    Rule& rule = rules_[index];
    rule.fired = true;
    if (rule.reader) {
      rule.reader(name, x);
      continue;
    }
    Tensor edited = rule.editor(name, x);
    RESIDUAL_CHECK(edited.defined() && edited.shape() == x.shape() && edited.dtype() == x.dtype())
        << "the edit of " << name << " made " << edited.ToString() << " of " << x.ToString();
    x = std::move(edited);
  }
  return x;
}

Scope Scope::In(const char* child) const {
  Scope scope;
  if (hooks_ == nullptr) return scope;
  scope.hooks_ = hooks_;
  scope.prefix_ = absl::StrCat(prefix_, child, ".");
  return scope;
}

Scope Scope::In(const char* child, int index) const {
  Scope scope;
  if (hooks_ == nullptr) return scope;
  scope.hooks_ = hooks_;
  scope.prefix_ = absl::StrCat(prefix_, child, ".", index, ".");
  return scope;
}

}  // namespace residual
