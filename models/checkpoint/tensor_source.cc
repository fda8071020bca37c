#include "models/checkpoint/tensor_source.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "models/checkpoint/config_reader.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr size_t kIndexLimit = size_t{64} << 20;

// A file of the folder itself: no path, no way out of it.
bool IsBaseName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string("/\\\0", 3)) == std::string::npos;
}

absl::Status NoWeights(const std::string& folder) {
  for (const char* other : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (MappedFile::Open(JoinPath(folder, other), false).ok()) {
      return absl::NotFoundError(
          absl::StrCat(folder, ": has ", other,
                       ", a pickle, which is not read; expected model.safetensors (save the model "
                       "again with safe serialization)"));
    }
  }
  return absl::NotFoundError(absl::StrCat(
      folder, ": no model.safetensors and no model.safetensors.index.json in this folder"));
}

}  // namespace

absl::StatusOr<TensorSource> TensorSource::Open(const std::string& folder,
                                                const ReadOptions& options) {
  TensorSource source;
  source.path_ = JoinPath(folder, "model.safetensors");
  absl::StatusOr<SafetensorsFile> single = SafetensorsFile::Open(source.path_, options);
  if (single.ok()) {
    for (const TensorInfo& tensor : single->tensors()) {
      source.names_.push_back(tensor.name);
      source.file_of_[tensor.name] = 0;
    }
    source.files_.push_back(*std::move(single));
    return source;
  }
  if (!absl::IsNotFound(single.status())) return single.status();

  source.path_ = JoinPath(folder, "model.safetensors.index.json");
  const absl::StatusOr<json> index = ReadJsonObject(source.path_, kIndexLimit);
  if (absl::IsNotFound(index.status())) return NoWeights(folder);
  RESIDUAL_RETURN_IF_ERROR(index.status());
  const auto fail = [&](const std::string& message) {
    return absl::InvalidArgumentError(absl::StrCat(source.path_, ": ", message));
  };
  const auto map = index->find("weight_map");
  if (map == index->end()) return fail("'weight_map' is missing");
  if (!map->is_object()) {
    return fail(absl::StrCat("'weight_map' is ", ShortJson(*map), ", expected an object"));
  }
  // All names before any file, all files before their contents: the first error is the plainest.
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string() || !IsBaseName(file.get_ref<const std::string&>())) {
      return fail(absl::StrCat("the tensor ", ShortJson(json(name)), " is in ", ShortJson(file),
                               ", expected the name of a file in this folder"));
    }
  }
  std::map<std::string, size_t> opened;
  for (const auto& [name, file] : map->items()) {
    const std::string& base = file.get_ref<const std::string&>();
    const auto [entry, is_new] = opened.try_emplace(base, source.files_.size());
    source.names_.push_back(name);
    source.file_of_[name] = entry->second;
    if (!is_new) continue;
    absl::StatusOr<SafetensorsFile> shard = SafetensorsFile::Open(JoinPath(folder, base), options);
    if (!shard.ok()) {
      return absl::Status(shard.status().code(), absl::StrCat(shard.status().message(),
                                                              " (a shard of ", source.path_, ")"));
    }
    source.files_.push_back(*std::move(shard));
  }
  for (const auto& [name, file] : map->items()) {
    if (source.Find(name) == nullptr) {
      return fail(absl::StrCat("the tensor ", ShortJson(json(name)), " is said to be in ",
                               ShortJson(file), ", which does not hold it"));
    }
  }
  return source;
}

const TensorInfo* TensorSource::Find(absl::string_view name) const {
  const auto entry = file_of_.find(std::string(name));
  return entry == file_of_.end() ? nullptr : files_[entry->second].Find(name);
}

const std::string& TensorSource::FileOf(absl::string_view name) const {
  const auto entry = file_of_.find(std::string(name));
  RESIDUAL_CHECK(entry != file_of_.end()) << name;
  return files_[entry->second].path();
}

absl::StatusOr<Tensor> TensorSource::Read(absl::string_view name) const {
  const auto entry = file_of_.find(std::string(name));
  if (entry == file_of_.end()) {
    return absl::NotFoundError(absl::StrCat(path_, ": no tensor '", name, "'"));
  }
  return files_[entry->second].Read(name);
}

void TensorSource::Forget(absl::string_view name, uint64_t begin, uint64_t bytes) const {
  const auto entry = file_of_.find(std::string(name));
  if (entry != file_of_.end()) files_[entry->second].Forget(name, begin, bytes);
}

}  // namespace residual
