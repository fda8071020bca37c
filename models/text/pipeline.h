// A tokenizer made of parts, as tokenizer.json lists them:
//   added tokens -> normalizer -> pre-tokenizer -> model, and back through the decoder.

#ifndef RESIDUAL_MODELS_TEXT_PIPELINE_H_
#define RESIDUAL_MODELS_TEXT_PIPELINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/text/prepare/added_tokens.h"
#include "models/text/prepare/decoder.h"
#include "models/text/prepare/normalizer.h"
#include "models/text/prepare/pre_tokenizer.h"
#include "models/text/token_model.h"
#include "models/text/tokenizer.h"

namespace residual {

struct VocabularyEntry {
  std::string text;  // the bytes it stands for; empty for an id without a token
  bool special = false;
  bool exists = false;
  std::string written;  // as the file writes it, for the decoder
};

struct PipelineParts {
  std::vector<VocabularyEntry> vocabulary;  // by id
  std::vector<AddedToken> added;
  std::unique_ptr<Normalizer> normalizer;  // null: the text as it is
  std::unique_ptr<PreTokenizer> pre_tokenizer;
  bool knows_start = false;  // it cuts the start of a text otherwise than the rest
  std::unique_ptr<TokenModel> model;
  SpecialTokens special_tokens;
  std::unique_ptr<Decoder> decoder;  // null: the tokens' bytes are the text
  std::string json;                  // the tokenizer.json that Save writes
};

std::unique_ptr<Tokenizer> MakePipeline(PipelineParts parts);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_PIPELINE_H_
