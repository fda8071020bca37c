#include "ops/embedding/embedding.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/embedding/embedding_kernels.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using embedding_internal::SumRowsArgs;

constexpr int64_t kGrainBytes = 1 << 17;

// Indices as i64, each found to be in [0, limit).
class Indices {
 public:
  Indices(const char* op, const Tensor& indices, int64_t limit) {
    RESIDUAL_CHECK_OP(op, indices.dtype() == kI64 || indices.dtype() == kI32, indices);
    if (indices.dtype() == kI32) {
      const absl::Span<const int32_t> narrow = indices.span<int32_t>();
      converted_.assign(narrow.begin(), narrow.end());
      data_ = converted_.data();
    } else {
      data_ = indices.data<int64_t>();
    }
    const int64_t n = indices.elements();
    for (int64_t i = 0; i < n; ++i) {
      RESIDUAL_CHECK(0 <= data_[i] && data_[i] < limit)
          << op << ": index " << data_[i] << " at position " << i << " of " << indices.ToString()
          << " is not in [0, " << limit << ")";
    }
  }
  const int64_t* data() const { return data_; }
  int64_t operator[](int64_t i) const { return data_[i]; }

 private:
  std::vector<int64_t> converted_;
  const int64_t* data_;
};

// The sizes of `first`, then those of `rest` from its axis 1 on.
Shape RowsShape(const Shape& first, const Shape& rest) {
  absl::InlinedVector<int64_t, 2 * Shape::kMaxRank> sizes(first.begin(), first.end());
  sizes.insert(sizes.end(), rest.begin() + 1, rest.end());
  return Shape(sizes);
}

Tensor Gathered(const char* op, const Tensor& x, const Tensor& indices) {
  const Indices rows(op, indices, x.dim(0));
  Tensor y = Tensor::Uninitialized(RowsShape(indices.shape(), x.shape()), x.dtype());
  const int64_t width = x.shape().elements(1, x.rank()) * SizeOf(x.dtype());
  if (width == 0) return y;
  const char* from = static_cast<const char*>(x.raw_data());
  char* to = static_cast<char*>(y.mutable_raw_data());
  ParallelFor(indices.elements(), kGrainBytes / width, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(to + i * width, from + rows[i] * width, width);
    }
  });
  return y;
}

// The positions of each row's indices, in order: those of row r are
// positions[starts[r] .. starts[r + 1]).
struct PositionsByRow {
  PositionsByRow(const Indices& indices, int64_t n, int64_t rows) : starts(rows + 2), positions(n) {
    // Counted two places up, so that filling leaves every start where it belongs.
    for (int64_t i = 0; i < n; ++i) ++starts[indices[i] + 2];
    for (int64_t r = 2; r < rows + 2; ++r) starts[r] += starts[r - 1];
    for (int64_t i = 0; i < n; ++i) positions[starts[indices[i] + 1]++] = i;
  }
  std::vector<int64_t> starts, positions;
};

// shape[0] rows, each the sum of the rows of `updates` whose index it is.
Tensor ScatterAdded(const char* op, const Shape& shape, const Tensor& updates,
                    const Tensor& indices) {
  if (updates.dtype() == kF16) {
    return ConvertTo(ScatterAdded(op, shape, ConvertTo(updates, kF32), indices), kF16);
  }
  const int64_t rows = shape[0], d = shape.elements(1, shape.rank());
  Tensor sum = Tensor::Uninitialized(shape, updates.dtype());
  const PositionsByRow by_row(Indices(op, indices, rows), indices.elements(), rows);
  if (sum.elements() == 0) return sum;
  const auto kernel = sum.dtype() == kF32   ? embedding_internal::SumRowsF32
                      : sum.dtype() == kF64 ? embedding_internal::SumRowsF64
                                            : embedding_internal::SumRowsBF16;
  const int64_t element = SizeOf(sum.dtype());
  const char* from = static_cast<const char*>(updates.raw_data());
  char* to = static_cast<char*>(sum.mutable_raw_data());
  // A row is one thread's, so its sum has one order. A table of few rows (token types) is cut by
  // columns too, or one thread would add up everything.
  const int64_t columns = rows < 64 ? 256 : d;
  const int64_t pieces = NumChunks(d, columns);
  ParallelFor(rows * pieces, kGrainBytes / (columns * element), [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t r = p / pieces, left = p % pieces * columns;
      const int64_t right = std::min(d, left + columns);
      const int64_t count = by_row.starts[r + 1] - by_row.starts[r];
      const int64_t* positions = by_row.positions.data() + by_row.starts[r];
      char* row = to + r * d * element;
      if (count == 0) {
        std::memset(row + left * element, 0, (right - left) * element);
      } else if (count == 1) {
        std::memcpy(row + left * element, from + (positions[0] * d + left) * element,
                    (right - left) * element);
      } else {
        kernel({from, positions, count, d, left, right, row});
      }
    }
  });
  return sum;
}

Tensor GatherRecorded(const char* op, const Tensor& x, const Tensor& indices) {
  Tensor y = Gathered(op, x, indices);
  // dx[r] is the sum of dy at the positions where row r was read.
  if (Tape* tape = Tape::For({&x})) {
    tape->Record(op, {&x}, {&y},
                 [op, indices, shape = x.shape()](absl::Span<const Tensor> dy, Needs) {
                   return TensorList{ScatterAdded(op, shape, dy[0], indices)};
                 });
  }
  return y;
}

// x as [outer, n, inner] and indices as [outer, m, inner] around the axis of TakeAlong.
struct TakeArgs {
  int64_t outer, n, m, inner;
};

// Calls fn(from, to) for every index, with the places of an element in x and in the indices.
template <class Fn>
void ForTaken(const TakeArgs& args, const Indices& indices, Fn&& fn) {
  const int64_t per_outer = args.m * args.inner;
  if (per_outer == 0) return;
  ParallelFor(args.outer, (1 << 14) / per_outer, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      for (int64_t j = 0; j < args.m; ++j) {
        for (int64_t i = 0; i < args.inner; ++i) {
          const int64_t to = (o * args.m + j) * args.inner + i;
          fn((o * args.n + indices[to]) * args.inner + i, to);
        }
      }
    }
  });
}

// Elements scatter back to where they were taken from; those of one o are added in order by one
// thread.
Tensor TakeAlongGradient(const TakeArgs& args, const Shape& shape, const Tensor& dy,
                         const Tensor& indices) {
  if (dy.dtype() == kBF16 || dy.dtype() == kF16) {
    return ConvertTo(TakeAlongGradient(args, shape, ConvertTo(dy, kF32), indices), dy.dtype());
  }
  Tensor dx = Tensor::Zeros(shape, dy.dtype());
  const Indices taken("take_along", indices, args.n);
  const auto add = [&](auto* to, const auto* from) {
    ForTaken(args, taken, [&](int64_t source, int64_t place) { to[source] += from[place]; });
  };
  if (dy.dtype() == kF32) {
    add(dx.mutable_data<float>(), dy.data<float>());
  } else {
    add(dx.mutable_data<double>(), dy.data<double>());
  }
  return dx;
}

}  // namespace

Tensor Embedding(const Tensor& table, const Tensor& ids) {
  RESIDUAL_CHECK_OP("embedding", table.defined() && ids.defined(), table, ids);
  RESIDUAL_CHECK_OP("embedding", table.rank() == 2 && IsFloat(table.dtype()), table, ids);
  RESIDUAL_CHECK_OP("embedding", table.device() == kCpu && ids.device() == kCpu, table, ids);
  return GatherRecorded("embedding", table, ids);
}

Tensor GatherRows(const Tensor& x, const Tensor& indices) {
  RESIDUAL_CHECK_OP("gather_rows", x.defined() && indices.defined(), x, indices);
  RESIDUAL_CHECK_OP("gather_rows", x.rank() >= 1, x, indices);
  RESIDUAL_CHECK_OP("gather_rows", x.device() == kCpu && indices.device() == kCpu, x, indices);
  return GatherRecorded("gather_rows", x, indices);
}

Tensor ScatterAddRows(int64_t rows, const Tensor& updates, const Tensor& indices) {
  const char* op = "scatter_add_rows";
  RESIDUAL_CHECK(rows >= 0) << op << ": " << rows << " rows";
  RESIDUAL_CHECK_OP(op, updates.defined() && indices.defined(), updates, indices);
  RESIDUAL_CHECK_OP(op, IsFloat(updates.dtype()), updates, indices);
  RESIDUAL_CHECK_OP(op, updates.device() == kCpu && indices.device() == kCpu, updates, indices);
  const int lead = indices.rank();
  RESIDUAL_CHECK_OP(op, updates.rank() >= lead, updates, indices);
  RESIDUAL_CHECK_OP(
      op, std::equal(indices.shape().begin(), indices.shape().end(), updates.shape().begin()),
      updates, indices);
  absl::InlinedVector<int64_t, Shape::kMaxRank + 1> sizes = {rows};
  sizes.insert(sizes.end(), updates.shape().begin() + lead, updates.shape().end());
  Tensor y = ScatterAdded(op, Shape(sizes), updates, indices);
  // Every update's gradient is the gradient of the row it went to.
  if (Tape* tape = Tape::For({&updates})) {
    tape->Record(op, {&updates}, {&y}, [op, indices](absl::Span<const Tensor> dy, Needs) {
      return TensorList{Gathered(op, dy[0], indices)};
    });
  }
  return y;
}

Tensor TakeAlong(const Tensor& x, const Tensor& indices, int axis) {
  const char* op = "take_along";
  RESIDUAL_CHECK_OP(op, x.defined() && indices.defined(), x, indices);
  RESIDUAL_CHECK_OP(op, x.rank() == indices.rank(), x, indices);
  axis = x.shape().Axis(axis);
  RESIDUAL_CHECK_OP(op, indices.shape() == x.shape().With(axis, indices.dim(axis)), x, indices);
  RESIDUAL_CHECK_OP(op, x.device() == kCpu && indices.device() == kCpu, x, indices);
  const TakeArgs args{x.shape().elements(0, axis), x.dim(axis), indices.dim(axis),
                      x.shape().elements(axis + 1, x.rank())};
  Tensor y = Tensor::Uninitialized(indices.shape(), x.dtype());
  const Indices taken(op, indices, args.n);
  VisitDType(x.dtype(), [&](auto tag) {
    using T = decltype(tag);
    const T* from = x.data<T>();
    T* to = y.mutable_data<T>();
    ForTaken(args, taken, [&](int64_t source, int64_t place) { to[place] = from[source]; });
  });
  // dx adds up dy at the places it was taken from.
  if (Tape* tape = Tape::For({&x})) {
    tape->Record(op, {&x}, {&y},
                 [args, indices, shape = x.shape()](absl::Span<const Tensor> dy, Needs) {
                   return TensorList{TakeAlongGradient(args, shape, dy[0], indices)};
                 });
  }
  return y;
}

}  // namespace residual
