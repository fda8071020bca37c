#include "interp/circuits/circuit_tensors.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "interp/circuits/copying.h"

namespace residual {
namespace {

// [n_layers, n_heads, values of a head...] from a function that writes those of one head; NaN where
// a layer has no such head.
template <class Table, class Write>
Tensor Stacked(const Table& table, absl::Span<const int64_t> of_a_head, const Write& write) {
  size_t widest = 0;
  for (const auto& layer : table) widest = std::max(widest, layer.size());
  const int64_t n_heads = static_cast<int64_t>(widest);
  std::vector<int64_t> sizes = {static_cast<int64_t>(table.size()), n_heads};
  sizes.insert(sizes.end(), of_a_head.begin(), of_a_head.end());
  Tensor all = Tensor::Full(Shape(sizes), std::numeric_limits<double>::quiet_NaN());
  float* data = all.mutable_data<float>();
  const int64_t stride = all.elements() / std::max<int64_t>(1, sizes[0] * n_heads);
  for (size_t layer = 0; layer < table.size(); ++layer) {
    for (size_t head = 0; head < table[layer].size(); ++head) {
      write(table[layer][head], data + (layer * n_heads + head) * stride);
    }
  }
  return all;
}

Tensor ToTensor(const CompositionTable& table) {
  size_t widest = 0;
  for (const auto& layer : table) widest = std::max(widest, layer.size());
  return Stacked(table, {static_cast<int64_t>(table.size()), static_cast<int64_t>(widest)},
                 [](const HeadTable& to, float* data) {
                   const Tensor row = TableTensor(to);
                   std::copy_n(row.data<float>(), row.elements(), data);
                 });
}

Tensor ToTensor(const SpectrumTable& table) {
  size_t most = 0;
  for (const auto& layer : table) {
    for (const std::vector<double>& head : layer) most = std::max(most, head.size());
  }
  return Stacked(table, {static_cast<int64_t>(most)},
                 [](const std::vector<double>& values, float* data) {
                   std::copy(values.begin(), values.end(), data);
                 });
}

// Tensors that are computed together.
struct Part {
  std::string name;
  std::vector<std::string> tensors;
  std::function<std::vector<Tensor>(const HeadCircuits&)> compute;
};

template <class Both>
std::vector<Tensor> OvAndQk(const Both& both) {
  if constexpr (std::is_same_v<Both, Spectra>) {
    return {ToTensor(both.OV), ToTensor(both.QK)};
  } else {
    return {TableTensor(both.OV), TableTensor(both.QK)};
  }
}

// Compositions add their pairs of heads to `result`, which may be null if nothing is computed.
std::vector<Part> Parts(CircuitTensors* result, int64_t n_top_pairs) {
  std::vector<Part> parts = {
      {"singular_values",
       {"OV.singular_values", "QK.singular_values"},
       [](const HeadCircuits& circuits) { return OvAndQk(SingularValues(circuits)); }},
      {"copying",
       {"OV.copying_score", "QK.copying_score"},
       [](const HeadCircuits& circuits) { return OvAndQk(CircuitCopyingScores(circuits)); }},
      {"full_copying",
       {"full_OV.copying_score", "full_QK.copying_score"},
       [](const HeadCircuits& circuits) { return OvAndQk(FullCopyingScores(circuits)); }}};
  for (const auto& [kind, letter] :
       {std::pair(CompositionKind::kQ, "Q"), std::pair(CompositionKind::kK, "K"),
        std::pair(CompositionKind::kV, "V")}) {
    const std::string name = absl::StrCat("composition.", letter);
    parts.push_back({name,
                     {name, name + ".deviations"},
                     [kind = kind, letter = letter, result,
                      n_top_pairs](const HeadCircuits& circuits) -> std::vector<Tensor> {
                       const CompositionScores scores = ComposeHeads(circuits, kind);
                       result->top_pairs.emplace_back(letter, TopPairs(scores, n_top_pairs));
                       return {ToTensor(scores.score), ToTensor(scores.deviations)};
                     }});
  }
  return parts;
}

}  // namespace

std::vector<ComposedPair> TopPairs(const CompositionScores& scores, int64_t count) {
  std::vector<ComposedPair> pairs;
  for (int l1 = 0; l1 < static_cast<int>(scores.score.size()); ++l1) {
    for (int h1 = 0; h1 < static_cast<int>(scores.score[l1].size()); ++h1) {
      const HeadTable &to = scores.score[l1][h1], &deviations = scores.deviations[l1][h1];
      for (int l2 = l1 + 1; l2 < static_cast<int>(to.size()); ++l2) {
        for (int h2 = 0; h2 < static_cast<int>(to[l2].size()); ++h2) {
          pairs.push_back({{l1, h1}, {l2, h2}, to[l2][h2], deviations[l2][h2]});
        }
      }
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const auto& a, const auto& b) { return a.deviations > b.deviations; });
  if (static_cast<int64_t>(pairs.size()) > count) pairs.resize(count);
  return pairs;
}

std::vector<std::string> CircuitTensorNames() {
  std::vector<std::string> names;
  for (const Part& part : Parts(nullptr, 0)) {
    names.insert(names.end(), part.tensors.begin(), part.tensors.end());
  }
  return names;
}

CircuitTensors ComputeCircuitTensors(const HeadCircuits& circuits,
                                     absl::FunctionRef<bool(const std::string&)> wanted,
                                     int64_t n_top_pairs) {
  CircuitTensors result;
  for (const Part& part : Parts(&result, n_top_pairs)) {
    if (std::none_of(part.tensors.begin(), part.tensors.end(), wanted)) continue;
    const auto start = std::chrono::steady_clock::now();
    const std::vector<Tensor> tensors = part.compute(circuits);
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (wanted(part.tensors[i])) result.tensors[part.tensors[i]] = tensors[i];
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    result.seconds.emplace_back(part.name, taken.count());
  }
  return result;
}

}  // namespace residual
