#include "tools/training/recipe.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/checkpoint/config_reader.h"
#include "models/data/sets/labeled_set.h"
#include "models/data/tasks/tasks.h"
#include "models/nn/nearest.h"
#include "tensor/base/status_macros.h"
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
  Recipe recipe{std::move(settings)};
  recipe.text = Take(values, "text", std::string());
  recipe.task = Take(values, "task", std::string());
  recipe.labeled = Take(values, "labeled", std::string());
  recipe.text_bytes = Take(values, "text_bytes", uint64_t{0});
  recipe.text_crc32 = Take(values, "text_crc32", std::string());
  // A number that is written as an int64_t is read as an unsigned one.
  recipe.labeled_rows = static_cast<int64_t>(Take(values, "labeled_rows", uint64_t{0}));
  recipe.labeled_crc32 = Take(values, "labeled_crc32", std::string());
  RESIDUAL_RETURN_IF_ERROR(recipe.settings.SetAll(values, source));
  return recipe;
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
  if (!flags.labeled.empty()) {
    absl::StatusOr<LabeledSetSpec> spec = ParseLabeledSet(flags.labeled);
    if (!spec.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--labeled: ", spec.status().message()));
    }
    if (!spec->path.empty()) spec->path = std::filesystem::absolute(FromUserFolder(spec->path));
    recipe.labeled = spec->ToString();
  }
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

// One source of data, and one there is.
absl::Status CheckSource(const Recipe& recipe) {
  const int given = !recipe.text.empty() + !recipe.task.empty() + !recipe.labeled.empty();
  if (given == 0) {
    return absl::InvalidArgumentError(
        "neither --text nor --task nor --labeled is given, expected one of them");
  }
  if (given > 1) {
    return absl::InvalidArgumentError(
        "more than one of --text, --task and --labeled is given, expected one of them");
  }
  const std::vector<std::string> tasks = TaskNames();
  if (!recipe.task.empty() && std::find(tasks.begin(), tasks.end(), recipe.task) == tasks.end()) {
    return absl::InvalidArgumentError(absl::StrCat("--task=", recipe.task, ", expected one of ",
                                                   absl::StrJoin(tasks, ", "),
                                                   DidYouMean(recipe.task, tasks)));
  }
  return recipe.labeled.empty() ? absl::OkStatus() : ParseLabeledSet(recipe.labeled).status();
}

// Refuses settings that would change nothing.
absl::Status CheckSettingsOfOtherData(const Recipe& recipe, const json& defaults) {
  const auto refuse = [&](std::initializer_list<const char*> names, absl::string_view what) {
    for (const char* name : names) {
      if (recipe.settings.values()[name] == defaults[name]) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("--", name, " ", what, ", it changes nothing of ",
                       !recipe.text.empty()   ? "a text"
                       : !recipe.task.empty() ? absl::StrCat("--task=", recipe.task)
                                              : absl::StrCat("--labeled=", recipe.labeled)));
    }
    return absl::OkStatus();
  };
  if (recipe.task.empty()) RESIDUAL_RETURN_IF_ERROR(refuse({"n_items"}, "is for tasks"));
  if (recipe.text.empty()) {
    RESIDUAL_RETURN_IF_ERROR(
        refuse({"tokenizer", "repeat", "eval_repeat", "eval_fraction"}, "is for texts"));
  }
  if (recipe.labeled.empty()) {
    return refuse({"validation_rows", "pooling"}, "is for labelled data");
  }
  return refuse({"context", "d_vocab", "accumulation", "eval_batches", "label_smoothing", "tied",
                 "unembed_bias"},
                "is for texts and tasks");
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
  RESIDUAL_RETURN_IF_ERROR(CheckSource(recipe));
  RESIDUAL_RETURN_IF_ERROR(CheckSettingsOfOtherData(recipe, Settings::Of(preset)->values()));
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
    if (old == value || name == "text" || name == "labeled") continue;
    return absl::InvalidArgumentError(absl::StrCat("--resume: ", name, " is ", ShortJson(value),
                                                   ", but ", path, " has ", ShortJson(old),
                                                   "; a run keeps its settings"));
  }
  if (given.labeled.empty() != recipe.labeled.empty() ||
      given.text.empty() != recipe.text.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--resume: ", path, " has other data; a run keeps its settings"));
  }
  recipe.text = given.text;
  recipe.labeled = given.labeled;
  return recipe;
}

}  // namespace

json Recipe::ToJson() const {
  json all = settings.values();
  if (!task.empty()) {
    all["task"] = task;
  } else if (!labeled.empty()) {
    all.update({{"labeled", labeled},
                {"labeled_rows", static_cast<uint64_t>(labeled_rows)},
                {"labeled_crc32", labeled_crc32}});
  } else {
    all.update({{"text", text}, {"text_bytes", text_bytes}, {"text_crc32", text_crc32}});
  }
  return all;
}

bool IsTokenizerKind(const std::string& value) {
  return value == "bytes" || absl::StartsWith(value, "bpe:");
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

}  // namespace residual
