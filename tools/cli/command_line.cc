#include "tools/cli/command_line.h"

#include <cstdio>
#include <cstdlib>
#include <deque>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "models/nn/nearest.h"
#include "tensor/base/parallel.h"
#include "tensor/base/status_macros.h"
#include "tensor/cuda/start.h"

namespace residual {
namespace {

constexpr char kUsagePayload[] = "residual/usage";

// Why --device=cuda cannot be had: no GPU, or not all ops that a model is made of run on one yet.
absl::Status WithoutCudaModels(const std::string& tool) {
  if (const absl::Status started = StartCuda(); !started.ok()) {
    return absl::Status(started.code(), absl::StrCat("--device=cuda: ", started.message()));
  }
  return absl::UnimplementedError(
      absl::StrCat("--device=cuda: ", tool, " computes on the cpu only; docs/gpu.md has what runs ",
                   "on a GPU"));
}

}  // namespace

struct CommandLine::Impl {
  // Flags are taken as text and read by us, so that every error has our words.
  struct Declared {
    std::string name;
    std::string text;  // as given
    std::function<absl::Status(const std::string&)> read;
    CLI::Option* option;
  };
  CLI::App app;
  std::deque<Declared> flags;  // addresses stay
  std::vector<std::pair<std::string, std::string>>* others = nullptr;

  void* Declare(const std::string& name, const std::string& help, const std::string& shown,
                std::function<absl::Status(const std::string&)> read, bool value_optional = false) {
    Declared& flag = flags.emplace_back();
    flag.name = name;
    flag.read = std::move(read);
    flag.option = app.add_option("--" + name, flag.text, help)->type_name(shown);
    flag.option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    if (value_optional) flag.option->expected(0, 1);
    return flag.option;
  }
};

CommandLine::CommandLine(std::string name, std::string summary, const std::string& example)
    : impl_(std::make_unique<Impl>()),
      name_(std::move(name)),
      summary_(std::move(summary)),
      example_("bazel run //tools:" + name_ + (example.empty() ? "" : " -- " + example)) {
  impl_->app.description(summary_);
  impl_->app.name("bazel run //tools:" + name_ + " --");
  impl_->app.set_help_flag();
  impl_->app.footer("Example:\n  " + example_);
  impl_->app.allow_extras();
}

CommandLine::~CommandLine() = default;

CommandLine::Flag& CommandLine::Flag::Required() {
  static_cast<CLI::Option*>(option_)->required();
  return *this;
}

CommandLine::Flag CommandLine::Text(const char* name, std::string* value, const char* help) {
  return Flag(impl_->Declare(name, help, value->empty() ? "TEXT" : *value,
                             [value](const std::string& text) {
                               *value = text;
                               return absl::OkStatus();
                             }));
}

CommandLine::Flag CommandLine::Path(const char* name, std::string* value, const char* help) {
  return Flag(impl_->Declare(name, help, value->empty() ? "PATH" : *value,
                             [value, name](const std::string& text) {
                               if (text.empty()) {
                                 return UsageError(absl::StrCat("--", name, " is empty"));
                               }
                               *value = FromUserFolder(text);
                               return absl::OkStatus();
                             }));
}

CommandLine::Flag CommandLine::Int(const char* name, int64_t* value, int64_t low, int64_t high,
                                   const char* help) {
  return Flag(impl_->Declare(
      name, help, absl::StrCat(*value), [=, flag = std::string(name)](const std::string& text) {
        int64_t number;
        if (!absl::SimpleAtoi(text, &number) || number < low || number > high) {
          return UsageError(absl::StrCat("--", flag, "=", text, ", expected an integer in [", low,
                                         ", ", high, "]"));
        }
        *value = number;
        return absl::OkStatus();
      }));
}

CommandLine::Flag CommandLine::Number(const char* name, double* value, double low, double high,
                                      const char* help) {
  return Flag(impl_->Declare(
      name, help, absl::StrCat(*value), [=, flag = std::string(name)](const std::string& text) {
        double number;
        if (!absl::SimpleAtod(text, &number) || !(number >= low && number <= high)) {
          return UsageError(absl::StrCat("--", flag, "=", text, ", expected a number in [", low,
                                         ", ", high, "]"));
        }
        *value = number;
        return absl::OkStatus();
      }));
}

CommandLine::Flag CommandLine::Bool(const char* name, bool* value, const char* help) {
  return Flag(impl_->Declare(
      name, help, *value ? "true" : "false",
      [=, flag = std::string(name)](const std::string& text) {
        if (text.empty() || text == "true" || text == "1") {
          *value = true;
        } else if (text == "false" || text == "0") {
          *value = false;
        } else {
          return UsageError(absl::StrCat("--", flag, "=", text, ", expected true or false"));
        }
        return absl::OkStatus();
      },
      /*value_optional=*/true));
}

CommandLine::Flag CommandLine::Choice(const char* name, std::string* value,
                                      std::vector<std::string> choices, const char* help) {
  return Flag(impl_->Declare(name, absl::StrCat(help, ": ", absl::StrJoin(choices, ", ")), *value,
                             [=, flag = std::string(name)](const std::string& text) {
                               for (const std::string& choice : choices) {
                                 if (text == choice) {
                                   *value = text;
                                   return absl::OkStatus();
                                 }
                               }
                               return UsageError(absl::StrCat(
                                   "--", flag, "=", text, ", expected one of ",
                                   absl::StrJoin(choices, ", "), DidYouMean(text, choices)));
                             }));
}

CommandLine::Flag CommandLine::List(const char* name, std::vector<std::string>* value,
                                    const char* help) {
  return Flag(impl_->Declare(name, help, "A,B,..", [value](const std::string& text) {
    *value = absl::StrSplit(text, ',', absl::SkipEmpty());
    return absl::OkStatus();
  }));
}

CommandLine::Flag CommandLine::Positional(const char* name, std::string* value, const char* help) {
  return Flag(impl_->app.add_option(name, *value, help)->type_name(""));
}

void CommandLine::Others(std::vector<std::pair<std::string, std::string>>* others) {
  impl_->others = others;
}

absl::Status CommandLine::Parse(int argc, char** argv, bool* help) {
  CLI::App& app = impl_->app;
  std::vector<std::string> names = {"help"};
  for (const Impl::Declared& flag : impl_->flags) names.push_back(flag.name);
  // --flag is --flag=true, so that it does not swallow what follows it; --noflag is --flag=false.
  std::vector<std::string> arguments;
  for (int i = argc - 1; i > 0; --i) {  // CLI11 reads a vector from its end
    std::string argument = argv[i];
    if (argument == "--help" || argument == "-h") *help = true;
    for (const Impl::Declared& flag : impl_->flags) {
      if (flag.option->get_expected_min() > 0) {
        // CLI11 would take what follows "--flag=" for its value.
        if (argument == absl::StrCat("--", flag.name, "=")) {
          arguments.push_back("");
          argument.pop_back();
        }
        continue;
      }
      if (argument == "--" + flag.name) argument += "=true";
      if (argument == "--no" + flag.name) argument = "--" + flag.name + "=false";
    }
    arguments.push_back(argument);
  }
  if (*help) return absl::OkStatus();
  try {
    app.parse(arguments);
  } catch (const CLI::RequiredError& error) {
    return UsageError(absl::StrCat(error.what(), ", as in: ", example_));
  } catch (const CLI::ParseError& error) {
    return UsageError(absl::StrReplaceAll(error.what(), {{"\n", " "}}));
  }
  for (const std::string& extra : app.remaining()) {
    const std::vector<std::string> parts =
        absl::StrSplit(absl::StripPrefix(extra, "--"), absl::MaxSplits('=', 1));
    const bool pair = absl::StartsWith(extra, "--") && parts.size() == 2;
    if (impl_->others != nullptr && pair) {
      impl_->others->emplace_back(parts[0], parts[1]);
    } else if (absl::StartsWith(extra, "-")) {
      return UsageError(absl::StrCat("no flag --", parts[0], DidYouMean(parts[0], names)));
    } else {
      return UsageError(absl::StrCat("unexpected argument '", extra, "'"));
    }
  }
  for (Impl::Declared& flag : impl_->flags) {
    if (flag.option->count() > 0) RESIDUAL_RETURN_IF_ERROR(flag.read(flag.text));
  }
  return absl::OkStatus();
}

int CommandLine::Run(int argc, char** argv, const std::function<absl::Status()>& body,
                     const std::function<absl::Status(const absl::Status&)>& end) {
  int64_t seed = static_cast<int64_t>(seed_);
  Bool("json", &json_, "machine-readable output on stdout");
  Int("threads", &threads_, 0, 1024, "threads to use; 0: all processors");
  Choice("device", &device_, {"cpu", "cuda"}, "where to compute");
  Int("seed", &seed, 0, int64_t{1} << 62, "of everything random");

  bool help = false;
  absl::Status status = Parse(argc, argv, &help);
  if (help) {
    std::fputs(impl_->app.help().c_str(), stdout);
    return 0;
  }
  if (status.ok()) {
    seed_ = static_cast<uint64_t>(seed);
    if (threads_ > 0) SetNumThreads(static_cast<int>(threads_));
    status = device_ == "cuda" ? WithoutCudaModels(name_) : body();
  }
  if (end) status = end(status);
  if (status.ok()) return 0;
  // One line, whatever the message holds.
  if (!status.message().empty()) {
    std::fprintf(stderr, "%s: %s\n", name_.c_str(),
                 absl::StrReplaceAll(status.message(), {{"\n", " "}}).c_str());
  }
  return IsUsageError(status) ? 2 : 1;
}

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

bool IsUsageError(const absl::Status& status) {
  return status.GetPayload(kUsagePayload).has_value();
}

std::string FromUserFolder(absl::string_view path) {
  const char* folder = std::getenv("BUILD_WORKING_DIRECTORY");
  if (folder == nullptr || absl::StartsWith(path, "/")) return std::string(path);
  return absl::StrCat(folder, "/", path);
}

}  // namespace residual
