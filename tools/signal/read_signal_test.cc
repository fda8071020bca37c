#include "tools/signal/read_signal.h"

#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tensor/core/tensor.h"
#include "tensor/io/file.h"
#include "tensor/io/npy.h"

namespace residual {
namespace {

std::string Written(const std::string& name, const std::string& contents) {
  const std::string path = JoinPath(testing::TempDir(), name);
  EXPECT_TRUE(WriteFileAtomically(path, contents).ok());
  return path;
}

std::string Bytes(uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> 8 * i);
  return bytes;
}

std::string Chunk(const std::string& name, const std::string& contents) {
  return name + Bytes(contents.size(), 4) + contents + std::string(contents.size() % 2, '\0');
}

std::string Wav(int tag, int channels, int bits, const std::string& data) {
  const std::string format = Bytes(tag, 2) + Bytes(channels, 2) + Bytes(8000, 4) +
                             Bytes(8000 * channels * bits / 8, 4) + Bytes(channels * bits / 8, 2) +
                             Bytes(bits, 2);
  const std::string chunks =
      "WAVE" + Chunk("fmt ", format) + Chunk("LIST", "odd") + Chunk("data", data);
  return "RIFF" + Bytes(chunks.size(), 4) + chunks;
}

using Signal = std::vector<double>;

void ExpectSays(const std::string& path, const std::string& message) {
  const auto read = ReadSignal(path);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.status().message(), absl::StrCat(path, ": ", message));
}

TEST(ReadSignalTest, WavOfEveryWidth) {
  const auto read = [](const std::string& wav) {
    return ReadSignal(Written("a.wav", wav)).value();
  };
  EXPECT_EQ(read(Wav(1, 1, 8, Bytes(128, 1) + Bytes(0, 1) + Bytes(192, 1))), (Signal{0, -1, 0.5}));
  EXPECT_EQ(read(Wav(1, 1, 16, Bytes(0x4000, 2) + Bytes(0x8000, 2))), (Signal{0.5, -1}));
  EXPECT_EQ(read(Wav(1, 1, 24, Bytes(0xc00000, 3))), (Signal{-0.5}));
  EXPECT_EQ(read(Wav(1, 1, 32, Bytes(0x20000000, 4))), (Signal{0.25}));
  const float narrow = 0.75f;
  const double wide = -1.5;
  uint64_t bits = 0;
  std::memcpy(&bits, &narrow, 4);
  EXPECT_EQ(read(Wav(3, 1, 32, Bytes(bits, 4))), (Signal{0.75}));
  std::memcpy(&bits, &wide, 8);
  EXPECT_EQ(read(Wav(3, 1, 64, Bytes(bits, 8))), (Signal{-1.5}));
  // Two channels: their mean. Half a frame at the end is left out.
  EXPECT_EQ(read(Wav(1, 2, 16, Bytes(0x4000, 2) + Bytes(0, 2) + Bytes(1, 2))), (Signal{0.25}));
}

TEST(ReadSignalTest, WavThatIsNot) {
  ExpectSays(Written("b.wav", "RIFX"), "does not begin with RIFF .... WAVE");
  ExpectSays(Written("b.wav", Wav(6, 1, 8, "abc")),
             "wav format 6 of 8 bits, expected PCM (1) of 8, 16, 24 or 32 bits or floats (3) of 32 "
             "or 64");
  ExpectSays(Written("b.wav", Wav(1, 0, 16, "ab")), "0 channels");
  ExpectSays(Written("b.wav", Wav(1, 1, 16, "")), "no samples");
  const std::string whole = Wav(1, 1, 16, "abcdef");
  ExpectSays(Written("b.wav", whole.substr(0, whole.size() - 2)),
             "a chunk of 6 bytes where 4 are left");
  ExpectSays(Written("b.wav", whole.substr(0, 36)), "no data");
  ExpectSays(Written("b.wav", "RIFF....WAVE" + Chunk("data", "ab")), "no format before the data");
  ExpectSays(Written("b.wav", "RIFF....WAVE" + Chunk("fmt ", "ab")),
             "a format of 2 bytes, expected 16 or more");
}

TEST(ReadSignalTest, Text) {
  EXPECT_EQ(ReadSignal(Written("a.csv", "1\n-2.5\r\n\n3e-1\n")).value(), (Signal{1, -2.5, 0.3}));
  EXPECT_EQ(ReadSignal(Written("a.txt", "volts\n1\n2")).value(), (Signal{1, 2}));
  EXPECT_EQ(ReadSignal(Written("a.CSV", "1, 2,3")).value(), (Signal{1, 2, 3}));
  ExpectSays(Written("a.csv", ""), "no samples");
  ExpectSays(Written("a.csv", "heading\n"), "no samples");
  ExpectSays(Written("a.csv", "1\nx\n"), "line 2: 'x' is no number");
  ExpectSays(Written("a.csv", "1\n2,3\n"), "line 2: 2 columns, expected 1");
  ExpectSays(Written("a.csv", "1,2\n3\n"),
             "line 2: more than one line, and the first has 2 columns");
  ExpectSays(Written("a.csv", "1\nnan\n"), "sample 1 is nan");
}

TEST(ReadSignalTest, Arrays) {
  const std::string path = JoinPath(testing::TempDir(), "a.npy");
  ASSERT_TRUE(WriteNpy(path, Tensor::Of<float>({1, 3}, {1, 2, 4})).ok());
  EXPECT_EQ(ReadSignal(path).value(), (Signal{1, 2, 4}));
  ASSERT_TRUE(WriteNpy(path, Tensor::Zeros({2, 3})).ok());
  ExpectSays(path, "an array [2, 3], expected one axis");
}

TEST(ReadSignalTest, OtherNamesAndNoFile) {
  ExpectSays("a.mp3", "expected a name ending in .wav, .csv, .txt or .npy");
  EXPECT_EQ(ReadSignal("/no/such.wav").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace residual
