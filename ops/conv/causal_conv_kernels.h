// What the kernels of the causal convolution are given. Private to the folder.

#ifndef RESIDUAL_OPS_CONV_CAUSAL_CONV_KERNELS_H_
#define RESIDUAL_OPS_CONV_CAUSAL_CONV_KERNELS_H_

#include <cstdint>

namespace residual {
namespace conv_internal {

// T is the dtype of x, F that of the arithmetic: f64 with f64, else f32.
struct ConvArgs {
  int64_t length, channels, width;
  const void* x;         // T [batch, length, channels]
  const void* before;    // T [batch, width - 1, channels]: the state; null: zeros
  const void* zeros;     // T [channels]
  const void* weight;    // F [width, channels]
  const void* bias;      // F [channels]; null: none
  const int64_t* first;  // [batch, length]: the first position each one sees; null: all before it
  bool silu;

  // The first position that t of a row sees; -(width - 1) is the oldest of the state.
  int64_t First(int64_t row, int64_t t) const {
    return first == nullptr ? 1 - width : first[row * length + t];
  }
  // x at position t of a row, t < 0 being in the state.
  template <class T>
  const T* Row(int64_t row, int64_t t) const {
    if (t >= 0) return static_cast<const T*>(x) + (row * length + t) * channels;
    if (before == nullptr) return static_cast<const T*>(zeros);
    return static_cast<const T*>(before) + (row * (width - 1) + width - 1 + t) * channels;
  }
  // What tap j of position t reads.
  template <class T>
  const T* Tap(int64_t row, int64_t t, int64_t j) const {
    const int64_t at = t - (width - 1) + j;
    return at < First(row, t) ? static_cast<const T*>(zeros) : Row<T>(row, at);
  }
};

struct InputGradients {
  const void* dpre;   // F [batch, length, channels]
  const void* dlast;  // T [batch, width - 1, channels], of the last state; null: zeros
  void* dx;           // T [batch, length, channels]
  void* dbefore;      // T [batch, width - 1, channels]
};

// One position with a window of four taps behind a state, everything as its owner has it.
struct ConvStep {
  int64_t channels;
  const void* x;        // T [channels]
  const void* before;   // T [channels, 3]; null: zeros
  const float* weight;  // [channels, 4]
  const float* bias;    // [channels]; null: none
  bool silu;
  void* y;     // T [channels]
  void* last;  // T [channels, 3]
};

// Each is of the positions [begin, end) of one row.
struct ConvKernels {
  // y: T [batch, length, channels]
  void (*forward)(const ConvArgs& args, int64_t row, int64_t begin, int64_t end, void* y);
  // The gradient before SiLU, dpre = dy silu'(pre): F [batch, length, channels].
  void (*before_silu)(const ConvArgs& args, int64_t row, int64_t begin, int64_t end, const void* dy,
                      void* dpre);
  // Positions count from -(width - 1) on.
  void (*input)(const ConvArgs& args, int64_t row, int64_t begin, int64_t end,
                const InputGradients& g);
  // What these positions add to the gradients of the weight and the bias, F [width + 1, channels].
  void (*weight)(const ConvArgs& args, int64_t row, int64_t begin, int64_t end, const void* dpre,
                 void* sums);
  // With the bits of `forward`; null in f64.
  void (*step)(const ConvStep& step);
};

ConvKernels KernelsF32();
ConvKernels KernelsBF16();
ConvKernels KernelsF64();

}  // namespace conv_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_CONV_CAUSAL_CONV_KERNELS_H_
