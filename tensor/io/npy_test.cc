#include "tensor/io/npy.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// One for each case.
std::string TestPath() {
  std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(name.begin(), name.end(), '/', '_');
  return JoinPath(::testing::TempDir(), name + ".npy");
}

// Not synced, unlike what the library writes: some tests write thousands of files.
void WriteBytes(const std::string& bytes) {
  std::filesystem::remove(TestPath());
  std::ofstream(TestPath(), std::ios::binary) << bytes;
}

std::string FileOf(int version, const std::string& header, const std::string& data) {
  std::string result("\x93NUMPY", 6);
  result += {static_cast<char>(version), '\0'};
  const uint32_t length = static_cast<uint32_t>(header.size());
  result.append(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4);
  return result + header + data;
}

std::string Header(const std::string& descr, const std::string& fortran, const std::string& shape) {
  return absl::StrCat("{'descr': '", descr, "', 'fortran_order': ", fortran, ", 'shape': ", shape,
                      ", }     \n");
}

absl::StatusOr<Tensor> ReadBytes(const std::string& bytes) {
  WriteBytes(bytes);
  return ReadNpy(TestPath());
}

TEST(NpyTest, WritesAsNumPyDoes) {
  ASSERT_TRUE(WriteNpy(TestPath(), Tensor::Of<float>({2, 3}, {0, 1, 2, 3, 4, 5})).ok());
  EXPECT_EQ(ReadFile(TestPath()).value(),
            std::string("\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': "
                        "(2, 3), }                                                          \n",
                        128) +
                std::string("\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\0\0\xa0@", 24));
  ASSERT_TRUE(WriteNpy(TestPath(), Tensor::Of<bool>({2}, {true, false})).ok());
  EXPECT_EQ(ReadFile(TestPath()).value(),
            std::string("\x93NUMPY\x01\x00v\x00{'descr': '|b1', 'fortran_order': False, 'shape': "
                        "(2,), }                                                            \n",
                        128) +
                std::string("\1\0", 2));
}

TEST(NpyTest, RoundTripOfEveryDType) {
  for (const DType dtype : {kF64, kF32, kF16, kI64, kI32, DType::kI16, DType::kI8, kU8, kBool}) {
    for (const Shape& shape : {Shape{}, Shape{4}, Shape{2, 2}, Shape{1, 2, 2, 1}, Shape{3, 0}}) {
      const Tensor x = shape.elements() == 4
                           ? ConvertTo(Tensor::Of<float>(shape, {0, 1, 2, 100}), dtype)
                           : Tensor::Full(shape, 1, dtype);
      ASSERT_TRUE(WriteNpy(TestPath(), x).ok());
      const Tensor read = ReadNpy(TestPath()).value();
      EXPECT_EQ(read.shape(), shape);
      EXPECT_EQ(read.dtype(), dtype);
      EXPECT_EQ(read.ToDoubles(), x.ToDoubles());
    }
  }
}

TEST(NpyTest, VersionsOneToThree) {
  for (const int version : {1, 2, 3}) {
    const Tensor x = ReadBytes(FileOf(version, Header("|u1", "False", "(2,)"), "\1\2")).value();
    EXPECT_THAT(x.ToDoubles(), ElementsAre(1, 2));
  }
}

TEST(NpyTest, HeadersAsPythonMayWriteThem) {
  for (const char* header :
       {"{'shape':(2,1),'descr':\"<i2\",'fortran_order':False}",
        "  { 'descr' : '=i2' , 'fortran_order' : False , 'shape' : ( 2L , 1L , ) }  \n",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 1,), }"}) {
    const auto x = ReadBytes(FileOf(1, header, std::string("\1\0\2\0", 4)));
    ASSERT_TRUE(x.ok()) << x.status();
    EXPECT_EQ(x->shape(), Shape({2, 1}));
    EXPECT_THAT(x->ToDoubles(), ElementsAre(1, 2));
  }
}

TEST(NpyTest, BigEndianAndFortranOrder) {
  EXPECT_THAT(ReadBytes(FileOf(1, Header(">i2", "False", "(3,)"), std::string("\0\0\0\1\0\2", 6)))
                  ->ToDoubles(),
              ElementsAre(0, 1, 2));
  const std::string columns("\0\3\1\4\2\5", 6);
  EXPECT_THAT(ReadBytes(FileOf(1, Header("|u1", "True", "(2, 3)"), columns))->ToDoubles(),
              ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(
      ReadBytes(FileOf(1, Header(">u2", "True", "(2, 2)"), std::string("\0\0\0\2\0\1\0\3", 8)))
          ->ToDoubles(),
      ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(ReadBytes(FileOf(1, Header("|u1", "True", "()"), "\7"))->ToDoubles(), ElementsAre(7));
}

TEST(NpyTest, UnsignedIntegersBecomeWiderOnes) {
  const std::string ones(8, '\xff');
  EXPECT_EQ(ReadBytes(FileOf(1, Header("<u2", "False", "()"), ones.substr(6)))->data<int32_t>()[0],
            65535);
  EXPECT_EQ(ReadBytes(FileOf(1, Header("<u4", "False", "()"), ones.substr(4)))->data<int64_t>()[0],
            4294967295);
  EXPECT_EQ(ReadBytes(FileOf(1, Header(">u8", "False", "()"), "\x7f" + ones.substr(1)))
                ->data<int64_t>()[0],
            INT64_MAX);
  EXPECT_EQ(ReadBytes(FileOf(1, Header("<u8", "False", "()"), ones)).status().code(),
            absl::StatusCode::kOutOfRange);
}

struct BadCase {
  const char* name;
  std::string bytes;
  const char* message;
};

std::vector<BadCase> BadCases() {
  const auto u1 = [](const std::string& shape, const std::string& data) {
    return FileOf(1, Header("|u1", "False", shape), data);
  };
  const auto literal = [](const std::string& text) { return FileOf(1, text, ""); };
  const std::string good = u1("(2,)", "ab");
  return {
      {"empty", "", "(0 bytes)"},
      {"magic_only", good.substr(0, 8), "is no .npy file"},
      {"other_magic", "PK\3\4" + std::string(100, 'x'), "is no .npy file"},
      {"version_0", FileOf(0, "", ""), "version at byte 6 is 0.0"},
      {"version_4", FileOf(4, "", ""), "version at byte 6 is 4.0"},
      {"header_cut", good.substr(0, 30), "but the file has only 30 bytes"},
      {"header_huge", std::string("\x93NUMPY\2\0\xff\xff\xff\xff", 12), "is 4294967295, at most"},
      {"data_cut", good.substr(0, good.size() - 1), "has 1 bytes after the header, expected 2"},
      {"data_more", good + "x", "has 3 bytes after the header, expected 2"},
      {"no_dict", literal("x"), "found 'x', expected '{'"},
      {"empty_dict", literal("{}"), "expected each of 'descr', 'fortran_order', 'shape' once"},
      {"not_closed", literal("{'descr': '<f4'"), "found the end, expected '}'"},
      {"key_unknown", literal("{'dtype': '<f4'}"), "the key 'dtype'"},
      {"key_twice", literal("{'descr': '<f4', 'descr': '<f4'}"), "'descr' a second time"},
      {"string_open", literal("{'descr"), "expected the end of the string"},
      {"code", literal("{'descr': __import__('os')}"), "found '_', expected a string"},
      {"text_after", literal(Header("|u1", "False", "()") + "x"), "found more text"},
      {"fortran_1", FileOf(1, Header("|u1", "1", "()"), "x"), "expected True or False"},
      {"shape_number", u1("3", "abc"), "found '3', expected '('"},
      {"shape_in_brackets", u1("(3)", "abc"), "expected ',': a tuple of one"},
      {"shape_negative", u1("(-1,)", ""), "found '-', expected a size from 0"},
      {"shape_float", u1("(1.0,)", "x"), "found '.'"},
      {"shape_2_63", u1("(9223372036854775808,)", ""), "a size above 2^63 - 1"},
      {"shape_wraps", u1("(4294967296, 4294967296)", ""), "overflows"},
      {"shape_zero_wraps", u1("(0, 4294967296, 4294967296)", ""), "overflows"},
      {"shape_huge", u1("(1099511627776,)", "x"), "has 1 bytes after the header, expected 1099511"},
      {"rank_7", u1("(1, 1, 1, 1, 1, 1, 1)", "x"), "more than 6 axes"},
      {"complex", FileOf(1, Header("<c8", "False", "()"), "12345678"),
       "dtype '<c8' is not supported"},
      {"object", FileOf(1, Header("|O", "False", "()"), ""), "dtype '|O' is not supported"},
      {"string_dtype", FileOf(1, Header("<U5", "False", "()"), ""), "dtype '<U5' is not supported"},
      {"dtype_empty", FileOf(1, Header("", "False", "()"), ""), "dtype '' is not supported"},
      {"no_order", FileOf(1, Header("f4", "False", "()"), "1234"), "dtype 'f4' is not supported"},
      {"record", literal("{'descr': [('a', '<f4')]}"), "several fields are not supported"},
      {"bool_of_2", FileOf(1, Header("|b1", "False", "(2,)"), "\1\2"), "is 2, expected 0 or 1"},
  };
}

std::ostream& operator<<(std::ostream& out, const BadCase& bad) { return out << bad.name; }

class BadNpyTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadNpyTest, IsRefusedWithPathAndReason) {
  const absl::Status status = ReadBytes(GetParam().bytes).status();
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()),
              AllOf(StartsWith(TestPath() + ": "), HasSubstr(GetParam().message)));
  EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
}

INSTANTIATE_TEST_SUITE_P(All, BadNpyTest, ::testing::ValuesIn(BadCases()),
                         [](const auto& info) { return info.param.name; });

TEST(NpyTest, EveryPrefixIsRefused) {
  ASSERT_TRUE(WriteNpy(TestPath(), Tensor::Of<float>({3}, {1, 2, 3})).ok());
  const std::string bytes = ReadFile(TestPath()).value();
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(ReadBytes(bytes.substr(0, n)).ok()) << n;
}

TEST(NpyTest, EveryFlippedBitIsRefusedOrRead) {
  ASSERT_TRUE(WriteNpy(TestPath(), Tensor::Of<bool>({2, 2}, {true, false, true, true})).ok());
  const std::string bytes = ReadFile(TestPath()).value();
  int refused = 0;
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const auto x = ReadBytes(flipped);
    refused += !x.ok();
    if (x.ok()) {
      EXPECT_EQ(x->elements(), 4) << "bit " << bit;
    }
  }
  EXPECT_GT(refused, 400);
}

TEST(NpyTest, Errors) {
  EXPECT_EQ(ReadNpy(TestPath() + ".none").status().code(), absl::StatusCode::kNotFound);
  const absl::Status status = WriteNpy(TestPath(), Tensor::Zeros({2}, kBF16));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(StartsWith(TestPath()), HasSubstr("no dtype bf16")));
  EXPECT_FALSE(std::filesystem::exists(TestPath()));
}

}  // namespace
}  // namespace residual
