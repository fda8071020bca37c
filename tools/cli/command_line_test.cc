#include "tools/cli/command_line.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

struct Options {
  std::string model, task = "text", name = "x", what;
  int64_t tokens = 100;
  double rate = 0.5;
  bool stop = true, resume = false;
  std::vector<std::string> names;
  std::vector<std::pair<std::string, std::string>> others;
};

struct Outcome {
  int code = 0;
  bool ran = false;
  std::string out, err;
  Options options;
};

Outcome RunDemo(std::vector<std::string> arguments, bool take_others = false,
                absl::Status result = absl::OkStatus()) {
  Outcome outcome;
  Options& o = outcome.options;
  CommandLine cli("demo", "Shows flags.", "--model=DIR");
  cli.Path("model", &o.model, "folder of the model").Required();
  cli.Choice("task", &o.task, {"text", "repeat"}, "what to learn");
  cli.Text("name", &o.name, "a name");
  cli.Int("tokens", &o.tokens, 1, 1000, "how many");
  cli.Number("rate", &o.rate, 0, 1, "how fast");
  cli.Bool("stop", &o.stop, "stop early");
  cli.Bool("resume", &o.resume, "go on");
  cli.List("names", &o.names, "which");
  cli.Positional("WHAT", &o.what, "what to show");
  if (take_others) cli.Others(&o.others);
  arguments.insert(arguments.begin(), "demo");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  outcome.code = cli.Run(static_cast<int>(argv.size()), argv.data(), [&] {
    outcome.ran = true;
    return result;
  });
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

TEST(CommandLineTest, ReadsEveryKind) {
  const Outcome r = RunDemo({"--model=/m", "--task=repeat", "--tokens=7", "--rate", "0.25",
                             "--stop=false", "--resume", "--names=a,b*", "--name=n=1"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_TRUE(r.ran);
  EXPECT_EQ(r.options.model, "/m");
  EXPECT_EQ(r.options.task, "repeat");
  EXPECT_EQ(r.options.tokens, 7);
  EXPECT_EQ(r.options.rate, 0.25);
  EXPECT_FALSE(r.options.stop);
  EXPECT_TRUE(r.options.resume);
  EXPECT_EQ(r.options.names, (std::vector<std::string>{"a", "b*"}));
  EXPECT_EQ(r.options.name, "n=1");
  EXPECT_FALSE(RunDemo({"--model=m", "--nostop"}).options.stop);
  EXPECT_EQ(r.options.what, "");
  // A flag that needs no value takes none of the others'.
  const Outcome p = RunDemo({"--resume", "this", "--model=m"});
  EXPECT_EQ(p.options.what, "this") << p.err;
  EXPECT_TRUE(p.options.resume);
}

TEST(CommandLineTest, BadUsageIsOneLineAndExitCode2) {
  struct Case {
    std::vector<std::string> arguments;
    std::string message;
  };
  for (const Case& c : std::vector<Case>{
           {{"--model=m", "--tokns=7"}, "demo: no flag --tokns; did you mean 'tokens'?\n"},
           {{"--model=m", "--tokens=0"}, "demo: --tokens=0, expected an integer in [1, 1000]\n"},
           {{"--model=m", "--tokens=7x"}, "demo: --tokens=7x, expected an integer in [1, 1000]\n"},
           {{"--model=m", "--rate=nan"}, "demo: --rate=nan, expected a number in [0, 1]\n"},
           {{"--model=m", "--task=repaet"},
            "demo: --task=repaet, expected one of text, repeat; did you mean 'repeat'?\n"},
           {{"--model=m", "--stop=maybe"}, "demo: --stop=maybe, expected true or false\n"},
           {{"--model=m", "--threads=-1"},
            "demo: --threads=-1, expected an integer in [0, 1024]\n"},
           {{"--model=m", "this", "stray"}, "demo: unexpected argument 'stray'\n"},
           {{"--model="}, "demo: --model is empty\n"},
           {{"--tokens=7"},
            "demo: --model is required, as in: bazel run //tools:demo -- --model=DIR\n"}}) {
    const Outcome r = RunDemo(c.arguments);
    EXPECT_EQ(r.code, 2);
    EXPECT_FALSE(r.ran);
    EXPECT_EQ(r.err, c.message);
    EXPECT_EQ(r.out, "");
  }
}

TEST(CommandLineTest, TakesOtherPairsOnlyWhereAsked) {
  const Outcome r = RunDemo({"--model=m", "--d_model=64", "--lr=1e-3"}, true);
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.options.others,
            (std::vector<std::pair<std::string, std::string>>{{"d_model", "64"}, {"lr", "1e-3"}}));
  EXPECT_EQ(RunDemo({"--model=m", "--d_model=64"}).code, 2);
}

TEST(CommandLineTest, FailuresExitWith1InOneLine) {
  const Outcome failed = RunDemo({"--model=m"}, false, absl::NotFoundError("no file\n'x'"));
  EXPECT_EQ(failed.code, 1);
  EXPECT_EQ(failed.err, "demo: no file 'x'\n");
  EXPECT_EQ(RunDemo({"--model=m"}, false, UsageError("heads do not divide d_model")).code, 2);
}

TEST(CommandLineTest, HelpHasTheFlagsAndAnExample) {
  const Outcome r = RunDemo({"--help"});
  EXPECT_EQ(r.code, 0);
  EXPECT_FALSE(r.ran);
  for (const char* text : {"Shows flags.", "--model", "--tokens", "--seed", "--threads", "--json",
                           "bazel run //tools:demo -- --model=DIR"}) {
    EXPECT_NE(r.out.find(text), std::string::npos) << text << " in\n" << r.out;
  }
}

TEST(CommandLineTest, CudaSaysWhyNot) {
  const Outcome r = RunDemo({"--model=m", "--device=cuda"});
  EXPECT_EQ(r.code, 1);
  EXPECT_FALSE(r.ran);
  EXPECT_EQ(r.err.find("demo: --device=cuda: "), 0) << r.err;
  EXPECT_EQ(r.err.find('\n'), r.err.size() - 1) << r.err;
  EXPECT_EQ(RunDemo({"--model=m", "--device=tpu"}).code, 2);
}

TEST(CommandLineTest, SetsTheThreads) {
  const int before = NumThreads();
  RunDemo({"--model=m", "--threads=3"});
  EXPECT_EQ(NumThreads(), 3);
  SetNumThreads(before);
}

TEST(CommandLineTest, RelativePathsStartWhereTheUserStands) {
  setenv("BUILD_WORKING_DIRECTORY", "/home/me", 1);
  EXPECT_EQ(RunDemo({"--model=run/1"}).options.model, "/home/me/run/1");
  EXPECT_EQ(RunDemo({"--model=/run/1"}).options.model, "/run/1");
  unsetenv("BUILD_WORKING_DIRECTORY");
  EXPECT_EQ(RunDemo({"--model=run/1"}).options.model, "run/1");
}

}  // namespace
}  // namespace residual
