#include "models/data/labeled/idx.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "models/data/labeled/compressed_file.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

constexpr uint64_t kMostValues = uint64_t{1} << 30;
constexpr int64_t kMostPixels = int64_t{1} << 29;  // 2 GB of f32
constexpr int kMostAxes = 4;
constexpr uint8_t kUnsignedBytes = 8;

template <class... Parts>
absl::Status Wrong(const std::string& path, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", parts...));
}

uint8_t Byte(const std::string& bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }

}  // namespace

absl::StatusOr<Tensor> ReadIdx(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(const CompressedFile file, CompressedFile::Open(path));
  RESIDUAL_ASSIGN_OR_RETURN(const std::string header, file.Read(4 + 4 * kMostAxes));
  if (header.size() < 4) return Wrong(path, header.size(), " bytes, expected a magic number of 4");
  if (header[0] != 0 || header[1] != 0) {
    return Wrong(path, "magic number begins with bytes ", Byte(header, 0), " ", Byte(header, 1),
                 ", expected 0 0: no idx file");
  }
  if (Byte(header, 2) != kUnsignedBytes) {
    return Wrong(path, "magic number: values of type ", Byte(header, 2),
                 ", expected 8 (unsigned bytes)");
  }
  const int axes = Byte(header, 3);
  if (axes < 1 || axes > kMostAxes) {
    return Wrong(path, "magic number: ", axes, " axes, expected 1 to ", kMostAxes);
  }
  const size_t begin = 4 + 4 * axes;
  if (header.size() < begin) {
    return Wrong(path, header.size(), " bytes, expected the sizes of ", axes, " axes up to byte ",
                 begin);
  }
  std::vector<int64_t> sizes;
  uint64_t values = 1;  // below 2^62: at most 2^30 before each axis of less than 2^32
  for (int axis = 0; axis < axes; ++axis) {
    uint64_t size = 0;
    for (int i = 0; i < 4; ++i) size = size << 8 | Byte(header, 4 + 4 * axis + i);
    values *= size;
    if (values > kMostValues) {
      return Wrong(path, "axis ", axis, ": size ", size, " makes ", values,
                   " values, expected at most ", kMostValues);
    }
    sizes.push_back(static_cast<int64_t>(size));
  }
  const std::string shape = Shape(sizes).ToString();
  if (begin + values > file.MostBytes()) {
    return Wrong(path, "sizes ", shape, " need ", begin + values, " bytes, the file holds at most ",
                 file.MostBytes());
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::string contents, file.Read(begin + values + 1));
  if (contents.size() != begin + values) {
    return Wrong(path, "sizes ", shape, " need ", begin + values, " bytes, found ",
                 contents.size() < begin + values ? absl::StrCat(contents.size()) : "more");
  }
  Tensor result = Tensor::Uninitialized(Shape(sizes), kU8);
  if (values > 0) std::memcpy(result.mutable_data<uint8_t>(), contents.data() + begin, values);
  return result;
}

absl::StatusOr<LabeledSequences> ReadIdxImages(const std::string& images, const std::string& labels,
                                               int n_classes) {
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor pixels, ReadIdx(images));
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor classes, ReadIdx(labels));
  if (pixels.rank() != 3 && pixels.rank() != 4) {
    return Wrong(images, "sizes ", pixels.shape().ToString(),
                 ", expected [n, rows, columns] or [n, rows, columns, channels]: images");
  }
  if (classes.rank() != 1) {
    return Wrong(labels, "sizes ", classes.shape().ToString(), ", expected [n]: labels");
  }
  const int64_t n = pixels.dim(0);
  if (classes.dim(0) != n) {
    return Wrong(labels, classes.dim(0), " labels, expected ", n, ", one for every image of ",
                 images);
  }
  if (pixels.elements() == 0) {
    return Wrong(images, "sizes ", pixels.shape().ToString(), ", expected no 0");
  }
  if (pixels.elements() > kMostPixels) {
    return Wrong(images, pixels.elements(), " values, expected at most ", kMostPixels);
  }
  LabeledSequences data;
  const int64_t channels = pixels.rank() == 4 ? pixels.dim(3) : 1;
  data.x = Tensor::Uninitialized({n, pixels.dim(1) * pixels.dim(2), channels});
  std::transform(pixels.data<uint8_t>(), pixels.data<uint8_t>() + pixels.elements(),
                 data.x.mutable_data<float>(),
                 [](uint8_t v) { return static_cast<float>(v) / 255.0f; });
  data.label.assign(classes.data<uint8_t>(), classes.data<uint8_t>() + n);
  const auto highest = std::max_element(data.label.begin(), data.label.end());
  data.n_classes = n_classes == 0 ? *highest + 1 : n_classes;
  if (*highest >= data.n_classes) {
    return Wrong(labels, "label ", highest - data.label.begin(), " is ", *highest,
                 ", expected less than ", data.n_classes);
  }
  return data;
}

absl::StatusOr<TrainAndTest> ReadIdxFolder(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) return SystemError(error.value(), folder, "cannot list");
  std::sort(names.begin(), names.end());
  std::map<std::string, std::pair<std::string, std::string>> pairs;  // by prefix: images, labels
  for (const std::string& name : names) {
    absl::string_view prefix = absl::StripSuffix(name, ".gz");
    if (absl::ConsumeSuffix(&prefix, "-images-idx3-ubyte")) {
      pairs[std::string(prefix)].first = JoinPath(folder, name);
    } else if (absl::ConsumeSuffix(&prefix, "-labels-idx1-ubyte")) {
      pairs[std::string(prefix)].second = JoinPath(folder, name);
    }
  }
  std::vector<std::pair<std::string, std::string>> train, test;
  for (const auto& [prefix, pair] : pairs) {
    if (pair.first.empty() || pair.second.empty()) continue;
    (absl::StrContains(prefix, "train") ? train : test).push_back(pair);
  }
  if (train.size() != 1 || test.size() != 1) {
    if (names.size() > 12) names.resize(12);
    return absl::NotFoundError(absl::StrCat(
        folder, ": ", train.size(), " pairs of images and labels to train on and ", test.size(),
        " others, expected one of each: PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte, "
        "with .gz or without; found ",
        names.empty() ? "nothing" : absl::StrJoin(names, ", ")));
  }
  TrainAndTest data;
  RESIDUAL_ASSIGN_OR_RETURN(data.train, ReadIdxImages(train[0].first, train[0].second));
  RESIDUAL_ASSIGN_OR_RETURN(data.test, ReadIdxImages(test[0].first, test[0].second));
  if (data.test.x.shape().Without(0) != data.train.x.shape().Without(0)) {
    return Wrong(test[0].first, "images [pixels, channels] of ",
                 data.test.x.shape().Without(0).ToString(), ", expected ",
                 data.train.x.shape().Without(0).ToString(), " as in ", train[0].first);
  }
  data.train.n_classes = data.test.n_classes = std::max(data.train.n_classes, data.test.n_classes);
  return data;
}

}  // namespace residual
