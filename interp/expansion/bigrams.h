// What the direct path knows of which token follows which (Elhage et al. 2021, "Zero-Layer
// Transformers": W_E W_U can at best be the bigram log-likelihood).

#ifndef RESIDUAL_INTERP_EXPANSION_BIGRAMS_H_
#define RESIDUAL_INTERP_EXPANSION_BIGRAMS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "models/stream/residual_model.h"
#include "tensor/core/tensor.h"

namespace residual {

// How often each token of a text is followed by each. Ids must be in [0, d_vocab) (CHECKed).
class BigramTable {
 public:
  BigramTable(absl::Span<const int32_t> tokens, int64_t d_vocab);

  int64_t d_vocab() const { return static_cast<int64_t>(first_.size()); }
  int64_t total() const { return total_; }
  int64_t count(int64_t token, int64_t next) const { return counts_[token * d_vocab() + next]; }
  int64_t count(int64_t token) const { return first_[token]; }  // of all that follow it
  int64_t next(int64_t token) const { return next_[token]; }    // of it following anything

 private:
  std::vector<int64_t> counts_, first_, next_;
  int64_t total_ = 0;
};

// W_E W_U, and the bias of the unembedding where there is one: the logits of the direct path after
// every token, [d_vocab, d_vocab]. Of a model without a final norm (CHECKed).
Tensor DirectPathLogits(const ResidualModel& model);

struct BigramFit {
  // sum_t p(t) KL(p(. | t) || q(. | t)), nats: p of the table, q the softmax of the logits; and
  // with p(.), which knows nothing of t, in place of q: what there is to know.
  double kl = 0, unigram_kl = 0;
  // The share of it that the logits know: 1 - kl / unigram_kl.
  double share() const { return 1 - kl / unigram_kl; }
  // Pearson's, of log p(o | t) - log p(o) with log q(o | t) - log p(o), over pairs that occur at
  // least `least` times, alike: how much a token raises another, without how common that one is.
  // And of log p(o | t) with log q(o | t), and with log p(o).
  double lift_correlation = 0, correlation = 0, unigram_correlation = 0;
  // The points behind it: log p(o | t) - log p(o) and log q(o | t) - log p(o).
  std::vector<double> lift_p, lift_q;
};

// logits: [d_vocab, d_vocab] (CHECKed).
BigramFit CompareWithBigrams(const Tensor& logits, const BigramTable& table, int64_t least = 10);

}  // namespace residual

#endif  // RESIDUAL_INTERP_EXPANSION_BIGRAMS_H_
