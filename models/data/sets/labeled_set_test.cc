#include "models/data/sets/labeled_set.h"

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/data/labeled/testing.h"

namespace residual {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Folder() {
  const std::string folder = absl::StrCat(
      ::testing::TempDir(), "/", ::testing::UnitTest::GetInstance()->current_test_info()->name());
  std::filesystem::remove_all(folder);
  return folder;
}

absl::StatusOr<LabeledSet> Read(const std::string& text, const LabeledSetLimits& limits = {}) {
  auto spec = ParseLabeledSet(text);
  if (!spec.ok()) return spec.status();
  EXPECT_EQ(spec->ToString(), text);
  return ReadLabeledSet(*spec, limits);
}

std::string Message(const std::string& text) {
  return std::string(ParseLabeledSet(text).status().message());
}

TEST(LabeledSetTest, SaysWhatIsWrongInTheText) {
  EXPECT_THAT(Message("idz:x"), AllOf(HasSubstr("'idz', expected one of idx:FOLDER, "),
                                      HasSubstr("did you mean 'idx'")));
  EXPECT_THAT(Message(""), HasSubstr("expected one of"));
  EXPECT_THAT(Message("idx"), HasSubstr("the path is missing, expected idx:FOLDER"));
  EXPECT_THAT(Message("idx:"), HasSubstr("the path is missing"));
  EXPECT_THAT(Message("digits:x"), HasSubstr("reads no path"));
  EXPECT_THAT(Message("idx,pol=2:x"),
              AllOf(HasSubstr("'pol=2'"), HasSubstr("did you mean 'pool'")));
  EXPECT_THAT(Message("idx,pool=0:x"),
              HasSubstr("'pool=0', expected a whole number from 1 to 1024"));
  EXPECT_THAT(Message("idx,pool:x"), HasSubstr("'pool', expected a whole number"));
  EXPECT_THAT(Message("texts,pool=2:x"), HasSubstr("texts has the options rows, max_length"));
  EXPECT_EQ(ParseLabeledSet("idx,rows=3:a:b,c=d")->path, "a:b,c=d");
}

TEST(LabeledSetTest, MakesData) {
  const auto digits = Read("digits,rows=7,test_rows=3,side=8,pool=2");
  ASSERT_TRUE(digits.ok()) << digits.status();
  EXPECT_EQ(digits->train.x.shape(), Shape({7, 16, 1}));
  EXPECT_EQ(digits->test.x.shape(), Shape({3, 16, 1}));
  EXPECT_NE(digits->train.x.ToDoubles(),
            Read("digits,rows=7,test_rows=3,seed=1,side=8,pool=2")->train.x.ToDoubles());
  const auto list = Read("list_ops,rows=20,test_rows=5,max_length=30,max_depth=4");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->train.n(), 20);
  EXPECT_EQ(list->test.n(), 5);
  EXPECT_EQ(list->train.length(), list->test.length());
  EXPECT_EQ(list->test.lengths.size(), 5);
  EXPECT_EQ(list->train.d_vocab, 16);
  const auto curves = Read("pathfinder,rows=4,test_rows=2");
  ASSERT_TRUE(curves.ok()) << curves.status();
  EXPECT_EQ(curves->train.x.shape(), Shape({4, 1024, 1}));
  EXPECT_EQ(Read("list_ops,min_length=9,max_length=8").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(LabeledSetTest, ReadsTextsWithTheClassesOfTheTrainingPart) {
  const std::string folder = Folder();
  for (const char* name :
       {"train/bad/1", "train/good/1", "train/good/2", "test/good/1", "test/bad/1"}) {
    WriteTestFile(absl::StrCat(folder, "/", name), absl::StrCat("text of ", name));
  }
  const auto both = Read(absl::StrCat("texts,max_length=9:", folder));
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_THAT(both->train.class_names, ElementsAre("bad", "good"));
  EXPECT_THAT(both->train.label, ElementsAre(0, 1, 1));
  EXPECT_THAT(both->test.label, ElementsAre(0, 1));
  EXPECT_EQ(both->train.length(), 9);
  const auto one = Read(absl::StrCat("texts,rows=2:", folder, "/train"), {{"good", "bad"}, 5});
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_THAT(one->train.label, ElementsAre(0, 0));
  EXPECT_EQ(one->train.length(), 5);
  EXPECT_EQ(one->test.n(), 0);
  std::filesystem::remove_all(folder + "/test/bad");
  EXPECT_THAT(std::string(Read(absl::StrCat("texts:", folder)).status().message()),
              HasSubstr("test/bad"));
}

TEST(LabeledSetTest, ReadsOpticalDigits) {
  const std::string folder = Folder();
  std::string line;
  for (int i = 0; i < 64; ++i) absl::StrAppend(&line, i % 17, ",");
  WriteTestFile(folder + "/optdigits.tra", line + "3\n" + line + "4\n");
  const auto file = Read("optical_digits:" + folder + "/optdigits.tra");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->train.label, ElementsAre(3, 4));
  EXPECT_THAT(std::string(Read("optical_digits:" + folder).status().message()),
              HasSubstr("1 files to train on and 0 others"));
  WriteTestFile(folder + "/optdigits.tes.gz", Gzip(line + "5\n"));
  const auto both = Read("optical_digits,pool=2:" + folder);
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_THAT(both->test.label, ElementsAre(5));
  EXPECT_EQ(both->test.x.shape(), Shape({1, 16, 1}));
}

TEST(LabeledSetTest, ReadsIdxFolders) {
  const std::string folder = Folder();
  const std::string images(
      "\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02"
      "abcdefgh",
      24);
  const std::string labels("\0\0\x08\x01\0\0\0\x02\x01\x00", 10);
  EXPECT_EQ(Read("idx:" + folder).status().code(), absl::StatusCode::kNotFound);
  for (const char* prefix : {"train", "t10k"}) {
    WriteTestFile(absl::StrCat(folder, "/", prefix, "-images-idx3-ubyte"), images);
    WriteTestFile(absl::StrCat(folder, "/", prefix, "-labels-idx1-ubyte.gz"), Gzip(labels));
  }
  const auto set = Read("idx,rows=1,pool=2:" + folder);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->train.x.shape(), Shape({1, 1, 1}));
  EXPECT_THAT(set->test.label, ElementsAre(1, 0));
  WriteTestFile(folder + "/train-images-idx3-ubyte", images.substr(0, 20));
  EXPECT_THAT(std::string(Read("idx:" + folder).status().message()),
              AllOf(HasSubstr("train-images-idx3-ubyte"), HasSubstr("need 24 bytes")));
}

}  // namespace
}  // namespace residual
