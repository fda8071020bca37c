#include "models/train/checkpoint.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/crc32.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr char kPrefix[] = "checkpoint-";
// What is being written or removed; found by the next Open if that is cut short.
constexpr char kTemporaryPrefix[] = ".tmp-checkpoint-";
constexpr char kManifest[] = "manifest.json";
constexpr size_t kMaxManifestBytes = 1 << 20;
constexpr size_t kPiece = size_t{1} << 20;

struct Sum {
  uint64_t bytes = 0;
  uint32_t crc = 0;
};

// By plain reads: a file that is cut meanwhile is an error.
absl::StatusOr<Sum> SumOf(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path, /*mmap=*/false));
  Sum sum;
  std::string piece;
  while (sum.bytes < file->size()) {
    piece.resize(std::min<uint64_t>(kPiece, file->size() - sum.bytes));
    RESIDUAL_RETURN_IF_ERROR(file->ReadAt(sum.bytes, piece.size(), piece.data()));
    sum.crc = Crc32(piece, sum.crc);
    sum.bytes += piece.size();
  }
  return sum;
}

std::string Hex(uint32_t crc) { return absl::StrFormat("%08x", crc); }

absl::StatusOr<std::vector<std::string>> Names(const std::string& folder) {
  DIR* stream = opendir(folder.c_str());
  if (stream == nullptr) return SystemError(errno, folder, "cannot list");
  std::vector<std::string> names;
  while (const dirent* entry = readdir(stream)) names.emplace_back(entry->d_name);
  closedir(stream);
  return names;
}

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return error ? SystemError(error.value(), path, "cannot remove") : absl::OkStatus();
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return SystemError(errno, to, "cannot take its name");
}

// Gives the folder `from` the name `to`; what had it before gets the name `from`, in one step where
// the file system can.
absl::Status Exchange(const std::string& from, const std::string& to, const std::string& spare) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
    return absl::OkStatus();
  }
  struct stat info;
  if (stat(to.c_str(), &info) != 0) return Rename(from, to);
  RESIDUAL_RETURN_IF_ERROR(Rename(to, spare));
  const absl::Status status = Rename(from, to);
  if (!status.ok()) {
    RESIDUAL_RETURN_IF_ERROR(Rename(spare, to));
    return status;
  }
  return Rename(spare, from);
}

}  // namespace

std::string CheckpointStore::PathOf(int64_t step) const {
  return JoinPath(folder_, absl::StrCat(kPrefix, step));
}

absl::StatusOr<CheckpointStore> CheckpointStore::Open(std::string folder) {
  RESIDUAL_RETURN_IF_ERROR(MakeFolders(folder));
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, folder, "cannot open");
  std::shared_ptr<const void> lock(nullptr, [fd](const void*) { close(fd); });
  // A file system without locks has to do without.
  if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder,
                     ": another run keeps its checkpoints here; wait for it, or choose "
                     "another folder"));
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(folder));
  for (const std::string& name : names) {
    if (absl::StartsWith(name, kTemporaryPrefix)) {
      RESIDUAL_RETURN_IF_ERROR(RemoveTree(JoinPath(folder, name)));
    }
  }
  return CheckpointStore(std::move(folder), std::move(lock));
}

absl::StatusOr<std::vector<int64_t>> CheckpointStore::Steps() const {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<std::string> names, Names(folder_));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    int64_t step = 0;
    if (absl::StartsWith(name, kPrefix) &&
        absl::SimpleAtoi(absl::string_view(name).substr(sizeof(kPrefix) - 1), &step) &&
        name == absl::StrCat(kPrefix, step)) {
      steps.push_back(step);
    }
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

absl::Status CheckpointStore::Write(int64_t step, const std::vector<CheckpointFile>& files) const {
  RESIDUAL_CHECK_GE(step, 0);
  const std::string temporary = JoinPath(folder_, absl::StrCat(kTemporaryPrefix, step));
  const std::string spare = temporary + "-before";
  RESIDUAL_RETURN_IF_ERROR(RemoveTree(temporary));
  RESIDUAL_RETURN_IF_ERROR(RemoveTree(spare));
  const auto write = [&]() -> absl::Status {
    RESIDUAL_RETURN_IF_ERROR(MakeFolders(temporary));
    json list = json::array();
    for (const CheckpointFile& file : files) {
      RESIDUAL_CHECK(file.name != kManifest && file.name.find('/') == file.name.npos) << file.name;
      const std::string path = JoinPath(temporary, file.name);
      RESIDUAL_RETURN_IF_ERROR(file.write(path));
      RESIDUAL_ASSIGN_OR_RETURN(const Sum sum, SumOf(path));
      list.push_back({{"name", file.name}, {"bytes", sum.bytes}, {"crc32", Hex(sum.crc)}});
    }
    const json manifest = {{"format", 1}, {"step", step}, {"files", list}};
    RESIDUAL_RETURN_IF_ERROR(
        WriteFileAtomically(JoinPath(temporary, kManifest), manifest.dump(1) + "\n"));
    RESIDUAL_RETURN_IF_ERROR(Exchange(temporary, PathOf(step), spare));
    return SyncFolder(folder_);
  };
  const absl::Status status = write();
  const absl::Status removed = RemoveTree(temporary);
  RESIDUAL_RETURN_IF_ERROR(status);
  RESIDUAL_RETURN_IF_ERROR(removed);

  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, Steps());
  int before = 0;
  for (const int64_t other : steps) {
    if (other == step || (other < step && before++ == 0)) continue;
    // Under another name first: what is called checkpoint-N is never in part.
    const std::string leaving = JoinPath(folder_, absl::StrCat(kTemporaryPrefix, other));
    RESIDUAL_RETURN_IF_ERROR(RemoveTree(leaving));
    RESIDUAL_RETURN_IF_ERROR(Rename(PathOf(other), leaving));
    RESIDUAL_RETURN_IF_ERROR(RemoveTree(leaving));
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointStore::Found> CheckpointStore::Newest() const {
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, Steps());
  Found found;
  for (const int64_t step : steps) {
    found.path = PathOf(step);
    const absl::Status status = Verify(found.path);
    if (status.ok()) {
      found.step = step;
      return found;
    }
    found.notes.emplace_back(status.message());
  }
  if (found.notes.empty()) return absl::NotFoundError(folder_ + ": has no checkpoint");
  return absl::DataLossError(
      absl::StrCat(folder_, ": no checkpoint is whole: ", absl::StrJoin(found.notes, "; ")));
}

absl::Status CheckpointStore::Verify(const std::string& path) {
  const std::string manifest_path = JoinPath(path, kManifest);
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(manifest_path, kMaxManifestBytes));
  const json manifest = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto broken = [&](absl::string_view what) {
    return absl::DataLossError(absl::StrCat(manifest_path, ": ", what));
  };
  const auto field = [](const json& object, const char* name) {
    return object.is_object() && object.contains(name) ? object[name] : json();
  };
  if (field(manifest, "format") != 1) return broken("is no manifest of format 1");
  const json step = field(manifest, "step"), files = field(manifest, "files");
  if (!step.is_number_integer() ||
      !absl::EndsWith(path, absl::StrCat(kPrefix, step.get<int64_t>()))) {
    return broken(absl::StrCat("is of step ", step.dump()));
  }
  if (!files.is_array()) return broken("has no list of files");
  for (const json& file : files) {
    const json name = field(file, "name"), bytes = field(file, "bytes"), crc = field(file, "crc32");
    if (!name.is_string() || !bytes.is_number_unsigned() || !crc.is_string() ||
        name.get_ref<const std::string&>().find('/') != std::string::npos) {
      return broken("has a file without name, bytes and crc32");
    }
    const std::string file_path = JoinPath(path, name.get<std::string>());
    RESIDUAL_ASSIGN_OR_RETURN(const Sum sum, SumOf(file_path));
    if (sum.bytes != bytes.get<uint64_t>()) {
      return absl::DataLossError(absl::StrCat(file_path, ": has ", sum.bytes, " bytes, expected ",
                                              bytes.get<uint64_t>(), " by its manifest"));
    }
    if (Hex(sum.crc) != crc.get_ref<const std::string&>()) {
      return absl::DataLossError(absl::StrCat(file_path, ": has crc32 ", Hex(sum.crc),
                                              ", expected ", crc.get_ref<const std::string&>(),
                                              " by its manifest; its bytes have changed"));
    }
  }
  return absl::OkStatus();
}

}  // namespace residual
