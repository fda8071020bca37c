// Generated tasks that separate sequence models by what they can select and remember. Tokens are
// drawn anew for every row; a batch is a pure function of (seed, step).
//
//   repeated_tokens     random tokens, a passage of them repeated; predict the repetition
//                       (Olsson et al. 2022).
//   selective_copying   n_items data tokens at random places among noise, then as many markers;
//                       at the i-th marker say the i-th data token (Gu and Dao 2023, section 4.1.1;
//                       Jing et al. 2019). How far apart they lie differs from row to row: a
//                       convolution with one fixed kernel cannot line them up.
//   induction_heads     random tokens, among them once, and at the very end, a special one; say
//                       what followed it the first time (Gu and Dao 2023, section 4.1.2; Dao et
//                       al. 2022).
//   associative_recall  n_items pairs of a key and a value, then the keys again at random places;
//                       say each one's value (multi-query associative recall, MQAR: Arora et al.
//                       2023, appendix E).
//
// Only the places where there is something to say have a target; it is the answer at that place,
// not the next token of the row (the answers to copying and induction are not in the row).

#ifndef RESIDUAL_MODELS_DATA_TASKS_TASKS_H_
#define RESIDUAL_MODELS_DATA_TASKS_TASKS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/train/data.h"

namespace residual {

struct TaskOptions {
  int64_t context = 256;  // positions of a row, whatever stands in them
  // Kinds of token. 0: the papers', 16 for copying and induction, 8192 for recall; 64 for repeated
  // tokens. Copying: 0 is noise, the last one the marker. Induction: the last one is special.
  // Recall: keys are below d_vocab / 2, values are not.
  int64_t d_vocab = 0;
  // Tokens to copy (0: 16), pairs to recall (0: an eighth of the context). Of no other task.
  int64_t n_items = 0;
};

std::vector<std::string> TaskNames();

// InvalidArgument for an unknown name (it lists those known) and for options that do not fit
// together: what was found and what is expected.
absl::StatusOr<std::unique_ptr<DataSource>> MakeTask(const std::string& name,
                                                     const TaskOptions& options);

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_TASKS_TASKS_H_
