#include "models/settings/settings.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace residual {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

Settings Preset(const std::string& name) { return Settings::Of(name).value(); }

TEST(SettingsTest, EveryPresetIsAModel) {
  for (const std::string& name : Settings::Presets()) {
    const auto plan = Preset(name).Resolve();
    ASSERT_TRUE(plan.ok()) << name << ": " << plan.status();
    EXPECT_EQ(plan->model["model_type"], "residual");
    EXPECT_EQ(plan->model["n_ctx"], plan->text.context);
    EXPECT_EQ(static_cast<int64_t>(plan->model["blocks"].size()),
              Preset(name).values()["n_layers"]);
  }
}

TEST(SettingsTest, UnknownPreset) {
  EXPECT_THAT(std::string(Settings::Of("attn-only").status().message()),
              AllOf(HasSubstr("--model=attn-only, expected one of attn_only, gpt2"),
                    HasSubstr("did you mean 'attn_only'")));
}

TEST(SettingsTest, EverySettingReachesThePlan) {
  Settings s = Preset("gpt2");
  const std::vector<std::pair<const char*, const char*>> given = {{"d_model", "48"},
                                                                  {"n_layers", "3"},
                                                                  {"n_heads", "6"},
                                                                  {"d_head", "5"},
                                                                  {"d_mlp", "77"},
                                                                  {"context", "33"},
                                                                  {"positions", "rotary"},
                                                                  {"norm", "rms_norm"},
                                                                  {"rotary_dim", "4"},
                                                                  {"dropout", "0.25"},
                                                                  {"attn_dropout", "0.5"},
                                                                  {"steps", "700"},
                                                                  {"batch_size", "5"},
                                                                  {"accumulation", "3"},
                                                                  {"clip_norm", "0.5"},
                                                                  {"seed", "9"},
                                                                  {"optimizer", "sgd"},
                                                                  {"lr", "0.1"},
                                                                  {"betas", "0.8,0.95"},
                                                                  {"adam_eps", "1e-9"},
                                                                  {"d_vocab", "77"},
                                                                  {"momentum", "0.9"},
                                                                  {"nesterov", "1"},
                                                                  {"weight_decay", "0.01"},
                                                                  {"schedule", "noam"},
                                                                  {"warmup_steps", "7"},
                                                                  {"final_fraction", "0.2"},
                                                                  {"eval_every", "11"},
                                                                  {"eval_batches", "2"},
                                                                  {"checkpoint_every", "13"},
                                                                  {"repeat", "0.9"},
                                                                  {"tokenizer", "bpe:512"},
                                                                  {"label_smoothing", "0.1"},
                                                                  {"eval_fraction", "0.2"},
                                                                  {"precision", "bf16"}};
  for (const auto& [name, value] : given) ASSERT_TRUE(s.SetText(name, value).ok()) << name;
  const auto plan = s.Resolve();
  ASSERT_TRUE(plan.ok()) << plan.status();
  const json& m = plan->model;
  EXPECT_EQ(m["d_model"], 48);
  EXPECT_EQ(m["blocks"], json::parse(R"([["attn","mlp"],["attn","mlp"],["attn","mlp"]])"));
  EXPECT_EQ(m["n_heads"], 6);
  EXPECT_EQ(m["d_head"], 5);
  EXPECT_EQ(m["d_mlp"], 77);
  EXPECT_EQ(m["n_ctx"], 33);
  EXPECT_EQ(m["positions"], "rotary");
  EXPECT_EQ(m["norm"], "rms_norm");
  EXPECT_EQ(m["embed_dropout"], 0.25);
  EXPECT_EQ(m["resid_dropout"], 0.25);
  EXPECT_EQ(m["attn_dropout"], 0.5);
  EXPECT_FALSE(m.contains("n_layers"));
  EXPECT_FALSE(m.contains("lr"));
  const RunConfig& run = plan->run;
  EXPECT_EQ(run.steps, 700);
  EXPECT_EQ(run.eval_every, 11);
  EXPECT_EQ(run.eval_batches, 2);
  EXPECT_EQ(run.checkpoint_every, 13);
  EXPECT_EQ(run.train.batch_size, 5);
  EXPECT_EQ(run.train.accumulation, 3);
  EXPECT_EQ(run.train.clip_norm, 0.5);
  EXPECT_EQ(run.train.label_smoothing, 0.1);
  EXPECT_EQ(run.train.seed, 9);
  EXPECT_EQ(run.train.precision, Precision::kBF16);
  EXPECT_EQ(run.train.optimizer.kind, OptimizerKind::kSgd);
  EXPECT_EQ(run.train.optimizer.beta1, 0.8);
  EXPECT_EQ(run.train.optimizer.beta2, 0.95);
  EXPECT_EQ(run.train.optimizer.eps, 1e-9);
  EXPECT_EQ(plan->d_vocab, 77);
  EXPECT_EQ(m["d_vocab"], 77);
  EXPECT_EQ(run.train.optimizer.momentum, 0.9);
  EXPECT_TRUE(run.train.optimizer.nesterov);
  EXPECT_EQ(run.train.optimizer.weight_decay, 0.01);
  EXPECT_EQ(run.train.schedule.kind, ScheduleKind::kNoam);
  EXPECT_EQ(run.train.schedule.lr, 0.1);
  EXPECT_EQ(run.train.schedule.warmup_steps, 7);
  EXPECT_EQ(run.train.schedule.total_steps, 700);
  EXPECT_EQ(run.train.schedule.final_fraction, 0.2);
  EXPECT_EQ(run.train.schedule.d_model, 48);
  EXPECT_EQ(plan->text.context, 33);
  EXPECT_EQ(plan->text.repeat, 0.9);
  EXPECT_EQ(plan->text.eval_fraction, 0.2);
  EXPECT_EQ(plan->tokenizer, "bpe:512");
}

// Every setting is either the model's or read by Resolve: none is parsed and then ignored.
TEST(SettingsTest, EverySettingIsChecked) {
  const json values = Preset("attn_only").values();
  for (const auto& [name, value] : values.items()) {
    if (name == "model") continue;  // fixed
    Settings s = Preset("attn_only");
    ASSERT_TRUE(s.SetAll({{name, json::object()}}, "c.json").ok()) << name;
    const absl::Status status = s.Resolve().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("'", name, "'"))) << name;
  }
}

TEST(SettingsTest, OptionsOfTheOptimizer) {
  Settings s = Preset("attn_only");
  ASSERT_TRUE(s.SetText("amsgrad", "true").ok());
  EXPECT_TRUE(s.Resolve()->run.train.optimizer.amsgrad);
  ASSERT_TRUE(s.SetText("optimizer", "sgd").ok());
  EXPECT_THAT(std::string(s.Resolve().status().message()), HasSubstr("'amsgrad' is true"));
  s = Preset("attn_only");
  ASSERT_TRUE(s.SetText("momentum", "0.9").ok());
  EXPECT_THAT(std::string(s.Resolve().status().message()), HasSubstr("'momentum' is 0.9"));
  ASSERT_TRUE(s.SetText("optimizer", "sgd").ok());
  ASSERT_TRUE(s.SetText("dampening", "0.1").ok());
  EXPECT_EQ(s.Resolve()->run.train.optimizer.dampening, 0.1);
  ASSERT_TRUE(s.SetText("momentum", "0").ok());
  EXPECT_THAT(std::string(s.Resolve().status().message()), HasSubstr("'dampening' is 0.1"));
}

TEST(SettingsTest, BlocksOfOnesOwn) {
  Settings s = Preset("gpt2");
  ASSERT_TRUE(s.SetText("blocks", R"([["attn"],["attn","mlp"]])").ok());
  EXPECT_EQ(s.Resolve()->model["blocks"].size(), 2);
  ASSERT_TRUE(s.SetText("n_layers", "3").ok());
  EXPECT_THAT(std::string(s.Resolve().status().message()),
              HasSubstr("'n_layers' is 3, expected 2, as many as there are blocks"));
}

TEST(SettingsTest, ConfigsOfTrainJsonsKind) {
  Settings a = Preset("gpt2");
  ASSERT_TRUE(a.SetText("d_model", "32").ok());
  ASSERT_TRUE(a.SetText("n_layers", "5").ok());
  Settings b = Preset("gpt2");
  ASSERT_TRUE(b.SetAll(json::parse(a.values().dump()), "train.json").ok());
  EXPECT_EQ(a.values(), b.values());
  EXPECT_EQ(a.Resolve()->model, b.Resolve()->model);
}

struct BadCase {
  const char* name;
  const char* value;
  const char* message;
};

TEST(SettingsTest, BadValues) {
  const BadCase cases[] = {
      {"n_layers", "-1", "'n_layers' is -1, expected an integer in [1, 4096]"},
      {"n_layers", "0", "'n_layers' is 0"},
      {"n_layers", "two", "--n_layers=two, expected an integer"},
      {"n_layers", "1.5", "--n_layers=1.5, expected an integer"},
      {"n_heads", "7", "'n_heads' is 7, expected a divisor of 'd_model', 64"},
      {"n_heads", "-4", "'n_heads' is -4"},
      {"d_model", "0", "'d_model' is 0"},
      {"d_model", "99999999999999999999", "--d_model=99999999999999999999, expected an integer"},
      {"context", "1", "'context' is 1"},
      {"n_ctx", "-5", "'context' is -5"},
      {"positions", "rotery", "did you mean 'rotary'"},
      {"norm", "batch_norm", "'norm' is \"batch_norm\""},
      {"dropout", "1.5", "dropout' is 1.5, expected a number in [0"},
      {"lr", "fast", "--lr=fast, expected a number"},
      {"lr", "-1", "'lr' is -1"},
      {"lr", "nan", "'lr' is"},
      {"betas", "0.9", "betas=[0.9], expected two numbers"},
      {"betas", "0.9,x", "--betas=x, expected a number"},
      {"beta2", "1", "'beta2' is 1"},
      {"optimizer", "adan", "did you mean 'adam"},
      {"schedule", "cosin", "did you mean 'cosine'"},
      {"precision", "bf61", "'precision' is \"bf61\""},
      {"batch_size", "0", "'batch_size' is 0"},
      {"steps", "0", "'steps' is 0"},
      {"repeat", "2", "'repeat' is 2"},
      {"nesterov", "true", "'nesterov' is true, expected a momentum above 0"},
      {"nesterov", "maybe", "--nesterov=maybe, expected true or false"},
      {"blocks", "[[", "--blocks=[[, expected JSON"},
      {"blocks", "[[\"attention\"]]", "attention"},
      {"model", "gpt2", "model=\"gpt2\", expected \"attn_only\""},
      {"d_modle", "64", "no flag --d_modle; did you mean 'd_model'"},
      {"weight_decya", "0", "did you mean 'weight_decay'"},
      {"xyzzyxyzzy", "0", "no flag --xyzzyxyzzy"},
  };
  for (const BadCase& c : cases) {
    Settings s = Preset("attn_only");
    absl::Status status = s.SetText(c.name, c.value);
    if (status.ok()) status = s.Resolve().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.name << "=" << c.value;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

TEST(SettingsTest, BadConfigFile) {
  Settings s = Preset("attn_only");
  EXPECT_THAT(std::string(s.SetAll({{"d_modle", 3}}, "c.json").message()),
              HasSubstr("c.json: no setting d_modle; did you mean 'd_model'"));
}

}  // namespace
}  // namespace residual
