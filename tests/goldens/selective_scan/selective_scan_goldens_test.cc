// The selective scan against PyTorch, values and gradients: see README.md.

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "models/checkpoint/config_reader.h"
#include "ops/layout/layout.h"
#include "ops/scan/selective_scan.h"
#include "tensor/autograd/tape.h"
#include "tensor/io/safetensors.h"

namespace residual {
namespace {

const char kFolder[] = "tests/goldens/selective_scan/";

// The reference has positions last: [batch, dim, pos], [batch, state, pos], or [batch, groups,
// state, pos]. Its own inverse for three axes.
Tensor PositionsSecond(const Tensor& x) {
  if (x.rank() == 3) return Permute(x, {0, 2, 1});
  return x.rank() == 4 ? Permute(x, {0, 3, 1, 2}) : x;
}

class SelectiveScanGoldens : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    for (const char* name : {"inputs", "expected"}) {
      const auto file = SafetensorsFile::Open(absl::StrCat(kFolder, name, ".safetensors"));
      ASSERT_TRUE(file.ok()) << file.status();
      for (const TensorInfo& info : file->tensors())
        (name[0] == 'i' ? inputs_ : expected_)[info.name] = *file->Read(info.name);
    }
  }

  // Undefined if the instance has none.
  Tensor Input(const std::string& key, const char* name) const {
    const auto found = inputs_.find(absl::StrCat(key, ".", name));
    if (found == inputs_.end()) return Tensor();
    return ConvertTo(PositionsSecond(found->second), GetParam());
  }

  // In f32 to `limit`, or, 0, to 2e-5 of the largest.
  void ExpectMatches(const Tensor& got, const std::string& name, double limit = 0) const {
    const bool is_state = got.rank() == 3 && name.find("last_state") != std::string::npos;
    const Tensor want = is_state ? expected_.at(name) : PositionsSecond(expected_.at(name));
    ASSERT_EQ(got.shape(), want.shape()) << name;
    const std::vector<double> g = got.ToDoubles(), w = want.ToDoubles();
    double worst = 0, largest = 0;
    for (size_t i = 0; i < g.size(); ++i) {
      ASSERT_TRUE(std::isfinite(g[i])) << name;
      worst = std::max(worst, std::abs(g[i] - w[i]));
      largest = std::max(largest, std::abs(w[i]));
    }
    if (GetParam() == kF64) {
      limit = 1e-10 * std::max(1.0, largest);
    } else if (limit == 0) {
      limit = 2e-5 * largest;
    }
    EXPECT_LE(worst, limit) << name;
  }

  std::map<std::string, Tensor> inputs_, expected_;
};

TEST_P(SelectiveScanGoldens, ValuesAndGradients) {
  const auto info = ReadJsonObject(absl::StrCat(kFolder, "case.json"), 1 << 20);
  ASSERT_TRUE(info.ok()) << info.status();
  const auto limits = (*info)["tolerance"]["max_abs"].get<std::map<std::string, double>>();
  ASSERT_GE((*info)["instances"].size(), 9u);
  for (const auto& instance : (*info)["instances"]) {
    const std::string key = instance["key"];
    SelectiveScanInputs in;
    const std::vector<std::pair<const char*, Tensor*>> named = {
        {"u", &in.u}, {"delta", &in.delta}, {"A", &in.A}, {"B", &in.B},
        {"C", &in.C}, {"D", &in.D},         {"z", &in.z}, {"delta_bias", &in.delta_bias}};
    Tape tape;
    for (const auto& [name, x] : named) {
      *x = Input(key, name);
      if (x->defined()) tape.Watch(*x);
    }
    in.softplus = instance["softplus"];
    const SelectiveScanResult result = SelectiveScan(in);
    ExpectMatches(result.y, key + ".y", limits.at(key + ".y"));
    ExpectMatches(result.last_state, key + ".last_state", limits.at(key + ".last_state"));
    const Gradients grads = tape.Backward({result.y}, {Input(key, "g")}, {});
    for (const auto& [name, x] : named) {
      if (!x->defined()) continue;
      ExpectMatches(grads[*x], absl::StrCat(key, ".grad_", name));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, SelectiveScanGoldens, testing::Values(kF64, kF32),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace residual
