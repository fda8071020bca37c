#include "models/data/labeled/compressed_file.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "zlib.h"

namespace residual {
namespace {

// Deflate's best: a run of 258 bytes in two bits.
constexpr uint64_t kBestRatio = 1032;
constexpr size_t kPiece = size_t{1} << 16;

}  // namespace

CompressedFile::CompressedFile(std::string path, std::string contents)
    : path_(std::move(path)),
      contents_(std::move(contents)),
      compressed_(absl::StartsWith(contents_, "\x1f\x8b")) {}

absl::StatusOr<CompressedFile> CompressedFile::Open(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(std::string contents, ReadFile(path));
  return CompressedFile(path, std::move(contents));
}

uint64_t CompressedFile::MostBytes() const {
  return contents_.size() * (compressed_ ? kBestRatio : 1);
}

absl::StatusOr<std::string> CompressedFile::Read(uint64_t bytes) const {
  if (!compressed_) return contents_.substr(0, bytes);
  z_stream stream = {};
  RESIDUAL_CHECK(inflateInit2(&stream, 16 + MAX_WBITS) == Z_OK) << "inflateInit2";
  const std::unique_ptr<z_stream, int (*)(z_stream*)> owner(&stream, inflateEnd);
  const auto wrong = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": gzip: ", what...));
  };
  std::string result;
  std::array<char, kPiece> piece;
  uint64_t next = 0;  // of contents_: zlib counts in 32 bits
  while (result.size() < bytes) {
    if (stream.avail_in == 0) {
      const uint64_t some = std::min<uint64_t>(contents_.size() - next, kPiece);
      if (some == 0) {
        return wrong("ends after ", contents_.size(), " bytes, before the data do");
      }
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(contents_.data() + next));
      stream.avail_in = static_cast<uInt>(some);
      next += some;
    }
    const uint64_t wanted = std::min<uint64_t>(bytes - result.size(), kPiece);
    stream.next_out = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_out = static_cast<uInt>(wanted);
    const int code = inflate(&stream, Z_NO_FLUSH);
    result.append(piece.data(), wanted - stream.avail_out);
    if (code == Z_STREAM_END) {
      const uint64_t left = contents_.size() - next + stream.avail_in;
      if (left == 0) break;
      // What `cat a.gz b.gz` makes: another member.
      if (inflateReset(&stream) != Z_OK) return wrong("cannot go on");
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      return wrong("at byte ", next - stream.avail_in, ": ",
                   stream.msg == nullptr ? "broken" : stream.msg);
    }
  }
  return result;
}

}  // namespace residual
