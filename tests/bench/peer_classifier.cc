#include "tests/bench/peer_classifier.h"

#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"

namespace residual {

absl::Status PeerClassifier::Prepare(const nlohmann::json& request, std::vector<double>* losses,
                                     Workload* workload) {
  *workload = Workload();
  trainer_.reset();
  losses->clear();
  const int64_t batch = request.at("batch"), length = request.at("length");
  ClassifierConfig config;
  config.channels = 1;
  config.n_classes = 10;
  config.body.d_model = request.at("d_model");
  config.body.d_state = request.at("d_state");
  config.body.n_ctx = length;
  config.body.blocks.assign(request.at("n_layers").get<size_t>(), {"s4d"});
  config.body.s4_init = S4Init::kLin;
  config.body.positions = Positions::kNone;
  RESIDUAL_ASSIGN_OR_RETURN(model_, SequenceClassifier::Make(config));
  Initialize(*model_, 1);
  std::vector<NamedTensor> weights;
  for (const Parameter& p : Parameters(*model_)) weights.push_back({p.name, *p.value});
  RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(request.at("weights"), weights));

  batch_ = LabeledSequences();
  batch_.x = Tensor::Uninitialized({batch, length, 1});
  std::ifstream file(request.at("values").get<std::string>(), std::ios::binary);
  if (!file.read(static_cast<char*>(batch_.x.mutable_raw_data()), batch_.x.bytes())) {
    return absl::NotFoundError(absl::StrCat("cannot read ", request.at("values").dump()));
  }
  batch_.n_classes = 10;
  for (int64_t i = 0; i < batch; ++i) batch_.label.push_back(static_cast<int>(i % 10));
  ClassifierTraining training;
  training.batch_size = batch;
  training.clip_norm = 0;
  training.optimizer.weight_decay = request.at("weight_decay");
  training.schedule.lr = request.at("lr");
  trainer_ = std::make_unique<ClassifierTrainer>(training, *model_, batch_, batch_);
  *workload = [this, losses]() {
    const auto step = trainer_->StepOn(batch_);
    RESIDUAL_CHECK(step.ok()) << step.status().message();
    losses->push_back(step->loss);
    return TensorList{Tensor::Scalar(step->loss)};
  };
  return absl::OkStatus();
}

}  // namespace residual
