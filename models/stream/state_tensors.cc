#include "models/stream/state_tensors.h"

#include "absl/strings/str_cat.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

absl::Status Wrong(const SafetensorsFile& file, const std::string& name,
                   const std::string& expected) {
  const TensorInfo* info = file.Find(name);
  return absl::InvalidArgumentError(absl::StrCat(
      file.path(), ": '", name, "' is ",
      info == nullptr ? "missing" : absl::StrCat(info->dtype_name, info->shape.ToString()),
      ", expected ", expected));
}

}  // namespace

absl::StatusOr<Tensor> StateReader::ReadFloats(const std::string& name, const Shape& shape) {
  const std::string full = prefix_ + name;
  const TensorInfo* info = file_.Find(full);
  if (info == nullptr || !info->readable || !IsFloat(info->dtype) || info->shape != shape) {
    return Wrong(file_, full, absl::StrCat("floats of the shape ", shape.ToString()));
  }
  read_.insert(full);
  return file_.Read(full);
}

absl::StatusOr<std::vector<int64_t>> StateReader::ReadList(const std::string& name) {
  const std::string full = prefix_ + name;
  const TensorInfo* info = file_.Find(full);
  if (info == nullptr || info->dtype_name != "I64" || info->shape.rank() != 1) {
    return Wrong(file_, full, "I64[any length]");
  }
  read_.insert(full);
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor numbers, file_.Read(full));
  const auto span = numbers.span<int64_t>();
  return std::vector<int64_t>(span.begin(), span.end());
}

absl::Status StateReader::CheckAllRead() const {
  for (const TensorInfo& info : file_.tensors()) {
    if (read_.count(info.name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(file_.path(), ": '", info.name, "' is no part of a state of this model"));
    }
  }
  return absl::OkStatus();
}

}  // namespace residual
