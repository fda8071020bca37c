// Any bytes as the file of a saved generation: refused with the path, or texts that go on.
#include <cstdint>
#include <memory>
#include <string>

#include "models/generate/generate.h"
#include "models/generate/generation_state.h"
#include "models/transformer/transformer.h"
#include "tensor/base/check.h"
#include "tests/fuzz/io/file_in_memory.h"

namespace residual {
namespace {

// The model of the corpus's files.
std::unique_ptr<ResidualModel> Model() {
  TransformerConfig c;
  c.d_model = 2;
  c.n_ctx = 8;
  c.d_vocab = 3;
  c.blocks = {{"attn"}};
  c.n_heads = 1;
  c.d_head = 1;
  auto model = BuildTransformer(c);
  Initialize(*model, 1);
  return model;
}

}  // namespace
}  // namespace residual

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* model = residual::Model().release();
  const residual::FileInMemory file(data, size);
  auto state = residual::LoadGeneration(file.path(), *model);
  if (!state.ok()) {
    RESIDUAL_CHECK(state.status().message().find(file.path()) == 0) << state.status();
    return 0;
  }
  residual::GenerateOptions options;
  options.max_new_tokens = 2;
  const auto generated = residual::ContinueGeneration(*model, options, *state);
  // A text may fill the context, and numbers of a state may be NaN.
  RESIDUAL_CHECK(generated.ok() || !generated.status().message().empty());
  return 0;
}
