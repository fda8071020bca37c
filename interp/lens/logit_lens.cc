#include "interp/lens/logit_lens.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/nn/hook.h"
#include "ops/softmax/softmax.h"
#include "tensor/base/check.h"
#include "tensor/base/parallel.h"

namespace residual {

LensReading ReadLens(const ResidualModel& model, const LabelledStreams& streams,
                     const Tensor& final_logits, int64_t top, const Translator& translate) {
  const int64_t n = static_cast<int64_t>(streams.values.size()), batch = final_logits.dim(0),
                pos = final_logits.dim(1), v = final_logits.dim(2);
  top = std::min(top, v);
  LensReading reading;
  reading.labels = streams.labels;
  reading.top_ids = Tensor::Uninitialized({n, batch, pos, top}, kI64);
  reading.top_probs = Tensor::Uninitialized({n, batch, pos, top}, kF32);
  reading.kl = Tensor::Uninitialized({n, batch, pos}, kF32);
  reading.entropy = Tensor::Uninitialized({n, batch, pos}, kF32);
  int64_t* ids = reading.top_ids.mutable_data<int64_t>();
  float* probs = reading.top_probs.mutable_data<float>();
  float* kls = reading.kl.mutable_data<float>();
  float* entropies = reading.entropy.mutable_data<float>();
  const Tensor want = LogSoftmax(final_logits);
  for (int64_t i = 0; i < n; ++i) {
    const Tensor stream = translate ? translate(i, streams.values[i]) : streams.values[i];
    const Tensor got = LogSoftmax(model.UnembedStream(stream, Scope()));
    RESIDUAL_CHECK(got.shape() == want.shape()) << got.ToString() << " " << want.ToString();
    VisitDType(got.dtype(), [&](auto tag) {
      using T = decltype(tag);
      ParallelFor(batch * pos, 1, [&](int64_t begin, int64_t end) {
        std::vector<int64_t> order(v);
        for (int64_t row = begin; row < end; ++row) {
          const T* q = got.data<T>() + row * v;
          const T* p = want.data<T>() + row * v;
          double kl = 0, entropy = 0;
          for (int64_t k = 0; k < v; ++k) {
            const double log_q = ToDouble(q[k]), log_p = ToDouble(p[k]);
            if (log_p > -INFINITY) kl += std::exp(log_p) * (log_p - log_q);
            if (log_q > -INFINITY) entropy -= std::exp(log_q) * log_q;
          }
          kls[i * batch * pos + row] = static_cast<float>(kl);
          entropies[i * batch * pos + row] = static_cast<float>(entropy);
          std::iota(order.begin(), order.end(), 0);
          std::partial_sort(order.begin(), order.begin() + top, order.end(),
                            [q](int64_t a, int64_t b) {
                              const double x = ToDouble(q[a]), y = ToDouble(q[b]);
                              return x != y ? x > y : a < b;
                            });
          for (int64_t k = 0; k < top; ++k) {
            ids[(i * batch * pos + row) * top + k] = order[k];
            probs[(i * batch * pos + row) * top + k] =
                static_cast<float>(std::exp(ToDouble(q[order[k]])));
          }
        }
      });
    });
  }
  return reading;
}

Tensor LensDifferences(const ResidualModel& model, const LabelledStreams& streams,
                       const LogitTargets& targets, absl::Span<const int64_t> position) {
  const int64_t n = static_cast<int64_t>(streams.values.size()),
                batch = static_cast<int64_t>(position.size());
  Tensor result = Tensor::Uninitialized({n, batch}, kF32);
  float* to = result.mutable_data<float>();
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t row = 0; row < batch; ++row) {
      // Of one position: its logits alone.
      const Tensor at = streams.values[i].Row(row).Row(position[row]);
      const std::vector<double> logits =
          model.UnembedStream(at.Reshaped({1, 1, at.elements()}), Scope()).ToDoubles();
      const double other = targets.wrong.empty()
                               ? std::accumulate(logits.begin(), logits.end(), 0.0) /
                                     static_cast<double>(logits.size())
                               : logits[targets.wrong[row]];
      to[i * batch + row] = static_cast<float>(logits[targets.answer[row]] - other);
    }
  }
  return result;
}

Tensor NormedStreams(const ResidualModel& model, const LabelledStreams& streams) {
  LabelledStreams normed;
  normed.labels = streams.labels;
  for (const Tensor& stream : streams.values) {
    normed.values.push_back(model.ln_final().Forward(stream, Scope()));
  }
  return normed.Stack();
}

}  // namespace residual
