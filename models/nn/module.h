// Modules and the one list of what they hold.
//
// Describe(Visitor&) names every parameter (shape, initialisation, optimizer group) and every hook
// point of a module, once. Initialising, loading, saving, counting, optimizing and listing are
// visitors; no pointers are kept, so modules move freely.
//
//   void Attention::Describe(Visitor& v) {
//     v.Param("W_Q", W_Q_, {d_model, n_heads, d_head}, Init::Normal(0.02));
//     v.Hooks({kQ, kK, kV});
//   }
//   void Block::Describe(Visitor& v) {
//     v.Child("ln1", ln1_);
//     v.Child("attn", *attn_);
//   }

#ifndef RESIDUAL_MODELS_NN_MODULE_H_
#define RESIDUAL_MODELS_NN_MODULE_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "models/nn/hook.h"
#include "models/nn/weight.h"
#include "tensor/core/tensor.h"

namespace residual {

// How a parameter starts.
struct Init {
  enum Kind { kZeros, kOnes, kNormal, kUniform, kCustom };
  Kind kind = kZeros;
  double scale = 0;  // standard deviation, or half the width of the interval around 0
  // kCustom: fills the tensor; `seed` and `stream` are this parameter's own.
  std::function<void(Tensor&, uint64_t seed, uint64_t stream)> fill;

  static Init Zeros() { return {kZeros, 0, nullptr}; }
  static Init Ones() { return {kOnes, 0, nullptr}; }
  static Init Normal(double standard_deviation) { return {kNormal, standard_deviation, nullptr}; }
  static Init Uniform(double half_width) { return {kUniform, half_width, nullptr}; }
};

// How the optimizer treats a parameter, and how it lies on disk.
struct ParamOptions {
  bool weight_decay = true;  // of matrices; biases, gains and positions have none
  double lr_scale = 1;       // times the learning rate of the run
  // The most its rate may be where that of the run is highest, and in proportion elsewhere: rates
  // of matrices that decide over how much is remembered (S4). 0: no limit.
  double most_lr = 0;
  bool finite = false;  // a file that has a NaN or an infinity in it is refused
  bool heads_first =
      false;  // [d_model, n_heads, d_head] in memory (one matrix product serves
              // all heads) is [n_heads, d_model, d_head] on disk, as the field has it
  static ParamOptions NoDecay() {
    ParamOptions options;
    options.weight_decay = false;
    return options;
  }
  static ParamOptions HeadsFirst(bool decay = true) {
    ParamOptions options;
    options.heads_first = true;
    options.weight_decay = decay;
    return options;
  }
};

class Module;

// What a Describe calls. Keeps the path, so a name is given once, where the thing lives.
class Visitor {
 public:
  virtual ~Visitor() = default;

  void Param(const char* name, Tensor& value, const Shape& shape, const Init& init,
             const ParamOptions& options = {}) {
    VisitParam(prefix_ + name, value, shape, init, options);
  }
  void Param(const char* name, Weight& weight, const Shape& shape, const Init& init,
             const ParamOptions& options = {}) {
    VisitWeight(prefix_ + name, weight, shape, init, options);
  }
  void Hooks(std::initializer_list<HookPoint> points) {
    for (const HookPoint& point : points) VisitHook(prefix_ + point.name, point);
  }
  void Child(const char* name, Module& child);
  void Child(const char* name, int index, Module& child);

 protected:
  virtual void VisitParam(const std::string& name, Tensor& value, const Shape& shape,
                          const Init& init, const ParamOptions& options) {}
  // A weight is visited as a tensor, of no value where it is stored.
  virtual void VisitWeight(const std::string& name, Weight& weight, const Shape& shape,
                           const Init& init, const ParamOptions& options) {
    VisitParam(name, TensorOf(weight), shape, init, options);
  }
  static Tensor& TensorOf(Weight& weight) { return weight.tensor_; }
  virtual void VisitHook(const std::string& name, const HookPoint& point) {}

 private:
  std::string prefix_;
};

class Module {
 public:
  virtual ~Module() = default;
  // Lists the parameters, hook points and children; the same list for every visitor.
  virtual void Describe(Visitor& visitor) = 0;
};

// One parameter of a model.
struct Parameter {
  std::string name;  // "blocks.0.attn.W_Q"
  Tensor* value;     // valid while the module lives and does not move
  Shape shape;
  Init init;
  ParamOptions options;
  Weight* weight = nullptr;  // what `value` is the tensor of; null: a gain or a bias
};

std::vector<Parameter> Parameters(Module& module);
std::vector<DeclaredHook> HookPoints(const Module& module);

// Elements over all parameters, by their declared shapes.
int64_t CountParameters(const Module& module);

// Gives every parameter its initial value, a pure function of the seed and the parameter's name.
void Initialize(Module& module, uint64_t seed, DType dtype = kF32);
void InitializeParameter(const Parameter& parameter, uint64_t seed, DType dtype = kF32);

// Converts every parameter (f64 for gradient checks and reference runs, bf16 for decoding).
void ConvertParameters(Module& module, DType dtype);

// The shape and values of a parameter as they lie on disk, and back.
Shape DiskShape(const Parameter& parameter);
Tensor ToDisk(const Parameter& parameter, const Tensor& value);
Tensor FromDisk(const Parameter& parameter, const Tensor& value);

}  // namespace residual

#endif  // RESIDUAL_MODELS_NN_MODULE_H_
