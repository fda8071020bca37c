#include "models/text/tokenizer_json.h"

#include <algorithm>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "models/checkpoint/config_reader.h"
#include "models/text/bpe/bpe.h"
#include "models/text/bpe/byte_level.h"
#include "models/text/json_field.h"
#include "models/text/json_prepare.h"
#include "models/text/pipeline.h"
#include "models/text/prepare/unicode.h"
#include "models/text/special/post_processor.h"
#include "models/text/words/unigram.h"
#include "models/text/words/word_piece.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using Json = nlohmann::json;

// Reads one tokenizer.json.
class Reader {
 public:
  explicit Reader(const JsonField& root) : root_(root) {}

  absl::StatusOr<PipelineParts> Read() {
    PipelineParts parts;
    const std::string type = ModelType();
    if (type.empty()) {
      return root_["model"]["type"].Bad("BPE, WordPiece, WordLevel or Unigram");
    }
    RESIDUAL_ASSIGN_OR_RETURN(parts.normalizer, ReadNormalizer(root_["normalizer"]));
    RESIDUAL_ASSIGN_OR_RETURN(PreTokenizerParts pre, ReadPreTokenizer(root_["pre_tokenizer"]));
    parts.pre_tokenizer = std::move(pre.pre_tokenizer);
    parts.knows_start = pre.knows_start;
    byte_level_ = pre.byte_level;
    RESIDUAL_RETURN_IF_ERROR(ReadDecoderInto(&parts));
    if (type == "BPE") RESIDUAL_RETURN_IF_ERROR(ReadBpe(&parts));
    if (type == "WordPiece") RESIDUAL_RETURN_IF_ERROR(ReadWordPiece(&parts));
    if (type == "WordLevel") RESIDUAL_RETURN_IF_ERROR(ReadWordLevel(&parts));
    if (type == "Unigram") RESIDUAL_RETURN_IF_ERROR(ReadUnigram(&parts));
    RESIDUAL_RETURN_IF_ERROR(ReadAddedTokens(&parts));
    RESIDUAL_RETURN_IF_ERROR(MakeVocabulary(&parts));
    RESIDUAL_ASSIGN_OR_RETURN(
        parts.special_tokens,
        ReadPostProcessor(root_["post_processor"], static_cast<int64_t>(parts.vocabulary.size())));
    return parts;
  }

 private:
  // Older files do not name it: merges are BPE's, a list of pieces is Unigram's.
  std::string ModelType() const {
    const JsonField model = root_["model"];
    if (model["type"].is_null()) {
      if (model["merges"].value().is_array()) return "BPE";
      if (model["vocab"].value().is_array()) return "Unigram";
      return "";
    }
    for (const char* known : {"BPE", "WordPiece", "WordLevel", "Unigram"}) {
      if (model.type() == known) return known;
    }
    return "";
  }

  absl::Status ReadDecoderInto(PipelineParts* parts) const {
    const JsonField field = root_["decoder"];
    RESIDUAL_ASSIGN_OR_RETURN(parts->decoder, ReadDecoder(field));
    if (byte_level_ != (parts->decoder == nullptr)) {
      return field.Bad(byte_level_ ? "one of type ByteLevel, as the pre-tokenizer is"
                                   : "one of another type, as the pre-tokenizer is not ByteLevel");
    }
    return absl::OkStatus();
  }

  absl::Status ReadBpe(PipelineParts* parts) {
    const JsonField model = root_["model"];
    const JsonField dropout = model["dropout"];
    if (!dropout.is_null() && dropout.value() != 0) return dropout.Bad("null");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const JsonField field = model[name];
      if (!field.is_null() && field.value() != "") return field.Bad("null");
    }
    RESIDUAL_RETURN_IF_ERROR(ReadVocabulary(model["vocab"]));

    BpeOptions options;
    options.bytes = byte_level_;
    RESIDUAL_ASSIGN_OR_RETURN(options.fuse_unk, model["fuse_unk"].Bool(false));
    RESIDUAL_ASSIGN_OR_RETURN(options.byte_fallback, model["byte_fallback"].Bool(false));
    RESIDUAL_ASSIGN_OR_RETURN(options.ignore_merges, model["ignore_merges"].Bool(false));
    if (!model["unk_token"].is_null()) {
      RESIDUAL_ASSIGN_OR_RETURN(options.unk, ReadToken(model["unk_token"]));
    }
    RESIDUAL_ASSIGN_OR_RETURN(const std::vector<BpeMerge> merges, ReadMerges(model["merges"]));
    if (root_["pre_tokenizer"].is_null() && !options.ignore_merges && WordsStayApart(merges)) {
      parts->pre_tokenizer = MakeSplitBeforeRuns("\u2581");
    }
    TokenIds of_bytes;
    for (const auto& [written, id] : ids_) {
      // Byte-level text never holds the other tokens: they can only be added ones.
      const std::optional<std::string> bytes =
          byte_level_ ? PrintableToBytes(written) : std::optional<std::string>(written);
      if (bytes) of_bytes.emplace(*bytes, id);
    }
    parts->model = MakeBpe(std::move(of_bytes), merges, options);
    return absl::OkStatus();
  }

  // Whether U+2581, which stands for a space, is a token, and no merge joins something else to one
  // that follows. A text cut there gives the same tokens, sooner: most words occurred before.
  bool WordsStayApart(const std::vector<BpeMerge>& merges) const {
    const std::string space = "\u2581";
    return ids_.contains(space) &&
           std::all_of(merges.begin(), merges.end(), [&](const BpeMerge& merge) {
             const std::string& token = token_of_id_.find(merge.result)->second;
             size_t at = 0;
             while (token.compare(at, space.size(), space) == 0) at += space.size();
             return token.find(space, at) == std::string::npos;
           });
  }

  absl::Status ReadWordPiece(PipelineParts* parts) {
    const JsonField model = root_["model"];
    RESIDUAL_RETURN_IF_ERROR(ReadVocabulary(model["vocab"]));
    WordPieceOptions options;
    RESIDUAL_ASSIGN_OR_RETURN(options.unk, ReadToken(model["unk_token"]));
    if (!model["continuing_subword_prefix"].is_null()) {
      RESIDUAL_ASSIGN_OR_RETURN(options.prefix, model["continuing_subword_prefix"].String());
    }
    if (!model["max_input_chars_per_word"].is_null()) {
      RESIDUAL_ASSIGN_OR_RETURN(options.max_characters,
                                model["max_input_chars_per_word"].Int(1, int64_t{1} << 32));
    }
    word_prefix_ = options.prefix;
    parts->model = MakeWordPiece(ids_, options);
    return absl::OkStatus();
  }

  absl::Status ReadWordLevel(PipelineParts* parts) {
    const JsonField model = root_["model"];
    RESIDUAL_RETURN_IF_ERROR(ReadVocabulary(model["vocab"]));
    RESIDUAL_ASSIGN_OR_RETURN(const std::string unk, model["unk_token"].String());
    const auto it = ids_.find(unk);
    parts->model = MakeWordLevel(ids_, it == ids_.end() ? -1 : it->second);
    return absl::OkStatus();
  }

  absl::Status ReadUnigram(PipelineParts* parts) {
    const JsonField model = root_["model"], list = model["vocab"];
    if (!list.value().is_array()) return list.Bad("a list of tokens and their log-probabilities");
    std::vector<UnigramToken> tokens;
    tokens.reserve(list.value().size());
    for (size_t i = 0; i < list.value().size(); ++i) {
      const Json& pair = list.value()[i];
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_number()) {
        return list[i].Bad("a token and its log-probability");
      }
      tokens.push_back({pair[0].get<std::string>(), pair[1].get<double>()});
      ids_.emplace(tokens.back().text, static_cast<int32_t>(i));
      token_of_id_.emplace(static_cast<int32_t>(i), tokens.back().text);
    }
    UnigramOptions options;
    if (!model["unk_id"].is_null()) {
      RESIDUAL_ASSIGN_OR_RETURN(const int64_t unk,
                                model["unk_id"].Int(0, static_cast<int64_t>(tokens.size()) - 1));
      options.unk = static_cast<int32_t>(unk);
    }
    RESIDUAL_ASSIGN_OR_RETURN(options.byte_fallback, model["byte_fallback"].Bool(false));
    parts->model = MakeUnigram(tokens, options);
    return absl::OkStatus();
  }

  // The id of a token that a field names.
  absl::StatusOr<int32_t> ReadToken(const JsonField& field) const {
    const auto it = field.value().is_string()
                        ? ids_.find(field.value().get_ref<const std::string&>())
                        : ids_.end();
    if (it == ids_.end()) return field.Bad("a token of the vocabulary");
    return it->second;
  }

  absl::Status ReadVocabulary(const JsonField& vocab) {
    if (!vocab.value().is_object()) return vocab.Bad("an object of tokens and their ids");
    ids_.reserve(vocab.value().size());
    token_of_id_.reserve(vocab.value().size());
    for (const auto& [token, value] : vocab.value().items()) {
      if (!value.is_number_integer() || value < 0 || value > kLargestId) {
        return vocab[token].Bad(kIdRange);
      }
      const int32_t id = value.get<int32_t>();
      ids_.emplace(token, id);
      const auto [other, is_new] = token_of_id_.emplace(id, token);
      if (!is_new) {
        return vocab[token].Bad(absl::StrCat("an id other than that of '", other->second, "'"));
      }
    }
    return absl::OkStatus();
  }

  // ["a", "b"], or "a b" in older files.
  absl::StatusOr<std::vector<BpeMerge>> ReadMerges(const JsonField& list) const {
    if (!list.value().is_array()) return list.Bad("a list of pairs of tokens");
    std::vector<BpeMerge> merges;
    merges.reserve(list.value().size());
    for (size_t i = 0; i < list.value().size(); ++i) {
      const Json& item = list.value()[i];
      std::vector<std::string> pair;
      if (item.is_string()) {
        pair = absl::StrSplit(item.get_ref<const std::string&>(), ' ');
      } else if (item.is_array()) {
        for (const Json& token : item) {
          if (!token.is_string()) return list[i].Bad("two tokens");
          pair.push_back(token.get<std::string>());
        }
      }
      if (pair.size() != 2) return list[i].Bad("two tokens");
      const auto left = ids_.find(pair[0]), right = ids_.find(pair[1]),
                 result = ids_.find(pair[0] + pair[1]);
      if (left == ids_.end() || right == ids_.end() || result == ids_.end()) {
        return list[i].Bad("two tokens of the vocabulary, and both together one");
      }
      merges.push_back({left->second, right->second, result->second});
    }
    return merges;
  }

  absl::Status ReadAddedTokens(PipelineParts* parts) const {
    const JsonField list = root_["added_tokens"];
    if (list.is_null()) return absl::OkStatus();
    if (!list.value().is_array()) return list.Bad("a list");
    for (size_t i = 0; i < list.value().size(); ++i) {
      const JsonField field = list[i];
      AddedToken token;
      RESIDUAL_ASSIGN_OR_RETURN(token.content, field["content"].String());
      RESIDUAL_ASSIGN_OR_RETURN(const int64_t id, field["id"].Int(0, kLargestId));
      token.id = static_cast<int32_t>(id);
      RESIDUAL_ASSIGN_OR_RETURN(token.special, field["special"].Bool(false));
      RESIDUAL_ASSIGN_OR_RETURN(token.single_word, field["single_word"].Bool(false));
      RESIDUAL_ASSIGN_OR_RETURN(token.left_strip, field["lstrip"].Bool(false));
      RESIDUAL_ASSIGN_OR_RETURN(token.right_strip, field["rstrip"].Bool(false));
      RESIDUAL_ASSIGN_OR_RETURN(token.normalized, field["normalized"].Bool(!token.special));
      if (token.content.empty()) continue;  // found nowhere
      const auto in_vocabulary = ids_.find(token.content);
      if (in_vocabulary != ids_.end() && in_vocabulary->second != token.id) {
        return field["id"].Bad(absl::StrCat(in_vocabulary->second, " as in model.vocab"));
      }
      const auto other = token_of_id_.find(token.id);
      if (other != token_of_id_.end() && other->second != token.content) {
        return field["id"].Bad(absl::StrCat("an id other than that of '", other->second, "'"));
      }
      parts->added.push_back(std::move(token));
    }
    return absl::OkStatus();
  }

  absl::Status MakeVocabulary(PipelineParts* parts) const {
    int64_t largest = -1;
    for (const auto& [id, token] : token_of_id_) largest = std::max<int64_t>(largest, id);
    for (const AddedToken& token : parts->added) largest = std::max<int64_t>(largest, token.id);
    const int64_t tokens = static_cast<int64_t>(token_of_id_.size() + parts->added.size());
    if (largest > 2 * tokens + 65536) {
      return root_["model"]["vocab"].Bad(
          absl::StrCat("sparse: ", tokens, " tokens, largest id ", largest), "ids from 0 on");
    }
    parts->vocabulary.resize(largest + 1);
    for (const auto& [id, token] : token_of_id_) {
      VocabularyEntry& entry = parts->vocabulary[id];
      entry.exists = true;
      entry.text = BytesOf(token);
      if (parts->decoder) entry.written = token;
    }
    for (const AddedToken& token : parts->added) {
      VocabularyEntry& entry = parts->vocabulary[token.id];
      entry.exists = true;
      entry.text = token.content;
      entry.special = token.special;
      if (parts->decoder) entry.written = token.content;
    }
    return absl::OkStatus();
  }

  // What a token of the file stands for wherever it stands.
  std::string BytesOf(const std::string& written) const {
    if (byte_level_) return PrintableToBytes(written).value_or(written);
    const int byte = ByteOfToken(written);
    if (byte >= 0) return std::string(1, static_cast<char>(byte));
    if (!word_prefix_.empty() && absl::StartsWith(written, word_prefix_)) {
      return written.substr(word_prefix_.size());
    }
    return absl::StrReplaceAll(written, {{"\u2581", " "}});
  }

  static constexpr int32_t kLargestId = 2147483646;  // one more is vocab_size()
  static constexpr char kIdRange[] = "an integer in [0, 2147483646]";

  const JsonField root_;
  bool byte_level_ = false;
  std::string word_prefix_;                                // of WordPiece
  absl::flat_hash_map<std::string, int32_t> ids_;          // of tokens as the file writes them
  absl::flat_hash_map<int32_t, std::string> token_of_id_;  // and back
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromJson(std::string json,
                                                             const std::string& source) {
  RESIDUAL_ASSIGN_OR_RETURN(const Json root, ParseJsonObject(json, source));
  RESIDUAL_ASSIGN_OR_RETURN(PipelineParts parts, Reader(JsonField(root, source)).Read());
  parts.json = std::move(json);
  return MakePipeline(std::move(parts));
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromVocabAndMerges(
    const Json& vocab, absl::string_view merges, const std::string& vocab_source,
    const std::string& merges_source) {
  Json pairs = Json::array();
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(merges, '\n')) {
    ++number;
    line = absl::StripSuffix(line, "\r");
    if (line.empty() || absl::StartsWith(line, "#version")) continue;
    const std::vector<std::string> pair = absl::StrSplit(line, ' ');
    const bool known = pair.size() == 2 && vocab.contains(pair[0]) && vocab.contains(pair[1]) &&
                       vocab.contains(pair[0] + pair[1]);
    if (!known) {
      return absl::InvalidArgumentError(
          absl::StrCat(merges_source, ": line ", number, " is ", ShortJson(std::string(line)),
                       ", expected two tokens of ", vocab_source, ", and both together one"));
    }
    pairs.push_back(pair);
  }
  Json root = Json::parse(ByteLevelBpeJson({}, {}));
  root["model"]["vocab"] = vocab;
  root["model"]["merges"] = std::move(pairs);
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
  return TokenizerFromJson(root.dump(2), vocab_source);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromWordPieceVocabulary(
    absl::string_view vocabulary, const WordPieceFileOptions& options, const std::string& source) {
  Json vocab = Json::object(), added = Json::array();
  int32_t id = 0;
  if (ReplaceInvalid(vocabulary) != vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": holds bytes that are no UTF-8"));
  }
  std::vector<absl::string_view> lines = absl::StrSplit(vocabulary, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  for (absl::string_view line : lines) {
    const std::string token(absl::StripSuffix(line, "\r"));
    if (!vocab.emplace(token, id).second) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": line ", id + 1, " is ",
                                                     ShortJson(token),
                                                     ", expected a token not named before"));
    }
    for (const char* special : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
      if (token == special) {
        added.push_back({{"id", id}, {"content", token}, {"special", true}});
      }
    }
    ++id;
  }
  if (!vocab.contains("[UNK]")) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": has no line [UNK], expected a WordPiece vocabulary"));
  }
  Json strip_accents;
  if (options.strip_accents) strip_accents = *options.strip_accents;
  const Json root = {{"version", "1.0"},
                     {"added_tokens", added},
                     {"normalizer",
                      {{"type", "BertNormalizer"},
                       {"clean_text", true},
                       {"handle_chinese_chars", options.handle_chinese_chars},
                       {"strip_accents", strip_accents},
                       {"lowercase", options.lowercase}}},
                     {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
                     {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
                     {"model",
                      {{"type", "WordPiece"},
                       {"unk_token", "[UNK]"},
                       {"continuing_subword_prefix", "##"},
                       {"max_input_chars_per_word", 100},
                       {"vocab", vocab}}}};
  return TokenizerFromJson(root.dump(2), source);
}

std::string ByteLevelBpeJson(const std::vector<std::string>& tokens,
                             const std::vector<std::pair<int32_t, int32_t>>& merges) {
  using Ordered = nlohmann::ordered_json;
  std::vector<std::string> printable;
  for (const std::string& token : tokens) printable.push_back(BytesToPrintable(token));
  auto byte_level = [](bool trim_offsets) {
    return Ordered{{"type", "ByteLevel"},
                   {"add_prefix_space", false},
                   {"trim_offsets", trim_offsets},
                   {"use_regex", true}};
  };
  Ordered vocab = Ordered::object();
  // push_back without the search for an equal key that operator[] of an ordered object makes.
  auto& entries = vocab.get_ref<Ordered::object_t&>();
  entries.reserve(tokens.size());
  for (size_t id = 0; id < tokens.size(); ++id) entries.push_back({printable[id], id});
  Ordered pairs = Ordered::array();
  for (const auto& [left, right] : merges) {
    pairs.push_back(Ordered::array({printable[left], printable[right]}));
  }
  const Ordered root = {{"version", "1.0"},
                        {"truncation", nullptr},
                        {"padding", nullptr},
                        {"added_tokens", Ordered::array()},
                        {"normalizer", nullptr},
                        {"pre_tokenizer", byte_level(true)},
                        {"post_processor", byte_level(false)},
                        {"decoder", byte_level(true)},
                        {"model",
                         {{"type", "BPE"},
                          {"dropout", nullptr},
                          {"unk_token", nullptr},
                          {"continuing_subword_prefix", nullptr},
                          {"end_of_word_suffix", nullptr},
                          {"fuse_unk", false},
                          {"byte_fallback", false},
                          {"ignore_merges", false},
                          {"vocab", vocab},
                          {"merges", pairs}}}};
  return root.dump(2);
}

}  // namespace residual
