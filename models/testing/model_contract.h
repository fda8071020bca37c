// What holds for every model, whatever its mixers and positions: the tests of ModelContractTest.
//
//   INSTANTIATE_TEST_SUITE_P(Transformers, ModelContractTest, testing::ValuesIn(Variants()),
//                            ContractName);
//
// - the hook points that fire are those declared, in a whole pass and in a step of decoding;
//   looking changes nothing, edits take effect, and gradients there are what edits make of the loss
// - any split of a sequence gives the same logits, as does any padding, batch, order or packing
// - states fork, select rows, and roll back (or say that they cannot); from a file they go on with
//   the same bits
// - gradients of all parameters match differences in float64
// - the bits are the same for any number of threads; a run resumes from any layer
// - mixed precision: logits and gradients within the error of bf16, the same bits for any number of
//   threads
// - what a model cannot read is an error with a message

#ifndef RESIDUAL_MODELS_TESTING_MODEL_CONTRACT_H_
#define RESIDUAL_MODELS_TESTING_MODEL_CONTRACT_H_

#include <functional>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "models/stream/residual_model.h"

namespace residual {

struct ContractCase {
  std::string name;
  // A small model (d_vocab >= 11, n_ctx >= 16) whose parameters need no value.
  std::function<std::unique_ptr<ResidualModel>()> make;
};

inline std::string ContractName(const testing::TestParamInfo<ContractCase>& info) {
  return info.param.name;
}

class ModelContractTest : public testing::TestWithParam<ContractCase> {
 protected:
  // Gives every matrix and bias values large enough for a mistake to show.
  void SetUp() override;

  // Random ids [batch, pos].
  Tensor Tokens(int64_t batch, int64_t pos, uint64_t seed = 1) const;

  std::unique_ptr<ResidualModel> model_;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_TESTING_MODEL_CONTRACT_H_
