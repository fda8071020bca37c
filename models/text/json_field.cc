#include "models/text/json_field.h"

#include "absl/strings/str_cat.h"
#include "models/checkpoint/config_reader.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

const nlohmann::json& Null() {
  static const auto* null = new nlohmann::json;
  return *null;
}

}  // namespace

JsonField JsonField::operator[](const std::string& name) const {
  const nlohmann::json* member = &Null();
  if (value_->is_object()) {
    const auto it = value_->find(name);
    if (it != value_->end()) member = &*it;
  }
  return JsonField(member, source_, path_.empty() ? name : absl::StrCat(path_, ".", name));
}

JsonField JsonField::operator[](size_t index) const {
  return JsonField(&(*value_)[index], source_, absl::StrCat(path_, "[", index, "]"));
}

std::string JsonField::type() const {
  const JsonField type = (*this)["type"];
  return type.value().is_string() ? type.value().get<std::string>() : "";
}

absl::Status JsonField::Bad(absl::string_view found, absl::string_view expected) const {
  return absl::InvalidArgumentError(
      absl::StrCat(source_, ": '", path_, "' is ", found, ", expected ", expected));
}

absl::Status JsonField::Bad(absl::string_view expected) const {
  return Bad(ShortJson(*value_), expected);
}

absl::StatusOr<bool> JsonField::Bool(bool otherwise) const {
  if (is_null()) return otherwise;
  return Bool();
}

absl::StatusOr<bool> JsonField::Bool() const {
  if (!value_->is_boolean()) return Bad("true or false");
  return value_->get<bool>();
}

absl::StatusOr<std::string> JsonField::String() const {
  if (!value_->is_string()) return Bad("a string");
  return value_->get<std::string>();
}

absl::StatusOr<std::string> JsonField::NonEmptyString() const {
  RESIDUAL_ASSIGN_OR_RETURN(std::string text, String());
  if (text.empty()) return Bad("a string that is not empty");
  return text;
}

absl::StatusOr<int64_t> JsonField::Int(int64_t least, int64_t most) const {
  const bool fits = value_->is_number_integer() &&
                    !(value_->is_number_unsigned() && value_->get<uint64_t>() > INT64_MAX);
  if (!fits || value_->get<int64_t>() < least || value_->get<int64_t>() > most) {
    return Bad(absl::StrCat("an integer in [", least, ", ", most, "]"));
  }
  return value_->get<int64_t>();
}

}  // namespace residual
