#include "tensor/io/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// One for each case.
std::string TestPath() {
  std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
  std::replace(name.begin(), name.end(), '/', '_');
  return JoinPath(::testing::TempDir(), name + ".safetensors");
}

// Not synced, unlike what the library writes: some tests write thousands of files.
void WriteBytes(const std::string& bytes) {
  std::filesystem::remove(TestPath());
  std::ofstream(TestPath(), std::ios::binary) << bytes;
}

std::string Length(uint64_t n) { return std::string(reinterpret_cast<const char*>(&n), 8); }

// A file of a header, as given, and data.
std::string FileOf(const std::string& header, const std::string& data) {
  return Length(header.size()) + header + data;
}

absl::StatusOr<SafetensorsFile> OpenBytes(const std::string& bytes, bool mmap = true) {
  WriteBytes(bytes);
  ReadOptions options;
  options.mmap = mmap;
  return SafetensorsFile::Open(TestPath(), options);
}

// Opens and reads everything; what happened, in words.
std::string Outcome(const std::string& bytes, bool mmap) {
  const auto file = OpenBytes(bytes, mmap);
  if (!file.ok()) return file.status().ToString();
  std::string result;
  for (const TensorInfo& info : file->tensors()) {
    const auto value = file->Read(info.name);
    absl::StrAppend(&result, info.name, value.ok() ? "" : value.status().ToString(), ";");
    if (value.ok()) {
      result.append(static_cast<const char*>(value->raw_data()), value->bytes());
    }
  }
  return result;
}

constexpr char kA[] = R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";

struct BadCase {
  const char* name;
  std::string bytes;
  std::vector<const char*> message;  // parts of it
};

std::string Entry(const std::string& body) { return "{\"a\":{" + body + "}}"; }

std::string Repeated(const char* text, int n) {
  std::string result;
  for (int i = 0; i < n; ++i) result += text;
  return result;
}

std::vector<BadCase> BadCases() {
  const std::string four(4, '\1'), eight(8, '\1');
  const std::string good = FileOf(absl::StrCat("{", kA, "}"), four);
  const auto two = [](const char* first, const char* second) {
    return absl::StrCat(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)", first,
                        R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)", second, "}}");
  };
  const auto offsets = [&](const char* value) {
    return FileOf(Entry(absl::StrCat(R"("dtype":"F32","shape":[1],"data_offsets":)", value)), four);
  };
  const auto shape = [&](const char* value) {
    return FileOf(Entry(absl::StrCat(R"("dtype":"F32","data_offsets":[0,4],"shape":)", value)),
                  four);
  };
  const auto dtype = [&](const char* value) {
    return FileOf(Entry(absl::StrCat(R"("shape":[1],"data_offsets":[0,4],"dtype":)", value)), four);
  };
  return {
      {"empty_file", "", {"has 0 bytes", "expected at least the 8"}},
      {"seven_bytes", "1234567", {"has 7 bytes"}},
      {"length_only", Length(100), {"length at byte 0 is 100", "has 0 bytes after it"}},
      {"no_header", Length(0), {"begins with nothing", "expected '{' at byte 8"}},
      {"length_100M", Length(100'000'000) + "{}", {"is 100000000", "has 2 bytes after it"}},
      {"length_100M1", Length(100'000'001) + "{}", {"is 100000001, at most 100000000"}},
      {"length_max", Length(~uint64_t{0}) + "{}", {"is 18446744073709551615, at most 100000000"}},
      {"length_max_minus_7", Length(~uint64_t{0} - 7) + "{}", {"at most 100000000"}},
      {"data_cut", good.substr(0, good.size() - 1), {"tensor 'a'", "[0, 4]", "there are 3 bytes"}},
      {"data_gone", good.substr(0, good.size() - 4), {"tensor 'a'", "there are 0 bytes"}},
      {"trailing", good + "x", {"end at byte 4 of the data", "there are 5 bytes"}},
      {"space_first", FileOf(absl::StrCat(" {", kA, "}"), four), {"begins with ' '"}},
      {"bom_first",
       FileOf(absl::StrCat("\xef\xbb\xbf{", kA, "}"), four),
       {R"(begins with '\xef')"}},
      {"string", FileOf("\"abc\"", ""), {"expected '{'"}},
      {"null", FileOf("null", ""), {"expected '{'"}},
      {"list", FileOf("[]", ""), {"expected '{'"}},
      {"cut_json", FileOf(absl::StrCat("{", kA), four), {"no valid JSON at byte"}},
      {"two_objects", FileOf(absl::StrCat("{", kA, "}{}"), four), {"no valid JSON at byte 62"}},
      {"trailing_comma", FileOf(absl::StrCat("{", kA, ",}"), four), {"no valid JSON"}},
      {"comment", FileOf(absl::StrCat("{", kA, "}//x"), four), {"no valid JSON"}},
      {"nul_padding",
       FileOf(absl::StrCat("{", kA, "}", std::string(3, '\0')), four),
       {"zero byte at byte 62"}},
      {"nul_then_brace",
       FileOf(absl::StrCat("{", kA, "}", std::string(1, '\0'), "}"), four),
       {"zero byte"}},
      {"newline_in_name", FileOf("{\"a\nb\":{}}", ""), {"no valid JSON at byte 11"}},
      {"not_utf8", FileOf("{\"\xff\":{}}", ""), {"no valid JSON at byte 10"}},
      {"overlong_utf8", FileOf("{\"\xc0\xaf\":{}}", ""), {"no valid JSON"}},
      {"lone_surrogate", FileOf(R"({"\ud800":{}})", ""), {"no valid JSON"}},
      {"same_tensor_twice",
       FileOf(absl::StrCat("{", kA, ",", kA, "}"), four),
       {"tensor 'a' is given twice"}},
      {"other_tensor_twice",
       FileOf(absl::StrCat("{", kA, R"(,"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
              eight),
       {"tensor 'a' is given twice"}},
      {"escaped_name_twice",
       FileOf(
           absl::StrCat("{", kA, R"(,"\u0061":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})"),
           eight),
       {"tensor 'a' is given twice"}},
      {"dtype_twice", dtype(R"("F32","dtype":"F32")"), {"tensor 'a': dtype is given twice"}},
      {"shape_twice", shape(R"([1],"shape":[1])"), {"tensor 'a': shape is given twice"}},
      {"metadata_twice",
       FileOf(R"({"__metadata__":{},"__metadata__":{}})", ""),
       {"__metadata__ is given twice"}},
      {"metadata_key_twice",
       FileOf(R"({"__metadata__":{"k":"1","k":"2"}})", ""),
       {"a key is given twice in __metadata__"}},
      {"metadata_number",
       FileOf(R"({"__metadata__":{"k":1}})", ""),
       {"__metadata__ 'k' is 1, expected a string"}},
      {"metadata_nested",
       FileOf(R"({"__metadata__":{"k":{}}})", ""),
       {"__metadata__ 'k' is an object, expected a string"}},
      {"metadata_list", FileOf(R"({"__metadata__":[]})", ""), {"__metadata__ is a list"}},
      {"entry_list", FileOf(R"({"a":[1]})", ""), {"tensor 'a': is a list, expected an object"}},
      {"entry_null", FileOf(R"({"a":null})", ""), {"tensor 'a': is null, expected an object"}},
      {"no_dtype",
       FileOf(Entry(R"("shape":[1],"data_offsets":[0,4])"), four),
       {"tensor 'a': dtype is missing"}},
      {"no_shape",
       FileOf(Entry(R"("dtype":"F32","data_offsets":[0,4])"), four),
       {"tensor 'a': shape is missing"}},
      {"no_offsets",
       FileOf(Entry(R"("dtype":"F32","shape":[1])"), four),
       {"tensor 'a': data_offsets is missing"}},
      {"dtype_unknown", dtype(R"("F31")"), {"tensor 'a': dtype 'F31' is unknown", "BF16"}},
      {"dtype_empty", dtype(R"("")"), {"dtype '' is unknown"}},
      {"dtype_lower", dtype(R"("f32")"), {"dtype 'f32' is unknown"}},
      {"dtype_number", dtype("3"), {"dtype is 3, expected a string"}},
      {"shape_big", shape("[2]"), {"are 4 bytes, expected 8 for F32 [2]"}},
      {"shape_small", shape("[0]"), {"are 4 bytes, expected 0 for F32 [0]"}},
      {"shape_negative", shape("[-1,-1]"), {"shape holds -1, expected integers from 0"}},
      {"shape_float", shape("[1.0]"), {"shape holds 1.0"}},
      {"shape_string", shape(R"(["1"])"), {"shape holds '1'"}},
      {"shape_bool", shape("[true]"), {"shape holds true"}},
      {"shape_number", shape("1"), {"shape is 1, expected a list of integers"}},
      {"shape_null", shape("null"), {"shape is null, expected a list of integers"}},
      {"shape_object", shape("{}"), {"shape is an object, expected a list of integers"}},
      {"shape_wraps", shape("[4294967296,4294967296]"), {"[4294967296, 4294967296] overflows"}},
      {"shape_wraps_to_4", shape("[4611686018427387905]"), {"overflows"}},
      {"shape_2_63", shape("[9223372036854775808]"), {"size 9223372036854775808 in shape"}},
      {"shape_2_64", shape("[18446744073709551616]"), {"shape holds 18446744073709551616"}},
      {"shape_overflow_then_zero", shape("[4611686018427387904,4,0]"), {"overflows"}},
      {"shape_zero_then_overflow", shape("[0,4611686018427387904,4]"), {"overflows"}},
      {"rank_7", shape("[1,1,1,1,1,1,1]"), {"more than 6 sizes in shape"}},
      {"shape_list_200",
       shape((Repeated("[", 200) + Repeated("]", 200)).c_str()),
       {"holds a list"}},
      {"shape_list_unclosed", shape(Repeated("[", 100000).c_str()), {"holds a list"}},
      {"offsets_negative", offsets("[-4,0]"), {"data_offsets holds -4, expected integers from 0"}},
      {"offsets_reversed", offsets("[4,0]"), {"[4, 0] end before they begin"}},
      {"offsets_beyond", offsets("[8,12]"), {"[8, 12] end past the data", "there are 4 bytes"}},
      {"offsets_max", offsets("[0,18446744073709551615]"), {"end past the data"}},
      {"offsets_wrap", offsets("[18446744073709551612,0]"), {"end before they begin"}},
      {"offsets_exponent", offsets("[0,4e0]"), {"data_offsets holds 4e0"}},
      {"offsets_string", offsets(R"(["0","4"])"), {"data_offsets holds '0'"}},
      {"offsets_one", offsets("[4]"), {"1 data_offsets, expected 2"}},
      {"offsets_three", offsets("[0,4,4]"), {"more than 2 data_offsets"}},
      {"offsets_null", offsets("null"), {"data_offsets is null"}},
      {"hole_in_front",
       FileOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", eight),
       {"tensor 'a'", "[4, 8] leave a hole before: expected begin 0"}},
      {"hole_between",
       FileOf(two("[0,4]", "[5,9]"), std::string(9, '\1')),
       {"tensor 'b'", "expected begin 4"}},
      {"overlap", FileOf(two("[0,4]", "[2,6]"), std::string(6, '\1')), {"tensor 'b'", "overlap"}},
      {"same_bytes", FileOf(two("[0,4]", "[0,4]"), four), {"overlap"}},
      {"f4_of_odd_size",
       FileOf(R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", "x"),
       {"are 1 bytes, expected 2 for F4 [3]"}},
      {"deep_objects",
       FileOf(Entry(R"("x":)" + Repeated(R"({"x":)", 20000)), ""),
       {"tensor 'a'", "nests more than 64 deep"}},
      {"deep_lists", FileOf(Entry(R"("x":)" + Repeated("[", 65)), ""), {"nests more than 64 deep"}},
      {"number_too_large", FileOf(Entry(R"("x":1e999)"), ""), {"no valid JSON"}},
      {"long_name",
       FileOf("{\"" + std::string(100000, 'n') + "\":3}", ""),
       {"nnn...': is 3, expected an object"}},
      {"name_with_newline", FileOf(R"({"a\nb":3})", ""), {R"(tensor 'a\nb': is 3)"}},
  };
}

std::ostream& operator<<(std::ostream& out, const BadCase& bad) { return out << bad.name; }

class BadSafetensorsTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadSafetensorsTest, IsRefusedWithPathAndReason) {
  for (const bool mmap : {false, true}) {
    const absl::Status status = OpenBytes(GetParam().bytes, mmap).status();
    ASSERT_FALSE(status.ok());
    EXPECT_TRUE(absl::IsInvalidArgument(status) || absl::IsDataLoss(status) ||
                absl::IsUnimplemented(status))
        << status;
    const std::string message(status.message());
    EXPECT_THAT(message, StartsWith(TestPath() + ": "));
    for (const char* part : GetParam().message) EXPECT_THAT(message, HasSubstr(part));
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_LT(message.size(), 700);
  }
}

INSTANTIATE_TEST_SUITE_P(All, BadSafetensorsTest, ::testing::ValuesIn(BadCases()),
                         [](const auto& info) { return info.param.name; });

TEST(SafetensorsTest, AcceptsWhatTheFormatAllows) {
  for (const bool mmap : {false, true}) {
    EXPECT_EQ(OpenBytes(FileOf("{}", ""), mmap)->tensors().size(), 0);
    EXPECT_EQ(OpenBytes(FileOf(R"({"__metadata__":{"a":"b"}})", ""), mmap)->metadata().at("a"),
              "b");
    EXPECT_TRUE(OpenBytes(FileOf(R"({"__metadata__":null})", ""), mmap)->metadata().empty());
    // Fields and values of later versions.
    EXPECT_EQ(OpenBytes(FileOf(R"({"a":{"dtype":"U8","x":{"y":[1,{"z":null}]},"shape":[1],)"
                               R"("w":-2.5,"data_offsets":[0,1],"v":[]}} )"
                               "\n\t ",
                               "x"),
                        mmap)
                  ->tensors()
                  .size(),
              1);
    // Names out of the order of the data, and any name.
    const auto file =
        OpenBytes(FileOf(R"({"../../etc/passwd":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                         R"("a\u0000\n😀":{"dtype":"I8","shape":[],"data_offsets":[0,1]},)"
                         R"("":{"dtype":"F32","shape":[1099511627776,0],"data_offsets":[1,1]}})",
                         "\x7f\xff"),
                  mmap);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->tensors()[0].name, "");
    EXPECT_EQ(file->Read("")->shape(), Shape({1099511627776, 0}));
    EXPECT_EQ(file->Read("../../etc/passwd")->Item(), 255);
    EXPECT_EQ(file->Read(std::string("a\0\n😀", 7))->Item(), 127);
  }
}

TEST(SafetensorsTest, MapsAlignedTensorsAndCopiesTheOthers) {
  // The header of 61 or 64 bytes puts the data at an odd or an even place.
  for (const int padding : {0, 3}) {
    const std::string header = absl::StrCat(
        R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", std::string(7 + padding, ' '));
    const std::string data("\0\0\x80\x3f\0\0\0\x40", 8);
    for (const bool mmap : {false, true}) {
      const auto file = OpenBytes(FileOf(header, data), mmap);
      ASSERT_TRUE(file.ok()) << file.status();
      Tensor a = file->Read("a").value();
      EXPECT_EQ(a.data<float>()[0], 1);
      EXPECT_EQ(a.data<float>()[1], 2);
      EXPECT_EQ(a.unique(), !mmap || header.size() % 4 != 0) << header.size();
    }
  }
}

TEST(SafetensorsTest, TensorKeepsTheMappingAlive) {
  Tensor a;
  {
    const std::string header = absl::StrCat("{", kA, "}", "  ");
    a = OpenBytes(FileOf(header, std::string("\0\0\x80\x3f", 4)))->Read("a").value();
  }
  ASSERT_TRUE(WriteFileAtomically(TestPath(), "gone").ok());
  EXPECT_EQ(a.Item(), 1);
}

TEST(SafetensorsTest, FileCutUnderAPlainReaderIsAnError) {
  const std::string bytes = FileOf(absl::StrCat("{", kA, "}"), "1234");
  const auto file = OpenBytes(bytes, false);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(truncate(TestPath().c_str(), static_cast<off_t>(bytes.size()) - 2), 0);
  const absl::Status status = file->Read("a").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr(TestPath()), HasSubstr("ends at byte"), HasSubstr("expected")));
}

TEST(SafetensorsTest, ReadsUnsignedIntegersAsWiderOnes) {
  const std::string header = R"({"u16":{"dtype":"U16","shape":[1],"data_offsets":[0,2]},)"
                             R"("u32":{"dtype":"U32","shape":[1],"data_offsets":[2,6]},)"
                             R"("u64":{"dtype":"U64","shape":[1],"data_offsets":[6,14]},)"
                             R"("big":{"dtype":"U64","shape":[1],"data_offsets":[14,22]}})";
  for (const bool mmap : {false, true}) {
    const auto file =
        OpenBytes(FileOf(header, std::string(13, '\xff') + "\x7f" + Length(1ull << 63)), mmap);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->Read("u16")->data<int32_t>()[0], 65535);
    EXPECT_EQ(file->Read("u32")->data<int64_t>()[0], 4294967295);
    EXPECT_EQ(file->Read("u64")->data<int64_t>()[0], INT64_MAX);
    EXPECT_EQ(file->Find("u64")->dtype, kI64);
    EXPECT_EQ(file->Find("u64")->dtype_name, "U64");
    EXPECT_THAT(std::string(file->Read("big").status().message()),
                AllOf(StartsWith(TestPath() + ": tensor 'big': "),
                      HasSubstr("element 0 is 9223372036854775808")));
  }
}

TEST(SafetensorsTest, ListsDTypesItCannotRead) {
  const auto file = OpenBytes(FileOf(R"({"c":{"dtype":"C64","shape":[1],"data_offsets":[0,8]},)"
                                     R"("f":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[8,10]},)"
                                     R"("g":{"dtype":"F4","shape":[4],"data_offsets":[10,12]}})",
                                     std::string(12, 'x')));
  ASSERT_TRUE(file.ok()) << file.status();
  for (const TensorInfo& info : file->tensors()) {
    EXPECT_FALSE(info.readable);
    const absl::Status status = file->Read(info.name).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(TestPath()), HasSubstr(info.dtype_name)));
  }
}

TEST(SafetensorsTest, BoolsAreZeroOrOne) {
  for (const bool mmap : {false, true}) {
    const std::string header = R"({"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})";
    const auto file = OpenBytes(FileOf(header, std::string("\1\0\2", 3)), mmap);
    const absl::Status status = file->Read("a").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(
        std::string(status.message()),
        AllOf(HasSubstr("tensor 'a'"), HasSubstr(absl::StrCat("byte ", 8 + header.size() + 2)),
              HasSubstr("is 2, expected 0 or 1")));
  }
}

TEST(SafetensorsTest, FindsByName) {
  const auto file = OpenBytes(FileOf(absl::StrCat("{", kA, "}"), "1234"));
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->Find("a")->bytes, 4);
  EXPECT_EQ(file->Find("b"), nullptr);
  const absl::Status status = file->Read("b").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), TestPath() + ": has no tensor 'b'");
}

TEST(SafetensorsTest, MissingFile) {
  for (const bool mmap : {false, true}) {
    ReadOptions options;
    options.mmap = mmap;
    const absl::Status status = SafetensorsFile::Open(TestPath() + ".none", options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(status.message()), StartsWith(TestPath() + ".none: cannot open"));
  }
}

TEST(SafetensorsTest, WritesAsTheReferenceLibraryDoes) {
  const std::vector<NamedTensor> tensors = {
      {"b", Tensor::Of<float>({2}, {1, 2})},
      {"a", Tensor::Of<int64_t>({1, 1}, {7})},
      {"a\n\"\xc3\xa9/\x7f", Tensor::Of<float>({}, {3})},
      {"c", Tensor::Of<bool>({3}, {true, false, true})},
      {"d", Tensor::Zeros({0, 3}, kF16)},
      {"z", Tensor::Of<double>({1}, {1.5})},
      {"u", Tensor::Of<uint8_t>({3}, {1, 2, 3})},
  };
  ASSERT_TRUE(WriteSafetensors(TestPath(), tensors, {{"format", "pt"}}).ok());
  // What safetensors 0.8.0 made of the same.
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},)"
      R"("z":{"dtype":"F64","shape":[1],"data_offsets":[8,16]},)"
      "\"a\\n\\\"\xc3\xa9/\x7f\":"
      R"({"dtype":"F32","shape":[],"data_offsets":[16,20]},)"
      R"("b":{"dtype":"F32","shape":[2],"data_offsets":[20,28]},)"
      R"("d":{"dtype":"F16","shape":[0,3],"data_offsets":[28,28]},)"
      R"("u":{"dtype":"U8","shape":[3],"data_offsets":[28,31]},)"
      R"("c":{"dtype":"BOOL","shape":[3],"data_offsets":[31,34]}}       )";
  const std::string data("\7\0\0\0\0\0\0\0\0\0\0\0\0\0\xf8?\0\0@@\0\0\x80?\0\0\0@\1\2\3\1\0\1", 34);
  EXPECT_EQ(ReadFile(TestPath()).value(), FileOf(header, data));
}

TEST(SafetensorsTest, RoundTripOfEveryDType) {
  std::vector<NamedTensor> tensors;
  for (const DType dtype :
       {kF64, kF32, kF16, kBF16, kI64, kI32, DType::kI16, DType::kI8, kU8, kBool}) {
    tensors.emplace_back(Name(dtype), ConvertTo(Tensor::Of<float>({2, 2}, {0, 1, 2, 100}), dtype));
    tensors.emplace_back(absl::StrCat(Name(dtype), ".empty"), Tensor::Zeros({3, 0}, dtype));
    tensors.emplace_back(absl::StrCat(Name(dtype), ".scalar"), Tensor::Full({}, 1, dtype));
  }
  tensors.emplace_back("nan", Tensor::Of<float>({2}, {NAN, -INFINITY}));
  const std::map<std::string, std::string> metadata = {{"k", "v\n\""}, {"", "😀"}};
  ASSERT_TRUE(WriteSafetensors(TestPath(), tensors, metadata).ok());
  for (const bool mmap : {false, true}) {
    ReadOptions options;
    options.mmap = mmap;
    const auto file = SafetensorsFile::Open(TestPath(), options);
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(file->metadata(), metadata);
    EXPECT_EQ(file->tensors().size(), tensors.size());
    for (const auto& [name, value] : tensors) {
      const Tensor read = file->Read(name).value();
      EXPECT_EQ(read.shape(), value.shape());
      EXPECT_EQ(read.dtype(), value.dtype());
      EXPECT_EQ(std::string(static_cast<const char*>(read.raw_data()), read.bytes()),
                std::string(static_cast<const char*>(value.raw_data()), value.bytes()));
      // The writer's order aligns every tensor.
      EXPECT_EQ(read.unique(), !mmap || read.bytes() == 0) << name;
    }
  }
}

TEST(SafetensorsTest, WritesTensorByTensor) {
  const std::string path = testing::TempDir() + "/streamed.safetensors";
  auto writer = SafetensorsWriter::Create(
      path, {{"z", kF32, {2, 3}}, {"a", kF32, {0, 4}}, {"m", kF32, {1}}}, {{"kind", "test"}});
  ASSERT_TRUE(writer.ok()) << writer.status().message();
  ASSERT_TRUE(writer->Append(Tensor::Of<float>({2, 3}, {1, 2, 3, 4, 5, 6})).ok());
  EXPECT_FALSE(SafetensorsFile::Open(path).ok());  // not there before it is whole
  ASSERT_TRUE(writer->Append(Tensor::Zeros({0, 4})).ok());
  ASSERT_TRUE(writer->Append(Tensor::Of<float>({1}, {7})).ok());
  ASSERT_TRUE(writer->Commit().ok());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->metadata().at("kind"), "test");
  EXPECT_EQ(file->Read("z")->ToDoubles(), (std::vector<double>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(file->Read("a")->shape(), Shape({0, 4}));
  EXPECT_EQ(file->Read("m")->Item(), 7);
  EXPECT_EQ(SafetensorsWriter::Create(path, {{"a", kF32, {1}}, {"a", kF32, {1}}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(SafetensorsTest, WriterRefusesBadNames) {
  const Tensor x = Tensor::Zeros({1});
  struct {
    std::vector<NamedTensor> tensors;
    std::map<std::string, std::string> metadata;
    const char* message;
  } cases[] = {
      {{{"a", x}, {"a", x}}, {}, "tensor 'a' is given twice"},
      {{{"__metadata__", x}}, {}, "has the name of the metadata"},
      {{{"\xff", x}}, {}, R"('\xff' is no UTF-8)"},
      {{}, {{"k", "\xc0\xaf"}}, R"('\xc0\xaf' is no UTF-8)"},
      {{}, {{"\xed\xa0\x80", "v"}}, "is no UTF-8"},
  };
  for (const auto& c : cases) {
    const absl::Status status = WriteSafetensors(TestPath(), c.tensors, c.metadata);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), AllOf(StartsWith(TestPath()), HasSubstr(c.message)));
    EXPECT_FALSE(std::filesystem::exists(TestPath()));
  }
}

TEST(SafetensorsTest, EveryPrefixIsRefused) {
  const std::vector<NamedTensor> tensors = {{"weights", Tensor::Of<float>({3}, {1, 2, 3})},
                                            {"more", Tensor::Of<int64_t>({2}, {4, 5})}};
  ASSERT_TRUE(WriteSafetensors(TestPath(), tensors, {{"k", "v"}}).ok());
  const std::string bytes = ReadFile(TestPath()).value();
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(OpenBytes(bytes.substr(0, n), n % 2 == 0).ok()) << n;
  }
}

TEST(SafetensorsTest, EveryFlippedBitIsRefusedOrReadAlike) {
  const std::vector<NamedTensor> tensors = {{"w", Tensor::Of<float>({3}, {1, 2, 3})},
                                            {"b", Tensor::Of<bool>({2}, {true, false})}};
  ASSERT_TRUE(WriteSafetensors(TestPath(), tensors).ok());
  const std::string bytes = ReadFile(TestPath()).value();
  int refused = 0;
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const std::string mapped = Outcome(flipped, true), plain = Outcome(flipped, false);
    EXPECT_EQ(mapped, plain) << "bit " << bit;
    refused += mapped.find(TestPath()) != std::string::npos;
  }
  EXPECT_GT(refused, 400);
}

}  // namespace
}  // namespace residual
