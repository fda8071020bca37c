// config.json of any bytes: a model whose parameters can be listed, or an error; never a crash, and
// never memory for sizes that a file only claims.

#include <cstdint>
#include <cstdlib>

#include "absl/strings/string_view.h"
#include "models/checkpoint/config_reader.h"
#include "models/zoo/zoo.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = residual::ParseJsonObject(text, "config.json");
  if (!config.ok()) {
    if (config.status().message().empty()) std::abort();
    return 0;
  }
  const auto model = residual::ModelFromConfig(*config, "config.json");
  if (!model.ok()) {
    if (model.status().message().size() > 2000) std::abort();
    return 0;
  }
  for (const residual::Parameter& p : residual::Parameters(**model)) {
    if (p.shape.elements() < 0 || p.value->defined()) std::abort();
  }
  if (residual::HookPoints(**model).empty()) std::abort();
  return 0;
}
