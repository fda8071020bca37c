// Reverse-mode differentiation by an explicit, linear tape.
//
//   Tape tape;                          // current on this thread while it lives
//   tape.Watch(w);                      // gradients are wanted for w
//   Tensor loss = CrossEntropy(MatMul(x, w), targets);   // ops append themselves
//   Gradients grads = tape.Backward(loss);
//   Tensor dw = grads[w];
//
// Ops append (name, inputs, outputs, VJP) in program order, which is a topological order, so
// Backward is one reverse loop. Only what depends on a watched tensor is recorded. There is no
// graph inside tensors, no in-place and no view: a handle only remembers its node's number.

#ifndef RESIDUAL_TENSOR_AUTOGRAD_TAPE_H_
#define RESIDUAL_TENSOR_AUTOGRAD_TAPE_H_

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/any_invocable.h"
#include "absl/types/span.h"
#include "tensor/core/tensor.h"

namespace residual {

// Which inputs of an op a gradient is needed for.
class Needs {
 public:
  explicit Needs(uint32_t bits) : bits_(bits) {}
  bool operator[](int input) const { return bits_ >> input & 1; }

 private:
  uint32_t bits_;
};

// Vector-Jacobian product of one op. dy: one gradient per output, with the output's shape;
// undefined where nothing reached that output (at least one is defined). Returns one gradient per
// input, with the input's number of elements; undefined where !needs[i] or where there is none (an
// index).
using Vjp = absl::AnyInvocable<TensorList(absl::Span<const Tensor> dy, Needs needs)>;

// The gradients Backward found.
class Gradients {
 public:
  // d loss / d x, of x's shape; zeros if the loss does not depend on x. x must have been watched or
  // named in Backward's `also`.
  Tensor operator[](const Tensor& x) const;
  // The same without copying zeros into being: undefined if the loss does not depend on x.
  Tensor Find(const Tensor& x) const;

 private:
  friend class Tape;
  uint64_t tape_ = 0;
  std::vector<bool> kept_;     // by node: was asked for
  std::vector<Tensor> grads_;  // by node
};

class Tape {
 public:
  // Becomes the current tape of this thread; the one before is current again afterwards.
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // The current tape of this thread, or nullptr.
  static Tape* Current();

  // Makes x a leaf: what is computed from this handle (and copies made of it from now on) is
  // recorded, and Backward keeps its gradient. Floats only.
  void Watch(Tensor& x);

  // The current tape if one of the inputs is on it, else nullptr: nothing to record. Inputs may be
  // undefined tensors (optional operands).
  static Tape* For(std::initializer_list<const Tensor*> inputs);

  // Appends an op. `op` must be a string literal. At most 32 inputs.
  void Record(const char* op, std::initializer_list<const Tensor*> inputs,
              std::initializer_list<Tensor*> outputs, Vjp vjp) {
    Record(op, absl::MakeConstSpan(inputs.begin(), inputs.size()),
           absl::MakeConstSpan(outputs.begin(), outputs.size()), std::move(vjp));
  }
  void Record(const char* op, absl::Span<const Tensor* const> inputs,
              absl::Span<Tensor* const> outputs, Vjp vjp);

  // The gradients of a loss with one element. Frees every entry as it is used: once per tape.
  // Keeps the gradients of watched tensors and of those in `also`, which may be any tensor the
  // tape saw (activations taken from a hook included).
  Gradients Backward(const Tensor& loss, absl::Span<const Tensor> also = {});
  // The same from several outputs with given gradients.
  Gradients Backward(absl::Span<const Tensor> outputs, absl::Span<const Tensor> output_grads,
                     absl::Span<const Tensor> also);

  // Number of recorded ops.
  int size() const { return static_cast<int>(entries_.size()); }
  // True if this handle is a node of this tape.
  bool Tracks(const Tensor& x) const {
    return x.tape_ref().tape == serial_ && x.tape_ref().node >= 0;
  }

 private:
  friend class NoTape;
  struct Node {
    Shape shape;
    DType dtype;
    bool watched;
  };
  struct Entry {
    const char* op;
    absl::InlinedVector<int32_t, 4> inputs;   // node, or -1: constant
    absl::InlinedVector<int32_t, 2> outputs;  // node
    Vjp vjp;
  };

  int32_t NewNode(const Tensor& x, bool watched);

  const uint64_t serial_;
  Tape* const previous_;
  bool used_ = false;
  std::vector<Node> nodes_;
  std::vector<Entry> entries_;
};

// While it lives nothing on this thread is recorded.
class NoTape {
 public:
  NoTape();
  ~NoTape();
  NoTape(const NoTape&) = delete;
  NoTape& operator=(const NoTape&) = delete;

 private:
  Tape* const suspended_;
};

}  // namespace residual

#endif  // RESIDUAL_TENSOR_AUTOGRAD_TAPE_H_
