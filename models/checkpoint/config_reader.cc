#include "models/checkpoint/config_reader.h"

#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "models/nn/nearest.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 100;

// Watches a parse: what JSON allows and a config must not have.
class ParseWatch {
 public:
  bool operator()(int depth, json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys_.emplace_back();
        [[fallthrough]];
      case json::parse_event_t::array_start:
        if (depth > kMaxDepth) too_deep_ = true;
        break;
      case json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case json::parse_event_t::key: {
        const std::string& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second && repeated_.empty()) repeated_ = ShortJson(parsed);
        break;
      }
      default:
        break;
    }
    return !too_deep_;
  }

  absl::Status Check(const std::string& name) const {
    if (too_deep_) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": nested deeper than ", kMaxDepth, " levels"));
    }
    if (!repeated_.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": the key ", repeated_, " is there twice"));
    }
    return absl::OkStatus();
  }

 private:
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
  bool too_deep_ = false;
  std::string repeated_;
};

// Python writes an infinity bare, which is no JSON: here as transformers 5 spells it.
std::string SpellInfinities(absl::string_view text) {
  constexpr absl::string_view kInfinity = "Infinity";
  std::string spelled;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      absl::StrAppend(&spelled, text.substr(i, 2));
      ++i;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    if (!in_string && absl::StartsWith(text.substr(i), kInfinity)) {
      absl::StrAppend(&spelled, "{\"__float__\": \"", kInfinity, "\"}");
      i += kInfinity.size() - 1;
    } else {
      spelled.push_back(text[i]);
    }
  }
  return spelled;
}

std::string Quoted(const FieldNames& field) {
  return absl::StrCat("'", absl::StrJoin(field.names, "' or '"), "'");
}

// -1.5, but 64 without a point.
std::string NumberText(double x) { return ShortJson(json(x)); }

}  // namespace

std::string ShortJson(const json& value) {
  constexpr size_t kLimit = 60;
  if (value.is_string() && value.get_ref<const std::string&>().size() > kLimit) {
    // Not dumped whole: it may be very long.
    return ShortJson(json(value.get_ref<const std::string&>().substr(0, kLimit - 5) + "..."));
  }
  if (value.is_structured() && value.size() > kLimit) {
    return absl::StrCat(value.is_array() ? "a list of " : "an object of ", value.size());
  }
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kLimit) text = text.substr(0, kLimit - 3) + "...";
  return text;
}

absl::StatusOr<json> ParseJsonObject(absl::string_view text, const std::string& name) {
  if (absl::StrContains(text, "Infinity")) {
    const std::string spelled = SpellInfinities(text);
    if (spelled != text) return ParseJsonObject(spelled, name);
  }
  ParseWatch watch;
  json parsed;
  try {
    // std::ref: the parser copies its callback.
    parsed = json::parse(text.begin(), text.end(), std::ref(watch));
  } catch (const json::exception& error) {
    RESIDUAL_RETURN_IF_ERROR(watch.Check(name));
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ...": ours without the
    // library's number.
    std::string what;
    // The excerpt may be cut within a character, or be no text at all.
    for (const char* c = error.what(); *c != '\0'; ++c) {
      const auto byte = static_cast<unsigned char>(*c);
      if (byte < 0x80) {
        what.push_back(*c);
      } else {
        absl::StrAppendFormat(&what, "\\x%02X", byte);
      }
    }
    const size_t bracket = what.find("] ");
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": not valid JSON: ",
        (bracket == std::string::npos ? what : what.substr(bracket + 2)).substr(0, 200)));
  }
  RESIDUAL_RETURN_IF_ERROR(watch.Check(name));
  if (!parsed.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": holds ", ShortJson(parsed), ", expected a JSON object"));
  }
  return parsed;
}

absl::StatusOr<json> ReadJsonObject(const std::string& path, size_t limit) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, limit));
  return ParseJsonObject(text, path);
}

const json* ConfigReader::Find(const FieldNames& field) {
  const json* found = nullptr;
  const char* found_name = nullptr;
  for (const char* name : field.names) {
    asked_.insert(name);
    const auto entry = config_.find(name);
    if (entry == config_.end() || entry->is_null()) continue;
    if (found == nullptr) {
      found = &*entry;
      found_name = name;
    } else if (*found != *entry) {
      Fail(absl::StatusCode::kInvalidArgument,
           absl::StrCat("'", found_name, "' is ", ShortJson(*found), " but '", name, "' is ",
                        ShortJson(*entry), "; they are two names of one thing"));
    }
  }
  return found;
}

int64_t ConfigReader::Int(const FieldNames& field, int64_t low, int64_t high) {
  if (Find(field) == nullptr) {
    Fail(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat(Quoted(field), " is missing, expected an integer in [", low, ", ", high, "]"));
  }
  return IntOr(field, low, low, high);
}

int64_t ConfigReader::IntOr(const FieldNames& field, int64_t fallback, int64_t low, int64_t high) {
  const json* value = Find(field);
  if (value == nullptr) return fallback;
  if (value->is_number_integer()) {
    // An unsigned one may be beyond int64.
    const bool fits = !value->is_number_unsigned() || value->get<uint64_t>() <= INT64_MAX;
    const int64_t number = fits ? value->get<int64_t>() : -1;
    if (fits && number >= low && number <= high) return number;
  }
  FailField(field, *value, absl::StrCat("an integer in [", low, ", ", high, "]"));
  return fallback;
}

double ConfigReader::NumberOr(const FieldNames& field, double fallback, double low, double high) {
  const json* value = Find(field);
  if (value == nullptr) return fallback;
  if (value->is_number()) {
    const double number = value->get<double>();
    if (std::isfinite(number) && number >= low && number <= high) return number;
  }
  FailField(field, *value,
            absl::StrCat("a number in [", NumberText(low), ", ", NumberText(high), "]"));
  return fallback;
}

bool ConfigReader::BoolOr(const FieldNames& field, bool fallback) {
  const json* value = Find(field);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  FailField(field, *value, "true or false");
  return fallback;
}

std::string ConfigReader::TextOr(const FieldNames& field, std::string fallback) {
  const json* value = Find(field);
  if (value == nullptr) return fallback;
  if (value->is_string()) return value->get<std::string>();
  FailField(field, *value, "a text");
  return fallback;
}

void ConfigReader::Refuse(const FieldNames& field, const json& supported) {
  const json* value = Find(field);
  if (value == nullptr || *value == supported) return;
  Fail(absl::StatusCode::kUnimplemented,
       absl::StrCat("'", field.names[0], "' is ", ShortJson(*value), ", supported is only ",
                    ShortJson(supported)));
}

void ConfigReader::Fail(absl::StatusCode code, absl::string_view message) {
  if (status_.ok()) status_ = absl::Status(code, absl::StrCat(file_, ": ", message));
}

void ConfigReader::Join(const ConfigReader& nested) {
  if (status_.ok()) status_ = nested.status();
}

void ConfigReader::FailField(const FieldNames& field, const json& found,
                             absl::string_view expected) {
  const char* name = field.names[0];
  for (const char* spelling : field.names) {
    if (config_.contains(spelling) && config_[spelling] == found) name = spelling;
  }
  Fail(absl::StatusCode::kInvalidArgument,
       absl::StrCat("'", name, "' is ", ShortJson(found), ", expected ", expected));
}

void ConfigReader::FailChoice(const FieldNames& field, const json& found,
                              const std::vector<std::string>& known) {
  FailField(field, found,
            absl::StrCat("one of \"", absl::StrJoin(known, "\", \""), "\"",
                         found.is_string() && found.get_ref<const std::string&>().size() < 100
                             ? DidYouMean(found.get<std::string>(), known)
                             : ""));
}

std::vector<std::string> ConfigReader::UnreadKeys(const std::set<std::string>& also_known) const {
  std::vector<std::string> unread;
  for (const auto& [key, value] : config_.items()) {
    if (asked_.count(key) == 0 && also_known.count(key) == 0) unread.push_back(key);
  }
  return unread;
}

void ConfigReader::FailOnUnreadKeys(const std::set<std::string>& also_known) {
  const std::vector<std::string> unread = UnreadKeys(also_known);
  if (unread.empty()) return;
  const std::string key = unread[0].substr(0, 100);
  Fail(absl::StatusCode::kInvalidArgument,
       absl::StrCat("no field ", ShortJson(json(key)), " exists",
                    DidYouMean(key, {asked_.begin(), asked_.end()})));
}

}  // namespace residual
