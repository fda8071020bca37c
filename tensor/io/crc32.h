// CRC-32 as zlib, PNG and Ethernet have it (polynomial 0x04C11DB7, reflected), so that any tool can
// check what we write. It finds every error within 32 neighbouring bits.

#ifndef RESIDUAL_TENSOR_IO_CRC32_H_
#define RESIDUAL_TENSOR_IO_CRC32_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace residual {

// Crc32(b, Crc32(a)) is the checksum of a followed by b.
uint32_t Crc32(absl::string_view bytes, uint32_t crc = 0);

}  // namespace residual

#endif  // RESIDUAL_TENSOR_IO_CRC32_H_
