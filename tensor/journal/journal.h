// A journal: what of a long computation is done, record by record, so that one that was killed goes
// on from there.
//
//   absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Open(path, {{"seed", "3"}});
//   for (const std::string& record : (*journal)->records()) ...      // done before
//   RESIDUAL_RETURN_IF_ERROR((*journal)->Append(bytes));             // survives from here on
//
// Layout: the 8 bytes "RSDLJRN1"; then frames, u32 size and u32 CRC-32 of these 4 and of the
// content (little endian), then the content. The first frame says what the records are of, as a
// JSON object of strings; each other one is a record. Frames are appended and synced one by one, so
// a writer that was killed, or a power cut, leaves at most the last one torn.

#ifndef RESIDUAL_TENSOR_JOURNAL_JOURNAL_H_
#define RESIDUAL_TENSOR_JOURNAL_JOURNAL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace residual {

class Journal {
 public:
  // What the records are of, field by field: everything on which they depend.
  using Subject = std::map<std::string, std::string>;

  // The journal of `path`, begun where there is no file or an empty one. A torn last frame is cut
  // off; one that is damaged before others is DataLoss. FailedPrecondition for a journal of another
  // subject, with the first field that differs, and while another process has it open;
  // InvalidArgument for a file that is no journal; else as of files. Nothing is changed then.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& path,
                                                       const Subject& subject);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Those that were there when it was opened, in their order.
  const std::vector<std::string>& records() const { return records_; }

  // Adds a record; it is synced when this returns. After an error the journal takes no more:
  // what was written of the record is torn.
  absl::Status Append(absl::string_view record);

 private:
  Journal() = default;
  // Sets end_ and records_.
  absl::Status Read(absl::string_view bytes, const Subject& subject);
  absl::Status Write(absl::string_view bytes);

  std::string path_;
  int fd_ = -1;
  uint64_t end_ = 0;  // of the last whole frame
  std::vector<std::string> records_;
  absl::Status written_;
};

// How two subjects differ, in the first field in which they do: "'kind' is \"z\" there and \"q\"
// here"; "" if they do not.
std::string SubjectDifference(const Journal::Subject& there, const Journal::Subject& here);

}  // namespace residual

#endif  // RESIDUAL_TENSOR_JOURNAL_JOURNAL_H_
