// Checks of what only a programming error can break. They print where, what and the operands,
// then abort. What comes from outside the process (files, flags, text) is an absl::Status instead.
//
//   RESIDUAL_CHECK(k > 0) << "k = " << k;
//   RESIDUAL_CHECK_EQ(a.size(), b.size());

#ifndef RESIDUAL_TENSOR_BASE_CHECK_H_
#define RESIDUAL_TENSOR_BASE_CHECK_H_

#include <sstream>

#include "absl/base/optimization.h"

namespace residual {
namespace internal {

// Collects the message; its destructor prints it on stderr and aborts.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return stream_; }

 private:
  std::ostringstream stream_;
};

// Gives both arms of the ?: in RESIDUAL_CHECK the type void.
struct Voidify {
  void operator&(std::ostream&) const {}
};

}  // namespace internal
}  // namespace residual

#define RESIDUAL_CHECK(condition)     \
  ABSL_PREDICT_TRUE(condition)        \
  ? (void)0                           \
  : ::residual::internal::Voidify() & \
          ::residual::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

#define RESIDUAL_CHECK_EQ(a, b) RESIDUAL_CHECK((a) == (b)) << (a) << " against " << (b) << ". "
#define RESIDUAL_CHECK_LE(a, b) RESIDUAL_CHECK((a) <= (b)) << (a) << " against " << (b) << ". "
#define RESIDUAL_CHECK_LT(a, b) RESIDUAL_CHECK((a) < (b)) << (a) << " against " << (b) << ". "
#define RESIDUAL_CHECK_GE(a, b) RESIDUAL_CHECK((a) >= (b)) << (a) << " against " << (b) << ". "

#endif  // RESIDUAL_TENSOR_BASE_CHECK_H_
