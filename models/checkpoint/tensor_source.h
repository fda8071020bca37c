// The tensors of a model's folder: those of model.safetensors, or of the shards that
// model.safetensors.index.json lists.

#ifndef RESIDUAL_MODELS_CHECKPOINT_TENSOR_SOURCE_H_
#define RESIDUAL_MODELS_CHECKPOINT_TENSOR_SOURCE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tensor/core/tensor.h"
#include "tensor/io/safetensors.h"

namespace residual {

class TensorSource {
 public:
  // NotFound if the folder has neither file (names a pickled one where there is one); an index must
  // map every tensor to a file of the folder itself that holds it, else InvalidArgument. Reads
  // headers only.
  static absl::StatusOr<TensorSource> Open(const std::string& folder,
                                           const ReadOptions& options = {});

  // All tensors, in order of name; with an index those it lists.
  const std::vector<std::string>& names() const { return names_; }
  const TensorInfo* Find(absl::string_view name) const;  // null: no such tensor
  // The path of the file that holds it.
  const std::string& FileOf(absl::string_view name) const;
  absl::StatusOr<Tensor> Read(absl::string_view name) const;
  // Lets go of the memory that a tensor's bytes [begin, begin + bytes) are mapped to, or all of
  // them, see MappedFile::Forget.
  void Forget(absl::string_view name, uint64_t begin = 0, uint64_t bytes = UINT64_MAX) const;
  // The file that was opened: model.safetensors or the index.
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::vector<std::string> names_;
  std::map<std::string, size_t, std::less<>> file_of_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_CHECKPOINT_TENSOR_SOURCE_H_
