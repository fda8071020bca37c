// Element types and the float formats C++17 lacks.

#ifndef RESIDUAL_TENSOR_CORE_DTYPE_H_
#define RESIDUAL_TENSOR_CORE_DTYPE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace residual {

// kI16 and kI8 exist for files that hold them; ops compute in the others.
enum class DType : uint8_t { kF32, kF64, kBF16, kF16, kI64, kI32, kI16, kI8, kU8, kBool };

inline constexpr DType kF32 = DType::kF32;
inline constexpr DType kF64 = DType::kF64;
inline constexpr DType kBF16 = DType::kBF16;
inline constexpr DType kF16 = DType::kF16;
inline constexpr DType kI64 = DType::kI64;
inline constexpr DType kI32 = DType::kI32;
inline constexpr DType kU8 = DType::kU8;
inline constexpr DType kBool = DType::kBool;

namespace internal {
void NoSuchDType(DType dtype);  // aborts
}  // namespace internal

// Bytes of one element.
inline size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
    case DType::kI16:
      return 2;
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      return 1;
  }
  internal::NoSuchDType(dtype);
  return 0;
}

// "f32", "bf16", ...: the name in messages.
const char* Name(DType dtype);

// f32, f64, bf16 or f16.
bool IsFloat(DType dtype);

// bfloat16: the upper half of a float32.
struct BFloat16 {
  uint16_t bits;

  static BFloat16 FromFloat(float x) {  // to nearest, ties to even; NaN stays NaN
    uint32_t u;
    std::memcpy(&u, &x, sizeof(u));
    if ((u & 0x7fffffff) > 0x7f800000) return {static_cast<uint16_t>(u >> 16 | 0x40)};
    return {static_cast<uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16)};
  }
  float ToFloat() const {
    const uint32_t u = uint32_t{bits} << 16;
    float x;
    std::memcpy(&x, &u, sizeof(x));
    return x;
  }
};

// IEEE binary16.
struct Float16 {
  uint16_t bits;

  static Float16 FromFloat(float x);  // to nearest, ties to even; overflow gives infinity
  float ToFloat() const;
};

// The DType of a C++ element type: DTypeOf<float>() == kF32.
template <class T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<float>() {
  return DType::kF32;
}
template <>
constexpr DType DTypeOf<double>() {
  return DType::kF64;
}
template <>
constexpr DType DTypeOf<BFloat16>() {
  return DType::kBF16;
}
template <>
constexpr DType DTypeOf<Float16>() {
  return DType::kF16;
}
template <>
constexpr DType DTypeOf<int64_t>() {
  return DType::kI64;
}
template <>
constexpr DType DTypeOf<int32_t>() {
  return DType::kI32;
}
template <>
constexpr DType DTypeOf<int16_t>() {
  return DType::kI16;
}
template <>
constexpr DType DTypeOf<int8_t>() {
  return DType::kI8;
}
template <>
constexpr DType DTypeOf<uint8_t>() {
  return DType::kU8;
}
template <>
constexpr DType DTypeOf<bool>() {
  return DType::kBool;
}

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CORE_DTYPE_H_
