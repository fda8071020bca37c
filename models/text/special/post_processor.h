// What tokenizer.json puts around a text: its "post_processor".

#ifndef RESIDUAL_MODELS_TEXT_SPECIAL_POST_PROCESSOR_H_
#define RESIDUAL_MODELS_TEXT_SPECIAL_POST_PROCESSOR_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "models/text/json_field.h"
#include "models/text/tokenizer.h"

namespace residual {

// Of one text, the field's "single". TemplateProcessing, BertProcessing, RobertaProcessing, a
// Sequence of them, ByteLevel and null (which add none). InvalidArgument, naming the field, for
// another type, a template that does not hold the text once, and ids that are not in
// [0, vocab_size).
absl::StatusOr<SpecialTokens> ReadPostProcessor(const JsonField& field, int64_t vocab_size);

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_SPECIAL_POST_PROCESSOR_H_
