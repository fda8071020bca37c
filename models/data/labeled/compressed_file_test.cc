#include "models/data/labeled/compressed_file.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/data/labeled/testing.h"

namespace residual {
namespace {

std::string Written(const std::string& contents) {
  return WriteTestFile(testing::TempDir() + "/compressed", contents);
}

// 300 KB: several of the pieces that are read and written at a time; not all of one byte.
std::string Long() {
  std::string text;
  for (int64_t i = 0; i < 50000; ++i) absl::StrAppend(&text, i * i % 977, " ");
  return text;
}

TEST(CompressedFileTest, ReadsWhatIsThereAndNoMoreThanAsked) {
  const std::string text = Long();
  for (const std::string& contents : {text, Gzip(text)}) {
    const auto file = CompressedFile::Open(Written(contents));
    ASSERT_TRUE(file.ok());
    EXPECT_GE(file->MostBytes(), text.size());
    for (size_t bytes : {size_t{0}, size_t{1}, size_t{65536}, size_t{65537}, text.size()}) {
      EXPECT_EQ(file->Read(bytes).value(), text.substr(0, bytes)) << bytes;
    }
    EXPECT_EQ(file->Read(text.size() + 1).value(), text);
    EXPECT_EQ(file->Read(UINT64_MAX).value(), text);
  }
}

TEST(CompressedFileTest, SeveralMembersAreOneFile) {
  const auto file = CompressedFile::Open(Written(Gzip("one ") + Gzip("two")));
  EXPECT_EQ(file->Read(100).value(), "one two");
}

TEST(CompressedFileTest, TheBoundHoldsForTheBestThereIs) {
  const std::string zeros(1 << 22, '\0');
  EXPECT_GE(CompressedFile::Open(Written(Gzip(zeros)))->MostBytes(), zeros.size());
}

TEST(CompressedFileTest, BrokenFilesAreRefused) {
  const std::string whole = Gzip(Long());
  const auto message = [](const std::string& contents) {
    const std::string path = Written(contents);
    const auto read = CompressedFile::Open(path)->Read(UINT64_MAX);
    EXPECT_FALSE(read.ok());
    EXPECT_TRUE(absl::StartsWith(read.status().message(), path + ": gzip: ")) << read.status();
    return std::string(read.status().message()).substr(path.size() + 8);
  };
  EXPECT_EQ(message(whole.substr(0, whole.size() - 1)),
            absl::StrCat("ends after ", whole.size() - 1, " bytes, before the data do"));
  EXPECT_EQ(message(whole.substr(0, 2)), "ends after 2 bytes, before the data do");
  std::string wrong = whole;
  wrong[wrong.size() - 6] ^= 1;
  EXPECT_EQ(message(wrong), absl::StrCat("at byte ", whole.size() - 4, ": incorrect data check"));
  EXPECT_TRUE(absl::EndsWith(message(whole + "tail"), ": incorrect header check"));
}

}  // namespace
}  // namespace residual
