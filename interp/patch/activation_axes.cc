#include "interp/patch/activation_axes.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tensor/base/check.h"

namespace residual {

int ActivationAxes::Place(Axis axis) const {
  switch (axis) {
    case Axis::kPos:
      return pos;
    case Axis::kHead:
      return head;
    case Axis::kKey:
      return key;
    case Axis::kUnit:
      return unit;
  }
  return -1;
}

absl::StatusOr<ActivationAxes> AxesOf(const std::string& name, absl::string_view dims) {
  const std::string inner = absl::StrJoin(
      absl::StrSplit(absl::StripAsciiWhitespace(dims), absl::ByAnyChar("[]"), absl::SkipEmpty()),
      "");
  const std::vector<std::string> names = absl::StrSplit(inner, ',');
  ActivationAxes axes;
  axes.rank = static_cast<int>(names.size());
  for (int i = 0; i < axes.rank; ++i) {
    const absl::string_view axis = absl::StripAsciiWhitespace(names[i]);
    if ((axis == "batch") != (i == 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", name, "' is ", std::string(dims),
                       ", expected an activation with the batch as its first axis"));
    }
    if (i == 0) continue;
    if (axis == "pos" || axis == "query") {
      axes.pos = i;
    } else if (axis == "key") {
      axes.key = i;
    } else if (absl::StartsWith(axis, "n_")) {
      axes.head = i;
    } else if (i + 1 == axes.rank) {
      axes.unit = i;
    }
  }
  return axes;
}

int64_t PatchCell::At(Axis axis) const { return const_cast<PatchCell*>(this)->At(axis); }

int64_t& PatchCell::At(Axis axis) {
  switch (axis) {
    case Axis::kPos:
      return pos;
    case Axis::kHead:
      return head;
    case Axis::kKey:
      return key;
    case Axis::kUnit:
      break;
  }
  return unit;
}

std::string PatchCell::ToString() const {
  std::vector<std::string> parts;
  if (pos != kAll) parts.push_back(absl::StrCat("pos ", pos));
  if (head != kAll) parts.push_back(absl::StrCat("head ", head));
  if (key != kAll) parts.push_back(absl::StrCat("key ", key));
  if (unit != kAll) parts.push_back(absl::StrCat("unit ", unit));
  return parts.empty() ? point : absl::StrCat(point, "[", absl::StrJoin(parts, ", "), "]");
}

void ForEachStretch(const PatchCell& cell, const ActivationAxes& axes, DType dtype,
                    const CellView& a, const CellView& b, int64_t rows, int64_t from, int64_t to,
                    const std::function<void(int64_t, int64_t, int64_t)>& run) {
  const int rank = axes.rank;
  RESIDUAL_CHECK(a.shape->rank() == rank && b.shape->rank() == rank)
      << cell.ToString() << " in " << *a.shape << " and " << *b.shape;
  struct Range {
    int64_t count, a_begin, b_begin, a_stride, b_stride;
    bool whole;  // of both tensors
  };
  std::vector<Range> ranges(rank);
  int64_t a_stride = static_cast<int64_t>(SizeOf(dtype)), b_stride = a_stride;
  for (int i = rank - 1; i >= 0; --i) {
    const int64_t a_size = (*a.shape)[i], b_size = (*b.shape)[i];
    Range& range = ranges[i];
    range = {std::min(a_size, b_size), 0, 0, a_stride, b_stride, a_size == b_size};
    int64_t index = PatchCell::kAll;
    if (i == 0) {
      range = {rows, a.row, b.row, a_stride, b_stride, false};
    } else if (i == axes.pos) {
      int64_t begin = std::max(from, std::max(a.start, b.start));
      int64_t end = std::min({to, a.start + a_size, b.start + b_size});
      if (cell.pos != PatchCell::kAll) {
        begin = std::max(begin, cell.pos);
        end = std::min(end, cell.pos + 1);
      }
      range = {std::max<int64_t>(0, end - begin),
               begin - a.start,
               begin - b.start,
               a_stride,
               b_stride,
               false};
    } else if (i == axes.head) {
      index = cell.head;
    } else if (i == axes.key) {
      index = cell.key;
    } else if (i == axes.unit) {
      index = cell.unit;
    }
    if (index != PatchCell::kAll) {
      range = {index < range.count ? 1 : 0, index, index, a_stride, b_stride, false};
    }
    a_stride *= a_size;
    b_stride *= b_size;
  }
  for (const Range& range : ranges) {
    if (range.count == 0) return;
  }
  // The trailing axes that are whole make one stretch with the axis before them.
  int inner = rank - 1;
  while (inner > 0 && ranges[inner].whole) --inner;
  const int64_t bytes = ranges[inner].count * ranges[inner].a_stride;
  std::vector<int64_t> index(inner, 0);
  while (true) {
    int64_t a_at = ranges[inner].a_begin * ranges[inner].a_stride;
    int64_t b_at = ranges[inner].b_begin * ranges[inner].b_stride;
    for (int i = 0; i < inner; ++i) {
      a_at += (ranges[i].a_begin + index[i]) * ranges[i].a_stride;
      b_at += (ranges[i].b_begin + index[i]) * ranges[i].b_stride;
    }
    run(a_at, b_at, bytes);
    int i = inner - 1;
    while (i >= 0 && ++index[i] == ranges[i].count) index[i--] = 0;
    if (i < 0) return;
  }
}

int64_t FirstDifference(const PatchCell& cell, const ActivationAxes& axes, const Tensor& a,
                        const Tensor& b) {
  const int64_t positions = axes.pos < 0 ? 1 : a.dim(axes.pos);
  const char* const a_bytes = static_cast<const char*>(a.raw_data());
  const char* const b_bytes = static_cast<const char*>(b.raw_data());
  const CellView view{&a.shape()};
  const int64_t begin = cell.pos == PatchCell::kAll || axes.pos < 0 ? 0 : cell.pos;
  const int64_t end = cell.pos == PatchCell::kAll || axes.pos < 0 ? positions : cell.pos + 1;
  for (int64_t p = begin; p < end; ++p) {
    bool equal = true;
    ForEachStretch(cell, axes, a.dtype(), view, view, a.dim(0), p, p + 1,
                   [&](int64_t at, int64_t, int64_t bytes) {
                     equal = equal && std::memcmp(a_bytes + at, b_bytes + at, bytes) == 0;
                   });
    if (!equal) return p;
  }
  return positions;
}

}  // namespace residual
