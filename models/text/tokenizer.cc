#include "models/text/tokenizer.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint/config_reader.h"
#include "models/text/bpe/bpe_trainer.h"
#include "models/text/tokenizer_json.h"
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

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadVocabAndMerges(const std::string& vocab_path,
                                                              const std::string& merges_path) {
  RESIDUAL_ASSIGN_OR_RETURN(const auto vocab, ReadJsonObject(vocab_path, kLargestFile));
  RESIDUAL_ASSIGN_OR_RETURN(const std::string merges, ReadFile(merges_path, kLargestFile));
  return TokenizerFromVocabAndMerges(vocab, merges, vocab_path, merges_path);
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
