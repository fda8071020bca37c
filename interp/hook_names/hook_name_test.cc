#include "interp/hook_names/hook_name.h"

#include "gtest/gtest.h"

namespace residual {
namespace {

TEST(HookNameTest, TheLayerAndWhatIsWithinIt) {
  const auto is = [](const char* name, int layer, const char* within) {
    const BlockName split = SplitBlockName(name);
    EXPECT_EQ(split.layer, layer) << name;
    EXPECT_EQ(split.within, within) << name;
  };
  is("blocks.3.attn.hook_z", 3, "attn.hook_z");
  is("blocks.12.hook_resid_pre", 12, "hook_resid_pre");
  is("hook_embed", -1, "hook_embed");
  is("ln_final.hook_scale", -1, "ln_final.hook_scale");
  for (const char* no :
       {"", "blocks", "blocks.3", "blocks.*.attn.hook_z", "blocks.-1.x", "block.1.x"}) {
    is(no, -1, no);
  }
}

}  // namespace
}  // namespace residual
