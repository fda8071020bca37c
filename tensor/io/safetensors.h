// safetensors: named tensors in one file, as Hugging Face's library reads and writes them.
//
// Layout: u64 n (little endian); n bytes of JSON,
//   {"__metadata__": {"key": "value"}, "name": {"dtype": "F32", "shape": [2, 3],
//                                               "data_offsets": [begin, end]}, ...};
// then the data, to which the offsets count. Tensors lie without holes or overlaps.
//
//   RESIDUAL_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open("model.safetensors"));
//   RESIDUAL_ASSIGN_OR_RETURN(Tensor w, file.Read("blocks.0.attn.W_Q"));
//
// A file is hostile until it is checked: Open compares every count with the bytes there are before
// it allocates anything. It refuses, with the file, the tensor and what was found and expected, a
// header longer than 100,000,000 bytes or than the file, one that does not begin with '{' (the
// format says so; the reference library lets spaces pass), is no JSON or no UTF-8, nests deeper
// than the format needs, a name or field given twice (even alike), sizes that are negative, no
// integers or whose product overflows, offsets outside the data, overlapping, leaving holes, or not
// the size that shape and dtype make, and bytes after the last tensor.

#ifndef RESIDUAL_TENSOR_IO_SAFETENSORS_H_
#define RESIDUAL_TENSOR_IO_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tensor/core/tensor.h"
#include "tensor/io/file.h"

namespace residual {

struct TensorInfo {
  std::string name;
  Shape shape;
  // What Read returns. The format's U16 is widened to i32, U32 and U64 to i64 (an error where a
  // value does not fit).
  DType dtype = kF32;
  std::string dtype_name;  // in the file: "BF16"
  // False for the format's dtypes that no Tensor has (F8_E4M3, C64, F4, ...): Read says so.
  bool readable = true;
  uint64_t offset = 0;  // in the file
  uint64_t bytes = 0;
};

struct ReadOptions {
  bool mmap = true;  // false: plain reads (see MappedFile)
};

class SafetensorsFile {
 public:
  // InvalidArgument, DataLoss (cut file) or what opening gave.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path,
                                              const ReadOptions& options = {});

  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in order of name
  const TensorInfo* Find(absl::string_view name) const;                // null: no such tensor
  // On the mapped bytes, not copied, where their address fits the dtype; the mapping lives as long
  // as the tensor. NotFound, Unimplemented (dtype), DataLoss (file cut since; plain reads only),
  // InvalidArgument (a BOOL that is neither 0 nor 1).
  absl::StatusOr<Tensor> Read(absl::string_view name) const;
  // Lets go of the memory that a tensor's bytes [begin, begin + bytes) are mapped to, as far as it
  // has them, see MappedFile::Forget.
  void Forget(absl::string_view name, uint64_t begin = 0, uint64_t bytes = UINT64_MAX) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return file_->path(); }

 private:
  SafetensorsFile() = default;
  std::shared_ptr<const MappedFile> file_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

using NamedTensor = std::pair<std::string, Tensor>;

// Writes `path` atomically (AtomicFile), byte for byte as the reference library does: widest dtypes
// first, then by name; the header padded with spaces to a multiple of 8. Metadata in order of key.
// InvalidArgument for a name that is given twice, is no UTF-8 or is "__metadata__".
absl::Status WriteSafetensors(const std::string& path, absl::Span<const NamedTensor> tensors,
                              const std::map<std::string, std::string>& metadata = {});

// The same tensor by tensor, for more than memory is to hold: what there is comes first, the values
// follow in that order. For files whose tensors are of one dtype, or lie widest first: others are
// not aligned.
class SafetensorsWriter {
 public:
  struct Entry {
    std::string name;
    DType dtype = kF32;
    Shape shape;
  };
  // InvalidArgument as WriteSafetensors.
  static absl::StatusOr<SafetensorsWriter> Create(
      const std::string& path, std::vector<Entry> entries,
      const std::map<std::string, std::string>& metadata = {});

  // The next entry; CHECKs its dtype and shape.
  absl::Status Append(const Tensor& value);
  // The file is there from now on, whole; CHECKs that all entries are.
  absl::Status Commit();

 private:
  SafetensorsWriter() = default;
  std::unique_ptr<AtomicFile> file_;
  std::vector<Entry> entries_;
  size_t next_ = 0;
};

}  // namespace residual

#endif  // RESIDUAL_TENSOR_IO_SAFETENSORS_H_
