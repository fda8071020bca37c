// What tests/peers/compare.py races against PyTorch: a process that stays, so that both sides take
// turns on the same data. One JSON request a line on stdin, one JSON answer a line on stdout.
//
//   {"do": "op", "op": "matmul", "options": {}, "inputs": [{"path", "shape", "dtype"}, ..]}
//       makes this the current workload; files hold raw f32 or i64, floats are converted to dtype
//   {"do": "train", "config": {..}, "seed": 1, "folder": "..", "tokens": "..", "shape": [steps,
//    batch, pos + 1], "lr": 1e-3, "weight_decay": 0.1, "precision": "f32"}
//       the current workload is a training step; writes the initial weights to folder
//   {"do": "classifier", "d_model": 128, "d_state": 64, "n_layers": 4, "batch": 50, "length": 784,
//    "values": "..", "weights": "..", "lr": 1e-3, "weight_decay": 0.01}
//       the current workload is a training step of an S4D classifier on a batch of f32 values, row
//       i of class i mod 10; writes the initial weights
//   {"do": "model", "folder": "..", "shape": [batch, pos], "dtype": "f32", "backward": false,
//    "last_logits": 0}
//       the current workload is a forward pass of a saved model on tokens 0, 1, .. ; with the
//       logits of so many positions at the end alone, or with the gradients of its loss
//   {"do": "write", "path": "/tmp/x"}   runs once; writes its results as f32 to /tmp/x.0, /tmp/x.1
//       -> {"shapes": [[..], ..]}
//   {"do": "time", "threads": 2, "seconds": 0.1, "repeat": 1}   -> {"times": [seconds of each run]}
//       `repeat` runs count as one
//   {"do": "move", "limit": "copy", "bytes": 1e8, "threads": 2, "seconds": 0.1}
//       -> {"times": [of moving so many bytes, by nothing but reads ("read") or a copy]}
//   {"do": "losses"}                    -> {"losses": [of the training steps so far]}
//   {"do": "limits", "threads": 2}      -> {"f32", "bf16" (FLOP/s), "exp" (exponentials/s), "read",
//   "copy" (bytes/s)}
//
// An answer to a request that cannot be served is {"error": ".."}.

#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tensor/base/parallel.h"
#include "tensor/testing/limits.h"
#include "tests/bench/peer_classifier.h"
#include "tests/bench/peer_models.h"
#include "tests/bench/peer_ops.h"

namespace residual {
namespace {

using Json = nlohmann::json;

Json Error(const std::string& message) { return {{"error", message}}; }

DType DTypeNamed(const std::string& name) {
  return name == "bf16" ? kBF16 : name == "f16" ? kF16 : name == "f64" ? kF64 : kF32;
}

// Undefined if the file cannot be read.
Tensor ReadInput(const Json& input) {
  const auto sizes = input.at("shape").get<std::vector<int64_t>>();
  const std::string dtype = input.at("dtype");
  Tensor x = Tensor::Uninitialized(Shape(sizes), dtype == "i64" ? kI64 : kF32);
  std::ifstream file(input.at("path").get<std::string>(), std::ios::binary);
  if (!file.read(static_cast<char*>(x.mutable_raw_data()), x.bytes())) return Tensor();
  return dtype == "i64" ? x : ConvertTo(x, DTypeNamed(dtype));
}

class Server {
 public:
  Json Answer(const Json& request) {
    const std::string what = request.value("do", "");
    if (what == "op") return Prepare(request);
    if (what == "train") {
      classifies_ = false;
      return Check(training_.Prepare(request, &workload_));
    }
    if (what == "model") return Check(PrepareForward(request, &workload_));
    if (what == "classifier") {
      classifies_ = true;
      return Check(classifier_.Prepare(request, &losses_, &workload_));
    }
    if (what == "losses") return {{"losses", classifies_ ? losses_ : training_.losses()}};
    if (what == "limits") return Limits(request);
    if (what == "move") return Move(request);
    if (!workload_) return Error("nothing is prepared");
    if (what == "write") return Write(request.at("path"));
    if (what == "time") return Time(request);
    return Error(absl::StrCat("no such request: ", what));
  }

 private:
  static Json Check(const absl::Status& status) {
    return status.ok() ? Json({{"ok", true}}) : Error(std::string(status.message()));
  }

  Json Prepare(const Json& request) {
    workload_ = Workload();
    TensorList inputs;
    for (const Json& input : request.at("inputs")) {
      inputs.push_back(ReadInput(input));
      if (!inputs.back().defined()) return Error(absl::StrCat("cannot read ", input.dump()));
    }
    const std::string op = request.at("op");
    workload_ = MakeWorkload(op, request.value("options", Json::object()), inputs);
    return workload_ ? Json({{"ok", true}}) : Error(absl::StrCat("no such op: ", op));
  }

  Json Write(const std::string& path) {
    Json shapes = Json::array();
    int index = 0;
    for (const Tensor& result : workload_()) {
      const Tensor wide = ConvertTo(result, kF32);
      std::ofstream file(absl::StrCat(path, ".", index++), std::ios::binary);
      file.write(static_cast<const char*>(wide.raw_data()), wide.bytes());
      if (!file.flush()) return Error(absl::StrCat("cannot write ", path));
      shapes.push_back(std::vector<int64_t>(result.shape().begin(), result.shape().end()));
    }
    return {{"shapes", shapes}};
  }

  Json Time(const Json& request) {
    SetNumThreads(request.value("threads", 1));
    const int repeat = request.value("repeat", 1);
    return Times(request, [&] {
      for (int i = 0; i < repeat; ++i) workload_();
    });
  }

  Json Move(const Json& request) {
    SetNumThreads(request.value("threads", 1));
    const bool copy = request.at("limit") == "copy";
    const size_t bytes = request.at("bytes").get<size_t>();
    // Kept from turn to turn.
    if (traffic_ == nullptr || traffic_copies_ != copy || traffic_->bytes() != bytes) {
      traffic_.reset();
      traffic_ = std::make_unique<MemoryTraffic>(copy, bytes);
      traffic_copies_ = copy;
    }
    return Times(request, [this] { traffic_->Run(); });
  }

  // Of runs for so many seconds, after one that warms up.
  static Json Times(const Json& request, absl::FunctionRef<void()> run) {
    using Clock = std::chrono::steady_clock;
    if (request.value("warm", true)) run();
    std::vector<double> times;
    const auto end = Clock::now() + std::chrono::duration<double>(request.value("seconds", 0.1));
    do {
      const auto start = Clock::now();
      run();
      times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    } while (Clock::now() < end);
    return {{"times", times}};
  }

  static Json Limits(const Json& request) {
    SetNumThreads(request.value("threads", 1));
    return {{"f32", PeakFlops(kF32)},
            {"bf16", PeakFlops(kBF16)},
            {"exp", PeakExponentials()},
            {"read", PeakReadBytes()},
            {"copy", PeakCopyBytes()}};
  }

  Workload workload_;
  PeerTraining training_;
  PeerClassifier classifier_;
  std::vector<double> losses_;  // of the classifier
  bool classifies_ = false;     // what was trained last
  std::unique_ptr<MemoryTraffic> traffic_;
  bool traffic_copies_ = false;
};

}  // namespace
}  // namespace residual

int main() {
  residual::Server server;
  for (std::string line; std::getline(std::cin, line);) {
    const auto request = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const nlohmann::json answer =
        request.is_object() ? server.Answer(request) : nlohmann::json({{"error", "no JSON"}});
    std::cout << answer.dump() << std::endl;
  }
}
