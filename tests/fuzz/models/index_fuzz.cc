// model.safetensors.index.json of any bytes beside one shard: the tensors it lists, all of them in
// files of the folder, or an error that names the index.

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "models/checkpoint/tensor_source.h"
#include "tensor/base/check.h"
#include "tensor/io/safetensors.h"

namespace {

// A folder with one shard that holds the tensors "a" and "b"; in memory, but for Bazel's tests.
std::string MakeFolder() {
  const char* scratch = std::getenv("TEST_TMPDIR");
  if (scratch == nullptr) scratch = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  std::string folder = std::string(scratch) + "/index_fuzz.XXXXXX";
  RESIDUAL_CHECK(mkdtemp(folder.data()) != nullptr) << folder;
  const residual::Tensor x = residual::Tensor::Zeros({2});
  RESIDUAL_CHECK(
      residual::WriteSafetensors(folder + "/shard.safetensors", {{"a", x}, {"b", x}}).ok());
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* folder = new std::string(MakeFolder());
  const std::string path = *folder + "/model.safetensors.index.json";
  std::FILE* file = std::fopen(path.c_str(), "wb");
  RESIDUAL_CHECK(file != nullptr && std::fwrite(data, 1, size, file) == size) << path;
  std::fclose(file);
  const auto source = residual::TensorSource::Open(*folder);
  if (!source.ok()) {
    RESIDUAL_CHECK(absl::StrContains(source.status().message(), path)) << source.status();
    return 0;
  }
  for (const std::string& name : source->names()) {
    RESIDUAL_CHECK(source->FileOf(name) == *folder + "/shard.safetensors") << name;
    RESIDUAL_CHECK(source->Read(name).ok()) << name;
  }
  return 0;
}
