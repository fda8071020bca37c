// What the kernels of the selective scan are given. Private to the folder.

#ifndef RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_KERNELS_H_
#define RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_KERNELS_H_

#include <cstdint>

namespace residual {
namespace scan_internal {

// Positions between saved states. Longer chunks save less and need more scratch for the states the
// backward pass recomputes: at 16 channels and 16 states, 32 kB for the states of a chunk and as
// much for the factors of the steps.
constexpr int64_t kChunk = 32;

// Null pointers: not there.
struct ScanArgs {
  int64_t batch, length, dim, state;
  int64_t groups;                // of B and C that vary with the position
  const void* u;                 // [batch, length, dim] f32 or bf16
  const float* delta;            // [batch, length, dim]
  const float* A;                // [dim, state]
  const float* B;                // [batch, length, groups, state], or constant: [dim, state]
  const float* C;                // the same
  const float* D;                // [dim]
  const void* z;                 // [batch, length, dim], as u
  const float* delta_bias;       // [dim]
  const float* initial_state;    // [batch, dim, state]
  const unsigned char* restart;  // [batch, length]: the state before this position is zero
  bool constant_B, constant_C, softplus;
};

struct ScanOutputs {
  void* y;            // [batch, length, dim], as u
  float* last_state;  // [batch, dim, state]
  float* saved;       // [batch, chunks, state, dim]: before the first position of each chunk
};

// Gradients of everything. Sums over channels are left in parts, one for each task of channels, and
// sums over the batch in rows, for the caller to add up in order.
struct ScanGradients {
  const void* dy;      // [batch, length, dim], as u; null: zeros
  const float* dlast;  // [batch, dim, state]; null: zeros
  const float* saved;  // of the forward pass
  void* du;            // [batch, length, dim], as u
  void* dz;            // the same; null without z
  float* ddelta;       // [batch, length, dim]
  float* dA;           // [batch, dim, state]
  float* dB;           // [batch, tasks, length, state], or constant: [batch, dim, state]
  float* dC;           // the same
  float* dD;           // [batch, dim]
  float* ddelta_bias;  // [batch, dim]
  float* dinitial;     // [batch, dim, state]
};

// Channels [begin, end) of one row of the batch, all of one group. `task`: its number in the row.
void ForwardF32(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                int64_t end);
void ForwardBF16(const ScanArgs& args, const ScanOutputs& out, int64_t row, int64_t begin,
                 int64_t end);
void BackwardF32(const ScanArgs& args, const ScanGradients& g, int64_t row, int64_t task,
                 int64_t tasks, int64_t begin, int64_t end);
void BackwardBF16(const ScanArgs& args, const ScanGradients& g, int64_t row, int64_t task,
                  int64_t tasks, int64_t begin, int64_t end);

}  // namespace scan_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_KERNELS_H_
