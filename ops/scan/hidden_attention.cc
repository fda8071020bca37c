#include "ops/scan/hidden_attention.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "ops/scan/hidden_attention_kernels.h"
#include "ops/scan/scan_inputs.h"
#include "tensor/base/parallel.h"
#include "tensor/core/op_check.h"

namespace residual {
namespace {

using scan_internal::AttentionArgs;
using scan_internal::AttentionOutput;
using scan_internal::kRowsOfTask;

constexpr char kName[] = "hidden_attention";

void Fill(const SelectiveScanInputs& in, absl::Span<const int64_t> channels, AttentionOutput output,
          Tensor& to) {
  const std::vector<unsigned char> restart = scan_internal::Restarts(in.segments);
  SelectiveScanInputs wide = in;
  for (Tensor* x : {&wide.delta, &wide.A, &wide.B, &wide.C, &wide.delta_bias}) {
    if (x->defined()) *x = ConvertTo(*x, kF32);
  }
  AttentionArgs args{};
  args.scan = scan_internal::ArgsOf(wide, wide.B, wide.C, restart);
  args.channels = channels;
  args.output = output;
  args.to = to.mutable_data<float>();
  // From the last rows, which are the longest, to the first: so threads end together.
  const int64_t of_row = NumChunks(args.scan.length, kRowsOfTask);
  ParallelFor(args.scan.batch * of_row, 1, [&](int64_t task, int64_t) {
    const int64_t begin = (of_row - 1 - task / args.scan.batch) * kRowsOfTask;
    AttentionRows(args, task % args.scan.batch, begin,
                  std::min(args.scan.length, begin + kRowsOfTask));
  });
}

}  // namespace

Tensor HiddenAttention(const SelectiveScanInputs& in, absl::Span<const int64_t> channels) {
  scan_internal::CheckInputs(kName, in);
  for (const int64_t c : channels) {
    RESIDUAL_CHECK(c >= 0 && c < in.u.dim(2))
        << "hidden_attention: channel " << c << " of " << in.u.ToString();
  }
  const int64_t length = in.u.dim(1), count = static_cast<int64_t>(channels.size());
  Tensor to = Tensor::Uninitialized({in.u.dim(0), count, length, length});
  Fill(in, channels, AttentionOutput::kChannels, to);
  return to;
}

Tensor HiddenAttentionMean(const SelectiveScanInputs& in, ChannelMean mean) {
  scan_internal::CheckInputs(kName, in);
  RESIDUAL_CHECK_OP(kName, in.u.dim(2) > 0, in.u);
  std::vector<int64_t> all(in.u.dim(2));
  std::iota(all.begin(), all.end(), int64_t{0});
  Tensor to = Tensor::Uninitialized({in.u.dim(0), in.u.dim(1), in.u.dim(1)});
  Fill(in, all,
       mean == ChannelMean::kSigned ? AttentionOutput::kSum : AttentionOutput::kAbsoluteSum, to);
  return to;
}

}  // namespace residual
