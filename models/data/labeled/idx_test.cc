#include "models/data/labeled/idx.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/data/labeled/testing.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

std::string Idx(const std::vector<uint32_t>& sizes, const std::string& values, char type = 8) {
  std::string bytes{0, 0, type, static_cast<char>(sizes.size())};
  for (uint32_t size : sizes) {
    for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>(size >> shift);
  }
  return bytes + values;
}

std::string Written(const std::string& name, const std::string& contents) {
  return WriteTestFile(JoinPath(testing::TempDir(), name), contents);
}

// What is said of these bytes after the path.
std::string Message(const std::string& contents) {
  const std::string path = Written("wrong", contents);
  const auto read = ReadIdx(path);
  EXPECT_FALSE(read.ok());
  EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(read.status().message().find(path + ": "), 0u) << read.status();
  return std::string(read.status().message()).substr(path.size() + 2);
}

TEST(IdxTest, PlainAndCompressedFilesAreRead) {
  std::string values = "abcdef";
  values[3] = '\xff';
  const std::string bytes = Idx({2, 1, 3}, values);
  for (const std::string& contents : {bytes, Gzip(bytes)}) {
    const auto read = ReadIdx(Written("good", contents));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->shape(), Shape({2, 1, 3}));
    EXPECT_EQ(read->dtype(), kU8);
    EXPECT_EQ(read->data<uint8_t>()[2], 'c');
    EXPECT_EQ(read->data<uint8_t>()[3], 255);
  }
  EXPECT_EQ(ReadIdx(Written("good", Idx({0}, "")))->shape(), Shape({0}));
  // A size of 0 hides no overflow of the others.
  EXPECT_EQ(ReadIdx(Written("good", Idx({0, 4294967295u}, "")))->shape(), Shape({0, 4294967295}));
}

TEST(IdxTest, WhatIsWrongIsNamed) {
  EXPECT_EQ(Message(""), "0 bytes, expected a magic number of 4");
  EXPECT_EQ(Message(std::string(3, '\0')), "3 bytes, expected a magic number of 4");
  EXPECT_EQ(Message("\x89PNG...."),
            "magic number begins with bytes 137 80, expected 0 0: no idx file");
  EXPECT_EQ(Message(Idx({1}, "....", 13)),
            "magic number: values of type 13, expected 8 (unsigned bytes)");
  EXPECT_EQ(Message(Idx({}, "")), "magic number: 0 axes, expected 1 to 4");
  EXPECT_EQ(Message(Idx({1, 1, 1, 1, 1}, ".")), "magic number: 5 axes, expected 1 to 4");
  EXPECT_EQ(Message(Idx({2, 3}, "").substr(0, 11)),
            "11 bytes, expected the sizes of 2 axes up to byte 12");
  EXPECT_EQ(Message(Idx({2, 3}, "abcde")), "sizes [2, 3] need 18 bytes, the file holds at most 17");
  EXPECT_EQ(Message(Idx({2, 3}, "abcdefg")), "sizes [2, 3] need 18 bytes, found more");
  EXPECT_EQ(Message(Gzip(Idx({2, 3}, "abcde"))), "sizes [2, 3] need 18 bytes, found 17");
  EXPECT_EQ(Message(Gzip(Idx({2, 3}, "abcdefg"))), "sizes [2, 3] need 18 bytes, found more");
  EXPECT_EQ(Message(Idx({1u << 31, 1u << 31, 1u << 31}, "")),
            "axis 0: size 2147483648 makes 2147483648 values, expected at most 1073741824");
  EXPECT_EQ(Message(Idx({1u << 20, 4294967295u}, "")),
            "axis 1: size 4294967295 makes 4503599626321920 values, expected at most 1073741824");
  const std::string bomb = Gzip(Idx({1u << 29}, ""));
  EXPECT_EQ(Message(bomb), absl::StrCat("sizes [536870912] need 536870920 bytes, the file holds "
                                        "at most ",
                                        1032 * bomb.size()));
  const std::string cut = Gzip(Idx({2, 3}, "abcdef"));
  EXPECT_EQ(Message(cut.substr(0, cut.size() - 9)),
            absl::StrCat("gzip: ends after ", cut.size() - 9, " bytes, before the data do"));
  EXPECT_EQ(ReadIdx("/no/such/file").status().code(), absl::StatusCode::kNotFound);
}

TEST(IdxTest, EveryPrefixOfAFileIsRefused) {
  for (const std::string& whole : {Idx({2, 2, 2}, "abcdefgh"), Gzip(Idx({2, 2, 2}, "abcdefgh"))}) {
    for (size_t size = 0; size < whole.size(); ++size) Message(whole.substr(0, size));
  }
}

TEST(IdxTest, ImagesAreSequencesOfPixels) {
  const std::string labels = Written("labels", Idx({2}, std::string("\x07\x00", 2)));
  const auto gray =
      ReadIdxImages(Written("images", Idx({2, 1, 3}, "\xff\x33zabc")), labels).value();
  EXPECT_EQ(gray.x.shape(), Shape({2, 3, 1}));
  EXPECT_EQ(gray.x.data<float>()[0], 1.0f);
  EXPECT_FLOAT_EQ(gray.x.data<float>()[1], 0.2f);
  EXPECT_EQ(gray.label, (std::vector<int>{7, 0}));
  EXPECT_EQ(gray.n_classes, 8);
  EXPECT_EQ(gray.d_vocab, 0);
  EXPECT_TRUE(gray.lengths.empty());
  const auto color =
      ReadIdxImages(Written("images", Idx({2, 1, 1, 3}, "abcdef")), labels, 10).value();
  EXPECT_EQ(color.x.shape(), Shape({2, 1, 3}));
  EXPECT_EQ(color.n_classes, 10);
}

TEST(IdxTest, ImagesAndLabelsThatDoNotFit) {
  const std::string images = Written("images", Idx({2, 1, 3}, "abcdef"));
  const std::string labels = Written("labels", Idx({2}, std::string("\x07\x00", 2)));
  const auto message = [](const std::string& a, const std::string& b, int n_classes = 0) {
    return std::string(ReadIdxImages(a, b, n_classes).status().message());
  };
  const std::string three = Written("three", Idx({3}, "abc"));
  EXPECT_EQ(message(images, three),
            absl::StrCat(three, ": 3 labels, expected 2, one for every image of ", images));
  EXPECT_EQ(message(labels, labels),
            labels +
                ": sizes [2], expected [n, rows, columns] or [n, rows, columns, channels]: "
                "images");
  EXPECT_EQ(message(images, images), images + ": sizes [2, 1, 3], expected [n]: labels");
  EXPECT_EQ(message(images, labels, 7), labels + ": label 0 is 7, expected less than 7");
  const std::string none = Written("none", Idx({0, 1, 3}, "")), no = Written("no", Idx({0}, ""));
  EXPECT_EQ(message(none, no), none + ": sizes [0, 1, 3], expected no 0");
}

TEST(IdxTest, AFolderHasOnePairToTrainOnAndOneToTestOn) {
  const std::string folder = JoinPath(testing::TempDir(), "folder");
  const auto put = [&](const std::string& name, const std::string& contents) {
    return WriteTestFile(JoinPath(folder, name), contents);
  };
  put("train-images-idx3-ubyte.gz", Gzip(Idx({2, 1, 3}, "abcdef")));
  put("train-labels-idx1-ubyte", Idx({2}, std::string("\1\2", 2)));
  EXPECT_EQ(ReadIdxFolder(folder).status().message(),
            folder +
                ": 1 pairs of images and labels to train on and 0 others, expected one of "
                "each: PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte, with .gz or "
                "without; found train-images-idx3-ubyte.gz, train-labels-idx1-ubyte");
  put("t10k-images-idx3-ubyte", Idx({1, 1, 3}, "abc"));
  put("t10k-labels-idx1-ubyte.gz", Gzip(Idx({1}, "\4")));
  const auto read = ReadIdxFolder(folder);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->train.n(), 2);
  EXPECT_EQ(read->test.n(), 1);
  EXPECT_EQ(read->train.n_classes, 5);
  EXPECT_EQ(read->test.n_classes, 5);
  const std::string larger = put("t10k-images-idx3-ubyte", Idx({1, 2, 3}, "abcdef"));
  EXPECT_EQ(ReadIdxFolder(folder).status().message(),
            absl::StrCat(larger, ": images [pixels, channels] of [6, 1], expected [3, 1] as in ",
                         JoinPath(folder, "train-images-idx3-ubyte.gz")));
  EXPECT_EQ(ReadIdxFolder("/no/such").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace residual
