#include "models/data/labeled/testing.h"

#include "tensor/base/check.h"
#include "tensor/io/file.h"
#include "zlib.h"

namespace residual {

std::string WriteTestFile(const std::string& path, const std::string& contents) {
  RESIDUAL_CHECK(MakeFolders(path.substr(0, path.rfind('/'))).ok()) << path;
  RESIDUAL_CHECK(WriteFileAtomically(path, contents).ok()) << path;
  return path;
}

std::string Gzip(const std::string& contents) {
  z_stream stream = {};
  RESIDUAL_CHECK(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) ==
                 Z_OK);
  std::string result(deflateBound(&stream, contents.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(contents.data()));
  stream.avail_in = static_cast<uInt>(contents.size());
  stream.next_out = reinterpret_cast<Bytef*>(&result[0]);
  stream.avail_out = static_cast<uInt>(result.size());
  RESIDUAL_CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  result.resize(stream.total_out);
  deflateEnd(&stream);
  return result;
}

}  // namespace residual
