#include "tensor/base/random.h"

#include <cmath>

#include "tensor/base/check.h"

namespace residual {

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;  // golden ratio
    key[1] += 0xBB67AE85;  // sqrt(3) - 1
  }
  return counter;
}

std::array<uint32_t, 4> Philox::Block(uint64_t block) const {
  return Philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                     static_cast<uint32_t>(stream_), static_cast<uint32_t>(stream_ >> 32)},
                    {static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)});
}

namespace {

uint64_t Word(uint32_t low, uint32_t high) { return low | uint64_t{high} << 32; }

double ToUnit(uint64_t bits) { return (bits >> 11) * 0x1p-53; }

}  // namespace

double Philox::UniformDouble(uint64_t index) const {
  const auto b = Block(index);
  return ToUnit(Word(b[0], b[1]));
}

int64_t Philox::Below(uint64_t index, int64_t n) const {
  RESIDUAL_CHECK_GE(n, 1);
  const auto b = Block(index);
  // The high word of a 64 x 64 bit product (Lemire 2019), without the rejection step.
  return static_cast<int64_t>(
      (static_cast<unsigned __int128>(Word(b[0], b[1])) * static_cast<uint64_t>(n)) >> 64);
}

double Philox::Normal(uint64_t index) const {
  const auto b = Block(index);
  const double radius = std::sqrt(-2.0 * std::log(1.0 - ToUnit(Word(b[0], b[1]))));
  return radius * std::cos(2.0 * M_PI * ToUnit(Word(b[2], b[3])));
}

uint64_t RandomStream(const char* name, uint64_t a, uint64_t b) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a over the name, then the two numbers mixed in
  for (const char* c = name; *c; ++c)
    hash = (hash ^ static_cast<unsigned char>(*c)) * 0x100000001b3;
  for (uint64_t word : {a, b}) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace residual
