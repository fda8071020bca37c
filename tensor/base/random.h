// Random numbers as pure functions of (seed, stream, index): Philox4x32-10 (Salmon et al. 2011,
// "Parallel random numbers: as easy as 1, 2, 3"). No state is shared and nothing depends on the
// order or the thread in which numbers are drawn, so a run can be split, resumed or spread over
// threads without changing a bit.

#ifndef RESIDUAL_TENSOR_BASE_RANDOM_H_
#define RESIDUAL_TENSOR_BASE_RANDOM_H_

#include <array>
#include <cstdint>

namespace residual {

// The block function: 10 rounds of Philox4x32 on a 128-bit counter under a 64-bit key.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The random sequence (seed, stream). Element `index` of it is a pure function.
class Philox {
 public:
  explicit Philox(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  // 128 random bits, number `block` of the sequence.
  std::array<uint32_t, 4> Block(uint64_t block) const;

  uint32_t Bits(uint64_t index) const { return Block(index >> 2)[index & 3]; }

  // Half a word: for decisions in bulk, at half the cost. Of each 128 elements the first 64 have
  // the lower halves of 64 words and the others the upper ones, so that vectors of any length hold
  // the bits of neighbours in neighbouring lanes.
  uint32_t Bits16(uint64_t index) const {
    const uint32_t word = Bits(index / 128 * 64 + index % 64);
    return index / 64 % 2 == 0 ? word & 0xffff : word >> 16;
  }

  // In [0, 1), 24 random bits.
  float Uniform(uint64_t index) const { return (Bits(index) >> 8) * 0x1p-24f; }

  // In [0, 1), 53 random bits; uses the whole block `index`.
  double UniformDouble(uint64_t index) const;

  // In [0, n), n >= 1, without bias worth speaking of (64 random bits against n < 2^40); uses the
  // whole block `index`.
  int64_t Below(uint64_t index, int64_t n) const;

  // Standard normal, by Box-Muller on doubles; uses the whole block `index`.
  double Normal(uint64_t index) const;

  uint64_t seed() const { return seed_; }
  uint64_t stream() const { return stream_; }

 private:
  uint64_t seed_, stream_;
};

// A stream number from names and numbers that should not collide: RandomStream("dropout", layer,
// step).
uint64_t RandomStream(const char* name, uint64_t a = 0, uint64_t b = 0);

}  // namespace residual

#endif  // RESIDUAL_TENSOR_BASE_RANDOM_H_
