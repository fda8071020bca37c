// Linked into tests that use a GPU: starts it before main(), so that HaveCudaHooks() says whether
// there is one. Without one they skip, and this is why.

#include <iostream>

#include "tensor/cuda/start.h"

namespace residual {
namespace {

const bool kStarted = [] {
  const absl::Status status = StartCuda();
  if (!status.ok()) std::cerr << "Tests that need a GPU will skip: " << status.message() << "\n";
  return status.ok();
}();

}  // namespace
}  // namespace residual
