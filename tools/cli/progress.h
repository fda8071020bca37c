// A progress bar on stderr, for people: on a terminal only, so logs and pipes stay clean.
//
//   ProgressBar bar("training", steps);
//   for (...) bar.Update(step, "loss 2.31, 51 k tokens/s");
//   bar.Finish();
//
//   training [########            ]  40 %  400/1000  loss 2.31, 51 k tokens/s  0:42 left

#ifndef RESIDUAL_TOOLS_CLI_PROGRESS_H_
#define RESIDUAL_TOOLS_CLI_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace residual {

class ProgressBar {
 public:
  ProgressBar(std::string label, int64_t total);
  ~ProgressBar() { Finish(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `done` of `total` are done. Draws at most ten times a second, and the last one always. The
  // first call sets where counting began, so a run that goes on from the middle knows its speed.
  void Update(int64_t done, absl::string_view note = "");

  // Prints a line above the bar; the bar stays below. Without a terminal it prints the line alone.
  void Print(absl::string_view line);

  // Leaves the bar as it is, and a new line. Once; the destructor calls it.
  void Finish();

  bool shown() const { return shown_; }  // stderr is a terminal

 private:
  void Draw(double now);

  std::string label_, note_;
  int64_t total_, done_ = 0, first_ = -1;
  double start_ = 0, drawn_ = -1;
  bool shown_, finished_ = false;
};

// The line of a bar, at most `width` columns: a narrow terminal has a shorter bar.
std::string ProgressLine(absl::string_view label, int64_t done, int64_t total,
                         absl::string_view note, double seconds_left, int width);

// "0:42", "12:05", "3:07:00"; "" if it is not known (negative or not finite).
std::string ClockText(double seconds);

// "950", "51.2 k", "3.4 M".
std::string ShortNumber(double value);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_CLI_PROGRESS_H_
