#include "tensor/core/dtype.h"

#include "tensor/base/check.h"

namespace residual {

namespace internal {

void NoSuchDType(DType dtype) {
  RESIDUAL_CHECK(false) << "not a DType: " << static_cast<int>(dtype);
}

}  // namespace internal

const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kF64:
      return "f64";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kI64:
      return "i64";
    case DType::kI32:
      return "i32";
    case DType::kI16:
      return "i16";
    case DType::kI8:
      return "i8";
    case DType::kU8:
      return "u8";
    case DType::kBool:
      return "bool";
  }
  return "?";
}

bool IsFloat(DType dtype) {
  return dtype == kF32 || dtype == kF64 || dtype == kBF16 || dtype == kF16;
}

Float16 Float16::FromFloat(float x) {
  uint32_t u;
  std::memcpy(&u, &x, sizeof(u));
  const uint16_t sign = u >> 16 & 0x8000;
  u &= 0x7fffffff;
  if (u > 0x7f800000) return {static_cast<uint16_t>(sign | 0x7e00)};   // NaN
  if (u >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};  // rounds beyond 65504
  if (u < 0x38800000) {  // subnormal: let the float adder round at the last binary16 bit, 2^-24
    float magnitude;
    std::memcpy(&magnitude, &u, sizeof(u));
    magnitude += 0.5f;
    uint32_t rounded;
    std::memcpy(&rounded, &magnitude, sizeof(rounded));
    return {static_cast<uint16_t>(sign | (rounded - 0x3f000000))};
  }
  u += 0xc8000fff + (u >> 13 & 1);  // exponent bias 127 -> 15, round to nearest even
  return {static_cast<uint16_t>(sign | (u >> 13 & 0xffff))};
}

float Float16::ToFloat() const {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t magnitude = bits & 0x7fff;
  uint32_t u;
  if (magnitude >= 0x7c00) {  // infinity, NaN
    u = sign | 0x7f800000 | (magnitude & 0x3ff) << 13;
  } else if (magnitude >= 0x400) {
    u = sign | (magnitude + 0x1c000) << 13;
  } else {
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
    std::memcpy(&u, &subnormal, sizeof(u));
    u |= sign;
  }
  float x;
  std::memcpy(&x, &u, sizeof(x));
  return x;
}

}  // namespace residual
