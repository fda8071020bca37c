// Prompts for patching, generated: pairs of a clean and a corrupted prompt of one length, with a
// token that is right after the clean one and one that is wrong.
//
//   ioi           indirect object identification (Wang et al. 2023): "When Mary and John went to
//   the
//                 store, John gave a drink to" -> " Mary", not " John". Corrupted: Mary gives.
//   greater_than  (Hanna et al. 2023): "The war lasted from the year 1732 to the year 17" -> a
//   later
//                 year of the century, not an earlier one. Corrupted: from 1701.
//   docstring     (Heimersheim and Janiak 2023): the next parameter of a Python function that its
//                 docstring has to describe, after the first two. Corrupted: another name stands in
//                 its place in the signature, which is the wrong answer.
//   induction     random tokens with A B among them, and A again at the end -> B, not another token
//                 of the row. Corrupted: another token in place of the first A. Needs no tokenizer.
//
// Where a tokenizer cuts the two answers into several tokens, what they share at their beginning
// goes to the end of the prompts, so that answer and wrong are the first tokens that differ.

#ifndef RESIDUAL_INTERP_TASKS_PROMPT_PAIRS_H_
#define RESIDUAL_INTERP_TASKS_PROMPT_PAIRS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/text/tokenizer.h"
#include "tensor/core/tensor.h"

namespace residual {

struct PromptPairs {
  Tensor clean, corrupted;  // i64 [rows, pos]
  std::vector<int64_t> answer, wrong;
  std::vector<std::string> clean_text, corrupted_text;  // of tasks in words, answers not included
};

std::vector<std::string> PromptTaskNames();

struct PromptTaskOptions {
  int64_t rows = 16;
  uint64_t seed = 0;
  int64_t induction_length = 32;  // positions of a row of "induction"
};

// A pure function of the tokenizer, the task and the options. Rows of a task in words have the
// length that most candidates have. InvalidArgument for an unknown task (it lists those known), no
// tokenizer where one is needed, fewer than one row, and a vocabulary or length too small;
// FailedPrecondition if the tokenizer cuts the task's words so that there are not enough rows of
// one length. tokenizer: may be null for "induction".
absl::StatusOr<PromptPairs> MakePromptPairs(const std::string& task, const Tokenizer* tokenizer,
                                            int64_t d_vocab, const PromptTaskOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_INTERP_TASKS_PROMPT_PAIRS_H_
