// Any bytes as an idx file, plain or compressed: refused with the path, or a tensor no larger than
// the file's bytes can be. What is accepted goes on as images, and as the labels of images.
#include <string>

#include "models/data/labeled/idx.h"
#include "tensor/base/check.h"
#include "tests/fuzz/io/file_in_memory.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const residual::FileInMemory file(data, size);
  const auto x = residual::ReadIdx(file.path());
  if (!x.ok()) {
    RESIDUAL_CHECK(x.status().message().find(file.path()) == 0) << x.status().ToString();
    return 0;
  }
  RESIDUAL_CHECK_LE(x->bytes(), 1032 * size);
  std::string labels{0, 0, 8, 1};
  const int64_t n = x->dim(0) < 1000 ? x->dim(0) : 1000;
  for (int shift : {24, 16, 8, 0}) labels += static_cast<char>(n >> shift);
  labels.append(n, '\3');
  const residual::FileInMemory label(reinterpret_cast<const uint8_t*>(labels.data()),
                                     labels.size());
  const auto images = residual::ReadIdxImages(file.path(), label.path(), 4);
  if (images.ok()) {
    RESIDUAL_CHECK_EQ(images->x.elements(), x->elements());
    RESIDUAL_CHECK_EQ(images->n(), n);
  }
  const auto as_labels = residual::ReadIdxImages(label.path(), file.path());
  RESIDUAL_CHECK(!as_labels.ok());
  return 0;
}
