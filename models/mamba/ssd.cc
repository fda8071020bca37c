#include "models/mamba/ssd.h"

#include "models/mamba/mamba2.h"
#include "ops/elementwise/elementwise.h"
#include "ops/layout/layout.h"
#include "ops/scan/selective_scan.h"

namespace residual {

SsdResult Ssd(const SsdInputs& in) {
  const int64_t batch = in.x.dim(0), pos = in.x.dim(1), heads = in.x.dim(2), width = in.x.dim(3);
  const int64_t d = heads * width, n = in.B.dim(3);
  Tensor delta = in.dt_bias.defined() ? Add(in.dt, in.dt_bias) : in.dt;
  if (in.softplus) delta = Softplus(delta);
  SelectiveScanInputs scan;
  scan.u = in.x.Reshaped({batch, pos, d});
  scan.delta = Repeat(Clamp(delta, in.dt_min, in.dt_max), 2, width);
  scan.A = BroadcastTo(Repeat(in.A, 0, width).Reshaped({d, 1}), {d, n});
  scan.B = in.B;
  scan.C = in.C;
  if (in.D.defined()) scan.D = Repeat(in.D, 0, width);
  if (in.initial_state.defined()) scan.initial_state = in.initial_state.Reshaped({batch, d, n});
  scan.segments = in.segments;
  const SelectiveScanResult out = SelectiveScan(scan);
  return {out.y.Reshaped(in.x.shape()), out.last_state.Reshaped({batch, heads, width, n})};
}

}  // namespace residual
