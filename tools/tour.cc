// tour: trains a two-layer and a one-layer attention-only transformer on a text, finds the
// induction heads of the first, proves that they are, and writes the story as a page.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "interp/induction/study_report.h"
#include "models/nn/module.h"
#include "models/text/tokenizer.h"
#include "models/transformer/transformer.h"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/cli/command_line.h"
#include "tools/cli/progress.h"
#include "tools/own_text/own_text.h"

namespace residual {
namespace {

struct Flags {
  std::string text, out = "tour";
  double repeat = 0.9, learning_rate = 5e-3;
  int64_t d_model = 64, n_heads = 4, context = 96, batch_size = 32, vocab_size = 512;
  int64_t max_steps = 2400, measure_every = 20;
};

constexpr double kWeightDecay = 0.1;

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The text as tokens, and windows of it.
struct Data {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<DataSource> train;     // evaluates on plain text
  std::unique_ptr<DataSource> held_out;  // evaluates on text that repeats as the training text does
  Probes probes;
  int64_t n_tokens = 0;
};

absl::StatusOr<Data> MakeData(const Flags& flags, const NamedText& text, uint64_t seed) {
  Data data;
  RESIDUAL_ASSIGN_OR_RETURN(data.tokenizer, TrainBpe(text.bytes, flags.vocab_size));
  const std::vector<int32_t> tokens = data.tokenizer->Encode(text.bytes);
  data.n_tokens = static_cast<int64_t>(tokens.size());
  TextOptions options;
  options.context = flags.context;
  options.repeat = flags.repeat;
  auto make = [&]() -> absl::StatusOr<std::unique_ptr<DataSource>> {
    auto source = MakeTextData(tokens, data.tokenizer->vocab_size(), options);
    if (source.ok()) return source;
    return absl::InvalidArgumentError(absl::StrCat(text.name, ": ", source.status().message()));
  };
  RESIDUAL_ASSIGN_OR_RETURN(data.train, make());
  options.eval_repeat = flags.repeat;
  RESIDUAL_ASSIGN_OR_RETURN(data.held_out, make());
  const std::set<int64_t> occurring(tokens.begin(), tokens.end());
  data.probes = MakeProbes(*data.train, *data.held_out, {occurring.begin(), occurring.end()}, seed);
  return data;
}

struct Trained {
  std::unique_ptr<ResidualModel> model;
  ModelStudy study;
};

absl::StatusOr<Trained> TrainModel(const CommandLine& cli, const Flags& flags, const Data& data,
                                   int layers, const TrainPlan& plan) {
  TransformerConfig config;
  config.d_model = flags.d_model;
  config.n_ctx = flags.context;
  config.d_vocab = data.tokenizer->vocab_size();
  config.blocks.assign(layers, {"attn"});
  config.n_heads = flags.n_heads;
  config.d_head = flags.d_model / flags.n_heads;
  config.positions = Positions::kSinusoidalOnQK;
  // Half the usual: the first heads to learn a pattern are then well ahead, so fewer share it.
  config.init_scale = 0.01;
  Trained trained;
  trained.model = BuildTransformer(config);
  Initialize(*trained.model, cli.seed());
  trained.study.parameters = CountParameters(*trained.model);

  TrainConfig train;
  train.optimizer.kind = OptimizerKind::kAdamW;
  train.optimizer.weight_decay = kWeightDecay;
  train.schedule.lr = flags.learning_rate;
  train.schedule.warmup_steps = 50;
  train.batch_size = flags.batch_size;
  train.seed = cli.seed();
  Trainer trainer(train, *trained.model, *data.train);
  const std::string name = layers == 1 ? "one layer" : "two layers";
  ProgressBar bar(name, plan.max_steps);
  auto on_step = [&](const StepResult& step, const TrainingPoint& point) {
    const int64_t done = step.step + 1;
    const std::string note = absl::StrFormat("loss %.2f  induction %.2f  in-context %.2f",
                                             step.loss, point.best_induction, point.icl_score);
    bar.Update(done, note);
    if (!bar.shown() && !cli.json() && done % 200 == 0) {
      std::printf("%s: step %d  %s\n", name.c_str(), static_cast<int>(done), note.c_str());
      std::fflush(stdout);
    }
    return true;
  };
  RESIDUAL_ASSIGN_OR_RETURN(trained.study.points,
                            TrainAndMeasure(trainer, data.probes, plan, on_step));
  bar.Finish();
  RESIDUAL_ASSIGN_OR_RETURN(trained.study.scores,
                            ScoreHeads(*trained.model, data.probes.repeated_random));
  return trained;
}

absl::Status AddPictures(const Data& data, const ResidualModel& model, InductionStudy& study) {
  const HeadIndex head = Best(study.two_layer.scores.induction).head;
  auto add = [&](const Tensor& rows, const std::string& caption) -> absl::Status {
    InductionStudy::Picture picture;
    picture.caption = caption;
    RESIDUAL_ASSIGN_OR_RETURN(picture.passage, FindPassage(model, rows, head));
    for (int64_t id : picture.passage.tokens) {
      picture.tokens.push_back(data.tokenizer->TokenText(static_cast<int32_t>(id)));
    }
    study.pictures.push_back(std::move(picture));
    return absl::OkStatus();
  };
  RESIDUAL_RETURN_IF_ERROR(add(data.probes.held_out.tokens,
                               "Held-out text, windows made as in training: a passage that "
                               "repeats."));
  RESIDUAL_RETURN_IF_ERROR(
      add(data.probes.plain_text.tokens,
          "Held-out text as it is. Where a word comes again, an induction head "
          "finds what followed the last time."));
  return add(data.probes.repeated_random,
             "Random tokens, twice. There is nothing to know here but the repetition: the second "
             "half of each induction head’s pattern is a diagonal stripe.");
}

absl::Status Tour(const CommandLine& cli, const Flags& flags, const std::string& program) {
  if (flags.d_model % flags.n_heads != 0) {
    return UsageError(absl::StrCat("--n_heads=", flags.n_heads, ", expected a divisor of d_model, ",
                                   flags.d_model));
  }
  const double start = Seconds();
  RESIDUAL_ASSIGN_OR_RETURN(const NamedText text,
                            ReadTextOrOwn(flags.text, program, "--text=FILE"));
  RESIDUAL_ASSIGN_OR_RETURN(const Data data, MakeData(flags, text, cli.seed()));
  // Minutes of work are not to end at a folder that cannot be written.
  const std::string page = absl::StrCat(flags.out, "/report.html");
  RESIDUAL_RETURN_IF_ERROR(MakeFolders(flags.out));
  RESIDUAL_RETURN_IF_ERROR(AtomicFile::Create(page).status());

  InductionStudy study;
  StudySetup& setup = study.setup;
  setup.text_name = text.name;
  setup.text_bytes = static_cast<int64_t>(text.bytes.size());
  setup.text_tokens = data.n_tokens;
  setup.tokenizer = data.tokenizer->vocab_size() == 256
                        ? std::string("single bytes")
                        : absl::StrCat("byte-pair encoding learned from it, ",
                                       data.tokenizer->vocab_size(), " kinds");
  setup.d_model = flags.d_model;
  setup.n_heads = flags.n_heads;
  setup.context = flags.context;
  setup.batch_size = flags.batch_size;
  setup.learning_rate = flags.learning_rate;
  setup.weight_decay = kWeightDecay;
  setup.repeat = flags.repeat;
  setup.seed = cli.seed();
  if (!cli.json()) {
    std::printf("Training on %s: %d bytes, %d tokens.\n", text.name.c_str(),
                static_cast<int>(setup.text_bytes), static_cast<int>(setup.text_tokens));
    std::fflush(stdout);
  }

  TrainPlan plan;
  plan.max_steps = flags.max_steps;
  plan.every = flags.measure_every;
  plan.patience = 12;
  RESIDUAL_ASSIGN_OR_RETURN(Trained two, TrainModel(cli, flags, data, 2, plan));
  // The control gets exactly as many steps.
  plan.max_steps = two.study.points.back().step;
  plan.patience = 0;
  RESIDUAL_ASSIGN_OR_RETURN(Trained one, TrainModel(cli, flags, data, 1, plan));
  study.two_layer = std::move(two.study);
  study.one_layer = std::move(one.study);

  RESIDUAL_ASSIGN_OR_RETURN(
      study.ablations, StudyAblations(*two.model, study.two_layer.scores, data.probes, cli.seed()));
  auto first = [](const std::vector<HeadIndex>& heads) {
    return heads.empty() ? HeadIndex() : heads[0];
  };
  RESIDUAL_ASSIGN_OR_RETURN(study.circuits,
                            StudyCircuits(*two.model, first(study.ablations.previous_token_heads),
                                          first(study.ablations.induction_heads)));
  RESIDUAL_RETURN_IF_ERROR(AddPictures(data, *two.model, study));
  study.seconds = Seconds() - start;
  RESIDUAL_RETURN_IF_ERROR(InductionReport(study).Write(page));
  if (cli.json()) {
    nlohmann::json json = InductionJson(study);
    json["report"] = page;
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s\nThe whole story, with pictures: %s\n", InductionSummary(study).c_str(),
                page.c_str());
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "tour",
      "Trains a two-layer transformer on a text, finds its induction heads, proves that they are "
      "induction heads, and writes report.html. A few minutes on two cores.",
      "--text=book.txt --out=tour");
  residual::Flags flags;
  cli.Path("text", &flags.text, "text file to train on; else this project's own sources");
  cli.Path("out", &flags.out, "folder for report.html");
  cli.Number("repeat", &flags.repeat, 0, 1,
             "probability that a training window is a passage repeated");
  cli.Int("d_model", &flags.d_model, 1, 1024, "width of the stream");
  cli.Int("n_heads", &flags.n_heads, 1, 64, "heads of each layer");
  cli.Int("context", &flags.context, 16, 1024, "tokens of a training window");
  cli.Int("batch_size", &flags.batch_size, 1, 4096, "windows of a step");
  cli.Int("vocab_size", &flags.vocab_size, 256, 8192, "tokens of the vocabulary; 256: bytes");
  cli.Int("max_steps", &flags.max_steps, 1, 1000000,
          "steps at most; training ends before when the induction score no longer rises");
  cli.Int("measure_every", &flags.measure_every, 1, 1000000, "steps between measurements");
  cli.Number("learning_rate", &flags.learning_rate, 1e-8, 1, "of AdamW");
  return cli.Run(argc, argv, [&] { return residual::Tour(cli, flags, argv[0]); });
}
