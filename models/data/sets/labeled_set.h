// Labelled data by a text, as a command line has it: KIND[,OPTION=N..][:PATH].
//
//   idx:FOLDER           images in idx files: MNIST, Fashion-MNIST
//   (/usr/share/datasets/fashion-mnist
//                        where Debian's dataset-fashion-mnist is installed)
//   optical_digits:PATH  UCI's optical digits: a file, or the folder of optdigits.tra and .tes
//   texts:FOLDER         a sub-folder of texts for each class, in train/ and test/ if it has these;
//                        tokens are bytes, max_length=4096 of them
//   digits               drawn here, side=28
//   list_ops             min_length=501, max_length=1999, max_depth=10, max_args=10
//   pathfinder           size=32
//
// rows=N: the first N to train on (generated data: 10000, and test_rows=2000 more; seed=0). pool=K:
// images averaged over squares of K x K pixels.

#ifndef RESIDUAL_MODELS_DATA_SETS_LABELED_SET_H_
#define RESIDUAL_MODELS_DATA_SETS_LABELED_SET_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "models/data/labeled/labeled.h"

namespace residual {

// What a text says, checked by itself: nothing is read yet.
struct LabeledSetSpec {
  // The value of an option that was given.
  int64_t ValueOr(absl::string_view option, int64_t fallback) const;

  std::string kind, path;
  std::vector<std::pair<std::string, int64_t>> options;

  // The text again, with this path.
  std::string ToString() const;
};
// InvalidArgument names the kind, option or path that is wrong or missing, and what is expected.
absl::StatusOr<LabeledSetSpec> ParseLabeledSet(absl::string_view text);

// For help: "idx:FOLDER, optical_digits:PATH, ...".
std::string LabeledSetKinds();

struct LabeledSet {
  LabeledSequences train;
  LabeledSequences test;  // no rows where the data has none set apart
};

// What a model that is there already expects.
struct LabeledSetLimits {
  std::vector<std::string> classes = {};  // of texts, class 0 first; empty: all there are, by name
  int64_t max_length = 0;                 // of texts, bytes; 0: as the spec says
};

// The errors of what reads or makes the data; InvalidArgument for images that cannot be pooled and
// options out of range.
absl::StatusOr<LabeledSet> ReadLabeledSet(const LabeledSetSpec& spec,
                                          const LabeledSetLimits& limits = {});

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_SETS_LABELED_SET_H_
