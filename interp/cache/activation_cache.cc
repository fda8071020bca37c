#include "interp/cache/activation_cache.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "models/nn/nearest.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/core/first_nan.h"

namespace residual {
namespace {

constexpr char kKind[] = "residual activations";

// Those indices of an axis, in a tensor of its own.
Tensor Take(const Tensor& x, int axis, const std::vector<int64_t>& indices) {
  Tensor taken =
      Tensor::Uninitialized(x.shape().With(axis, static_cast<int64_t>(indices.size())), x.dtype());
  const int64_t outer = x.shape().elements(0, axis);
  const size_t bytes = x.shape().elements(axis + 1, x.rank()) * SizeOf(x.dtype());
  const char* const from = static_cast<const char*>(x.raw_data());
  char* to = static_cast<char*>(taken.mutable_raw_data());
  for (int64_t o = 0; o < outer; ++o) {
    for (const int64_t index : indices) {
      std::memcpy(to, from + (o * x.dim(axis) + index) * bytes, bytes);
      to += bytes;
    }
  }
  return taken;
}

// What is kept of an activation, in bytes of its own.
Tensor PartOf(const CacheEntry& entry, const Tensor& x) {
  Tensor part = x;
  if (entry.pos_axis >= 0) part = Take(part, entry.pos_axis, entry.positions);
  if (entry.head_axis >= 0) part = Take(part, entry.head_axis, entry.heads);
  return entry.pos_axis < 0 && entry.head_axis < 0 ? part.Clone() : part;
}

bool SameBytes(const Tensor& a, const Tensor& b) {
  return a.defined() && a.dtype() == b.dtype() && a.bytes() == b.bytes() &&
         std::memcmp(a.raw_data(), b.raw_data(), a.bytes()) == 0;
}

// Where the first NaN is: "[0, 3, 5]"; empty: nowhere.
std::string PlaceOfNaN(const Tensor& x) {
  const std::optional<int64_t> first = FirstNaN(x);
  if (!first.has_value()) return "";
  int64_t at = *first;
  std::vector<int64_t> index(x.rank());
  for (int axis = x.rank() - 1; axis >= 0; --axis) {
    index[axis] = at % x.dim(axis);
    at /= x.dim(axis);
  }
  return absl::StrCat("[", absl::StrJoin(index, ", "), "]");
}

}  // namespace

// Takes activations as they come, into memory or into a file.
class CacheWriter {
 public:
  CacheWriter(const CachePlan& plan, const CacheOptions& options)
      : plan_(plan), options_(options), kept_(plan.entries.size()) {}

  absl::Status ToFile(const std::vector<CacheEntry>& entries) {
    std::vector<SafetensorsWriter::Entry> announced;
    for (const CacheEntry& entry : entries) {
      announced.push_back({entry.name, entry.dtype, entry.shape});
    }
    RESIDUAL_ASSIGN_OR_RETURN(
        SafetensorsWriter writer,
        SafetensorsWriter::Create(options_.path, std::move(announced), {{"kind", kKind}}));
    writer_ = std::make_unique<SafetensorsWriter>(std::move(writer));
    return absl::OkStatus();
  }

  // An error is kept, and what comes after it is left out: a hook cannot return one.
  void Keep(size_t i, const Tensor& x) {
    if (!status_.ok()) return;
    status_ = TryKeep(i, x);
  }

  absl::StatusOr<ActivationCache> Finish(const Tensor& output) {
    RESIDUAL_RETURN_IF_ERROR(status_);
    ActivationCache cache;
    if (writer_ != nullptr) {
      RESIDUAL_CHECK_EQ(next_, kept_.size()) << "activations that did not fire";
      if (!options_.output_name.empty()) RESIDUAL_RETURN_IF_ERROR(writer_->Append(output));
      RESIDUAL_RETURN_IF_ERROR(writer_->Commit());
      return ActivationCache::Open(options_.path);
    }
    for (size_t i = 0; i < kept_.size(); ++i) {
      cache.tensors_.emplace_back(plan_.entries[i].name, kept_[i]);
    }
    if (!options_.output_name.empty()) cache.tensors_.emplace_back(options_.output_name, output);
    return cache;
  }

 private:
  absl::Status TryKeep(size_t i, const Tensor& x) {
    const CacheEntry& entry = plan_.entries[i];
    const std::string nan = options_.allow_nan ? "" : PlaceOfNaN(x);
    if (!nan.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("'", entry.name, "' holds NaN, first at ", nan));
    }
    Tensor part = PartOf(entry, x);
    if (part.shape() != entry.shape || part.dtype() != entry.dtype) {
      return absl::InvalidArgumentError(absl::StrCat("'", entry.name, "' is ", part.ToString(),
                                                     ", planned were ", Name(entry.dtype),
                                                     entry.shape.ToString()));
    }
    if (writer_ == nullptr) {
      if (entry.same_as >= 0 && SameBytes(kept_[entry.same_as], part)) {
        part = kept_[entry.same_as].Reshaped(entry.shape);
      }
      kept_[i] = part;
      return absl::OkStatus();
    }
    kept_[i] = part;  // in the file they come in the plan's order
    for (; next_ < kept_.size() && kept_[next_].defined(); ++next_) {
      RESIDUAL_RETURN_IF_ERROR(writer_->Append(kept_[next_]));
      kept_[next_] = Tensor();
    }
    return absl::OkStatus();
  }

  const CachePlan& plan_;
  const CacheOptions& options_;
  std::vector<Tensor> kept_;
  std::unique_ptr<SafetensorsWriter> writer_;
  size_t next_ = 0;
  absl::Status status_;
};

std::vector<std::string> ActivationCache::names() const {
  std::vector<std::string> names;
  for (const auto& [name, x] : tensors_) names.push_back(name);
  if (file_ != nullptr) {
    for (const TensorInfo& info : file_->tensors()) names.push_back(info.name);
  }
  return names;
}

bool ActivationCache::Has(const std::string& name) const {
  const std::vector<std::string> all = names();
  return std::find(all.begin(), all.end(), name) != all.end();
}

absl::StatusOr<Tensor> ActivationCache::Get(const std::string& name) const {
  const std::string canonical = Has(name) ? name : CanonicalHookName(name);
  if (!Has(canonical)) {
    return absl::NotFoundError(
        absl::StrCat("the cache has no activation '", name, "'", DidYouMean(name, names())));
  }
  if (file_ != nullptr) return file_->Read(canonical);
  return std::find_if(tensors_.begin(), tensors_.end(),
                      [&](const NamedTensor& tensor) { return tensor.first == canonical; })
      ->second;
}

int64_t ActivationCache::bytes() const {
  std::map<const void*, int64_t> storages;
  for (const auto& [name, x] : tensors_) storages[x.raw_data()] = static_cast<int64_t>(x.bytes());
  int64_t sum = 0;
  for (const auto& [data, bytes] : storages) sum += bytes;
  return sum;
}

absl::Status ActivationCache::Save(const std::string& path) const {
  std::vector<NamedTensor> tensors;
  for (const std::string& name : names()) {
    RESIDUAL_ASSIGN_OR_RETURN(Tensor x, Get(name));
    tensors.emplace_back(name, std::move(x));
  }
  return WriteSafetensors(path, tensors, {{"kind", kKind}});
}

absl::StatusOr<ActivationCache> ActivationCache::Open(const std::string& path) {
  RESIDUAL_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
  ActivationCache cache;
  cache.file_ = std::make_shared<const SafetensorsFile>(std::move(file));
  return cache;
}

absl::StatusOr<CachedRun> RunWithCache(const ResidualModel& model, const ModelInput& input,
                                       const CachePlan& plan, const CacheOptions& options) {
  RESIDUAL_ASSIGN_OR_RETURN(const LayersRun run, CheckPartialRun(model, input, plan.part));
  const int64_t last_logits = run.unembeds ? input.last_logits : 0;
  if (input.tokens.shape() != plan.prompts || last_logits != plan.last_logits) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompts are ", input.tokens.shape().ToString(), " with the last ", last_logits,
        " logits, planned were ", plan.prompts.ToString(), " and ", plan.last_logits));
  }
  CacheEntry output;
  output.name = options.output_name;
  output.shape = input.tokens.shape();
  output.dtype = model.dtype();
  if (last_logits > 0) output.shape = output.shape.With(1, last_logits);
  output.shape = output.shape.Appended(run.unembeds ? model.d_vocab() : model.d_model());
  std::vector<CacheEntry> entries = plan.entries;
  const bool keeps_output = !options.output_name.empty();
  if (keeps_output) entries.push_back(output);

  CacheWriter writer(plan, options);
  const int64_t bytes = plan.bytes() + (keeps_output ? output.bytes() : 0);
  if (bytes > options.memory_limit) {
    if (options.path.empty()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the activations are ", bytes, " bytes, more than the limit of ",
                       options.memory_limit, ", and there is no path to write them to"));
    }
    RESIDUAL_RETURN_IF_ERROR(writer.ToFile(entries));
  }
  Hooks hooks;
  if (options.hooks != nullptr) hooks = *options.hooks;
  for (size_t i = 0; i < plan.entries.size(); ++i) {
    hooks.Read(plan.entries[i].name,
               [&writer, i](absl::string_view, const Tensor& x) { writer.Keep(i, x); });
  }
  CachedRun done;
  RESIDUAL_ASSIGN_OR_RETURN(done.output,
                            RunLayers(model, input, plan.part, hooks.empty() ? nullptr : &hooks));
  RESIDUAL_ASSIGN_OR_RETURN(done.cache, writer.Finish(done.output));
  return done;
}

}  // namespace residual
