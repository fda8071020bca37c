// Reading the fields of a tokenizer's JSON: every error names the file, the field, what was found
// and what is expected.

#ifndef RESIDUAL_MODELS_TEXT_JSON_FIELD_H_
#define RESIDUAL_MODELS_TEXT_JSON_FIELD_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace residual {

// A value and where it stands. The file's JSON must outlive it.
class JsonField {
 public:
  // The whole of a file.
  JsonField(const nlohmann::json& root, const std::string& source)
      : value_(&root), source_(source) {}

  const nlohmann::json& value() const { return *value_; }
  bool is_null() const { return value_->is_null(); }

  // A member; null where there is none or this is no object.
  JsonField operator[](const std::string& name) const;
  JsonField operator[](size_t index) const;  // of a list

  // "type" is a string: that string, or else "".
  std::string type() const;

  absl::Status Bad(absl::string_view found, absl::string_view expected) const;
  absl::Status Bad(absl::string_view expected) const;  // found: the value itself

  absl::StatusOr<bool> Bool(bool otherwise) const;  // if there is none
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<std::string> String() const;
  absl::StatusOr<std::string> NonEmptyString() const;
  absl::StatusOr<int64_t> Int(int64_t least, int64_t most) const;

  const std::string& path() const { return path_; }
  const std::string& source() const { return source_; }

 private:
  JsonField(const nlohmann::json* value, std::string source, std::string path)
      : value_(value), source_(std::move(source)), path_(std::move(path)) {}

  const nlohmann::json* value_;
  std::string source_, path_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TEXT_JSON_FIELD_H_
