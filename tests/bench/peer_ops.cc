#include "tests/bench/peer_ops.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "ops/attention/attention.h"
#include "ops/dropout/dropout.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/loss/cross_entropy.h"
#include "ops/matmul/matmul.h"
#include "ops/norm/norm.h"
#include "ops/optimizer/optimizer.h"
#include "ops/scan/selective_scan.h"
#include "ops/softmax/softmax.h"
#include "ops/ssd/ssd.h"
#include "ops/ssm_kernel/ssm_kernel.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

using Json = nlohmann::json;
using Op = std::function<Tensor(const TensorList&)>;

constexpr double kEps = 1e-5;

// A function of tensors, by name; null if it is none.
Op FunctionNamed(const std::string& name, const Json& options) {
  if (name == "matmul") {
    MatMulOptions matmul;
    matmul.transpose_b = options.value("transpose_b", false);
    return [matmul](const TensorList& x) { return MatMul(x[0], x[1], matmul); };
  }
  if (name == "dropout") {
    const double p = options.value("p", 0.1);
    return [p, step = uint64_t{0}](const TensorList& x) mutable {
      return Dropout(x[0], p, 1, ++step);
    };
  }
  if (name == "s4d_kernel") {
    const int64_t length = options.value("length", 1024);
    return
        [length](const TensorList& x) { return DiagonalSsmKernel(x[0], x[1], x[2], x[3], length); };
  }
  if (name == "s4_kernel") {
    const int64_t length = options.value("length", 1024);
    DplrKernelOptions dplr;
    dplr.truncated_c = true;
    return [length, dplr](const TensorList& x) {
      return DplrSsmKernel(x[0], x[1], x[2], x[3], x[4], x[5], length, dplr);
    };
  }
  if (name == "attention") {
    return [](const TensorList& x) { return Attention(x[0], x[1], x[2]); };
  }
  static const auto* functions = new std::map<std::string, Op>{
      {"add", [](const TensorList& x) { return Add(x[0], x[1]); }},
      {"exp", [](const TensorList& x) { return Exp(x[0]); }},
      {"gelu", [](const TensorList& x) { return Gelu(x[0]); }},
      {"gelu_tanh", [](const TensorList& x) { return GeluTanh(x[0]); }},
      {"silu", [](const TensorList& x) { return Silu(x[0]); }},
      {"softmax", [](const TensorList& x) { return Softmax(x[0]); }},
      {"layer_norm", [](const TensorList& x) { return LayerNorm(x[0], x[1], x[2], kEps); }},
      {"rms_norm", [](const TensorList& x) { return RmsNorm(x[0], x[1], kEps); }},
      {"add_layer_norm",
       [](const TensorList& x) { return AddLayerNorm(x[0], x[1], x[2], x[3], kEps).normalized; }},
      {"selective_scan",
       [](const TensorList& x) {
         SelectiveScanInputs in;
         in.u = x[0];
         in.delta = x[1];
         in.A = x[2];
         in.B = x[3];
         in.C = x[4];
         in.D = x[5];
         in.z = x[6];
         in.softplus = true;
         return SelectiveScan(in).y;
       }},
      {"ssd",
       [](const TensorList& x) {
         SsdInputs in;
         in.x = x[0];
         in.dt = x[1];
         in.A = x[2];
         in.B = x[3];
         in.C = x[4];
         in.D = x[5];
         in.softplus = true;
         return Ssd(in).y;
       }},
      {"cross_entropy", [](const TensorList& x) { return CrossEntropy(x[0], x[1]); }},
      {"embedding", [](const TensorList& x) { return Embedding(x[0], x[1]); }},
  };
  const auto found = functions->find(name);
  return found == functions->end() ? Op() : found->second;
}

Workload ThereAndBack(const Op& op, TensorList inputs, bool is_loss) {
  Tensor dy;
  if (!is_loss) {
    dy = inputs.back();
    inputs.pop_back();
  }
  return [op, inputs, dy]() {
    TensorList watched = inputs, results;
    Tape tape;
    for (Tensor& x : watched) {
      if (IsFloat(x.dtype())) tape.Watch(x);
    }
    const Tensor y = op(watched);
    const Gradients grads = dy.defined() ? tape.Backward({y}, {dy}, {}) : tape.Backward(y);
    results.push_back(y);
    for (const Tensor& x : watched) {
      if (IsFloat(x.dtype())) results.push_back(grads.Find(x));
    }
    return results;
  };
}

// One vector against each of several matrices in turn: none of them is in a cache.
Workload ColdWeights(const Json& options, const TensorList& inputs) {
  std::vector<Tensor> weights;
  for (int i = options.value("count", 24); i > 0; --i) weights.push_back(inputs[1].Clone());
  MatMulOptions matmul;
  matmul.transpose_b = options.value("transpose_b", false);
  return [weights, x = inputs[0], matmul]() {
    Tensor y;
    for (const Tensor& weight : weights) y = MatMul(x, weight, matmul);
    return TensorList{y};
  };
}

// Steps of AdamW on one parameter, one after the other.
Workload AdamSteps(const TensorList& inputs) {
  struct State {
    Tensor param, first, second, grad;
    AdamOptions options;
  };
  auto state = std::make_shared<State>();
  state->param = inputs[0].Clone();
  state->first = Tensor::Zeros(inputs[0].shape());
  state->second = Tensor::Zeros(inputs[0].shape());
  state->grad = inputs[1];
  state->options.weight_decay = 0.01;
  state->options.step = 0;
  return [state]() {
    ++state->options.step;
    AdamStep(state->param, state->first, state->second, state->grad, state->options);
    return TensorList{state->param};
  };
}

}  // namespace

Workload MakeWorkload(const std::string& op, const Json& options, const TensorList& inputs) {
  if (op == "matmul_cold") return ColdWeights(options, inputs);
  if (op == "adam") return AdamSteps(inputs);
  if (op == "fork_join") {
    return []() {
      ParallelFor(2, 1, [](int64_t, int64_t) {});
      return TensorList();
    };
  }
  const Op function = FunctionNamed(op, options);
  if (!function) return Workload();
  if (options.value("backward", false)) {
    return ThereAndBack(function, inputs, op == "cross_entropy");
  }
  if (options.value("recorded", false)) {  // what being recorded costs
    return [function, inputs]() {
      TensorList watched = inputs;
      Tape tape;
      for (Tensor& x : watched) tape.Watch(x);
      TensorList results;
      for (int i = 0; i < 100; ++i) results = {function(watched)};
      return results;
    };
  }
  return [function, inputs]() {
    TensorList results;
    results.push_back(function(inputs));  // a list in braces would be copied
    return results;
  };
}

double PeakExponentials() {
  constexpr int kNumbers = 4096, kTimes = 500;
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const auto start = std::chrono::steady_clock::now();
    ParallelFor(NumThreads(), 1, [](int64_t, int64_t) {
      const Tensor x = Tensor::Full({kNumbers}, -1.5);
      for (int i = 0; i < kTimes; ++i) Exp(x);
    });
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(NumThreads()) * kNumbers * kTimes / time.count());
  }
  return best;
}

}  // namespace residual
