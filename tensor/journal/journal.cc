#include "tensor/journal/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/crc32.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

constexpr absl::string_view kMagic = "RSDLJRN1";
constexpr size_t kFrameHead = 8;

void PutU32(uint32_t value, std::string& to) {
  for (int byte = 0; byte < 4; ++byte) to.push_back(static_cast<char>(value >> 8 * byte & 255));
}

uint32_t GetU32(absl::string_view bytes) {
  uint32_t value = 0;
  for (int byte = 0; byte < 4; ++byte) {
    value |= uint32_t{static_cast<unsigned char>(bytes[byte])} << 8 * byte;
  }
  return value;
}

std::string Frame(absl::string_view content) {
  std::string frame;
  PutU32(static_cast<uint32_t>(content.size()), frame);
  PutU32(Crc32(content, Crc32(frame)), frame);
  absl::StrAppend(&frame, content);
  return frame;
}

// The content of the frame that `bytes` begin with; null if they have less than its size says. A
// file system may also have made room for a frame, and lost its bytes.
absl::string_view FrameContent(absl::string_view bytes) {
  if (bytes.size() < kFrameHead || bytes.find_first_not_of('\0') == bytes.npos) return {};
  const size_t size = GetU32(bytes);
  if (bytes.size() - kFrameHead < size) return {};
  return bytes.substr(kFrameHead, size);
}

bool IsIntact(absl::string_view frame, absl::string_view content) {
  return GetU32(frame.substr(4)) == Crc32(content, Crc32(frame.substr(0, 4)));
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// The strings of a JSON object; false for anything else.
bool ParseSubject(absl::string_view text, Journal::Subject* subject) {
  const nlohmann::json parsed =
      nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return false;
  for (const auto& [name, value] : parsed.items()) {
    if (!value.is_string()) return false;
    (*subject)[name] = value.get<std::string>();
  }
  return true;
}

std::string Shown(const Journal::Subject& subject, const std::string& name) {
  const auto found = subject.find(name);
  return found == subject.end() ? "not given" : absl::StrCat("\"", found->second, "\"");
}

}  // namespace

std::string SubjectDifference(const Journal::Subject& there, const Journal::Subject& here) {
  Journal::Subject all = there;
  all.insert(here.begin(), here.end());
  for (const auto& [name, value] : all) {
    const std::string of_there = Shown(there, name), of_here = Shown(here, name);
    if (of_there == of_here) continue;
    return absl::StrCat("'", name, "' is ", of_there, " there and ", of_here, " here");
  }
  return "";
}

absl::Status Journal::Read(absl::string_view bytes, const Subject& subject) {
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": is no journal: it does not begin with \"", kMagic, "\""));
  }
  for (size_t at = kMagic.size(); at < bytes.size();) {
    const absl::string_view rest = bytes.substr(at);
    const bool first = at == kMagic.size();
    const absl::string_view content = FrameContent(rest);
    const size_t end = at + kFrameHead + content.size();
    if (content.data() == nullptr && !first) break;  // torn
    if (content.data() == nullptr || !IsIntact(rest, content)) {
      if (end == bytes.size() && !first) break;  // torn
      return absl::DataLossError(
          absl::StrCat(path_, ": the frame at byte ", at, " of ", bytes.size(),
                       " differs from its checksum; remove the file to begin again"));
    }
    if (first) {
      Subject found;
      if (!ParseSubject(content, &found)) {
        return absl::InvalidArgumentError(
            absl::StrCat(path_, ": its first frame is no JSON object of strings"));
      }
      if (found != subject) {
        return absl::FailedPreconditionError(absl::StrCat(
            path_, ": is a journal of something else: ", SubjectDifference(found, subject)));
      }
    } else {
      records_.emplace_back(content);
    }
    at = end_ = end;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& path,
                                                       const Subject& subject) {
  std::unique_ptr<Journal> journal(new Journal);
  journal->path_ = path;
  struct stat info;
  // A pipe or a device would be waited for, or written to.
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is ", S_ISDIR(info.st_mode) ? "a folder" : "a device or pipe",
                     ", expected a file"));
  }
  do {
    journal->fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
  } while (journal->fd_ < 0 && errno == EINTR);
  if (journal->fd_ < 0) return SystemError(errno, path, "cannot open for writing");
  // Where a file system has no locks it does without.
  if (flock(journal->fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": another process is writing this journal"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::string contents,
                            ReadFile(path, std::numeric_limits<size_t>::max() / 4));
  const std::string beginning =
      absl::StrCat(kMagic, Frame(nlohmann::json(subject).dump(
                               -1, ' ', false, nlohmann::json::error_handler_t::replace)));
  // Nothing yet, or killed while it was begun.
  const bool begins = contents.size() < beginning.size() && absl::StartsWith(beginning, contents);
  if (!begins) RESIDUAL_RETURN_IF_ERROR(journal->Read(contents, subject));
  if (journal->end_ < contents.size() &&
      ftruncate(journal->fd_, static_cast<off_t>(journal->end_)) != 0) {
    return SystemError(errno, path, "cannot cut off what was not all written");
  }
  if (lseek(journal->fd_, 0, SEEK_END) < 0) return SystemError(errno, path, "cannot append");
  if (begins) {
    RESIDUAL_RETURN_IF_ERROR(journal->Write(beginning));
    RESIDUAL_RETURN_IF_ERROR(SyncFolder(FolderOf(path)));
  }
  return journal;
}

Journal::~Journal() {
  if (fd_ >= 0) close(fd_);
}

absl::Status Journal::Append(absl::string_view record) {
  if (record.size() > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": a record of ", record.size(), " bytes, at most 4 GiB"));
  }
  return Write(Frame(record));
}

absl::Status Journal::Write(absl::string_view bytes) {
  RESIDUAL_RETURN_IF_ERROR(written_);
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return written_ = SystemError(errno, path_, "cannot write");
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  if (fdatasync(fd_) != 0) return written_ = SystemError(errno, path_, "cannot sync");
  return absl::OkStatus();
}

}  // namespace residual
