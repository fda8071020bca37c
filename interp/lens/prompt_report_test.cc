#include "interp/lens/prompt_report.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "interp/testing/golden.h"

namespace residual {
namespace {

size_t Count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(PromptReportTest, SaysWhatWasFound) {
  const auto model = GoldenModel();
  PromptOptions options;
  const TunedLens lens(2, 24);
  options.tuned_lens = &lens;
  const PromptStudy study = *StudyPrompt(*model, {5, 6, 7, 8, 9}, options);
  PromptPage page;
  page.model = "small <model>";
  page.token_text = [](int64_t id) { return absl::StrCat(id == 6 ? " " : "", "<t", id, ">"); };
  page.logit_lens_kl = {1.5, 0.5};
  page.tuned_lens_kl = {0.75, 0.25};
  const std::string html = PromptReport(study, page).ToString();
  EXPECT_TRUE(absl::StrContains(html, "small &lt;model&gt;"));
  EXPECT_FALSE(absl::StrContains(html, "<t5>"));
  EXPECT_TRUE(absl::StrContains(html, "<code>␣&lt;t6&gt;</code>"));
  EXPECT_EQ(Count(html, "<figure class=\"tokens\""), 1);
  EXPECT_EQ(Count(html, "<figure class=\"plot"), 2);
  EXPECT_EQ(Count(html, "<figure class=\"table\""), 3);  // both lenses and the heads
  EXPECT_TRUE(absl::StrContains(html, "is 0.50 nats, 1.00 without the maps"));
  EXPECT_TRUE(absl::StrContains(html, absl::StrCat("the logit of <code>&lt;t", study.answer)));
  for (const char* name : {"L0H0", "L1H2", "0_pre", "final_post", "0_attn_out", "bias"}) {
    EXPECT_TRUE(absl::StrContains(html, name)) << name;
  }
}

// What the page of a state space has besides; of made-up findings.
TEST(PromptReportTest, SaysWhatAMemoryKeeps) {
  const auto model = GoldenModel();
  PromptStudy study = *StudyPrompt(*model, {5, 6});
  study.has_channels = true;
  study.patterns[0].name = "L0C17";
  PromptMemory memory;
  memory.name = "L1";
  memory.n_units = 40;
  memory.step = {0.25, 1.75};
  memory.kept_median = {0.99, 0.5};
  memory.kept_low = {0.9, 0.02};
  memory.length_low = 2.5;
  memory.length_median = 17;
  memory.length_high = 3e7;
  study.memories = {memory};
  PromptPage page;
  page.token_text = [](int64_t id) { return absl::StrCat("t", id); };
  const std::string html = PromptReport(study, page).ToString();
  for (const char* part : {"Where information comes from", "What the memory keeps", "L0C17", "1.8",
                           "2.5", "17", "over a million", "2.0 %"}) {
    EXPECT_TRUE(absl::StrContains(html, part)) << part;
  }
  EXPECT_FALSE(absl::StrContains(html, "Where heads look"));
  EXPECT_EQ(Count(html, "<figure class=\"table\""), 4);  // the lens, the heads, and two more
}

}  // namespace
}  // namespace residual
