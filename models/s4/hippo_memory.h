// A memory of bounded size of a signal of any length: the state of a HiPPO system that is stepped
// with each sample, and what it remembers.
//
//   HippoMemory memory(HippoMeasure::kLegS, 32, HippoMemory::kWholePast);
//   for (double sample : signal) memory.Step(sample);
//   double then = memory.Recall(10.5);  // the signal 10.5 samples ago, as far as 32 numbers tell

#ifndef RESIDUAL_MODELS_S4_HIPPO_MEMORY_H_
#define RESIDUAL_MODELS_S4_HIPPO_MEMORY_H_

#include <cstdint>
#include <vector>

#include "Eigen/Core"
#include "models/s4/hippo.h"

namespace residual {

class HippoMemory {
 public:
  // As a window: rates divided by the time, so that it holds all of the past (kLegS only).
  static constexpr double kWholePast = 0;

  // `window` > 0: that many samples are remembered (kLegS and kRandom: forgotten to 1/e), by x' = A
  // x
  // + B u. CHECKs n >= 1 and the window. O(n^2) numbers.
  HippoMemory(HippoMeasure measure, int64_t n, double window, uint64_t seed = 0);

  // Takes the next sample, in O(n^2), or O(n) for kWholePast. The bilinear transform: of x' = A x +
  // B u with a step of HippoWindow / window,
  //   (I - dt/2 A) x_t = (I + dt/2 A) x_{t-1} + dt B u_t,
  // and for kWholePast (Gu et al. 2020, appendix B.2), t = 1, 2, ..,
  //   (I - A / 2t) x_t = (I + A / 2t) x_{t-1} + B u_t / t.
  void Step(double sample);

  int64_t steps() const { return steps_; }
  const Eigen::VectorXd& state() const { return state_; }

  // What the state says of the signal `ago` samples before the end of the last one (whose middle is
  // 0.5 ago): sum_n x_n phi_n. Zero before the first sample and outside of the window. For kRandom
  // phi is the dual basis: no linear reading of the state does better on white noise that is no
  // longer than the window (what is older disturbs it).
  double Recall(double ago) const;

 private:
  const HippoMeasure measure_;
  const int64_t n_;
  const double window_;
  Hippo system_;
  Eigen::MatrixXd A_bar_;
  Eigen::VectorXd B_bar_;
  // For kRandom, whose basis is A_bar^s B_bar times the inverse of its Gram matrix, s <= last.
  int64_t last_ = 0;
  Eigen::MatrixXd inverse_gram_;
  std::vector<Eigen::MatrixXd> powers_;  // A_bar^(2^i)
  Eigen::VectorXd state_;
  int64_t steps_ = 0;
};

}  // namespace residual

#endif  // RESIDUAL_MODELS_S4_HIPPO_MEMORY_H_
