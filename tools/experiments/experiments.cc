#include "tools/experiments/experiments.h"

#include "tools/experiments/mamba/mamba_induction.h"

namespace residual {

const std::vector<Experiment>& Experiments() {
  static const auto& experiments = *new std::vector<Experiment>{
      {"mamba_induction",
       "Mamba's induction heads at lengths far beyond training (Gu and Dao 2023, table 2)",
       MambaInduction},
  };
  return experiments;
}

}  // namespace residual
