#include "models/data/labeled/files.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "models/data/labeled/testing.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

std::string Line(int pixel, int digit) {
  return absl::StrCat(absl::StrJoin(std::vector<int>(64, pixel), ","), ",", digit, "\n");
}

std::string Digits(const std::string& contents) {
  return WriteTestFile(JoinPath(testing::TempDir(), "digits.csv"), contents);
}

TEST(OpticalDigitsTest, ReadsPlainAndCompressed) {
  std::string text = Line(0, 3) + "\n" + Line(16, 9);
  text.replace(2, 1, "4");
  for (const std::string& contents : {text, Gzip(text)}) {
    const auto data = ReadOpticalDigits(Digits(contents));
    ASSERT_TRUE(data.ok()) << data.status();
    EXPECT_EQ(data->x.shape(), Shape({2, 64, 1}));
    EXPECT_EQ(data->label, (std::vector<int>{3, 9}));
    EXPECT_EQ(data->n_classes, 10);
    EXPECT_EQ(data->x.data<float>()[0], 0.0f);
    EXPECT_EQ(data->x.data<float>()[1], 0.25f);
    EXPECT_EQ(data->x.data<float>()[64], 1.0f);
  }
}

TEST(OpticalDigitsTest, WhatIsWrongIsNamed) {
  const auto message = [](const std::string& contents) {
    const std::string path = Digits(contents);
    const std::string all(ReadOpticalDigits(path).status().message());
    EXPECT_EQ(all.find(path + ": "), 0u) << all;
    return all.substr(path.size() + 2);
  };
  const std::string good = Line(1, 2);
  EXPECT_EQ(message(""), "no images");
  EXPECT_EQ(message(good + "1,2,3\n"), "line 2: 3 columns, expected 64 pixels and a digit");
  EXPECT_EQ(message(good.substr(0, good.size() - 1) + ",1"),
            "line 1: more than 65 columns, expected 64 pixels and a digit");
  EXPECT_EQ(message(Line(17, 2)), "line 1, column 1: '17', expected a pixel, 0 to 16");
  EXPECT_EQ(message(Line(1, 10)), "line 1, column 65: '10', expected a digit, 0 to 9");
  EXPECT_EQ(message("x" + good), "line 1, column 1: 'x1', expected a pixel, 0 to 16");
  EXPECT_EQ(message("-1" + good.substr(1)), "line 1, column 1: '-1', expected a pixel, 0 to 16");
}

class TextFolderTest : public testing::Test {
 protected:
  std::string Put(const std::string& name, const std::string& contents) {
    return WriteTestFile(JoinPath(folder_, name), contents);
  }
  std::string Message(const TextFolderOptions& options) {
    return std::string(ReadTextFolder(folder_, options).status().message());
  }
  const std::string folder_ =
      JoinPath(testing::TempDir(), testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(TextFolderTest, EveryFileIsARowOfBytes) {
  Put("pos/1.txt", "ab\xff");
  Put("pos/2.txt", "");
  Put("pos/.hidden", "no");
  Put("neg/9.txt", "12345");
  Put("neg/deeper/1.txt", "no");
  Put("pos/0.txt", std::string("\0", 1));
  Put("README", "no class");
  const auto data = ReadTextFolder(folder_);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->label, (std::vector<int>{0, 1, 1}));  // neg is before pos
  EXPECT_EQ(data->lengths, (std::vector<int64_t>{5, 1, 3}));
  EXPECT_EQ(data->n_classes, 2);
  EXPECT_EQ(data->d_vocab, 257);
  EXPECT_EQ(data->x.shape(), Shape({3, 5}));
  EXPECT_EQ(data->x.ToDoubles(), (std::vector<double>{'1', '2', '3', '4', '5', 0, 256, 256, 256,
                                                      256, 'a', 'b', 255, 256, 256}));
}

TEST_F(TextFolderTest, ClassesAndLengthsCanBeChosen) {
  Put("pos/1.txt", "abc");
  Put("neg/1.txt", "12345");
  Put("unsup/1.txt", "?");
  TextFolderOptions options;
  options.classes = {"pos", "neg"};
  options.max_length = 2;
  const auto data = ReadTextFolder(folder_, options);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->label, (std::vector<int>{0, 1}));
  EXPECT_EQ(data->x.ToDoubles(), (std::vector<double>{'a', 'b', '1', '2'}));
}

TEST_F(TextFolderTest, WhatIsWrongIsNamed) {
  Put("pos/1.txt", "abc");
  EXPECT_EQ(Message({}), folder_ + ": 1 classes, expected a sub-folder for each of two or more");
  Put("neg/1.txt", "");
  EXPECT_EQ(Message({}), folder_ + "/neg: no texts, expected a file for each");
  TextFolderOptions options;
  options.classes = {"pos", "bad"};
  EXPECT_EQ(Message(options), folder_ + "/bad: cannot list: No such file or directory");
  options.max_length = 0;
  EXPECT_EQ(Message(options), "max_length is 0, expected 1 or more");
  EXPECT_EQ(ReadTextFolder("/no/such").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace residual
