#include "interp/graph/graph_run.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/reduce/reduce.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/check.h"
#include "tensor/base/status_macros.h"

namespace residual {
namespace {

// The parts [begin, end) of a mixer's readers, by name: "q" has the heads [begin, begin + heads).
struct Part {
  std::string name;
  int begin = 0;
  int64_t heads = 0;
};

std::vector<Part> PartsOf(const EdgeGraph& graph, EdgeGraph::Range readers) {
  std::vector<Part> parts;
  for (int r = readers.begin; r < readers.end; ++r) {
    const GraphReader& reader = graph.readers()[r];
    if (reader.part.empty()) continue;
    if (parts.empty() || parts.back().name != reader.part) parts.push_back({reader.part, r, 0});
    ++parts.back().heads;
  }
  return parts;
}

// x with the heads (axis 2 of [batch, pos, heads, d_head]) of `from` that are marked.
Tensor WithHeads(const Tensor& x, const std::vector<const Tensor*>& from) {
  Tensor edited = x.Clone();
  const int64_t heads = x.dim(2), rows = x.dim(0) * x.dim(1);
  const size_t bytes = x.dim(3) * SizeOf(x.dtype());
  char* const to = static_cast<char*>(edited.mutable_raw_data());
  for (int64_t h = 0; h < heads; ++h) {
    if (from[h] == nullptr) continue;
    const char* const source = static_cast<const char*>(from[h]->raw_data());
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(to + (row * heads + h) * bytes, source + (row * heads + h) * bytes, bytes);
    }
  }
  return edited;
}

Tensor Head(const Tensor& results, int64_t head) {  // of [batch, pos, heads, d_model]
  return Slice(results, 2, head, head + 1)
      .Reshaped({results.dim(0), results.dim(1), results.dim(3)});
}

}  // namespace

GraphRun::GraphRun(const ResidualModel& model, const EdgeGraph& graph, const ModelInput& input)
    : model_(model), graph_(graph), input_(input) {}

absl::StatusOr<GraphRun> GraphRun::Create(const ResidualModel& model, const EdgeGraph& graph,
                                          const ModelInput& input) {
  RESIDUAL_RETURN_IF_ERROR(model.Validate(input));
  if (input.segments.defined()) {
    return absl::InvalidArgumentError("prompts that are packed into rows have no edges");
  }
  GraphRun run(model, graph, input);
  run.input_.last_logits = 0;
  const std::vector<uint8_t> own(graph.edges(), 0);
  const Tensor embed = model.EmbedTokens(run.input_, model.MakeContext(run.input_), Scope());
  WriterOutputs outputs(graph.writers().size());
  outputs[0] = embed;
  run.Walk(0, embed, own, {}, outputs, &run);
  run.outputs_ = std::move(outputs);
  return run;
}

MixerContext GraphRun::ContextOf(int layer, int64_t times) const {
  ModelInput input = input_;
  if (times > 1) {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < times; ++i) {
      for (int64_t b = 0; b < batch(); ++b) rows.push_back(b);
    }
    input = SelectRows(std::move(input), rows);
  }
  MixerContext context = model_.MakeContext(input);
  context.layer = layer;
  // As ResidualModel::Stream gives them to its blocks.
  const Embed& embed = model_.embed();
  if (embed.has_table() && !embed.positions_on_stream()) {
    context.query_key_positions = embed.PositionRows(context.positions);
  }
  return context;
}

Tensor GraphRun::Delta(int reader, absl::Span<const uint8_t> from,
                       absl::Span<const WriterOutputs* const> others,
                       const WriterOutputs& own) const {
  Tensor delta;
  const GraphReader& at = graph_.readers()[reader];
  for (int w = 0; w < at.writers; ++w) {
    const uint8_t source = from[at.first_edge + w];
    if (source == 0) continue;
    const Tensor difference = Sub((*others[source - 1])[w], own[w]);
    delta = delta.defined() ? Add(delta, difference) : difference;
  }
  return delta;
}

Tensor GraphRun::Walk(int layer, Tensor resid, absl::Span<const uint8_t> from,
                      absl::Span<const WriterOutputs* const> others, WriterOutputs& own,
                      GraphRun* keep) const {
  for (; layer < model_.n_layers(); ++layer) {
    const Block& block = model_.block(layer);
    if (keep != nullptr) {
      keep->streams_.push_back(resid);
      keep->added_.emplace_back();
    }
    const Tensor before = resid;
    const MixerContext context = ContextOf(layer, 1);
    for (size_t i = 0; i < block.branches().size(); ++i) {
      const Branch& branch = block.branches()[i];
      const Tensor& read = block.parallel() ? before : resid;
      const EdgeGraph::Range readers = graph_.ReadersOf(layer, static_cast<int>(i));
      const EdgeGraph::Range writers = graph_.WritersOf(layer, static_cast<int>(i));
      const std::vector<Part> parts = PartsOf(graph_, readers);

      Hooks hooks;
      Tensor input = read;
      // Heads that take the same from elsewhere are read together: their parts, by what they take.
      std::map<std::vector<uint8_t>, std::map<std::string, Tensor>> taken;
      std::vector<std::vector<const Tensor*>> heads(parts.size());
      if (parts.empty()) {
        const Tensor delta = Delta(readers.begin, from, others, own);
        if (delta.defined()) input = Add(read, delta);
      }
      for (size_t p = 0; p < parts.size(); ++p) {
        heads[p].assign(parts[p].heads, nullptr);
        bool any = false;
        for (int64_t h = 0; h < parts[p].heads; ++h) {
          const int r = parts[p].begin + static_cast<int>(h);
          const GraphReader& reader = graph_.readers()[r];
          const std::vector<uint8_t> key(from.begin() + reader.first_edge,
                                         from.begin() + reader.first_edge + reader.writers);
          if (std::all_of(key.begin(), key.end(), [](uint8_t x) { return x == 0; })) continue;
          auto found = taken.find(key);
          if (found == taken.end()) {
            found = taken.emplace(key, std::map<std::string, Tensor>()).first;
            std::map<std::string, Tensor>& values = found->second;
            Hooks reads;
            for (const Part& part : parts) {
              reads.Read("hook_" + part.name, [&values, &part](absl::string_view, const Tensor& x) {
                values[part.name] = x;
              });
            }
            const Tensor changed = Add(read, Delta(r, from, others, own));
            branch.mixer->Forward(branch.norm.Forward(changed, Scope()), context, nullptr,
                                  Scope(&reads));
          }
          heads[p][h] = &found->second.at(parts[p].name);
          any = true;
        }
        if (any) {
          hooks.Edit("hook_" + parts[p].name, [&heads, p](absl::string_view, const Tensor& x) {
            return WithHeads(x, heads[p]);
          });
        }
      }
      Tensor results;
      if (graph_.writers()[writers.begin].head >= 0) {
        hooks.Read("hook_result", [&results](absl::string_view, const Tensor& x) { results = x; });
      }
      const Tensor out = branch.mixer->Forward(branch.norm.Forward(input, Scope()), context,
                                               nullptr, Scope(&hooks));
      for (int w = writers.begin; w < writers.end; ++w) {
        own[w] = results.defined() ? Head(results, graph_.writers()[w].head) : out;
      }
      if (keep != nullptr) keep->added_.back().push_back(out);
      resid = Add(resid, out);
    }
  }
  if (keep != nullptr) keep->streams_.push_back(resid);
  const Tensor delta = Delta(static_cast<int>(graph_.readers().size()) - 1, from, others, own);
  return delta.defined() ? Add(resid, delta) : resid;
}

Tensor GraphRun::Run(absl::Span<const uint8_t> from,
                     absl::Span<const WriterOutputs* const> others) const {
  RESIDUAL_CHECK_EQ(from.size(), static_cast<size_t>(graph_.edges()));
  int layer = model_.n_layers();
  for (const GraphReader& reader : graph_.readers()) {
    if (reader.layer >= layer) break;  // they are in the order of the layers
    for (int w = 0; w < reader.writers; ++w) {
      if (from[reader.first_edge + w] != 0) layer = std::min(layer, reader.layer);
    }
  }
  WriterOutputs own = outputs_;
  return Walk(layer, streams_[layer], from, others, own, nullptr);
}

std::vector<double> GraphRun::Value(const Metric& metric, const Tensor& resid) const {
  std::vector<int64_t> examples(batch());
  std::iota(examples.begin(), examples.end(), int64_t{0});
  const Tensor last = Slice(resid, 1, resid.dim(1) - metric.positions, resid.dim(1));
  return MetricReader(model_, metric).Read(last, examples);
}

Tensor GraphRun::ThroughParts(int layer, int branch_index, const Tensor& read,
                              const std::vector<Tensor>& part_gradients) const {
  const Branch& branch = model_.block(layer).branches()[branch_index];
  const EdgeGraph::Range readers = graph_.ReadersOf(layer, branch_index);
  std::vector<Tensor> gradients;
  const std::vector<Part> parts = PartsOf(graph_, readers);
  for (size_t p = 0; p < parts.size(); ++p) {
    // A copy of what is read for each head, of which only that head's numbers are looked at.
    const int64_t heads = parts[p].heads, batch_size = batch();
    Tensor stacked = Concat(std::vector<Tensor>(heads, read), 0);
    Tape tape;
    tape.Watch(stacked);
    Tensor made;
    Hooks hooks;
    hooks.Read("hook_" + parts[p].name, [&made](absl::string_view, const Tensor& x) { made = x; });
    branch.mixer->Forward(branch.norm.Forward(stacked, Scope()), ContextOf(layer, heads), nullptr,
                          Scope(&hooks));
    Tensor of_head = Tensor::Zeros(made.shape(), made.dtype());
    const int64_t rows = batch_size * read.dim(1);
    const size_t bytes = made.dim(3) * SizeOf(made.dtype());
    char* const to = static_cast<char*>(of_head.mutable_raw_data());
    const char* const from = static_cast<const char*>(part_gradients[p].raw_data());
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t row = 0; row < rows; ++row) {
        std::memcpy(to + ((h * rows + row) * heads + h) * bytes, from + (row * heads + h) * bytes,
                    bytes);
      }
    }
    const Gradients found = tape.Backward({made}, {of_head}, {});
    gradients.push_back(found[stacked].Reshaped({heads, batch_size, read.dim(1), read.dim(2)}));
  }
  return Concat(gradients, 0);
}

absl::Status GraphRun::ReaderGradients(
    const Metric& metric, const Site& site,
    const std::function<void(EdgeGraph::Range, const Tensor&)>& got) const {
  if (!metric.differentiable) {
    return absl::InvalidArgumentError(
        absl::StrCat("the metric '", metric.name, "' has no gradient"));
  }
  struct Read {
    int layer, branch;
    Tensor value;               // what was read
    Tensor handle;              // the same on the tape, of a mixer that reads as a whole
    std::vector<Tensor> parts;  // of others
  };
  std::vector<Read> reads;
  std::vector<Tensor> also;
  Tensor last;
  Gradients gradients;
  {
    Tape tape;
    Tensor resid = outputs_[0];
    if (site.layer < 0 && site.value.defined()) resid = site.value;
    tape.Watch(resid);
    for (int layer = 0; layer < model_.n_layers(); ++layer) {
      const Block& block = model_.block(layer);
      const Tensor before = resid;
      const MixerContext context = ContextOf(layer, 1);
      for (size_t i = 0; i < block.branches().size(); ++i) {
        const Branch& branch = block.branches()[i];
        const std::vector<Part> parts =
            PartsOf(graph_, graph_.ReadersOf(layer, static_cast<int>(i)));
        reads.push_back({layer, static_cast<int>(i), block.parallel() ? before : resid, {}, {}});
        Read& read = reads.back();
        read.handle = Scale(read.value, 1);
        read.parts.resize(parts.size());
        Hooks hooks;
        for (size_t p = 0; p < parts.size(); ++p) {
          hooks.Edit("hook_" + parts[p].name, [&read, p](absl::string_view, const Tensor& x) {
            return read.parts[p] = Scale(x, 1);
          });
        }
        Tensor out = branch.mixer->Forward(branch.norm.Forward(read.handle, Scope()), context,
                                           nullptr, Scope(&hooks));
        if (site.layer == layer && site.branch == static_cast<int>(i) && site.value.defined()) {
          out = site.value;
        }
        resid = Add(resid, out);
      }
    }
    last = Scale(resid, 1);
    for (const Read& read : reads) {
      if (read.parts.empty()) also.push_back(read.handle);
      also.insert(also.end(), read.parts.begin(), read.parts.end());
    }
    also.push_back(last);
    const Tensor read_last = Slice(last, 1, last.dim(1) - metric.positions, last.dim(1));
    const Tensor logits = model_.UnembedStream(read_last, Scope());
    gradients = tape.Backward(SumAll(metric.differentiable(logits)), also);
  }
  for (const Read& read : reads) {
    const EdgeGraph::Range readers = graph_.ReadersOf(read.layer, read.branch);
    if (read.parts.empty()) {
      const Tensor g = gradients[read.handle];
      got(readers, g.Reshaped(g.shape().Inserted(0, 1)));
      continue;
    }
    std::vector<Tensor> parts;
    for (const Tensor& part : read.parts) parts.push_back(gradients[part]);
    got(readers, ThroughParts(read.layer, read.branch, read.value, parts));
  }
  const int logits = static_cast<int>(graph_.readers().size()) - 1;
  const Tensor g = gradients[last];
  got({logits, logits + 1}, g.Reshaped(g.shape().Inserted(0, 1)));
  return absl::OkStatus();
}

}  // namespace residual
