#include "ops/layout/layout.h"

#include <array>
#include <cstring>
#include <numeric>

#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

constexpr int64_t kGrainBytes = 1 << 18;

int64_t RowGrain(int64_t bytes_per_row) {
  return std::max<int64_t>(1, kGrainBytes / std::max<int64_t>(1, bytes_per_row));
}

// x seen as [outer, axis, inner].
struct Around {
  int64_t outer, size, inner;
  Around(const Shape& shape, int axis)
      : outer(shape.elements(0, axis)),
        size(shape[axis]),
        inner(shape.elements(axis + 1, shape.rank())) {}
};

// Copies `width` bytes per row between rows of different strides.
void CopyRows(const char* from, int64_t from_stride, char* to, int64_t to_stride, int64_t width,
              int64_t rows) {
  if (width == 0) return;
  ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(to + r * to_stride, from + r * from_stride, width);
    }
  });
}

// Zeros of `shape` with `part` put at [begin, ...) of the axis: the gradient of a slice.
Tensor Padded(const Tensor& part, const Shape& shape, int axis, int64_t begin) {
  Tensor whole = Tensor::Zeros(shape, part.dtype());
  const Around a(shape, axis), p(part.shape(), axis);
  const int64_t width = SizeOf(part.dtype()) * a.inner;
  CopyRows(static_cast<const char*>(part.raw_data()), p.size * width,
           static_cast<char*>(whole.mutable_raw_data()) + begin * width, a.size * width,
           p.size * width, a.outer);
  return whole;
}

// Permutes elements of one size. The innermost loop runs over the result's last axis; where that
// is not x's last axis too, tiles of 16 x 16 keep both sides in cache lines.
template <class T>
void PermuteElements(const T* from, T* to, const Shape& shape, absl::Span<const int> order) {
  const int rank = shape.rank();
  std::array<int64_t, Shape::kMaxRank> stride{}, size{}, moved{};
  int64_t step = 1;
  for (int i = rank - 1; i >= 0; --i) {
    stride[i] = step;
    step *= shape[i];
  }
  for (int i = 0; i < rank; ++i) {
    size[i] = shape[order[i]];
    moved[i] = stride[order[i]];
  }
  if (order[rank - 1] == rank - 1) {  // whole rows move
    const int64_t width = size[rank - 1];
    ParallelFor(shape.elements() / width, RowGrain(width * sizeof(T)),
                [&](int64_t begin, int64_t end) {
                  for (int64_t r = begin; r < end; ++r) {
                    int64_t rest = r, offset = 0;
                    for (int i = rank - 2; i >= 0; --i) {
                      offset += rest % size[i] * moved[i];
                      rest /= size[i];
                    }
                    std::memcpy(to + r * width, from + offset, width * sizeof(T));
                  }
                });
    return;
  }
  // The result's axis that is x's last: reading along it is contiguous.
  int across = 0;
  while (order[across] != rank - 1) ++across;
  std::array<int64_t, Shape::kMaxRank> out_stride{};
  step = 1;
  for (int i = rank - 1; i >= 0; --i) {
    out_stride[i] = step;
    step *= size[i];
  }
  int64_t planes = 1;
  for (int i = 0; i < rank - 1; ++i) planes *= i == across ? 1 : size[i];
  const int64_t rows = size[across], columns = size[rank - 1], column_step = moved[rank - 1];
  constexpr int64_t kTile = 16;
  const int64_t row_tiles = (rows + kTile - 1) / kTile;
  ParallelFor(planes * row_tiles, RowGrain(kTile * columns * sizeof(T)),
              [&](int64_t begin, int64_t end) {
                for (int64_t t = begin; t < end; ++t) {
                  int64_t rest = t / row_tiles, source = 0, target = 0;
                  for (int i = rank - 2; i >= 0; --i) {
                    if (i == across) continue;
                    source += rest % size[i] * moved[i];
                    target += rest % size[i] * out_stride[i];
                    rest /= size[i];
                  }
                  const int64_t r0 = t % row_tiles * kTile, r1 = std::min(rows, r0 + kTile);
                  for (int64_t c0 = 0; c0 < columns; c0 += kTile) {
                    const int64_t c1 = std::min(columns, c0 + kTile);
                    for (int64_t r = r0; r < r1; ++r) {
                      T* out = to + target + r * out_stride[across];
                      const T* in = from + source + r;  // stride 1 along `across`
                      for (int64_t c = c0; c < c1; ++c) out[c] = in[c * column_step];
                    }
                  }
                }
              });
}

// Sums x over the axes that BroadcastTo repeated; `shape` is what was broadcast.
template <class T>
Tensor SumTo(const Tensor& x, const Shape& shape) {
  Tensor y = Tensor::Zeros(shape, x.dtype());
  std::vector<double> sums(y.elements());
  const int extra = x.rank() - shape.rank();
  const T* in = x.data<T>();
  std::array<int64_t, Shape::kMaxRank> index{};
  for (int64_t i = 0; i < x.elements(); ++i) {
    int64_t target = 0;
    for (int a = 0; a < shape.rank(); ++a) {
      target = target * shape[a] + (shape[a] == 1 ? 0 : index[a + extra]);
    }
    sums[target] += ToDouble(in[i]);
    for (int a = x.rank() - 1; a >= 0 && ++index[a] == x.dim(a); --a) index[a] = 0;
  }
  T* out = y.mutable_data<T>();
  for (size_t i = 0; i < sums.size(); ++i) out[i] = FromDouble<T>(sums[i]);
  return y;
}

}  // namespace

Tensor Slice(const Tensor& x, int axis, int64_t begin, int64_t end) {
  RESIDUAL_CHECK_OP("slice", x.rank() >= 1 && axis >= -x.rank() && axis < x.rank(), x);
  axis = x.shape().Axis(axis);
  RESIDUAL_CHECK_OP("slice", 0 <= begin && begin <= end && end <= x.dim(axis), x);
  if (begin == 0 && end == x.dim(axis)) return x;
  Tensor y;
  if (axis == 0) {
    Tensor untracked = x;
    untracked.set_tape_ref({});
    y = untracked.Rows(begin, end);
  } else {
    const Around a(x.shape(), axis);
    y = Tensor::Uninitialized(x.shape().With(axis, end - begin), x.dtype());
    const int64_t width = SizeOf(x.dtype()) * a.inner;
    CopyRows(static_cast<const char*>(x.raw_data()) + begin * width, a.size * width,
             static_cast<char*>(y.mutable_raw_data()), (end - begin) * width,
             (end - begin) * width, a.outer);
  }
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("slice", {&x}, {&y}, [shape = x.shape(), axis, begin](auto dy, Needs) {
      const Shape part = shape.With(axis, dy[0].elements() / std::max<int64_t>(1, shape.Without(axis).elements()));
      return TensorList{Padded(dy[0].Reshaped(part), shape, axis, begin)};
    });
  }
  return y;
}

Tensor Concat(absl::Span<const Tensor> parts, int axis) {
  RESIDUAL_CHECK(!parts.empty()) << "concat of no tensors";
  axis = parts[0].shape().Axis(axis);
  int64_t total = 0;
  for (const Tensor& part : parts) {
    RESIDUAL_CHECK_OP("concat",
                      part.dtype() == parts[0].dtype() && part.rank() == parts[0].rank() &&
                          part.shape().With(axis, 0) == parts[0].shape().With(axis, 0),
                      parts[0], part);
    total += part.dim(axis);
  }
  Tensor y = Tensor::Uninitialized(parts[0].shape().With(axis, total), parts[0].dtype());
  const Around a(y.shape(), axis);
  const int64_t width = SizeOf(y.dtype()) * a.inner;
  char* to = static_cast<char*>(y.mutable_raw_data());
  std::vector<int64_t> sizes;
  std::vector<const Tensor*> inputs;
  bool tracked = false;
  for (const Tensor& part : parts) {
    const int64_t size = part.dim(axis);
    CopyRows(static_cast<const char*>(part.raw_data()), size * width, to, total * width,
             size * width, a.outer);
    to += size * width;
    sizes.push_back(size);
    inputs.push_back(&part);
    tracked |= Tape::For({&part}) != nullptr;
  }
  if (tracked) {
    Tensor* output = &y;
    Tape::Current()->Record("concat", inputs, absl::MakeConstSpan(&output, 1),
                            [sizes, axis, shape = y.shape()](auto dy, Needs needs) {
                              const Tensor whole = dy[0].Reshaped(shape);
                              TensorList dx;
                              int64_t begin = 0;
                              for (size_t i = 0; i < sizes.size(); ++i) {
                                dx.push_back(needs[i] ? Slice(whole, axis, begin, begin + sizes[i])
                                                      : Tensor());
                                begin += sizes[i];
                              }
                              return dx;
                            });
  }
  return y;
}

std::vector<Tensor> Split(const Tensor& x, int axis, absl::Span<const int64_t> sizes) {
  axis = x.shape().Axis(axis);
  RESIDUAL_CHECK_OP("split", std::accumulate(sizes.begin(), sizes.end(), int64_t{0}) == x.dim(axis),
                    x);
  std::vector<Tensor> parts;
  int64_t begin = 0;
  for (int64_t size : sizes) {
    parts.push_back(Slice(x, axis, begin, begin + size));
    begin += size;
  }
  return parts;
}

Tensor Transpose(const Tensor& x, int axis_a, int axis_b) {
  std::array<int, Shape::kMaxRank> order;
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[x.shape().Axis(axis_a)], order[x.shape().Axis(axis_b)]);
  return Permute(x, absl::MakeConstSpan(order.data(), x.rank()));
}

Tensor Permute(const Tensor& x, absl::Span<const int> order) {
  const int rank = x.rank();
  RESIDUAL_CHECK_OP("permute", static_cast<int>(order.size()) == rank, x);
  std::array<int, Shape::kMaxRank> inverse;
  inverse.fill(-1);
  std::array<int64_t, Shape::kMaxRank> sizes{};
  bool moves = false;
  int last = -1;  // axes of size 1 may go anywhere without moving an element
  for (int i = 0; i < rank; ++i) {
    RESIDUAL_CHECK_OP("permute", order[i] >= 0 && order[i] < rank && inverse[order[i]] < 0, x);
    inverse[order[i]] = i;
    sizes[i] = x.dim(order[i]);
    if (sizes[i] == 1) continue;
    moves |= order[i] < last;
    last = order[i];
  }
  const Shape shape(absl::MakeConstSpan(sizes.data(), rank));
  if (!moves || x.elements() == 0) return x.Reshaped(shape);  // gradients follow a reshape
  Tensor y = Tensor::Uninitialized(shape, x.dtype());
  void* to = y.mutable_raw_data();
  switch (SizeOf(x.dtype())) {
    case 1:
      PermuteElements(static_cast<const uint8_t*>(x.raw_data()), static_cast<uint8_t*>(to),
                      x.shape(), order);
      break;
    case 2:
      PermuteElements(static_cast<const uint16_t*>(x.raw_data()), static_cast<uint16_t*>(to),
                      x.shape(), order);
      break;
    case 4:
      PermuteElements(static_cast<const uint32_t*>(x.raw_data()), static_cast<uint32_t*>(to),
                      x.shape(), order);
      break;
    default:
      PermuteElements(static_cast<const uint64_t*>(x.raw_data()), static_cast<uint64_t*>(to),
                      x.shape(), order);
  }
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("permute", {&x}, {&y}, [inverse, shape](auto dy, Needs) {
      return TensorList{
          Permute(dy[0].Reshaped(shape), absl::MakeConstSpan(inverse.data(), shape.rank()))};
    });
  }
  return y;
}

Tensor BroadcastTo(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int extra = shape.rank() - x.rank();
  RESIDUAL_CHECK(extra >= 0) << "broadcast of " << x.ToString() << " to " << shape;
  for (int a = 0; a < x.rank(); ++a) {
    RESIDUAL_CHECK(x.dim(a) == 1 || x.dim(a) == shape[a + extra])
        << "broadcast of " << x.ToString() << " to " << shape;
  }
  Tensor y = Tensor::Uninitialized(shape, x.dtype());
  const int64_t element = SizeOf(x.dtype());
  const int64_t width = shape.rank() > 0 ? shape[-1] : 1;
  const bool repeats_last = x.rank() == 0 || (x.dim(-1) == 1 && width != 1);
  const char* from = static_cast<const char*>(x.raw_data());
  char* to = static_cast<char*>(y.mutable_raw_data());
  const int64_t rows = width > 0 ? y.elements() / width : 0;
  ParallelFor(rows, RowGrain(width * element), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      int64_t rest = r, offset = 0, step = 1;
      for (int a = shape.rank() - 2; a >= 0; --a) {
        const int64_t i = rest % shape[a];
        rest /= shape[a];
        if (a < extra) continue;
        if (x.dim(a - extra) != 1) offset += i * step;
        step *= x.dim(a - extra);
      }
      char* out = to + r * width * element;
      if (!repeats_last) {
        std::memcpy(out, from + offset * width * element, width * element);
      } else {
        for (int64_t c = 0; c < width; ++c) {
          std::memcpy(out + c * element, from + offset * element, element);
        }
      }
    }
  });
  if (Tape* tape = Tape::For({&x})) {
    tape->Record("broadcast", {&x}, {&y}, [from_shape = x.shape(), shape](auto dy, Needs) {
      Tensor dx;
      VisitDType(dy[0].dtype(), [&](auto tag) {
        dx = SumTo<decltype(tag)>(dy[0].Reshaped(shape), from_shape);
      });
      return TensorList{dx};
    });
  }
  return y;
}

Tensor Cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor untracked = x;
  untracked.set_tape_ref({});
  Tensor y = ConvertTo(untracked, dtype);
  if (Tape* tape = Tape::For({&x})) {
    if (IsFloat(dtype)) {
      tape->Record("cast", {&x}, {&y}, [from = x.dtype()](auto dy, Needs) {
        return TensorList{ConvertTo(dy[0], from)};
      });
    }
  }
  return y;
}

}  // namespace residual
