#include "models/nn/fingerprint.h"

#include "gtest/gtest.h"
#include "tensor/base/parallel.h"

namespace residual {
namespace {

class Pair : public Module {
 public:
  void Describe(Visitor& v) override {
    v.Param("a", a, {3, 2}, Init::Normal(1));
    v.Param("b", b, {2}, Init::Zeros());
  }
  Tensor a, b;
};

TEST(FingerprintTest, IsOfNamesShapesAndEveryByte) {
  Pair pair;
  Initialize(pair, 1);
  const uint32_t first = ParametersFingerprint(pair);
  const int before = NumThreads();
  SetNumThreads(3);
  EXPECT_EQ(ParametersFingerprint(pair), first);
  SetNumThreads(before);
  pair.b.mutable_data<float>()[1] = -0.0f;  // one bit
  const uint32_t negative = ParametersFingerprint(pair);
  EXPECT_NE(negative, first);
  pair.b.mutable_data<float>()[1] = 0;
  EXPECT_EQ(ParametersFingerprint(pair), first);
  ConvertParameters(pair, kF64);
  EXPECT_NE(ParametersFingerprint(pair), first);
  Initialize(pair, 2);
  EXPECT_NE(ParametersFingerprint(pair), first);
  // The same bytes under the other's shape.
  Initialize(pair, 1);
  pair.a = pair.a.Reshaped({2, 3});
  EXPECT_NE(ParametersFingerprint(pair), first);
}

}  // namespace
}  // namespace residual
