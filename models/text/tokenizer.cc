#include "models/text/tokenizer.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "models/checkpoint/config_reader.h"
#include "models/text/bpe_trainer.h"
#include "models/text/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

// No tokenizer is larger; a hostile file is not read into memory.
constexpr size_t kLargestFile = size_t{256} << 20;

bool IsFile(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && !S_ISDIR(status.st_mode);
}

bool IsFolder(const std::string& path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// GPT-2's two files as a tokenizer.json.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabAndMerges(const std::string& vocab_path,
                                                              const std::string& merges_path) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string merges_text, ReadFile(merges_path, kLargestFile));
  nlohmann::json root = nlohmann::json::parse(ByteLevelBpeJson({}, {}));
  nlohmann::json& vocab = root["model"]["vocab"];
  RESIDUAL_ASSIGN_OR_RETURN(vocab, ReadJsonObject(vocab_path, kLargestFile));
  nlohmann::json merges = nlohmann::json::array();
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(merges_text, '\n')) {
    ++number;
    line = absl::StripSuffix(line, "\r");
    if (line.empty() || absl::StartsWith(line, "#version")) continue;
    const std::vector<std::string> pair = absl::StrSplit(line, ' ');
    if (pair.size() != 2) {
      return absl::InvalidArgumentError(absl::StrCat(merges_path, ": line ", number, " has ",
                                                     pair.size(), " parts, expected two tokens"));
    }
    merges.push_back(pair);
  }
  root["model"]["merges"] = std::move(merges);
  // The end of a document is no text: GPT-2 knows it by name, as its two files cannot say so.
  const char* const end_of_text = "<|endoftext|>";
  if (vocab.contains(end_of_text)) {
    root["added_tokens"].push_back({{"id", vocab[end_of_text]},
                                    {"content", end_of_text},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", true}});
  }
  return TokenizerFromJson(root.dump(2, ' ', false, nlohmann::json::error_handler_t::replace),
                           absl::StrCat(vocab_path, " and merges.txt"));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadJson(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kLargestFile));
  return TokenizerFromJson(std::move(text), path);
}

std::unique_ptr<Tokenizer> FromOurs(const std::vector<std::string>& tokens,
                                    const std::vector<std::pair<int32_t, int32_t>>& merges) {
  auto tokenizer = TokenizerFromJson(ByteLevelBpeJson(tokens, merges), "tokenizer.json");
  RESIDUAL_CHECK(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

}  // namespace

std::unique_ptr<Tokenizer> MakeByteTokenizer() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(std::string(1, static_cast<char>(byte)));
  return FromOurs(tokens, {});
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TrainBpe(absl::string_view text, int64_t vocab_size) {
  constexpr int64_t kLargest = int64_t{1} << 20;
  if (vocab_size < 256 || vocab_size > kLargest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a vocabulary of ", vocab_size, " tokens, expected 256 (the bytes) to ", kLargest));
  }
  if (text.size() >= size_t{1} << 31) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a text of ", text.size(), " bytes to learn tokens from, expected fewer than 2^31"));
  }
  const LearnedBpe learned = LearnBpe(text, vocab_size);
  return FromOurs(learned.tokens, learned.merges);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder_or_file) {
  if (!IsFolder(folder_or_file)) {
    if (absl::EndsWith(folder_or_file, "vocab.json")) {
      const std::string folder =
          folder_or_file.substr(0, folder_or_file.size() - absl::string_view("vocab.json").size());
      return LoadVocabAndMerges(folder_or_file, folder + "merges.txt");
    }
    return LoadJson(folder_or_file);
  }
  const std::string json = JoinPath(folder_or_file, "tokenizer.json");
  if (IsFile(json)) return LoadJson(json);
  const std::string vocab = JoinPath(folder_or_file, "vocab.json");
  const std::string merges = JoinPath(folder_or_file, "merges.txt");
  if (IsFile(vocab) && IsFile(merges)) return LoadVocabAndMerges(vocab, merges);
  return absl::NotFoundError(absl::StrCat(
      folder_or_file, ": no tokenizer, expected tokenizer.json, or vocab.json and merges.txt"));
}

}  // namespace residual
