// The idx files of MNIST and the data sets made like it (LeCun, Cortes and Burges):
//
//   byte 0, 1: 0    byte 2: type of a value, 8 is unsigned bytes    byte 3: number of axes
//   then the size of every axis, 32 bits each, most significant byte first; then the values, the
//   last axis fastest.
//
// Plain or compressed with gzip.

#ifndef RESIDUAL_MODELS_DATA_LABELED_IDX_H_
#define RESIDUAL_MODELS_DATA_LABELED_IDX_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "models/data/labeled/labeled.h"
#include "tensor/core/tensor.h"

namespace residual {

// u8, of 1 to 4 axes. InvalidArgument, with the path, the field, what was found and what is
// expected: no idx file, another type, other numbers of axes, more or fewer bytes than the sizes
// say, more than 2^30 values. Nothing is allocated for sizes that the file cannot hold.
absl::StatusOr<Tensor> ReadIdx(const std::string& path);

// Images [n, rows, columns] or [n, rows, columns, channels] as sequences of rows * columns pixels,
// v / 255, and their labels [n]. n_classes 0: the highest label and one. Besides ReadIdx's errors
// InvalidArgument where the files have different numbers of axes or of images and labels, no
// images or no pixels, more than 2^29 values, or a label is not below n_classes.
absl::StatusOr<LabeledSequences> ReadIdxImages(const std::string& images, const std::string& labels,
                                               int n_classes = 0);

struct TrainAndTest {
  LabeledSequences train, test;
};

// The two pairs of a folder: files PREFIX-images-idx3-ubyte and PREFIX-labels-idx1-ubyte, with .gz
// or without; the pair with "train" in its prefix is for training, the other one for testing.
// NotFound, naming what is there, where it is not so. Both have n_classes of the larger one;
// InvalidArgument where their images differ in size.
absl::StatusOr<TrainAndTest> ReadIdxFolder(const std::string& folder);

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_LABELED_IDX_H_
