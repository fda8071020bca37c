// The discrete Fourier transform of real signals, of any length.
//
//   X_k = sum_j x_j e^(-2 pi i j k / n),  k = 0..n/2      (the other half: X_(n-k) = conj(X_k))
//
// Plain functions on memory, for ops that need one on the way. T: float or double; all that is
// computed, but for roots of unity, is in T. Lengths of twos, threes and fives are fastest; where
// there is another prime factor, however large, three transforms of twice the length stand for one.
// The rows are spread over threads (16 or so go together, so a single row is no faster than they);
// each by itself has the same bits, whatever the others are and however many there are.

#ifndef RESIDUAL_OPS_FFT_REAL_FFT_H_
#define RESIDUAL_OPS_FFT_REAL_FFT_H_

#include <complex>
#include <cstdint>

namespace residual {

// signals: [rows, n], n >= 1, to spectra: [rows, n / 2 + 1]; they may not overlap. Adjoint, for
// gradients: dx = n InverseRealFft(g), with g_0 = dX_0, g_(n/2) = dX_(n/2) (for even n), and
// g_k = dX_k / 2 for all others; where dX = (gradient of the real part) + i (of the imaginary).
template <class T>
void RealFft(const T* signals, std::complex<T>* spectra, int64_t rows, int64_t n);

// And back: x_j = (1 / n) sum_(k < n) X_k e^(2 pi i j k / n). The imaginary parts of X_0 and, for
// even n, of X_(n/2) have no effect. Adjoint: dX_k = c_k RealFft(dx)_k / n, c_0 = 1,
// c_(n/2) = 1 (for even n), c_k = 2 for all others.
template <class T>
void InverseRealFft(const std::complex<T>* spectra, T* signals, int64_t rows, int64_t n);

}  // namespace residual

#endif  // RESIDUAL_OPS_FFT_REAL_FFT_H_
