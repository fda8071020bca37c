#include "tests/fuzz/text/kinds.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "models/text/tokenizer_json.h"
#include "nlohmann/json.hpp"
#include "tensor/base/check.h"

namespace residual {
namespace {

using Json = nlohmann::json;

const char kSentencePieceBpe[] = R"({
  "added_tokens": [{"id": 1, "content": "<s>", "special": true}],
  "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "\u2581"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
  "decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
    "merges": [["\u2581", "\u2581"], ["\u2581", "a"], ["a", "b"], ["\u2581a", "b"]]}})";

// With a token for every byte.
std::string SentencePieceBpe() {
  Json json = Json::parse(kSentencePieceBpe);
  Json& vocab = json["model"]["vocab"] = {{"<unk>", 0}, {"<s>", 1}};
  for (int byte = 0; byte < 256; ++byte) vocab[absl::StrFormat("<0x%02X>", byte)] = 2 + byte;
  for (const char* token :
       {"\u2581", "a", "b", "\u2581a", "ab", "\u2581ab", "\u2581\u2581", "\u00E9"}) {
    const int id = static_cast<int>(vocab.size());
    vocab[token] = id;
  }
  return json.dump();
}

const char kUnigram[] = R"({
  "added_tokens": [{"id": 0, "content": "<unk>", "special": true},
                   {"id": 7, "content": "a  b", "lstrip": true, "normalized": true}],
  "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "Nmt"}, {"type": "NFKC"},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
  "pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first"},
  "decoder": {"type": "Metaspace", "prepend_scheme": "first"},
  "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["\u2581a", -1],
    ["\u2581", -2], ["b", -2.5], ["a", -3.5], ["ab", -4], ["\u00e9", -5]]}})";

const char kWordPiece[] = "[PAD]\n[UNK]\n[CLS]\na\n##a\n##b\nb\n##\u00E9\ne\n,\n'\n##s\n.\n";

const char kWords[] = R"({
  "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, {"type": "Strip",
     "strip_left": true, "strip_right": true}]},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
    {"type": "Whitespace"}, {"type": "Digits", "individual_digits": true},
    {"type": "Punctuation", "behavior": "MergedWithNext"}]},
  "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0, "a": 1, "1": 2, "ab": 3}}})";

}  // namespace

const std::vector<TokenizerKind>& TokenizerKinds() {
  static const auto* kinds = [] {
    auto* made = new std::vector<TokenizerKind>;
    const auto add = [&](const char* name, absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer) {
      RESIDUAL_CHECK(tokenizer.ok()) << name << ": " << tokenizer.status();
      made->push_back({name, *std::move(tokenizer)});
    };
    add("bytes", TrainBpe("the cat sat on the mat, the cat's mat \xC3\xA9\xC3\xA9", 300));
    add("sentence piece", TokenizerFromJson(SentencePieceBpe(), "spm"));
    add("unigram", TokenizerFromJson(kUnigram, "unigram"));
    add("word piece", TokenizerFromWordPieceVocabulary(kWordPiece, {}, "vocab.txt"));
    add("words", TokenizerFromJson(kWords, "words"));
    return made;
  }();
  return *kinds;
}

}  // namespace residual
