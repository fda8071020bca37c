// Files that may be compressed with gzip; told by their first bytes, not by their name.

#ifndef RESIDUAL_MODELS_DATA_LABELED_COMPRESSED_FILE_H_
#define RESIDUAL_MODELS_DATA_LABELED_COMPRESSED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace residual {

class CompressedFile {
 public:
  // Keeps the file as it is on the disk, not what is in it. ReadFile's errors; ResourceExhausted
  // above 4 GB.
  static absl::StatusOr<CompressedFile> Open(const std::string& path);

  // No more than this can be in it: its size, or what gzip can make of it at best.
  uint64_t MostBytes() const;

  // The first `bytes` of what is in it; all where there are fewer. InvalidArgument, with the path,
  // for what gzip did not write: broken, cut off, a wrong checksum (noticed at the end only).
  absl::StatusOr<std::string> Read(uint64_t bytes) const;

 private:
  CompressedFile(std::string path, std::string contents);
  std::string path_, contents_;
  bool compressed_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_LABELED_COMPRESSED_FILE_H_
