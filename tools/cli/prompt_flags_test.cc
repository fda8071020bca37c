#include "tools/cli/prompt_flags.h"

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using Prompts = std::vector<std::vector<int64_t>>;

// What the flags say with a byte tokenizer (or none), or the error.
struct Outcome {
  Prompts prompts;
  std::string error;
  int code = 0;
};

Outcome Parse(std::vector<std::string> arguments, bool with_tokenizer = true) {
  CommandLine cli("demo", "Shows flags.", "");
  PromptFlags flags(cli);
  arguments.insert(arguments.begin(), "demo");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  Outcome outcome;
  const std::unique_ptr<Tokenizer> bytes = MakeByteTokenizer();
  testing::internal::CaptureStderr();
  outcome.code = cli.Run(static_cast<int>(argv.size()), argv.data(), [&]() -> absl::Status {
    if (absl::Status status = flags.Check(); !status.ok()) return status;
    auto prompts = flags.Read(with_tokenizer ? bytes.get() : nullptr, "folder");
    if (prompts.ok()) outcome.prompts = *prompts;
    return prompts.status();
  });
  outcome.error = testing::internal::GetCapturedStderr();
  return outcome;
}

std::string File(const std::string& text) {
  const std::string path = testing::TempDir() + "/prompts.jsonl";
  EXPECT_TRUE(WriteFileAtomically(path, text).ok());
  return path;
}

TEST(PromptFlagsTest, ReadsEachForm) {
  EXPECT_EQ(Parse({"--prompt=hi"}).prompts, (Prompts{{104, 105}}));
  EXPECT_EQ(Parse({"--tokens=3,1,2"}, false).prompts, (Prompts{{3, 1, 2}}));
  EXPECT_EQ(Parse({"--prompts=" + File("\"hi\"\n[7, 8]\n\n\"\\u00e9\"\n")}).prompts,
            (Prompts{{104, 105}, {7, 8}, {0xC3, 0xA9}}));
  EXPECT_EQ(Parse({"--prompts=" + File("[1]")}, false).prompts, (Prompts{{1}}));
}

TEST(PromptFlagsTest, ExactlyOne) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"--prompt", ""},
                                                    {"--prompt=", "--seed=3"},  // which is no value
                                                    {"--tokens=,"},
                                                    {"--tokens=", "--seed=3"}}) {
    const Outcome none = Parse(arguments);
    EXPECT_EQ(none.code, 2);
    EXPECT_TRUE(none.prompts.empty());
  }
  EXPECT_EQ(
      Parse({}).error,
      "demo: expected one of --prompt, --tokens and --prompts, found none, or an empty one\n");
  const Outcome both = Parse({"--prompt=a", "--tokens=1"});
  EXPECT_EQ(both.code, 2);
  EXPECT_EQ(both.error, "demo: expected one of --prompt, --tokens and --prompts, found several\n");
}

TEST(PromptFlagsTest, SaysWhatIsWrong) {
  EXPECT_EQ(Parse({"--tokens=1,x"}).error, "demo: --tokens: 'x', expected an integer\n");
  EXPECT_EQ(Parse({"--tokens=1,x"}).code, 2);
  EXPECT_EQ(Parse({"--prompt=a"}, false).error,
            "demo: folder: no tokenizer to read a text with; give token ids with --tokens\n");
  EXPECT_EQ(Parse({"--prompt=a"}, false).code, 1);
  for (const char* line : {"{\"a\": 1}", "[1, \"2\"]", "[1.5]", "7", "hello", "[1"}) {
    const std::string path = File(std::string("[1]\n") + line + "\n");
    EXPECT_EQ(Parse({"--prompts=" + path}).error,
              "demo: " + path + ": line 2: expected a JSON string or a list of ids\n");
  }
  const std::string empty = File("\n");
  EXPECT_EQ(Parse({"--prompts=" + empty}).error,
            "demo: " + empty + ": holds no prompt, expected one per line\n");
  EXPECT_EQ(Parse({"--prompts=/no/such/file"}).code, 1);
}

}  // namespace
}  // namespace residual
