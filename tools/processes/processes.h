// Work in units, done by all processes of a program together, whose results process 0 gets.
//
//   Processes processes(StartTransport(&argc, &argv));           // first thing in main
//   ...
//   RESIDUAL_RETURN_IF_ERROR(processes.Run(work));                // on every process
//   if (!processes.first()) return absl::OkStatus();              // 0 has the results
//   ...
//   return cli.Run(argc, argv, body, [&](absl::Status s) { return processes.Join(s); });
//
// Process 0 works too, and hands out units between its own products: each process gets the next
// one as it needs it, and always has one in store, so that none waits for an answer. What fails
// anywhere fails everywhere, and is said once.

#ifndef RESIDUAL_TOOLS_PROCESSES_PROCESSES_H_
#define RESIDUAL_TOOLS_PROCESSES_PROCESSES_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tensor/journal/journal.h"
#include "tools/transport/transport.h"

namespace residual {

struct UnitWork {
  // What the units are of; the same on all processes, or nothing is run.
  Journal::Subject subject;
  std::deque<int64_t> units;  // of process 0: those to do, the longest first
  // Long ones call Poll now and then.
  std::function<absl::StatusOr<std::string>(int64_t unit)> run;
  // On process 0, for each unit as its result comes.
  std::function<absl::Status(int64_t unit, const std::string& result)> take;
};

class Processes {
 public:
  explicit Processes(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  bool first() const { return transport_->rank() == 0; }
  int count() const { return transport_->count(); }

  // Once. On process 0 OK when all units were taken; on the others when there are no more.
  absl::Status Run(UnitWork work);

  // Lets the others get on: takes what has come, and answers.
  void Poll();

  // The last thing, on all processes, whether Run was called or not; `own`: what has become of this
  // one. Process 0 returns its own error, or the first of another with that one's number; the
  // others' errors lose their message, for 0 has it.
  absl::Status Join(const absl::Status& own);

 private:
  absl::Status RunFirst();
  absl::Status RunOther();
  void Handle(const Message& message);
  void Assign(int to);
  void Stop(int to);

  std::unique_ptr<Transport> transport_;
  UnitWork work_;
  std::deque<Message> inbox_;  // of a process that is not 0
  // Of process 0:
  bool running_ = false;
  absl::Status failed_;
  std::map<int, int64_t> out_;  // units that each process in Run was given and has not returned
  int64_t units_out_ = 0;       // of all of them
  std::set<int> stopped_;       // those that know there is no more
  int ended_ = 0;               // how many have joined
};

}  // namespace residual

#endif  // RESIDUAL_TOOLS_PROCESSES_PROCESSES_H_
