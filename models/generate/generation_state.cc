#include "models/generate/generation_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/stream/state_file.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

constexpr char kTokens[] = "tokens", kLengths[] = "lengths", kRows[] = "rows",
               kPadding[] = "padding", kDraws[] = "draws";

absl::Status Wrong(const char* list, int64_t index, int64_t found, const std::string& expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("element ", index, " of '", list, "' is ", found, ", expected ", expected));
}

absl::Status WrongSize(const char* list, size_t found, const std::string& expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", list, "' has ", found, " numbers, expected ", expected));
}

// Checks the lists against one another and the model, and puts them into `state`.
absl::Status Unpack(const StateLists& lists, int64_t batch, const ResidualModel& model,
                    GenerationState& state) {
  const std::vector<int64_t>& tokens = lists.at(kTokens);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= model.d_vocab()) {
      return Wrong(kTokens, i, tokens[i], absl::StrCat("a token of the ", model.d_vocab()));
    }
  }
  const std::vector<int64_t>& lengths = lists.at(kLengths);
  size_t begin = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const size_t left = tokens.size() - begin;
    if (lengths[i] < 1 || static_cast<size_t>(lengths[i]) > left) {
      return Wrong(kLengths, i, lengths[i], absl::StrCat("from 1 to the ", left, " that are left"));
    }
    state.texts.emplace_back(tokens.begin() + begin, tokens.begin() + begin + lengths[i]);
    begin += lengths[i];
  }
  if (begin != tokens.size()) {
    return WrongSize(kTokens, tokens.size(), absl::StrCat("the ", begin, " of 'lengths'"));
  }
  state.rows = lists.at(kRows);
  state.padding = lists.at(kPadding);
  if (static_cast<int64_t>(state.rows.size()) != batch) {
    return WrongSize(kRows, state.rows.size(), absl::StrCat(batch, ", one for each row"));
  }
  if (static_cast<int64_t>(state.padding.size()) != batch) {
    return WrongSize(kPadding, state.padding.size(), absl::StrCat(batch, ", one for each row"));
  }
  const int64_t texts = static_cast<int64_t>(lengths.size()), length = state.model.length();
  for (int64_t row = 0; row < batch; ++row) {
    const int64_t low = row == 0 ? 0 : state.rows[row - 1] + 1;
    if (state.rows[row] < low || state.rows[row] >= texts) {
      return Wrong(kRows, row, state.rows[row], absl::StrCat("a text from ", low, " of ", texts));
    }
    // The last token is unread.
    const int64_t size = static_cast<int64_t>(state.texts[state.rows[row]].size());
    const int64_t least = std::max<int64_t>(0, length - (size - 1));
    if (state.padding[row] < least || state.padding[row] > length) {
      return Wrong(kPadding, row, state.padding[row],
                   absl::StrCat("from ", least, " to ", length, " before a text of ", size));
    }
  }
  if (lists.at(kDraws).size() != 1) return WrongSize(kDraws, lists.at(kDraws).size(), "one");
  state.draws = lists.at(kDraws)[0];
  constexpr int64_t kMost = int64_t{1} << 40;
  if (state.draws < 0 || state.draws > kMost) {
    return Wrong(kDraws, 0, state.draws, absl::StrCat("from 0 to ", kMost));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SaveGeneration(const std::string& path, const ResidualModel& model,
                            const GenerationState& state) {
  if (state.model.length() == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": nothing was read that could be saved, expected more than one token"));
  }
  StateLists lists;
  for (const std::vector<int64_t>& text : state.texts) {
    lists[kTokens].insert(lists[kTokens].end(), text.begin(), text.end());
    lists[kLengths].push_back(static_cast<int64_t>(text.size()));
  }
  lists[kRows] = state.rows;
  lists[kPadding] = state.padding;
  lists[kDraws] = {state.draws};
  return SaveState(path, model, state.model, static_cast<int64_t>(state.rows.size()), lists);
}

absl::StatusOr<GenerationState> LoadGeneration(const std::string& path,
                                               const ResidualModel& model) {
  RESIDUAL_ASSIGN_OR_RETURN(SavedState saved,
                            LoadState(path, model, {kTokens, kLengths, kRows, kPadding, kDraws}));
  GenerationState state;
  state.model = std::move(saved.state);
  const absl::Status status = Unpack(saved.lists, saved.batch, model, state);
  if (!status.ok()) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  }
  return state;
}

}  // namespace residual
