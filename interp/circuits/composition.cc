#include "interp/circuits/composition.h"

#include <algorithm>
#include <cmath>

#include "absl/types/span.h"
#include "ops/matmul/matmul.h"
#include "tensor/base/parallel.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace {

using Head = HeadCircuits::Head;

// One side of a score: a factor F [d_head, d_model] with F^T F = X (of a writer) or Y (of a
// reader), so that a score is ||F_1 F_2^T||_F.
struct Side {
  int layer, head;
  int64_t begin, end;  // rows in the stack
  double spread;       // |X - I / d_model|^2
  bool zero;
};

struct Sides {
  std::vector<Side> sides;
  std::vector<size_t> first;  // of each layer, and the end
  Tensor stack;               // [rows, d_model]

  absl::Span<const Side> Layer(size_t layer) const {
    return absl::MakeConstSpan(sides).subspan(first[layer], first[layer + 1] - first[layer]);
  }
};

// What a head writes: ||OV B||_F = ||Root(W_V^T W_V) W_O B||_F.
RowMatrix Writes(const Head& head) {
  return Product(Root(Product(head.W_V, head.W_V, true)), head.W_O);
}

// What a head reads: ||A QK||_F = ||A W_Q Root(W_K^T W_K)^T||_F; transposed.
RowMatrix Reads(const Head& head, CompositionKind kind) {
  switch (kind) {
    case CompositionKind::kQ:
      return Product(Root(Product(head.W_K, head.W_K, true)), head.W_Q, false, true);
    case CompositionKind::kK:
      return Product(Root(Product(head.W_Q, head.W_Q, true)), head.W_K, false, true);
    case CompositionKind::kV:
      break;
  }
  return Product(Root(Product(head.W_O, head.W_O, false, true)), head.W_V, false, true);
}

template <class Factor>
Sides MakeSides(const HeadCircuits& circuits, const Factor& factor) {
  Sides all;
  int64_t rows = 0;
  for (size_t layer = 0; layer < circuits.heads.size(); ++layer) {
    all.first.push_back(all.sides.size());
    for (size_t h = 0; h < circuits.heads[layer].size(); ++h) {
      const int64_t d_head = circuits.heads[layer][h].W_O.rows();
      all.sides.push_back(
          {static_cast<int>(layer), static_cast<int>(h), rows, rows + d_head, 0, true});
      rows += d_head;
    }
  }
  all.first.push_back(all.sides.size());
  const DType dtype = circuits.vocabulary.dtype();
  const int64_t d_model = circuits.d_model;
  all.stack = Tensor::Uninitialized({rows, d_model}, dtype);
  VisitDType(dtype, [&](auto tag) {
    using T = decltype(tag);
    T* stack = all.stack.mutable_data<T>();
    ParallelFor(static_cast<int64_t>(all.sides.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        Side& side = all.sides[i];
        RowMatrix rows = factor(circuits.heads[side.layer][side.head]);
        const double norm = rows.norm();
        side.zero = norm == 0;
        if (!side.zero) rows /= norm;
        // |X - I / d|^2 = |X|^2 - 1 / d for X of trace 1, and F F^T has X's eigenvalues.
        const double d = static_cast<double>(d_model);
        side.spread = std::max(0.0, Product(rows, rows, false, true).squaredNorm() - 1 / d);
        T* to = stack + side.begin * d_model;
        for (int64_t k = 0; k < rows.size(); ++k) to[k] = FromDouble<T>(rows.data()[k]);
      }
    });
  });
  return all;
}

// The sum of squares of x[rows [begin, end), columns [left, right)], in order.
template <class T>
double SquaredNorm(const T* x, int64_t columns, int64_t begin, int64_t end, int64_t left,
                   int64_t right) {
  double total = 0;
  for (int64_t i = begin; i < end; ++i) {
    double sum = 0;
    for (int64_t j = left; j < right; ++j) {
      const double value = ToDouble(x[i * columns + j]);
      sum += value * value;
    }
    total += sum;
  }
  return total;
}

CompositionTable Zeros(const HeadCircuits& circuits) {
  HeadTable to;
  for (const auto& layer : circuits.heads) to.emplace_back(layer.size(), 0.0);
  CompositionTable table;
  for (const auto& layer : circuits.heads) table.emplace_back(layer.size(), to);
  return table;
}

}  // namespace

double CompositionByChance(int64_t d_model) { return 1 / std::sqrt(static_cast<double>(d_model)); }

CompositionScores ComposeHeads(const HeadCircuits& circuits, CompositionKind kind) {
  const Sides writers = MakeSides(circuits, Writes);
  const Sides readers = MakeSides(circuits, [kind](const Head& head) { return Reads(head, kind); });
  CompositionScores scores{Zeros(circuits), Zeros(circuits)};
  const double d = static_cast<double>(circuits.d_model);
  MatMulOptions transpose_b;
  transpose_b.transpose_b = true;
  // One product for each pair of layers: large enough to be fast, small enough to stay in the
  // cache until its squares are summed, and all of one size, so that the pool has it ready (one for
  // each layer that reads, with all heads below, spent a fifth of the time on fresh pages).
  for (size_t to = 1; to < circuits.heads.size(); ++to) {
    const absl::Span<const Side> reading = readers.Layer(to);
    if (reading.empty()) continue;
    const Tensor reads = readers.stack.Rows(reading.front().begin, reading.back().end);
    for (size_t from = 0; from < to; ++from) {
      const absl::Span<const Side> writing = writers.Layer(from);
      if (writing.empty()) continue;
      const Tensor product =
          MatMul(writers.stack.Rows(writing.front().begin, writing.back().end), reads, transpose_b);
      ParallelFor(static_cast<int64_t>(writing.size()), 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const Side& writer = writing[i];
          for (const Side& reader : reading) {
            if (writer.zero || reader.zero) continue;
            double square = 0;
            VisitDType(product.dtype(), [&](auto tag) {
              using T = decltype(tag);
              square = SquaredNorm(
                  product.data<T>(), product.dim(1), writer.begin - writing.front().begin,
                  writer.end - writing.front().begin, reader.begin - reading.front().begin,
                  reader.end - reading.front().begin);
            });
            const double variance =
                2 * writer.spread * reader.spread / std::max(1.0, (d - 1) * (d + 2));
            scores.score[from][writer.head][to][reader.head] = std::sqrt(square);
            scores.deviations[from][writer.head][to][reader.head] =
                variance > 0 ? (square - 1 / d) / std::sqrt(variance) : 0;
          }
        }
      });
    }
  }
  return scores;
}

CompositionTable Compositions(const HeadCircuits& circuits, CompositionKind kind) {
  return ComposeHeads(circuits, kind).score;
}

}  // namespace residual
