// A file that is never on a disk, for parsers that take a path.

#ifndef RESIDUAL_TESTS_FUZZ_IO_FILE_IN_MEMORY_H_
#define RESIDUAL_TESTS_FUZZ_IO_FILE_IN_MEMORY_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"

namespace residual {

class FileInMemory {
 public:
  FileInMemory(const uint8_t* data, size_t size) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    RESIDUAL_CHECK(fd_ >= 0);
    RESIDUAL_CHECK(write(fd_, data, size) == static_cast<ssize_t>(size)) << size;
  }
  ~FileInMemory() { close(fd_); }
  FileInMemory(const FileInMemory&) = delete;
  FileInMemory& operator=(const FileInMemory&) = delete;

  std::string path() const { return absl::StrCat("/proc/self/fd/", fd_); }

 private:
  int fd_;
};

}  // namespace residual

#endif  // RESIDUAL_TESTS_FUZZ_IO_FILE_IN_MEMORY_H_
