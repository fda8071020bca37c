// Digits read pixel by pixel, with HiPPO's state matrices and with random ones (Gu, Goel, Re 2022,
// section 2.2: "simply modifying an SSM from a random matrix A to [HiPPO's] improved its
// performance on the sequential MNIST benchmark from 60 % to 98 %").

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_S4_S4_MNIST_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_S4_S4_MNIST_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "models/data/labeled/idx.h"
#include "tools/experiments/claims/experiment.h"

namespace residual {

struct S4MnistPlan {
  std::string kind = "s4d";  // the mixer: "s4", "s4d", "dss"
  int64_t d_model = 64, d_state = 64, n_layers = 2;
  double dropout = 0;
  // Whether state matrices are trained, in both; what the other one is worth shows where they stay.
  bool learn_state = false;
  int64_t epochs = 8, batch_size = 50;
  double lr = 5e-3, weight_decay = 0.01;
  int64_t seeds = 3;
  int64_t rows = 0;             // to train on, at most; 0: all
  int64_t validation = 1000;    // rows taken from those to train on, to choose the epoch by
  int64_t pool = 1;             // images are averaged over squares of so many pixels
  double seconds_limit = 1200;  // of one training
  // The bounds of the claims.
  double hippo_least = 0.96, random_most = 0.93, gap_least = 0.05;
};
// For a CPU: minutes for each training.
S4MnistPlan CpuS4Mnist();
// Small drawings, in a minute or two.
S4MnistPlan QuickS4Mnist();
// The plan with the members of a JSON object put over it, by their names above, bounds apart.
// InvalidArgument names the member, what was found and what is expected; `source` is the object's
// name.
absl::StatusOr<S4MnistPlan> ChangedPlan(S4MnistPlan plan, const nlohmann::json& changes,
                                        const std::string& source);

// Trains both on data.train, choosing the epoch on rows held out of it, and measures each once on
// data.test. `data_name` is for people.
absl::StatusOr<Findings> RunS4Mnist(const S4MnistPlan& plan, const TrainAndTest& data,
                                    const std::string& data_name, const ExperimentOptions& options);

// On --data, a folder of idx files; else on Fashion-MNIST where Debian's dataset-fashion-mnist is
// installed (not with --quick), or on digits drawn here.
absl::StatusOr<Findings> S4Mnist(const ExperimentOptions& options);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_S4_S4_MNIST_H_
