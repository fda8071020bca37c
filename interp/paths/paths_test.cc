#include "interp/paths/paths.h"

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "interp/patch/plain_patch.h"
#include "interp/testing/small_models.h"
#include "models/transformer/transformer.h"
#include "tensor/base/random.h"

namespace residual {
namespace {

std::unique_ptr<ResidualModel> Make(const std::string& name) {
  TransformerConfig config = SmallConfig(name, 3);
  if (name == "mamba") {
    config.blocks = {{"mamba"}, {"attn"}, {"mamba"}};
    config.d_state = 3;
    config.positions = Positions::kNone;
  }
  auto model = BuildTransformer(config);
  Spread(*model, 0.4);
  return model;
}

Tensor ReadPoint(const ResidualModel& model, const ModelInput& input, const std::string& name,
                 Hooks hooks = {}) {
  Tensor read;
  hooks.Read(name, [&](absl::string_view, const Tensor& x) { read = x; });
  EXPECT_TRUE(model.Run(input, &hooks).ok());
  return read;
}

// What the sender writes, clean minus corrupted, element by element, from hook_result of a head.
std::vector<double> PlainDelta(const ResidualModel& model, const PathEnd& sender) {
  std::string name = sender.point;
  const bool of_head = sender.head != PatchCell::kAll;
  if (of_head) name.replace(name.rfind("hook_z"), 6, "hook_result");
  const Tensor clean = ReadPoint(model, SmallPrompts(true), name);
  const Tensor corrupted = ReadPoint(model, SmallPrompts(false), name);
  const std::vector<double> a = clean.ToDoubles(), b = corrupted.ToDoubles();
  const int64_t d = model.d_model(), rows = 2 * 5;
  const int64_t heads = of_head ? clean.dim(2) : 1, head = of_head ? sender.head : 0;
  std::vector<double> delta(rows * d);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < d; ++i) {
      const int64_t at = (row * heads + head) * d + i;
      delta[row * d + i] = a[at] - b[at];
    }
  }
  return delta;
}

Tensor Plus(const Tensor& x, const std::vector<double>& delta) {
  std::vector<double> sum = x.ToDoubles();
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += delta[i];
  return Tensor::Of<double>(x.shape(), sum);
}

// Two whole runs with hooks. The first edits what the norm of the receiver's mixer reads and keeps
// what the receiver holds then; the second puts that into the corrupted run.
std::vector<double> PlainPath(const ResidualModel& model, PatchSession& session,
                              const PathEnd& sender, const PathEnd& receiver,
                              const std::string& norm, const Metric& metric, bool frozen) {
  const std::vector<double> delta = PlainDelta(model, sender);
  Tensor value;
  if (norm.empty()) {
    value = Plus(ReadPoint(model, SmallPrompts(false), receiver.point), delta);
  } else {
    Hooks hooks;
    hooks.Edit(norm + ".hook_in",
               [&](absl::string_view, const Tensor& x) { return Plus(x, delta); });
    if (frozen && norm.find("ln") != norm.npos) {
      const Tensor scale = ReadPoint(model, SmallPrompts(false), norm + ".hook_scale");
      hooks.Edit(norm + ".hook_scale", [scale](absl::string_view, const Tensor&) { return scale; });
    }
    value = ReadPoint(model, SmallPrompts(false), receiver.point, hooks);
  }
  PatchCell cell{receiver.point};
  cell.head = receiver.head;
  const PatchPoint& point = *(*session.Points({receiver.point}))[0];
  return *PatchPlainly(model, SmallPrompts(false), {{cell, point.axes, value}}, metric);
}

struct Case {
  std::string model;
  std::vector<PathEnd> senders;
  std::vector<std::pair<PathEnd, std::string>> receivers;  // and the norm before it
};

std::vector<Case> Cases() {
  const std::vector<PathEnd> heads = {{"blocks.0.attn.hook_z", 1},
                                      {"blocks.0.attn.hook_z", 3},
                                      {"blocks.0.hook_mlp_out"},
                                      {"hook_embed"},
                                      {"blocks.1.hook_attn_out"}};
  const std::vector<std::pair<PathEnd, std::string>> receivers = {
      {{"blocks.2.attn.hook_q", 2}, "blocks.2.ln1"},
      {{"blocks.2.attn.hook_k", 1}, "blocks.2.ln1"},
      {{"blocks.2.attn.hook_v", 0}, "blocks.2.ln1"},
      {{"blocks.2.attn.hook_q"}, "blocks.2.ln1"},
      {{"blocks.1.attn.hook_pattern", 3}, "blocks.1.ln1"},
      {{"blocks.2.mlp.hook_pre"}, "blocks.2.ln2"},
      {{"blocks.2.hook_mlp_out"}, "blocks.2.ln2"},
      {{"blocks.2.hook_attn_out"}, "blocks.2.ln1"}};
  std::vector<std::pair<PathEnd, std::string>> streams = receivers;
  streams.push_back({{"blocks.2.hook_resid_pre"}, ""});
  streams.push_back({{"blocks.2.hook_resid_mid"}, ""});
  streams.push_back({{"blocks.2.hook_resid_post"}, ""});
  streams.push_back({{"blocks.2.ln2.hook_in"}, ""});
  return {{"plain", heads, streams},
          {"grouped_rotary", heads, receivers},
          {"parallel", heads, {receivers[0], receivers[2]}},
          // Without a norm: what queries are made of, positions and all, takes the delta.
          {"attention_only",
           {heads[0], heads[1], heads[4]},
           {{{"blocks.2.attn.hook_q", 2}, "blocks.2.attn.q"},
            {{"blocks.2.attn.hook_k", 1}, "blocks.2.attn.k"},
            {{"blocks.2.attn.hook_v", 0}, "blocks.2.attn.v"},
            {{"blocks.2.hook_resid_post"}, ""}}},
          {"mamba",
           {{"blocks.0.hook_mixer_out"}, {"blocks.1.attn.hook_z", 2}, {"hook_embed"}},
           {{{"blocks.2.mixer.hook_delta"}, "blocks.2.ln1"},
            {{"blocks.2.mixer.hook_B"}, "blocks.2.ln1"},
            {{"blocks.2.mixer.hook_C"}, "blocks.2.ln1"},
            {{"blocks.2.mixer.hook_conv"}, "blocks.2.ln1"},
            {{"blocks.2.hook_mixer_out"}, "blocks.2.ln1"}}}};
}

TEST(PathsTest, AreTwoRunsWithHooks) {
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  for (const Case& of : Cases()) {
    const auto model = Make(of.model);
    auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
    std::vector<PathEnd> receivers;
    for (const auto& [receiver, norm] : of.receivers) receivers.push_back(receiver);
    for (const bool frozen : {false, true}) {
      PathOptions options;
      options.frozen_norm = frozen;
      for (const int64_t rows : {int64_t{1}, int64_t{4096}}) {
        options.rows_at_once = rows;
        const auto got = PatchPaths(session, of.senders, receivers, metric, options);
        ASSERT_TRUE(got.ok()) << got.status().message();
        const std::vector<double> corrupted = *session.Corrupted(metric);
        double moved = 0;
        for (size_t s = 0; s < of.senders.size(); ++s) {
          for (size_t r = 0; r < receivers.size(); ++r) {
            if (!got->connected[s][r]) {
              EXPECT_EQ(got->values[s][r], corrupted);
              continue;
            }
            const std::vector<double> want = PlainPath(*model, session, of.senders[s], receivers[r],
                                                       of.receivers[r].second, metric, frozen);
            for (int e = 0; e < 2; ++e) {
              ASSERT_NEAR(got->values[s][r][e], want[e], 1e-9 * (1 + std::abs(want[e])))
                  << of.model << ": " << of.senders[s].point << " " << of.senders[s].head << " to "
                  << receivers[r].point << (frozen ? ", frozen" : "");
              moved = std::max(moved, std::abs(want[e] - corrupted[e]));
            }
          }
        }
        EXPECT_GT(moved, 1e-3) << of.model;
      }
    }
  }
}

TEST(PathsTest, ThereIsNoneToWhatIsReadBefore) {
  const auto model = Make("plain");
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  const auto got = *PatchPaths(session, {{"blocks.1.attn.hook_z", 0}, {"blocks.1.hook_mlp_out"}},
                               {{"blocks.0.attn.hook_q", 0},
                                {"blocks.1.attn.hook_q", 0},
                                {"blocks.1.mlp.hook_pre"},
                                {"blocks.1.hook_resid_mid"},
                                {"blocks.1.hook_resid_post"}},
                               LogitDifference({3, 9}, {17, 0}));
  EXPECT_EQ(got.connected[0], (std::vector<bool>{false, false, true, true, true}));
  EXPECT_EQ(got.connected[1], (std::vector<bool>{false, false, false, false, true}));
  const auto parallel = Make("parallel");
  auto other = *PatchSession::Create(*parallel, SmallPrompts(true), SmallPrompts(false));
  EXPECT_FALSE(PatchPaths(other, {{"blocks.1.attn.hook_z", 0}}, {{"blocks.1.mlp.hook_pre"}},
                          LogitDifference({3, 9}, {17, 0}))
                   ->connected[0][0]);
}

// With a frozen norm a receiver is linear in its senders: the query made by all of them at once is
// the clean one but for what the norm would divide by.
TEST(PathsTest, AllSendersTogetherMakeTheCleanStream) {
  const auto model = Make("plain");
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  const std::vector<PathEnd> senders = AllSenders(session);
  // embed, pos_embed, and of each of three layers four heads and an MLP.
  EXPECT_EQ(senders.size(), 2 + 3 * 5);
  const std::vector<PathEnd> receivers = *AllReceivers(session, "k");
  EXPECT_EQ(receivers.size(), 12);
  EXPECT_EQ(receivers[5].point, "blocks.1.attn.hook_k");
  EXPECT_EQ(receivers[5].head, 1);
  // To the logits: the clean stream is the corrupted one and all deltas.
  const std::string last = "blocks.2.hook_resid_post";
  std::vector<double> sum(2 * 5 * 12);
  for (const PathEnd& sender : senders) {
    const std::vector<double> delta = PlainDelta(*model, sender);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += delta[i];
  }
  const std::vector<double> clean = ReadPoint(*model, SmallPrompts(true), last).ToDoubles();
  const std::vector<double> corrupted = ReadPoint(*model, SmallPrompts(false), last).ToDoubles();
  for (size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(corrupted[i] + sum[i], clean[i], 1e-10);
}

TEST(PathsTest, SaysWhatCannotBe) {
  const auto model = Make("grouped_rotary");
  auto session = *PatchSession::Create(*model, SmallPrompts(true), SmallPrompts(false));
  const Metric metric = LogitDifference({3, 9}, {17, 0});
  const auto message = [&](PathEnd sender, PathEnd receiver) {
    return std::string(PatchPaths(session, {sender}, {receiver}, metric).status().message());
  };
  const PathEnd z{"blocks.0.attn.hook_z", 1}, q{"blocks.1.attn.hook_q", 1};
  EXPECT_EQ(message({"blocks.0.attn.hook_zz"}, q),
            "the model has no hook point 'blocks.0.attn.hook_zz'; did you mean "
            "'blocks.0.attn.hook_z', 'blocks.0.attn.hook_k', 'blocks.0.attn.hook_q'?");
  EXPECT_EQ(message({"blocks.0.attn.hook_q"}, q),
            "'blocks.0.attn.hook_q' is not written to the stream, nor by heads with a W_O");
  EXPECT_EQ(message(z, {"hook_embed"}),
            "'hook_embed' does not read the stream inside a block, and cannot receive a path");
  EXPECT_EQ(message({"blocks.0.attn.hook_z", 4}, q),
            "head 4 of sender 'blocks.0.attn.hook_z' is outside [0, 4)");
  EXPECT_EQ(message(z, {"blocks.1.attn.hook_k", 2}),
            "head 2 of receiver 'blocks.1.attn.hook_k' is outside [0, 2)");
  EXPECT_EQ(message(z, {"blocks.1.mlp.hook_pre", 0}),
            "receiver 'blocks.1.mlp.hook_pre' is [batch, pos, d_mlp] and has no head 0");
  const auto post = Make("post_norm");
  auto other = *PatchSession::Create(*post, SmallPrompts(true), SmallPrompts(false));
  EXPECT_EQ(PatchPaths(other, {z}, {q}, metric).status().message(),
            "the stream is no sum of what was written: block 0 has the norm 'ln1' behind what its "
            "mixer 'attn' adds");
}

}  // namespace
}  // namespace residual
