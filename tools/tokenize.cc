// tokenize: texts to token ids and back, a line each.

#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "models/text/prepare/unicode.h"
#include "models/text/tokenizer.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"

namespace residual {
namespace {

using Json = nlohmann::json;

absl::Status BadLine(int64_t number, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("line ", number, " of the input: expected ", expected));
}

absl::StatusOr<Json> EncodeLine(const Tokenizer& tokenizer, const Json& line, int64_t number,
                                bool add_special) {
  if (!line.is_string()) return BadLine(number, "a JSON string, such as \"the cat\"");
  const std::string& text = line.get_ref<const std::string&>();
  return Json(add_special ? tokenizer.EncodeForModel(text) : tokenizer.Encode(text));
}

absl::StatusOr<Json> DecodeLine(const Tokenizer& tokenizer, const Json& line, int64_t number,
                                bool skip_special) {
  if (!line.is_array()) return BadLine(number, "a list of ids, such as [1, 2]");
  std::vector<int32_t> ids;
  for (const Json& id : line) {
    if (!id.is_number_integer() || id < 0 || id >= tokenizer.vocab_size()) {
      return BadLine(number, absl::StrCat("ids from 0 to ", tokenizer.vocab_size() - 1));
    }
    ids.push_back(id.get<int32_t>());
    if (skip_special && tokenizer.IsSpecial(ids.back())) ids.pop_back();
  }
  return Json(ReplaceInvalid(tokenizer.Decode(ids)));
}

absl::Status Tokenize(const std::string& path, bool decode, bool skip_special, bool add_special) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, LoadTokenizer(path));
  std::string text;
  for (int64_t number = 1; std::getline(std::cin, text); ++number) {
    const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    RESIDUAL_ASSIGN_OR_RETURN(const Json result,
                              decode ? DecodeLine(*tokenizer, line, number, skip_special)
                                     : EncodeLine(*tokenizer, line, number, add_special));
    // In ASCII: some readers take U+2028 for the end of a line.
    std::cout << result.dump(-1, ' ', /*ensure_ascii=*/true) << '\n';
  }
  std::cout.flush();
  if (!std::cout) return absl::UnavailableError("cannot write to stdout");
  return absl::OkStatus();
}

absl::Status Learn(const CommandLine& cli, const std::string& text_path, int64_t vocab_size,
                   const std::string& folder) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(text_path));
  if (text.empty()) {
    return absl::InvalidArgumentError(text_path + ": is empty, expected a text to learn from");
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, TrainBpe(text, vocab_size));
  RESIDUAL_RETURN_IF_ERROR(MakeFolders(folder));
  RESIDUAL_RETURN_IF_ERROR(tokenizer->Save(folder));
  const std::string path = JoinPath(folder, "tokenizer.json");
  if (cli.json()) {
    std::cout << Json{{"vocab_size", tokenizer->vocab_size()}, {"tokenizer", path}}.dump() << '\n';
  } else {
    std::cout << "Wrote " << path << " with " << tokenizer->vocab_size() << " tokens.\n";
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "tokenize",
      "Turns texts into token ids, or ids into texts: reads one JSON value per line from stdin (a "
      "string; with --decode a list of ids) and writes one per line to stdout, with --json or "
      "without. Bytes that are no UTF-8 are written as "
      "U+FFFD. With --learn it makes a tokenizer from a text instead.",
      "--tokenizer=models/gpt2 <<< '\"Hello world\"'");
  std::string tokenizer, learn;
  bool decode = false, skip_special = false, add_special = false;
  int64_t vocab_size = 1024;
  cli.Path("tokenizer", &tokenizer,
           "folder with tokenizer.json, vocab.json and merges.txt, spiece.model or vocab.txt; or "
           "such "
           "a file")
      .Required();
  cli.Bool("decode", &decode, "ids to texts");
  cli.Bool("skip_special_tokens", &skip_special, "leave special tokens out of decoded texts");
  cli.Bool("add_special_tokens", &add_special,
           "put around texts what a model reads them with, as tokenizer.json says: <s>, [CLS]");
  cli.Path("learn", &learn,
           "learn a byte-level byte-pair encoding from this text and write tokenizer.json into the "
           "folder --tokenizer");
  cli.Int("vocab_size", &vocab_size, 256, 1 << 20,
          "with --learn: tokens, the 256 bytes among them (fewer where no pair occurs twice)");
  return cli.Run(argc, argv, [&]() -> absl::Status {
    if (!learn.empty() && decode) {
      return residual::UsageError("--learn and --decode exclude each other");
    }
    if (add_special && (decode || !learn.empty())) {
      return residual::UsageError("--add_special_tokens goes with texts to encode");
    }
    return learn.empty() ? residual::Tokenize(tokenizer, decode, skip_special, add_special)
                         : residual::Learn(cli, learn, vocab_size, tokenizer);
  });
}
