// Reading config.json: typed fields with ranges, and errors that name file, field, what was found
// and what is expected.
//
//   ConfigReader config(json, "model/config.json");
//   c.d_model = config.Int({"n_embd", "hidden_size"}, 1, kMaxWidth);
//   c.eps = config.NumberOr("layer_norm_epsilon", 1e-5, 0, 1);
//   config.Refuse("add_cross_attention", false);
//   RESIDUAL_RETURN_IF_ERROR(config.status());
//
// The first error is kept and every read after it gives its lowest value or its fallback, so a
// parser reads straight down and asks once. A field that is null counts as missing. A field may
// have several spellings; where a file has two that differ, that is an error.

#ifndef RESIDUAL_MODELS_CHECKPOINT_CONFIG_READER_H_
#define RESIDUAL_MODELS_CHECKPOINT_CONFIG_READER_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace residual {

// The object in a JSON text. `name` is the file's, for errors: not JSON (with line and column), not
// an object, a key twice in one object, nested deeper than 100. A byte order mark is skipped.
// Infinity, which Python writes though it is no JSON, is read as {"__float__": "Infinity"}.
absl::StatusOr<nlohmann::json> ParseJsonObject(absl::string_view text, const std::string& name);

// The same from a file of at most `limit` bytes.
absl::StatusOr<nlohmann::json> ReadJsonObject(const std::string& path, size_t limit);

// The spellings of one field, the usual one first.
struct FieldNames {
  FieldNames(const char* name) : names{name} {}  // NOLINT: reads well
  FieldNames(std::initializer_list<const char*> spellings) : names(spellings) {}  // NOLINT
  std::vector<const char*> names;
};

class ConfigReader {
 public:
  // `config` is an object and outlives the reader; `file` is its name in errors.
  ConfigReader(const nlohmann::json& config, std::string file)
      : config_(config), file_(std::move(file)) {}

  // An integer in [low, high]: required, or with a fallback that need not be in the range. No
  // fraction, no string, no bool will do.
  int64_t Int(const FieldNames& field, int64_t low, int64_t high);
  int64_t IntOr(const FieldNames& field, int64_t fallback, int64_t low, int64_t high);
  // A finite number in [low, high].
  double NumberOr(const FieldNames& field, double fallback, double low, double high);
  bool BoolOr(const FieldNames& field, bool fallback);
  std::string TextOr(const FieldNames& field, std::string fallback);

  // A text that `parse` knows; `known` are all of them, for the error.
  template <class T>
  T ChoiceOr(const FieldNames& field, T fallback,
             const std::function<std::optional<T>(absl::string_view)>& parse,
             const std::vector<std::string>& known) {
    const nlohmann::json* value = Find(field);
    if (value == nullptr) return fallback;
    if (value->is_string()) {
      const std::optional<T> parsed = parse(value->get<std::string>());
      if (parsed.has_value()) return *parsed;
    }
    FailChoice(field, *value, known);
    return fallback;
  }

  // Unimplemented unless the field is missing or has this value: an option that is not supported.
  void Refuse(const FieldNames& field, const nlohmann::json& supported);

  // The value as it is, or nullptr where it is missing or null.
  const nlohmann::json* Find(const FieldNames& field);

  // Records an error of our own: "FILE: MESSAGE".
  void Fail(absl::StatusCode code, absl::string_view message);
  // Takes over the error, if any, of a reader of an object within this one, whose file name was
  // made from this one's.
  void Join(const ConfigReader& nested);
  // "FILE: 'FIELD' is FOUND, expected EXPECTED".
  void FailField(const FieldNames& field, const nlohmann::json& found, absl::string_view expected);

  // The keys of the file that nothing has asked for, but for those in `also_known`.
  std::vector<std::string> UnreadKeys(const std::set<std::string>& also_known) const;
  // InvalidArgument if there are any; names the first and the nearest field that exists.
  void FailOnUnreadKeys(const std::set<std::string>& also_known);

  const absl::Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }
  const std::string& file() const { return file_; }
  const nlohmann::json& config() const { return config_; }

 private:
  void FailChoice(const FieldNames& field, const nlohmann::json& found,
                  const std::vector<std::string>& known);

  const nlohmann::json& config_;
  std::string file_;
  std::set<std::string> asked_;
  absl::Status status_;
};

// A JSON value for a message: at most 60 bytes of it.
std::string ShortJson(const nlohmann::json& value);

}  // namespace residual

#endif  // RESIDUAL_MODELS_CHECKPOINT_CONFIG_READER_H_
