#include "models/nn/fingerprint.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"
#include "tensor/io/crc32.h"

namespace residual {

uint32_t ParametersFingerprint(Module& module) {
  const std::vector<Parameter> parameters = Parameters(module);
  std::vector<std::string> entries(parameters.size());
  ParallelFor(static_cast<int64_t>(parameters.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Tensor& value = *parameters[i].value;
      RESIDUAL_CHECK(value.defined()) << parameters[i].name;
      const absl::string_view bytes(static_cast<const char*>(value.raw_data()), value.bytes());
      entries[i] = absl::StrCat(parameters[i].name, " ", value.ToString(), " ", Crc32(bytes), "\n");
    }
  });
  uint32_t crc = 0;
  for (const std::string& entry : entries) crc = Crc32(entry, crc);
  return crc;
}

}  // namespace residual
