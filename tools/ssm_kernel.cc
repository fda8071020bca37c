// ssm_kernel: the convolution kernels of linear state-space systems, from their parameters or from
// an initialisation.

#include "ops/ssm_kernel/ssm_kernel.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "models/s4/hippo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"
#include "tensor/core/tensor.h"
#include "tensor/io/safetensors.h"
#include "tools/cli/command_line.h"

namespace residual {
namespace {

constexpr int64_t kMostNumbers = int64_t{1} << 31;
constexpr int64_t kMostRank = 16;

struct Flags {
  std::string kind, discretization, init, params, out, pairs = "auto";
  std::vector<std::string> dt;
  int64_t length = 0, n = 64;

  bool s4() const { return kind == "s4"; }
};

// What a kernel is made from. For s4 A is Lambda; P and Q are for s4 only.
struct Parameters {
  Tensor A, P, Q, B, C, dt;
  bool conjugate_pairs = true;
};

class ParameterFile {
 public:
  explicit ParameterFile(const SafetensorsFile& file) : file_(file) {}

  absl::StatusOr<Tensor> Read(const char* name) const {
    const TensorInfo* info = file_.Find(name);
    if (info == nullptr) return Wrong(absl::StrCat("no tensor '", name, "'"));
    RESIDUAL_ASSIGN_OR_RETURN(const Tensor x, file_.Read(name));
    if (!IsFloat(x.dtype())) {
      return Wrong(absl::StrCat("'", name, "' is ", info->dtype_name, ", expected floats"));
    }
    return ConvertTo(x, x.dtype() == kF64 ? kF64 : kF32);
  }

  absl::Status WrongShape(const char* name, const Tensor& x, const std::string& expected) const {
    return Wrong(absl::StrCat("'", name, "' is ", x.shape().ToString(), ", expected ", expected));
  }

  // [N, 2] or [H, N, 2].
  absl::StatusOr<Tensor> ReadModes(const char* name, int64_t H, int64_t N) const {
    RESIDUAL_ASSIGN_OR_RETURN(const Tensor x, Read(name));
    if (x.shape() == Shape({N, 2}) || x.shape() == Shape({H, N, 2})) return x;
    return WrongShape(name, x, absl::StrCat("[", N, ", 2] or [", H, ", ", N, ", 2]"));
  }

  // As [r, N, 2] or [H, r, N, 2]. In the file a rank of 1 may have no axis; `own`: Lambda has one
  // of channels, so three axes are [H, N, 2].
  absl::StatusOr<Tensor> ReadLowRank(const char* name, int64_t H, int64_t N, bool own) const {
    RESIDUAL_ASSIGN_OR_RETURN(const Tensor x, Read(name));
    if (x.shape() == Shape({N, 2})) return x.Reshaped({1, N, 2});
    if (own && x.shape() == Shape({H, N, 2})) return x.Reshaped({H, 1, N, 2});
    const bool fits = ((x.rank() == 3 && !own) || (x.rank() == 4 && x.dim(0) == H)) &&
                      x.dim(-1) == 2 && x.dim(-2) == N && x.dim(-3) <= kMostRank;
    if (fits) return x;
    return WrongShape(name, x,
                      absl::StrCat("[", N, ", 2], [", own ? absl::StrCat(H) : "r", ", ", N,
                                   ", 2] or [", H, ", r, ", N, ", 2] with r <= ", kMostRank));
  }

  absl::Status Wrong(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_.path(), ": ", what));
  }

 private:
  const SafetensorsFile& file_;
};

absl::StatusOr<Parameters> ReadParameters(const Flags& flags) {
  RESIDUAL_ASSIGN_OR_RETURN(const SafetensorsFile opened, SafetensorsFile::Open(flags.params));
  const ParameterFile file(opened);
  Parameters p;
  RESIDUAL_ASSIGN_OR_RETURN(p.dt, file.Read("dt"));
  if (p.dt.rank() != 1) return file.WrongShape("dt", p.dt, "[H]");
  const int64_t H = p.dt.dim(0);
  for (const double dt : p.dt.ToDoubles()) {
    if (!(dt > 0 && std::isfinite(dt))) {
      return file.Wrong(absl::StrCat("'dt' has a step of ", dt, ", expected one > 0"));
    }
  }
  const char* const modes = flags.s4() ? "Lambda" : "A";
  RESIDUAL_ASSIGN_OR_RETURN(p.A, file.Read(modes));
  const bool shaped = (p.A.rank() == 2 || (p.A.rank() == 3 && p.A.dim(0) == H)) && p.A.dim(-1) == 2;
  if (!shaped) return file.WrongShape(modes, p.A, absl::StrCat("[N, 2] or [", H, ", N, 2]"));
  const int64_t N = p.A.dim(-2);
  RESIDUAL_ASSIGN_OR_RETURN(p.B, file.ReadModes("B", H, N));
  RESIDUAL_ASSIGN_OR_RETURN(p.C, file.ReadModes("C", H, N));
  if (flags.s4()) {
    RESIDUAL_ASSIGN_OR_RETURN(p.P, file.ReadLowRank("P", H, N, p.A.rank() == 3));
    RESIDUAL_ASSIGN_OR_RETURN(p.Q, file.ReadLowRank("Q", H, N, p.A.rank() == 3));
    if (p.P.dim(-3) != p.Q.dim(-3)) {
      return file.Wrong(absl::StrCat("'P' has rank ", p.P.dim(-3), ", 'Q' ", p.Q.dim(-3)));
    }
  }
  // As the files of both kinds are: all modes for s4, one of each pair of conjugates for s4d.
  p.conjugate_pairs = flags.pairs == "auto" ? !flags.s4() : flags.pairs == "true";
  return p;
}

Tensor ToTensor(const Eigen::MatrixXcd& x, const Shape& shape) {
  std::vector<double> numbers;  // column by column
  for (const std::complex<double>& value : x.reshaped()) {
    numbers.push_back(value.real());
    numbers.push_back(value.imag());
  }
  return Tensor::Of<double>(shape, numbers);
}

absl::StatusOr<Parameters> MakeParameters(const Flags& flags, uint64_t seed) {
  if (flags.n % 2 != 0) {
    return UsageError(absl::StrCat("--n is ", flags.n, ", expected an even number: the states are ",
                                   "pairs of conjugates"));
  }
  Parameters p;
  std::vector<double> steps;
  for (const std::string& text : flags.dt) {
    double dt;
    if (!absl::SimpleAtod(text, &dt) || !(dt > 0 && std::isfinite(dt))) {
      return UsageError(absl::StrCat("--dt: '", text, "' is no step, expected a number > 0"));
    }
    steps.push_back(dt);
  }
  const int64_t H = static_cast<int64_t>(steps.size()), N = flags.n / 2;
  p.dt = Tensor::Of<double>({H}, steps);
  if (flags.s4()) {
    const absl::StatusOr<HippoMeasure> measure = ParseHippoMeasure(flags.init);
    if (!measure.ok() || (*measure != HippoMeasure::kLegS && *measure != HippoMeasure::kLegT)) {
      return UsageError(
          absl::StrCat("--init: '", flags.init, "' is no init of s4, expected legs or legt"));
    }
    const Nplr nplr = MakeNplrPairs(*measure, flags.n);
    p.A = ToTensor(nplr.Lambda, {N, 2});
    p.P = p.Q = ToTensor(nplr.P, {nplr.P.cols(), N, 2});
    p.B = ToTensor(nplr.B, {N, 2});
  } else {
    const absl::StatusOr<DiagonalInit> init = ParseDiagonalInit(flags.init);
    if (!init.ok()) return UsageError(absl::StrCat("--init: ", init.status().message()));
    const DiagonalSystem system = MakeDiagonal(*init, flags.n, seed);
    p.A = ToTensor(system.A, {N, 2});
    p.B = ToTensor(system.B, {N, 2});
  }
  // Complex normal of variance 1.
  std::vector<double> C(2 * H * N);
  const Philox random(seed, RandomStream("C"));
  for (size_t i = 0; i < C.size(); ++i) C[i] = random.Normal(i) / std::sqrt(2.0);
  p.C = Tensor::Of<double>({H, N, 2}, C);
  return p;
}

// All operands in the widest of their dtypes.
void UseOneDType(Parameters& p) {
  Tensor* const all[] = {&p.A, &p.P, &p.Q, &p.B, &p.C, &p.dt};
  const bool wide = std::any_of(std::begin(all), std::end(all),
                                [](const Tensor* x) { return x->defined() && x->dtype() == kF64; });
  for (Tensor* x : all) {
    if (x->defined()) *x = ConvertTo(*x, wide ? kF64 : kF32);
  }
}

Tensor Kernel(const Flags& flags, const Parameters& p) {
  if (flags.s4()) {
    DplrKernelOptions options;
    options.conjugate_pairs = p.conjugate_pairs;
    return DplrSsmKernel(p.A, p.P, p.Q, p.B, p.C, p.dt, flags.length, options);
  }
  DiagonalKernelOptions options;
  options.conjugate_pairs = p.conjugate_pairs;
  if (flags.discretization == "bilinear") options.discretization = Discretization::kBilinear;
  if (flags.discretization == "dss") options.discretization = Discretization::kDssSoftmax;
  return DiagonalSsmKernel(p.A, p.B, p.C, p.dt, flags.length, options);
}

absl::Status Run(const CommandLine& cli, const Flags& flags) {
  if (flags.params.empty() == flags.init.empty()) {
    return UsageError("give either --params, or --init with --n and --dt");
  }
  if (flags.params.empty() && flags.dt.empty()) {
    return UsageError("--init needs --dt: a step for each channel, e.g. --dt=0.001,0.01,0.1");
  }
  if (flags.s4() && flags.discretization != "" && flags.discretization != "bilinear") {
    return UsageError(absl::StrCat("--discretization=", flags.discretization,
                                   ": s4 is discretised by the bilinear transform"));
  }
  Parameters p;
  if (flags.params.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(p, MakeParameters(flags, cli.seed()));
  } else {
    RESIDUAL_ASSIGN_OR_RETURN(p, ReadParameters(flags));
  }
  if (p.dt.dim(0) > 0 && flags.length > kMostNumbers / p.dt.dim(0)) {
    return UsageError(absl::StrCat(p.dt.dim(0), " channels of --length=", flags.length,
                                   " are more than ", kMostNumbers, " numbers"));
  }
  UseOneDType(p);
  const auto start = std::chrono::steady_clock::now();
  const Tensor K = Kernel(flags, p);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(flags.out, {{"K", K}}));
  if (cli.json()) {
    const nlohmann::json result = {{"kind", flags.kind},
                                   {"shape", K.shape().sizes()},
                                   {"dtype", Name(K.dtype())},
                                   {"out", flags.out},
                                   {"seconds", seconds}};
    std::printf("%s\n", result.dump().c_str());
  } else {
    std::printf("K %s in %.3g s: %s\n", K.ToString().c_str(), seconds, flags.out.c_str());
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "ssm_kernel",
      "Writes the convolution kernels K [H, L] of linear state-space systems: S4 (diagonal plus "
      "low "
      "rank) or S4D (diagonal).",
      "--kind=s4d --init=lin --n=64 --dt=0.001,0.01,0.1 --length=1024 --out=kernel.safetensors");
  residual::Flags flags;
  cli.Choice("kind", &flags.kind, {"s4", "s4d"}, "which kind of system").Required();
  cli.Int("length", &flags.length, 0, int64_t{1} << 24, "positions of a kernel, L").Required();
  cli.Choice("discretization", &flags.discretization, {"bilinear", "zoh", "dss"},
             "default: bilinear for s4 (the only one), zoh for s4d; dss is the softmax of Diagonal "
             "State Spaces");
  cli.Path(
      "params", &flags.params,
      "safetensors file: dt [H]; A (s4d) or Lambda (s4), B, C [N, 2] or [H, N, 2]; for s4 P, Q "
      "[N, 2], [r, N, 2] ([H, N, 2] if Lambda has three axes) or [H, r, N, 2]; the last axis is "
      "(re, im)");
  cli.Choice("pairs", &flags.pairs, {"auto", "true", "false"},
             "with --params: each mode stands for a pair of conjugates; auto: s4d yes, s4 no");
  cli.Text("init", &flags.init,
           "instead of --params: lin, inv, quad, real, legs or random for s4d; legs or legt "
           "for s4; C is random (--seed)");
  cli.Int("n", &flags.n, 2, 4096, "with --init: states, an even number");
  cli.List("dt", &flags.dt, "with --init: step sizes, one for each channel");
  cli.Path("out", &flags.out, "safetensors file to write").Required();
  return cli.Run(argc, argv, [&] { return residual::Run(cli, flags); });
}
