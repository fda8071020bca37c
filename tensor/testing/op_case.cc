#include "tensor/testing/op_case.h"

#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "tensor/autograd/tape.h"
#include "tensor/base/parallel.h"
#include "tensor/base/random.h"
#include "tensor/core/cuda_hooks.h"

namespace residual {
namespace {

constexpr double kStep = 1e-4;  // of central differences; their error is of order kStep^2

double Dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.elements(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
  return sum;
}

// The gradient each output gets.
Tensor OutputGradient(const Tensor& output, size_t index) {
  return ToDevice(RandomNormal(output.shape(), 1000 + index, output.dtype()), output.device());
}

// x + step * direction.
Tensor Moved(const Tensor& x, const Tensor& direction, double step) {
  Tensor result = x.Clone();
  double* values = result.mutable_data<double>();
  for (int64_t i = 0; i < x.elements(); ++i) values[i] += step * direction.data<double>()[i];
  return result;
}

// The same values at an address that is aligned to nothing but the element.
Tensor Misaligned(const Tensor& x) {
  Tensor longer = Tensor::Uninitialized({x.elements() + 1}, x.dtype());
  char* data = static_cast<char*>(longer.mutable_raw_data());
  if (x.bytes() > 0) std::memcpy(data + SizeOf(x.dtype()), x.raw_data(), x.bytes());
  return longer.Rows(1, x.elements() + 1).Reshaped(x.shape());
}

struct ThreadsRestored {
  const int threads = NumThreads();
  ~ThreadsRestored() { SetNumThreads(threads); }
};

}  // namespace

double Epsilon(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0x1p-23;
    case DType::kBF16:
      return 0x1p-7;
    case DType::kF16:
      return 0x1p-10;
    default:
      return 0x1p-52;
  }
}

Tensor RandomNormal(const Shape& shape, uint64_t seed, DType dtype) {
  const Philox random(seed, RandomStream("test"));
  Tensor result = Tensor::Uninitialized(shape, kF64);
  double* values = result.mutable_data<double>();
  for (int64_t i = 0; i < result.elements(); ++i) values[i] = random.Normal(i);
  return ConvertTo(result, dtype);
}

Tensor ToDevice(const Tensor& x, Device device) {
  if (!x.defined() || x.device() == device) return x;
  Tensor moved = Tensor::Uninitialized(x.shape(), x.dtype(), device);
  CopyBytes(x, moved);
  return moved;
}

void ExpectClose(const Tensor& got, const Tensor& want, double ulps, const std::string& what) {
  ASSERT_EQ(got.shape(), want.shape()) << what;
  const std::vector<double> g = got.ToDoubles(), w = want.ToDoubles();
  double largest = 0;
  for (double x : w) {
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  double worst = -1;
  size_t worst_index = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    if (!std::isfinite(w[i]) || !std::isfinite(g[i])) {
      ASSERT_TRUE(g[i] == w[i] || (std::isnan(g[i]) && std::isnan(w[i])))
          << what << ": element " << i << " is " << g[i] << ", expected " << w[i];
      continue;
    }
    const double error = std::abs(g[i] - w[i]);
    const double allowed = Epsilon(got.dtype()) * (std::abs(w[i]) + largest);
    const double ratio = error == 0 ? 0 : error / std::max(allowed, 1e-300);
    if (ratio > worst) {
      worst = ratio;
      worst_index = i;
    }
  }
  EXPECT_LE(worst, ulps) << what << ": element " << worst_index << " is " << g[worst_index]
                         << ", expected " << w[worst_index];
}

void ExpectIdentical(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(got.ToString(), want.ToString()) << what;
  if (got.bytes() == 0) return;
  EXPECT_EQ(std::memcmp(got.raw_data(), want.raw_data(), got.bytes()), 0) << what;
}

OpCase& OpCase::Run(Function run) {
  run_ = std::move(run);
  return *this;
}

OpCase& OpCase::Reference(Function reference) {
  reference_ = std::move(reference);
  return *this;
}

OpCase& OpCase::Shapes(std::vector<std::vector<Shape>> rows) {
  for (const std::vector<Shape>& row : rows) {
    rows_.emplace_back();
    for (const Shape& shape : row) rows_.back().emplace_back(shape);
  }
  return *this;
}

OpCase& OpCase::Row(std::vector<OpInput> inputs) {
  rows_.push_back(std::move(inputs));
  return *this;
}

OpCase& OpCase::DTypes(std::vector<DType> dtypes) {
  dtypes_ = std::move(dtypes);
  return *this;
}

OpCase& OpCase::Ulps(double value_ulps, double gradient_ulps) {
  value_ulps_ = value_ulps;
  gradient_ulps_ = gradient_ulps > 0 ? gradient_ulps : 4 * value_ulps;
  return *this;
}

OpCase& OpCase::NoGradient() {
  gradient_ = false;
  return *this;
}

std::string OpCase::Describe(size_t row, DType dtype) const {
  std::string text = absl::StrCat(op_, " ", Name(dtype));
  for (const OpInput& input : rows_[row]) absl::StrAppend(&text, " ", input.shape.ToString());
  return text;
}

OpCase::Inputs OpCase::Make(size_t row, DType dtype, bool misaligned) const {
  Inputs made;
  for (size_t i = 0; i < rows_[row].size(); ++i) {
    const OpInput& input = rows_[row][i];
    const Philox random(100 * row + i, RandomStream("op case"));
    Tensor x;
    if (input.kind == OpInput::kGiven) {
      x = input.value;
    } else if (input.kind == OpInput::kIndex) {
      x = Tensor::Uninitialized(input.shape, kI64);
      int64_t* values = x.mutable_data<int64_t>();
      for (int64_t j = 0; j < x.elements(); ++j) values[j] = random.Below(j, input.high);
    } else if (input.kind == OpInput::kBits) {
      x = Tensor::Uninitialized(input.shape, kBool);
      bool* values = x.mutable_data<bool>();
      for (int64_t j = 0; j < x.elements(); ++j) values[j] = random.Below(j, 2) == 1;
    } else {
      x = Tensor::Uninitialized(input.shape, kF64);
      double* values = x.mutable_data<double>();
      for (int64_t j = 0; j < x.elements(); ++j) {
        const double u = random.UniformDouble(j);
        values[j] = input.kind == OpInput::kNormal     ? random.Normal(j)
                    : input.kind == OpInput::kPositive ? 0.5 + 1.5 * u
                                                       : input.low + (input.high - input.low) * u;
      }
    }
    if (!x.defined()) {  // an optional operand left out
      made.tensors.emplace_back();
      made.doubles.emplace_back();
      continue;
    }
    Tensor in_dtype = IsFloat(x.dtype()) ? ConvertTo(x, dtype) : x;
    made.doubles.push_back(IsFloat(x.dtype()) ? ConvertTo(in_dtype, kF64) : x);
    made.tensors.push_back(misaligned ? Misaligned(in_dtype) : in_dtype);
  }
  return made;
}

OpCase::Results OpCase::Compute(const TensorList& inputs) const {
  Results results;
  if (!gradient_) {
    results.outputs = run_(inputs);
    return results;
  }
  TensorList watched = inputs;
  Tape tape;
  for (Tensor& x : watched) {
    if (x.defined() && IsFloat(x.dtype())) tape.Watch(x);
  }
  results.outputs = run_(watched);
  std::vector<Tensor> grads;
  for (size_t i = 0; i < results.outputs.size(); ++i) {
    grads.push_back(OutputGradient(results.outputs[i], i));
  }
  const Gradients gradients = tape.Backward(results.outputs, grads, {});
  for (const Tensor& x : watched) {
    results.gradients.push_back(x.defined() && IsFloat(x.dtype()) ? gradients[x] : Tensor());
  }
  return results;
}

void OpCase::CheckValues() const {
  for (DType dtype : dtypes_) {
    for (size_t row = 0; row < rows_.size(); ++row) {
      const Inputs inputs = Make(row, dtype);
      const TensorList got = run_(inputs.tensors), want = reference_(inputs.doubles);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i) {
        ExpectClose(got[i], want[i], value_ulps_,
                    absl::StrCat(Describe(row, dtype), ", output ", i));
      }
    }
  }
}

void OpCase::CheckGradients() const {
  if (!gradient_) {  // nor may it put anything on a tape
    for (size_t row = 0; row < rows_.size(); ++row) {
      TensorList watched = Make(row, kF32).tensors;
      Tape tape;
      for (Tensor& x : watched) {
        if (x.defined() && IsFloat(x.dtype())) tape.Watch(x);
      }
      run_(watched);
      EXPECT_EQ(tape.size(), 0) << Describe(row, kF32) << " was recorded";
    }
    return;
  }
  for (size_t row = 0; row < rows_.size(); ++row) {
    const Inputs inputs = Make(row, kF64);
    const Results exact = Compute(inputs.doubles);

    // float64 against differences of the reference, along each element of a small input and along
    // random directions of a large one.
    auto loss = [&](const TensorList& x) {
      const TensorList y = reference_(x);
      double sum = 0;
      for (size_t i = 0; i < y.size(); ++i) sum += Dot(y[i], OutputGradient(y[i], i));
      return sum;
    };
    for (size_t i = 0; i < inputs.doubles.size(); ++i) {
      const Tensor& x = inputs.doubles[i];
      if (!x.defined() || !IsFloat(x.dtype()) || x.elements() == 0) continue;
      const int directions = x.elements() <= 24 ? static_cast<int>(x.elements()) : 4;
      for (int d = 0; d < directions; ++d) {
        Tensor direction = RandomNormal(x.shape(), 50 + d);
        if (x.elements() <= 24) {
          direction = Tensor::Zeros(x.shape(), kF64);
          direction.mutable_data<double>()[d] = 1;
        }
        TensorList moved = inputs.doubles;
        double values[4];
        const double steps[4] = {-2 * kStep, -kStep, kStep, 2 * kStep};
        for (int s = 0; s < 4; ++s) {
          moved[i] = Moved(x, direction, steps[s]);
          values[s] = loss(moved);
        }
        // Fourth-order central difference.
        const double want = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * kStep);
        const double got = Dot(exact.gradients[i], direction);
        const double scale =
            std::sqrt(Dot(exact.gradients[i], exact.gradients[i]) * Dot(direction, direction));
        EXPECT_NEAR(got, want, 1e-7 * (scale + std::abs(values[1])) + 1e-9)
            << Describe(row, kF64) << ": gradient of input " << i << ", direction " << d;
      }
    }

    for (DType dtype : dtypes_) {
      if (dtype == kF64) continue;
      const Inputs rounded = Make(row, dtype);
      const Results got = Compute(rounded.tensors);
      // What float64 gives for the same rounded inputs and output gradients.
      TensorList watched = rounded.doubles;
      Tape tape;
      for (Tensor& x : watched) {
        if (x.defined() && IsFloat(x.dtype())) tape.Watch(x);
      }
      const TensorList outputs = run_(watched);
      std::vector<Tensor> grads;
      for (size_t i = 0; i < outputs.size(); ++i) {
        grads.push_back(ConvertTo(OutputGradient(got.outputs[i], i), kF64));
      }
      const Gradients want = tape.Backward(outputs, grads, {});
      for (size_t i = 0; i < watched.size(); ++i) {
        if (!got.gradients[i].defined()) continue;
        ExpectClose(got.gradients[i], want[watched[i]], gradient_ulps_,
                    absl::StrCat(Describe(row, dtype), ", gradient of input ", i));
      }
    }
  }
}

void OpCase::CheckMemory() const {
  SetHostGuardBytes(true);
  for (DType dtype : dtypes_) {
    for (size_t row = 0; row < rows_.size(); ++row) {
      const Inputs inputs = Make(row, dtype), copies = Make(row, dtype);
      const Inputs misaligned = Make(row, dtype, true);
      const Results got = Compute(inputs.tensors);
      const Results from_misaligned = Compute(misaligned.tensors);
      for (size_t i = 0; i < inputs.tensors.size(); ++i) {
        if (!inputs.tensors[i].defined()) continue;
        ExpectIdentical(inputs.tensors[i], copies.tensors[i],
                        absl::StrCat(Describe(row, dtype), ", input ", i, " was written"));
      }
      for (size_t i = 0; i < got.outputs.size(); ++i) {
        ExpectIdentical(from_misaligned.outputs[i], got.outputs[i],
                        absl::StrCat(Describe(row, dtype), ", misaligned, output ", i));
      }
    }
  }
  SetHostGuardBytes(false);
}

void OpCase::CheckThreads() const {
  const ThreadsRestored restored;
  for (DType dtype : dtypes_) {
    for (size_t row = 0; row < rows_.size(); ++row) {
      const Inputs inputs = Make(row, dtype);
      SetNumThreads(1);
      const Results want = Compute(inputs.tensors);
      for (int threads : {2, 3, 4, 7}) {
        SetNumThreads(threads);
        const Results got = Compute(inputs.tensors);
        const std::string what = absl::StrCat(Describe(row, dtype), ", ", threads, " threads");
        for (size_t i = 0; i < got.outputs.size(); ++i) {
          ExpectIdentical(got.outputs[i], want.outputs[i], absl::StrCat(what, ", output ", i));
        }
        for (size_t i = 0; i < got.gradients.size(); ++i) {
          if (!got.gradients[i].defined()) continue;
          ExpectIdentical(got.gradients[i], want.gradients[i],
                          absl::StrCat(what, ", gradient ", i));
        }
      }
    }
  }
}

void OpCase::CheckCuda() const {
  if (!HaveCudaHooks()) GTEST_SKIP() << "no GPU";
  for (DType dtype : dtypes_) {
    for (size_t row = 0; row < rows_.size(); ++row) {
      const std::string what = absl::StrCat(Describe(row, dtype), " on cuda");
      const Inputs inputs = Make(row, dtype);
      TensorList on_device;
      for (const Tensor& x : inputs.tensors) on_device.push_back(ToDevice(x, kCuda));
      const Results got = Compute(on_device);
      const TensorList want = reference_(inputs.doubles);
      ASSERT_EQ(got.outputs.size(), want.size());
      std::vector<Tensor> grads;
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_EQ(got.outputs[i].device(), kCuda) << what;
        const Tensor output = ToDevice(got.outputs[i], kCpu);
        ExpectClose(output, want[i], value_ulps_, absl::StrCat(what, ", output ", i));
        grads.push_back(ConvertTo(OutputGradient(output, i), kF64));
      }
      for (size_t i = 0; i < on_device.size(); ++i) {
        if (!on_device[i].defined()) continue;
        ExpectIdentical(ToDevice(on_device[i], kCpu), inputs.tensors[i],
                        absl::StrCat(what, ", input ", i, " was written"));
      }
      if (!gradient_) continue;
      // What the host gives in float64 for the same inputs and output gradients.
      TensorList watched = inputs.doubles;
      Tape tape;
      for (Tensor& x : watched) {
        if (x.defined() && IsFloat(x.dtype())) tape.Watch(x);
      }
      const TensorList outputs = run_(watched);
      const Gradients exact = tape.Backward(outputs, grads, {});
      for (size_t i = 0; i < watched.size(); ++i) {
        if (!got.gradients[i].defined()) continue;
        ASSERT_EQ(got.gradients[i].device(), kCuda) << what;
        ExpectClose(ToDevice(got.gradients[i], kCpu), exact[watched[i]], gradient_ulps_,
                    absl::StrCat(what, ", gradient of input ", i));
      }
    }
  }
}

}  // namespace residual
