// The command line every tool has in common: flags with ranges, --help with an example, --json,
// --threads, --device, --seed, one-line errors, exit codes 0 (done), 1 (failed), 2 (bad usage).
//
//   int main(int argc, char** argv) {
//     CommandLine cli("generate", "Continues a prompt.", "--model=DIR --prompt='Once upon'");
//     std::string model;
//     int64_t tokens = 100;
//     cli.Path("model", &model, "folder of the model").Required();
//     cli.Int("max_new_tokens", &tokens, 1, 1 << 20, "how many tokens to make");
//     return cli.Run(argc, argv, [&]() -> absl::Status { ... });
//   }

#ifndef RESIDUAL_TOOLS_CLI_COMMAND_LINE_H_
#define RESIDUAL_TOOLS_CLI_COMMAND_LINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace residual {

class CommandLine {
 public:
  // `example`: what follows "bazel run //tools:NAME -- " in the help.
  CommandLine(std::string name, std::string summary, const std::string& example);
  ~CommandLine();

  // Returned by the declarations below, to say more of the flag just declared.
  class Flag {
   public:
    // Bad usage without it.
    Flag& Required();

   private:
    friend class CommandLine;
    explicit Flag(void* option) : option_(option) {}
    void* option_;
  };

  // `*value` holds the default.
  Flag Text(const char* name, std::string* value, const char* help);
  // A path: relative ones start where the user stands, not where bazel runs the program.
  Flag Path(const char* name, std::string* value, const char* help);
  Flag Int(const char* name, int64_t* value, int64_t low, int64_t high, const char* help);
  Flag Number(const char* name, double* value, double low, double high, const char* help);
  // --name, --name=true, --name=false, --noname.
  Flag Bool(const char* name, bool* value, const char* help);
  Flag Choice(const char* name, std::string* value, std::vector<std::string> choices,
              const char* help);
  // Comma-separated.
  Flag List(const char* name, std::vector<std::string>* value, const char* help);
  // The argument that is no flag; `name` as the help shows it.
  Flag Positional(const char* name, std::string* value, const char* help);
  // Takes every --key=value that is no flag of this tool, as (key, value) pairs.
  void Others(std::vector<std::pair<std::string, std::string>>* others);

  // Parses, then runs `body`; prints the error, if it has a message, and returns the exit code. A
  // status for which IsUsageError is true exits with 2, any other error with 1. `end` is given what
  // has come of parsing and the body, and may return something else (Processes::Join).
  int Run(int argc, char** argv, const std::function<absl::Status()>& body,
          const std::function<absl::Status(const absl::Status&)>& end = nullptr);

  bool json() const { return json_; }      // --json
  uint64_t seed() const { return seed_; }  // --seed
  const std::string& name() const { return name_; }

 private:
  absl::Status Parse(int argc, char** argv, bool* help);

  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string name_, summary_;
  std::string example_;  // "bazel run //tools:NAME -- ...", whole
  bool json_ = false;
  int64_t threads_ = 0;
  std::string device_ = "cpu";
  uint64_t seed_ = 0;
};

// The user asked for something that cannot be: exit code 2.
absl::Status UsageError(absl::string_view message);
bool IsUsageError(const absl::Status& status);

// `path` as seen from the folder the user stands in (BUILD_WORKING_DIRECTORY under bazel run).
std::string FromUserFolder(absl::string_view path);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_CLI_COMMAND_LINE_H_
