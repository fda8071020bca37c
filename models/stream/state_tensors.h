// The tensors of a state, by name, on their way to a file and back.

#ifndef RESIDUAL_MODELS_STREAM_STATE_TENSORS_H_
#define RESIDUAL_MODELS_STREAM_STATE_TENSORS_H_

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tensor/core/tensor.h"
#include "tensor/io/safetensors.h"

namespace residual {

// Collects them. What a mixer calls "keys" is "blocks.0.attn.keys" in the file.
class StateWriter {
 public:
  void Write(const std::string& name, Tensor value) {
    tensors_.emplace_back(prefix_ + name, std::move(value));
  }
  void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }
  const std::vector<NamedTensor>& tensors() const { return tensors_; }

 private:
  std::string prefix_;
  std::vector<NamedTensor> tensors_;
};

// Hands them out again. InvalidArgument where one is missing or not what is asked for, with the
// file, the tensor, what was found and what was expected.
class StateReader {
 public:
  // `file` outlives the reader.
  explicit StateReader(const SafetensorsFile& file) : file_(file) {}

  // The tensor of this shape and of any float dtype.
  absl::StatusOr<Tensor> ReadFloats(const std::string& name, const Shape& shape);
  // The i64 numbers of a list of any length.
  absl::StatusOr<std::vector<int64_t>> ReadList(const std::string& name);
  void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }

  // An error if the file has a tensor that nobody has read.
  absl::Status CheckAllRead() const;

 private:
  const SafetensorsFile& file_;
  std::string prefix_;
  std::set<std::string> read_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_STREAM_STATE_TENSORS_H_
