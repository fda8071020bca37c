// Rotary position embedding (Su et al. 2021, "RoFormer", eq. 34): of every head's vector the first
// rotary_dim features are taken as rotary_dim / 2 pairs, and pair i at position p is turned by the
// angle a = p * inv_freq[i], inv_freq[i] = theta^(-2 i / rotary_dim):
//
//   (x, y) -> (x cos a - y sin a, y cos a + x sin a)
//
// The features past rotary_dim are copied. Two layouts of the pairs are in use:
//   kHalf         (i, i + rotary_dim / 2): GPT-NeoX, Llama, Mistral, Qwen, Gemma
//   kInterleaved  (2 i, 2 i + 1): the paper, GPT-J

#ifndef RESIDUAL_OPS_ROTARY_ROTARY_H_
#define RESIDUAL_OPS_ROTARY_ROTARY_H_

#include <cstdint>
#include <vector>

#include "tensor/core/tensor.h"

namespace residual {

enum class RotaryStyle { kHalf, kInterleaved };

struct RotaryOptions {
  // Even, 0 <= rotary_dim <= d_head; -1: all of d_head.
  int64_t rotary_dim = -1;
  double theta = 10000;
  RotaryStyle style = RotaryStyle::kHalf;
  // Instead of theta's frequencies when not empty: rotary_dim / 2 of them (Llama 3, YaRN, linear
  // scaling).
  std::vector<double> inv_freq;
  // Factor on cos and sin (YaRN's attention factor).
  double attention_scaling = 1;
};

// The cosines and sines of some positions, made once and used for q and k of every layer. Angles
// are computed in double and rounded once: float angles are off by 1e-4 at position 2000.
struct RotaryTable {
  Tensor cos, sin;  // [seq, rotary_dim / 2] or [batch, seq, rotary_dim / 2]; f32, or f64
  RotaryStyle style = RotaryStyle::kHalf;
};

// positions: i64 or i32, [seq] or [batch, seq], any values. d_head counts only where
// options.rotary_dim is -1. dtype: kF64 for x in f64, else kF32.
RotaryTable MakeRotaryTable(const Tensor& positions, int64_t d_head, const RotaryOptions& options,
                            DType dtype = kF32);

// x: [batch, seq, n_heads, d_head]; f32, f64 (table in f64), bf16, f16 (table in f32, rounded
// once). A table with a batch axis must have x's batch. Returns x's shape and dtype. Differentiable
// in x (the gradient is turned back by the same angles); the table is a constant.
Tensor Rotary(const Tensor& x, const RotaryTable& table);

// The frequencies theta^(-2 i / rotary_dim) of options, stretched for contexts longer than those of
// training:
//   kLinear  every one divided by `factor` (Chen et al. 2023, position interpolation)
//   kLlama3  those of wavelengths above original_ctx / low_freq_factor divided by `factor`, those
//            below original_ctx / high_freq_factor kept, between them a mixture (Llama 3.1)
struct RotaryScaling {
  enum Kind { kNone, kLinear, kLlama3 };
  Kind kind = kNone;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_ctx = 8192;
};
std::vector<double> ScaledFrequencies(int64_t rotary_dim, double theta,
                                      const RotaryScaling& scaling);

// The same with a table made on the spot.
Tensor Rotary(const Tensor& x, const Tensor& positions, const RotaryOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_OPS_ROTARY_ROTARY_H_
