// Hook points: named places in a forward where an activation can be read or replaced.
//
// A module declares its points as data and passes every activation through one:
//
//   static constexpr HookPoint kQ{"hook_q", "[batch, pos, n_heads, d_head]"};
//   Tensor q = hook(kQ, ...);                        // `hook` is a Scope, passed down by const&
//   if (hook.Wants(kPattern)) { ... the path that makes the pattern ... }
//
// A user collects rules and runs the model with them:
//
//   Hooks hooks;
//   hooks.Read("blocks.*.attn.hook_pattern", [&](absl::string_view name, const Tensor& x) {...});
//   hooks.Edit("blocks.1.hook_resid_pre", [&](absl::string_view, const Tensor& x) { return ...; });
//
// Names are TransformerLens's. With no rule a point costs a pointer test. An edit is made of
// ordinary ops, so gradients flow through it.

#ifndef RESIDUAL_MODELS_NN_HOOK_H_
#define RESIDUAL_MODELS_NN_HOOK_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "tensor/core/tensor.h"

namespace residual {

// One point of a module: its name within the module, and its axes.
struct HookPoint {
  const char* name;
  const char* dims;
  // What it holds for a position ("pos", or "query") goes into the module's output at that position
  // and into nothing else: queries are local, keys are not.
  bool local = false;
};

// A point of a whole model.
struct DeclaredHook {
  std::string name;  // "blocks.0.attn.hook_q"
  std::string dims;
  bool local = false;  // within the module that declares it
};

// `pattern` may hold `*` (any characters, also dots) and `?` (one character).
bool GlobMatches(absl::string_view pattern, absl::string_view text);

// The declared name behind one of TransformerLens's other names for the same activation
// ("blocks.0.attn.q.hook_out" is "blocks.0.attn.hook_q"), or the name itself.
std::string CanonicalHookName(absl::string_view name);

// The rules of one run, and which of them fired. Not for several runs at the same time.
class Hooks {
 public:
  using Reader = std::function<void(absl::string_view name, const Tensor& x)>;
  using Editor = std::function<Tensor(absl::string_view name, const Tensor& x)>;

  // Calls `reader` with the activation of every point whose name matches the pattern.
  void Read(std::string pattern, Reader reader);
  // Replaces the activation by what `editor` returns: the same shape and dtype (CHECKed). Rules
  // apply in the order they were added; a reader sees what the rules before it made.
  void Edit(std::string pattern, Editor editor);

  // NotFound if a pattern matches none of the declared names; names the nearest ones.
  absl::Status Validate(const std::vector<DeclaredHook>& declared) const;
  // FailedPrecondition if a pattern has not fired since the last Reset.
  absl::Status CheckFired() const;
  void Reset();

  bool empty() const { return rules_.empty(); }

 private:
  friend class Scope;
  struct Rule {
    std::string pattern;
    Reader reader;
    Editor editor;
    bool fired = false;
  };
  // The rules for a full name; remembered, so globs are matched once per name.
  const std::vector<int>& RulesFor(const std::string& name);
  Tensor Apply(const std::string& name, Tensor x);

  std::vector<Rule> rules_;
  absl::flat_hash_map<std::string, std::vector<int>> matches_;
};

// A place in the tree of modules during one run: passes activations to the rules of that run.
class Scope {
 public:
  // No rules.
  Scope() = default;
  // The root of a model; `hooks` may be null.
  explicit Scope(Hooks* hooks) : hooks_(hooks != nullptr && !hooks->empty() ? hooks : nullptr) {}

  // The activation, read and replaced as the rules say.
  Tensor operator()(const HookPoint& point, Tensor x) const {
    return hooks_ == nullptr ? x : hooks_->Apply(prefix_ + point.name, std::move(x));
  }
  // True if a rule is for one of these points: ask before a costly activation is made.
  template <class... Points>
  bool Wants(const Points&... points) const {
    return hooks_ != nullptr && (WantsOne(points) || ...);
  }
  // The scope of a child module: "blocks.3." from In("blocks", 3).
  Scope In(const char* child) const;
  Scope In(const char* child, int index) const;

 private:
  bool WantsOne(const HookPoint& point) const {
    return !hooks_->RulesFor(prefix_ + point.name).empty();
  }

  Hooks* hooks_ = nullptr;
  std::string prefix_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_NN_HOOK_H_
