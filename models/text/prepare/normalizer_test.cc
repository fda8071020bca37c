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

TEST(NormalizerTest, PrependAndReplace) {
  EXPECT_EQ(MakePrepend("_")->Normalize("ab"), "_ab");
  EXPECT_EQ(MakePrepend("_")->Normalize(""), "");
  EXPECT_EQ(MakeReplace(std::string(" "), "\u2581")->Normalize(" a  b"), "\u2581a\u2581\u2581b");
  EXPECT_EQ(MakeReplace(*Regex::Compile(" {2,}"), "_")->Normalize("a  b c   "), "a_b c_");
  EXPECT_EQ(MakeReplace(*Regex::Compile("x"), "yy")->Normalize("no"), "no");
}

TEST(NormalizerTest, Strip) {
  EXPECT_EQ(MakeStrip(true, true)->Normalize("\u3000 a b\n"), "a b");
  EXPECT_EQ(MakeStrip(true, false)->Normalize(" a "), "a ");
  EXPECT_EQ(MakeStrip(false, true)->Normalize(" a "), " a");
  EXPECT_EQ(MakeStrip(false, false)->Normalize(" "), " ");
  EXPECT_EQ(MakeStrip(true, false)->Normalize(" \t"), "");
}

TEST(NormalizerTest, CaseAndAccents) {
  EXPECT_EQ(MakeLowercase()->Normalize("\u00C9t\u00C9\xFF"), "\u00E9t\u00E9\xFF");
  EXPECT_EQ(MakeStripAccents()->Normalize("e\u0301\u00E9\u0903x"), "e\u00E9x");
}

TEST(NormalizerTest, Nmt) {
  EXPECT_EQ(MakeNmt()->Normalize("a\tb\u200Bc\x01"
                                 "d\u2581"),
            "a b cd ");
}

TEST(NormalizerTest, Bert) {
  EXPECT_EQ(MakeBertNormalizer({})->Normalize("\u00C9T\u00C9\t\u4E2Dx\x0B\uFFFD\u3000\u200B!"),
            "ete  \u4E2D x !");
  BertNormalizerOptions cased;
  cased.lowercase = cased.strip_accents = false;
  EXPECT_EQ(MakeBertNormalizer(cased)->Normalize("\u00C9T"), "\u00C9T");
  BertNormalizerOptions nothing = cased;
  nothing.clean_text = nothing.handle_chinese_chars = false;
  EXPECT_EQ(MakeBertNormalizer(nothing)->Normalize("\u4E2D\x0B"), "\u4E2D\x0B");
}

}  // namespace
}  // namespace residual
