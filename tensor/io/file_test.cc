#include "tensor/io/file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = JoinPath(::testing::TempDir(),
                       ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    ASSERT_TRUE(MakeFolders(folder_).ok());
  }
  std::string Path(const std::string& name) const { return JoinPath(folder_, name); }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  std::string folder_;
};

// Files of this process may have at most `bytes` bytes while it lives: a write that crosses the
// limit comes back short, the next one fails, as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST_F(FileTest, WritesAndReads) {
  const std::string contents("a\0b\n\xff", 5);
  ASSERT_TRUE(WriteFileAtomically(Path("f"), contents).ok());
  EXPECT_EQ(ReadFile(Path("f")).value(), contents);
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "").ok());
  EXPECT_EQ(ReadFile(Path("f")).value(), "");
  EXPECT_THAT(Names(), UnorderedElementsAre("f"));
}

TEST_F(FileTest, WritesInTheCurrentFolder) {
  const std::string before = std::filesystem::current_path();
  std::filesystem::current_path(folder_);
  EXPECT_TRUE(WriteFileAtomically("here", "x").ok());
  std::filesystem::current_path(before);
  EXPECT_EQ(ReadFile(Path("here")).value(), "x");
}

TEST_F(FileTest, ModeIsThatOfTheUmask) {
  for (const mode_t mask : {022, 027, 077, 0}) {
    const mode_t before = umask(mask);
    EXPECT_TRUE(WriteFileAtomically(Path("f"), "x").ok());
    umask(before);
    struct stat info;
    ASSERT_EQ(stat(Path("f").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0666 & ~mask) << std::oct << mask;
  }
}

TEST_F(FileTest, ReplacedFileStaysWholeForItsReaders) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), std::string(100000, 'a')).ok());
  const auto mapped = MappedFile::Open(Path("f")).value();
  const auto plain = MappedFile::Open(Path("f"), false).value();
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "b").ok());
  EXPECT_EQ(mapped->data()[99999], 'a');
  char c = 0;
  EXPECT_TRUE(plain->ReadAt(99999, 1, &c).ok());
  EXPECT_EQ(c, 'a');
  EXPECT_EQ(ReadFile(Path("f")).value(), "b");
}

TEST_F(FileTest, FullDiskLeavesTheOldFile) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "old").ok());
  {
    const FileSizeLimit limit(1000);
    const absl::Status status = WriteFileAtomically(Path("f"), std::string(2500, 'n'));
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path("f") + ": cannot write: "));
  }
  EXPECT_EQ(ReadFile(Path("f")).value(), "old");
  EXPECT_THAT(Names(), UnorderedElementsAre("f"));
}

TEST_F(FileTest, GivenUpWriteLeavesNothing) {
  {
    const auto file = AtomicFile::Create(Path("f")).value();
    ASSERT_TRUE(file->Append("half").ok());
    EXPECT_EQ(Names().size(), 1);
  }
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(FileTest, FolderThatMayNotBeWritten) {
  // Root may write anywhere but in the kernel's own folders.
  if (geteuid() == 0 && access("/sys/kernel", F_OK) != 0) GTEST_SKIP() << "root, and no /sys";
  ASSERT_EQ(chmod(folder_.c_str(), 0555), 0);
  const std::string path = geteuid() == 0 ? "/sys/f" : Path("f");
  const absl::Status status = WriteFileAtomically(path, "new");
  chmod(folder_.c_str(), 0755);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(path + ": cannot write in its folder: "));
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(FileTest, WriteErrorsNameThePath) {
  absl::Status status = WriteFileAtomically(Path("none/f"), "x");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(Path("none/f")));
  ASSERT_TRUE(MakeFolders(Path("folder")).ok());
  status = WriteFileAtomically(Path("folder"), "x");
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is a folder, expected a file"));
}

TEST_F(FileTest, ReadsOnlyFiles) {
  EXPECT_EQ(ReadFile(Path("none")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(ReadFile(folder_).status().message()), HasSubstr("is a folder"));
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  for (const std::string& path : {Path("pipe"), std::string("/dev/zero")}) {
    for (const bool mmap : {false, true}) {
      EXPECT_EQ(MappedFile::Open(path, mmap).status().code(),
                absl::StatusCode::kFailedPrecondition);
    }
    EXPECT_THAT(std::string(ReadFile(path).status().message()), HasSubstr("is a device or pipe"));
  }
}

TEST_F(FileTest, ReadsUpToTheLimit) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), std::string(5000, 'x')).ok());
  EXPECT_EQ(ReadFile(Path("f"), 5000).value().size(), 5000);
  const absl::Status status = ReadFile(Path("f"), 4999).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("has 5000 bytes, at most 4999"));
}

TEST_F(FileTest, ReadsFilesThatDoNotKnowTheirSize) {
  EXPECT_THAT(ReadFile("/proc/self/status").value(), HasSubstr("Name:"));
}

TEST_F(FileTest, ReadAt) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "0123456789").ok());
  for (const bool mmap : {false, true}) {
    const auto file = MappedFile::Open(Path("f"), mmap).value();
    EXPECT_EQ(file->mapped(), mmap);
    EXPECT_EQ(file->size(), 10);
    char to[11] = {};
    EXPECT_TRUE(file->ReadAt(3, 4, to).ok());
    EXPECT_EQ(std::string(to), "3456");
    EXPECT_TRUE(file->ReadAt(10, 0, to).ok());
    for (const auto& [offset, bytes] : std::vector<std::pair<uint64_t, size_t>>{
             {0, 11}, {10, 1}, {11, 0}, {~uint64_t{0}, 2}, {1, ~size_t{0}}}) {
      EXPECT_EQ(file->ReadAt(offset, bytes, to).code(), absl::StatusCode::kOutOfRange);
    }
  }
  ASSERT_TRUE(WriteFileAtomically(Path("empty"), "").ok());
  for (const bool mmap : {false, true}) {
    const auto file = MappedFile::Open(Path("empty"), mmap).value();
    EXPECT_EQ(file->size(), 0);
    EXPECT_TRUE(file->ReadAt(0, 0, nullptr).ok());
  }
}

TEST_F(FileTest, FileCutUnderAPlainReaderIsAnError) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), std::string(100, 'x')).ok());
  const auto file = MappedFile::Open(Path("f"), false).value();
  ASSERT_EQ(truncate(Path("f").c_str(), 60), 0);
  char to[100];
  EXPECT_TRUE(file->ReadAt(0, 60, to).ok());
  const absl::Status status = file->ReadAt(50, 50, to);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("ends at byte 60, expected bytes up to 100"));
}

TEST_F(FileTest, TemporariesOfTheDeadAreRemoved) {
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "x").ok());
  const auto live = AtomicFile::Create(Path("g")).value();
  const std::string live_name = Names()[0] == "f" ? Names()[1] : Names()[0];
  // A killed writer's file: the same name, nobody holds it.
  const int fd = open(Path(".residual-tmp-1-0").c_str(), O_CREAT | O_WRONLY, 0666);
  ASSERT_GE(fd, 0);
  close(fd);
  ASSERT_TRUE(RemoveTemporaries(folder_).ok());
  EXPECT_THAT(Names(), UnorderedElementsAre("f", live_name));
  EXPECT_TRUE(live->Commit().ok());
  EXPECT_THAT(Names(), UnorderedElementsAre("f", "g"));
  EXPECT_EQ(RemoveTemporaries(Path("none")).code(), absl::StatusCode::kNotFound);
}

TEST_F(FileTest, MakesFolders) {
  EXPECT_TRUE(MakeFolders(Path("a/b//c/")).ok());
  EXPECT_TRUE(std::filesystem::is_directory(Path("a/b/c")));
  EXPECT_TRUE(MakeFolders(Path("a/b/c")).ok());
  EXPECT_TRUE(MakeFolders("/").ok());
  ASSERT_TRUE(WriteFileAtomically(Path("f"), "x").ok());
  const absl::Status status = MakeFolders(Path("f/below"));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), Path("f") + ": is a file, expected a folder");
  EXPECT_FALSE(MakeFolders("").ok());
}

TEST_F(FileTest, JoinsPaths) {
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("", "b"), "b");
  EXPECT_EQ(JoinPath("a", "/b"), "/b");
}

}  // namespace
}  // namespace residual
