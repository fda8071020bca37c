// A training step of a classifier of sequences, for tests/bench/peer_server.

#ifndef RESIDUAL_TESTS_BENCH_PEER_CLASSIFIER_H_
#define RESIDUAL_TESTS_BENCH_PEER_CLASSIFIER_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "models/classify/train_classifier.h"
#include "nlohmann/json.hpp"
#include "tests/bench/peer_ops.h"

namespace residual {

// S4D on one batch of a file, over and over.
class PeerClassifier {
 public:
  // See peer_server.cc. The workload lives as long as this and is a step of the last one prepared;
  // it adds its loss to `losses`.
  absl::Status Prepare(const nlohmann::json& request, std::vector<double>* losses,
                       Workload* workload);

 private:
  std::unique_ptr<SequenceClassifier> model_;
  std::unique_ptr<ClassifierTrainer> trainer_;
  LabeledSequences batch_;
};

}  // namespace residual

#endif  // RESIDUAL_TESTS_BENCH_PEER_CLASSIFIER_H_
