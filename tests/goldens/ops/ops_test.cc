// Operators against PyTorch, values and gradients, in float64 and float32: see README.md.

#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "ops/attention/attention.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "ops/loss/cross_entropy.h"
#include "ops/matmul/matmul.h"
#include "ops/norm/norm.h"
#include "ops/rotary/rotary.h"
#include "ops/softmax/softmax.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/check.h"
#include "tensor/io/file.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

using Json = nlohmann::json;
using Tensors = std::map<std::string, Tensor>;  // by the name after the instance's
// Inputs and the instance's options to y.
using Op = std::function<Tensor(const Tensors&, const Json&)>;

Op Unary(Tensor (*f)(const Tensor&)) {
  return [f](const Tensors& in, const Json&) { return f(in.at("x")); };
}

// The reference has [batch, head, pos, d].
Tensor SwapHeads(const Tensor& x) { return Permute(x, {0, 2, 1, 3}); }

Op AttentionOp(bool causal) {
  return [causal](const Tensors& in, const Json&) {
    AttentionOptions options;
    options.causal = causal;
    if (const auto keep = in.find("keep"); keep != in.end()) options.key_mask = keep->second;
    return SwapHeads(
        Attention(SwapHeads(in.at("q")), SwapHeads(in.at("k")), SwapHeads(in.at("v")), options));
  };
}

Op RotaryOp(RotaryStyle style) {
  return [style](const Tensors& in, const Json& instance) {
    RotaryOptions options;
    options.rotary_dim = instance.at("rotary_dim").get<int64_t>();
    options.theta = instance.at("theta").get<double>();
    options.style = style;
    const Tensor& x = in.at("x");
    Tensor positions = Tensor::Uninitialized({x.dim(2)}, kI64);
    for (int64_t i = 0; i < x.dim(2); ++i) positions.mutable_data<int64_t>()[i] = i;
    return SwapHeads(Rotary(SwapHeads(x), positions, options));
  };
}

Tensor CrossEntropyOp(const Tensors& in, const Json& instance) {
  CrossEntropyOptions options;
  options.label_smoothing = instance.at("label_smoothing").get<double>();
  options.ignore_index = instance.at("ignore_index").get<int64_t>();
  options.reduction = instance.at("reduction") == "sum" ? Reduction::kSum : Reduction::kMean;
  return CrossEntropy(in.at("logits"), in.at("target"), options);
}

Tensor Linear(const Tensors& in, const Json&) {
  MatMulOptions options;
  options.transpose_b = true;
  options.bias = in.at("bias");
  return MatMul(in.at("input"), in.at("weight"), options);
}

const std::map<std::string, Op>& Ops() {
  static const auto* ops = new std::map<std::string, Op>{
      {"gelu_exact", Unary(Gelu)},
      {"gelu_tanh", Unary(GeluTanh)},
      {"silu", Unary(Silu)},
      {"relu", Unary(Relu)},
      {"sigmoid", Unary(Sigmoid)},
      {"softplus", Unary(Softplus)},
      {"softmax", Unary(Softmax)},
      {"log_softmax", Unary(LogSoftmax)},
      {"layernorm",
       [](const Tensors& in, const Json& instance) {
         return LayerNorm(in.at("x"), in.at("w"), in.at("b"), instance.at("eps").get<double>());
       }},
      {"rmsnorm",
       [](const Tensors& in, const Json& instance) {
         return RmsNorm(in.at("x"), in.at("w"), instance.at("eps").get<double>());
       }},
      {"rmsnorm_gated",  // Mamba-2's: the gate first
       [](const Tensors& in, const Json& instance) {
         return RmsNorm(SiluMul(in.at("z"), in.at("x")), in.at("w"),
                        instance.at("eps").get<double>());
       }},
      {"linear", Linear},
      {"embedding",
       [](const Tensors& in, const Json&) { return Embedding(in.at("weight"), in.at("ids")); }},
      {"cross_entropy", CrossEntropyOp},
      {"attention_mha_causal", AttentionOp(true)},
      {"attention_gqa_causal", AttentionOp(true)},
      {"attention_causal_padded", AttentionOp(true)},
      {"attention_cached", AttentionOp(true)},
      {"attention_full", AttentionOp(false)},
      {"rotary_half", RotaryOp(RotaryStyle::kHalf)},
      {"rotary_interleaved", RotaryOp(RotaryStyle::kInterleaved)},
  };
  return *ops;
}

// Of case.json, but not of //ops yet.
const std::set<std::string>& NotYet() {
  static const auto* names =
      new std::set<std::string>{"batchnorm_eval", "batchnorm_train", "conv1d_depthwise_causal",
                                "conv2d",         "fft_conv",        "maxpool2d"};
  return *names;
}

std::string OpOf(const std::string& key) {
  return std::vector<std::string>(absl::StrSplit(key, '.'))[0];
}

struct Goldens {
  Json info;
  std::map<std::string, Tensors> inputs, expected;  // by instance

  static const Goldens& Get() {
    static const auto* goldens = new Goldens;
    return *goldens;
  }

 private:
  Goldens() {
    const absl::StatusOr<std::string> text = ReadFile("tests/goldens/ops/case.json");
    RESIDUAL_CHECK(text.ok()) << text.status();
    info = Json::parse(*text);
    inputs = Read("tests/goldens/ops/inputs.safetensors");
    expected = Read("tests/goldens/ops/expected.safetensors");
  }
  // Tensors are named INSTANCE.NAME; NAME has no dot.
  static std::map<std::string, Tensors> Read(const std::string& path) {
    const auto file = SafetensorsFile::Open(path);
    RESIDUAL_CHECK(file.ok()) << file.status();
    std::map<std::string, Tensors> result;
    for (const TensorInfo& tensor : file->tensors()) {
      const size_t dot = tensor.name.rfind('.');
      result[tensor.name.substr(0, dot)][tensor.name.substr(dot + 1)] = *file->Read(tensor.name);
    }
    return result;
  }
};

double LargestMagnitude(const Tensor& x) {
  double largest = 0;
  for (double value : x.ToDoubles()) largest = std::max(largest, std::abs(value));
  return largest;
}

void ExpectWithin(const Tensor& got, const Tensor& want, double limit, const std::string& name) {
  ASSERT_EQ(got.shape(), want.shape()) << name;
  const std::vector<double> g = got.ToDoubles(), w = want.ToDoubles();
  for (size_t i = 0; i < g.size(); ++i) {
    ASSERT_LE(std::abs(g[i] - w[i]), limit) << name << " in " << Name(got.dtype()) << ", element "
                                            << i << ": " << g[i] << ", expected " << w[i];
  }
}

class OpGoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(OpGoldenTest, ValueAndGradientsAreThoseOfPyTorch) {
  const Goldens& goldens = Goldens::Get();
  const Op& op = Ops().at(GetParam());
  int instances = 0;
  for (const Json& instance : goldens.info.at("instances")) {
    const std::string key = instance.at("key").get<std::string>();
    if (OpOf(key) != GetParam()) continue;
    ++instances;
    for (DType dtype : {kF64, kF32}) {
      Tensors in = goldens.inputs.at(key);
      const Tensor g = ConvertTo(in.at("g"), dtype);
      in.erase("g");
      Tape tape;
      for (auto& [name, x] : in) {
        if (!IsFloat(x.dtype())) continue;
        x = ConvertTo(x, dtype);
        tape.Watch(x);
      }
      const Tensor y = op(in, instance);
      const Gradients gradients = tape.Backward({y}, {g}, {});
      size_t compared = 0;
      for (const auto& [name, want] : goldens.expected.at(key)) {
        const std::string full = absl::StrCat(key, ".", name);
        const double limit =
            dtype == kF64 ? 1e-10 * std::max(1.0, LargestMagnitude(want))
                          : goldens.info.at("tolerance").at("max_abs").at(full).get<double>();
        const std::string input = name == "y" ? "" : name.substr(5);  // after "grad_"
        ExpectWithin(name == "y" ? y : gradients[in.at(input)], want, limit, full);
        ++compared;
      }
      // y, and a gradient of every float input.
      size_t floats = 0;
      for (const auto& [name, x] : in) floats += IsFloat(x.dtype());
      EXPECT_EQ(compared, 1 + floats) << key;
    }
  }
  EXPECT_GE(instances, 5);
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& [name, op] : Ops()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Ops, OpGoldenTest, testing::ValuesIn(Names()),
                         [](const auto& info) { return info.param; });

TEST(OpGoldensTest, EveryInstanceIsOfAKnownOp) {
  std::set<std::string> later;
  for (const Json& instance : Goldens::Get().info.at("instances")) {
    const std::string op = OpOf(instance.at("key").get<std::string>());
    if (Ops().count(op) == 0) later.insert(op);
  }
  EXPECT_EQ(later, NotYet());
}

}  // namespace
}  // namespace residual
