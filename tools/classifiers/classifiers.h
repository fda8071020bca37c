// What tools do where --model is a classifier's folder.

#ifndef RESIDUAL_TOOLS_CLASSIFIERS_CLASSIFIERS_H_
#define RESIDUAL_TOOLS_CLASSIFIERS_CLASSIFIERS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"

namespace residual {

struct ClassifierEvaluation {
  std::string labeled;        // see models/data/sets/labeled_set.h
  std::string rows = "auto";  // "test", "train"; auto: to test on, where there are such
};
// Prints accuracy and loss, as a whole and for each class. A UsageError where --labeled is wrong or
// the flags are for models of tokens.
absl::Status EvaluateClassifier(const CommandLine& cli, const ModelFlags& model_flags,
                                const ClassifierEvaluation& evaluation);

struct ClassifierActivations {
  std::string tokens, input, mask, out;  // as in //tools:activations
  std::vector<std::string> names;        // of hook points, * and ? allowed
};
// Writes the logits and the activations of these points in f32.
absl::Status WriteClassifierActivations(const CommandLine& cli, const ModelFlags& model_flags,
                                        const ClassifierActivations& wanted);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_CLASSIFIERS_CLASSIFIERS_H_
