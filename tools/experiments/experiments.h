// All experiments there are.

#ifndef RESIDUAL_TOOLS_EXPERIMENTS_EXPERIMENTS_H_
#define RESIDUAL_TOOLS_EXPERIMENTS_EXPERIMENTS_H_

#include <vector>

#include "tools/experiments/claims/experiment.h"

namespace residual {

const std::vector<Experiment>& Experiments();

}  // namespace residual

#endif  // RESIDUAL_TOOLS_EXPERIMENTS_EXPERIMENTS_H_
