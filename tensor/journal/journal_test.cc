#include "tensor/journal/journal.h"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

const Journal::Subject kSubject = {{"kind", "z"}, {"model", "a \"small\" one"}};

std::string Fresh(const std::string& name) {
  const std::string path = testing::TempDir() + "/" + name;
  unlink(path.c_str());
  return path;
}

std::vector<std::string> RecordsOf(const std::string& path) {
  const auto journal = Journal::Open(path, kSubject);
  EXPECT_TRUE(journal.ok()) << journal.status();
  return journal.ok() ? (*journal)->records() : std::vector<std::string>{"failed"};
}

std::string Error(const std::string& path, const Journal::Subject& subject = kSubject) {
  return std::string(Journal::Open(path, subject).status().message());
}

// A journal of three records: the bytes of its file, and where each frame ends.
std::string Written(const std::string& path, std::vector<size_t>* ends) {
  auto journal = *Journal::Open(path, kSubject);
  ends->push_back(ReadFile(path)->size());
  for (const std::string record : {"one", "", "thr\0ee"}) {
    EXPECT_TRUE(journal->Append(record).ok());
    ends->push_back(ReadFile(path)->size());
  }
  return *ReadFile(path);
}

TEST(JournalTest, GoesOnWhereItEnded) {
  const std::string path = Fresh("goes_on");
  {
    auto journal = *Journal::Open(path, kSubject);
    EXPECT_TRUE(journal->records().empty());
    EXPECT_TRUE(journal->Append("first").ok());
    EXPECT_TRUE(journal->records().empty()) << "those that were there when it was opened";
  }
  {
    auto journal = *Journal::Open(path, kSubject);
    EXPECT_EQ(journal->records(), std::vector<std::string>{"first"});
    EXPECT_TRUE(journal->Append(std::string("\0\n\xff", 3)).ok());
  }
  EXPECT_EQ(RecordsOf(path), (std::vector<std::string>{"first", std::string("\0\n\xff", 3)}));
  // An empty file is begun.
  const std::string empty = Fresh("empty");
  EXPECT_TRUE(WriteFileAtomically(empty, "").ok());
  EXPECT_TRUE(RecordsOf(empty).empty());
  EXPECT_EQ((*ReadFile(empty)).substr(0, 8), "RSDLJRN1");
}

TEST(JournalTest, CutAnywhereItKeepsTheWholeRecords) {
  const std::string path = Fresh("cut");
  std::vector<size_t> ends;
  const std::string bytes = Written(path, &ends);
  const std::vector<std::string> all = RecordsOf(path);
  ASSERT_EQ(all.size(), 3);
  for (size_t size = 0; size <= bytes.size(); ++size) {
    ASSERT_TRUE(WriteFileAtomically(path, bytes.substr(0, size)).ok());
    std::vector<std::string> want;
    for (size_t i = 1; i < ends.size() && ends[i] <= size; ++i) want.push_back(all[i - 1]);
    {
      auto journal = Journal::Open(path, kSubject);
      ASSERT_TRUE(journal.ok()) << size << ": " << journal.status();
      EXPECT_EQ((*journal)->records(), want) << size;
      ASSERT_TRUE((*journal)->Append("more").ok());
    }
    want.push_back("more");
    EXPECT_EQ(RecordsOf(path), want) << "gone on after " << size << " bytes";
  }
}

TEST(JournalTest, ATornLastRecordIsIgnored) {
  const std::string path = Fresh("torn");
  std::vector<size_t> ends;
  const std::string bytes = Written(path, &ends);
  // As long as it should be, but not all of it was written; or room was made and nothing written.
  for (const std::string& torn : {bytes.substr(0, bytes.size() - 2) + std::string(2, '\0'),
                                  bytes.substr(0, ends[2]) + std::string(100, '\0')}) {
    ASSERT_TRUE(WriteFileAtomically(path, torn).ok());
    EXPECT_EQ(RecordsOf(path), (std::vector<std::string>{"one", ""}));
    EXPECT_EQ(*ReadFile(path), bytes.substr(0, ends[2])) << "cut off";
  }
}

TEST(JournalTest, NoChangedByteIsTakenForARecord) {
  const std::string path = Fresh("changed");
  std::vector<size_t> ends;
  const std::string bytes = Written(path, &ends);
  const std::vector<std::string> all = RecordsOf(path);
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] ^= 0x21;
    ASSERT_TRUE(WriteFileAtomically(path, changed).ok());
    const auto journal = Journal::Open(path, kSubject);
    if (!journal.ok()) {
      EXPECT_EQ(journal.status().message().find(path), 0);
      EXPECT_EQ(*ReadFile(path), changed) << "an error changes nothing";
      continue;
    }
    // What is left are the first records, unchanged: a size that reaches past the end, or the last
    // record, counts as torn.
    const std::vector<std::string>& left = (*journal)->records();
    ASSERT_LT(left.size(), all.size()) << at;
    for (size_t i = 0; i < left.size(); ++i) EXPECT_EQ(left[i], all[i]) << at;
  }
  std::string damaged = bytes;
  damaged[ends[1] - 1] ^= 1;  // of "one"
  ASSERT_TRUE(WriteFileAtomically(path, damaged).ok());
  EXPECT_EQ(Error(path),
            absl::StrCat(path, ": the frame at byte ", ends[0], " of ", bytes.size(),
                         " differs from its checksum; remove the file to begin again"));
}

TEST(JournalTest, WhatIsWrongIsNamed) {
  const std::string path = Fresh("wrong");
  RecordsOf(path);
  const std::string bytes = *ReadFile(path);
  EXPECT_EQ(Error(path, {{"kind", "q"}, {"model", "a \"small\" one"}}),
            path + ": is a journal of something else: 'kind' is \"z\" there and \"q\" here");
  EXPECT_EQ(Error(path, {{"kind", "z"}}),
            path +
                ": is a journal of something else: 'model' is \"a \"small\" one\" there and "
                "not given here");
  EXPECT_EQ(*ReadFile(path), bytes);
  // Not somebody's notes.
  const std::string notes = Fresh("notes");
  ASSERT_TRUE(WriteFileAtomically(notes, "RSDL").ok());
  EXPECT_EQ(Error(notes), "");  // cut within the first bytes
  for (const std::string text : {"milk, eggs", "RSDX", "x"}) {
    ASSERT_TRUE(WriteFileAtomically(notes, text).ok());
    EXPECT_EQ(Error(notes), notes + ": is no journal: it does not begin with \"RSDLJRN1\"");
    EXPECT_EQ(*ReadFile(notes), text);
  }
  EXPECT_NE(Error(testing::TempDir()).find("is a folder, expected a file"), std::string::npos);
  EXPECT_NE(Error("/dev/null").find("is a device or pipe, expected a file"), std::string::npos);
  EXPECT_NE(Error(testing::TempDir() + "/no/such/folder").find("cannot open for writing: No such"),
            std::string::npos);
  // Two writers would mix their records.
  const auto open = Journal::Open(path, kSubject);
  ASSERT_TRUE(open.ok());
  EXPECT_EQ(Error(path), path + ": another process is writing this journal");
}

TEST(JournalTest, AFullDiskIsAnError) {
  const std::string path = Fresh("full");
  auto journal = *Journal::Open(path, kSubject);
  ASSERT_TRUE(journal->Append("kept").ok());
  // Writes past this size fail, as on a full disk.
  const rlimit small{ReadFile(path)->size() + 10, RLIM_INFINITY};
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status written = journal->Append(std::string(100, 'x'));
  const rlimit again{before.rlim_cur, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &again), 0);
  signal(SIGXFSZ, handler);
  EXPECT_TRUE(absl::IsResourceExhausted(written)) << written;
  EXPECT_EQ(std::string(written.message()), path + ": cannot write: File too large");
  EXPECT_EQ(journal->Append("after"), written) << "it would stand behind half a record";
  journal.reset();
  EXPECT_EQ(RecordsOf(path), std::vector<std::string>{"kept"});
}

}  // namespace
}  // namespace residual
