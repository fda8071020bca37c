#include "models/train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

// The whole lines of the text with steps 1, 2, ... up to `step`.
std::string LinesUpTo(absl::string_view text, int64_t step) {
  size_t kept = 0;
  for (int64_t expected = 1; expected <= step;) {
    const size_t end = text.find('\n', kept);
    if (end == text.npos) break;
    const absl::string_view line = text.substr(kept, end - kept);
    const auto json = nlohmann::json::parse(line.begin(), line.end(), nullptr, false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) break;
    const int64_t found = json["step"].get<int64_t>();
    // A gap is what a power cut took; what goes back is of another run.
    if (found < expected || found > step) break;
    kept = end + 1;
    expected = found + 1;
  }
  return std::string(text.substr(0, kept));
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Open(const std::string& path,
                                                               int64_t step) {
  std::string kept;
  if (step > 0) {
    const absl::StatusOr<std::string> before = ReadFile(path);
    if (before.ok()) {
      kept = LinesUpTo(*before, step);
    } else if (!absl::IsNotFound(before.status())) {
      return before.status();
    }
  }
  RESIDUAL_RETURN_IF_ERROR(WriteFileAtomically(path, kept));
  const int fd = open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, path, "cannot open");
  return std::unique_ptr<MetricsFile>(new MetricsFile(path, fd));
}

MetricsFile::~MetricsFile() { close(fd_); }

absl::Status MetricsFile::Append(const StepMetrics& metrics) {
  nlohmann::ordered_json json = {
      {"step", metrics.step},     {"loss", metrics.loss},
      {"lr", metrics.lr},         {"grad_norm", metrics.grad_norm},
      {"tokens", metrics.tokens}, {"tokens_per_second", metrics.tokens_per_second}};
  if (metrics.eval_loss) json["eval_loss"] = *metrics.eval_loss;
  if (metrics.eval_accuracy) json["eval_accuracy"] = *metrics.eval_accuracy;
  const std::string line = json.dump() + "\n";
  for (absl::string_view left = line; !left.empty();) {
    const ssize_t n = write(fd_, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, path_, "cannot write");
    left.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status MetricsFile::Sync() {
  return fsync(fd_) == 0 ? absl::OkStatus() : SystemError(errno, path_, "cannot sync");
}

}  // namespace residual
