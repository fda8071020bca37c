#include "ops/ssm_kernel/dplr_discrete.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace residual {
namespace ssm_internal {
namespace {

// What a sum over the stored modes stands for.
Complex Whole(bool pairs, Complex sum) { return pairs ? 2 * sum.real() : sum; }

// a b, without the detour of std::complex for infinities, which costs more than the product.
Complex Times(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}
Complex TimesConjugate(Complex a, Complex b) { return Times(a, std::conj(b)); }

Complex Dot(int64_t n, const Complex* a, const Complex* b) {
  Complex sum;
  for (int64_t i = 0; i < n; ++i) sum += Times(a[i], b[i]);
  return sum;
}

struct Parts {
  ComplexList D;  // [modes]
  ComplexList S;  // [rank, rank]: S_ij
  ComplexList S_inverse;
};

Parts PartsOf(const DplrChannel& x) {
  const int64_t N = x.modes, r = x.rank;
  Parts parts;
  for (int64_t n = 0; n < N; ++n) parts.D.push_back(1.0 / (2 / x.dt - x.Lambda[n]));
  parts.S.resize(r * r);
  parts.S_inverse.resize(r * r);
  for (int64_t i = 0; i < r; ++i) {
    for (int64_t j = 0; j < r; ++j) {
      Complex sum;
      for (int64_t n = 0; n < N; ++n) {
        sum += std::conj(x.Q[i * N + n]) * parts.D[n] * x.P[j * N + n];
      }
      parts.S[i * r + j] = (i == j ? 1.0 : 0.0) + Whole(x.pairs, sum);
      parts.S_inverse[i * r + j] = i == j ? 1 : 0;
    }
  }
  ComplexList S = parts.S;
  SolveSmall(r, S.data(), parts.S_inverse.data(), r);
  return parts;
}

DplrDiscrete DiscretizeFrom(const DplrChannel& x, const Parts& parts) {
  const int64_t N = x.modes, r = x.rank;
  DplrDiscrete a{N, r, x.pairs, ComplexList(N), ComplexList(r * N), ComplexList(r * N)};
  for (int64_t n = 0; n < N; ++n) a.diagonal[n] = 4 / x.dt * parts.D[n] - 1.0;
  for (int64_t i = 0; i < r; ++i) {
    for (int64_t n = 0; n < N; ++n) {
      Complex sum;
      for (int64_t k = 0; k < r; ++k) sum += x.P[k * N + n] * parts.S_inverse[k * r + i];
      a.left[i * N + n] = 4 / x.dt * parts.D[n] * sum;
      a.right[i * N + n] = std::conj(x.Q[i * N + n]) * parts.D[n];
    }
  }
  return a;
}

// c <- c A_bar.
void StepRow(const DplrDiscrete& a, Complex* c) {
  Complex sums[kMaxRank];
  for (int64_t i = 0; i < a.rank; ++i) {
    sums[i] = Whole(a.pairs, Dot(a.modes, c, a.left.data() + i * a.modes));
  }
  for (int64_t n = 0; n < a.modes; ++n) {
    Complex next = Times(c[n], a.diagonal[n]);
    for (int64_t i = 0; i < a.rank; ++i) next -= Times(sums[i], a.right[i * a.modes + n]);
    c[n] = next;
  }
}

// From the gradients of diagonal, left and right to those of Lambda, P, Q and dt.
void BackThroughDiscrete(const DplrChannel& x, const DplrDiscrete& g, DplrGradients& to) {
  const int64_t N = x.modes, r = x.rank;
  const Parts parts = PartsOf(x);
  const ComplexList& M = parts.S_inverse;
  const double four = 4 / x.dt;
  double g_four = 0, g_two = 0;  // of 4/dt and of 2/dt
  ComplexList g_D(N), g_M(r * r), g_right = g.right;
  for (int64_t n = 0; n < N; ++n) {
    g_D[n] = four * g.diagonal[n];
    g_four += Back(g.diagonal[n], parts.D[n]).real();
    for (int64_t k = 0; k < r; ++k) {
      const Complex X = parts.D[n] * x.P[k * N + n];  // left_i = 4/dt sum_k X_k M_ki
      Complex g_X;
      for (int64_t i = 0; i < r; ++i) {
        const Complex g_left = g.left[i * N + n];
        g_four += Back(g_left, X * M[k * r + i]).real();
        g_M[k * r + i] += Back(g_left, four * X);
        g_X += Back(g_left, four * M[k * r + i]);
      }
      g_D[n] += Back(g_X, x.P[k * N + n]);
      to.P[k * N + n] += Back(g_X, parts.D[n]);
    }
  }
  // M = S^-1: dS = -M^H dM M^H.
  for (int64_t i = 0; i < r; ++i) {
    for (int64_t j = 0; j < r; ++j) {
      Complex g_S;
      for (int64_t k = 0; k < r; ++k) {
        for (int64_t l = 0; l < r; ++l) {
          g_S -= std::conj(M[k * r + i]) * g_M[k * r + l] * std::conj(M[j * r + l]);
        }
      }
      const Complex g_sum = Whole(x.pairs, g_S);
      for (int64_t n = 0; n < N; ++n) {
        const Complex right = std::conj(x.Q[i * N + n]) * parts.D[n];
        g_right[i * N + n] += Back(g_sum, x.P[j * N + n]);
        to.P[j * N + n] += Back(g_sum, right);
      }
    }
  }
  for (int64_t n = 0; n < N; ++n) {
    for (int64_t i = 0; i < r; ++i) {
      g_D[n] += g_right[i * N + n] * x.Q[i * N + n];
      to.Q[i * N + n] += std::conj(Back(g_right[i * N + n], parts.D[n]));
    }
    const Complex back = Back(g_D[n], parts.D[n] * parts.D[n]);
    to.Lambda[n] += back;
    g_two -= back.real();
  }
  to.dt -= (4 * g_four + 2 * g_two) / (x.dt * x.dt);
}

}  // namespace

DplrOperands::DplrOperands(const char* op, const Tensor& Lambda, const Tensor& P, const Tensor& Q,
                           const Tensor& B, const Tensor& C, const Tensor& dt, bool pairs)
    : steps(ReadSteps(op, dt)),
      channels(static_cast<int64_t>(steps.size())),
      pairs(pairs),
      Lambda(op, Lambda, 3, channels, dt.dtype()),
      P(op, P, 4, channels, dt.dtype()),
      Q(op, Q, 4, channels, dt.dtype()),
      B(op, B, 3, channels, dt.dtype()),
      C(op, C, 3, channels, dt.dtype()),
      dt(dt),
      modes(this->Lambda.size()),
      rank(P.dim(-3)) {
  RESIDUAL_CHECK_OP(op, this->B.size() == modes && this->C.size() == modes, Lambda, B, C);
  RESIDUAL_CHECK_OP(op, P.dim(-2) == modes && Q.dim(-2) == modes && Q.dim(-3) == rank, Lambda, P,
                    Q);
  RESIDUAL_CHECK_OP(op, rank <= kMaxRank, P);
}

DplrChannel DplrOperands::Channel(int64_t h) const {
  DplrChannel channel{modes,
                      rank,
                      pairs,
                      steps[h],
                      ComplexList(modes),
                      ComplexList(rank * modes),
                      ComplexList(rank * modes),
                      ComplexList(modes),
                      ComplexList(modes)};
  Lambda.Read(h, channel.Lambda.data());
  P.Read(h, channel.P.data());
  Q.Read(h, channel.Q.data());
  B.Read(h, channel.B.data());
  C.Read(h, channel.C.data());
  return channel;
}

void SolveSmall(int64_t rank, Complex* a, Complex* b, int64_t columns) {
  for (int64_t k = 0; k < rank; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < rank; ++i) {
      if (std::norm(a[i * rank + k]) > std::norm(a[pivot * rank + k])) pivot = i;
    }
    if (pivot != k) {
      std::swap_ranges(a + k * rank, a + (k + 1) * rank, a + pivot * rank);
      std::swap_ranges(b + k * columns, b + (k + 1) * columns, b + pivot * columns);
    }
    const Complex scale = 1.0 / a[k * rank + k];
    for (int64_t i = k + 1; i < rank; ++i) {
      const Complex factor = a[i * rank + k] * scale;
      for (int64_t j = k; j < rank; ++j) a[i * rank + j] -= factor * a[k * rank + j];
      for (int64_t j = 0; j < columns; ++j) b[i * columns + j] -= factor * b[k * columns + j];
    }
  }
  for (int64_t k = rank - 1; k >= 0; --k) {
    for (int64_t j = 0; j < columns; ++j) {
      Complex sum = b[k * columns + j];
      for (int64_t i = k + 1; i < rank; ++i) sum -= a[k * rank + i] * b[i * columns + j];
      b[k * columns + j] = sum / a[k * rank + k];
    }
  }
}

DplrDiscrete Discretize(const DplrChannel& channel) {
  return DiscretizeFrom(channel, PartsOf(channel));
}

ComplexList DiscreteInput(const DplrChannel& x, const DplrDiscrete& discrete) {
  ComplexList input(x.modes);
  ComplexList sums(x.rank);
  for (int64_t i = 0; i < x.rank; ++i) {
    sums[i] = Whole(x.pairs, Dot(x.modes, discrete.right.data() + i * x.modes, x.B.data()));
  }
  for (int64_t n = 0; n < x.modes; ++n) {
    input[n] = 2.0 * x.B[n] / (2 / x.dt - x.Lambda[n]);
    for (int64_t i = 0; i < x.rank; ++i) {
      input[n] -= x.dt / 2 * discrete.left[i * x.modes + n] * sums[i];
    }
  }
  return input;
}

ComplexList RowTimesPower(const DplrDiscrete& a, ComplexList c, int64_t steps) {
  for (int64_t k = 0; k < steps; ++k) StepRow(a, c.data());
  return c;
}

void BackThroughPower(const DplrChannel& x, const ComplexList& g, int64_t steps,
                      DplrGradients& to) {
  const int64_t N = x.modes, r = x.rank;
  const DplrDiscrete a = Discretize(x);
  DplrDiscrete g_a{N, r, x.pairs, ComplexList(N), ComplexList(r * N), ComplexList(r * N)};
  const int64_t stretch =
      std::max<int64_t>(1, std::llround(std::ceil(std::sqrt(static_cast<double>(steps)))));
  std::vector<ComplexList> starts;  // c A_bar^k for every stretch-th k
  ComplexList c = x.C;
  for (int64_t k = 0; k < steps; ++k) {
    if (k % stretch == 0) starts.push_back(c);
    StepRow(a, c.data());
  }
  ComplexList back = g;
  std::vector<ComplexList> rows;
  for (int64_t s = static_cast<int64_t>(starts.size()) - 1; s >= 0; --s) {
    rows.assign(1, starts[s]);
    for (int64_t k = s * stretch + 1; k < std::min(steps, (s + 1) * stretch); ++k) {
      rows.push_back(rows.back());
      StepRow(a, rows.back().data());
    }
    for (int64_t k = static_cast<int64_t>(rows.size()) - 1; k >= 0; --k) {
      // c' = c diag - sum_i (c left_i) right_i.
      const ComplexList& row = rows[k];
      ComplexList before(N);
      for (int64_t n = 0; n < N; ++n) {
        before[n] = TimesConjugate(back[n], a.diagonal[n]);
        g_a.diagonal[n] += TimesConjugate(back[n], row[n]);
      }
      for (int64_t i = 0; i < r; ++i) {
        const Complex *left = a.left.data() + i * N, *right = a.right.data() + i * N;
        const Complex sum = Whole(x.pairs, Dot(N, row.data(), left));
        Complex g_sum;
        for (int64_t n = 0; n < N; ++n) g_sum -= TimesConjugate(back[n], right[n]);
        g_sum = Whole(x.pairs, g_sum);
        for (int64_t n = 0; n < N; ++n) {
          g_a.right[i * N + n] -= TimesConjugate(back[n], sum);
          g_a.left[i * N + n] += TimesConjugate(g_sum, row[n]);
          before[n] += TimesConjugate(g_sum, left[n]);
        }
      }
      back = std::move(before);
    }
  }
  for (int64_t n = 0; n < N; ++n) to.C[n] += back[n];
  BackThroughDiscrete(x, g_a, to);
}

}  // namespace ssm_internal
}  // namespace residual
