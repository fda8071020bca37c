// Sequences with one label each, to classify: images read pixel by pixel, texts, generated tasks.

#ifndef RESIDUAL_MODELS_DATA_LABELED_LABELED_H_
#define RESIDUAL_MODELS_DATA_LABELED_LABELED_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tensor/core/tensor.h"

namespace residual {

struct LabeledSequences {
  // Values in [0, 1], f32 [n, length, channels] (the pixels of an image, row by row), or tokens,
  // i32 [n, length].
  Tensor x;
  // How many tokens of each row are its own, [n], each >= 1; the others, behind them, are padding.
  // Empty: all of them.
  std::vector<int64_t> lengths;
  std::vector<int> label;  // [n], each in [0, n_classes)
  int n_classes = 0;
  std::vector<std::string> class_names;  // [n_classes], or empty where they have none
  int64_t d_vocab = 0;  // kinds of token, that of the padding included; 0: x holds values

  int64_t n() const { return static_cast<int64_t>(label.size()); }
  int64_t length() const { return x.dim(1); }
};

// These rows, in this order, each as often as it is named; each in [0, data.n()).
LabeledSequences SelectRows(const LabeledSequences& data, absl::Span<const int64_t> rows);

struct LabeledSplit {
  LabeledSequences train, validation, test;
};

// Every row in one of the three, chosen at random: a function of (seed, data.n()) alone, so that
// several models see the same split. InvalidArgument for a negative size, and where fewer than one
// row is left to train on.
absl::StatusOr<LabeledSplit> SplitRows(const LabeledSequences& data, int64_t n_validation,
                                       int64_t n_test, uint64_t seed);

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_LABELED_LABELED_H_
