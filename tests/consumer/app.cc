// Prints the softmax of 1, 2, 3.
#include <cstdio>

#include "ops/softmax/softmax.h"
#include "tensor/core/tensor.h"

int main() {
  const residual::Tensor x = residual::Tensor::Of<float>({1, 3}, {1, 2, 3});
  for (const float p : residual::Softmax(x).span<float>()) std::printf("%.6f\n", p);
}
