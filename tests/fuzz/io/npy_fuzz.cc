// Any bytes as an .npy file: refused with the path, or a tensor no larger than the file's values
// widened fourfold.
#include <string>

#include "tensor/base/check.h"
#include "tensor/io/npy.h"
#include "tests/fuzz/io/file_in_memory.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const residual::FileInMemory file(data, size);
  const auto x = residual::ReadNpy(file.path());
  if (x.ok()) {
    RESIDUAL_CHECK_LE(x->bytes(), 4 * size);
  } else {
    RESIDUAL_CHECK(x.status().message().find(file.path()) == 0) << x.status().ToString();
  }
  return 0;
}
