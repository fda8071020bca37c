#include "tools/units/unit_flags.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "interp/testing/counting_model.h"
#include "tensor/io/file.h"

namespace residual {
namespace {

// Seven items in three units; item i gives i / 3 and -i, and item 3 is in no unit.
ItemUnits Work(std::vector<std::vector<double>>* values, std::vector<int64_t>* ran) {
  values->assign(7, {});
  ItemUnits work;
  work.subject = {{"kind", "z"}};
  work.units = {{6, 0}, {1, 2, 5}, {4}};
  work.numbers = 2;
  work.run =
      [ran](const std::vector<int64_t>& unit) -> absl::StatusOr<std::vector<std::vector<double>>> {
    std::vector<std::vector<double>> of_unit;
    for (const int64_t item : unit) {
      ran->push_back(item);
      of_unit.push_back({static_cast<double>(item) / 3, static_cast<double>(-item)});
    }
    return of_unit;
  };
  work.take = [values](int64_t item, std::vector<double> of_item) {
    EXPECT_TRUE((*values)[item].empty()) << item << " was taken";
    (*values)[item] = std::move(of_item);
  };
  return work;
}

struct Outcome {
  int code = 0;
  std::string error;
  bool given = false;
  UnitCounts counts;
  std::vector<std::vector<double>> values;
  std::vector<int64_t> ran;
};

Outcome RunTool(
    std::vector<std::string> arguments,
    const std::function<void(ItemUnits&)>& change = [](ItemUnits&) {}) {
  Outcome outcome;
  Processes processes(StartTransport(nullptr, nullptr));
  CommandLine cli("demo", "Shows flags.", "");
  UnitFlags flags(cli, processes);
  arguments.insert(arguments.begin(), "demo");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  testing::internal::CaptureStderr();
  outcome.code = cli.Run(static_cast<int>(argv.size()), argv.data(), [&]() -> absl::Status {
    outcome.given = flags.given();
    ItemUnits work = Work(&outcome.values, &outcome.ran);
    change(work);
    const auto counts = flags.Run(std::move(work));
    if (counts.ok()) outcome.counts = *counts;
    return counts.status();
  });
  outcome.error = testing::internal::GetCapturedStderr();
  return outcome;
}

std::string Fresh(const std::string& name) {
  const std::string path = testing::TempDir() + "/" + name;
  unlink(path.c_str());
  return path;
}

TEST(UnitFlagsTest, WithoutAJournalAllIsRun) {
  const Outcome outcome = RunTool({});
  EXPECT_EQ(outcome.error, "");
  EXPECT_FALSE(outcome.given);
  EXPECT_EQ(outcome.ran, (std::vector<int64_t>{6, 0, 1, 2, 5, 4}));
  EXPECT_EQ(outcome.values[5], (std::vector<double>{5.0 / 3, -5}));
  EXPECT_TRUE(outcome.values[3].empty());
  EXPECT_EQ(outcome.counts.all, 3);
  EXPECT_EQ(outcome.counts.found, 0);
}

TEST(UnitFlagsTest, AJournalIsGoneOnFrom) {
  const std::string path = Fresh("units");
  // The second unit fails, as if it were killed in it.
  const Outcome killed = RunTool({"--journal=" + path}, [](ItemUnits& work) {
    work.run =
        [run = work.run](
            const std::vector<int64_t>& unit) -> absl::StatusOr<std::vector<std::vector<double>>> {
      if (unit.size() == 3) return absl::AbortedError("killed");
      return run(unit);
    };
  });
  EXPECT_EQ(killed.error, "demo: killed\n");
  EXPECT_TRUE(killed.given);
  const Outcome again = RunTool({"--journal=" + path}), straight = RunTool({});
  EXPECT_EQ(again.error, "");
  EXPECT_EQ(again.ran, (std::vector<int64_t>{1, 2, 5, 4}));
  EXPECT_EQ(again.values, straight.values);
  EXPECT_EQ(again.counts.found, 1);
  // One that is whole gives the same without a run.
  const Outcome whole = RunTool({"--journal=" + path});
  EXPECT_TRUE(whole.ran.empty());
  EXPECT_EQ(whole.values, straight.values);
  EXPECT_EQ(whole.counts.found, 3);
}

TEST(UnitFlagsTest, WhatIsWrongIsNamed) {
  const std::string path = Fresh("wrong");
  RunTool({"--journal=" + path});
  const auto fails = [&](const std::function<void(ItemUnits&)>& change, const std::string& part) {
    const Outcome outcome = RunTool({"--journal=" + path}, change);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_NE(outcome.error.find(part), std::string::npos) << outcome.error;
    EXPECT_TRUE(outcome.ran.empty());
  };
  fails([](ItemUnits& work) { work.subject["kind"] = "q"; },
        "'kind' is \"z\" there and \"q\" here");
  fails([](ItemUnits& work) { work.units = {{6, 0}, {1, 2}, {5, 4}}; }, "'units' is \"3, crc32 ");
  EXPECT_NE(RunTool({"--journal="}).error.find("--journal is empty"), std::string::npos);

  // Records that are whole and of something else.
  const std::string odd = Fresh("odd");
  RunTool({"--journal=" + odd}, [](ItemUnits& work) {
    work.run = [](const std::vector<int64_t>&) { return absl::AbortedError("killed"); };
  });
  const std::string begun = *ReadFile(odd), whole = *ReadFile(path);
  ASSERT_EQ(whole.substr(0, begun.size()), begun);
  const size_t first = 8 + 8 + 4 * 8;  // a frame of the first unit: head, number, four values
  ASSERT_TRUE(WriteFileAtomically(path, whole + whole.substr(begun.size(), first)).ok());
  fails([](ItemUnits&) {}, "record 3 is of no unit, or of one that was there before");
  ASSERT_TRUE(WriteFileAtomically(path, whole).ok());
  fails([](ItemUnits& work) { work.numbers = 3; }, "record 0 is of no unit");
}

TEST(UnitFlagsTest, Digests) {
  EXPECT_EQ(Digest("3,17"), "3,17");
  const std::string ids(100, '7'), others = ids.substr(1) + "8";
  EXPECT_EQ(Digest(ids).substr(0, 56), ids.substr(0, 40) + ".. (100 bytes, c");
  EXPECT_NE(Digest(ids), Digest(others));
  EXPECT_EQ(Digest(Tensor()), "none");
  EXPECT_NE(Digest(Tensor::Of<int64_t>({2}, {1, 2})), Digest(Tensor::Of<int64_t>({2}, {1, 3})));
  EXPECT_NE(Digest(Tensor::Of<int64_t>({2}, {1, 2})), Digest(Tensor::Of<int64_t>({1, 2}, {1, 2})));
}

TEST(UnitFlagsTest, AModelIsKnownByConfigAndWeights) {
  Processes processes(StartTransport(nullptr, nullptr));
  CommandLine cli("demo", "Shows flags.", "");
  UnitFlags flags(cli, processes);
  std::vector<int> counts;
  LoadedModel loaded;
  loaded.model = CountingModel(1, &counts);
  EXPECT_TRUE(flags.ModelSubject(loaded).empty()) << "it takes time, and nobody asks";
  const std::string journal = "--journal=" + Fresh("model");
  char* argv[] = {const_cast<char*>("demo"), const_cast<char*>(journal.c_str())};
  EXPECT_EQ(cli.Run(2, argv, [] { return absl::OkStatus(); }), 0);
  const Journal::Subject subject = flags.ModelSubject(loaded);
  EXPECT_EQ(flags.ModelSubject(loaded), subject);
  loaded.config["activation_function"] = "relu";
  EXPECT_NE(flags.ModelSubject(loaded).at("config"), subject.at("config"));
  EXPECT_EQ(flags.ModelSubject(loaded).at("model"), subject.at("model"));
}

}  // namespace
}  // namespace residual
