#include "models/text/json_prepare.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "models/text/prepare/charsmap.h"
#include "models/text/prepare/regex.h"
#include "models/text/prepare/unicode.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr int kDeepest = 16;  // sequences in sequences

constexpr char kGpt2Pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

// {"String": ".."} or {"Regex": ".."}.
struct Pattern {
  std::string string;
  std::unique_ptr<Regex> regex;  // null: the string
  bool is_gpt2 = false;
};

absl::StatusOr<Pattern> ReadPattern(const JsonField& field) {
  Pattern pattern;
  if (field.value().is_string()) {  // older files
    RESIDUAL_ASSIGN_OR_RETURN(pattern.string, field.NonEmptyString());
  } else if (!field["String"].is_null()) {
    RESIDUAL_ASSIGN_OR_RETURN(pattern.string, field["String"].NonEmptyString());
  } else if (!field["Regex"].is_null()) {
    RESIDUAL_ASSIGN_OR_RETURN(const std::string text, field["Regex"].NonEmptyString());
    auto regex = Regex::Compile(text);
    if (!regex.ok()) {
      return field["Regex"].Bad(
          absl::StrCat("a regular expression (", regex.status().message(), ")"));
    }
    pattern.regex = *std::move(regex);
    pattern.is_gpt2 = text == kGpt2Pattern;
  } else {
    return field.Bad("{\"String\": ..} or {\"Regex\": ..}");
  }
  return pattern;
}

// The members of a sequence, each read by `read`.
template <class Part, class Read>
absl::StatusOr<std::vector<Part>> ReadSequence(const JsonField& list, Read read) {
  if (!list.value().is_array()) return list.Bad("a list");
  std::vector<Part> parts;
  for (size_t i = 0; i < list.value().size(); ++i) {
    RESIDUAL_ASSIGN_OR_RETURN(parts.emplace_back(), read(list[i]));
  }
  return parts;
}

absl::StatusOr<std::unique_ptr<Normalizer>> ReadBert(const JsonField& field) {
  BertNormalizerOptions options;
  RESIDUAL_ASSIGN_OR_RETURN(options.clean_text, field["clean_text"].Bool(true));
  RESIDUAL_ASSIGN_OR_RETURN(options.handle_chinese_chars, field["handle_chinese_chars"].Bool(true));
  RESIDUAL_ASSIGN_OR_RETURN(options.lowercase, field["lowercase"].Bool(true));
  RESIDUAL_ASSIGN_OR_RETURN(options.strip_accents, field["strip_accents"].Bool(options.lowercase));
  return MakeBertNormalizer(options);
}

absl::StatusOr<std::unique_ptr<Normalizer>> ReadCharsMap(const JsonField& field) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, field.String());
  std::string map;
  if (!absl::Base64Unescape(text, &map)) return field.Bad("base64");
  auto normalizer = MakeCharsMap(std::move(map));
  if (!normalizer.ok()) return field.Bad(normalizer.status().message(), "a trie and its values");
  return normalizer;
}

// How many times as long as it was a normalizer may make a text: replacements of replacements of a
// hostile file would fill the memory.
constexpr double kMostGrowth = 1e4;

// Reads one, or a sequence, and multiplies `growth` by how many times as long it makes a text.
absl::StatusOr<std::unique_ptr<Normalizer>> ReadOneNormalizer(const JsonField& field, int depth,
                                                              double* growth) {
  const std::string type = field.type();
  if (type == "NFC") return MakeNormalForm(NormalForm::kC);
  if (type == "NFD") return MakeNormalForm(NormalForm::kD);
  if (type == "NFKC") return MakeNormalForm(NormalForm::kKC);
  if (type == "NFKD") return MakeNormalForm(NormalForm::kKD);
  if (type == "Lowercase") return MakeLowercase();
  if (type == "StripAccents") return MakeStripAccents();
  if (type == "Nmt") return MakeNmt();
  if (type == "BertNormalizer") return ReadBert(field);
  if (type == "Precompiled") return ReadCharsMap(field["precompiled_charsmap"]);
  if (type == "Prepend") {
    RESIDUAL_ASSIGN_OR_RETURN(std::string prefix, field["prepend"].String());
    return MakePrepend(std::move(prefix));
  }
  if (type == "Strip") {
    RESIDUAL_ASSIGN_OR_RETURN(const bool left, field["strip_left"].Bool());
    RESIDUAL_ASSIGN_OR_RETURN(const bool right, field["strip_right"].Bool());
    return MakeStrip(left, right);
  }
  if (type == "Replace") {
    RESIDUAL_ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(field["pattern"]));
    RESIDUAL_ASSIGN_OR_RETURN(std::string content, field["content"].String());
    const double added = static_cast<double>(content.size());
    // A regular expression may match nothing, between any two bytes.
    *growth *= pattern.regex ? 1 + added
                             : std::max(1.0, added / static_cast<double>(pattern.string.size()));
    if (*growth > kMostGrowth) {
      return field["content"].Bad(absl::StrCat("normalizers that together make a text at most ",
                                               kMostGrowth, " times as long"));
    }
    return pattern.regex ? MakeReplace(std::move(pattern.regex), std::move(content))
                         : MakeReplace(std::move(pattern.string), std::move(content));
  }
  if (type == "Sequence" && depth < kDeepest) {
    RESIDUAL_ASSIGN_OR_RETURN(auto parts,
                              ReadSequence<std::unique_ptr<Normalizer>>(
                                  field["normalizers"], [depth, growth](const JsonField& member) {
                                    return ReadOneNormalizer(member, depth + 1, growth);
                                  }));
    return MakeNormalizerSequence(std::move(parts));
  }
  return field.Bad(
      "null, or one of type NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Nmt, BertNormalizer, "
      "Precompiled, Prepend, Strip, Replace, or a Sequence of those");
}

absl::StatusOr<SplitBehavior> ReadBehavior(const JsonField& field) {
  if (field.value() == "Removed") return SplitBehavior::kRemoved;
  if (field.value() == "Isolated") return SplitBehavior::kIsolated;
  if (field.value() == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (field.value() == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (field.value() == "Contiguous") return SplitBehavior::kContiguous;
  return field.Bad("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

// The character that stands for a space, of Metaspace.
absl::StatusOr<std::string> ReadReplacement(const JsonField& field) {
  if (field.is_null()) return std::string("\u2581");
  RESIDUAL_ASSIGN_OR_RETURN(std::string text, field.NonEmptyString());
  if (FirstCharacter(text).length != static_cast<int>(text.size()))
    return field.Bad("one character");
  return text;
}

absl::StatusOr<PrependScheme> ReadPrependScheme(const JsonField& metaspace) {
  const JsonField scheme = metaspace["prepend_scheme"];
  if (scheme.is_null()) {  // older files
    RESIDUAL_ASSIGN_OR_RETURN(const bool always, metaspace["add_prefix_space"].Bool(true));
    return always ? PrependScheme::kAlways : PrependScheme::kNever;
  }
  if (scheme.value() == "always") return PrependScheme::kAlways;
  if (scheme.value() == "first") return PrependScheme::kFirst;
  if (scheme.value() == "never") return PrependScheme::kNever;
  return scheme.Bad("always, first or never");
}

bool IsSpace(int32_t c) { return ClassOf(c) == CharClass::kSpace; }

using PreTokenizers = std::vector<std::unique_ptr<PreTokenizer>>;

absl::Status AppendByteLevel(const JsonField& field, PreTokenizers* parts) {
  RESIDUAL_ASSIGN_OR_RETURN(const bool prefix, field["add_prefix_space"].Bool(true));
  RESIDUAL_ASSIGN_OR_RETURN(const bool pattern, field["use_regex"].Bool(true));
  if (prefix) parts->push_back(MakeSpaceBefore());
  parts->push_back(pattern ? MakeGpt2Pattern() : MakeWholeText());
  return absl::OkStatus();
}

absl::Status AppendSplit(const JsonField& field, PreTokenizers* parts) {
  RESIDUAL_ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(field["pattern"]));
  RESIDUAL_ASSIGN_OR_RETURN(const SplitBehavior behavior, ReadBehavior(field["behavior"]));
  RESIDUAL_ASSIGN_OR_RETURN(const bool invert, field["invert"].Bool(false));
  // It matches all of every text: what is between the matches is nothing.
  if (pattern.is_gpt2 &&
      behavior == (invert ? SplitBehavior::kRemoved : SplitBehavior::kIsolated)) {
    parts->push_back(MakeGpt2Pattern());
  } else if (pattern.regex) {
    parts->push_back(MakeSplit(std::move(pattern.regex), behavior, invert));
  } else {
    parts->push_back(MakeSplit(std::move(pattern.string), behavior, invert));
  }
  return absl::OkStatus();
}

absl::Status AppendMetaspace(const JsonField& field, PreTokenizers* parts, bool* knows_start) {
  RESIDUAL_ASSIGN_OR_RETURN(std::string replacement, ReadReplacement(field["replacement"]));
  RESIDUAL_ASSIGN_OR_RETURN(const PrependScheme scheme, ReadPrependScheme(field));
  RESIDUAL_ASSIGN_OR_RETURN(const bool split, field["split"].Bool(true));
  *knows_start |= scheme == PrependScheme::kFirst;
  parts->push_back(MakeMetaspace(std::move(replacement), scheme, split));
  return absl::OkStatus();
}

// Appends the parts of one pre-tokenizer, or of a sequence, and says `about` them. Nothing may
// follow ByteLevel, for which bytes become characters.
absl::Status AppendPreTokenizer(const JsonField& field, int depth, PreTokenizers* parts,
                                PreTokenizerParts* about) {
  const std::string type = field.type();
  if (about->byte_level) return field.Bad("nothing after ByteLevel");
  if (type == "ByteLevel") {
    about->byte_level = true;
    return AppendByteLevel(field, parts);
  }
  if (type == "Split") return AppendSplit(field, parts);
  if (type == "Metaspace") return AppendMetaspace(field, parts, &about->knows_start);
  if (type == "BertPreTokenizer") {
    parts->push_back(MakeSplit(IsSpace, SplitBehavior::kRemoved));
    parts->push_back(MakeSplit(IsPunctuationOrAsciiSymbol, SplitBehavior::kIsolated));
    return absl::OkStatus();
  }
  if (type == "WhitespaceSplit") {
    parts->push_back(MakeSplit(IsSpace, SplitBehavior::kRemoved));
    return absl::OkStatus();
  }
  if (type == "Whitespace") {
    // \w as Rust's regular expressions have it.
    const char word[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
    RESIDUAL_ASSIGN_OR_RETURN(auto words,
                              Regex::Compile(absl::StrCat("[", word, "]+|[^", word, "\\s]+")));
    parts->push_back(MakeSplit(std::move(words), SplitBehavior::kRemoved, /*invert=*/true));
    return absl::OkStatus();
  }
  if (type == "Punctuation") {
    SplitBehavior behavior = SplitBehavior::kIsolated;
    if (!field["behavior"].is_null()) {
      RESIDUAL_ASSIGN_OR_RETURN(behavior, ReadBehavior(field["behavior"]));
    }
    parts->push_back(MakeSplit(IsPunctuationOrAsciiSymbol, behavior));
    return absl::OkStatus();
  }
  if (type == "Digits") {
    RESIDUAL_ASSIGN_OR_RETURN(const bool each, field["individual_digits"].Bool(false));
    parts->push_back(MakeSplit([](int32_t c) { return ClassOf(c) == CharClass::kNumber; },
                               each ? SplitBehavior::kIsolated : SplitBehavior::kContiguous));
    return absl::OkStatus();
  }
  if (type == "CharDelimiterSplit") {
    RESIDUAL_ASSIGN_OR_RETURN(std::string delimiter, field["delimiter"].NonEmptyString());
    parts->push_back(MakeSplit(std::move(delimiter), SplitBehavior::kRemoved, /*invert=*/false));
    return absl::OkStatus();
  }
  if (type == "Sequence" && depth < kDeepest) {
    const JsonField list = field["pretokenizers"];
    if (!list.value().is_array()) return list.Bad("a list");
    for (size_t i = 0; i < list.value().size(); ++i) {
      RESIDUAL_RETURN_IF_ERROR(AppendPreTokenizer(list[i], depth + 1, parts, about));
    }
    return absl::OkStatus();
  }
  return field.Bad(
      "null, or one of type ByteLevel, Split, Metaspace, BertPreTokenizer, Whitespace, "
      "WhitespaceSplit, Punctuation, Digits, CharDelimiterSplit, or a Sequence of those");
}

absl::StatusOr<std::unique_ptr<Decoder>> ReadOneDecoder(const JsonField& field, int depth) {
  const std::string type = field.type();
  if (type == "Fuse") return MakeFuse();
  if (type == "ByteFallback") return MakeByteFallback();
  if (type == "Replace") {
    RESIDUAL_ASSIGN_OR_RETURN(Pattern pattern, ReadPattern(field["pattern"]));
    RESIDUAL_ASSIGN_OR_RETURN(std::string content, field["content"].String());
    return pattern.regex ? MakeReplaceInTokens(std::move(pattern.regex), std::move(content))
                         : MakeReplaceInTokens(std::move(pattern.string), std::move(content));
  }
  if (type == "Strip") {
    RESIDUAL_ASSIGN_OR_RETURN(std::string content, field["content"].NonEmptyString());
    RESIDUAL_ASSIGN_OR_RETURN(const int64_t start, field["start"].Int(0, 1 << 20));
    RESIDUAL_ASSIGN_OR_RETURN(const int64_t stop, field["stop"].Int(0, 1 << 20));
    return MakeStripTokens(std::move(content), static_cast<int>(start), static_cast<int>(stop));
  }
  if (type == "Metaspace") {
    RESIDUAL_ASSIGN_OR_RETURN(std::string replacement, ReadReplacement(field["replacement"]));
    RESIDUAL_ASSIGN_OR_RETURN(const PrependScheme scheme, ReadPrependScheme(field));
    return MakeMetaspaceDecoder(std::move(replacement), scheme != PrependScheme::kNever);
  }
  if (type == "WordPiece") {
    RESIDUAL_ASSIGN_OR_RETURN(std::string prefix, field["prefix"].String());
    RESIDUAL_ASSIGN_OR_RETURN(const bool cleanup, field["cleanup"].Bool(true));
    return MakeWordPieceDecoder(std::move(prefix), cleanup);
  }
  if (type == "Sequence" && depth < kDeepest) {
    RESIDUAL_ASSIGN_OR_RETURN(auto parts, ReadSequence<std::unique_ptr<Decoder>>(
                                              field["decoders"], [depth](const JsonField& member) {
                                                return ReadOneDecoder(member, depth + 1);
                                              }));
    return MakeDecoderSequence(std::move(parts));
  }
  return field.Bad(
      "null, or one of type ByteLevel, Fuse, ByteFallback, Replace, Strip, Metaspace, WordPiece, "
      "or a Sequence of those but ByteLevel");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> ReadNormalizer(const JsonField& field) {
  if (field.is_null()) return std::unique_ptr<Normalizer>();
  double growth = 1;
  return ReadOneNormalizer(field, 0, &growth);
}

absl::StatusOr<PreTokenizerParts> ReadPreTokenizer(const JsonField& field) {
  PreTokenizerParts result;
  PreTokenizers parts;
  if (!field.is_null()) {
    RESIDUAL_RETURN_IF_ERROR(AppendPreTokenizer(field, 0, &parts, &result));
  }
  result.pre_tokenizer = parts.size() == 1 ? std::move(parts[0])
                         : parts.empty()   ? MakeWholeText()
                                           : MakePreTokenizerSequence(std::move(parts));
  return result;
}

absl::StatusOr<std::unique_ptr<Decoder>> ReadDecoder(const JsonField& field) {
  if (field.is_null()) return MakeSpaceBetween();
  if (field.type() == "ByteLevel") return std::unique_ptr<Decoder>();
  return ReadOneDecoder(field, 0);
}

}  // namespace residual
