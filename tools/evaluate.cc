// evaluate: how well a model predicts a text.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "models/data/sets/labeled_set.h"
#include "models/evaluate/text_loss.h"
#include "models/text/tokenizer.h"
#include "models/zoo/zoo.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/file.h"
#include "tools/classifiers/classifiers.h"
#include "tools/cli/command_line.h"
#include "tools/cli/model_flags.h"
#include "tools/cli/progress.h"

namespace residual {
namespace {

absl::Status Evaluate(const CommandLine& cli, const ModelFlags& model_flags,
                      const std::string& text_path, bool add_special, TextLossOptions options) {
  RESIDUAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(text_path));
  if (text.empty()) return absl::InvalidArgumentError(text_path + ": is empty, expected a text");
  RESIDUAL_ASSIGN_OR_RETURN(const LoadedModel loaded, model_flags.Load());
  RESIDUAL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                            LoadTokenizer(loaded.folder));
  const std::vector<int32_t> tokens =
      add_special ? tokenizer->EncodeForModel(text) : tokenizer->Encode(text);
  const bool scores_all = add_special && !tokenizer->special_tokens().before.empty();
  TextLoss loss;
  options.precision = model_flags.precision();
  {
    ProgressBar progress("evaluating", static_cast<int64_t>(tokens.size()) - 1);
    progress.Update(0);
    options.on_progress = [&](int64_t scored, int64_t) { progress.Update(scored); };
    RESIDUAL_ASSIGN_OR_RETURN(loss, EvaluateText(*loaded.model, tokens, options));
  }
  const size_t bytes = text.size() - (scores_all ? 0 : tokenizer->TokenText(tokens[0]).size());
  const double perplexity = std::exp(loss.loss());
  const double bits_per_byte = loss.total / std::log(2.0) / static_cast<double>(bytes);
  if (cli.json()) {
    const nlohmann::json result = {{"tokens", loss.tokens},
                                   {"loss", loss.loss()},
                                   {"perplexity", perplexity},
                                   {"bits_per_byte", bits_per_byte},
                                   {"bytes", bytes}};
    std::printf("%s\n", result.dump().c_str());
  } else {
    absl::PrintF(
        "%d tokens, %d bytes\nloss           %.5f nats per token\nperplexity     %.4f\n"
        "bits per byte  %.5f\n",
        loss.tokens, bytes, loss.loss(), perplexity, bits_per_byte);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace residual

int main(int argc, char** argv) {
  residual::CommandLine cli(
      "evaluate",
      "Measures how well a model predicts a text, or how many rows of --labeled a classifier tells "
      "rightly. Of a text windows of --context tokens are laid over it, "
      "each --stride tokens after the one before; every token is scored once, by the first window "
      "that has it, so it is predicted from at least context - stride tokens (those of the first "
      "window from what is there). The first token has nothing before it and is not scored, nor do "
      "its bytes count, unless it is one that the model begins texts with. loss: nats per scored "
      "token; perplexity: exp(loss); bits_per_byte: "
      "the loss of the whole text in bits, over its bytes.",
      "--model=DIR --text=FILE    # or --labeled=idx:FOLDER");
  residual::ModelFlags model(cli, residual::ModelFlags::kRun);
  std::string text;
  residual::TextLossOptions options;
  bool add_special = true;
  cli.Path("text", &text, "the text");
  residual::ClassifierEvaluation classifier;
  cli.Text("labeled", &classifier.labeled,
           ("labelled rows for a classifier, as KIND[,OPTION=N..][:PATH]: " +
            residual::LabeledSetKinds())
               .c_str());
  cli.Choice("rows", &classifier.rows, {"auto", "test", "train"},
             "of --labeled; auto: those set apart to test on, where there are such");
  cli.Bool("add_special_tokens", &add_special,
           "put around the text what tokenizer.json says: <s> of Llama; what Hugging Face does");
  cli.Int("context", &options.context, 0, int64_t{1} << 30,
          "tokens in a window; 0: the model's context (1024 where that has no bound)");
  cli.Int("stride", &options.stride, 0, int64_t{1} << 30,
          "tokens from one window to the next, fewer than --context; 0: half of it");
  return cli.Run(argc, argv, [&]() -> absl::Status {
    if (text.empty() == classifier.labeled.empty()) {
      return residual::UsageError(text.empty() ? "--text or --labeled is needed"
                                               : "--text and --labeled are both given");
    }
    return text.empty() ? residual::EvaluateClassifier(cli, model, classifier)
                        : residual::Evaluate(cli, model, text, add_special, options);
  });
}
