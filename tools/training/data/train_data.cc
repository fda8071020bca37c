#include "tools/training/data/train_data.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "models/data/sets/labeled_set.h"
#include "models/data/tasks/tasks.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/crc32.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"

namespace residual {
namespace {

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(const std::string& kind,
                                                         const std::string& text) {
  if (kind == "bytes") return MakeByteTokenizer();
  if (!IsTokenizerKind(kind)) return LoadTokenizer(kind);
  int64_t size = 0;
  if (!absl::SimpleAtoi(absl::StripPrefix(kind, "bpe:"), &size)) size = 0;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = TrainBpe(text, size);
  if (tokenizer.ok()) return tokenizer;
  return UsageError(absl::StrCat("--tokenizer=", kind, ": ", tokenizer.status().message()));
}

// The checksum of what is in the rows.
std::string ChecksumOf(const LabeledSequences& data) {
  uint32_t crc = Crc32({static_cast<const char*>(data.x.raw_data()), data.x.bytes()});
  const auto add = [&](const auto& values) {
    crc = Crc32({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])},
                crc);
  };
  add(data.label);
  add(data.lengths);
  return absl::StrFormat("%08x", crc);
}

absl::StatusOr<LabeledSplit> LoadLabeled(const TrainFlags& flags, const TrainingPlan& plan,
                                         Recipe& recipe) {
  RESIDUAL_ASSIGN_OR_RETURN(const LabeledSetSpec spec, ParseLabeledSet(recipe.labeled));
  RESIDUAL_ASSIGN_OR_RETURN(LabeledSet set, ReadLabeledSet(spec));
  const std::string crc = ChecksumOf(set.train);
  if (!flags.resume) {
    recipe.labeled_rows = set.train.n();
    recipe.labeled_crc32 = crc;
  } else if (set.train.n() != recipe.labeled_rows || crc != recipe.labeled_crc32) {
    return absl::FailedPreconditionError(
        absl::StrCat(recipe.labeled, ": has ", set.train.n(), " rows and crc32 ", crc,
                     ", the run began with ", recipe.labeled_rows, " and ", recipe.labeled_crc32,
                     "; where are these data? (--labeled=KIND:PATH)"));
  }
  const int64_t tenth = std::min<int64_t>(1000, set.train.n() / 10);
  const int64_t held_out = plan.validation_rows > 0 ? plan.validation_rows : tenth;
  absl::StatusOr<LabeledSplit> split = SplitRows(set.train, held_out, 0, plan.run.train.seed);
  if (!split.ok()) {
    return UsageError(absl::StrCat("--validation_rows: ", split.status().message()));
  }
  if (held_out < 1) {
    return UsageError(absl::StrCat("--validation_rows is missing: a tenth of the ", set.train.n(),
                                   " rows are none"));
  }
  if (plan.run.train.batch_size > split->train.n()) {
    return UsageError(absl::StrCat("--batch_size=", plan.run.train.batch_size,
                                   ", expected 1 to the ", split->train.n(), " rows to train on"));
  }
  split->test = std::move(set.test);
  return split;
}

}  // namespace

absl::StatusOr<TrainData> LoadTrainData(const TrainFlags& flags, const TrainingPlan& plan,
                                        Recipe& recipe) {
  TrainData data;
  if (!recipe.task.empty()) {
    auto source = MakeTask(recipe.task, {plan.text.context, plan.d_vocab, plan.n_items});
    if (!source.ok()) return UsageError(source.status().message());
    data.source = *std::move(source);
    return data;
  }
  if (!recipe.labeled.empty()) {
    RESIDUAL_ASSIGN_OR_RETURN(data.labeled, LoadLabeled(flags, plan, recipe));
    return data;
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(recipe.text));
  const std::string crc = absl::StrFormat("%08x", Crc32(text));
  if (!flags.resume) {
    recipe.text_bytes = text.size();
    recipe.text_crc32 = crc;
  } else if (text.size() != recipe.text_bytes || crc != recipe.text_crc32) {
    return absl::FailedPreconditionError(absl::StrCat(
        recipe.text, ": has ", text.size(), " bytes and crc32 ", crc, ", the run began with ",
        recipe.text_bytes, " and ", recipe.text_crc32, "; where is that text? (--text=FILE)"));
  }
  if (text.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(recipe.text, ": is empty, expected a text"));
  }
  if (flags.resume) {
    RESIDUAL_ASSIGN_OR_RETURN(data.tokenizer, LoadTokenizer(flags.out));
  } else {
    RESIDUAL_ASSIGN_OR_RETURN(data.tokenizer, MakeTokenizer(plan.tokenizer, text));
  }
  if (plan.d_vocab != 0 && plan.d_vocab != data.tokenizer->vocab_size()) {
    return UsageError(absl::StrCat("--d_vocab=", plan.d_vocab, ", the tokenizer has ",
                                   data.tokenizer->vocab_size(), " tokens"));
  }
  absl::StatusOr<std::unique_ptr<DataSource>> source =
      MakeTextData(data.tokenizer->Encode(text), data.tokenizer->vocab_size(), plan.text);
  if (!source.ok()) {
    return absl::Status(source.status().code(),
                        absl::StrCat(recipe.text, ": ", source.status().message()));
  }
  data.source = *std::move(source);
  return data;
}

}  // namespace residual
