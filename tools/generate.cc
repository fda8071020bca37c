// generate: continues prompts with a model.

#include "models/generate/generate.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "models/generate/beam_search.h"
#include "models/generate/generation_state.h"
#include "models/generate/stop_strings.h"
#include "models/generate/stop_tokens.h"
#include "models/text/streaming_decoder.h"
#include "models/text/tokenizer.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/prompt_flags.h"

namespace residual {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int64_t>;

struct Flags {
  std::string stop;
  bool stop_at_eos = true;
  GenerateOptions generate;
  BeamSearchOptions beams;
  std::string early_stopping = "false";
  std::string load_state, save_state;

  Flags() { beams.num_beams = 1; }
};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

const char* EndName(EndOfGeneration end) {
  switch (end) {
    case EndOfGeneration::kMaxNewTokens:
      return "max_new_tokens";
    case EndOfGeneration::kStopToken:
      return "eos";
    case EndOfGeneration::kContextFull:
      return "context_full";
    case EndOfGeneration::kCallback:
      return "stop";
  }
  return "";
}

// What flags cannot say one by one.
absl::Status CheckFlags(const Flags& flags) {
  const SamplerOptions& s = flags.generate.sampler;
  if (flags.beams.num_beams == 1) return absl::OkStatus();
  if ((s.temperature != 0 && s.temperature != 1) || s.top_k != 0 || s.top_p != 1 || s.min_p != 0) {
    return UsageError(
        "--num_beams searches and draws nothing: leave out --temperature, --top_k, "
        "--top_p and --min_p");
  }
  if (!flags.stop.empty()) return UsageError("--stop goes with --num_beams=1 only");
  if (!flags.load_state.empty() || !flags.save_state.empty()) {
    return UsageError("--load_state and --save_state go with --num_beams=1 only");
  }
  return absl::OkStatus();
}

// "a string" or ["several", "of them"].
absl::StatusOr<std::vector<std::string>> ReadStopStrings(const std::string& flag) {
  std::vector<std::string> strings;
  if (!absl::StartsWith(flag, "[")) {
    if (!flag.empty()) strings.push_back(flag);
    return strings;
  }
  const Json list = Json::parse(flag, nullptr, /*allow_exceptions=*/false);
  for (const Json& string : list) {
    if (!string.is_string() || string == "") {
      return UsageError(absl::StrCat("--stop=", flag, ", expected a JSON list of strings"));
    }
    strings.push_back(string.get<std::string>());
  }
  if (strings.empty()) {
    return UsageError(absl::StrCat("--stop=", flag, ", expected a JSON list of strings"));
  }
  return strings;
}

// The text of one continuation as it grows: whole characters, up to a stop string.
class Output {
 public:
  // tokenizer: null where there is none; then the text is ids. It goes on where the prompt's ends:
  // the first word has its space.
  Output(const Tokenizer* tokenizer, const Ids& prompt,
         const std::vector<std::string>& stop_strings, bool stream)
      : tokenizer_(tokenizer), stop_(stop_strings), stream_(stream) {
    if (tokenizer == nullptr) return;
    decoder_.emplace(tokenizer);
    for (const int64_t token : prompt) {
      const int32_t id = static_cast<int32_t>(token);
      if (!tokenizer->IsSpecial(id)) decoder_->Add(id);
    }
  }

  // Returns whether to go on.
  bool Add(int64_t token) {
    const int32_t id = static_cast<int32_t>(token);
    if (tokenizer_ == nullptr) {
      Show(absl::StrCat(token, " "));
    } else if (!tokenizer_->IsSpecial(id)) {
      Show(stop_.Add(decoder_->Add(id)));
    }
    return !stop_.found();
  }

  void Finish() {
    if (tokenizer_ == nullptr) return;
    Show(stop_.Add(decoder_->Finish()));
    Show(stop_.Finish());
  }

  Json text() const { return tokenizer_ == nullptr ? Json() : Json(text_); }

 private:
  void Show(const std::string& part) {
    text_ += part;
    if (!stream_ || part.empty()) return;
    std::fwrite(part.data(), 1, part.size(), stdout);
    std::fflush(stdout);
  }

  const Tokenizer* tokenizer_;
  std::optional<StreamingDecoder> decoder_;
  StopStrings stop_;
  bool stream_;
  std::string text_;
};

void Print(const Json& result) {
  std::printf("%s\n", result.dump(-1, ' ', /*ensure_ascii=*/true).c_str());
}

// The state of --load_state with the prompts, if any, at the end of its texts; or a new one.
absl::StatusOr<GenerationState> StartState(const std::string& path, const ResidualModel& model,
                                           const std::vector<Ids>& prompts) {
  GenerationState state;
  state.texts = prompts;
  if (path.empty()) return state;
  RESIDUAL_ASSIGN_OR_RETURN(state, LoadGeneration(path, model));
  if (!prompts.empty() && prompts.size() != state.texts.size()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": holds ", state.texts.size(),
                                                   " texts, but prompts: ", prompts.size()));
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    state.texts[i].insert(state.texts[i].end(), prompts[i].begin(), prompts[i].end());
  }
  return state;
}

// Draws, or takes the most probable. Prints text as it comes, or a line of JSON for each prompt.
absl::Status Draw(const ResidualModel& model, const Tokenizer* tokenizer, GenerationState& state,
                  const std::vector<std::string>& stop_strings, GenerateOptions options, bool json,
                  double load_seconds) {
  const std::vector<Ids> prompts = state.texts;
  std::vector<Output> outputs;
  for (const Ids& prompt : prompts) outputs.emplace_back(tokenizer, prompt, stop_strings, !json);
  options.on_token = [&](int64_t prompt, const Sampled& sampled) {
    return outputs[prompt].Add(sampled.token);
  };
  RESIDUAL_ASSIGN_OR_RETURN(const Generated generated, ContinueGeneration(model, options, state));
  for (size_t i = 0; i < prompts.size(); ++i) {
    outputs[i].Finish();
    const Continuation& c = generated.continuations[i];
    if (!json) {
      std::printf("\n");
      continue;
    }
    Print({{"prompt_tokens", prompts[i]},
           {"tokens", c.tokens},
           {"text", outputs[i].text()},
           {"logprobs", c.logprobs},
           {"end", EndName(c.end)},
           {"seconds",
            {{"load", load_seconds},
             {"prefill", generated.prefill_seconds},
             {"decode", generated.decode_seconds}}}});
  }
  return absl::OkStatus();
}

absl::Status SearchBeams(const ResidualModel& model, const Tokenizer* tokenizer,
                         const std::vector<Ids>& prompts, const BeamSearchOptions& options,
                         bool json, double load_seconds) {
  for (const Ids& prompt : prompts) {
    RESIDUAL_ASSIGN_OR_RETURN(const BeamSearchResult found, BeamSearch(model, prompt, options));
    Json beams = Json::array();
    for (const Beam& beam : found.beams) {
      Output output(tokenizer, prompt, {}, !json && beams.empty());
      for (const int64_t token : beam.tokens) output.Add(token);
      output.Finish();
      beams.push_back({{"tokens", beam.tokens},
                       {"text", output.text()},
                       {"logprobs", beam.logprobs},
                       {"score", beam.score}});
    }
    if (!json) {
      std::printf("\n");
      continue;
    }
    Json result =
        beams.empty() ? Json{{"tokens", Ids()}, {"text", ""}, {"logprobs", Ids()}} : beams[0];
    result["prompt_tokens"] = prompt;
    result["beams"] = std::move(beams);
    result["seconds"] = {{"load", load_seconds},
                         {"prefill", found.prefill_seconds},
                         {"decode", found.decode_seconds}};
    Print(result);
  }
  return absl::OkStatus();
}

absl::Status Run(const CommandLine& cli, const ModelFlags& model_flags,
                 const PromptFlags& prompt_flags, Flags flags) {
  RESIDUAL_RETURN_IF_ERROR(prompt_flags.Check(/*required=*/flags.load_state.empty()));
  RESIDUAL_RETURN_IF_ERROR(CheckFlags(flags));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<std::string> stop_strings,
                            ReadStopStrings(flags.stop));
  const auto start = std::chrono::steady_clock::now();
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  auto tokenizer = LoadTokenizer(loaded.folder);
  if (!tokenizer.ok() && !absl::IsNotFound(tokenizer.status())) {
    if (!prompt_flags.ids_given()) return tokenizer.status();
    PrintWarning(cli, tokenizer.status().message());  // ids need none
  }
  const Tokenizer* words = tokenizer.ok() ? tokenizer->get() : nullptr;
  if (words == nullptr && !stop_strings.empty()) {
    return absl::NotFoundError(loaded.folder + ": no tokenizer, which --stop needs");
  }
  std::vector<Ids> prompts;
  if (prompt_flags.given()) {
    RESIDUAL_ASSIGN_OR_RETURN(
        prompts, prompt_flags.Read(words, loaded.folder, /*begins=*/flags.load_state.empty()));
  }
  const ResidualModel& model = *loaded.model;
  RESIDUAL_ASSIGN_OR_RETURN(GenerationState state, StartState(flags.load_state, model, prompts));
  const double load_seconds = SecondsSince(start);
  if (flags.stop_at_eos) {
    RESIDUAL_ASSIGN_OR_RETURN(flags.generate.stop_tokens, StopTokens(loaded.folder, loaded.config));
  }
  flags.generate.sampler.seed = cli.seed();
  flags.generate.precision = flags.beams.precision = model_flags.precision();
  const bool json = cli.json() || prompt_flags.from_file();
  if (flags.beams.num_beams == 1) {
    RESIDUAL_RETURN_IF_ERROR(
        Draw(model, words, state, stop_strings, flags.generate, json, load_seconds));
    return flags.save_state.empty() ? absl::OkStatus()
                                    : SaveGeneration(flags.save_state, model, state);
  }
  flags.beams.max_new_tokens = flags.generate.max_new_tokens;
  flags.beams.repetition_penalty = flags.generate.sampler.repetition_penalty;
  flags.beams.stop_tokens = flags.generate.stop_tokens;
  flags.beams.early_stopping = flags.early_stopping == "true"    ? EarlyStopping::kYes
                               : flags.early_stopping == "never" ? EarlyStopping::kNever
                                                                 : EarlyStopping::kNo;
  return SearchBeams(model, words, prompts, flags.beams, json, load_seconds);
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli("generate",
                            "Continues a prompt, and prints the text as it is made (token ids "
                            "where the model has no tokenizer). Draws from the model's "
                            "distribution; --temperature=0 takes the most probable token each "
                            "time, --num_beams searches for the most probable text.",
                            "--model=DIR --prompt='Once upon a time' --temperature=0.8");
  residual::ModelFlags model(cli, residual::ModelFlags::kRun);
  residual::PromptFlags prompt(cli);
  residual::Flags flags;
  residual::SamplerOptions& sampler = flags.generate.sampler;
  constexpr double kMost = 1e6;
  cli.Int("max_new_tokens", &flags.generate.max_new_tokens, 0, int64_t{1} << 40,
          "how many tokens to make");
  cli.Bool("stop_at_eos", &flags.stop_at_eos,
           "end with the model's end-of-text token, its eos_token_id");
  cli.Text("stop", &flags.stop, "end before this string; or before any of a JSON list of strings");
  cli.Number("temperature", &sampler.temperature, 0, kMost, "divides the logits; 0: greedy");
  cli.Int("top_k", &sampler.top_k, 0, int64_t{1} << 40, "keep the k most probable tokens; 0: all");
  cli.Number("top_p", &sampler.top_p, 1e-9, 1,
             "keep the fewest tokens whose probabilities reach p");
  cli.Number("min_p", &sampler.min_p, 0, 1,
             "keep tokens of at least this times the largest probability");
  cli.Number("repetition_penalty", &sampler.repetition_penalty, 1e-6, kMost,
             "above 1 lowers tokens that occurred");
  cli.Int("num_beams", &flags.beams.num_beams, 1, 4096, "above 1: beam search");
  cli.Number("length_penalty", &flags.beams.length_penalty, -kMost, kMost,
             "of beams: their log-probability is divided by length to this power");
  cli.Choice("early_stopping", &flags.early_stopping, {"false", "true", "never"},
             "when beam search ends, as in Hugging Face's generate");
  cli.Path(
      "save_state", &flags.save_state,
      "write here where the texts stand: with --max_new_tokens=0, once their prompts are read");
  cli.Path(
      "load_state", &flags.load_state,
      "go on from there with the same bits; a prompt then stands at the end of the saved text");
  return cli.Run(argc, argv, [&] { return residual::Run(cli, model, prompt, flags); });
}
