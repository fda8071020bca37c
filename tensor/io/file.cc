#include "tensor/io/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr char kTemporaryPrefix[] = ".residual-tmp-";
// Reads and writes of more than 2 GiB come back short on Linux; these keep each one well below.
constexpr size_t kMaxTransfer = size_t{1} << 30;

// A file descriptor that is closed.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int OpenRetrying(const std::string& path, int flags, mode_t mode = 0) {
  int fd;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Opens a regular file for reading. O_NONBLOCK: a pipe is refused, not waited for.
absl::StatusOr<int> OpenRegular(const std::string& path, uint64_t* size) {
  Descriptor fd(OpenRetrying(path, O_RDONLY | O_NONBLOCK));
  if (fd.get() < 0) return SystemError(errno, path, "cannot open");
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return SystemError(errno, path, "cannot read its size");
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is ", S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe",
                     ", expected a file"));
  }
  *size = static_cast<uint64_t>(info.st_size);
  return fd.Release();
}

absl::Status PreadAll(int fd, const std::string& path, uint64_t offset, size_t bytes, char* to) {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t n = pread(fd, to + done, std::min(bytes - done, kMaxTransfer),
                            static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, path, "cannot read");
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(path, ": ends at byte ", offset + done,
                                              ", expected bytes up to ", offset + bytes,
                                              "; it was cut while it was read"));
    }
    done += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SystemError(int error, absl::string_view path, absl::string_view what) {
  const std::string message = absl::StrCat(path, ": ", what, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::ResourceExhaustedError(message);
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
      return absl::FailedPreconditionError(message);
    default:
      return absl::InternalError(message);
  }
}

std::string JoinPath(absl::string_view folder, absl::string_view name) {
  if (folder.empty() || absl::StartsWith(name, "/")) return std::string(name);
  return absl::StrCat(folder, absl::EndsWith(folder, "/") ? "" : "/", name);
}

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path,
                                                                   bool mmap) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  RESIDUAL_ASSIGN_OR_RETURN(file->fd_, OpenRegular(path, &file->size_));
  if (!mmap || file->size_ == 0) return file;
  void* data = ::mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, file->fd_, 0);
  if (data == MAP_FAILED) return SystemError(errno, path, "cannot map");
  file->data_ = static_cast<const char*>(data);
  close(std::exchange(file->fd_, -1));
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<char*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

void MappedFile::Forget(uint64_t offset, uint64_t bytes) const {
  if (!mapped() || offset > size_) return;
  // Up to whole huge pages: where the system holds the file in such, what is read beside these
  // bytes has brought them in again.
  constexpr uint64_t kHugePage = uint64_t{2} << 20;
  const uint64_t begin = offset / kHugePage * kHugePage;
  const uint64_t end = offset + std::min(bytes, size_ - offset);
  const uint64_t length = std::min(size_, (end + kHugePage - 1) / kHugePage * kHugePage) - begin;
  if (offset < end) madvise(const_cast<char*>(data_) + begin, length, MADV_DONTNEED);
}

absl::Status MappedFile::ReadAt(uint64_t offset, size_t bytes, void* to) const {
  if (offset > size_ || bytes > size_ - offset) {
    return absl::OutOfRangeError(
        absl::StrCat(path_, ": wanted ", bytes, " bytes at byte ", offset, " of ", size_));
  }
  if (bytes == 0) return absl::OkStatus();
  if (mapped()) {
    std::memcpy(to, data_ + offset, bytes);
    return absl::OkStatus();
  }
  return PreadAll(fd_, path_, offset, bytes, static_cast<char*>(to));
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit) {
  uint64_t size = 0;
  RESIDUAL_ASSIGN_OR_RETURN(const int fd, OpenRegular(path, &size));
  const Descriptor closer(fd);
  std::string contents;
  // Files of /proc say 0 and have more, so reading goes on to the end whatever the size said.
  for (uint64_t want = std::max<uint64_t>(size + 1, 4096);; want = contents.size() * 2) {
    if (size > limit || contents.size() > limit) {
      return absl::ResourceExhaustedError(absl::StrCat(
          path, ": has ", std::max<uint64_t>(size, contents.size()), " bytes, at most ", limit));
    }
    size_t have = contents.size();
    contents.resize(std::min<uint64_t>(want, uint64_t{limit} + 1));
    while (have < contents.size()) {
      const ssize_t n = read(fd, &contents[have], std::min(contents.size() - have, kMaxTransfer));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return SystemError(errno, path, "cannot read");
      if (n == 0) {
        contents.resize(have);
        return contents;
      }
      have += static_cast<size_t>(n);
    }
  }
}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(const std::string& path) {
  static std::atomic<int64_t> serial{0};
  std::unique_ptr<AtomicFile> file(new AtomicFile);
  file->path_ = path;
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": is a folder, expected a file"));
  }
  do {
    file->temporary_ = JoinPath(FolderOf(path),
                                absl::StrCat(kTemporaryPrefix, getpid(), "-", serial.fetch_add(1)));
    file->fd_ = OpenRetrying(file->temporary_, O_WRONLY | O_CREAT | O_EXCL, 0666);
  } while (file->fd_ < 0 && errno == EEXIST);
  if (file->fd_ < 0) {
    const int error = errno;
    file->temporary_.clear();
    return SystemError(error, path, "cannot write in its folder");
  }
  // Tells RemoveTemporaries that the writer lives. Where a file system has no locks it does
  // without.
  flock(file->fd_, LOCK_EX | LOCK_NB);
  return file;
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

absl::Status AtomicFile::Append(absl::string_view bytes) {
  RESIDUAL_CHECK(fd_ >= 0) << path_ << " is committed";
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), std::min(bytes.size(), kMaxTransfer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, path_, "cannot write");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  RESIDUAL_CHECK(fd_ >= 0) << path_ << " is committed";
  if (fsync(fd_) != 0) return SystemError(errno, path_, "cannot sync");
  // Closed, and so unlocked, only under the final name.
  if (rename(temporary_.c_str(), path_.c_str()) != 0) {
    return SystemError(errno, path_, "cannot take its name");
  }
  close(std::exchange(fd_, -1));
  temporary_.clear();
  return SyncFolder(FolderOf(path_));
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents) {
  RESIDUAL_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file, AtomicFile::Create(path));
  RESIDUAL_RETURN_IF_ERROR(file->Append(contents));
  return file->Commit();
}

absl::Status RemoveTemporaries(const std::string& folder) {
  DIR* stream = opendir(folder.c_str());
  if (stream == nullptr) return SystemError(errno, folder, "cannot list");
  std::vector<std::string> found;
  while (const dirent* entry = readdir(stream)) {
    if (absl::StartsWith(entry->d_name, kTemporaryPrefix)) {
      found.push_back(JoinPath(folder, entry->d_name));
    }
  }
  closedir(stream);
  for (const std::string& path : found) {
    const Descriptor fd(OpenRetrying(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW));
    if (fd.get() >= 0 && flock(fd.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) continue;
    if (unlink(path.c_str()) != 0 && errno != ENOENT) {
      return SystemError(errno, path, "cannot remove");
    }
  }
  return absl::OkStatus();
}

absl::Status MakeFolders(const std::string& path) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (mkdir(part.c_str(), 0777) != 0) {
      const int error = errno;
      struct stat info;
      if (stat(part.c_str(), &info) != 0) return SystemError(error, part, "cannot make the folder");
      if (!S_ISDIR(info.st_mode)) {
        return absl::FailedPreconditionError(absl::StrCat(part, ": is a file, expected a folder"));
      }
    }
    if (end == std::string::npos) return absl::OkStatus();
  }
}

absl::Status SyncFolder(const std::string& path) {
  const Descriptor fd(OpenRetrying(path, O_RDONLY | O_DIRECTORY));
  if (fd.get() < 0) return SystemError(errno, path, "cannot open");
  // EINVAL: a file system whose folders cannot be synced.
  if (fsync(fd.get()) != 0 && errno != EINVAL) return SystemError(errno, path, "cannot sync");
  return absl::OkStatus();
}

}  // namespace residual
