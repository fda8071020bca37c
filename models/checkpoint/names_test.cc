#include "models/checkpoint/names.h"

#include <map>
#include <string>

#include "gtest/gtest.h"
#include "models/nn/module.h"
#include "tensor/testing/op_case.h"

namespace residual {
namespace {

constexpr int kModel = 6, kHeads = 2, kHead = 3, kLayers = 2;

class Block : public Module {
 public:
  void Describe(Visitor& v) override {
    v.Param("W_Q", W_Q, {kModel, kHeads, kHead}, Init::Normal(1), ParamOptions::HeadsFirst());
    v.Param("W_K", W_K, {kModel, kHeads, kHead}, Init::Normal(1), ParamOptions::HeadsFirst());
    v.Param("b_Q", b_Q, {kHeads, kHead}, Init::Normal(1));
    v.Param("b_K", b_K, {kHeads, kHead}, Init::Normal(1));
    v.Param("W_O", W_O, {kHeads, kHead, kModel}, Init::Normal(1));
    v.Param("w", w, {kModel}, Init::Ones());
  }
  Tensor W_Q, W_K, b_Q, b_K, W_O, w;
};

class Tree : public Module {
 public:
  void Describe(Visitor& v) override {
    for (int i = 0; i < kLayers; ++i) v.Child("blocks", i, blocks[i]);
  }
  Block blocks[kLayers];
};

constexpr NameRule kJoined[] = {
    {"W_Q", "h.#.qk.weight", TensorLayout::kColumns, 0, 2},
    {"W_K", "h.#.qk.weight", TensorLayout::kColumns, 1, 2},
    {"b_Q", "h.#.qk.bias", TensorLayout::kColumns, 0, 2},
    {"b_K", "h.#.qk.bias", TensorLayout::kColumns, 1, 2},
    {"W_O", "h.#.out.weight"},
    {"w", "h.#.w"},
};
constexpr NameRule kLinear[] = {
    {"W_Q", "h.#.q.weight", TensorLayout::kTransposed},
    {"W_K", "h.#.k.weight", TensorLayout::kTransposed},
    {"b_Q", "h.#.q.bias"},
    {"b_K", "h.#.k.bias"},
    {"W_O", "h.#.o.weight", TensorLayout::kTransposed},
    {"w", "h.#.w"},
};
constexpr NameRule kStacked[] = {
    {"W_Q", "W_Q", TensorLayout::kLayer}, {"W_K", "W_K", TensorLayout::kLayer},
    {"b_Q", "b_Q", TensorLayout::kLayer}, {"b_K", "b_K", TensorLayout::kLayer},
    {"W_O", "W_O", TensorLayout::kLayer}, {"w", "blocks.#.w", TensorLayout::kDisk},
};

constexpr NameRule kHeadByHead[] = {
    {"W_Q", "h.#.qk.weight", TensorLayout::kHeadParts, 0, 2},
    {"W_K", "h.#.qk.weight", TensorLayout::kHeadParts, 1, 2},
    {"b_Q", "h.#.qk.bias", TensorLayout::kHeadParts, 0, 2},
    {"b_K", "h.#.qk.bias", TensorLayout::kHeadParts, 1, 2},
    {"W_O", "h.#.out.weight"},
    {"w", "h.#.w"},
};

using Rules = absl::Span<const NameRule>;

class NamesTest : public testing::TestWithParam<Rules> {};
INSTANTIATE_TEST_SUITE_P(Maps, NamesTest,
                         testing::Values(Rules(), Rules(kJoined), Rules(kLinear), Rules(kStacked),
                                         Rules(kHeadByHead)));

TEST_P(NamesTest, WhatIsWrittenReadsBack) {
  Tree tree;
  Initialize(tree, 3);
  NameMap map;
  map.rules = GetParam();
  std::map<std::string, std::vector<Stored>> tensors;
  for (const Parameter& p : Parameters(tree)) {
    const auto entry = EntryFor(map, p, kLayers);
    ASSERT_TRUE(entry.ok()) << entry.status();
    tensors[entry->tensor].push_back({*entry, p});
  }
  for (const auto& [name, parts] : tensors) {
    const Tensor stored = ToCheckpoint(parts);
    EXPECT_EQ(stored.shape(), parts[0].entry.shape) << name;
    for (const Stored& part : parts) {
      ExpectIdentical(FromCheckpoint(part.entry, part.parameter, stored), *part.parameter.value,
                      part.parameter.name);
    }
  }
}

// Where one element of a parameter lies, by each layout.
TEST(NamesTest, LayoutsMeanWhatTheySay) {
  Tree tree;
  Initialize(tree, 3);
  const std::vector<Parameter> parameters = Parameters(tree);
  const double* q = nullptr;
  std::vector<double> values[2];
  for (int layer = 0; layer < kLayers; ++layer) {
    values[layer] = tree.blocks[layer].W_Q.ToDoubles();
  }
  q = values[1].data();  // [kModel, kHeads, kHead]
  const auto at = [&](int i, int h, int d) { return q[(i * kHeads + h) * kHead + d]; };

  const auto stored = [&](Rules rules, const std::string& name) {
    NameMap map;
    map.rules = rules;
    std::vector<Stored> parts;
    for (const Parameter& p : parameters) {
      const TensorEntry entry = *EntryFor(map, p, kLayers);
      if (entry.tensor == name) parts.push_back({entry, p});
    }
    return ToCheckpoint(parts).ToDoubles();
  };
  // [kHeads, kModel, kHead]
  EXPECT_EQ(stored({}, "blocks.1.W_Q")[(1 * kModel + 4) * kHead + 2], at(4, 1, 2));
  // [kModel, 2 * kHeads * kHead]: the queries of all heads, then the keys
  EXPECT_EQ(stored(kJoined, "h.1.qk.weight")[4 * 2 * kHeads * kHead + 1 * kHead + 2], at(4, 1, 2));
  // [kHeads * kHead, kModel]
  EXPECT_EQ(stored(kLinear, "h.1.q.weight")[(1 * kHead + 2) * kModel + 4], at(4, 1, 2));
  // [kHeads * 2 * kHead, kModel]: the queries of head 0, its keys, the queries of head 1, ...
  EXPECT_EQ(stored(kHeadByHead, "h.1.qk.weight")[((1 * 2 + 0) * kHead + 2) * kModel + 4],
            at(4, 1, 2));
  // [kLayers, kHeads, kModel, kHead]
  EXPECT_EQ(stored(kStacked, "W_Q")[((1 * kHeads + 1) * kModel + 4) * kHead + 2], at(4, 1, 2));
}

TEST(NamesTest, PrefixesImpliedParametersAndMissingRules) {
  Tree tree;
  const std::vector<Parameter> parameters = Parameters(tree);
  NameMap map;
  map.rules = kLinear;
  map.dropped_prefix = "h.";
  EXPECT_EQ(EntryFor(map, parameters[0], kLayers)->tensor, "0.q.weight");
  map.implied = {"blocks.*.w"};
  EXPECT_EQ(EntryFor(map, parameters[5], kLayers)->tensor, "");
  map.rules = absl::MakeConstSpan(kLinear).subspan(1);
  const absl::Status missing = EntryFor(map, parameters[0], kLayers).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(missing.message(), "the format has no tensor for the parameter 'blocks.0.W_Q'");
}

}  // namespace
}  // namespace residual
