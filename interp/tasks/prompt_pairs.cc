#include "interp/tasks/prompt_pairs.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "models/nn/nearest.h"
#include "tensor/base/random.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// Names and words that GPT-2's tokenizer has as one token after a space.
constexpr const char* kNames[] = {"Mary",  "John",  "Tom",   "James", "Dan",    "Martin",
                                  "Amy",   "Sarah", "Alice", "Paul",  "Kate",   "David",
                                  "Laura", "Peter", "Simon", "Lisa",  "Robert", "Anna"};
constexpr const char* kPlaces[] = {"store", "park", "school", "station", "office", "garden"};
constexpr const char* kObjects[] = {"drink", "book", "ring", "letter", "bag", "card"};
constexpr const char* kEvents[] = {"war",    "siege",  "trial",  "reign",
                                   "voyage", "revolt", "famine", "project"};
constexpr const char* kArguments[] = {"size",  "files", "port",  "name",  "user", "date",
                                      "image", "model", "text",  "value", "list", "code",
                                      "table", "page",  "token", "queue"};
constexpr const char* kFunctions[] = {"load", "build", "update", "check", "send", "merge"};
constexpr const char* kNouns[] = {"word", "place", "time", "group", "order", "point"};

// The random numbers of one candidate, drawn one after another.
class Draws {
 public:
  Draws(uint64_t seed, const std::string& task, int64_t row)
      : random_(seed, RandomStream(task.c_str(), static_cast<uint64_t>(row))) {}
  int64_t Below(int64_t n) { return random_.Below(next_++, n); }
  template <size_t n>
  std::string Of(const char* const (&words)[n]) {
    return words[Below(n)];
  }
  // `count` different ones.
  template <size_t n>
  std::vector<std::string> Different(const char* const (&words)[n], size_t count) {
    std::vector<std::string> all(words, words + n);
    for (size_t i = 0; i < count; ++i) std::swap(all[i], all[i + Below(n - i)]);
    all.resize(count);
    return all;
  }

 private:
  Philox random_;
  uint64_t next_ = 0;
};

struct Pair {
  std::string clean, corrupted, answer, wrong;
};

Pair IndirectObject(Draws& draws) {
  const std::vector<std::string> names = draws.Different(kNames, 2);
  const std::string place = draws.Of(kPlaces), object = draws.Of(kObjects);
  const bool object_first = draws.Below(2) == 0;
  const auto sentence = [&](const std::string& giver) {
    return absl::StrFormat("When %s and %s went to the %s, %s gave a %s to",
                           names[object_first ? 0 : 1], names[object_first ? 1 : 0], place, giver,
                           object);
  };
  return {sentence(names[1]), sentence(names[0]), " " + names[0], " " + names[1]};
}

Pair GreaterThan(Draws& draws) {
  const std::string event = draws.Of(kEvents);
  const int64_t century = 11 + draws.Below(8), year = 2 + draws.Below(97);  // 2 .. 98
  const auto sentence = [&](int64_t from) {
    return absl::StrFormat("The %s lasted from the year %d%02d to the year %d", event, century,
                           from, century);
  };
  const int64_t later = year + 1 + draws.Below(99 - year), earlier = draws.Below(year);
  return {sentence(year), sentence(1), absl::StrFormat("%02d", later),
          absl::StrFormat("%02d", earlier)};
}

Pair Docstring(Draws& draws) {
  const std::vector<std::string> names = draws.Different(kArguments, 7);
  const std::string function = draws.Of(kFunctions);
  const std::vector<std::string> nouns = draws.Different(kNouns, 3);
  const auto text = [&](const std::string& third) {
    return absl::StrFormat(
        "def %s(self, %s, %s, %s, %s):\n    \"\"\"%s %s\n\n    :param %s: the %s\n    :param %s: "
        "the "
        "%s\n    :param",
        function, names[0], names[1], third, names[3], nouns[0], nouns[1], names[0], nouns[1],
        names[1], nouns[2]);
  };
  return {text(names[2]), text(names[4]), " " + names[2], " " + names[4]};
}

using Make = Pair (*)(Draws&);
const std::vector<std::pair<std::string, Make>>& InWords() {
  static const auto& tasks = *new std::vector<std::pair<std::string, Make>>{
      {"ioi", IndirectObject}, {"greater_than", GreaterThan}, {"docstring", Docstring}};
  return tasks;
}

constexpr const char* kInduction = "induction";

absl::StatusOr<PromptPairs> Induction(int64_t d_vocab, const PromptTaskOptions& options) {
  const int64_t length = options.induction_length;
  if (length < 4) {
    return absl::InvalidArgumentError(
        absl::StrCat("rows of ", length, " positions, expected at least 4"));
  }
  if (d_vocab < length) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a vocabulary of ", d_vocab, " tokens, expected at least ", length, " different ones"));
  }
  PromptPairs pairs;
  std::vector<int64_t> clean, corrupted;
  for (int64_t row = 0; row < options.rows; ++row) {
    Draws draws(options.seed, kInduction, row);
    // Different tokens, so that nothing but A occurs twice: `length` of them, the last of which
    // takes the first A's place.
    std::map<int64_t, int64_t> moved;  // of [0, d_vocab), sparsely (Fisher and Yates)
    const auto at = [&moved](int64_t i) {
      const auto found = moved.find(i);
      return found == moved.end() ? i : found->second;
    };
    std::vector<int64_t> tokens;
    for (int64_t i = 0; i < length; ++i) {
      const int64_t j = i + draws.Below(d_vocab - i);
      const int64_t chosen = at(j);
      moved[j] = at(i);
      tokens.push_back(chosen);
    }
    const int64_t other = tokens.back();
    const int64_t first = draws.Below(length - 2);  // A; B follows before the end
    tokens.back() = tokens[first];
    clean.insert(clean.end(), tokens.begin(), tokens.end());
    pairs.answer.push_back(tokens[first + 1]);
    int64_t wrong = draws.Below(length - 2);  // of the row, neither B nor A
    while (wrong == first || wrong == first + 1) wrong = (wrong + 1) % (length - 1);
    pairs.wrong.push_back(tokens[wrong]);
    tokens[first] = other;
    corrupted.insert(corrupted.end(), tokens.begin(), tokens.end());
  }
  pairs.clean = Tensor::Of<int64_t>({options.rows, length}, clean);
  pairs.corrupted = Tensor::Of<int64_t>({options.rows, length}, corrupted);
  return pairs;
}

struct Cut {
  Pair pair;
  std::vector<int32_t> clean, corrupted;
  int64_t answer, wrong;
};

// The pair in tokens; false where the corrupted prompt is not as long, or has other last tokens.
bool CutPair(const Tokenizer& tokenizer, const Pair& pair, Cut& cut) {
  const std::vector<int32_t> right = tokenizer.Encode(pair.clean + pair.answer);
  const std::vector<int32_t> wrong = tokenizer.Encode(pair.clean + pair.wrong);
  const std::vector<int32_t> other = tokenizer.Encode(pair.corrupted + pair.answer);
  const size_t shared =
      std::mismatch(right.begin(), right.end(), wrong.begin(), wrong.end()).first - right.begin();
  if (shared == 0 || shared >= right.size() || shared >= wrong.size()) return false;
  if (other.size() != right.size() ||
      !std::equal(right.begin() + shared, right.end(), other.begin() + shared)) {
    return false;
  }
  cut.pair = pair;
  cut.clean.assign(right.begin(), right.begin() + shared);
  cut.corrupted.assign(other.begin(), other.begin() + shared);
  cut.answer = right[shared];
  cut.wrong = wrong[shared];
  return cut.clean != cut.corrupted;
}

}  // namespace

std::vector<std::string> PromptTaskNames() {
  std::vector<std::string> names;
  for (const auto& [name, make] : InWords()) names.push_back(name);
  names.push_back(kInduction);
  return names;
}

absl::StatusOr<PromptPairs> MakePromptPairs(const std::string& task, const Tokenizer* tokenizer,
                                            int64_t d_vocab, const PromptTaskOptions& options) {
  if (options.rows < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.rows, " rows of prompts, expected at least 1"));
  }
  if (task == kInduction) return Induction(d_vocab, options);
  Make make = nullptr;
  for (const auto& [name, of_task] : InWords()) {
    if (name == task) make = of_task;
  }
  if (make == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("no task '", task, "'; there are ",
                                                   absl::StrJoin(PromptTaskNames(), ", "),
                                                   DidYouMean(task, PromptTaskNames())));
  }
  if (tokenizer == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("the task '", task, "' is in words, and the model has no tokenizer"));
  }
  std::map<size_t, std::vector<Cut>> by_length;
  const int64_t candidates = 64 * options.rows + 256;
  for (int64_t row = 0; row < candidates; ++row) {
    Draws draws(options.seed, task, row);
    Cut cut;
    if (CutPair(*tokenizer, make(draws), cut)) by_length[cut.clean.size()].push_back(cut);
  }
  const std::vector<Cut>* most = nullptr;
  for (const auto& [length, cuts] : by_length) {
    if (most == nullptr || cuts.size() > most->size()) most = &cuts;
  }
  if (most == nullptr || static_cast<int64_t>(most->size()) < options.rows) {
    return absl::FailedPreconditionError(absl::StrCat(
        "of ", candidates, " pairs of '", task, "' the tokenizer makes ",
        most == nullptr ? 0 : most->size(), " of one length, expected ", options.rows));
  }
  PromptPairs pairs;
  std::vector<int64_t> clean, corrupted;
  for (int64_t row = 0; row < options.rows; ++row) {
    const Cut& cut = (*most)[row];
    clean.insert(clean.end(), cut.clean.begin(), cut.clean.end());
    corrupted.insert(corrupted.end(), cut.corrupted.begin(), cut.corrupted.end());
    pairs.answer.push_back(cut.answer);
    pairs.wrong.push_back(cut.wrong);
    pairs.clean_text.push_back(cut.pair.clean);
    pairs.corrupted_text.push_back(cut.pair.corrupted);
  }
  const int64_t length = static_cast<int64_t>((*most)[0].clean.size());
  pairs.clean = Tensor::Of<int64_t>({options.rows, length}, clean);
  pairs.corrupted = Tensor::Of<int64_t>({options.rows, length}, corrupted);
  for (const int64_t id : pairs.answer) {
    if (id < 0 || id >= d_vocab) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the tokenizer's token ", id, " is outside the model's vocabulary of ", d_vocab));
    }
  }
  return pairs;
}

}  // namespace residual
