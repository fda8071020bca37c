#include "tools/own_text/own_text.h"

#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using ::testing::HasSubstr;

TEST(OwnTextTest, AFileIsCalledByItsName) {
  const std::string folder = testing::TempDir();
  const std::string path = JoinPath(folder, "book.txt"), empty = JoinPath(folder, "empty.txt");
  ASSERT_TRUE(WriteFileAtomically(path, "Once upon a time").ok());
  ASSERT_TRUE(WriteFileAtomically(empty, "").ok());
  const auto text = ReadTextOrOwn(path, "", "--text=FILE");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->name, "book.txt");
  EXPECT_EQ(text->bytes, "Once upon a time");
  EXPECT_THAT(std::string(ReadTextOrOwn(empty, "", "--text=FILE").status().message()),
              HasSubstr("empty.txt: empty, expected a text"));
  EXPECT_EQ(ReadTextOrOwn(path + ".not", "", "--text=FILE").status().code(),
            absl::StatusCode::kNotFound);
}

TEST(OwnTextTest, ElseItIsOurs) {
  const auto text = ReadTextOrOwn("", "", "--text=FILE");
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->name, kOwnTextName);
  EXPECT_THAT(text->bytes, HasSubstr("A mixer: what a block computes from the stream"));
  EXPECT_GT(text->bytes.size(), 1000000);
}

}  // namespace
}  // namespace residual
