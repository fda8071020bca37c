// Whole models for tests/bench/peer_server: training steps and forward passes on data it is given.

#ifndef RESIDUAL_TESTS_BENCH_PEER_MODELS_H_
#define RESIDUAL_TESTS_BENCH_PEER_MODELS_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "models/stream/residual_model.h"
#include "models/train/data.h"
#include "models/train/trainer.h"
#include "nlohmann/json.hpp"
#include "tests/bench/peer_ops.h"

namespace residual {

// A training run on the batches of a file, over and over.
class PeerTraining {
 public:
  // See peer_server.cc. The workload lives as long as this and is a step of the last one prepared.
  absl::Status Prepare(const nlohmann::json& request, Workload* workload);
  // Of the steps so far.
  const std::vector<double>& losses() const { return losses_; }

 private:
  std::unique_ptr<ResidualModel> model_;
  std::unique_ptr<DataSource> data_;
  std::unique_ptr<Trainer> trainer_;
  std::vector<double> losses_;
};

absl::Status PrepareForward(const nlohmann::json& request, Workload* workload);

}  // namespace residual

#endif  // RESIDUAL_TESTS_BENCH_PEER_MODELS_H_
