// hippo: the matrices of a HiPPO memory, and what such a memory holds of a signal.

#include "models/s4/hippo.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/s4/memory_study.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/core/tensor.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"
#include "tools/memory/memory_page.h"
#include "tools/signal/read_signal.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr int64_t kExampleLength = 1000;
constexpr int64_t kPoints = 400;  // of a curve
constexpr int64_t kMoments = 40;
constexpr HippoMeasure kCompared[] = {HippoMeasure::kLegS, HippoMeasure::kLegT,
                                      HippoMeasure::kChebyshev, HippoMeasure::kFourier,
                                      HippoMeasure::kRandom};

struct Flags {
  std::string measure, signal, out, html;
  int64_t n = 64;
};

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Tensor ToTensor(const Eigen::MatrixXd& x) {
  std::vector<double> rows;
  for (int64_t i = 0; i < x.rows(); ++i) {
    for (int64_t k = 0; k < x.cols(); ++k) rows.push_back(x(i, k));
  }
  return Tensor::Of<double>(x.cols() == 1 ? Shape{x.rows()} : Shape{x.rows(), x.cols()}, rows);
}

absl::Status WriteTensors(const Flags& flags, HippoMeasure measure, uint64_t seed,
                          const MemoryFindings& found) {
  const Hippo hippo = MakeHippo(measure, flags.n, seed);
  // Every sample, not only those of a curve.
  const int64_t length = static_cast<int64_t>(found.signal.size());
  const Remembered end = Remember(measure, flags.n, found.signal, {length}, length, seed).back();
  const auto vector = [&](const std::vector<double>& x) { return Tensor::Of<double>({length}, x); };
  return WriteSafetensors(flags.out,
                          {{"A", ToTensor(hippo.A).Reshaped({flags.n, flags.n})},
                           {"B", ToTensor(hippo.B)},
                           {"signal", vector(found.signal)},
                           {"state", ToTensor(end.state)},
                           {"reconstruction", vector(end.recalled)}},
                          {{"measure", Name(measure)}});
}

// From 4 to the size asked for and a little beyond.
std::vector<int64_t> Sizes(int64_t n) {
  std::set<int64_t> sizes = {n};
  for (int64_t size = 4; size <= std::max<int64_t>(64, n) && size <= 256; size *= 2) {
    sizes.insert(size);
  }
  return {sizes.begin(), sizes.end()};
}

MemoryFindings Study(const Flags& flags, HippoMeasure measure, uint64_t seed,
                     const std::vector<double>& signal, bool compare) {
  MemoryFindings found;
  found.name =
      flags.signal.empty() ? "an example" : flags.signal.substr(flags.signal.rfind('/') + 1);
  found.signal = signal;
  found.measure = measure;
  found.n = flags.n;
  const int64_t length = static_cast<int64_t>(signal.size());
  std::vector<int64_t> moments;
  const int64_t count = std::min(kMoments, length);
  for (int64_t i = 1; i <= count; ++i) moments.push_back(i * length / count);
  found.over_time = Remember(measure, flags.n, signal, moments, kPoints, seed);
  if (!compare) return found;
  found.sizes = Sizes(flags.n);
  for (const HippoMeasure other : kCompared) {
    ErrorCurve curve{other, {}};
    for (const int64_t n : found.sizes) {
      const Remembered end = Remember(other, n, signal, {length}, kPoints, seed).back();
      curve.errors.push_back(end.error);
      if (n == flags.n) found.at_end.push_back(end);
    }
    found.curves.push_back(curve);
  }
  return found;
}

json ToJson(const MemoryFindings& found, const Flags& flags) {
  json result = {{"measure", Name(found.measure)},
                 {"n", found.n},
                 {"samples", found.signal.size()},
                 {"error", found.over_time.back().error},
                 {"errors_over_time", json::array()},
                 {"errors_by_n", json::object()},
                 {"out", flags.out},
                 {"report", flags.html}};
  for (const Remembered& at : found.over_time) {
    result["errors_over_time"].push_back({{"at", at.at}, {"error", at.error}});
  }
  for (const ErrorCurve& curve : found.curves) {
    json& errors = result["errors_by_n"][Name(curve.measure)] = json::array();
    for (size_t i = 0; i < found.sizes.size(); ++i) {
      errors.push_back({{"n", found.sizes[i]}, {"error", curve.errors[i]}});
    }
  }
  return result;
}

absl::Status Run(const CommandLine& cli, const Flags& flags) {
  const double start = Seconds();
  const absl::StatusOr<HippoMeasure> measure = ParseHippoMeasure(flags.measure);
  if (!measure.ok()) return UsageError(absl::StrCat("--measure: ", measure.status().message()));
  if (flags.out.empty() && flags.html.empty() && !cli.json()) {
    return UsageError("nothing to do: give --out, --html or --json");
  }
  std::vector<double> signal = ExampleSignal(kExampleLength);
  if (!flags.signal.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(signal, ReadSignal(flags.signal));
  }
  const bool compare = !flags.html.empty() || cli.json();
  const MemoryFindings found = Study(flags, *measure, cli.seed(), signal, compare);
  if (!flags.out.empty()) {
    RESIDUAL_RETURN_IF_ERROR(WriteTensors(flags, *measure, cli.seed(), found));
  }
  if (!flags.html.empty()) RESIDUAL_RETURN_IF_ERROR(MemoryPage(found).Write(flags.html));
  if (cli.json()) {
    json result = ToJson(found, flags);
    result["seconds"] = Seconds() - start;
    std::printf("%s\n", result.dump().c_str());
    return absl::OkStatus();
  }
  std::printf("%s with %lld numbers recalls %zu samples with an error of %.3g%%\n",
              Name(found.measure), static_cast<long long>(found.n), found.signal.size(),
              100 * found.over_time.back().error);
  for (const std::string& path : {flags.out, flags.html}) {
    if (!path.empty()) std::printf("%s\n", path.c_str());
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "hippo",
      "Writes the matrices of a HiPPO memory (A [N, N], B [N] of x' = A x + B u), streams a signal "
      "through it and shows what its state holds of the past.",
      "--measure=legs --n=32 --signal=speech.wav --html=memory.html --out=memory.safetensors");
  residual::Flags flags;
  cli.Text("measure", &flags.measure, "legs, legt, fourier, chebyshev or random").Required();
  cli.Int("n", &flags.n, 1, 1024, "numbers in the state");
  cli.Path("signal", &flags.signal,
           "a .wav (PCM or floats), .csv, .txt or .npy file of one signal; an example without it");
  cli.Path("out", &flags.out,
           "safetensors file for A, B, signal, state [N] and reconstruction, float64");
  cli.Path("html", &flags.html, "page with the reconstructions and their errors, by time and by N");
  return cli.Run(argc, argv, [&] { return residual::Run(cli, flags); });
}
