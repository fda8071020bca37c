// Any bytes as a journal: refused with the path and left as they are, or records no longer than the
// file, which one more can follow.
#include <string>
#include <vector>

#include "tensor/base/check.h"
#include "tensor/io/file.h"
#include "tensor/journal/journal.h"
#include "tests/fuzz/io/file_in_memory.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const residual::FileInMemory file(data, size);
  const residual::Journal::Subject subject = {{"kind", "z"}};
  std::vector<std::string> records;
  {
    const auto journal = residual::Journal::Open(file.path(), subject);
    if (!journal.ok()) {
      const absl::Status& error = journal.status();
      RESIDUAL_CHECK(error.message().find(file.path()) == 0) << error.ToString();
      RESIDUAL_CHECK(*residual::ReadFile(file.path()) ==
                     std::string(reinterpret_cast<const char*>(data), size));
      return 0;
    }
    records = (*journal)->records();
    size_t bytes = 0;
    for (const std::string& record : records) bytes += record.size();
    RESIDUAL_CHECK_LE(bytes, size);
    RESIDUAL_CHECK((*journal)->Append("more").ok());
  }
  records.push_back("more");
  const auto again = residual::Journal::Open(file.path(), subject);
  RESIDUAL_CHECK(again.ok() && (*again)->records() == records) << again.status().ToString();
  return 0;
}
