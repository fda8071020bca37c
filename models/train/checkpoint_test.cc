#include "models/train/checkpoint.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = JoinPath(::testing::TempDir(),
                       ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    Open();
  }
  void Open() {
    store_.reset();
    absl::StatusOr<CheckpointStore> store = CheckpointStore::Open(folder_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  // A checkpoint of two files whose contents say the step.
  absl::Status Write(int64_t step) {
    return store_->Write(step, {File("weights", absl::StrCat("weights ", step)),
                                File("state", std::string(3000, static_cast<char>(step)))});
  }
  static CheckpointFile File(const std::string& name, const std::string& contents) {
    return {name,
            [contents](const std::string& path) { return WriteFileAtomically(path, contents); }};
  }
  std::string Path(const std::string& name) const { return JoinPath(folder_, name); }
  std::vector<std::string> Names(const std::string& below = "") const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(Path(below))) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  std::string folder_;
  std::optional<CheckpointStore> store_;
};

TEST_F(CheckpointTest, NothingYet) {
  const absl::Status status = store_->Newest().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), folder_ + ": has no checkpoint");
}

TEST_F(CheckpointTest, KeepsTheNewestTwo) {
  for (const int64_t step : {0, 5, 10, 100}) {
    ASSERT_TRUE(Write(step).ok());
    const auto found = store_->Newest();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->step, step);
    EXPECT_THAT(found->notes, IsEmpty());
    EXPECT_EQ(ReadFile(JoinPath(found->path, "weights")).value(), absl::StrCat("weights ", step));
  }
  EXPECT_THAT(Names(), UnorderedElementsAre("checkpoint-10", "checkpoint-100"));
  EXPECT_THAT(Names("checkpoint-100"), UnorderedElementsAre("weights", "state", "manifest.json"));
}

TEST_F(CheckpointTest, ManifestHasSizesAndZlibsChecksums) {
  ASSERT_TRUE(store_->Write(7, {File("a", "123456789")}).ok());
  EXPECT_EQ(ReadFile(Path("checkpoint-7/manifest.json")).value(),
            R"({
 "files": [
  {
   "bytes": 9,
   "crc32": "cbf43926",
   "name": "a"
  }
 ],
 "format": 1,
 "step": 7
}
)");
}

TEST_F(CheckpointTest, AnyFlippedBitIsSeenAndTheOneBeforeIsTaken) {
  ASSERT_TRUE(Write(1).ok());
  ASSERT_TRUE(Write(2).ok());
  for (const char* name : {"weights", "manifest.json"}) {
    const std::string path = Path(absl::StrCat("checkpoint-2/", name));
    const std::string bytes = ReadFile(path).value();
    int seen = 0;
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      std::string flipped = bytes;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
      std::ofstream(path, std::ios::binary) << flipped;
      const auto found = store_->Newest();
      ASSERT_TRUE(found.ok()) << found.status();
      if (found->step == 2) continue;  // of the manifest's white space
      ++seen;
      EXPECT_EQ(found->step, 1);
      ASSERT_EQ(found->notes.size(), 1);
      EXPECT_THAT(found->notes[0], HasSubstr(Path("checkpoint-2/")));
    }
    EXPECT_GE(seen, name[0] == 'w' ? 8 * bytes.size() : 8 * bytes.size() * 7 / 10) << name;
    std::ofstream(path, std::ios::binary) << bytes;
    EXPECT_EQ(store_->Newest()->step, 2);
  }
}

TEST_F(CheckpointTest, VerifyNamesWhatIsWrong) {
  ASSERT_TRUE(Write(1).ok());
  const std::string path = Path("checkpoint-1"), weights = JoinPath(path, "weights");
  EXPECT_TRUE(CheckpointStore::Verify(path).ok());
  std::ofstream(weights) << "weights 2";
  absl::Status status = CheckpointStore::Verify(path);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(weights + ": has crc32 "), HasSubstr("expected")));
  std::ofstream(weights) << "weights";
  status = CheckpointStore::Verify(path);
  EXPECT_EQ(status.message(), weights + ": has 7 bytes, expected 9 by its manifest");
  fs::remove(weights);
  EXPECT_THAT(std::string(CheckpointStore::Verify(path).message()),
              HasSubstr(weights + ": cannot open"));
  // A folder under another step's name.
  ASSERT_TRUE(Write(3).ok());
  fs::rename(Path("checkpoint-3"), Path("checkpoint-4"));
  EXPECT_THAT(std::string(CheckpointStore::Verify(Path("checkpoint-4")).message()),
              HasSubstr("is of step 3"));
}

TEST_F(CheckpointTest, NoneIsWhole) {
  ASSERT_TRUE(Write(1).ok());
  ASSERT_TRUE(Write(2).ok());
  fs::remove(Path("checkpoint-1/manifest.json"));
  fs::resize_file(Path("checkpoint-2/state"), 10);
  const absl::Status status = store_->Newest().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("no checkpoint is whole"), HasSubstr("checkpoint-2/state: has 10"),
                    HasSubstr("checkpoint-1/manifest.json: cannot open")));
}

TEST_F(CheckpointTest, PassedOverOnesGoWhenTheRunGetsOn) {
  for (const int64_t step : {1, 2, 3}) ASSERT_TRUE(Write(step).ok());
  fs::resize_file(Path("checkpoint-3/state"), 10);
  EXPECT_EQ(store_->Newest()->step, 2);
  ASSERT_TRUE(Write(2).ok());  // the same step once more, over what is there
  EXPECT_EQ(store_->Newest()->step, 2);
  EXPECT_THAT(Names(), UnorderedElementsAre("checkpoint-2"));
  ASSERT_TRUE(Write(4).ok());
  EXPECT_THAT(Names(), UnorderedElementsAre("checkpoint-2", "checkpoint-4"));
}

TEST_F(CheckpointTest, OtherFilesStay) {
  ASSERT_TRUE(WriteFileAtomically(Path("notes.txt"), "mine").ok());
  ASSERT_TRUE(MakeFolders(Path("checkpoint-x")).ok());
  ASSERT_TRUE(MakeFolders(Path("checkpoint-07")).ok());
  for (const int64_t step : {1, 2, 3}) ASSERT_TRUE(Write(step).ok());
  EXPECT_THAT(Names(), UnorderedElementsAre("notes.txt", "checkpoint-x", "checkpoint-07",
                                            "checkpoint-2", "checkpoint-3"));
}

TEST_F(CheckpointTest, FailedWriteLeavesEverythingAsItWas) {
  ASSERT_TRUE(Write(1).ok());
  ASSERT_TRUE(Write(2).ok());
  const CheckpointFile failing = {
      "state", [](const std::string&) { return absl::ResourceExhaustedError("disk full"); }};
  for (const int64_t step : {2, 3}) {
    EXPECT_EQ(store_->Write(step, {File("weights", "new"), failing}).message(), "disk full");
    EXPECT_THAT(Names(), UnorderedElementsAre("checkpoint-1", "checkpoint-2"));
    EXPECT_EQ(store_->Newest()->step, 2);
    EXPECT_EQ(ReadFile(Path("checkpoint-2/weights")).value(), "weights 2");
  }
}

TEST_F(CheckpointTest, FullDisk) {
  ASSERT_TRUE(Write(1).ok());
  signal(SIGXFSZ, SIG_IGN);
  rlimit before, limit;
  getrlimit(RLIMIT_FSIZE, &before);
  // Enough for none, the first file, all but the manifest.
  for (const rlim_t bytes : {1, 100, 2999}) {
    limit = before;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
    const absl::Status status = Write(2);
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(Names(), UnorderedElementsAre("checkpoint-1"));
  }
  EXPECT_TRUE(Write(2).ok());
}

TEST_F(CheckpointTest, OneRunAtATime) {
  const absl::Status status = CheckpointStore::Open(folder_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder_ + ": another run"));
  const CheckpointStore copy = *store_;
  store_.reset();
  EXPECT_FALSE(CheckpointStore::Open(folder_).ok());
}

TEST_F(CheckpointTest, TemporariesGoAtOpen) {
  ASSERT_TRUE(Write(1).ok());
  store_.reset();
  ASSERT_TRUE(MakeFolders(Path(".tmp-checkpoint-2/below")).ok());
  ASSERT_TRUE(WriteFileAtomically(Path(".tmp-checkpoint-2/state"), "half").ok());
  Open();
  EXPECT_THAT(Names(), UnorderedElementsAre("checkpoint-1"));
}

TEST_F(CheckpointTest, FolderThatIsAFile) {
  const absl::Status status = CheckpointStore::Open("/proc/self/status").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(status.message(), "/proc/self/status: is a file, expected a folder");
}

// A child writes checkpoints as fast as it can and is killed somewhere in between.
TEST_F(CheckpointTest, KilledAtRandomMoments) {
  int64_t last = -1;
  int inside_a_write = 0;
  for (int round = 0; round < 25; ++round) {
    store_.reset();
    int channel[2];
    ASSERT_EQ(pipe(channel), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      absl::StatusOr<CheckpointStore> store = CheckpointStore::Open(folder_);
      if (!store.ok()) _exit(1);
      store_ = *std::move(store);
      for (int64_t step = last + 1;; ++step) {
        if (!Write(step).ok()) _exit(2);
        if (write(channel[1], &step, sizeof(step)) != sizeof(step)) _exit(3);
      }
    }
    close(channel[1]);
    int64_t step = last;
    // Two whole ones, then at any moment.
    for (int i = 0; i < 2; ++i) ASSERT_EQ(read(channel[0], &step, sizeof(step)), sizeof(step));
    usleep(static_cast<useconds_t>(round * 531 % 4000));
    kill(child, SIGKILL);
    int how = 0;
    waitpid(child, &how, 0);
    ASSERT_TRUE(WIFSIGNALED(how));
    while (read(channel[0], &step, sizeof(step)) == sizeof(step)) last = step;
    last = std::max(last, step);
    close(channel[0]);

    const std::vector<std::string> names = Names();
    inside_a_write += std::any_of(names.begin(), names.end(),
                                  [](const std::string& name) { return name[0] == '.'; });
    Open();
    const auto found = store_->Newest();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_THAT(found->notes, IsEmpty());
    // What was reported written is there; one more may have been finished.
    EXPECT_GE(found->step, last);
    EXPECT_LE(found->step, last + 1);
    EXPECT_EQ(ReadFile(JoinPath(found->path, "weights")).value(),
              absl::StrCat("weights ", found->step));
    EXPECT_LE(Names().size(), 3);
    last = found->step;
  }
  EXPECT_GE(inside_a_write, 5);
}

}  // namespace
}  // namespace residual
