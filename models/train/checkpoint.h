// Checkpoints that survive a crash at any moment.
//
// A checkpoint is a folder, written whole under a temporary name: every file synced, a manifest of
// sizes and checksums written last, then one rename. What has the name "checkpoint-N" is complete,
// or the disk lied, and then the manifest shows it and the one before is taken. The newest two are
// kept. A run that is killed loses the steps since its last checkpoint and nothing else.
//
// manifest.json: {"format": 1, "step": N, "files": [{"name": "model.safetensors", "bytes": 1234,
// "crc32": "cbf43926"}, ...]}, the checksum that of zlib.

#ifndef RESIDUAL_MODELS_TRAIN_CHECKPOINT_H_
#define RESIDUAL_MODELS_TRAIN_CHECKPOINT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace residual {

// One file of a checkpoint: its name, and what writes it (synced) at a path.
struct CheckpointFile {
  std::string name;
  std::function<absl::Status(const std::string& path)> write;
};

class CheckpointStore {
 public:
  // `folder` is made if it does not exist; temporaries that a killed run left are removed. Errors
  // name the folder and what the system said. FailedPrecondition while another store, of any
  // process, has the folder open: two runs would remove each other's checkpoints.
  static absl::StatusOr<CheckpointStore> Open(std::string folder);

  // Writes checkpoint-`step`, then removes all but it and the newest before it; those of later
  // steps go too, for a run that writes this step has passed them over. On an error nothing that
  // was there before is touched.
  absl::Status Write(int64_t step, const std::vector<CheckpointFile>& files) const;

  struct Found {
    int64_t step = 0;
    std::string path;                // the checkpoint's folder
    std::vector<std::string> notes;  // newer ones that were passed over, and why
  };
  // The newest checkpoint whose every file has the size and checksum of its manifest. NotFound if
  // there is none; DataLoss, with the notes, if none is whole.
  absl::StatusOr<Found> Newest() const;

  // Checks one checkpoint folder against its manifest: DataLoss names the file, what was found and
  // what was expected.
  static absl::Status Verify(const std::string& path);

  // The folder of a step's checkpoint, written or not.
  std::string PathOf(int64_t step) const;
  const std::string& folder() const { return folder_; }

 private:
  CheckpointStore(std::string folder, std::shared_ptr<const void> lock)
      : folder_(std::move(folder)), lock_(std::move(lock)) {}
  absl::StatusOr<std::vector<int64_t>> Steps() const;  // of the complete ones, falling

  std::string folder_;
  std::shared_ptr<const void> lock_;  // held with the folder
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TRAIN_CHECKPOINT_H_
