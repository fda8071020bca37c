// One-dimensional signals from files.

#ifndef RESIDUAL_TOOLS_SIGNAL_READ_SIGNAL_H_
#define RESIDUAL_TOOLS_SIGNAL_READ_SIGNAL_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace residual {

// By the name's ending:
//   .wav   RIFF; PCM of 8, 16, 24 or 32 bits as -1 .. 1, or IEEE floats of 32 or 64 bits; channels
//          are averaged
//   .csv, .txt   a number a line, or numbers in one line with commas between; a first line that is
//   no
//          number is a heading
//   .npy   an array with one axis longer than 1, at most
// InvalidArgument with the path and what was found for anything else, for a signal without samples
// or of more than 2^24, and for a sample that is not finite.
absl::StatusOr<std::vector<double>> ReadSignal(const std::string& path);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_SIGNAL_READ_SIGNAL_H_
