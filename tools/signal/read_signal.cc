#include "tools/signal/read_signal.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tensor/io/npy.h"

namespace residual {
namespace {

constexpr size_t kMostSamples = size_t{1} << 24;
// Of a file: as many samples of two channels of double, and headers.
constexpr size_t kMostBytes = size_t{1} << 29;

template <class... Parts>
absl::Status Wrong(const std::string& path, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", parts...));
}

uint64_t LittleEndian(absl::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

struct WavFormat {
  uint64_t tag = 0, channels = 0, bits = 0;
};

double WavSample(const WavFormat& format, absl::string_view bytes) {
  const uint64_t raw = LittleEndian(bytes);
  if (format.tag == 3 && format.bits == 32) {
    const uint32_t narrow = static_cast<uint32_t>(raw);
    float value;
    std::memcpy(&value, &narrow, sizeof value);
    return value;
  }
  if (format.tag == 3) {
    double value;
    std::memcpy(&value, &raw, sizeof value);
    return value;
  }
  if (format.bits == 8) return (static_cast<double>(raw) - 128) / 128;  // the only unsigned one
  const uint64_t half = uint64_t{1} << (format.bits - 1);
  const double value =
      static_cast<double>(raw) - (raw >= half ? 2.0 * static_cast<double>(half) : 0);
  return value / static_cast<double>(half);
}

absl::Status CheckFormat(const std::string& path, const WavFormat& format) {
  const bool pcm = format.tag == 1 && (format.bits == 8 || format.bits == 16 || format.bits == 24 ||
                                       format.bits == 32);
  const bool floats = format.tag == 3 && (format.bits == 32 || format.bits == 64);
  if (!pcm && !floats) {
    return Wrong(path, "wav format ", format.tag, " of ", format.bits,
                 " bits, expected PCM (1) of 8, 16, 24 or 32 bits or floats (3) of 32 or 64");
  }
  if (format.channels == 0) return Wrong(path, "0 channels");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> ReadWav(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string file, ReadFile(path, kMostBytes));
  absl::string_view rest = file;
  if (rest.size() < 12 || rest.substr(0, 4) != "RIFF" || rest.substr(8, 4) != "WAVE") {
    return Wrong(path, "does not begin with RIFF .... WAVE");
  }
  rest.remove_prefix(12);
  WavFormat format;
  bool has_format = false;
  while (rest.size() >= 8) {
    const absl::string_view name = rest.substr(0, 4);
    const uint64_t size = LittleEndian(rest.substr(4, 4));
    rest.remove_prefix(8);
    if (size > rest.size()) {
      return Wrong(path, "a chunk of ", size, " bytes where ", rest.size(), " are left");
    }
    const absl::string_view chunk = rest.substr(0, size);
    rest.remove_prefix(std::min<uint64_t>(rest.size(), size + size % 2));
    if (name == "fmt ") {
      if (size < 16) return Wrong(path, "a format of ", size, " bytes, expected 16 or more");
      format = {LittleEndian(chunk.substr(0, 2)), LittleEndian(chunk.substr(2, 2)),
                LittleEndian(chunk.substr(14, 2))};
      // Extensible: the tag proper begins a GUID.
      if (format.tag == 0xfffe && size >= 26) format.tag = LittleEndian(chunk.substr(24, 2));
      RESIDUAL_RETURN_IF_ERROR(CheckFormat(path, format));
      has_format = true;
    } else if (name == "data") {
      if (!has_format) return Wrong(path, "no format before the data");
      const size_t width = format.bits / 8, frame = width * format.channels;
      std::vector<double> signal(size / frame);
      for (size_t i = 0; i < signal.size(); ++i) {
        for (size_t c = 0; c < format.channels; ++c) {
          signal[i] += WavSample(format, chunk.substr(i * frame + c * width, width));
        }
        signal[i] /= static_cast<double>(format.channels);
      }
      return signal;
    }
  }
  return Wrong(path, "no data");
}

absl::StatusOr<std::vector<double>> ReadText(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string file, ReadFile(path, kMostBytes));
  std::vector<double> signal;
  int64_t number = 0, rows = 0;
  for (absl::string_view line : absl::StrSplit(file, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    const size_t before = signal.size();
    for (const absl::string_view field : absl::StrSplit(line, ',')) {
      double value;
      if (absl::SimpleAtod(absl::StripAsciiWhitespace(field), &value)) {
        signal.push_back(value);
        continue;
      }
      if (rows > 0 || !signal.empty()) {
        return Wrong(path, "line ", number, ": '", field.substr(0, 20), "' is no number");
      }
      break;  // a heading
    }
    ++rows;
    const size_t columns = signal.size() - before;
    if (columns > 1 && before > 0) {
      return Wrong(path, "line ", number, ": ", columns, " columns, expected 1");
    }
    if (columns == 1 && before > 0 && static_cast<int64_t>(before) > rows - 1) {
      return Wrong(path, "line ", number, ": more than one line, and the first has ", before,
                   " columns");
    }
  }
  return signal;
}

absl::StatusOr<std::vector<double>> ReadArray(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor array, ReadNpy(path));
  int long_axes = 0;
  for (const int64_t size : array.shape()) long_axes += size > 1;
  if (long_axes > 1) {
    return Wrong(path, "an array ", array.shape().ToString(), ", expected one axis");
  }
  return array.ToDoubles();
}

absl::StatusOr<std::vector<double>> ReadByName(const std::string& path) {
  const std::string name = absl::AsciiStrToLower(path);
  if (absl::EndsWith(name, ".wav")) return ReadWav(path);
  if (absl::EndsWith(name, ".csv") || absl::EndsWith(name, ".txt")) return ReadText(path);
  if (absl::EndsWith(name, ".npy")) return ReadArray(path);
  return Wrong(path, "expected a name ending in .wav, .csv, .txt or .npy");
}

}  // namespace

absl::StatusOr<std::vector<double>> ReadSignal(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(std::vector<double> signal, ReadByName(path));
  if (signal.empty()) return Wrong(path, "no samples");
  if (signal.size() > kMostSamples) {
    return Wrong(path, signal.size(), " samples, expected at most ", kMostSamples);
  }
  for (size_t i = 0; i < signal.size(); ++i) {
    if (!std::isfinite(signal[i])) return Wrong(path, "sample ", i, " is ", signal[i]);
  }
  return signal;
}

}  // namespace residual
