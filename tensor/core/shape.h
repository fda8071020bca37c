// The sizes of a tensor's axes.

#ifndef RESIDUAL_TENSOR_CORE_SHAPE_H_
#define RESIDUAL_TENSOR_CORE_SHAPE_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <string>

#include "absl/types/span.h"
#include "tensor/base/check.h"

namespace residual {

// Up to kMaxRank sizes, each >= 0, kept inline (no allocation). Axes may be counted from the end:
// shape[-1] is the last. Rank 0 is a scalar with one element.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes)
      : Shape(absl::Span<const int64_t>(sizes.begin(), sizes.size())) {}
  explicit Shape(absl::Span<const int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
    RESIDUAL_CHECK_LE(rank_, kMaxRank);
    for (int i = 0; i < rank_; ++i) {
      RESIDUAL_CHECK_GE(sizes[i], 0);
      sizes_[i] = sizes[i];
    }
  }

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[Axis(axis)]; }

  // The axis counted from the front, after a check that it exists.
  int Axis(int axis) const {
    const int from_front = axis < 0 ? axis + rank_ : axis;
    RESIDUAL_CHECK(from_front >= 0 && from_front < rank_)
        << "axis " << axis << " of the shape " << ToString();
    return from_front;
  }

  // Product of the sizes; 1 for rank 0.
  int64_t elements() const { return elements(0, rank_); }
  // Product of the sizes of the axes [begin, end).
  int64_t elements(int begin, int end) const {
    int64_t n = 1;
    for (int i = begin; i < end; ++i) n *= sizes_[i];
    return n;
  }

  // This shape with one size replaced, one axis dropped, one axis put in before `axis`, one axis
  // appended.
  Shape With(int axis, int64_t size) const;
  Shape Without(int axis) const;
  Shape Inserted(int axis, int64_t size) const;
  Shape Appended(int64_t size) const { return Inserted(rank_, size); }

  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + rank_; }
  absl::Span<const int64_t> sizes() const { return {sizes_.data(), static_cast<size_t>(rank_)}; }

  friend bool operator==(const Shape& a, const Shape& b) {
    return a.rank_ == b.rank_ && std::equal(a.begin(), a.end(), b.begin());
  }
  friend bool operator!=(const Shape& a, const Shape& b) { return !(a == b); }

  // "[2, 3]"; "[]" for a scalar.
  std::string ToString() const;
  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    return out << shape.ToString();
  }

 private:
  int rank_ = 0;
  std::array<int64_t, kMaxRank> sizes_{};
};

}  // namespace residual

#endif  // RESIDUAL_TENSOR_CORE_SHAPE_H_
