#include "interp/graph/graph_run.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ops/elementwise/elementwise.h"
#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "ops/matmul/matmul.h"
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

// x [batch, pos, heads, d_head] with these heads, [n, batch, pos, d_head].
Tensor WithHeads(const Tensor& x, const std::vector<int64_t>& which, const Tensor& values) {
  Tensor edited = x.Clone();
  const int64_t heads = x.dim(2), rows = x.dim(0) * x.dim(1);
  const size_t bytes = x.dim(3) * SizeOf(x.dtype());
  char* const to = static_cast<char*>(edited.mutable_raw_data());
  const char* from = static_cast<const char*>(values.raw_data());
  for (const int64_t head : which) {
    for (int64_t row = 0; row < rows; ++row, from += bytes) {
      std::memcpy(to + (row * heads + head) * bytes, from, bytes);
    }
  }
  return edited;
}

// From where a reader's edges carry, and whether any carries something else.
absl::Span<const uint8_t> FromOf(const EdgeGraph& graph, int reader,
                                 absl::Span<const uint8_t> from) {
  const GraphReader& at = graph.readers()[reader];
  return from.subspan(at.first_edge, at.writers);
}
bool Patched(const EdgeGraph& graph, int reader, absl::Span<const uint8_t> from) {
  const absl::Span<const uint8_t> of_reader = FromOf(graph, reader, from);
  return std::any_of(of_reader.begin(), of_reader.end(), [](uint8_t x) { return x != 0; });
}

// The heads of one part that read something of their own.
struct OwnReads {
  std::vector<int64_t> heads;
  Tensor normals;  // [n, batch, pos, d_model], behind the norm
  Tensor in;       // what "q.hook_in" holds for the others
};

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

Tensor GraphRun::Deltas(const std::vector<absl::Span<const uint8_t>>& from,
                        absl::Span<const WriterOutputs* const> others,
                        const WriterOutputs& own) const {
  // One product: which difference is in which sum, times the differences that are in any.
  std::map<std::pair<size_t, uint8_t>, size_t> used;  // writer and source, in their order
  for (const auto& sources : from) {
    for (size_t w = 0; w < sources.size(); ++w) {
      if (sources[w] != 0) used.emplace(std::make_pair(w, sources[w]), 0);
    }
  }
  const Shape& shape = own[0].shape();
  std::vector<Tensor> differences;
  for (auto& [at, index] : used) {
    const auto [w, source] = at;
    index = differences.size();
    differences.push_back(Sub((*others[source - 1])[w], own[w]).Reshaped({1, shape.elements()}));
  }
  const int64_t rows = static_cast<int64_t>(from.size());
  const int64_t columns = static_cast<int64_t>(differences.size());
  std::vector<double> in(rows * columns, 0);
  for (int64_t r = 0; r < rows; ++r) {
    for (size_t w = 0; w < from[r].size(); ++w) {
      if (from[r][w] != 0) in[r * columns + used.at({w, from[r][w]})] = 1;
    }
  }
  const Tensor which = ConvertTo(Tensor::Of<double>({rows, columns}, in), own[0].dtype());
  return MatMul(which, Concat(differences, 0)).Reshaped(shape.Inserted(0, rows));
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
      if (parts.empty() && Patched(graph_, readers.begin, from)) {
        input = Add(read, Deltas({FromOf(graph_, readers.begin, from)}, others, own).Row(0));
      }
      const Tensor normal = branch.norm.Forward(input, Scope());
      // Heads that take the same from elsewhere read the same.
      std::map<absl::Span<const uint8_t>, int64_t> taken;
      for (int r = readers.begin; r < readers.end && !parts.empty(); ++r) {
        if (Patched(graph_, r, from)) taken.emplace(FromOf(graph_, r, from), 0);
      }
      std::vector<OwnReads> own_reads(taken.empty() ? 0 : parts.size());
      if (!taken.empty()) {
        std::vector<absl::Span<const uint8_t>> sums;
        for (auto& [sources, index] : taken) {
          index = static_cast<int64_t>(sums.size());
          sums.push_back(sources);
        }
        const Tensor deltas = Deltas(sums, others, own);
        const Tensor changed =
            branch.norm.Forward(Add(BroadcastTo(read, deltas.shape()), deltas)
                                    .Reshaped(read.shape().With(0, read.dim(0) * deltas.dim(0))),
                                Scope());
        const Tensor normals = changed.Reshaped(deltas.shape());
        for (size_t p = 0; p < parts.size(); ++p) {
          OwnReads& reads = own_reads[p];
          std::vector<int64_t> rows;
          for (int64_t h = 0; h < parts[p].heads; ++h) {
            const int r = parts[p].begin + static_cast<int>(h);
            if (!Patched(graph_, r, from)) continue;
            reads.heads.push_back(h);
            rows.push_back(taken.at(FromOf(graph_, r, from)));
          }
          if (rows.empty()) continue;
          reads.normals =
              GatherRows(normals, Tensor::Of<int64_t>({static_cast<int64_t>(rows.size())}, rows));
          const PartWeights& weights = graph_.WeightsOf(layer, static_cast<int>(i))[p];
          hooks.Read(parts[p].name + ".hook_in",
                     [&reads](absl::string_view, const Tensor& x) { reads.in = x; });
          hooks.Edit("hook_" + parts[p].name, [&reads, &weights, &normal](absl::string_view,
                                                                          const Tensor& x) {
            // What else is in it than the norm's output: positions.
            const Tensor besides = BroadcastTo(Sub(reads.in, normal), reads.normals.shape());
            return WithHeads(x, reads.heads,
                             weights.Make(Add(reads.normals, besides), reads.heads));
          });
        }
      }
      Tensor results;
      if (graph_.writers()[writers.begin].head >= 0) {
        hooks.Read("hook_result", [&results](absl::string_view, const Tensor& x) { results = x; });
      }
      const Tensor out = branch.mixer->Forward(normal, context, nullptr, Scope(&hooks));
      for (int w = writers.begin; w < writers.end; ++w) {
        own[w] = results.defined() ? Head(results, graph_.writers()[w].head) : out;
      }
      if (keep != nullptr) keep->added_.back().push_back(out);
      resid = Add(resid, out);
    }
  }
  if (keep != nullptr) keep->streams_.push_back(resid);
  const int logits = static_cast<int>(graph_.readers().size()) - 1;
  if (!Patched(graph_, logits, from)) return resid;
  return Add(resid, Deltas({FromOf(graph_, logits, from)}, others, own).Row(0));
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
  std::vector<Tensor> gradients;  // behind the norm
  for (size_t p = 0; p < part_gradients.size(); ++p) {
    gradients.push_back(graph_.WeightsOf(layer, branch_index)[p].Back(part_gradients[p]));
  }
  const Tensor behind = Concat(gradients, 0);
  if (branch.norm.kind() == NormKind::kNone) return behind;
  Tensor copies = Concat(std::vector<Tensor>(behind.dim(0), read), 0);  // one for each head
  Tape tape;
  tape.Watch(copies);
  const Tensor normal = branch.norm.Forward(copies, Scope());
  const Gradients found = tape.Backward({normal}, {behind.Reshaped(normal.shape())}, {});
  return found[copies].Reshaped(behind.shape());
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
    // Of a site inside, nothing before it is on the tape.
    const bool inside = site.layer >= 0 && site.value.defined();
    Tensor written = site.value;
    Tensor resid = inside ? streams_[site.layer] : written.defined() ? written : outputs_[0];
    tape.Watch(inside ? written : resid);
    for (int layer = inside ? site.layer : 0; layer < model_.n_layers(); ++layer) {
      const Block& block = model_.block(layer);
      const Tensor before = resid;
      const MixerContext context = ContextOf(layer, 1);
      for (size_t i = 0; i < block.branches().size(); ++i) {
        const Branch& branch = block.branches()[i];
        const int at = static_cast<int>(i);
        if (inside && layer == site.layer && (at <= site.branch || block.parallel())) {
          resid = Add(resid, at == site.branch ? written : added_[layer][i]);
          continue;
        }
        const std::vector<Part> parts = PartsOf(graph_, graph_.ReadersOf(layer, at));
        reads.push_back({layer, at, block.parallel() ? before : resid, {}, {}});
        Read& read = reads.back();
        read.handle = Scale(read.value, 1);
        read.parts.resize(parts.size());
        Hooks hooks;
        for (size_t p = 0; p < parts.size(); ++p) {
          hooks.Edit("hook_" + parts[p].name, [&read, p](absl::string_view, const Tensor& x) {
            return read.parts[p] = Scale(x, 1);
          });
        }
        resid = Add(resid, branch.mixer->Forward(branch.norm.Forward(read.handle, Scope()), context,
                                                 nullptr, Scope(&hooks)));
      }
    }
    last = Scale(resid, 1);
    for (const Read& read : reads) {
      if (read.parts.empty()) also.push_back(read.handle);
      also.insert(also.end(), read.parts.begin(), read.parts.end());
    }
    also.push_back(last);
    const MetricReader reader(model_, metric);
    gradients = tape.Backward(SumAll(reader.Differentiable(last)), also);
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
