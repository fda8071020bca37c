#include "models/generate/stop_tokens.h"

#include "absl/strings/str_cat.h"
#include "models/checkpoint/config_reader.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using nlohmann::json;

absl::StatusOr<std::vector<int64_t>> Read(const json& config, const std::string& file) {
  const json value = config.value("eos_token_id", json());
  std::vector<int64_t> ids;
  if (value.is_null()) return ids;
  for (const json& id : value.is_array() ? value : json::array({value})) {
    // -1 is how some write that there is none.
    if (!id.is_number_integer() || id < -1 || id > (int64_t{1} << 31)) {
      return absl::InvalidArgumentError(absl::StrCat(file, ": 'eos_token_id' is ", ShortJson(value),
                                                     ", expected an id or a list of ids"));
    }
    if (id >= 0) ids.push_back(id.get<int64_t>());
  }
  return ids;
}

}  // namespace

absl::StatusOr<std::vector<int64_t>> StopTokens(const std::string& folder, const json& config) {
  constexpr size_t kLargestFile = size_t{1} << 20;
  const std::string path = JoinPath(folder, "generation_config.json");
  const absl::StatusOr<json> generation = ReadJsonObject(path, kLargestFile);
  if (generation.ok()) {
    RESIDUAL_ASSIGN_OR_RETURN(std::vector<int64_t> ids, Read(*generation, path));
    if (!ids.empty()) return ids;
  } else if (!absl::IsNotFound(generation.status())) {
    return generation.status();
  }
  return Read(config, JoinPath(folder, "config.json"));
}

}  // namespace residual
