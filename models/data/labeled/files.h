// Labelled data that is no idx file: images as lines of numbers, texts in folders.

#ifndef RESIDUAL_MODELS_DATA_LABELED_FILES_H_
#define RESIDUAL_MODELS_DATA_LABELED_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/data/labeled/labeled.h"

namespace residual {

// UCI's optical digits (Alpaydin and Kaynak 1998): a line of 65 whole numbers with commas between
// for each image, 64 pixels of 0 to 16 row by row and the digit. Plain or compressed with gzip. As
// values in [0, 1], [n, 64, 1]. InvalidArgument with path, line, what was found and what is
// expected for anything else; empty lines are passed over.
absl::StatusOr<LabeledSequences> ReadOpticalDigits(const std::string& path);

struct TextFolderOptions {
  // The sub-folders to read, class 0 first. Empty: all of them, by name.
  std::vector<std::string> classes;
  int64_t max_length = 4096;  // bytes of a text; what is behind is cut off
};

// One sub-folder per class and in it one file per text, as in aclImdb/train: pos/*.txt, neg/*.txt.
// Tokens are bytes, 0 to 255, and 256 is the padding behind them (d_vocab 257); rows are as long as
// the longest text. Sub-folders of classes, hidden files and empty files are passed over. Texts are
// in the order of their class and name. NotFound for a class that is not there; InvalidArgument for
// a max_length below 1, fewer than two classes, or a class without a text; ResourceExhausted above
// 2^29 tokens.
absl::StatusOr<LabeledSequences> ReadTextFolder(const std::string& folder,
                                                const TextFolderOptions& options = {});

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_LABELED_FILES_H_
