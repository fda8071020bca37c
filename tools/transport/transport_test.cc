#include "tools/transport/transport.h"

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(TransportTest, OneProcessIsAlone) {
  const auto transport = StartTransport(nullptr, nullptr);
  EXPECT_EQ(transport->rank(), 0);
  EXPECT_EQ(transport->count(), 1);
  EXPECT_FALSE(transport->Receive(/*wait=*/false).has_value());
  EXPECT_DEATH(transport->Send(1, "x"), "a message to process 1 of one");
  EXPECT_DEATH(transport->Receive(/*wait=*/true), "the only process waits");
}

}  // namespace
}  // namespace residual
