#include "tools/memory/memory_page.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(MemoryPageTest, TellsWhatWasFound) {
  MemoryFindings found;
  found.name = "<beep>.wav";
  found.signal = ExampleSignal(40);
  found.measure = HippoMeasure::kLegT;
  found.n = 6;
  found.over_time = Remember(found.measure, 6, found.signal, {1, 20, 30, 40}, 40);
  found.over_time.back().error = 0.123;
  found.sizes = {2, 6};
  found.curves = {{HippoMeasure::kLegS, {0.9, 0.4321}}, {HippoMeasure::kRandom, {1, 2.5}}};
  found.at_end = {found.over_time.back(), found.over_time.back()};
  const std::string page = MemoryPage(found).ToString();
  for (const char* part : {"&lt;beep&gt;.wav", "12.3%", "43.2%", "250.0%", "N = 6", "after 20",
                           "Legendre, a window", "a random system"}) {
    EXPECT_TRUE(absl::StrContains(page, part)) << part;
  }
  EXPECT_FALSE(absl::StrContains(page, "<beep>"));
  // Three moments, the error over time, the errors by size, and a plot for each of two bases.
  size_t plots = 0;
  for (size_t at = 0; (at = page.find("<figure class=\"plot", at)) != std::string::npos; ++at) {
    ++plots;
  }
  EXPECT_EQ(plots, 7u);
  EXPECT_TRUE(absl::StrContains(page, "a random system: 12.3%"));
}

TEST(MemoryPageDeathTest, EverySizeHasAnError) {
  MemoryFindings found;
  EXPECT_DEATH(MemoryPage(found), "over_time");
  found.signal = {1};
  found.over_time = Remember(HippoMeasure::kLegS, 1, found.signal, {1}, 1);
  found.at_end = found.over_time;
  found.sizes = {1};
  found.curves = {{HippoMeasure::kLegS, {}}};
  EXPECT_DEATH(MemoryPage(found), "0 against 1");
}

}  // namespace
}  // namespace residual
