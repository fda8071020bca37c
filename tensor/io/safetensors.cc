#include "tensor/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors_header.h"
#include "tensor/io/wide_integers.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little endian");

namespace residual {

using safetensors_internal::Entry;
using safetensors_internal::FindFormatDType;
using safetensors_internal::FormatDType;
using safetensors_internal::FormatDTypeOf;
using safetensors_internal::FormatDTypes;
using safetensors_internal::Header;
using safetensors_internal::kMaxHeaderBytes;
using safetensors_internal::ParseHeader;
using safetensors_internal::Quoted;

namespace {

absl::Status WithPath(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

// A bool of C++ has two values; a file may hold others.
absl::Status CheckBools(const unsigned char* data, const TensorInfo& info) {
  for (uint64_t i = 0; i < info.bytes; ++i) {
    if (data[i] > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", Quoted(info.name), ": the BOOL at byte ", info.offset + i,
                       " of the file is ", data[i], ", expected 0 or 1"));
    }
  }
  return absl::OkStatus();
}

// A string as JSON has it, in UTF-8.
absl::StatusOr<std::string> JsonString(const std::string& path, const std::string& text) {
  using nlohmann::json;
  std::string dumped = json(text).dump(-1, ' ', false, json::error_handler_t::ignore);
  // What is no UTF-8 was left out.
  if (json::parse(dumped).get_ref<const std::string&>() != text) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", Quoted(text), " is no UTF-8, which the format asks for"));
  }
  return dumped;
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path,
                                                      const ReadOptions& options) {
  SafetensorsFile result;
  RESIDUAL_ASSIGN_OR_RETURN(result.file_, MappedFile::Open(path, options.mmap));
  const MappedFile& file = *result.file_;
  if (file.size() < 8) {
    return absl::DataLossError(absl::StrCat(
        path, ": has ", file.size(), " bytes, expected at least the 8 of the header's length"));
  }
  uint64_t length = 0;
  RESIDUAL_RETURN_IF_ERROR(file.ReadAt(0, sizeof(length), &length));
  if (length > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": the header's length at byte 0 is ",
                                                   length, ", at most ", kMaxHeaderBytes));
  }
  if (length > file.size() - 8) {
    return absl::DataLossError(absl::StrCat(path, ": the header's length at byte 0 is ", length,
                                            ", but the file has ", file.size() - 8,
                                            " bytes after it; is it cut or not yet whole?"));
  }
  std::string copy;
  if (!file.mapped()) {
    copy.resize(length);
    RESIDUAL_RETURN_IF_ERROR(file.ReadAt(8, length, copy.data()));
  }
  const absl::string_view text(file.mapped() ? file.data(8) : copy.data(), length);
  absl::StatusOr<Header> header = ParseHeader(text, file.size() - 8 - length);
  if (!header.ok()) return WithPath(path, header.status());

  result.metadata_ = std::move(header->metadata);
  result.tensors_.reserve(header->entries.size());
  for (Entry& entry : header->entries) {
    TensorInfo info;
    info.name = std::move(entry.name);
    info.shape = entry.shape;
    info.dtype = entry.dtype->dtype;
    info.dtype_name = entry.dtype->name;
    info.readable = entry.dtype->readable;
    info.offset = 8 + length + entry.begin;
    info.bytes = entry.end - entry.begin;
    result.tensors_.push_back(std::move(info));
  }
  return result;
}

const TensorInfo* SafetensorsFile::Find(absl::string_view name) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorInfo& info, absl::string_view wanted) { return info.name < wanted; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

void SafetensorsFile::Forget(absl::string_view name, uint64_t begin, uint64_t bytes) const {
  const TensorInfo* info = Find(name);
  if (info == nullptr || begin >= info->bytes) return;
  file_->Forget(info->offset + begin, std::min(bytes, info->bytes - begin));
}

absl::StatusOr<Tensor> SafetensorsFile::Read(absl::string_view name) const {
  const TensorInfo* info = Find(name);
  if (info == nullptr) {
    return absl::NotFoundError(absl::StrCat(path(), ": has no tensor ", Quoted(name)));
  }
  if (!info->readable) {
    return absl::UnimplementedError(absl::StrCat(path(), ": tensor ", Quoted(name), ": dtype ",
                                                 info->dtype_name, " is not supported"));
  }
  if (info->bytes == 0) return Tensor::Uninitialized(info->shape, info->dtype);
  const char* mapped = file_->data(info->offset);
  const size_t widened_from = FindFormatDType(info->dtype_name)->widened_from;
  if (widened_from != 0) {
    std::string copy;
    if (mapped == nullptr) {
      copy.resize(info->bytes);
      RESIDUAL_RETURN_IF_ERROR(file_->ReadAt(info->offset, info->bytes, copy.data()));
      mapped = copy.data();
    }
    absl::StatusOr<Tensor> wide = WidenUnsigned(mapped, widened_from, info->shape);
    if (wide.ok()) return wide;
    return absl::Status(wide.status().code(), absl::StrCat(path(), ": tensor ", Quoted(name), ": ",
                                                           wide.status().message()));
  }
  Tensor result;
  if (mapped != nullptr && reinterpret_cast<uintptr_t>(mapped) % SizeOf(info->dtype) == 0) {
    result = Tensor::Wrap(mapped, info->shape, info->dtype, [file = file_] {});
  } else {
    result = Tensor::Uninitialized(info->shape, info->dtype);
    RESIDUAL_RETURN_IF_ERROR(file_->ReadAt(info->offset, info->bytes, result.mutable_raw_data()));
  }
  if (info->dtype == kBool) {
    const absl::Status status =
        CheckBools(static_cast<const unsigned char*>(result.raw_data()), *info);
    if (!status.ok()) return WithPath(path(), status);
  }
  return result;
}

absl::Status WriteSafetensors(const std::string& path, absl::Span<const NamedTensor> tensors,
                              const std::map<std::string, std::string>& metadata) {
  // Widest first, so that every tensor is aligned without holes.
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), 0);
  const auto rank = [&](size_t i) {
    return &FormatDTypeOf(tensors[i].second.dtype()) - FormatDTypes().data();
  };
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::make_pair(-rank(a), absl::string_view(tensors[a].first)) <
           std::make_pair(-rank(b), absl::string_view(tensors[b].first));
  });

  std::vector<SafetensorsWriter::Entry> entries;
  for (const size_t i : order) {
    const auto& [name, value] = tensors[i];
    RESIDUAL_CHECK(value.defined()) << name;
    entries.push_back({name, value.dtype(), value.shape()});
  }
  RESIDUAL_ASSIGN_OR_RETURN(SafetensorsWriter writer,
                            SafetensorsWriter::Create(path, std::move(entries), metadata));
  for (const size_t i : order) RESIDUAL_RETURN_IF_ERROR(writer.Append(tensors[i].second));
  return writer.Commit();
}

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(
    const std::string& path, std::vector<Entry> entries,
    const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  const auto begin_field = [&](const std::string& name) {
    if (header.size() > 1) header += ",";
    header += name;
    header += ":";
  };
  if (!metadata.empty()) {
    begin_field("\"__metadata__\"");
    char separator = '{';
    for (const auto& [key, value] : metadata) {
      RESIDUAL_ASSIGN_OR_RETURN(const std::string json_key, JsonString(path, key));
      RESIDUAL_ASSIGN_OR_RETURN(const std::string json_value, JsonString(path, value));
      absl::StrAppend(&header, absl::string_view(&separator, 1), json_key, ":", json_value);
      separator = ',';
    }
    header += "}";
  }
  std::set<absl::string_view> names;
  uint64_t offset = 0;
  for (const auto& [name, dtype, shape] : entries) {
    const uint64_t bytes = shape.elements() * SizeOf(dtype);
    if (name == "__metadata__" || !names.insert(name).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor ", Quoted(name),
          name == "__metadata__" ? " has the name of the metadata" : " is given twice"));
    }
    RESIDUAL_ASSIGN_OR_RETURN(const std::string json_name, JsonString(path, name));
    begin_field(json_name);
    absl::StrAppend(&header, "{\"dtype\":\"", FormatDTypeOf(dtype).name, "\",\"shape\":[",
                    absl::StrJoin(shape.sizes(), ","), "],\"data_offsets\":[", offset, ",",
                    offset + bytes, "]}");
    offset += bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": the header would have ", header.size(),
                                                   " bytes, at most ", kMaxHeaderBytes));
  }

  SafetensorsWriter writer;
  RESIDUAL_ASSIGN_OR_RETURN(writer.file_, AtomicFile::Create(path));
  const uint64_t length = header.size();
  RESIDUAL_RETURN_IF_ERROR(
      writer.file_->Append({reinterpret_cast<const char*>(&length), sizeof(length)}));
  RESIDUAL_RETURN_IF_ERROR(writer.file_->Append(header));
  writer.entries_ = std::move(entries);
  return writer;
}

absl::Status SafetensorsWriter::Append(const Tensor& value) {
  RESIDUAL_CHECK_LT(next_, entries_.size()) << "more tensors than were announced";
  const Entry& entry = entries_[next_++];
  RESIDUAL_CHECK(value.shape() == entry.shape && value.dtype() == entry.dtype)
      << entry.name << " is " << value.ToString() << ", announced as " << Name(entry.dtype)
      << entry.shape;
  Tensor host = value;
  if (value.device() != kCpu) {
    host = Tensor::Uninitialized(value.shape(), value.dtype());
    CopyBytes(value, host);
  }
  return file_->Append({static_cast<const char*>(host.raw_data()), host.bytes()});
}

absl::Status SafetensorsWriter::Commit() {
  RESIDUAL_CHECK_EQ(next_, entries_.size()) << "tensors that were announced are missing";
  return file_->Commit();
}

}  // namespace residual
