#include "tools/experiments/experiments.h"

#include "tools/experiments/copying/mamba_copying.h"
#include "tools/experiments/framework/framework.h"
#include "tools/experiments/mamba/mamba_induction.h"
#include "tools/experiments/phase/induction_phase.h"
#include "tools/experiments/s4/s4_mnist.h"

namespace residual {

const std::vector<Experiment>& Experiments() {
  static const auto& experiments = *new std::vector<Experiment>{
      {"framework",
       "Attention-only transformers as sums over paths, taken apart (Elhage et al. 2021)",
       Framework},
      {"induction_phase",
       "When induction heads form, and what smeared keys do to it (Olsson et al. 2022)",
       InductionPhase},
      {"mamba_copying", "Selective copying with Mamba and with S4 (Gu and Dao 2023, table 1)",
       MambaCopying},
      {"mamba_induction",
       "Mamba's induction heads at lengths far beyond training (Gu and Dao 2023, table 2)",
       MambaInduction},
      {"s4_mnist",
       "Digits pixel by pixel, with HiPPO's state matrices and random ones (Gu et al. 2022)",
       S4Mnist},
  };
  return experiments;
}

}  // namespace residual
