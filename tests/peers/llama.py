"""llama.cpp, through llama-cpp-python, on GPT-2's weights: `pip install llama-cpp-python gguf`."""

import ctypes

import gguf
import llama_cpp
import torch

# Hugging Face's names to theirs. Matrices are [in, out] here (Conv1D) and [out, in] there.
_BLOCK = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def write_gguf(model, path):
    """A transformers GPT2LMHeadModel in f32, without a tokenizer: it is given ids."""
    config, state = model.config, model.transformer.state_dict()
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")

    def add(name, tensor):
        writer.add_tensor(name, tensor.detach().float().contiguous().numpy())

    add("token_embd.weight", state["wte.weight"])
    add("position_embd.weight", state["wpe.weight"])
    for kind in ("weight", "bias"):
        add(f"output_norm.{kind}", state[f"ln_f.{kind}"])
        for layer in range(config.n_layer):
            for theirs, name in _BLOCK.items():
                tensor = state[f"h.{layer}.{theirs}.{kind}"]
                add(f"blk.{layer}.{name}.{kind}", tensor.t() if tensor.dim() == 2 else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@llama_cpp.llama_log_callback
def _silent(level, text, data):
    pass


class Prefill:
    """Reads a prompt; calling it gives the logits of its last position."""

    def __init__(self, path, tokens):
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = len(tokens)
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.tokens = (llama_cpp.llama_token * len(tokens))(*tokens)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def __call__(self):
        threads = torch.get_num_threads()
        llama_cpp.llama_set_n_threads(self.context, threads, threads)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        batch = llama_cpp.llama_batch_get_one(self.tokens, len(self.tokens))
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        array = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * self.vocab)).contents
        return torch.frombuffer(array, dtype=torch.float32).clone()
