#include "models/checkpoint/checkpoint.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tensor/base/parallel.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

std::string Quoted(const std::string& text) { return absl::StrCat("'", text, "'"); }

// How many blocks there are: parameters of theirs are called "blocks.L.".
int CountBlocks(const std::vector<Parameter>& parameters) {
  int blocks = 0;
  for (const Parameter& parameter : parameters) {
    const std::vector<absl::string_view> parts = absl::StrSplit(parameter.name, '.');
    int block = 0;
    if (parts.size() > 2 && parts[0] == "blocks" && absl::SimpleAtoi(parts[1], &block)) {
      blocks = std::max(blocks, block + 1);
    }
  }
  return blocks;
}

absl::StatusOr<std::vector<ParameterSource>> EntriesUnder(const NameMap& map, Module& model) {
  std::vector<ParameterSource> sources;
  const std::vector<Parameter> parameters = Parameters(model);
  const int n_layers = CountBlocks(parameters);
  for (const Parameter& parameter : parameters) {
    RESIDUAL_ASSIGN_OR_RETURN(TensorEntry entry, EntryFor(map, parameter, n_layers));
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

// Tables whose rows are looked up and nothing more. An embedding is the output layer too where
// there is no other.
bool IsTableOnly(const std::vector<Parameter>& parameters, const std::string& parameter) {
  if (parameter == "pos_embed.W_pos" || parameter == "embed") return true;
  return parameter == "embed.W_E" &&
         std::any_of(parameters.begin(), parameters.end(),
                     [](const Parameter& other) { return other.name == "unembed.W_U"; });
}

// "FILE: the tensor 'NAME' WHAT"
absl::Status TensorError(const TensorSource& source, const std::string& tensor,
                         absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(source.FileOf(tensor), ": the tensor ", Quoted(tensor), " ", what));
}

// What the largest finite number of a dtype is.
double LargestOf(DType dtype) {
  if (dtype == kF16) return 65504;
  return dtype == kBF16 ? 0x1.FEp127 : std::numeric_limits<float>::max();
}

bool IsInfinity(BFloat16 x) { return std::isinf(x.ToFloat()); }
bool IsInfinity(Float16 x) { return (x.bits & 0x7fff) == 0x7c00; }
bool IsInfinity(float x) { return std::isinf(x); }

// The first infinity at or after `begin`, or the number of elements.
template <class T>
int64_t FindInfinity(const Tensor& x, int64_t begin) {
  const T* values = x.data<T>();
  return std::find_if(values + begin, values + x.elements(), [](T v) { return IsInfinity(v); }) -
         values;
}

int64_t FindInfinity(const Tensor& x, int64_t begin) {
  if (x.dtype() == kF16) return FindInfinity<Float16>(x, begin);
  if (x.dtype() == kBF16) return FindInfinity<BFloat16>(x, begin);
  return FindInfinity<float>(x, begin);
}

// A value that the file has as a number stays one: InvalidArgument where it would be infinite.
// What the file has as an infinity or a NaN stays that.
absl::StatusOr<Tensor> Converted(const Tensor& x, DType dtype, const TensorSource& source,
                                 const std::string& tensor) {
  if (x.dtype() == dtype) return x;
  const Tensor y = ConvertTo(x, dtype);
  const bool narrower = x.dtype() == kF64 || dtype == kF16 || (x.dtype() == kF32 && dtype != kF32);
  const int64_t n = narrower ? y.elements() : 0;
  for (int64_t i = 0; i < n && (i = FindInfinity(y, i)) < n; ++i) {
    const double value = ConvertTo(x.Reshaped({n}).Rows(i, i + 1), kF64).data<double>()[0];
    if (std::isinf(value)) continue;
    return TensorError(source, tensor,
                       absl::StrCat("has ", value, ", expected at most ", LargestOf(dtype),
                                    " in magnitude to hold it in ", Name(dtype)));
  }
  return y;
}

// The matrix in 8 bits, with a row for each output (of a table: each of its rows). A part at a
// time, and the memory of what was read is let go.
absl::Status Quantize(const TensorSource& source, const std::string& tensor, bool is_table,
                      StoredMatrix& matrix) {
  constexpr int64_t kBytesAtOnce = int64_t{4} << 20;
  RESIDUAL_ASSIGN_OR_RETURN(const Tensor values,
                            matrix.values.dtype() == kF64
                                ? Converted(matrix.values, kF32, source, tensor)
                                : absl::StatusOr<Tensor>(std::move(matrix.values)));
  const bool by_rows = matrix.transposed || is_table;
  QuantizedMatrix quantized =
      QuantizedMatrix::Uninitialized(values.dim(by_rows ? 0 : 1), values.dim(by_rows ? 1 : 0));
  const int64_t lines = values.dim(0);
  const int64_t line_bytes = values.dim(1) * static_cast<int64_t>(SizeOf(values.dtype()));
  const int64_t step =
      NumChunks(kBytesAtOnce / std::max<int64_t>(1, line_bytes), kQuantizedGroup) * kQuantizedGroup;
  absl::Status status;
  for (int64_t begin = 0; begin < lines && status.ok(); begin += step) {
    const int64_t end = std::min(lines, begin + step);
    const Tensor part = values.Rows(begin, end);
    status =
        by_rows ? QuantizeRows(part, begin, quantized) : QuantizeColumns(part, begin, quantized);
    source.Forget(tensor, begin * line_bytes, (end - begin) * line_bytes);
  }
  source.Forget(tensor);
  if (!status.ok()) return TensorError(source, tensor, status.message());
  matrix.transposed = !is_table;
  matrix.values = Tensor();
  matrix.quantized = std::move(quantized);
  return absl::OkStatus();
}

}  // namespace

std::string FirstFew(const std::vector<std::string>& texts) {
  constexpr size_t kShown = 5;
  if (texts.size() <= kShown) return absl::StrJoin(texts, ", ");
  return absl::StrCat(absl::StrJoin(texts.begin(), texts.begin() + kShown, ", "), " and ",
                      texts.size() - kShown, " more");
}

absl::StatusOr<LoadPlan> PlanLoad(Module& model, absl::Span<const NameMap> names,
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

namespace {

absl::Status CheckFinite(const Parameter& parameter, const ParameterSource& source) {
  const std::vector<double> values = parameter.value->ToDoubles();
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(source.file, ": the tensor ", Quoted(source.entry.tensor), " holds ",
                     values[i], " at element ", i, ", expected finite numbers"));
  }
  return absl::OkStatus();
}

bool LiesIn(const Tensor& part, const Tensor& whole) {
  const char* at = static_cast<const char*>(part.raw_data());
  const char* begin = static_cast<const char*>(whole.raw_data());
  return at >= begin && at < begin + whole.bytes();
}

// Reads parameters, of which several may lie in one tensor.
class Reader {
 public:
  Reader(const std::vector<Parameter>& parameters, const TensorSource& source,
         const ParameterFormat& format)
      : parameters_(parameters),
        source_(source),
        format_(format),
        converts_(format.quantize != Quantization::kNone || format.dtype.has_value()) {}

  absl::Status Read(const Parameter& parameter, const TensorEntry& entry) {
    if (entry.tensor.empty()) {
      InitializeParameter(parameter, 0);
      return absl::OkStatus();
    }
    return format_.stored && parameter.weight != nullptr ? ReadStored(parameter, entry)
                                                         : ReadTensor(parameter, entry);
  }

 private:
  // A tensor of the source, in the weights' dtype if `stored`. One that holds several parameters is
  // kept until the last of them is read.
  absl::StatusOr<Tensor> TensorOf(const TensorEntry& entry, bool stored) {
    const auto held = shared_.find(entry.tensor);
    if (held != shared_.end()) {
      const Tensor tensor = held->second.tensor;
      if (--held->second.left == 0) shared_.erase(held);
      return tensor;
    }
    RESIDUAL_ASSIGN_OR_RETURN(Tensor tensor, source_.Read(entry.tensor));
    if (stored) {
      const DType dtype = format_.dtype.value_or(tensor.dtype() == kF64 ? kF32 : tensor.dtype());
      if (dtype != tensor.dtype()) {
        RESIDUAL_ASSIGN_OR_RETURN(tensor, Converted(tensor, dtype, source_, entry.tensor));
        source_.Forget(entry.tensor);
      }
    }
    if (entry.count > 1) shared_[entry.tensor] = {tensor, entry.count - 1};
    return tensor;
  }

  absl::Status ReadTensor(const Parameter& parameter, const TensorEntry& entry) {
    RESIDUAL_ASSIGN_OR_RETURN(const Tensor tensor, TensorOf(entry, false));
    RESIDUAL_ASSIGN_OR_RETURN(Tensor value, Converted(FromCheckpoint(entry, parameter, tensor),
                                                      kF32, source_, entry.tensor));
    if (converts_ && LiesIn(value, tensor)) value = value.Clone();
    if (!LiesIn(value, tensor) && shared_.count(entry.tensor) == 0) source_.Forget(entry.tensor);
    *parameter.value = value;
    return absl::OkStatus();
  }

  absl::Status ReadStored(const Parameter& parameter, const TensorEntry& entry) {
    const bool is_table = IsTableOnly(parameters_, parameter.name);
    const bool quantize = format_.quantize == Quantization::kInt8 && !is_table;
    RESIDUAL_ASSIGN_OR_RETURN(const Tensor tensor, TensorOf(entry, !quantize));
    StoredMatrix matrix = StoredFromCheckpoint(entry, parameter, tensor);
    if (quantize) {
      QuantizedMatrix& known = quantized_[entry.tensor];
      if (matrix.parts > 1 && known.defined()) {  // quantized with the parts before it
        matrix.values = Tensor();
        matrix.quantized = known;
        matrix.transposed = true;
      } else {
        RESIDUAL_RETURN_IF_ERROR(
            Quantize(source_, entry.tensor, parameter.name == "embed.W_E", matrix));
        known = matrix.quantized;
      }
    } else if (is_table && converts_) {
      matrix.values = matrix.values.Clone();
      source_.Forget(entry.tensor);
    }
    parameter.weight->Store(std::move(matrix));
    return absl::OkStatus();
  }

  // A tensor of which parts are still to be read (the three of GPT-2's c_attn), and how many.
  struct Shared {
    Tensor tensor;
    int left;
  };

  const std::vector<Parameter>& parameters_;
  const TensorSource& source_;
  const ParameterFormat& format_;
  // Then what is not converted is copied, so that nothing of the file stays mapped: a system that
  // holds a file in pages of 2 MiB maps one of them whole for a bias, with the weights beside it.
  const bool converts_;
  std::map<std::string, Shared> shared_;
  std::map<std::string, QuantizedMatrix> quantized_;
};

}  // namespace

absl::Status ReadParameters(Module& model, const LoadPlan& plan, const TensorSource& source,
                            const ParameterFormat& format) {
  RESIDUAL_CHECK(!format.writable || !format.stored) << "stored weights cannot be written";
  const std::vector<Parameter> parameters = Parameters(model);
  RESIDUAL_CHECK_EQ(parameters.size(), plan.sources.size());
  {
    Reader reader(parameters, source, format);
    for (size_t i = 0; i < parameters.size(); ++i) {
      RESIDUAL_RETURN_IF_ERROR(reader.Read(parameters[i], plan.sources[i].entry));
      if (parameters[i].options.finite) {
        RESIDUAL_RETURN_IF_ERROR(CheckFinite(parameters[i], plan.sources[i]));
      }
    }
  }
  for (const Parameter& parameter : parameters) {
    if (format.writable && !parameter.value->unique()) *parameter.value = parameter.value->Clone();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<NamedTensor>> TensorsToWrite(Module& model, const NameMap& names) {
  std::map<std::string, std::vector<Stored>> tensors;
  const std::vector<Parameter> parameters = Parameters(model);
  const int n_layers = CountBlocks(parameters);
  for (const Parameter& parameter : parameters) {
    RESIDUAL_ASSIGN_OR_RETURN(TensorEntry entry, EntryFor(names, parameter, n_layers));
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
