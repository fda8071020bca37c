#include "interp/patch/patch_pass.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>

#include "ops/embedding/embedding.h"
#include "ops/layout/layout.h"
#include "tensor/core/storage.h"

namespace residual {
namespace {

// The rows 0 .. batch - 1, so many times.
std::vector<int64_t> Repeated(int64_t batch, int64_t times) {
  std::vector<int64_t> rows;
  rows.reserve(batch * times);
  for (int64_t i = 0; i < times; ++i) {
    for (int64_t b = 0; b < batch; ++b) rows.push_back(b);
  }
  return rows;
}

// Stacks of many shapes leave blocks of many sizes in the pool, which no later one may ask for.
void TrimIdle() {
  constexpr int64_t kIdleBytes = int64_t{16} << 20;
  const PoolStats pool = HostPoolStats();
  if (pool.system_bytes - pool.bytes_in_use > kIdleBytes) TrimHostPool();
}

Tensor RowsOf(const Tensor& x, const std::vector<int64_t>& rows) {
  return GatherRows(x, Tensor::Of<int64_t>({static_cast<int64_t>(rows.size())}, rows));
}

}  // namespace

PatchPass::PatchPass(PatchSession& session, int64_t last)
    : session_(session),
      model_(session.model_),
      last_(last),
      batch_(session.batch()),
      positions_(session.positions()) {}

int64_t PatchPass::RunsAtOnce(int64_t positions) const {
  // Each run also has a copy of what its mixers remember of the positions before.
  const PatchOptions& options = session_.options_;
  const int64_t runs = std::min(options.stacked_positions / std::max<int64_t>(1, positions),
                                options.remembered_positions / std::max<int64_t>(1, positions_));
  return std::max<int64_t>(1, runs / std::max<int64_t>(1, batch_));
}

Tensor PatchPass::Corrupted(int layer, int64_t start, int64_t runs) const {
  return RowsOf(Slice(session_.streams_[layer], 1, start, positions_), Repeated(batch_, runs));
}

BlockState PatchPass::StateAt(int layer, int64_t length, int64_t runs) {
  const std::vector<int64_t> rows = Repeated(batch_, runs);
  BlockState state;
  bool back = true;
  for (const auto& mixer : session_.states_[layer]) {
    state.push_back(mixer == nullptr ? nullptr : mixer->Fork());
    back = back && (mixer == nullptr || state.back()->RollBack(length).ok());
  }
  if (!back) {
    if (read_.layer != layer || read_.length > length) {
      read_.layer = layer;
      read_.length = 0;
      read_.state = model_.block(layer).NewState(batch_);
    }
    if (read_.length < length) {
      std::vector<BlockState> blocks(model_.n_layers());
      for (const auto& mixer : read_.state) {
        blocks[layer].push_back(mixer == nullptr ? nullptr : mixer->Fork());
      }
      ModelState so_far(read_.length, std::move(blocks));
      ModelInput input = session_.corrupted_;
      input.tokens = Slice(input.tokens, 1, read_.length, length);
      if (input.attention_mask.defined()) {
        input.attention_mask = Slice(input.attention_mask, 1, 0, length);
      }
      if (input.positions.defined()) {
        input.positions = Slice(input.positions, -1, read_.length, length);
      }
      model_.Stream(Slice(session_.streams_[layer], 1, read_.length, length), {layer, layer + 1},
                    model_.MakeContext(input, &so_far), &so_far, Scope());
      read_.state.clear();
      for (const auto& mixer : so_far.blocks()[layer]) {
        read_.state.push_back(mixer == nullptr ? nullptr : mixer->Fork());
      }
      read_.length = length;
    }
    state.clear();
    for (const auto& mixer : read_.state) {
      state.push_back(mixer == nullptr ? nullptr : mixer->Fork());
    }
  }
  for (auto& mixer : state) {
    if (mixer != nullptr) mixer = mixer->Select(rows);
  }
  return state;
}

Tensor PatchPass::ThroughBlock(int layer, int64_t start, const Tensor& resid,
                               absl::Span<const RowEdit> edits, int64_t last) {
  const int64_t runs = resid.dim(0) / batch_;
  std::map<std::string, std::vector<const RowEdit*>> by_point;
  for (const RowEdit& edit : edits) by_point[edit.edit.point->hook.name].push_back(&edit);
  Hooks hooks;
  for (const auto& [name, of_point] : by_point) {
    hooks.Edit(name, [&, of_point = of_point](absl::string_view, const Tensor& x) {
      Tensor edited = x.Clone();
      char* const to = static_cast<char*>(edited.mutable_raw_data());
      for (const RowEdit* edit : of_point) {
        const PatchPoint& point = *edit->edit.point;
        RESIDUAL_CHECK(x.dtype() == point.clean.dtype())
            << x.ToString() << " in place of " << point.clean.ToString();
        const char* const from = static_cast<const char*>(edit->edit.value().raw_data());
        // The last block may hold the last positions alone.
        const int64_t first = point.axes.pos < 0 ? 0 : positions_ - x.dim(point.axes.pos);
        ForEachStretch(*edit->edit.cell, point.axes, x.dtype(), {&point.clean.shape(), 0, 0},
                       {&x.shape(), edit->run * batch_, first}, batch_, 0, positions_,
                       [&](int64_t from_at, int64_t to_at, int64_t bytes) {
                         std::memcpy(to + to_at, from + from_at, bytes);
                       });
      }
      return edited;
    });
  }

  ModelInput input = session_.corrupted_;
  input.tokens = Slice(input.tokens, 1, start, positions_);
  if (input.positions.defined()) {
    input.positions = Slice(input.positions, -1, start, positions_);
  }
  input = SelectRows(std::move(input), Repeated(batch_, runs));
  Tensor out;
  if (start == 0) {
    out = model_.Stream(resid, {layer, layer + 1}, model_.MakeContext(input), nullptr,
                        Scope(&hooks), last);
  } else {
    std::vector<BlockState> blocks(model_.n_layers());
    blocks[layer] = StateAt(layer, start, runs);
    ModelState state(start, std::move(blocks));
    out = model_.Stream(resid, {layer, layer + 1}, model_.MakeContext(input, &state), &state,
                        Scope(&hooks), last);
  }
  RESIDUAL_CHECK(hooks.CheckFired().ok()) << hooks.CheckFired().message();
  return out;
}

void PatchPass::Join(int64_t start, absl::Span<const StackedRun* const> runs, const MakeRows& make,
                     std::vector<Stack>& stacks) const {
  const int64_t at_once = RunsAtOnce(positions_ - start);
  const int64_t count = static_cast<int64_t>(runs.size());
  for (int64_t begin = 0; begin < count;) {
    if (stacks.empty() || static_cast<int64_t>(stacks.back().runs.size()) >= at_once) {
      stacks.emplace_back();
    }
    Stack& stack = stacks.back();
    const int64_t room = at_once - static_cast<int64_t>(stack.runs.size());
    const int64_t end = std::min(count, begin + room);
    const Tensor part = make(begin, end);
    stack.resid = stack.runs.empty() ? part : Concat({stack.resid, part}, 0);
    stack.runs.insert(stack.runs.end(), runs.begin() + begin, runs.begin() + end);
    begin = end;
  }
}

// A row serves patches of one part of one point at different positions: they do not meet.
void PatchPass::JoinLocal(int layer, absl::Span<const StackedRun* const> runs, Stacks& stacks) {
  using Part = std::tuple<const PatchPoint*, int64_t, int64_t, int64_t>;
  std::map<Part, std::vector<int64_t>> rows_of;  // that hold patches of the part
  std::vector<std::vector<const StackedRun*>> rows;
  std::vector<std::vector<bool>> taken;
  int64_t start = positions_;
  for (const StackedRun* run : runs) {
    const PatchCell& cell = *run->edits[0].cell;
    start = std::min(start, cell.pos);
    std::vector<int64_t>& candidates =
        rows_of[Part(run->edits[0].point, cell.head, cell.key, cell.unit)];
    auto free = std::find_if(candidates.begin(), candidates.end(),
                             [&](int64_t row) { return !taken[row][cell.pos]; });
    if (free == candidates.end()) {
      free = candidates.insert(candidates.end(), static_cast<int64_t>(rows.size()));
      rows.emplace_back();
      taken.emplace_back(positions_, false);
    }
    rows[*free].push_back(run);
    taken[*free][cell.pos] = true;
  }
  if (!session_.causal_) start = 0;

  const int64_t at_once = RunsAtOnce(positions_ - start);
  const bool last_layer = layer + 1 == model_.n_layers();
  const size_t position_bytes = model_.d_model() * SizeOf(model_.dtype());
  for (size_t begin = 0; begin < rows.size(); begin += at_once) {
    const size_t end = std::min(rows.size(), begin + static_cast<size_t>(at_once));
    std::vector<RowEdit> edits;
    std::map<int64_t, std::vector<std::pair<const StackedRun*, int64_t>>> by_start;
    for (size_t row = begin; row < end; ++row) {
      const int64_t at = static_cast<int64_t>(row - begin);
      for (const StackedRun* run : rows[row]) {
        edits.push_back({run->edits[0], at});
        by_start[run->start].emplace_back(run, at);
      }
    }
    const Tensor out = ThroughBlock(
        layer, start, Corrupted(layer, start, static_cast<int64_t>(end - begin)), edits, 0);
    const char* const from = static_cast<const char*>(out.raw_data());
    for (const auto& [run_start, joining] : by_start) {
      // From run_start on, or what is read of it after the last block.
      const int64_t first = last_layer ? positions_ - last_ : run_start, n = positions_ - first;
      std::vector<const StackedRun*> joined;
      for (const auto& [run, row] : joining) joined.push_back(run);
      const auto make = [&, &joining = joining](int64_t joined_begin, int64_t joined_end) {
        Tensor resid = Corrupted(layer + 1, first, joined_end - joined_begin);
        char* to = static_cast<char*>(resid.mutable_raw_data());
        for (int64_t i = joined_begin; i < joined_end; ++i) {
          const auto& [run, row] = joining[i];
          const int64_t pos = run->edits[0].cell->pos;
          for (int64_t b = 0; b < batch_; ++b, to += n * position_bytes) {
            const int64_t out_row = row * batch_ + b;
            std::memcpy(to + (pos - first) * position_bytes,
                        from + (out_row * out.dim(1) + pos - start) * position_bytes,
                        position_bytes);
          }
        }
        return resid;
      };
      // After the last block stacks of other shapes would not meet: each has its own.
      if (last_layer) {
        Stack stack;
        stack.runs = joined;
        stack.resid = make(0, static_cast<int64_t>(joined.size()));
        stacks[run_start].push_back(std::move(stack));
      } else {
        Join(run_start, joined, make, stacks[run_start]);
      }
    }
  }
}

void PatchPass::Run(std::vector<StackedRun> runs, const Done& done,
                    const std::function<void(double)>& progress) {
  std::vector<StackedRun*> order;
  for (StackedRun& run : runs) order.push_back(&run);
  std::stable_sort(order.begin(), order.end(),
                   [](const StackedRun* a, const StackedRun* b) { return a->start < b->start; });
  // Runs of few positions would make products of few rows: they begin earlier, with others, where
  // what that computes in vain costs less.
  for (size_t end = order.size(); end > 0;) {
    size_t begin = end;
    int64_t start = positions_;
    while (begin > 0) {
      const int64_t next = order[begin - 1]->start;
      const int64_t count = static_cast<int64_t>(end - begin);
      if (next != start && begin < end &&
          count * batch_ * (positions_ - start) >= session_.options_.enough_positions) {
        break;
      }
      start = next;
      --begin;
    }
    for (size_t i = begin; i < end; ++i) order[i]->start = start;
    end = begin;
  }

  Stacks stacks;
  for (int layer = 0; layer < model_.n_layers(); ++layer) {
    const double share = static_cast<double>(layer) / model_.n_layers();
    std::map<int64_t, std::vector<const StackedRun*>> joining;
    std::vector<const StackedRun*> local;
    for (const StackedRun* run : order) {
      if (run->layer != layer) continue;
      if (run->local) {
        local.push_back(run);
      } else {
        joining[run->start].push_back(run);
      }
    }
    for (const auto& [start, joined] : joining) {
      const auto corrupted = [this, layer, start = start](int64_t begin, int64_t end) {
        return Corrupted(layer, start, end - begin);
      };
      Join(start, joined, corrupted, stacks[start]);
    }
    for (auto& [start, at_start] : stacks) {
      for (Stack& stack : at_start) {
        progress(static_cast<double>(runs.size()) * share);
        std::vector<RowEdit> edits;
        for (size_t i = 0; i < stack.runs.size(); ++i) {
          if (stack.runs[i]->local) continue;
          for (const StackedEdit& edit : stack.runs[i]->edits) {
            if (edit.point->layer == layer) edits.push_back({edit, static_cast<int64_t>(i)});
          }
        }
        stack.resid = ThroughBlock(layer, start, stack.resid, edits, last_);
      }
      TrimIdle();
    }
    if (!local.empty()) JoinLocal(layer, local, stacks);
  }
  progress(static_cast<double>(runs.size()));
  for (auto& [start, at_start] : stacks) {
    for (Stack& stack : at_start) {
      std::vector<int64_t> indices;
      for (const StackedRun* run : stack.runs) indices.push_back(run->index);
      done(indices, stack.resid);
      stack.resid = Tensor();
    }
  }
}

}  // namespace residual
