// Attention in plain loops, in double: what f64 tensors run. One row of scores at a time, so that
// nothing of size [query, key] is stored here either. Private to the folder.

#ifndef RESIDUAL_OPS_ATTENTION_ATTENTION_PLAIN_H_
#define RESIDUAL_OPS_ATTENTION_ATTENTION_PLAIN_H_

namespace residual {
namespace flash_internal {
struct Problem;
}
namespace attention_internal {

using flash_internal::Problem;

// z and, where lse is given, the log-sum-exp [batch, n_heads, query] of every row (-infinity for a
// row that sees no key).
void PlainForward(const Problem& p, const double* q, const double* k, const double* v, double* z,
                  double* lse);

// Gradients from dz; those that are not wanted are nullptr. dq, dk, dv are written whole.
void PlainBackward(const Problem& p, const double* q, const double* k, const double* v,
                   const double* z, const double* lse, const double* dz, double* dq, double* dk,
                   double* dv);

// dbias [bias_batch, bias_heads, query, key], written whole; in a pass of its own, for its owner
// is another thread than dk's when bias is shared by a batch or by heads.
void PlainBiasGradient(const Problem& p, const double* q, const double* k, const double* v,
                       const double* z, const double* lse, const double* dz, double* dbias);

}  // namespace attention_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_ATTENTION_ATTENTION_PLAIN_H_
