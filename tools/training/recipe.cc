#include "tools/training/recipe.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "models/checkpoint/config_reader.h"
#include "models/data/tasks/tasks.h"
#include "models/nn/nearest.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/crc32.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr size_t kConfigLimit = size_t{1} << 20;

// A member of the object, which is taken out; `fallback` if it is missing or of another type.
template <class T>
T Take(json& values, const char* name, T fallback) {
  const json found = values.value(name, json());
  values.erase(name);
  return found.type() == json(fallback).type() ? found.get<T>() : fallback;
}

// The recipe in the object of a config file or train.json.
absl::StatusOr<Recipe> FromJson(const std::string& preset, json values, const std::string& source) {
  RESIDUAL_ASSIGN_OR_RETURN(Settings settings, Settings::Of(preset));
  Recipe recipe{std::move(settings), "", "", 0, ""};
  recipe.text = Take(values, "text", std::string());
  recipe.task = Take(values, "task", std::string());
  recipe.text_bytes = Take(values, "text_bytes", uint64_t{0});
  recipe.text_crc32 = Take(values, "text_crc32", std::string());
  RESIDUAL_RETURN_IF_ERROR(recipe.settings.SetAll(values, source));
  return recipe;
}

bool IsTokenizerKind(const std::string& value) {
  return value == "bytes" || absl::StartsWith(value, "bpe:");
}

absl::Status ApplyFlags(const TrainFlags& flags, Recipe& recipe) {
  for (const auto& [name, value] : flags.settings) {
    const bool path = name == "tokenizer" && !IsTokenizerKind(value);
    RESIDUAL_RETURN_IF_ERROR(recipe.settings.SetText(name, path ? FromUserFolder(value) : value));
  }
  if (flags.seed) {
    RESIDUAL_RETURN_IF_ERROR(recipe.settings.SetText("seed", absl::StrCat(*flags.seed)));
  }
  if (!flags.text.empty()) recipe.text = std::filesystem::absolute(flags.text);
  if (!flags.task.empty()) recipe.task = flags.task;
  return absl::OkStatus();
}

std::string PresetOf(const json& values) {
  const auto found = values.find("model");
  return found != values.end() && found->is_string() ? found->get<std::string>() : "";
}

// What is wrong with what the user asked for.
absl::Status AsUsage(const absl::Status& status) {
  return absl::IsInvalidArgument(status) ? UsageError(status.message()) : status;
}

absl::StatusOr<Recipe> FromFlags(const TrainFlags& flags) {
  json values = json::object();
  if (!flags.config.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(values, ReadJsonObject(flags.config, kConfigLimit));
  }
  const std::string preset = flags.model.empty() ? PresetOf(values) : flags.model;
  if (preset.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--model is missing, expected one of ",
                                                   absl::StrJoin(Settings::Presets(), ", ")));
  }
  RESIDUAL_ASSIGN_OR_RETURN(Recipe recipe, FromJson(preset, values, flags.config));
  RESIDUAL_RETURN_IF_ERROR(ApplyFlags(flags, recipe));
  if (recipe.text.empty() == recipe.task.empty()) {
    return absl::InvalidArgumentError(
        recipe.text.empty() ? "neither --text nor --task is given, expected one of them"
                            : "--text and --task are both given, expected one of them");
  }
  const std::vector<std::string> tasks = TaskNames();
  if (!recipe.task.empty() && std::find(tasks.begin(), tasks.end(), recipe.task) == tasks.end()) {
    return absl::InvalidArgumentError(absl::StrCat("--task=", recipe.task, ", expected one of ",
                                                   absl::StrJoin(tasks, ", "),
                                                   DidYouMean(recipe.task, tasks)));
  }
  const json defaults = Settings::Of(preset)->values();
  if (recipe.task.empty() && recipe.settings.values()["n_items"] != defaults["n_items"]) {
    return absl::InvalidArgumentError("--n_items is for tasks, it changes nothing of a text");
  }
  for (const char* name : {"tokenizer", "repeat", "eval_repeat", "eval_fraction"}) {
    if (!recipe.task.empty() && recipe.settings.values()[name] != defaults[name]) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " is for texts, it changes nothing of --task=", recipe.task));
    }
  }
  return recipe;
}

absl::StatusOr<Recipe> FromRun(const TrainFlags& flags) {
  const std::string path = RecipePath(flags);
  absl::StatusOr<json> saved = ReadJsonObject(path, kConfigLimit);
  if (absl::IsNotFound(saved.status())) {
    return absl::NotFoundError(absl::StrCat(flags.out, ": has no run to resume (no train.json)"));
  }
  RESIDUAL_RETURN_IF_ERROR(saved.status());
  RESIDUAL_ASSIGN_OR_RETURN(Recipe recipe, FromJson(PresetOf(*saved), *saved, path));
  json config = recipe.ToJson();
  if (!flags.config.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(const json changes, ReadJsonObject(flags.config, kConfigLimit));
    config.update(changes);
  }
  RESIDUAL_ASSIGN_OR_RETURN(Recipe given, FromJson(PresetOf(*saved), config, flags.config));
  RESIDUAL_RETURN_IF_ERROR(ApplyFlags(flags, given));
  const json before = recipe.ToJson();
  json after = given.ToJson();
  if (!flags.model.empty()) after["model"] = flags.model;
  for (const auto& [name, value] : after.items()) {
    const json old = before.value(name, json());
    if (old == value || name == "text") continue;
    return absl::InvalidArgumentError(absl::StrCat("--resume: ", name, " is ", ShortJson(value),
                                                   ", but ", path, " has ", ShortJson(old),
                                                   "; a run keeps its settings"));
  }
  recipe.text = given.text;
  return recipe;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const std::string& kind,
                                                         const std::string& text) {
  if (kind == "bytes") return MakeByteTokenizer();
  if (!IsTokenizerKind(kind)) return LoadTokenizer(kind);
  int64_t size = 0;
  if (!absl::SimpleAtoi(absl::StripPrefix(kind, "bpe:"), &size)) size = 0;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = TrainBpe(text, size);
  if (tokenizer.ok()) return tokenizer;
  return UsageError(absl::StrCat("--tokenizer=", kind, ": ", tokenizer.status().message()));
}

}  // namespace

json Recipe::ToJson() const {
  json all = settings.values();
  if (task.empty()) {
    all.update({{"text", text}, {"text_bytes", text_bytes}, {"text_crc32", text_crc32}});
  } else {
    all["task"] = task;
  }
  return all;
}

std::string RecipePath(const TrainFlags& flags) { return JoinPath(flags.out, "train.json"); }

absl::StatusOr<Recipe> NewRecipe(const TrainFlags& flags) {
  absl::StatusOr<Recipe> recipe = FromFlags(flags);
  if (!recipe.ok()) return AsUsage(recipe.status());
  return recipe;
}

absl::StatusOr<Recipe> ResumedRecipe(const TrainFlags& flags) {
  absl::StatusOr<Recipe> recipe = FromRun(flags);
  if (!recipe.ok()) return AsUsage(recipe.status());
  return recipe;
}

absl::StatusOr<TrainData> LoadTrainData(const TrainFlags& flags, const TrainingPlan& plan,
                                        Recipe& recipe) {
  TrainData data;
  if (!recipe.task.empty()) {
    auto source = MakeTask(recipe.task, {plan.text.context, plan.d_vocab, plan.n_items});
    if (!source.ok()) return UsageError(source.status().message());
    data.source = *std::move(source);
    return data;
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(recipe.text));
  const std::string crc = absl::StrFormat("%08x", Crc32(text));
  if (!flags.resume) {
    recipe.text_bytes = text.size();
    recipe.text_crc32 = crc;
  } else if (text.size() != recipe.text_bytes || crc != recipe.text_crc32) {
    return absl::FailedPreconditionError(absl::StrCat(
        recipe.text, ": has ", text.size(), " bytes and crc32 ", crc, ", the run began with ",
        recipe.text_bytes, " and ", recipe.text_crc32, "; where is that text? (--text=FILE)"));
  }
  if (text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(recipe.text, ": is empty, expected a text"));
  }
  if (flags.resume) {
    RESIDUAL_ASSIGN_OR_RETURN(data.tokenizer, LoadTokenizer(flags.out));
  } else {
    RESIDUAL_ASSIGN_OR_RETURN(data.tokenizer, MakeTokenizer(plan.tokenizer, text));
  }
  if (plan.d_vocab != 0 && plan.d_vocab != data.tokenizer->vocab_size()) {
    return UsageError(absl::StrCat("--d_vocab=", plan.d_vocab, ", the tokenizer has ",
                                   data.tokenizer->vocab_size(), " tokens"));
  }
  absl::StatusOr<std::unique_ptr<DataSource>> source =
      MakeTextData(data.tokenizer->Encode(text), data.tokenizer->vocab_size(), plan.text);
  if (!source.ok()) {
    return absl::Status(source.status().code(),
                        absl::StrCat(recipe.text, ": ", source.status().message()));
  }
  data.source = *std::move(source);
  return data;
}

}  // namespace residual
