// What the ops on a selective scan's inputs share: their checks, where sequences begin, and what
// kernels read. For ops/scan; Restarts for ops/ssd too.

#ifndef RESIDUAL_OPS_SCAN_SCAN_INPUTS_H_
#define RESIDUAL_OPS_SCAN_SCAN_INPUTS_H_

#include <vector>

#include "ops/scan/selective_scan.h"
#include "ops/scan/selective_scan_kernels.h"
#include "tensor/core/tensor.h"

namespace residual {
namespace scan_internal {

// CHECKs in the name of `op` that shapes and dtypes are those selective_scan.h asks for.
void CheckInputs(const char* op, const SelectiveScanInputs& in);

// Of segments [batch, pos]: which positions are the first of their sequence, and not of their row.
// Empty without segments.
std::vector<unsigned char> Restarts(const Tensor& segments);

// All but u, D, z and initial_state of inputs that are not f64. B and C: in f32; like `restart`
// they are to outlive the result.
ScanArgs ArgsOf(const SelectiveScanInputs& in, const Tensor& B, const Tensor& C,
                const std::vector<unsigned char>& restart);

}  // namespace scan_internal
}  // namespace residual

#endif  // RESIDUAL_OPS_SCAN_SCAN_INPUTS_H_
