#include "tools/processes/processes.h"

#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tools/cli/command_line.h"

namespace residual {
namespace {

// A message is its kind, a number and a text.
constexpr char kHello = 'h';   // to 0: the subject, as JSON
constexpr char kResult = 'r';  // to 0: a unit, and its result
constexpr char kEnded = 'e';   // to 0: the code of a status and its message
constexpr char kUnit = 'u';    // from 0: a unit
constexpr char kStop = 's';    // from 0: there is no more
constexpr size_t kHead = 1 + sizeof(int64_t);
constexpr int64_t kUsage = 1 << 16;  // added to the code of a usage error

std::string Packed(char kind, int64_t number = 0, absl::string_view text = "") {
  std::string bytes(kHead, kind);
  std::memcpy(&bytes[1], &number, sizeof(number));
  absl::StrAppend(&bytes, text);
  return bytes;
}

int64_t NumberOf(const Message& message) {
  RESIDUAL_CHECK(message.bytes.size() >= kHead) << message.bytes.size();
  int64_t number;
  std::memcpy(&number, &message.bytes[1], sizeof(number));
  return number;
}

std::string SubjectText(const Journal::Subject& subject) {
  return nlohmann::json(subject).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string PackedStatus(const absl::Status& status) {
  const int64_t code = static_cast<int64_t>(status.code());
  return Packed(kEnded, code + (IsUsageError(status) ? kUsage : 0), status.message());
}

absl::Status StatusOf(const Message& message) {
  const int64_t code = NumberOf(message);
  if (code == 0) return absl::OkStatus();
  const std::string text =
      absl::StrCat("process ", message.from, ": ", message.bytes.substr(kHead));
  return code >= kUsage ? UsageError(text)
                        : absl::Status(static_cast<absl::StatusCode>(code), text);
}

}  // namespace

absl::Status Processes::Run(UnitWork work) {
  work_ = std::move(work);
  return first() ? RunFirst() : RunOther();
}

void Processes::Poll() {
  while (std::optional<Message> message = transport_->Receive(/*wait=*/false)) {
    if (first()) {
      Handle(*message);
    } else {
      inbox_.push_back(*std::move(message));
    }
  }
}

absl::Status Processes::RunFirst() {
  running_ = true;
  while (failed_.ok() && (!work_.units.empty() || units_out_ > 0)) {
    if (work_.units.empty()) {
      Handle(*transport_->Receive(/*wait=*/true));
      continue;
    }
    const int64_t unit = work_.units.front();
    work_.units.pop_front();
    const absl::StatusOr<std::string> result = work_.run(unit);
    failed_.Update(result.ok() ? work_.take(unit, *result) : result.status());
    Poll();
  }
  running_ = false;
  for (const auto& [other, units] : out_) Stop(other);
  return failed_;
}

absl::Status Processes::RunOther() {
  transport_->Send(0, Packed(kHello, 0, SubjectText(work_.subject)));
  while (true) {
    Poll();
    for (const Message& message : inbox_) {
      if (message.bytes[0] == kStop) return absl::OkStatus();
    }
    if (inbox_.empty()) {
      inbox_.push_back(*transport_->Receive(/*wait=*/true));
      continue;
    }
    const int64_t unit = NumberOf(inbox_.front());
    inbox_.pop_front();
    RESIDUAL_ASSIGN_OR_RETURN(const std::string result, work_.run(unit));
    transport_->Send(0, Packed(kResult, unit, result));
  }
}

void Processes::Handle(const Message& message) {
  const int64_t number = NumberOf(message);
  const std::string text = message.bytes.substr(kHead);
  const int from = message.from;
  switch (message.bytes[0]) {
    case kHello: {
      const Journal::Subject subject = nlohmann::json::parse(text);
      if (running_ && subject != work_.subject) {
        failed_.Update(absl::FailedPreconditionError(absl::StrCat(
            "process ", from,
            " does not do the same as process 0: ", SubjectDifference(subject, work_.subject))));
      }
      out_[from] = 0;
      Assign(from);
      Assign(from);  // one to do, one in store
      break;
    }
    case kResult:
      --units_out_;
      --out_[from];
      if (running_) failed_.Update(work_.take(number, text));
      Assign(from);
      break;
    default:
      ++ended_;
      failed_.Update(StatusOf(message));
  }
}

void Processes::Assign(int to) {
  if (running_ && failed_.ok() && !work_.units.empty()) {
    transport_->Send(to, Packed(kUnit, work_.units.front()));
    work_.units.pop_front();
    ++out_[to];
    ++units_out_;
  } else if (!running_ || !failed_.ok() || out_[to] == 0) {
    Stop(to);
  }
}

void Processes::Stop(int to) {
  if (stopped_.insert(to).second) transport_->Send(to, Packed(kStop));
}

absl::Status Processes::Join(const absl::Status& own) {
  if (first()) {
    while (ended_ < count() - 1) Handle(*transport_->Receive(/*wait=*/true));
    return own.ok() ? failed_ : own;
  }
  transport_->Send(0, PackedStatus(own));
  if (own.ok()) return own;
  return IsUsageError(own) ? UsageError("") : absl::Status(own.code(), "");
}

}  // namespace residual
