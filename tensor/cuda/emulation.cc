#include "tensor/cuda/emulation.h"

#include <ucontext.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "tensor/base/check.h"
#include "tensor/core/cuda_hooks.h"
#include "tensor/cuda/tensor_kernels.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define __sanitizer_start_switch_fiber(save, bottom, size) ((void)(save))
#define __sanitizer_finish_switch_fiber(save, bottom, size) ((void)(save))
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace residual {
namespace emulation {
namespace {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 64 << 10;

enum class State { kReady, kAtWarpBarrier, kAtBlockBarrier, kDone };

// One thread of the block: a stack of its own, kept from block to block.
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  State state = State::kDone;
  bool started = false;
};

class Block {
 public:
  void Run(dim3 grid, dim3 block, const std::function<void()>& thread) {
    RESIDUAL_CHECK(running_ == nullptr) << "a kernel launched from a kernel";
    const unsigned size = block.x * block.y * block.z;
    RESIDUAL_CHECK(1 <= size && size <= 1024 && grid.x >= 1 && grid.y >= 1 && grid.z >= 1)
        << "CUDA launches no grid of " << grid.x << " x " << grid.y << " x " << grid.z
        << " blocks of " << size << " threads";
    thread_ = &thread;
    gridDim = grid;
    blockDim = block;
    backwards_ = !backwards_;
    while (fibers_.size() < size) fibers_.push_back(std::make_unique<Fiber>());
    mailbox_.assign((size + kWarp - 1) / kWarp * kWarp, 0);
    for (unsigned z = 0; z < grid.z; ++z) {
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx = dim3(x, y, z);
          RunBlock(size);
        }
      }
    }
  }

  void Wait(State state) {
    running_->state = state;
    Leave();
  }

  unsigned thread_in_block() const { return index_; }
  uint64_t* mailbox() { return mailbox_.data(); }

 private:
  void RunBlock(unsigned size) {
    for (unsigned i = 0; i < size; ++i) fibers_[i]->state = State::kReady;
    while (true) {
      for (unsigned i = 0; i < size; ++i) {
        const unsigned index = backwards_ ? size - 1 - i : i;
        if (fibers_[index]->state == State::kReady) Enter(index);
      }
      unsigned done = 0, at_block_barrier = 0, released = 0;
      for (unsigned first = 0; first < size; first += kWarp) {
        unsigned at_warp_barrier = 0;
        for (unsigned i = first; i < first + kWarp && i < size; ++i) {
          done += fibers_[i]->state == State::kDone;
          at_block_barrier += fibers_[i]->state == State::kAtBlockBarrier;
          at_warp_barrier += fibers_[i]->state == State::kAtWarpBarrier;
        }
        if (at_warp_barrier == kWarp) {
          for (unsigned i = first; i < first + kWarp; ++i) fibers_[i]->state = State::kReady;
          released += kWarp;
        }
      }
      if (done == size) return;
      if (at_block_barrier == size) {
        for (unsigned i = 0; i < size; ++i) fibers_[i]->state = State::kReady;
        released = size;
      }
      RESIDUAL_CHECK(released > 0)
          << "threads of a block wait at different barriers: of " << size << ", "
          << at_block_barrier << " are at __syncthreads() and " << done << " have returned. ";
    }
  }

  // Into a fiber, until it waits or returns.
  void Enter(unsigned index) {
    Fiber& fiber = *fibers_[index];
    running_ = &fiber;
    index_ = index;
    threadIdx = dim3(index % blockDim.x, index / blockDim.x % blockDim.y,
                     index / (blockDim.x * blockDim.y));
    if (!fiber.started) {
      fiber.started = true;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, Body, 0);
    }
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, fiber.stack.get(), kStack);
    swapcontext(&scheduler_, &fiber.context);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
    running_ = nullptr;
  }

  // Back to the scheduler.
  void Leave() {
    Fiber& fiber = *running_;
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, scheduler_stack_, scheduler_stack_size_);
    swapcontext(&fiber.context, &scheduler_);
    __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack_, &scheduler_stack_size_);
  }

  // A fiber runs one thread after the other: the same one of the next block.
  static void Body();

  const std::function<void()>* thread_ = nullptr;
  Fiber* running_ = nullptr;
  unsigned index_ = 0;
  bool backwards_ = true;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<uint64_t> mailbox_;
  ucontext_t scheduler_;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_size_ = 0;
};

Block& TheBlock() {
  static Block* block = new Block;
  return *block;
}

void Block::Body() {
  Block& block = TheBlock();
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack_, &block.scheduler_stack_size_);
  while (true) {
    (*block.thread_)();
    block.Wait(State::kDone);
  }
}

// Device memory: the host's, with guard bytes on both sides.
constexpr size_t kGuard = 64;
constexpr unsigned char kGuardByte = 0xC5;

void Release(Storage* storage) {
  auto* data = static_cast<unsigned char*>(storage->data());
  ASAN_UNPOISON_MEMORY_REGION(data - kGuard, kGuard);
  ASAN_UNPOISON_MEMORY_REGION(data + storage->bytes(), kGuard);
  for (size_t i = 0; i < kGuard; ++i) {
    RESIDUAL_CHECK(data[-1 - static_cast<int64_t>(i)] == kGuardByte &&
                   data[storage->bytes() + i] == kGuardByte)
        << "a kernel wrote " << i + 1 << " byte(s) outside a tensor of " << storage->bytes()
        << " bytes. ";
  }
  std::free(data - kGuard);
  delete storage;
}

StorageRef Allocate(size_t bytes) {
  auto* block = static_cast<unsigned char*>(std::malloc(bytes + 2 * kGuard));
  RESIDUAL_CHECK(block != nullptr) << bytes;
  std::memset(block, kGuardByte, kGuard);
  std::memset(block + kGuard, 0xff, bytes);  // a NaN in every float format
  std::memset(block + kGuard + bytes, kGuardByte, kGuard);
  ASAN_POISON_MEMORY_REGION(block, kGuard);
  ASAN_POISON_MEMORY_REGION(block + kGuard + bytes, kGuard);
  return StorageRef(new Storage(block + kGuard, bytes, kCuda, Release));
}

const bool kStarted = [] {
  SetCudaHooks({Allocate,
                [](void* to, Device, const void* from, Device, size_t bytes) {
                  if (bytes > 0) std::memcpy(to, from, bytes);
                },
                [](Tensor& a, const Tensor& b) {
                  AddIntoCuda(a.dtype(), a.mutable_raw_data(), b.raw_data(), a.elements());
                },
                [](const Tensor& x, Tensor& to) {
                  ConvertCuda(x.dtype(), x.raw_data(), to.dtype(), to.mutable_raw_data(),
                              x.elements());
                }});
  return true;
}();

}  // namespace

void SyncWarp() { TheBlock().Wait(State::kAtWarpBarrier); }
uint64_t* Mailbox() { return TheBlock().mailbox(); }
unsigned ThreadInBlock() { return TheBlock().thread_in_block(); }

void Run(dim3 grid, dim3 block, const std::function<void()>& thread) {
  TheBlock().Run(grid, block, thread);
}

}  // namespace emulation
}  // namespace residual

void __syncthreads() {
  residual::emulation::TheBlock().Wait(residual::emulation::State::kAtBlockBarrier);
}
