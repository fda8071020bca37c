// Path patching (Wang et al. 2023; Goldowsky-Dill et al. 2023): what one writer of the stream tells
// one reader of it, and no other.
//
// In the corrupted run a receiver reads the stream as if the sender had written what it writes on
// the clean input:
//
//   read(x + delta),  delta = sender(clean) - sender(corrupted)
//
// and whatever reads the sender elsewhere, through other blocks or directly, sees the corrupted
// run. A head's delta is (z_clean - z_corrupted) W_O: it is kept as what the head's d_head numbers
// make of the receiver, so no tensor [.., n_heads, d_model] is made. All receivers of a layer are
// read from one stack of senders; the runs from there on are PatchSession's, sharing what they
// share.
//
// Points, not architectures: a sender is a point that is added to the stream
// ("blocks.3.hook_mlp_out", "hook_embed") or a head before its output matrix
// ("blocks.3.attn.hook_z"); a receiver is any point inside a block ("blocks.5.attn.hook_q",
// "blocks.5.mlp.hook_pre", "blocks.5.mixer.hook_delta"), what a mixer adds
// ("blocks.5.hook_mlp_out"), or the stream ("blocks.5.hook_resid_pre", for all that comes after;
// that of the last block's hook_resid_post is the direct path to the logits). With grouped queries
// keys and values have heads of their own, n_kv_heads of them.

#ifndef RESIDUAL_INTERP_PATHS_PATHS_H_
#define RESIDUAL_INTERP_PATHS_PATHS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "interp/metric/metric.h"
#include "interp/patch/session.h"

namespace residual {

// A point, or one of its heads.
struct PathEnd {
  std::string point;
  int64_t head = PatchCell::kAll;
};

struct PathOptions {
  // The norm before the receiver divides by what it divided by in the corrupted run: the path is
  // then linear up to the receiver, and deltas add up. false: by what it would divide by.
  bool frozen_norm = false;
  // Rows [sender, example, position] that are read together.
  int64_t rows_at_once = 4096;
};

// Every sender to every receiver.
struct PathEffects {
  // [sender][receiver][example]: the metric. Where there is no path (the sender writes after the
  // receiver reads) it is that of the corrupted run.
  std::vector<std::vector<std::vector<double>>> values;
  std::vector<std::vector<bool>> connected;  // [sender][receiver]
};

// NotFound for a point that is not declared (with the nearest); InvalidArgument for one that is no
// sender or receiver, a head that is not there, and what PatchSession::Run gives; Unimplemented for
// models with norms behind the sum (post-norm), where what is written does not stay as it was.
absl::StatusOr<PathEffects> PatchPaths(PatchSession& session, absl::Span<const PathEnd> senders,
                                       absl::Span<const PathEnd> receivers, const Metric& metric,
                                       const PathOptions& options = {});

// What each head writes, or what the whole mixer adds where it has no heads with an output matrix
// of their own, in the order of the layers; the embeddings first.
std::vector<PathEnd> AllSenders(PatchSession& session);
// What a kind of point holds in all layers, by heads where it has them: "q", "attn.hook_k",
// "hook_mlp_out". InvalidArgument, with the nearest, for what no layer has.
absl::StatusOr<std::vector<PathEnd>> AllReceivers(PatchSession& session, const std::string& kind);

}  // namespace residual

#endif  // RESIDUAL_INTERP_PATHS_PATHS_H_
