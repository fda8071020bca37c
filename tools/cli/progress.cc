#include "tools/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace residual {
namespace {

constexpr int kShortestBar = 5, kLongestBar = 20;
constexpr double kInterval = 0.1;  // seconds between drawings

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int TerminalWidth() {
  winsize size;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string ClockText(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "";
  const int64_t s = std::llround(seconds);
  if (s < 3600) return absl::StrFormat("%d:%02d", s / 60, s % 60);
  return absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
}

std::string ShortNumber(double value) {
  for (const char* unit : {"", " k", " M", " G"}) {
    // What rounds to 1000 belongs to the next unit.
    if (std::abs(value) < (*unit == '\0' ? 999.5 : 999.95)) {
      return absl::StrFormat(*unit == '\0' ? "%.0f%s" : "%.1f%s", value, unit);
    }
    value /= 1000;
  }
  return absl::StrFormat("%.1f T", value);
}

std::string ProgressLine(absl::string_view label, int64_t done, int64_t total,
                         absl::string_view note, double seconds_left, int width) {
  const double share =
      total > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0) : 1;
  std::string rest = absl::StrFormat(" %3d %%  %d/%d", static_cast<int>(share * 100), done, total);
  if (!note.empty()) absl::StrAppend(&rest, "  ", note);
  const std::string left = done < total ? ClockText(seconds_left) : "";
  if (!left.empty()) absl::StrAppend(&rest, "  ", left, " left");
  const int bar = std::clamp(width - static_cast<int>(label.size() + rest.size()) - 3, kShortestBar,
                             kLongestBar);
  const int filled = static_cast<int>(share * bar);
  std::string line = absl::StrCat(label, " [", std::string(filled, '#'),
                                  std::string(bar - filled, ' '), "]", rest);
  if (static_cast<int>(line.size()) > width) line.resize(std::max(width, 0));
  return line;
}

ProgressBar::ProgressBar(std::string label, int64_t total)
    : label_(std::move(label)), total_(total), start_(Now()), shown_(isatty(STDERR_FILENO) == 1) {}

void ProgressBar::Update(int64_t done, absl::string_view note) {
  done_ = done;
  if (!shown_) return;
  const double now = Now();
  if (first_ < 0) {
    first_ = done;
    start_ = now;
  }
  note_ = std::string(note);
  if (now - drawn_ >= kInterval || done >= total_) Draw(now);
}

void ProgressBar::Draw(double now) {
  const int64_t since = done_ - first_;
  const double left =
      since > 0 ? (now - start_) / static_cast<double>(since) * static_cast<double>(total_ - done_)
                : -1;
  // One column less than there are: a full line would wrap.
  const std::string line = ProgressLine(label_, done_, total_, note_, left, TerminalWidth() - 1);
  std::fprintf(stderr, "\r%s\x1b[K", line.c_str());
  std::fflush(stderr);
  drawn_ = now;
}

void ProgressBar::Print(absl::string_view line) {
  std::fprintf(stderr, "%s%s\n", shown_ && drawn_ >= 0 ? "\r\x1b[K" : "",
               std::string(line).c_str());
  if (shown_ && drawn_ >= 0 && !finished_) Draw(Now());
}

void ProgressBar::Finish() {
  if (finished_) return;
  finished_ = true;
  if (!shown_ || drawn_ < 0) return;
  Draw(Now());
  std::fputc('\n', stderr);
}

}  // namespace residual
