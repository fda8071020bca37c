// Activations of a run, kept: by names, layers, positions and heads, in memory or, where they are
// more than that is to hold, in a file that is read back lazily.
//
//   CacheSpec spec;
//   spec.names = {"*attn.hook_pattern", "*hook_resid_post"};
//   spec.positions = {-1};
//   RESIDUAL_ASSIGN_OR_RETURN(CachePlan plan, PlanCache(model, input, spec));
//   plan.bytes();                                             // before anything is run
//   RESIDUAL_ASSIGN_OR_RETURN(CachedRun run, RunWithCache(model, input, plan));
//   RESIDUAL_ASSIGN_OR_RETURN(Tensor pattern, run.cache.Get("blocks.1.attn.hook_pattern"));

#ifndef RESIDUAL_INTERP_CACHE_ACTIVATION_CACHE_H_
#define RESIDUAL_INTERP_CACHE_ACTIVATION_CACHE_H_

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "interp/cache/partial_run.h"
#include "models/nn/hook.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"
#include "tensor/io/safetensors.h"

namespace residual {

// What to keep. Numbers count from the end where they are negative.
struct CacheSpec {
  std::vector<std::string> names = {"*"};  // of hook points; * and ? as in Hooks
  std::vector<int64_t> layers = {};        // of points in blocks, and no others; empty: all points
  // Of points that have them (queries of a pattern; its keys are kept whole); empty: all. In this
  // order.
  std::vector<int64_t> positions = {}, heads = {};
};

struct CacheEntry {
  std::string name;
  Shape shape;  // of what is kept
  DType dtype = kF32;
  // The entry before it that holds the same bytes (the stream after a block and before the next);
  // -1: none. In memory they are kept once.
  int same_as = -1;
  // Its parts: the axis and which of it; axis -1: the whole.
  int pos_axis = -1, head_axis = -1;
  std::vector<int64_t> positions = {}, heads = {};
  int64_t bytes() const { return shape.elements() * static_cast<int64_t>(SizeOf(dtype)); }
};

struct CachePlan {
  PartialRun part;
  Shape prompts;                    // of the input's tokens, [batch, pos]
  int64_t last_logits = 0;          // as the input's
  std::vector<CacheEntry> entries;  // in the order of a run
  // In memory, where equal bytes are kept once, and of data in a file, where they are not. The pool
  // rounds each tensor up to one of four sizes for each power of two.
  int64_t bytes() const;
  int64_t file_bytes() const;
};

// The sizes are learned from a run of these layers on at most two rows of two tokens; what depends
// on the prompt's length is said by the points' axes. InvalidArgument for layers, positions or
// heads that there are not or that come twice, positions of points behind the blocks where the
// input asks for the last logits alone, a name that fires outside the layers of the run, and what
// CheckPartialRun gives; NotFound for a name or pattern of no point, with the nearest.
absl::StatusOr<CachePlan> PlanCache(const ResidualModel& model, const ModelInput& input,
                                    const CacheSpec& spec, const PartialRun& part = {});

class ActivationCache {
 public:
  // In the order of the run, or of a file's names.
  std::vector<std::string> names() const;
  bool Has(const std::string& name) const;
  // NotFound with the nearest. From a file: on mapped bytes, which are read when they are looked
  // at.
  absl::StatusOr<Tensor> Get(const std::string& name) const;
  bool on_disk() const { return file_ != nullptr; }
  // Bytes in memory, counted as the plan's; 0 on disk.
  int64_t bytes() const;

  // As a safetensors file; and one that was written so, or by RunWithCache.
  absl::Status Save(const std::string& path) const;
  static absl::StatusOr<ActivationCache> Open(const std::string& path);

 private:
  friend class CacheWriter;
  std::vector<NamedTensor> tensors_;
  std::shared_ptr<const SafetensorsFile> file_;
};

struct CacheOptions {
  // More than that goes into the file at `path` while the run goes on, tensor by tensor.
  int64_t memory_limit = std::numeric_limits<int64_t>::max();
  std::string path = {};
  // What the run gives in the end goes into the cache too, under this name; empty: it does not.
  std::string output_name = {};
  bool allow_nan = false;
  // Rules of the caller's: what is kept is what they made. Bytes that a plan counts once may then
  // differ, and are kept twice.
  const Hooks* hooks = nullptr;
};

struct CachedRun {
  ActivationCache cache;
  Tensor output;  // as RunLayers gives it
};

// InvalidArgument for an input of another shape than the plan's. ResourceExhausted if the plan has
// more bytes than memory_limit and there is no path; FailedPrecondition for an activation that
// holds NaN (which one, and where); what RunLayers gives, and what writing gave. A file is there
// whole or not at all.
absl::StatusOr<CachedRun> RunWithCache(const ResidualModel& model, const ModelInput& input,
                                       const CachePlan& plan, const CacheOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_CACHE_ACTIVATION_CACHE_H_
