// Files for the tests of this package.

#ifndef RESIDUAL_MODELS_DATA_LABELED_TESTING_H_
#define RESIDUAL_MODELS_DATA_LABELED_TESTING_H_

#include <string>

namespace residual {

// Writes a file, making its folders; gives the path back.
std::string WriteTestFile(const std::string& path, const std::string& contents);

// As `gzip` does.
std::string Gzip(const std::string& contents);

}  // namespace residual

#endif  // RESIDUAL_MODELS_DATA_LABELED_TESTING_H_
