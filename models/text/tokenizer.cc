#include "models/text/tokenizer.h"

#include <sys/stat.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/checkpoint/config_reader.h"
#include "models/text/bpe/bpe_trainer.h"
#include "models/text/json_field.h"
#include "models/text/sentence_piece/sentence_piece.h"
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

// What tokenizer_config.json says of a BERT vocabulary; it may be missing.
absl::StatusOr<WordPieceFileOptions> ReadWordPieceOptions(const std::string& folder) {
  WordPieceFileOptions options;
  const std::string path = JoinPath(folder, "tokenizer_config.json");
  if (!IsFile(path)) return options;
  RESIDUAL_ASSIGN_OR_RETURN(const auto json, ReadJsonObject(path, kLargestFile));
  const JsonField config(json, path);
  RESIDUAL_ASSIGN_OR_RETURN(options.lowercase, config["do_lower_case"].Bool(true));
  RESIDUAL_ASSIGN_OR_RETURN(options.handle_chinese_chars,
                            config["tokenize_chinese_chars"].Bool(true));
  if (!config["strip_accents"].is_null()) {
    RESIDUAL_ASSIGN_OR_RETURN(options.strip_accents, config["strip_accents"].Bool());
  }
  return options;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadWordPiece(const std::string& folder,
                                                         const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(const WordPieceFileOptions options, ReadWordPieceOptions(folder));
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kLargestFile));
  return TokenizerFromWordPieceVocabulary(text, options, path);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadSentencePiece(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(std::string model, ReadFile(path, kLargestFile));
  return TokenizerFromSentencePiece(std::move(model), path);
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
    if (absl::EndsWith(folder_or_file, ".txt")) {
      const size_t slash = folder_or_file.rfind('/');
      return LoadWordPiece(slash == std::string::npos ? "." : folder_or_file.substr(0, slash),
                           folder_or_file);
    }
    if (absl::EndsWith(folder_or_file, ".model")) return LoadSentencePiece(folder_or_file);
    return LoadJson(folder_or_file);
  }
  const std::string json = JoinPath(folder_or_file, "tokenizer.json");
  if (IsFile(json)) return LoadJson(json);
  const std::string vocab = JoinPath(folder_or_file, "vocab.json");
  const std::string merges = JoinPath(folder_or_file, "merges.txt");
  if (IsFile(vocab) && IsFile(merges)) return LoadVocabAndMerges(vocab, merges);
  for (const char* name : {"spiece.model", "tokenizer.model", "sentencepiece.bpe.model"}) {
    const std::string path = JoinPath(folder_or_file, name);
    if (IsFile(path)) return LoadSentencePiece(path);
  }
  const std::string words = JoinPath(folder_or_file, "vocab.txt");
  if (IsFile(words)) return LoadWordPiece(folder_or_file, words);
  return absl::NotFoundError(
      absl::StrCat(folder_or_file,
                   ": no tokenizer, expected tokenizer.json, or vocab.json and merges.txt, or "
                   "spiece.model, or vocab.txt"));
}

}  // namespace residual
