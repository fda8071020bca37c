#include "models/data/labeled/files.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "models/data/labeled/compressed_file.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

constexpr int kPixels = 64, kBrightest = 16, kDigits = 10;
constexpr uint64_t kMostBytesOfDigits = uint64_t{1} << 30;
constexpr int kBytes = 256;
constexpr int64_t kMostTokens = int64_t{1} << 29;

template <class... Parts>
absl::Status Wrong(const std::string& path, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", parts...));
}

// Names in a folder that are files, or that are folders; hidden ones left out, sorted.
absl::StatusOr<std::vector<std::string>> Names(const std::string& folder, bool folders) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code gone;  // what vanishes meanwhile is neither
    const bool wanted = folders ? entry->is_directory(gone) : entry->is_regular_file(gone);
    if (wanted && name[0] != '.') names.push_back(name);
  }
  if (error) return SystemError(error.value(), folder, "cannot list");
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

absl::StatusOr<LabeledSequences> ReadOpticalDigits(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(const CompressedFile file, CompressedFile::Open(path));
  RESIDUAL_ASSIGN_OR_RETURN(const std::string contents, file.Read(kMostBytesOfDigits + 1));
  if (contents.size() > kMostBytesOfDigits) {
    return Wrong(path, "more than ", kMostBytesOfDigits, " bytes");
  }
  LabeledSequences data;
  std::vector<float> values;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(contents, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    int column = 0, value = 0;
    for (const absl::string_view field : absl::StrSplit(line, ',')) {
      ++column;
      const int most = column <= kPixels ? kBrightest : kDigits - 1;
      if (column > kPixels + 1) break;
      if (!absl::SimpleAtoi(field, &value) || value < 0 || value > most) {
        return Wrong(path, "line ", number, ", column ", column, ": '", field.substr(0, 20),
                     "', expected ", column <= kPixels ? "a pixel" : "a digit", ", 0 to ", most);
      }
      if (column <= kPixels) values.push_back(static_cast<float>(value) / kBrightest);
    }
    if (column != kPixels + 1) {
      return Wrong(path, "line ", number, ": ",
                   column > kPixels ? "more than 65" : absl::StrCat(column),
                   " columns, expected 64 pixels and a digit");
    }
    data.label.push_back(value);
  }
  if (data.label.empty()) return Wrong(path, "no images");
  data.x = Tensor::Of<float>({data.n(), kPixels, 1}, values);
  data.n_classes = kDigits;
  return data;
}

absl::StatusOr<LabeledSequences> ReadTextFolder(const std::string& folder,
                                                const TextFolderOptions& options) {
  if (options.max_length < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_length is ", options.max_length, ", expected 1 or more"));
  }
  std::vector<std::string> classes = options.classes;
  if (classes.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(classes, Names(folder, /*folders=*/true));
  }
  if (classes.size() < 2) {
    return Wrong(folder, classes.size(), " classes, expected a sub-folder for each of two or more");
  }
  LabeledSequences data;
  std::vector<std::string> texts;
  int64_t longest = 0;
  for (const std::string& name : classes) {
    const std::string path = JoinPath(folder, name);
    RESIDUAL_ASSIGN_OR_RETURN(const std::vector<std::string> files, Names(path, /*folders=*/false));
    const size_t before = texts.size();
    for (const std::string& file : files) {
      RESIDUAL_ASSIGN_OR_RETURN(std::string text, ReadFile(JoinPath(path, file)));
      if (text.empty()) continue;
      if (static_cast<int64_t>(text.size()) > options.max_length) {
        text.resize(options.max_length);
        text.shrink_to_fit();
      }
      longest = std::max(longest, static_cast<int64_t>(text.size()));
      data.lengths.push_back(static_cast<int64_t>(text.size()));
      data.label.push_back(data.n_classes);
      texts.push_back(std::move(text));
      if (longest > kMostTokens / static_cast<int64_t>(texts.size())) {
        return absl::ResourceExhaustedError(
            absl::StrCat(folder, ": ", texts.size(), " texts of ", longest,
                         " bytes make more than ", kMostTokens, " tokens; a smaller max_length?"));
      }
    }
    if (texts.size() == before) return Wrong(path, "no texts, expected a file for each");
    ++data.n_classes;
  }
  data.x = Tensor::Full({data.n(), longest}, kBytes, kI32);
  int32_t* to = data.x.mutable_data<int32_t>();
  for (const std::string& text : texts) {
    std::transform(text.begin(), text.end(), to, [](char c) { return static_cast<uint8_t>(c); });
    to += longest;
  }
  data.d_vocab = kBytes + 1;
  data.class_names = std::move(classes);
  return data;
}

}  // namespace residual
