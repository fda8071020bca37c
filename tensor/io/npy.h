// NumPy's .npy: one array in a file.
//
// Layout: "\x93NUMPY", major and minor version, u16 (version 1) or u32 (2, 3) header length, a
// Python literal {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } padded to a multiple
// of 64, then the elements. (numpy.lib.format)

#ifndef RESIDUAL_TENSOR_IO_NPY_H_
#define RESIDUAL_TENSOR_IO_NPY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tensor/core/tensor.h"

namespace residual {

// Versions 1 to 3, either byte order, C or Fortran order; f2 f4 f8 i1 i2 i4 i8 u1 b1, and u2 (as
// i32), u4, u8 (as i64, if every value fits). InvalidArgument or DataLoss with the path, what was
// found and what was expected; every count is compared with the file's size before anything is
// allocated. Unimplemented names a dtype that no Tensor has (complex, objects, strings, records).
absl::StatusOr<Tensor> ReadNpy(const std::string& path);

// Version 1, little endian, C order, atomically (AtomicFile). InvalidArgument for bf16, which NumPy
// lacks.
absl::Status WriteNpy(const std::string& path, const Tensor& x);

}  // namespace residual

#endif  // RESIDUAL_TENSOR_IO_NPY_H_
