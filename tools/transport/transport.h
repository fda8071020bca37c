// Messages between the processes of one program. One function is defined twice, and a program links
// one of the two: `:alone` is a single process, `:mpi` those that mpirun started.

#ifndef RESIDUAL_TOOLS_TRANSPORT_TRANSPORT_H_
#define RESIDUAL_TOOLS_TRANSPORT_TRANSPORT_H_

#include <memory>
#include <optional>
#include <string>

namespace residual {

struct Message {
  int from = 0;
  std::string bytes;
};

// Of the thread that started it.
class Transport {
 public:
  virtual ~Transport() = default;  // after all that was sent has arrived
  // This process is number `rank` of `count`.
  virtual int rank() const = 0;
  virtual int count() const = 0;
  // Returns at once. Messages from one process to another arrive in their order, while both call
  // Receive now and then.
  virtual void Send(int to, std::string bytes) = 0;
  // A message to this process; none if there is none yet and `wait` is false.
  virtual std::optional<Message> Receive(bool wait) = 0;
};

// Once, first thing in main.
std::unique_ptr<Transport> StartTransport(int* argc, char*** argv);

}  // namespace residual

#endif  // RESIDUAL_TOOLS_TRANSPORT_TRANSPORT_H_
