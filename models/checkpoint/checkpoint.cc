#include "models/checkpoint/checkpoint.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

std::string Quoted(const std::string& text) { return absl::StrCat("'", text, "'"); }

absl::StatusOr<std::vector<ParameterSource>> EntriesUnder(const NameMap& map,
                                                          ResidualModel& model) {
  std::vector<ParameterSource> sources;
  for (const Parameter& parameter : Parameters(model)) {
    RESIDUAL_ASSIGN_OR_RETURN(TensorEntry entry, EntryFor(map, parameter, model.n_layers()));
    sources.push_back({parameter.name, std::move(entry), ""});
  }
  return sources;
}

int CountFound(const std::vector<ParameterSource>& sources, const TensorSource& source) {
  return static_cast<int>(
      std::count_if(sources.begin(), sources.end(), [&](const ParameterSource& s) {
        return !s.entry.tensor.empty() && source.Find(s.entry.tensor) != nullptr;
      }));
}

bool HoldsFloats(const TensorInfo& tensor) { return tensor.readable && IsFloat(tensor.dtype); }

}  // namespace

std::string FirstFew(const std::vector<std::string>& texts) {
  constexpr size_t kShown = 5;
  if (texts.size() <= kShown) return absl::StrJoin(texts, ", ");
  return absl::StrCat(absl::StrJoin(texts.begin(), texts.begin() + kShown, ", "), " and ",
                      texts.size() - kShown, " more");
}

absl::StatusOr<LoadPlan> PlanLoad(ResidualModel& model, absl::Span<const NameMap> names,
                                  const TensorSource& source, const std::string& config) {
  LoadPlan plan;
  const NameMap* chosen = nullptr;
  int most = -1;
  for (const NameMap& map : names) {
    RESIDUAL_ASSIGN_OR_RETURN(std::vector<ParameterSource> sources, EntriesUnder(map, model));
    const int found = CountFound(sources, source);
    if (found <= most) continue;
    most = found;
    chosen = &map;
    plan.sources = std::move(sources);
  }

  std::vector<std::string> missing, misshapen, not_floats;
  std::set<std::string> seen;
  for (ParameterSource& s : plan.sources) {
    if (s.entry.tensor.empty()) continue;
    const bool is_new = seen.insert(s.entry.tensor).second;
    const TensorInfo* tensor = source.Find(s.entry.tensor);
    if (tensor != nullptr) {
      s.file = source.FileOf(s.entry.tensor);
      s.dtype = tensor->dtype_name;
    }
    if (!is_new) continue;
    const std::string quoted = Quoted(s.entry.tensor);
    if (tensor == nullptr) {
      missing.push_back(quoted);
    } else if (tensor->shape != s.entry.shape) {
      misshapen.push_back(absl::StrCat(quoted, " is ", tensor->shape.ToString(), ", expected ",
                                       s.entry.shape.ToString()));
    } else if (!HoldsFloats(*tensor)) {
      not_floats.push_back(absl::StrCat(quoted, " is ", tensor->dtype_name));
    }
  }
  std::vector<std::string> problems;
  if (!missing.empty()) problems.push_back(absl::StrCat("missing ", FirstFew(missing)));
  if (!misshapen.empty()) problems.push_back(FirstFew(misshapen));
  if (!not_floats.empty()) {
    problems.push_back(
        absl::StrCat(FirstFew(not_floats), ", expected floats (F32, F16, BF16 or F64)"));
  }
  if (!problems.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source.path(), " does not fit ", config, ": ", absl::StrJoin(problems, "; ")));
  }
  for (const std::string& name : source.names()) {
    if (seen.count(name) > 0) continue;
    if (chosen->ignorable == nullptr || !chosen->ignorable(name)) plan.unexpected.push_back(name);
  }
  return plan;
}

absl::Status ReadParameters(ResidualModel& model, const LoadPlan& plan, const TensorSource& source,
                            const ParameterFormat& format) {
  RESIDUAL_CHECK(!format.writable || !format.stored) << "stored weights cannot be written";
  std::vector<Parameter> parameters = Parameters(model);
  RESIDUAL_CHECK_EQ(parameters.size(), plan.sources.size());
  // Tensors of which parts are still to be read (the three of GPT-2's c_attn), and how many.
  std::map<std::string, std::pair<Tensor, int>> shared;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& parameter = parameters[i];
    const TensorEntry& entry = plan.sources[i].entry;
    if (entry.tensor.empty()) {
      InitializeParameter(parameter, 0);
      continue;
    }
    const bool stored = format.stored && parameter.weight != nullptr;
    Tensor tensor;
    const auto held = shared.find(entry.tensor);
    if (held != shared.end()) {
      tensor = held->second.first;
      if (--held->second.second == 0) shared.erase(held);
    } else {
      RESIDUAL_ASSIGN_OR_RETURN(tensor, source.Read(entry.tensor));
      if (stored) {
        const DType own = tensor.dtype() == kF64 ? kF32 : tensor.dtype();
        const DType dtype = format.dtype.value_or(own);
        if (dtype != tensor.dtype()) {
          tensor = ConvertTo(tensor, dtype);
          source.Forget(entry.tensor);
        }
      }
      if (entry.count > 1) shared[entry.tensor] = {tensor, entry.count - 1};
    }
    if (stored) {
      parameter.weight->Store(StoredFromCheckpoint(entry, parameter, tensor));
      continue;
    }
    const Tensor value = ConvertTo(FromCheckpoint(entry, parameter, tensor), kF32);
    const bool copied = value.raw_data() != tensor.raw_data();
    tensor = Tensor();
    if (copied && shared.count(entry.tensor) == 0) source.Forget(entry.tensor);
    *parameter.value = value;
  }
  shared.clear();
  for (const Parameter& parameter : parameters) {
    if (format.writable && !parameter.value->unique()) *parameter.value = parameter.value->Clone();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<NamedTensor>> TensorsToWrite(ResidualModel& model,
                                                        const NameMap& names) {
  std::map<std::string, std::vector<Stored>> tensors;
  for (const Parameter& parameter : Parameters(model)) {
    RESIDUAL_ASSIGN_OR_RETURN(TensorEntry entry, EntryFor(names, parameter, model.n_layers()));
    if (entry.tensor.empty()) {
      Tensor initial;
      Parameter fresh = parameter;
      fresh.value = &initial;
      InitializeParameter(fresh, 0, parameter.value->dtype());
      if (initial.ToDoubles() != parameter.value->ToDoubles()) {
        return absl::NotFoundError(absl::StrCat("the format has no tensor for '", parameter.name,
                                                "', which is not what it starts as"));
      }
      continue;
    }
    tensors[entry.tensor].push_back({entry, parameter});
  }
  std::vector<NamedTensor> written;
  for (auto& [name, parts] : tensors) {
    std::sort(parts.begin(), parts.end(),
              [](const Stored& a, const Stored& b) { return a.entry.index < b.entry.index; });
    written.emplace_back(name, ToCheckpoint(parts));
  }
  return written;
}

}  // namespace residual
