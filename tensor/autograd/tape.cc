#include "tensor/autograd/tape.h"

#include <atomic>
#include <utility>

namespace residual {
namespace {

thread_local Tape* t_current = nullptr;

uint64_t NextSerial() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Tensor Gradients::Find(const Tensor& x) const {
  const TapeRef ref = x.tape_ref();
  RESIDUAL_CHECK(ref.tape == tape_ && ref.node >= 0 && ref.node < kept_.size() && kept_[ref.node])
      << "the gradient of " << x.ToString()
      << " was not kept: watch it, or name it in Backward's `also`";
  const Tensor& grad = grads_[ref.node];
  return grad.defined() ? grad.Reshaped(x.shape()) : Tensor();
}

Tensor Gradients::operator[](const Tensor& x) const {
  const Tensor grad = Find(x);
  return grad.defined() ? grad : Tensor::Zeros(x.shape(), x.dtype());
}

Tape::Tape() : serial_(NextSerial()), previous_(t_current) {
  t_current = this;
  SetCurrentTapeSerial(serial_);
}

Tape::~Tape() {
  RESIDUAL_CHECK(t_current == this) << "tapes must end in the reverse order of their beginning";
  t_current = previous_;
  SetCurrentTapeSerial(previous_ ? previous_->serial_ : 0);
}

Tape* Tape::Current() { return t_current; }

NoTape::NoTape() : suspended_(t_current) {
  t_current = nullptr;
  SetCurrentTapeSerial(0);
}

NoTape::~NoTape() {
  t_current = suspended_;
  SetCurrentTapeSerial(suspended_ ? suspended_->serial_ : 0);
}

int32_t Tape::NewNode(const Tensor& x, bool watched) {
  nodes_.push_back({x.shape(), x.dtype(), watched});
  return static_cast<int32_t>(nodes_.size()) - 1;
}

void Tape::Watch(Tensor& x) {
  RESIDUAL_CHECK(x.defined() && IsFloat(x.dtype())) << "watching " << x.ToString();
  if (Tracks(x)) {
    nodes_[x.tape_ref().node].watched = true;
  } else {
    x.set_tape_ref({serial_, NewNode(x, true)});
  }
}

Tape* Tape::For(std::initializer_list<const Tensor*> inputs) {
  if (t_current == nullptr) return nullptr;
  for (const Tensor* input : inputs) {
    if (t_current->Tracks(*input)) return t_current;
  }
  return nullptr;
}

void Tape::Record(const char* op, absl::Span<const Tensor* const> inputs,
                  absl::Span<Tensor* const> outputs, Vjp vjp) {
  RESIDUAL_CHECK(!used_) << op << " recorded on a tape whose Backward has run";
  RESIDUAL_CHECK_LE(inputs.size(), 32) << op;
  Entry& entry = entries_.emplace_back();
  entry.op = op;
  for (const Tensor* input : inputs) {
    entry.inputs.push_back(Tracks(*input) ? static_cast<int32_t>(input->tape_ref().node) : -1);
  }
  for (Tensor* output : outputs) {
    const int32_t node = output->defined() ? NewNode(*output, false) : -1;
    if (node >= 0) output->set_tape_ref({serial_, node});
    entry.outputs.push_back(node);
  }
  entry.vjp = std::move(vjp);
}

Gradients Tape::Backward(const Tensor& loss, absl::Span<const Tensor> also) {
  RESIDUAL_CHECK_EQ(loss.elements(), 1) << "Backward of " << loss.ToString();
  Tensor one = Tensor::Full(loss.shape(), 1, loss.dtype());
  if (loss.device() != kCpu) {
    Tensor on_device = Tensor::Uninitialized(loss.shape(), loss.dtype(), loss.device());
    CopyBytes(one, on_device);
    one = on_device;
  }
  return Backward({loss}, {one}, also);
}

Gradients Tape::Backward(absl::Span<const Tensor> outputs, absl::Span<const Tensor> output_grads,
                         absl::Span<const Tensor> also) {
  RESIDUAL_CHECK(!used_) << "Backward ran already: entries are freed as they are used";
  RESIDUAL_CHECK(t_current == this) << "Backward of a tape that is not current";
  RESIDUAL_CHECK_EQ(outputs.size(), output_grads.size());
  used_ = true;
  const NoTape no_tape;  // VJPs are made of ops; theirs is not recorded

  Gradients result;
  result.tape_ = serial_;
  result.kept_.resize(nodes_.size());
  result.grads_.resize(nodes_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) result.kept_[i] = nodes_[i].watched;
  for (const Tensor& x : also) {
    RESIDUAL_CHECK(Tracks(x)) << "a gradient is asked for " << x.ToString()
                              << ", which this tape did not see";
    result.kept_[x.tape_ref().node] = true;
  }

  // One handle per gradient, so a sum can be made in place; a tensor that a VJP returned twice, or
  // that is kept elsewhere, is copied first.
  auto accumulate = [&](const char* op, int32_t node, Tensor grad) {
    RESIDUAL_CHECK(grad.elements() == nodes_[node].shape.elements() &&
                   grad.dtype() == nodes_[node].dtype)
        << op << " returned the gradient " << grad.ToString() << " for an input "
        << Name(nodes_[node].dtype) << nodes_[node].shape;
    Tensor& sum = result.grads_[node];
    if (!sum.defined()) {
      sum = grad.Reshaped(nodes_[node].shape);
      return;
    }
    grad = grad.Reshaped(nodes_[node].shape);
    if (!sum.unique()) {
      if (grad.unique()) {
        std::swap(sum, grad);  // addition commutes, also in floating point
      } else {
        sum = sum.Clone();
      }
    }
    AddInto(sum, grad);
  };
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (Tracks(outputs[i]))
      accumulate("Backward", static_cast<int32_t>(outputs[i].tape_ref().node), output_grads[i]);
  }

  TensorList dy;
  for (size_t e = entries_.size(); e-- > 0;) {
    Entry& entry = entries_[e];
    dy.clear();
    bool reached = false;
    for (int32_t node : entry.outputs) {
      if (node < 0) {
        dy.emplace_back();
        continue;
      }
      // Every use of this output came later in the program, so its gradient is complete.
      Tensor& grad = result.grads_[node];
      reached |= grad.defined();
      dy.push_back(result.kept_[node] ? grad : std::move(grad));
      if (!result.kept_[node]) grad = Tensor();
    }
    if (reached) {
      uint32_t needs = 0;
      for (size_t i = 0; i < entry.inputs.size(); ++i) {
        if (entry.inputs[i] >= 0) needs |= 1u << i;
      }
      TensorList dx = entry.vjp(dy, Needs(needs));
      RESIDUAL_CHECK_EQ(dx.size(), entry.inputs.size()) << "gradients of " << entry.op;
      dy.clear();
      for (size_t i = 0; i < dx.size(); ++i) {
        if (entry.inputs[i] >= 0 && dx[i].defined()) {
          accumulate(entry.op, entry.inputs[i], std::move(dx[i]));
        }
      }
    }
    entry.vjp = nullptr;
  }
  return result;
}

}  // namespace residual
