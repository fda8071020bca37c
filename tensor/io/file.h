// Files: read whole or by mapping, written so that a crash at any moment leaves the old file or the
// new one, never a part of one.
//
// Errors carry the path and what the system said: NotFound, PermissionDenied, AlreadyExists,
// ResourceExhausted (disk full, quota, file too large), DataLoss (a file that became shorter while
// it was read), FailedPrecondition (a folder, a device or a pipe where a file is needed), Internal.

#ifndef RESIDUAL_TENSOR_IO_FILE_H_
#define RESIDUAL_TENSOR_IO_FILE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace residual {

// The bytes of a regular file, read-only: mapped, or read piece by piece.
//
// A mapped file that another process cuts short kills the reader when it touches what is gone
// (SIGBUS; nothing can be returned). With `mmap` false every read is checked and gives DataLoss.
// Files written by this library are replaced, never cut, so their readers keep what they opened.
class MappedFile {
 public:
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path,
                                                                bool mmap = true);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened
  bool mapped() const { return data_ != nullptr; }
  // The bytes at `offset`; only where mapped(), null otherwise.
  const char* data(uint64_t offset = 0) const { return mapped() ? data_ + offset : nullptr; }

  // Lets go of the memory that holds these bytes and up to 2 MiB on either side, where they are
  // mapped: they are read again from the file when they are next touched. A reader that has copied
  // what it needs makes room so.
  void Forget(uint64_t offset, uint64_t bytes) const;

  // Copies the bytes [offset, offset + bytes), mapped or not. OutOfRange past size().
  absl::Status ReadAt(uint64_t offset, size_t bytes, void* to) const;

 private:
  MappedFile() = default;
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  const char* data_ = nullptr;
};

// The whole of a regular file. ResourceExhausted if it has more than `limit` bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit = size_t{1} << 32);

// A file that appears under its name whole and synced, or not at all.
//
//   RESIDUAL_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file, AtomicFile::Create(path));
//   RESIDUAL_RETURN_IF_ERROR(file->Append(bytes));
//   return file->Commit();
//
// Until Commit the bytes lie in a temporary file of the same folder, which the destructor removes.
class AtomicFile {
 public:
  static absl::StatusOr<std::unique_ptr<AtomicFile>> Create(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  absl::Status Append(absl::string_view bytes);
  // Syncs, renames onto the path, syncs the folder. The mode is 0666 less the umask.
  absl::Status Commit();

 private:
  AtomicFile() = default;
  std::string path_, temporary_;
  int fd_ = -1;
};

// `contents` as the file `path`, by way of AtomicFile.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents);

// Removes the temporary files that killed writers left in a folder; those of live ones stay.
absl::Status RemoveTemporaries(const std::string& folder);

// Makes a folder and those above it; fine if it is there.
absl::Status MakeFolders(const std::string& path);

// Makes what was created, renamed or removed in a folder survive a power cut.
absl::Status SyncFolder(const std::string& path);

// "folder/name"; an absolute name stays as it is, an empty folder is the current one.
std::string JoinPath(absl::string_view folder, absl::string_view name);

// The status of a failed system call: "PATH: cannot open: No such file or directory".
absl::Status SystemError(int error, absl::string_view path, absl::string_view what);

}  // namespace residual

#endif  // RESIDUAL_TENSOR_IO_FILE_H_
