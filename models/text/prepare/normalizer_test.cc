#include "models/text/prepare/normalizer.h"

#include <utility>

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(NormalizerTest, NormalForms) {
  const auto nfc = MakeNormalForm(NormalForm::kC), nfd = MakeNormalForm(NormalForm::kD);
  const auto nfkc = MakeNormalForm(NormalForm::kKC), nfkd = MakeNormalForm(NormalForm::kKD);
  EXPECT_EQ(nfc->Normalize("plain ASCII\n"), "plain ASCII\n");
  EXPECT_EQ(nfc->Normalize(""), "");
  // A mark joins the ASCII letter before it.
  EXPECT_EQ(nfc->Normalize("cafe\u0301s"), "caf\u00E9s");
  EXPECT_EQ(nfc->Normalize("\u0301e"), "\u0301e");
  EXPECT_EQ(nfd->Normalize("caf\u00E9"), "cafe\u0301");
  EXPECT_EQ(nfc->Normalize("\u1112\u1161\u11AB"), "\uD55C");  // Hangul
  EXPECT_EQ(nfd->Normalize("\uD55C"), "\u1112\u1161\u11AB");
  // Marks are put in canonical order.
  EXPECT_EQ(nfd->Normalize("a\u0301\u0323b"), "a\u0323\u0301b");
  EXPECT_EQ(nfc->Normalize("\uFB01 \u00B2"), "\uFB01 \u00B2");
  EXPECT_EQ(nfkc->Normalize("\uFB01 \u00B2"), "fi 2");
  EXPECT_EQ(nfkd->Normalize("\uFB01\u00E9"), "fie\u0301");
}

TEST(NormalizerTest, KeepsBytesThatAreNoUtf8) {
  const auto nfc = MakeNormalForm(NormalForm::kC);
  EXPECT_EQ(nfc->Normalize("e\u0301\xFF"
                           "e\u0301\xE2\x82"),
            "\u00E9\xFF\u00E9\xE2\x82");
  EXPECT_EQ(nfc->Normalize("\xFF\xFF"), "\xFF\xFF");
}

TEST(NormalizerTest, SequenceGoesInOrder) {
  std::vector<std::unique_ptr<Normalizer>> both;
  both.push_back(MakeNormalForm(NormalForm::kKD));
  both.push_back(MakeNormalForm(NormalForm::kC));
  EXPECT_EQ(MakeNormalizerSequence(std::move(both))->Normalize("\uFB01e\u0301"), "fi\u00E9");
}

}  // namespace
}  // namespace residual
