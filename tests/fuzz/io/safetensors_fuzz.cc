// Any bytes as a safetensors file: mapped and plain reads agree, and what is accepted is as large
// as the file, reads, and can be written and read again.
#include <cstring>
#include <string>
#include <vector>

#include "tensor/base/check.h"
#include "tensor/io/safetensors.h"
#include "tests/fuzz/io/file_in_memory.h"

namespace residual {
namespace {

void CheckEqual(const Tensor& a, const Tensor& b) {
  RESIDUAL_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype()) << a.ToString();
  RESIDUAL_CHECK(a.bytes() == 0 || std::memcmp(a.raw_data(), b.raw_data(), a.bytes()) == 0);
}

void Run(const std::string& path) {
  const auto mapped = SafetensorsFile::Open(path);
  ReadOptions options;
  options.mmap = false;
  const auto plain = SafetensorsFile::Open(path, options);
  RESIDUAL_CHECK(mapped.status() == plain.status())
      << mapped.status().ToString() << " against " << plain.status().ToString();
  if (!mapped.ok()) {
    RESIDUAL_CHECK(mapped.status().message().find(path) == 0) << mapped.status().ToString();
    return;
  }
  RESIDUAL_CHECK_EQ(mapped->tensors().size(), plain->tensors().size());
  for (const TensorInfo& info : mapped->tensors()) {
    RESIDUAL_CHECK(mapped->Find(info.name) == &info);
    const auto a = mapped->Read(info.name), b = plain->Read(info.name);
    RESIDUAL_CHECK(a.status() == b.status()) << a.status().ToString();
    if (a.ok()) CheckEqual(*a, *b);
  }
}

}  // namespace
}  // namespace residual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  residual::Run(residual::FileInMemory(data, size).path());
  return 0;
}
