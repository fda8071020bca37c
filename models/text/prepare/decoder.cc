#include "models/text/prepare/decoder.h"

#include <cctype>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "models/text/prepare/normalizer.h"
#include "models/text/prepare/unicode.h"

namespace residual {
namespace {

class Fuse : public Decoder {
 public:
  explicit Fuse(const char* between) : between_(between) {}
  void Apply(std::vector<std::string>* tokens) const override {
    std::string all = absl::StrJoin(*tokens, between_);
    tokens->assign(1, std::move(all));
  }

 private:
  const char* between_;
};

// Rewrites every token alike.
class NormalizeTokens : public Decoder {
 public:
  explicit NormalizeTokens(std::unique_ptr<Normalizer> normalizer)
      : normalizer_(std::move(normalizer)) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (std::string& token : *tokens) token = normalizer_->Normalize(token);
  }

 private:
  std::unique_ptr<Normalizer> normalizer_;
};

bool IsUtf8(absl::string_view bytes) {
  while (!bytes.empty()) {
    const Character c = FirstCharacter(bytes);
    if (c.code_point < 0) return false;
    bytes.remove_prefix(c.length);
  }
  return true;
}

class ByteFallback : public Decoder {
 public:
  void Apply(std::vector<std::string>* tokens) const override {
    std::vector<std::string> result;
    std::string bytes;  // of the tokens in a row that stand for bytes
    const auto finish = [&] {
      if (IsUtf8(bytes)) {
        if (!bytes.empty()) result.push_back(bytes);
      } else {
        for (size_t i = 0; i < bytes.size(); ++i) result.push_back("\uFFFD");
      }
      bytes.clear();
    };
    for (std::string& token : *tokens) {
      const int byte = ByteOfToken(token);
      if (byte >= 0) {
        bytes.push_back(static_cast<char>(byte));
      } else {
        finish();
        result.push_back(std::move(token));
      }
    }
    finish();
    *tokens = std::move(result);
  }
};

class StripTokens : public Decoder {
 public:
  StripTokens(std::string content, int start, int stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (std::string& token : *tokens) {
      for (int i = 0; i < start_ && absl::StartsWith(token, content_); ++i) {
        token.erase(0, content_.size());
      }
      for (int i = 0; i < stop_ && absl::EndsWith(token, content_); ++i) {
        token.erase(token.size() - content_.size());
      }
    }
  }

 private:
  std::string content_;
  int start_, stop_;
};

class MetaspaceDecoder : public Decoder {
 public:
  MetaspaceDecoder(std::string replacement, bool drops_first)
      : replacement_(std::move(replacement)), drops_first_(drops_first) {}
  void Apply(std::vector<std::string>* tokens) const override {
    bool first = drops_first_;
    for (std::string& token : *tokens) {
      token = absl::StrReplaceAll(token, {{replacement_, first ? "" : " "}});
      first = false;
    }
  }

 private:
  std::string replacement_;
  bool drops_first_;
};

class WordPieceDecoder : public Decoder {
 public:
  WordPieceDecoder(std::string prefix, bool cleanup)
      : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void Apply(std::vector<std::string>* tokens) const override {
    bool first = true;
    for (std::string& token : *tokens) {
      if (!first) {
        if (absl::StartsWith(token, prefix_)) {
          token.erase(0, prefix_.size());
        } else {
          token.insert(0, " ");
        }
      }
      first = false;
      if (cleanup_) {
        for (const auto& [from, to] : kCleanup) token = absl::StrReplaceAll(token, {{from, to}});
      }
    }
  }

 private:
  static constexpr std::pair<const char*, const char*> kCleanup[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  std::string prefix_;
  bool cleanup_;
};

class DecoderSequence : public Decoder {
 public:
  explicit DecoderSequence(std::vector<std::unique_ptr<Decoder>> sequence)
      : sequence_(std::move(sequence)) {}
  void Apply(std::vector<std::string>* tokens) const override {
    for (const auto& decoder : sequence_) decoder->Apply(tokens);
  }

 private:
  std::vector<std::unique_ptr<Decoder>> sequence_;
};

}  // namespace

int ByteOfToken(absl::string_view token) {
  if (token.size() != 6 || !absl::StartsWith(token, "<0x") || token[5] != '>' ||
      !std::isxdigit(static_cast<unsigned char>(token[3])) ||
      !std::isxdigit(static_cast<unsigned char>(token[4]))) {
    return -1;
  }
  return std::stoi(std::string(token.substr(3, 2)), nullptr, 16);
}

std::unique_ptr<Decoder> MakeFuse() { return std::make_unique<Fuse>(""); }
std::unique_ptr<Decoder> MakeSpaceBetween() { return std::make_unique<Fuse>(" "); }

std::unique_ptr<Decoder> MakeReplaceInTokens(std::string pattern, std::string content) {
  return std::make_unique<NormalizeTokens>(MakeReplace(std::move(pattern), std::move(content)));
}

std::unique_ptr<Decoder> MakeReplaceInTokens(std::unique_ptr<Regex> pattern, std::string content) {
  return std::make_unique<NormalizeTokens>(MakeReplace(std::move(pattern), std::move(content)));
}

std::unique_ptr<Decoder> MakeByteFallback() { return std::make_unique<ByteFallback>(); }

std::unique_ptr<Decoder> MakeStripTokens(std::string content, int start, int stop) {
  return std::make_unique<StripTokens>(std::move(content), start, stop);
}

std::unique_ptr<Decoder> MakeMetaspaceDecoder(std::string replacement, bool drops_first) {
  return std::make_unique<MetaspaceDecoder>(std::move(replacement), drops_first);
}

std::unique_ptr<Decoder> MakeWordPieceDecoder(std::string prefix, bool cleanup) {
  return std::make_unique<WordPieceDecoder>(std::move(prefix), cleanup);
}

std::unique_ptr<Decoder> MakeDecoderSequence(std::vector<std::unique_ptr<Decoder>> sequence) {
  return std::make_unique<DecoderSequence>(std::move(sequence));
}

}  // namespace residual
