#include "tools/cli/prompt_flags.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using Ids = std::vector<int64_t>;
using nlohmann::json;

absl::StatusOr<Ids> Encode(const Tokenizer* tokenizer, const std::string& text,
                           const std::string& folder, bool add_special) {
  if (tokenizer == nullptr) {
    return absl::NotFoundError(
        absl::StrCat(folder, ": no tokenizer to read a text with; give token ids with --tokens"));
  }
  const std::vector<int32_t> ids =
      add_special ? tokenizer->EncodeForModel(text) : tokenizer->Encode(text);
  return Ids(ids.begin(), ids.end());
}

}  // namespace

PromptFlags::PromptFlags(CommandLine& cli) {
  cli.Text("prompt", &prompt_, "a text");
  cli.List("tokens", &tokens_, "the ids of its tokens, instead of --prompt");
  cli.Path(
      "prompts", &prompts_,
      "a file with a JSON string, or list of ids, per line, instead of --prompt: all are taken "
      "at once, and a line of JSON is written for each");
  cli.Bool("add_special_tokens", &add_special_,
           "put around a text what tokenizer.json says: <s> of Llama; what Hugging Face does");
}

absl::Status PromptFlags::Check(bool required) const {
  const int given = !prompt_.empty() + !tokens_.empty() + !prompts_.empty();
  if (given == 1 || (given == 0 && !required)) return absl::OkStatus();
  return UsageError(absl::StrCat("expected one of --prompt, --tokens and --prompts, found ",
                                 given == 0 ? "none, or an empty one" : "several"));
}

absl::StatusOr<std::vector<Ids>> PromptFlags::Read(const Tokenizer* tokenizer,
                                                   const std::string& folder, bool begins) const {
  const bool add_special = add_special_ && begins;
  if (from_file()) return ReadFrom(prompts_, tokenizer, folder, add_special);
  std::vector<Ids> prompts(1);
  if (!ids_given()) {
    RESIDUAL_ASSIGN_OR_RETURN(prompts[0], Encode(tokenizer, prompt_, folder, add_special));
  }
  for (const std::string& text : tokens_) {
    int64_t id;
    if (!absl::SimpleAtoi(text, &id)) {
      return UsageError(absl::StrCat("--tokens: '", text, "', expected an integer"));
    }
    prompts[0].push_back(id);
  }
  return prompts;
}

absl::StatusOr<std::vector<Ids>> PromptFlags::ReadFrom(const std::string& path,
                                                       const Tokenizer* tokenizer,
                                                       const std::string& folder,
                                                       bool add_special) const {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  std::vector<Ids> prompts;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    const json value = json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (value.is_string()) {
      RESIDUAL_ASSIGN_OR_RETURN(
          prompts.emplace_back(),
          Encode(tokenizer, value.get_ref<const std::string&>(), folder, add_special));
      continue;
    }
    bool all_ids = value.is_array();
    prompts.emplace_back();
    for (const json& id : value) {
      all_ids = all_ids && id.is_number_integer();
      if (all_ids) prompts.back().push_back(id.get<int64_t>());
    }
    if (!all_ids) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": line ", number, ": expected a JSON string or a list of ids"));
    }
  }
  if (prompts.empty()) {
    return absl::InvalidArgumentError(path + ": holds no prompt, expected one per line");
  }
  return prompts;
}

}  // namespace residual
