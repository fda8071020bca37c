#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <list>
#include <set>
#include <thread>
#include <utility>

#include "tensor/base/check.h"
#include "tensor/base/parallel.h"
#include "tools/transport/transport.h"

namespace residual {
namespace {

constexpr int kTag = 0;
constexpr std::chrono::microseconds kPause{100};

// A message under way; its bytes and request stay where they are until it is done.
struct Transfer {
  int peer = 0;
  std::string bytes;
  MPI_Request request = MPI_REQUEST_NULL;

  bool Done() {
    int done;
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    return done != 0;
  }
};

// Nothing here blocks within MPI. What is too long to be sent ahead moves only while both sides
// call MPI, and one that computes does so between two products: the other side goes on meanwhile.
// A process that waits sleeps, where MPI_Recv would take a processor from those that compute.
// An error of MPI ends all processes, as is its default.
class Mpi : public Transport {
 public:
  Mpi(int* argc, char*** argv) {
    int threads;  // only this one calls MPI
    MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &threads);
    RESIDUAL_CHECK(threads >= MPI_THREAD_FUNNELED) << "MPI without threads: " << threads;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &count_);
    // Process 0 speaks for all.
    if (rank_ > 0 && std::freopen("/dev/null", "w", stdout) == nullptr) std::abort();
    // A machine's processors are divided among its processes, where mpirun has not done so.
    MPI_Comm machine;
    int here;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &here);
    MPI_Comm_free(&machine);
    if (std::getenv("RESIDUAL_THREADS") == nullptr) {
      const int share = static_cast<int>(std::thread::hardware_concurrency()) / here;
      SetNumThreads(std::clamp(share, 1, NumThreads()));
    }
  }

  ~Mpi() override {
    for (Transfer& transfer : sending_) MPI_Wait(&transfer.request, MPI_STATUS_IGNORE);
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int count() const override { return count_; }

  void Send(int to, std::string bytes) override {
    RESIDUAL_CHECK(bytes.size() <= std::numeric_limits<int>::max()) << bytes.size();
    Transfer& transfer = sending_.emplace_back();
    transfer.peer = to;
    transfer.bytes = std::move(bytes);
    MPI_Isend(transfer.bytes.data(), static_cast<int>(transfer.bytes.size()), MPI_BYTE, to, kTag,
              MPI_COMM_WORLD, &transfer.request);
  }

  std::optional<Message> Receive(bool wait) override {
    for (;; std::this_thread::sleep_for(kPause)) {
      sending_.remove_if([](Transfer& transfer) { return transfer.Done(); });
      while (BeginToReceive()) {
      }
      std::set<int> late;  // whose earlier message is under way
      for (auto it = arriving_.begin(); it != arriving_.end(); ++it) {
        if (late.count(it->peer) > 0) continue;
        if (it->Done()) {
          Message message{it->peer, std::move(it->bytes)};
          arriving_.erase(it);
          return message;
        }
        late.insert(it->peer);
      }
      if (!wait) return std::nullopt;
    }
  }

 private:
  // False if no more has come.
  bool BeginToReceive() {
    int found, size;
    MPI_Message message;
    MPI_Status status;
    MPI_Improbe(MPI_ANY_SOURCE, kTag, MPI_COMM_WORLD, &found, &message, &status);
    if (!found) return false;
    MPI_Get_count(&status, MPI_BYTE, &size);
    Transfer& transfer = arriving_.emplace_back();
    transfer.peer = status.MPI_SOURCE;
    transfer.bytes.resize(size);
    MPI_Imrecv(transfer.bytes.data(), size, MPI_BYTE, &message, &transfer.request);
    return true;
  }

  int rank_ = 0, count_ = 1;
  std::list<Transfer> sending_, arriving_;
};

}  // namespace

std::unique_ptr<Transport> StartTransport(int* argc, char*** argv) {
  return std::make_unique<Mpi>(argc, argv);
}

}  // namespace residual
