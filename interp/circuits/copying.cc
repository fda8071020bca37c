#include "interp/circuits/copying.h"

#include <utility>

#include "tensor/base/check.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

using Head = HeadCircuits::Head;

// fn(head) for every head, on all threads, as [layer][head].
template <class Value, class Function>
std::vector<std::vector<Value>> ForEveryHead(const HeadCircuits& circuits, const Function& fn) {
  std::vector<std::vector<Value>> table;
  std::vector<std::pair<const Head*, Value*>> all;
  for (const std::vector<Head>& layer : circuits.heads) table.emplace_back(layer.size());
  for (size_t layer = 0; layer < table.size(); ++layer) {
    for (size_t h = 0; h < table[layer].size(); ++h) {
      all.emplace_back(&circuits.heads[layer][h], &table[layer][h]);
    }
  }
  ParallelFor(static_cast<int64_t>(all.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) *all[i].second = fn(*all[i].first);
  });
  return table;
}

// W_E OV W_U has the eigenvalues of W_O (W_U W_E) W_V.
FactoredMatrix SmallOV(const Head& head, const RowMatrix& through_vocabulary) {
  return {Product(through_vocabulary, head.W_V), head.W_O};
}

HeadTable OvScores(const HeadCircuits& circuits, const RowMatrix& through_vocabulary) {
  return ForEveryHead<double>(
      circuits, [&](const Head& head) { return CopyingScore(SmallOV(head, through_vocabulary)); });
}

}  // namespace

CopyingScores CircuitCopyingScores(const HeadCircuits& circuits) {
  return {ForEveryHead<double>(circuits, [](const Head& head) { return CopyingScore(head.OV()); }),
          ForEveryHead<double>(circuits, [](const Head& head) { return CopyingScore(head.QK()); })};
}

CopyingScores FullCopyingScores(const HeadCircuits& circuits) {
  CopyingScores scores;
  scores.OV = OvCopyingScores(circuits);
  // W_E QK W_E^T has the eigenvalues of W_K^T (W_E^T W_E) W_Q.
  const RowMatrix gram = circuits.vocabulary.EmbedGram();
  scores.QK = ForEveryHead<double>(circuits, [&](const Head& head) {
    return CopyingScore({Product(gram, head.W_Q), head.W_K.transpose()});
  });
  return scores;
}

HeadTable OvCopyingScores(const HeadCircuits& circuits) {
  return OvScores(circuits, circuits.vocabulary.UnembedTimesEmbed());
}

Spectra SingularValues(const HeadCircuits& circuits) {
  using Values = std::vector<double>;
  return {
      ForEveryHead<Values>(circuits, [](const Head& head) { return head.OV().SingularValues(); }),
      ForEveryHead<Values>(circuits, [](const Head& head) { return head.QK().SingularValues(); })};
}

std::vector<std::complex<double>> OvEigenvalues(const HeadCircuits& circuits, HeadIndex head) {
  return SmallOV(circuits.heads[head.layer][head.head], circuits.vocabulary.UnembedTimesEmbed())
      .Eigenvalues();
}

std::vector<std::complex<double>> KCompositionEigenvalues(const HeadCircuits& circuits,
                                                          HeadIndex earlier, HeadIndex later) {
  RESIDUAL_CHECK(earlier.layer < later.layer) << earlier.layer << " " << later.layer;
  const Head& writes = circuits.heads[earlier.layer][earlier.head];
  const Head& reads = circuits.heads[later.layer][later.head];
  // Through the smaller side of both: W_K^T (W_V W_O)^T (W_E^T W_E) W_Q.
  const RowMatrix moved = Product(Product(writes.W_O, reads.W_K), writes.W_V, true, true);
  return FactoredMatrix(Product(circuits.vocabulary.EmbedGram(), reads.W_Q), moved).Eigenvalues();
}

}  // namespace residual
