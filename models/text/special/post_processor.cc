#include "models/text/special/post_processor.h"

#include <string>
#include <vector>

#include "tensor/base/status_macros.h"

namespace residual {
namespace {

absl::StatusOr<int32_t> ReadId(const JsonField& field, int64_t vocab_size) {
  RESIDUAL_ASSIGN_OR_RETURN(const int64_t id, field.Int(0, vocab_size - 1));
  return static_cast<int32_t>(id);
}

// [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], and what "<s>" stands for in
// "special_tokens": {"<s>": {"ids": [1]}}.
absl::StatusOr<SpecialTokens> ReadTemplate(const JsonField& field, int64_t vocab_size) {
  const JsonField single = field["single"];
  if (!single.value().is_array()) return single.Bad("a list");
  SpecialTokens tokens;
  bool text = false;
  for (size_t i = 0; i < single.value().size(); ++i) {
    const JsonField piece = single[i], special = piece["SpecialToken"];
    if (special.is_null()) {
      if (text || piece["Sequence"]["id"].value() != "A") {
        return piece.Bad("a SpecialToken, or once the Sequence A");
      }
      text = true;
      continue;
    }
    RESIDUAL_ASSIGN_OR_RETURN(const std::string name, special["id"].String());
    const JsonField ids = field["special_tokens"][name]["ids"];
    if (!ids.value().is_array()) return ids.Bad("a list of ids");
    for (size_t k = 0; k < ids.value().size(); ++k) {
      RESIDUAL_ASSIGN_OR_RETURN(const int32_t id, ReadId(ids[k], vocab_size));
      (text ? tokens.after : tokens.before).push_back(id);
    }
  }
  if (!text) return single.Bad("the Sequence A among them");
  return tokens;
}

// {"cls": ["[CLS]", 101], "sep": ["[SEP]", 102]}.
absl::StatusOr<SpecialTokens> ReadClsSep(const JsonField& field, int64_t vocab_size) {
  const JsonField cls = field["cls"], sep = field["sep"];
  for (const JsonField& pair : {cls, sep}) {
    if (!pair.value().is_array() || pair.value().size() != 2) return pair.Bad("a token and its id");
  }
  RESIDUAL_ASSIGN_OR_RETURN(const int32_t before, ReadId(cls[1], vocab_size));
  RESIDUAL_ASSIGN_OR_RETURN(const int32_t after, ReadId(sep[1], vocab_size));
  return SpecialTokens{{before}, {after}};
}

}  // namespace

absl::StatusOr<SpecialTokens> ReadPostProcessor(const JsonField& field, int64_t vocab_size) {
  if (field.is_null()) return SpecialTokens();
  const std::string type = field.type();
  if (type == "ByteLevel") return SpecialTokens();
  if (type == "TemplateProcessing") return ReadTemplate(field, vocab_size);
  if (type == "BertProcessing" || type == "RobertaProcessing") return ReadClsSep(field, vocab_size);
  if (type != "Sequence") {
    return field["type"].Bad(
        "ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing or a Sequence of them");
  }
  const JsonField list = field["processors"];
  if (!list.value().is_array()) return list.Bad("a list");
  SpecialTokens all;  // each puts its own around what those before it made
  for (size_t i = 0; i < list.value().size(); ++i) {
    if (list[i].type() == "Sequence") return list[i]["type"].Bad("no Sequence in a Sequence");
    RESIDUAL_ASSIGN_OR_RETURN(const SpecialTokens one, ReadPostProcessor(list[i], vocab_size));
    all.before.insert(all.before.begin(), one.before.begin(), one.before.end());
    all.after.insert(all.after.end(), one.after.begin(), one.after.end());
  }
  return all;
}

}  // namespace residual
