#include "tests/bench/peer_models.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/nn/module.h"
#include "models/nn/precision.h"
#include "models/stream/token_loss.h"
#include "models/zoo/zoo.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

using Json = nlohmann::json;

// Batches [steps, batch, pos + 1] of tokens, each token the target of the one before.
class GivenBatches : public DataSource {
 public:
  GivenBatches(Tensor tokens, int64_t d_vocab) : tokens_(std::move(tokens)), d_vocab_(d_vocab) {}

  TrainingBatch Batch(uint64_t, int64_t step, int64_t) const override {
    const int64_t batch = tokens_.dim(1), row = tokens_.dim(2);
    TrainingBatch result{Tensor::Uninitialized({batch, row - 1}, kI64),
                         Tensor::Uninitialized({batch, row - 1}, kI64)};
    const int64_t* from = tokens_.data<int64_t>() + step % tokens_.dim(0) * batch * row;
    for (int64_t b = 0; b < batch; ++b, from += row) {
      std::copy_n(from, row - 1, result.tokens.mutable_data<int64_t>() + b * (row - 1));
      std::copy_n(from + 1, row - 1, result.targets.mutable_data<int64_t>() + b * (row - 1));
    }
    return result;
  }
  TrainingBatch EvalBatch(uint64_t seed, int64_t index, int64_t size) const override {
    return Batch(seed, index, size);
  }
  int64_t d_vocab() const override { return d_vocab_; }
  int64_t context() const override { return tokens_.dim(2) - 1; }

 private:
  Tensor tokens_;
  int64_t d_vocab_;
};

}  // namespace

absl::Status PeerTraining::Prepare(const Json& request, Workload* workload) {
  *workload = Workload();
  trainer_.reset();
  losses_.clear();
  const Json& config = request.at("config");
  RESIDUAL_ASSIGN_OR_RETURN(model_, ModelFromConfig(config, "config"));
  Initialize(*model_, request.value("seed", 1));
  RESIDUAL_RETURN_IF_ERROR(SaveModel(*model_, config, request.at("folder")));
  Tensor tokens =
      Tensor::Uninitialized(Shape(request.at("shape").get<std::vector<int64_t>>()), kI64);
  std::ifstream file(request.at("tokens").get<std::string>(), std::ios::binary);
  if (!file.read(static_cast<char*>(tokens.mutable_raw_data()), tokens.bytes())) {
    return absl::NotFoundError(absl::StrCat("cannot read ", request.at("tokens").dump()));
  }
  data_ = std::make_unique<GivenBatches>(tokens, config.at("d_vocab").get<int64_t>());
  TrainConfig train;
  train.batch_size = tokens.dim(1);
  train.optimizer.weight_decay = request.value("weight_decay", 0.1);
  train.schedule.lr = request.value("lr", 1e-3);
  const auto precision = PrecisionFromName(request.value("precision", "f32"));
  RESIDUAL_CHECK(precision.has_value()) << request.dump();
  train.precision = *precision;
  train.clip_norm = 0;
  trainer_ = std::make_unique<Trainer>(train, *model_, *data_);
  *workload = [this]() {
    const auto step = trainer_->Step();
    RESIDUAL_CHECK(step.ok()) << step.status().message();
    losses_.push_back(step->loss);
    return TensorList{Tensor::Scalar(step->loss)};
  };
  return absl::OkStatus();
}

absl::Status PrepareForward(const Json& request, Workload* workload) {
  RESIDUAL_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(request.at("folder")));
  std::shared_ptr<ResidualModel> model = std::move(loaded.model);
  if (request.value("dtype", "f32") == "bf16") ConvertParameters(*model, kBF16);
  Tensor tokens =
      Tensor::Uninitialized(Shape(request.at("shape").get<std::vector<int64_t>>()), kI64);
  for (int64_t i = 0; i < tokens.elements(); ++i) tokens.mutable_data<int64_t>()[i] = i;
  ModelInput input{tokens};
  input.last_logits = request.value("last_logits", 0);
  if (request.value("backward", false)) {
    *workload = [model, tokens]() {
      const std::vector<Parameter> parameters = Parameters(*model);
      Tape tape;
      for (const Parameter& parameter : parameters) tape.Watch(*parameter.value);
      const Gradients grads = tape.Backward(TokenLoss(*model, {tokens}, tokens));
      const TensorList results = {grads.Find(*parameters[0].value)};
      for (const Parameter& parameter : parameters) parameter.value->set_tape_ref({});
      return results;
    };
  } else {
    *workload = [model, input]() { return TensorList{model->Forward(input)}; };
  }
  return absl::OkStatus();
}

}  // namespace residual
