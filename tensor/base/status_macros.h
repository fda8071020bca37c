// What Abseil has from 20260526 on, for the Abseil of today's distributions.
//
//   RESIDUAL_RETURN_IF_ERROR(Check(config));
//   RESIDUAL_ASSIGN_OR_RETURN(Tensor weights, reader.Read("W_Q"));

#ifndef RESIDUAL_TENSOR_BASE_STATUS_MACROS_H_
#define RESIDUAL_TENSOR_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define RESIDUAL_RETURN_IF_ERROR(expression)         \
  do {                                               \
    ::absl::Status residual_status = (expression);   \
    if (ABSL_PREDICT_FALSE(!residual_status.ok())) { \
      return residual_status;                        \
    }                                                \
  } while (false)

#define RESIDUAL_ASSIGN_OR_RETURN(target, expression) \
  RESIDUAL_ASSIGN_OR_RETURN_(RESIDUAL_CONCAT_(residual_statusor_, __LINE__), target, expression)

#define RESIDUAL_ASSIGN_OR_RETURN_(statusor, target, expression) \
  auto statusor = (expression);                                  \
  if (ABSL_PREDICT_FALSE(!statusor.ok())) {                      \
    return std::move(statusor).status();                         \
  }                                                              \
  target = *std::move(statusor)

#define RESIDUAL_CONCAT_(a, b) RESIDUAL_CONCAT_IMPL_(a, b)
#define RESIDUAL_CONCAT_IMPL_(a, b) a##b

#endif  // RESIDUAL_TENSOR_BASE_STATUS_MACROS_H_
