// The selective scan in double, plainly: what the float kernels are measured against. Private to
// the folder.

#ifndef RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_F64_H_
#define RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_F64_H_

#include <vector>

#include "ops/scan/selective_scan.h"

namespace residual {
namespace scan_internal {

// `restart`: [batch * pos], or empty. Both outputs are to have their shapes.
void ForwardF64(const SelectiveScanInputs& in, const std::vector<unsigned char>& restart,
                SelectiveScanResult& out);

// Gradients in the order of the inputs' fields; undefined for inputs that are not there. dy or
// dlast may be undefined: zeros.
TensorList BackwardF64(const SelectiveScanInputs& in, const std::vector<unsigned char>& restart,
                       const Tensor& dy, const Tensor& dlast);

}  // namespace scan_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_SELECTIVE_SCAN_F64_H_
