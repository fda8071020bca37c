// What the kernels of SSD are given. Private to the folder.

#ifndef RESIDUAL_OPS_SSD_SSD_KERNELS_H_
#define RESIDUAL_OPS_SSD_SSD_KERNELS_H_

#include <cstdint>

namespace residual {
namespace ssd_internal {

// Positions of a chunk. A position of a head costs about kChunk head_dim + 2 head_dim state
// multiplications; longer chunks have larger products, which run closer to the peak. [2048] of 24
// heads of 64 take two threads of a Zen 4, with 128 numbers a state, 13.3 ms at 32, 12.7 at
// 64, 14.7 at 128; with 16 numbers 4.3, 5.1, 7.1; there and back with 128 46, 49, 52.
constexpr int64_t kChunk = 64;
// Up to so many positions are done one after the other.
constexpr int64_t kMostSteps = 4;
// Of vectors that reach past the end of what they are wanted for.
constexpr int64_t kPadding = 64;

// S: float or double. Null pointers: not there.
template <class S>
struct SsdArgs {
  int64_t batch, length, heads, head_dim, groups, state;
  const void* x;     // [batch, length, heads, head_dim], S or bf16
  const S* delta;    // [batch, heads, length]
  const S* A;        // [heads]
  const S* B;        // [batch, groups, length, state]
  const S* C;        // the same
  const S* D;        // [heads, head_dim]
  const S* initial;  // [batch, heads, head_dim, state]
  // [batch, length]: the state before this position is zero.
  const unsigned char* restart;
  // Of each chunk C B^T, [positions, positions]; for the backward pass B C^T. One after the other,
  // kChunk positions of a group kChunk^2 numbers; kPadding at the end.
  const S* scores;

  int64_t chunks() const { return (length + kChunk - 1) / kChunk; }
};

template <class S>
struct SsdOutputs {
  void* y;  // as x
  S* last;  // [batch, heads, head_dim, state]
};

// Sums over the heads of a task are left in a part of its own, for the caller to add up in order.
template <class S>
struct SsdGradients {
  const void* dy;  // as x; null: zeros
  const S* dlast;  // [batch, heads, head_dim, state]; null: zeros
  void* dx;        // as x
  S* ddelta;       // [batch, heads, length]
  S* dA;           // [batch, heads]
  S* dD;           // [batch, heads, head_dim]
  S* dinitial;     // [batch, heads, head_dim, state]
  // Of a task: the gradient of the scores B C^T, and of B and C by way of the states.
  S* dscores;  // as the scores of a group, without padding
  S* dB;       // [length, state]
  S* dC;       // [length, state]
};

// c [M, N] = op(a) op(b), of ops/gemm.
void Multiply(const float* a, bool transpose_a, const float* b, bool transpose_b, float* c,
              int64_t M, int64_t N, int64_t K);
void Multiply(const double* a, bool transpose_a, const double* b, bool transpose_b, double* c,
              int64_t M, int64_t N, int64_t K);

// Heads [begin, end) of a row of the batch, all of one group. Steps: for up to kMostSteps
// positions.
void ForwardF32(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row,
                int64_t begin, int64_t end);
void ForwardBF16(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row,
                 int64_t begin, int64_t end);
void ForwardF64(const SsdArgs<double>& args, const SsdOutputs<double>& out, int64_t row,
                int64_t begin, int64_t end);
void StepsF32(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row, int64_t begin,
              int64_t end);
void StepsBF16(const SsdArgs<float>& args, const SsdOutputs<float>& out, int64_t row, int64_t begin,
               int64_t end);
void StepsF64(const SsdArgs<double>& args, const SsdOutputs<double>& out, int64_t row,
              int64_t begin, int64_t end);
void BackwardF32(const SsdArgs<float>& args, const SsdGradients<float>& g, int64_t row,
                 int64_t begin, int64_t end);
void BackwardBF16(const SsdArgs<float>& args, const SsdGradients<float>& g, int64_t row,
                  int64_t begin, int64_t end);
void BackwardF64(const SsdArgs<double>& args, const SsdGradients<double>& g, int64_t row,
                 int64_t begin, int64_t end);

}  // namespace ssd_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SSD_SSD_KERNELS_H_
