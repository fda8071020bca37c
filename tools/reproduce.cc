// reproduce: runs a paper's experiment and says which of its claims hold here.

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/nn/nearest.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"
#include "tools/experiments/experiments.h"

namespace residual {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const Experiment& experiment : Experiments()) names.push_back(experiment.name);
  return names;
}

void PrintList(bool json) {
  nlohmann::json list = nlohmann::json::array();
  for (const Experiment& experiment : Experiments()) {
    list.push_back({{"name", experiment.name}, {"summary", experiment.summary}});
    if (!json) std::printf("%-18s %s\n", experiment.name, experiment.summary);
  }
  if (json) std::printf("%s\n", list.dump(2).c_str());
}

absl::StatusOr<const Experiment*> Find(const std::string& name) {
  if (name.empty()) {
    return UsageError("no experiment is named; --list shows which there are");
  }
  for (const Experiment& experiment : Experiments()) {
    if (name == experiment.name) return &experiment;
  }
  return UsageError(absl::StrCat("no experiment '", name, "'; --list shows which there are",
                                 DidYouMean(name, Names())));
}

absl::Status Reproduce(const CommandLine& cli, const std::string& name, ExperimentOptions options) {
  RESIDUAL_ASSIGN_OR_RETURN(const Experiment* experiment, Find(name));
  // Minutes of work are not to end at a folder that cannot be written.
  const std::string page = JoinPath(options.out, "report.html");
  RESIDUAL_RETURN_IF_ERROR(MakeFolders(options.out));
  RESIDUAL_RETURN_IF_ERROR(AtomicFile::Create(page).status());
  options.seed = cli.seed();
  options.say = [&](const std::string& line) {
    // With --json stdout is the result's alone.
    std::fprintf(cli.json() ? stderr : stdout, "%s\n", line.c_str());
    std::fflush(stdout);
  };
  const double start = Seconds();
  RESIDUAL_ASSIGN_OR_RETURN(Findings findings, experiment->run(options));
  AddClaims(findings.claims, findings.report);
  RESIDUAL_RETURN_IF_ERROR(findings.report.Write(page));
  const nlohmann::json json = FindingsJson(name, findings.claims, Seconds() - start, page);
  RESIDUAL_RETURN_IF_ERROR(
      WriteFileAtomically(JoinPath(options.out, "claims.json"), json.dump(2) + "\n"));
  if (cli.json()) {
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s\nHow it was found, with pictures: %s\n", ClaimLines(findings.claims).c_str(),
                page.c_str());
  }
  int failed = 0;
  for (const Claim& claim : findings.claims) failed += !claim.pass();
  if (failed == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("%d of %d claims do not hold", failed, findings.claims.size()));
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli("reproduce",
                            "Runs a paper's experiment, compares what comes out with what the "
                            "paper says, and writes report.html and claims.json. Exits with 1 if "
                            "a claim does not hold here.",
                            "mamba_induction --quick --out=mamba_induction");
  std::string name;
  bool list = false;
  residual::ExperimentOptions options;
  options.out = "reproduce";
  options.program = argv[0];
  cli.Positional("NAME", &name, "experiment to run");
  cli.Bool("list", &list, "say which experiments there are");
  cli.Bool("quick", &options.quick,
           "a smaller setting with bounds of its own: ten minutes at most");
  cli.Path("data", &options.data, "folder or file of the data, for experiments that read some");
  cli.Path("config", &options.config,
           "settings of the experiment as a JSON object, for experiments that take some");
  cli.Path("out", &options.out, "folder for report.html and claims.json");
  return cli.Run(argc, argv, [&]() -> absl::Status {
    if (list) {
      residual::PrintList(cli.json());
      return absl::OkStatus();
    }
    return residual::Reproduce(cli, name, std::move(options));
  });
}
