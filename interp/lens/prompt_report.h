// A page about one prompt: tokens and where heads look, what the model would say at every layer,
// and which parts made it say what it says.

#ifndef RESIDUAL_INTERP_LENS_PROMPT_REPORT_H_
#define RESIDUAL_INTERP_LENS_PROMPT_REPORT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "interp/lens/prompt_study.h"
#include "interp/report/report.h"

namespace residual {

struct PromptPage {
  std::string model;                                  // its name
  std::function<std::string(int64_t id)> token_text;  // the bytes of a token
  // Of the tuned lens on held-out text, for each layer, if there is one: without and with it.
  std::vector<double> logit_lens_kl, tuned_lens_kl;
};

Report PromptReport(const PromptStudy& study, const PromptPage& page);

}  // namespace residual

#endif  // RESIDUAL_INTERP_LENS_PROMPT_REPORT_H_
