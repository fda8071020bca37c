#include "tools/path_flags/path_flags.h"

#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "interp/patch/session.h"
#include "models/nn/nearest.h"
#include "nlohmann/json.hpp"
#include "tensor/base/status_macros.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

std::string BlockPoint(int layer, const std::string& within) {
  return absl::StrCat("blocks.", layer, ".", within);
}

template <class Ends>
std::vector<std::string> Names(const Ends& ends) {
  std::vector<std::string> names;
  for (const auto& end : ends) names.push_back(end.name);
  return names;
}

// "all" stands for all of them.
std::vector<std::string> Expanded(const std::vector<std::string>& given,
                                  std::vector<std::string> all) {
  return given == std::vector<std::string>{"all"} ? all : given;
}

}  // namespace

absl::StatusOr<PathEnd> SenderOf(const ResidualModel& model, const EdgeGraph& graph,
                                 const std::string& name) {
  for (const GraphWriter& writer : graph.writers()) {
    if (writer.name != name) continue;
    if (writer.layer < 0) return PathEnd{Embed::kEmbed.name};
    const Branch& branch = model.block(writer.layer).branches()[writer.branch];
    if (writer.head < 0) return PathEnd{BlockPoint(writer.layer, branch.out_name)};
    return PathEnd{BlockPoint(writer.layer, absl::StrCat(branch.name, ".hook_z")), writer.head};
  }
  return absl::NotFoundError(absl::StrCat("--sender: nothing that writes is called '", name, "'",
                                          DidYouMean(name, Names(graph.writers()))));
}

absl::StatusOr<PathEnd> ReceiverOf(const ResidualModel& model, const EdgeGraph& graph,
                                   const std::string& name) {
  for (const GraphReader& reader : graph.readers()) {
    if (reader.name != name) continue;
    if (reader.layer == model.n_layers()) {
      return PathEnd{BlockPoint(reader.layer - 1, Block::kResidPost.name)};
    }
    const Branch& branch = model.block(reader.layer).branches()[reader.branch];
    if (reader.part.empty()) return PathEnd{BlockPoint(reader.layer, branch.out_name)};
    return PathEnd{BlockPoint(reader.layer, absl::StrCat(branch.name, ".hook_", reader.part)),
                   reader.head};
  }
  return absl::NotFoundError(absl::StrCat("--receiver: nothing that reads is called '", name, "'",
                                          DidYouMean(name, Names(graph.readers()))));
}

PathFlags::PathFlags(CommandLine& cli) {
  cli.List("sender", &senders_,
           "path patching: writers, L3H5, L3.mlp, embed, ..; all: every one of them");
  cli.List("receiver", &receivers_,
           "path patching: readers that alone see the sender of the clean run, L4H2.q, L4.mlp, "
           "logits, ..; all");
  cli.Bool("frozen_norm", &frozen_norm_,
           "path patching: the receiver's norm divides by what it did in the corrupted run");
}

absl::Status PathFlags::Check() const {
  if (senders_.empty() != receivers_.empty()) {
    return UsageError("a path has both ends: --sender and --receiver");
  }
  return absl::OkStatus();
}

absl::Status PathFlags::Run(const CommandLine& cli, const ResidualModel& model,
                            const EdgeGraph& graph, const PairFlags& pairs,
                            const PromptSet& prompts, const std::string& out) const {
  const std::vector<std::string> senders = Expanded(senders_, Names(graph.writers()));
  const std::vector<std::string> receivers = Expanded(receivers_, Names(graph.readers()));
  std::vector<PathEnd> from, to;
  const auto usage = [](const absl::Status& status) {
    return absl::IsNotFound(status) ? UsageError(status.message()) : status;
  };
  for (const std::string& name : senders) {
    const auto end = SenderOf(model, graph, name);
    if (!end.ok()) return usage(end.status());
    from.push_back(*end);
  }
  for (const std::string& name : receivers) {
    const auto end = ReceiverOf(model, graph, name);
    if (!end.ok()) return usage(end.status());
    to.push_back(*end);
  }
  RESIDUAL_ASSIGN_OR_RETURN(PatchSession session,
                            PatchSession::Create(model, prompts.clean, prompts.corrupted));
  RESIDUAL_ASSIGN_OR_RETURN(
      const Metric metric,
      pairs.MetricOf(prompts, model.d_vocab(), [&session] { return session.CleanLogits(); }));
  PathOptions options;
  options.frozen_norm = frozen_norm_;
  RESIDUAL_ASSIGN_OR_RETURN(const PathEffects effects,
                            PatchPaths(session, from, to, metric, options));
  bool any = false;
  for (const auto& of_sender : effects.connected) {
    for (const bool connected : of_sender) any = any || connected;
  }
  if (!any) {
    return UsageError("no path: none of --receiver reads what any of --sender wrote before");
  }
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> clean, session.Clean(metric));
  RESIDUAL_ASSIGN_OR_RETURN(const std::vector<double> corrupted, session.Corrupted(metric));
  const auto mean = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  };
  nlohmann::json done = {{"metric", metric.name},
                         {"clean", mean(clean)},
                         {"corrupted", mean(corrupted)},
                         {"frozen_norm", frozen_norm_},
                         {"senders", senders},
                         {"receivers", receivers},
                         {"connected", effects.connected},
                         {"values", nlohmann::json::array()}};
  std::vector<float> result, by_example;
  for (size_t s = 0; s < from.size(); ++s) {
    nlohmann::json row = nlohmann::json::array();
    for (size_t r = 0; r < to.size(); ++r) {
      const std::vector<double>& values = effects.values[s][r];
      row.push_back(mean(values));
      result.push_back(static_cast<float>(mean(values)));
      by_example.insert(by_example.end(), values.begin(), values.end());
    }
    done["values"].push_back(std::move(row));
  }
  if (!out.empty()) {
    const int64_t rows = static_cast<int64_t>(from.size()),
                  columns = static_cast<int64_t>(to.size());
    std::vector<NamedTensor> tensors = prompts.made;
    tensors.emplace_back("result", Tensor::Of<float>({rows, columns}, result));
    tensors.emplace_back("by_example",
                         Tensor::Of<float>({rows, columns, session.batch()}, by_example));
    RESIDUAL_RETURN_IF_ERROR(WriteSafetensors(out, tensors));
    done["out"] = out;
  }
  if (cli.json()) {
    std::printf("%s\n", done.dump().c_str());
    return absl::OkStatus();
  }
  std::printf("%s: clean %.4g, corrupted %.4g\n", metric.name.c_str(), mean(clean),
              mean(corrupted));
  for (size_t s = 0; s < from.size(); ++s) {
    for (size_t r = 0; r < to.size(); ++r) {
      if (!effects.connected[s][r]) continue;
      std::printf("  %-8s -> %-10s %10.4g\n", senders[s].c_str(), receivers[r].c_str(),
                  mean(effects.values[s][r]));
    }
  }
  return absl::OkStatus();
}

}  // namespace residual
