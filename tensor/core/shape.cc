#include "tensor/core/shape.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace residual {

Shape Shape::With(int axis, int64_t size) const {
  RESIDUAL_CHECK_GE(size, 0);
  Shape result = *this;
  result.sizes_[Axis(axis)] = size;
  return result;
}

Shape Shape::Without(int axis) const {
  Shape result;
  const int dropped = Axis(axis);
  for (int i = 0; i < rank_; ++i) {
    if (i != dropped) result.sizes_[result.rank_++] = sizes_[i];
  }
  return result;
}

Shape Shape::Inserted(int axis, int64_t size) const {
  RESIDUAL_CHECK(axis >= 0 && axis <= rank_ && rank_ < kMaxRank) << axis << " in " << ToString();
  RESIDUAL_CHECK_GE(size, 0);
  Shape result = *this;
  for (int i = rank_; i > axis; --i) result.sizes_[i] = sizes_[i - 1];
  result.sizes_[axis] = size;
  ++result.rank_;
  return result;
}

std::string Shape::ToString() const { return absl::StrCat("[", absl::StrJoin(sizes(), ", "), "]"); }

}  // namespace residual
