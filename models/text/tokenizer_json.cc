#include "models/text/tokenizer_json.h"

#include <algorithm>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "models/checkpoint/config_reader.h"
#include "models/text/bpe/bpe.h"
#include "models/text/bpe/byte_level.h"
#include "models/text/pipeline.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using Json = nlohmann::json;

// Reads one tokenizer.json; every error names the file and the field.
class Reader {
 public:
  explicit Reader(const std::string& source) : source_(source) {}

  absl::StatusOr<std::unique_ptr<Tokenizer>> Read(std::string text) {
    RESIDUAL_ASSIGN_OR_RETURN(const Json root, ParseJsonObject(text, source_));
    PipelineParts parts;
    RESIDUAL_RETURN_IF_ERROR(CheckModelType(Field(root, "model")));
    RESIDUAL_ASSIGN_OR_RETURN(parts.normalizer, ReadNormalizer(root, "normalizer"));
    RESIDUAL_RETURN_IF_ERROR(ReadPreTokenizer(Field(root, "pre_tokenizer"), &parts));
    RESIDUAL_RETURN_IF_ERROR(CheckDecoder(Field(root, "decoder")));
    RESIDUAL_RETURN_IF_ERROR(ReadBpe(Field(root, "model"), &parts));
    RESIDUAL_RETURN_IF_ERROR(ReadAddedTokens(Field(root, "added_tokens"), &parts));
    RESIDUAL_RETURN_IF_ERROR(MakeVocabulary(&parts));
    parts.json = std::move(text);
    return MakePipeline(std::move(parts));
  }

 private:
  absl::Status Bad(absl::string_view field, absl::string_view found,
                   absl::string_view expected) const {
    return absl::InvalidArgumentError(
        absl::StrCat(source_, ": '", field, "' is ", found, ", expected ", expected));
  }
  absl::Status BadValue(absl::string_view field, const Json& found,
                        absl::string_view expected) const {
    return Bad(field, ShortJson(found), expected);
  }

  static const Json& Field(const Json& object, const char* name) {
    static const Json* null = new Json;
    auto it = object.is_object() ? object.find(name) : object.end();
    return it == object.end() ? *null : *it;
  }

  // An optional true or false.
  absl::StatusOr<bool> Flag(const Json& object, const std::string& path, const char* name,
                            bool otherwise) const {
    const Json& value = Field(object, name);
    if (value.is_null()) return otherwise;
    if (!value.is_boolean()) return BadValue(absl::StrCat(path, ".", name), value, "true or false");
    return value.get<bool>();
  }

  absl::StatusOr<std::unique_ptr<Normalizer>> ReadNormalizer(const Json& parent,
                                                             const char* name) const {
    return ReadOneNormalizer(Field(parent, name), name, 0);
  }

  absl::StatusOr<std::unique_ptr<Normalizer>> ReadOneNormalizer(const Json& value,
                                                                const std::string& path,
                                                                int depth) const {
    if (value.is_null() && depth == 0) return std::unique_ptr<Normalizer>();
    const Json& type = Field(value, "type");
    if (type == "NFC") return MakeNormalForm(NormalForm::kC);
    if (type == "NFD") return MakeNormalForm(NormalForm::kD);
    if (type == "NFKC") return MakeNormalForm(NormalForm::kKC);
    if (type == "NFKD") return MakeNormalForm(NormalForm::kKD);
    const Json& members = Field(value, "normalizers");
    if (type == "Sequence" && members.is_array() && depth == 0) {
      std::vector<std::unique_ptr<Normalizer>> sequence;
      for (size_t i = 0; i < members.size(); ++i) {
        RESIDUAL_ASSIGN_OR_RETURN(
            sequence.emplace_back(),
            ReadOneNormalizer(members[i], absl::StrCat(path, ".normalizers[", i, "]"), 1));
      }
      return MakeNormalizerSequence(std::move(sequence));
    }
    return BadValue(path, value,
                    "null, or one of type NFC, NFD, NFKC, NFKD, or a Sequence of those");
  }

  absl::Status ReadPreTokenizer(const Json& value, PipelineParts* parts) {
    if (value.is_null()) {
      parts->pre_tokenizer = MakeWholeText();
      return absl::OkStatus();
    }
    if (Field(value, "type") != "ByteLevel") {
      return BadValue("pre_tokenizer", value, "null or one of type ByteLevel");
    }
    byte_level_ = true;
    RESIDUAL_ASSIGN_OR_RETURN(parts->add_prefix_space,
                              Flag(value, "pre_tokenizer", "add_prefix_space", true));
    RESIDUAL_ASSIGN_OR_RETURN(const bool pattern, Flag(value, "pre_tokenizer", "use_regex", true));
    parts->pre_tokenizer = pattern ? MakeGpt2Pattern() : MakeWholeText();
    return absl::OkStatus();
  }

  absl::Status CheckDecoder(const Json& value) const {
    const char* expected = byte_level_ ? "ByteLevel" : "Fuse";
    if (Field(value, "type") == expected) return absl::OkStatus();
    return BadValue("decoder", value, absl::StrCat("one of type ", expected));
  }

  absl::Status CheckModelType(const Json& model) const {
    const Json& type = Field(model, "type");
    if (type != "BPE" && !(type.is_null() && Field(model, "merges").is_array())) {
      return BadValue("model.type", type, "\"BPE\"");
    }
    return absl::OkStatus();
  }

  absl::Status ReadBpe(const Json& model, PipelineParts* parts) {
    const Json& dropout = Field(model, "dropout");
    if (!dropout.is_null() && dropout != 0) return BadValue("model.dropout", dropout, "null");
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json& value = Field(model, name);
      if (!value.is_null() && value != "")
        return BadValue(absl::StrCat("model.", name), value, "null");
    }
    RESIDUAL_RETURN_IF_ERROR(ReadVocabulary(Field(model, "vocab")));

    BpeOptions options;
    options.bytes = byte_level_;
    RESIDUAL_ASSIGN_OR_RETURN(options.fuse_unk, Flag(model, "model", "fuse_unk", false));
    RESIDUAL_ASSIGN_OR_RETURN(options.byte_fallback, Flag(model, "model", "byte_fallback", false));
    RESIDUAL_ASSIGN_OR_RETURN(options.ignore_merges, Flag(model, "model", "ignore_merges", false));
    if (options.byte_fallback) return Bad("model.byte_fallback", "true", "false");
    const Json& unk = Field(model, "unk_token");
    if (!unk.is_null()) {
      auto it = unk.is_string() ? ids_.find(unk.get_ref<const std::string&>()) : ids_.end();
      if (it == ids_.end())
        return BadValue("model.unk_token", unk, "null or a token of the vocabulary");
      options.unk = it->second;
    }
    RESIDUAL_ASSIGN_OR_RETURN(const std::vector<BpeMerge> merges,
                              ReadMerges(Field(model, "merges")));
    TokenIds of_bytes;
    for (const auto& [written, id] : ids_) {
      // Byte-level text never holds the other tokens: they can only be added ones.
      const std::optional<std::string> bytes = AsBytes(written);
      if (bytes) of_bytes.emplace(*bytes, id);
    }
    parts->model = MakeBpe(std::move(of_bytes), merges, options);
    return absl::OkStatus();
  }

  // What a token of the file stands for.
  std::optional<std::string> AsBytes(const std::string& written) const {
    return byte_level_ ? PrintableToBytes(written) : written;
  }

  absl::StatusOr<int32_t> ReadId(const Json& value, const std::string& field) const {
    if (!value.is_number_integer() || value < 0 || value > kLargestId) {
      return BadValue(field, value, absl::StrCat("an integer in [0, ", kLargestId, "]"));
    }
    return value.get<int32_t>();
  }

  absl::Status ReadVocabulary(const Json& vocab) {
    if (!vocab.is_object())
      return BadValue("model.vocab", vocab, "an object of tokens and their ids");
    ids_.reserve(vocab.size());
    token_of_id_.reserve(vocab.size());
    for (const auto& [token, value] : vocab.items()) {
      RESIDUAL_ASSIGN_OR_RETURN(const int32_t id,
                                ReadId(value, absl::StrCat("model.vocab.", token)));
      ids_.emplace(token, id);
      const auto [other, is_new] = token_of_id_.emplace(id, token);
      if (!is_new) {
        return Bad(absl::StrCat("model.vocab.", token), absl::StrCat(id),
                   absl::StrCat("an id other than that of '", other->second, "'"));
      }
    }
    return absl::OkStatus();
  }

  // ["a", "b"], or "a b" in older files.
  absl::StatusOr<std::vector<BpeMerge>> ReadMerges(const Json& list) const {
    if (!list.is_array()) return BadValue("model.merges", list, "a list of pairs of tokens");
    std::vector<BpeMerge> merges;
    merges.reserve(list.size());
    for (size_t i = 0; i < list.size(); ++i) {
      auto bad = [&](absl::string_view expected) {
        return BadValue(absl::StrCat("model.merges[", i, "]"), list[i], expected);
      };
      std::vector<std::string> pair;
      if (list[i].is_string()) {
        pair = absl::StrSplit(list[i].get_ref<const std::string&>(), ' ');
      } else if (list[i].is_array()) {
        for (const Json& token : list[i]) {
          if (!token.is_string()) return bad("two tokens");
          pair.push_back(token.get<std::string>());
        }
      }
      if (pair.size() != 2) return bad("two tokens");
      const auto left = ids_.find(pair[0]), right = ids_.find(pair[1]),
                 result = ids_.find(pair[0] + pair[1]);
      if (left == ids_.end() || right == ids_.end() || result == ids_.end()) {
        return bad("two tokens of the vocabulary, and both together one");
      }
      merges.push_back({left->second, right->second, result->second});
    }
    return merges;
  }

  absl::Status ReadAddedTokens(const Json& list, PipelineParts* parts) const {
    if (list.is_null()) return absl::OkStatus();
    if (!list.is_array()) return BadValue("added_tokens", list, "a list");
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string path = absl::StrCat("added_tokens[", i, "]");
      const Json& content = Field(list[i], "content");
      if (!content.is_string()) return BadValue(path + ".content", content, "a string");
      AddedToken token;
      token.content = content.get<std::string>();
      RESIDUAL_ASSIGN_OR_RETURN(token.id, ReadId(Field(list[i], "id"), path + ".id"));
      RESIDUAL_ASSIGN_OR_RETURN(token.special, Flag(list[i], path, "special", false));
      RESIDUAL_ASSIGN_OR_RETURN(token.single_word, Flag(list[i], path, "single_word", false));
      RESIDUAL_ASSIGN_OR_RETURN(token.left_strip, Flag(list[i], path, "lstrip", false));
      RESIDUAL_ASSIGN_OR_RETURN(token.right_strip, Flag(list[i], path, "rstrip", false));
      RESIDUAL_ASSIGN_OR_RETURN(token.normalized,
                                Flag(list[i], path, "normalized", !token.special));
      if (token.content.empty()) continue;  // found nowhere
      const auto in_vocabulary = ids_.find(token.content);
      if (in_vocabulary != ids_.end() && in_vocabulary->second != token.id) {
        return Bad(path + ".id", absl::StrCat(token.id),
                   absl::StrCat(in_vocabulary->second, " as in model.vocab"));
      }
      const auto other = token_of_id_.find(token.id);
      if (other != token_of_id_.end() && other->second != token.content) {
        return Bad(path + ".id", absl::StrCat(token.id),
                   absl::StrCat("an id other than that of '", other->second, "'"));
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
      return Bad("model.vocab", absl::StrCat("sparse: ", tokens, " tokens, largest id ", largest),
                 "ids from 0 on");
    }
    parts->vocabulary.resize(largest + 1);
    for (const auto& [id, token] : token_of_id_) {
      parts->vocabulary[id].text = AsBytes(token).value_or(token);
    }
    for (const AddedToken& token : parts->added) {
      parts->vocabulary[token.id] = {token.content, token.special};
    }
    return absl::OkStatus();
  }

  static constexpr int32_t kLargestId = 2147483646;  // one more is vocab_size()

  const std::string source_;
  bool byte_level_ = false;
  absl::flat_hash_map<std::string, int32_t> ids_;          // of tokens as the file writes them
  absl::flat_hash_map<int32_t, std::string> token_of_id_;  // and back
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> TokenizerFromJson(std::string json,
                                                             const std::string& source) {
  return Reader(source).Read(std::move(json));
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
