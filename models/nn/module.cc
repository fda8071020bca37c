#include "models/nn/module.h"

#include "absl/strings/str_cat.h"
#include "ops/layout/layout.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

class ParameterLister : public Visitor {
 public:
  std::vector<Parameter> parameters;

 private:
  void VisitParam(const std::string& name, Tensor& value, const Shape& shape, const Init& init,
                  const ParamOptions& options) override {
    parameters.push_back({name, &value, shape, init, options});
  }
  void VisitWeight(const std::string& name, Weight& weight, const Shape& shape, const Init& init,
                   const ParamOptions& options) override {
    parameters.push_back({name, &TensorOf(weight), shape, init, options, &weight});
  }
};

class HookLister : public Visitor {
 public:
  std::vector<DeclaredHook> hooks;

 private:
  void VisitHook(const std::string& name, const HookPoint& point) override {
    hooks.push_back({name, point.dims, point.local});
  }
};

// Describe takes a mutable module because parameters are handed out for writing; listing changes
// nothing, so a const module may be listed.
Module& Listed(const Module& module) { return const_cast<Module&>(module); }

constexpr int64_t kInitGrain = 1 << 14;

}  // namespace

void Visitor::Child(const char* name, Module& child) {
  const size_t length = prefix_.size();
  absl::StrAppend(&prefix_, name, ".");
  child.Describe(*this);
  prefix_.resize(length);
}

void Visitor::Child(const char* name, int index, Module& child) {
  const size_t length = prefix_.size();
  absl::StrAppend(&prefix_, name, ".", index, ".");
  child.Describe(*this);
  prefix_.resize(length);
}

std::vector<Parameter> Parameters(Module& module) {
  ParameterLister lister;
  module.Describe(lister);
  return std::move(lister.parameters);
}

std::vector<DeclaredHook> HookPoints(const Module& module) {
  HookLister lister;
  Listed(module).Describe(lister);
  return std::move(lister.hooks);
}

int64_t CountParameters(const Module& module) {
  int64_t count = 0;
  for (const Parameter& parameter : Parameters(Listed(module))) count += parameter.shape.elements();
  return count;
}

void Initialize(Module& module, uint64_t seed, DType dtype) {
  for (const Parameter& parameter : Parameters(module)) {
    InitializeParameter(parameter, seed, dtype);
  }
}

void InitializeParameter(const Parameter& parameter, uint64_t seed, DType dtype) {
  Tensor value = Tensor::Zeros(parameter.shape, kF64);
  double* data = value.mutable_data<double>();
  const uint64_t stream = RandomStream(parameter.name.c_str());
  const Philox random(seed, stream);
  const Init& init = parameter.init;
  switch (init.kind) {
    case Init::kZeros:
      break;
    case Init::kOnes:
      std::fill_n(data, value.elements(), 1.0);
      break;
    case Init::kNormal:
      ParallelFor(value.elements(), kInitGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) data[i] = init.scale * random.Normal(i);
      });
      break;
    case Init::kUniform:
      ParallelFor(value.elements(), kInitGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          data[i] = init.scale * (2 * random.UniformDouble(i) - 1);
        }
      });
      break;
    case Init::kCustom:
      init.fill(value, seed, stream);
      break;
  }
  *parameter.value = ConvertTo(value, dtype);
}

void ConvertParameters(Module& module, DType dtype) {
  for (Parameter& parameter : Parameters(module)) {
    *parameter.value = ConvertTo(*parameter.value, dtype);
  }
}

Shape DiskShape(const Parameter& parameter) {
  if (!parameter.options.heads_first) return parameter.shape;
  return {parameter.shape[1], parameter.shape[0], parameter.shape[2]};
}

Tensor ToDisk(const Parameter& parameter, const Tensor& value) {
  return parameter.options.heads_first ? Transpose(value, 0, 1) : value;
}

Tensor FromDisk(const Parameter& parameter, const Tensor& value) {
  return parameter.options.heads_first ? Transpose(value, 0, 1) : value;
}

}  // namespace residual
