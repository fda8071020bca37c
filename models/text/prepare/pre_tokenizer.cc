#include "models/text/prepare/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "models/text/prepare/unicode.h"

namespace residual {
namespace {

class WholeText : public PreTokenizer {
 public:
  void Split(absl::string_view text, bool first, PieceFunction piece) const override {
    if (!text.empty()) piece(text, first);
  }
};

// A character's class and length, at `at` < text.size().
struct Classed {
  CharClass char_class;
  int length;
};

Classed At(absl::string_view text, size_t at) {
  const unsigned char byte = static_cast<unsigned char>(text[at]);
  if (byte < 0x80) return {ClassOf(byte), 1};
  const Character c = FirstCharacter(text.substr(at));
  return {ClassOf(c.code_point), c.length};
}

// The length of the contraction at the start of `text`, which begins with an apostrophe; 0: none.
size_t Contraction(absl::string_view text) {
  if (text.size() < 2) return 0;
  switch (text[1]) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return text.size() > 2 && text[2] == 'e' ? 3 : 0;
    case 'l':
      return text.size() > 2 && text[2] == 'l' ? 3 : 0;
    default:
      return 0;
  }
}

// Written out by hand: one pass, no backtracking, some fifty times faster than a regular
// expression library.
class Gpt2Pattern : public PreTokenizer {
 public:
  void Split(absl::string_view text, bool first, PieceFunction piece) const override {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = End(text, begin);
      piece(text.substr(begin, end - begin), first && begin == 0);
      begin = end;
    }
  }

 private:
  static size_t End(absl::string_view text, size_t begin) {
    if (text[begin] == '\'') {
      if (const size_t length = Contraction(text.substr(begin))) return begin + length;
    }
    Classed first = At(text, begin);
    size_t end = begin + first.length;
    if (text[begin] == ' ' && end < text.size()) {
      const Classed second = At(text, end);
      if (second.char_class != CharClass::kSpace) {  // " ?" takes the space
        first = second;
        end += second.length;
      }
    }
    size_t last = begin;  // where the last character of the run begins
    while (end < text.size()) {
      const Classed next = At(text, end);
      if (next.char_class != first.char_class) {
        // \s+(?!\S): all spaces but the last one, which \s+ or the word takes.
        if (first.char_class == CharClass::kSpace && last > begin) return last;
        break;
      }
      last = end;
      end += next.length;
    }
    return end;
  }
};

class SpaceBefore : public PreTokenizer {
 public:
  void Split(absl::string_view text, bool first, PieceFunction piece) const override {
    if (text.empty()) return;
    text[0] == ' ' ? piece(text, first) : piece(absl::StrCat(" ", text), first);
  }
};

// A part of a text, and whether it is a delimiter.
struct Part {
  size_t begin, end;
  bool delimiter;
};

// Joins delimiters to their neighbours as the behavior has it.
std::vector<Part> Joined(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Part> joined;
  const auto extend_or_add = [&](const Part& part, bool extend) {
    if (extend && !joined.empty()) {
      joined.back().end = part.end;
    } else {
      joined.push_back(part);
    }
  };
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.delimiter) joined.push_back(part);
      }
      break;
    case SplitBehavior::kIsolated:
      joined = parts;
      break;
    case SplitBehavior::kContiguous:
      for (const Part& part : parts) {
        extend_or_add(part, !joined.empty() && joined.back().delimiter == part.delimiter);
      }
      break;
    case SplitBehavior::kMergedWithPrevious: {
      bool after_delimiter = false;
      for (const Part& part : parts) {
        extend_or_add(part, part.delimiter && !after_delimiter);
        after_delimiter = part.delimiter;
      }
      break;
    }
    case SplitBehavior::kMergedWithNext: {
      bool before_delimiter = false;
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->delimiter && !before_delimiter && !joined.empty()) {
          joined.back().begin = part->begin;
        } else {
          joined.push_back(*part);
        }
        before_delimiter = part->delimiter;
      }
      std::reverse(joined.begin(), joined.end());
      break;
    }
  }
  return joined;
}

// Cuts at delimiters. `find` calls a function with the begin and the end of each, in order.
template <class Find>
class SplitAt : public PreTokenizer {
 public:
  SplitAt(Find find, SplitBehavior behavior, bool invert)
      : find_(std::move(find)), behavior_(behavior), invert_(invert) {}

  void Split(absl::string_view text, bool first, PieceFunction piece) const override {
    std::vector<Part> parts;
    size_t done = 0;
    find_(text, [&](size_t begin, size_t end) {
      if (begin > done) parts.push_back({done, begin, invert_});
      parts.push_back({begin, end, !invert_});
      done = end;
    });
    if (done < text.size()) parts.push_back({done, text.size(), invert_});
    for (const Part& part : Joined(parts, behavior_)) {
      if (part.end > part.begin) {
        piece(text.substr(part.begin, part.end - part.begin), first && part.begin == 0);
      }
    }
  }

 private:
  Find find_;
  SplitBehavior behavior_;
  bool invert_;
};

template <class Find>
std::unique_ptr<PreTokenizer> MakeSplitAt(Find find, SplitBehavior behavior, bool invert) {
  return std::make_unique<SplitAt<Find>>(std::move(find), behavior, invert);
}

using MatchFunction = absl::FunctionRef<void(size_t, size_t)>;

void FindString(const std::string& pattern, absl::string_view text, MatchFunction match) {
  for (size_t at = text.find(pattern); at != absl::string_view::npos;) {
    match(at, at + pattern.size());
    at = text.find(pattern, at + pattern.size());
  }
}

class Metaspace : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme scheme, bool split)
      : replacement_(std::move(replacement)), scheme_(scheme), split_(split) {}

  void Split(absl::string_view text, bool first, PieceFunction piece) const override {
    std::string replaced = absl::StrReplaceAll(text, {{" ", replacement_}});
    const bool prepends =
        scheme_ == PrependScheme::kAlways || (scheme_ == PrependScheme::kFirst && first);
    if (prepends && !absl::StartsWith(replaced, replacement_)) {
      replaced.insert(0, replacement_);
    }
    const absl::string_view all = replaced;
    for (size_t begin = 0; begin < all.size();) {
      // Each replacement begins a piece of its own.
      size_t end = split_ ? all.find(replacement_, begin + 1) : all.size();
      if (end == absl::string_view::npos) end = all.size();
      piece(all.substr(begin, end - begin), first && begin == 0);
      begin = end;
    }
  }

 private:
  std::string replacement_;
  PrependScheme scheme_;
  bool split_;
};

class SplitBeforeRuns : public PreTokenizer {
 public:
  explicit SplitBeforeRuns(std::string replacement) : replacement_(std::move(replacement)) {}

  void Split(absl::string_view text, bool first, PieceFunction piece) const override {
    for (size_t begin = 0; begin < text.size();) {
      size_t end = begin;
      while (absl::StartsWith(text.substr(end), replacement_)) end += replacement_.size();
      end = std::min(text.find(replacement_, end), text.size());
      piece(text.substr(begin, end - begin), first && begin == 0);
      begin = end;
    }
  }

 private:
  std::string replacement_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> sequence)
      : sequence_(std::move(sequence)) {}

  void Split(absl::string_view text, bool first, PieceFunction piece) const override {
    SplitFrom(0, text, first, piece);
  }

 private:
  void SplitFrom(size_t i, absl::string_view text, bool first, PieceFunction piece) const {
    if (i == sequence_.size()) {
      if (!text.empty()) piece(text, first);
      return;
    }
    sequence_[i]->Split(text, first, [&](absl::string_view part, bool begins) {
      SplitFrom(i + 1, part, begins, piece);
    });
  }

  std::vector<std::unique_ptr<PreTokenizer>> sequence_;
};

}  // namespace

bool IsPunctuationOrAsciiSymbol(int32_t c) {
  const bool ascii_symbol = (c >= '!' && c <= '/') || (c >= ':' && c <= '@') ||
                            (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  return ascii_symbol || IsPunctuation(c);
}

std::unique_ptr<PreTokenizer> MakeSpaceBefore() { return std::make_unique<SpaceBefore>(); }

std::unique_ptr<PreTokenizer> MakeSplit(std::unique_ptr<Regex> pattern, SplitBehavior behavior,
                                        bool invert) {
  return MakeSplitAt(
      [pattern = std::move(pattern)](absl::string_view text, MatchFunction match) {
        pattern->FindAll(text, match);
      },
      behavior, invert);
}

std::unique_ptr<PreTokenizer> MakeSplit(std::string pattern, SplitBehavior behavior, bool invert) {
  return MakeSplitAt(
      [pattern = std::move(pattern)](absl::string_view text, MatchFunction match) {
        FindString(pattern, text, match);
      },
      behavior, invert);
}

std::unique_ptr<PreTokenizer> MakeSplit(std::function<bool(int32_t)> is_delimiter,
                                        SplitBehavior behavior) {
  return MakeSplitAt(
      [is_delimiter = std::move(is_delimiter)](absl::string_view text, MatchFunction match) {
        for (size_t at = 0; at < text.size();) {
          const Character c = FirstCharacter(text.substr(at));
          if (is_delimiter(c.code_point)) match(at, at + c.length);
          at += c.length;
        }
      },
      behavior, /*invert=*/false);
}

std::unique_ptr<PreTokenizer> MakeMetaspace(std::string replacement, PrependScheme scheme,
                                            bool split) {
  return std::make_unique<Metaspace>(std::move(replacement), scheme, split);
}

std::unique_ptr<PreTokenizer> MakeSplitBeforeRuns(std::string replacement) {
  return std::make_unique<SplitBeforeRuns>(std::move(replacement));
}

std::unique_ptr<PreTokenizer> MakePreTokenizerSequence(
    std::vector<std::unique_ptr<PreTokenizer>> sequence) {
  return std::make_unique<PreTokenizerSequence>(std::move(sequence));
}

std::unique_ptr<PreTokenizer> MakeWholeText() { return std::make_unique<WholeText>(); }
std::unique_ptr<PreTokenizer> MakeGpt2Pattern() { return std::make_unique<Gpt2Pattern>(); }

}  // namespace residual
