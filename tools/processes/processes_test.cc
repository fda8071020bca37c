#include "tools/processes/processes.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tools/cli/command_line.h"

namespace residual {
namespace {

// Processes that are threads.
class Hub {
 public:
  explicit Hub(int count) : inboxes_(count) {}

  class Member : public Transport {
   public:
    Member(Hub& hub, int rank) : hub_(hub), rank_(rank) {}
    int rank() const override { return rank_; }
    int count() const override { return static_cast<int>(hub_.inboxes_.size()); }
    void Send(int to, std::string bytes) override {
      std::lock_guard<std::mutex> lock(hub_.mutex_);
      hub_.inboxes_[to].push_back({rank_, std::move(bytes)});
      hub_.arrived_.notify_all();
    }
    std::optional<Message> Receive(bool wait) override {
      std::unique_lock<std::mutex> lock(hub_.mutex_);
      std::deque<Message>& inbox = hub_.inboxes_[rank_];
      if (wait) hub_.arrived_.wait(lock, [&] { return !inbox.empty(); });
      if (inbox.empty()) return std::nullopt;
      Message message = std::move(inbox.front());
      inbox.pop_front();
      return message;
    }

   private:
    Hub& hub_;
    int rank_;
  };

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<std::deque<Message>> inboxes_;
};

struct Ended {
  std::vector<absl::Status> joined;  // what Join returned, by rank
  std::vector<int64_t> ran, taken;   // units, in order, of all processes
  std::vector<int> by;               // the process that ran each
};

struct Plan {
  int count = 3;
  int64_t units = 10;
  std::function<absl::Status(int rank)> before = [](int) { return absl::OkStatus(); };
  std::function<Journal::Subject(int rank)> subject = [](int) { return Journal::Subject(); };
  std::function<absl::Status(int rank, int64_t unit)> run = [](int, int64_t) {
    return absl::OkStatus();
  };
  std::function<absl::Status(int64_t unit)> take = [](int64_t) { return absl::OkStatus(); };
};

Ended RunAll(const Plan& plan) {
  Hub hub(plan.count);
  Ended ended;
  ended.joined.resize(plan.count);
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < plan.count; ++rank) {
    threads.emplace_back([&, rank] {
      Processes processes(std::make_unique<Hub::Member>(hub, rank));
      EXPECT_EQ(processes.first(), rank == 0);
      EXPECT_EQ(processes.count(), plan.count);
      absl::Status status = plan.before(rank);
      if (status.ok()) {
        UnitWork work;
        work.subject = plan.subject(rank);
        work.units.resize(plan.units);
        std::iota(work.units.begin(), work.units.end(), 0);
        work.run = [&, rank](int64_t unit) -> absl::StatusOr<std::string> {
          processes.Poll();
          if (const absl::Status ran = plan.run(rank, unit); !ran.ok()) return ran;
          std::lock_guard<std::mutex> lock(mutex);
          ended.ran.push_back(unit);
          ended.by.push_back(rank);
          return absl::StrCat("result of ", unit, std::string(unit, '\0'));
        };
        work.take = [&, rank](int64_t unit, const std::string& result) {
          EXPECT_EQ(rank, 0);
          EXPECT_EQ(result, absl::StrCat("result of ", unit, std::string(unit, '\0')));
          ended.taken.push_back(unit);
          return plan.take(unit);
        };
        status = processes.Run(std::move(work));
        if (rank == 0 && status.ok()) {
          EXPECT_EQ(ended.taken.size(), plan.units);
        }
      }
      ended.joined[rank] = processes.Join(status);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return ended;
}

TEST(ProcessesTest, EveryUnitIsRunAndTakenOnce) {
  for (const int count : {1, 2, 3, 7}) {
    for (const int64_t units : {0, 1, 2, 5, 100}) {
      Plan plan;
      plan.count = count;
      plan.units = units;
      Ended ended = RunAll(plan);
      for (const absl::Status& joined : ended.joined) EXPECT_TRUE(joined.ok()) << joined;
      std::sort(ended.ran.begin(), ended.ran.end());
      std::sort(ended.taken.begin(), ended.taken.end());
      std::vector<int64_t> all(units);
      std::iota(all.begin(), all.end(), 0);
      EXPECT_EQ(ended.ran, all) << count;
      EXPECT_EQ(ended.taken, all) << count;
    }
  }
}

TEST(ProcessesTest, WhoIsFasterDoesMore) {
  Plan plan;
  plan.units = 60;
  plan.run = [](int rank, int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(rank == 1 ? 60 : 3));
    return absl::OkStatus();
  };
  const Ended ended = RunAll(plan);
  EXPECT_EQ(ended.taken.size(), 60);
  EXPECT_LT(std::count(ended.by.begin(), ended.by.end(), 1), 10);
  EXPECT_GT(std::count(ended.by.begin(), ended.by.end(), 2), 10);
  EXPECT_GT(std::count(ended.by.begin(), ended.by.end(), 0), 10);
  EXPECT_LT(ended.ran[0], 5) << "those listed first are run first";
}

TEST(ProcessesTest, WhatFailsAnywhereIsSaidOnce) {
  const auto failing = [](const Plan& plan, const absl::Status& want) {
    const Ended ended = RunAll(plan);
    EXPECT_EQ(ended.joined[0], want) << ended.joined[0];
    for (int rank = 1; rank < plan.count; ++rank) EXPECT_EQ(ended.joined[rank].message(), "");
    return ended;
  };
  Plan unit;
  unit.units = 1000;
  unit.run = [](int rank, int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return rank == 2 ? absl::DataLossError("a NaN") : absl::OkStatus();
  };
  Ended ended = failing(unit, absl::DataLossError("process 2: a NaN"));
  EXPECT_TRUE(absl::IsDataLoss(ended.joined[2]));
  EXPECT_LT(ended.ran.size(), 1000) << "the others do not go on";

  Plan early;
  early.before = [](int rank) {
    return rank == 1 ? absl::NotFoundError("no model") : absl::OkStatus();
  };
  failing(early, absl::NotFoundError("process 1: no model"));
  early.before = [](int rank) {
    return rank == 0 ? absl::NotFoundError("no model") : absl::OkStatus();
  };
  failing(early, absl::NotFoundError("no model"));
  early.before = [](int rank) { return absl::NotFoundError(absl::StrCat("of ", rank)); };
  failing(early, absl::NotFoundError("of 0"));
  early.before = [](int rank) { return rank == 2 ? UsageError("--x") : absl::OkStatus(); };
  ended = failing(early, UsageError("process 2: --x"));
  EXPECT_TRUE(IsUsageError(ended.joined[0]));
  EXPECT_TRUE(IsUsageError(ended.joined[2]));

  Plan full;
  full.take = [](int64_t unit) {
    return unit == 4 ? absl::ResourceExhaustedError("disk full") : absl::OkStatus();
  };
  failing(full, absl::ResourceExhaustedError("disk full"));
}

TEST(ProcessesTest, AllDoTheSameOrNothing) {
  Plan plan;
  plan.units = 1000;
  plan.subject = [](int rank) {
    return Journal::Subject{{"by", "head"}, {"kind", rank == 1 ? "q" : "z"}};
  };
  plan.run = [](int, int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return absl::OkStatus();
  };
  const Ended ended = RunAll(plan);
  EXPECT_EQ(ended.joined[0].message(),
            "process 1 does not do the same as process 0: 'kind' is \"q\" there and \"z\" here");
  EXPECT_EQ(std::count(ended.by.begin(), ended.by.end(), 1), 0);
}

TEST(ProcessesTest, OneProcessNeedsNoOther) {
  Processes processes(StartTransport(nullptr, nullptr));
  EXPECT_TRUE(processes.first());
  EXPECT_EQ(processes.count(), 1);
  UnitWork work;
  work.units = {2, 0};
  std::vector<int64_t> taken;
  work.run = [](int64_t unit) { return std::string(unit, 'x'); };
  work.take = [&](int64_t unit, const std::string& result) {
    EXPECT_EQ(result, std::string(unit, 'x'));
    taken.push_back(unit);
    return absl::OkStatus();
  };
  EXPECT_TRUE(processes.Run(std::move(work)).ok());
  EXPECT_EQ(taken, (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(processes.Join(UsageError("--x")), UsageError("--x"));
}

}  // namespace
}  // namespace residual
