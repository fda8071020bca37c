"""llama.cpp, through llama-cpp-python, on weights of GPT-2 and Mamba: `pip install llama-cpp-python gguf`."""

import ctypes
import time

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


def write_mamba_gguf(model, path):
    """A transformers MambaForCausalLM in f32, without a tokenizer: it is given ids."""
    config, state = model.config, model.backbone.state_dict()
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_ssm_conv_kernel(config.conv_kernel)
    writer.add_ssm_inner_size(config.intermediate_size)
    writer.add_ssm_state_size(config.state_size)
    writer.add_ssm_time_step_rank(config.time_step_rank)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")

    def add(name, tensor):
        writer.add_tensor(name, tensor.detach().float().contiguous().numpy())

    add("token_embd.weight", state["embeddings.weight"])
    add("output_norm.weight", state["norm_f.weight"])
    for layer in range(config.num_hidden_layers):
        mine, theirs = f"layers.{layer}.mixer.", f"blk.{layer}."
        add(theirs + "attn_norm.weight", state[f"layers.{layer}.norm.weight"])
        for name, other in {"in_proj": "in", "x_proj": "x", "dt_proj": "dt", "out_proj": "out"}.items():
            add(f"{theirs}ssm_{other}.weight", state[f"{mine}{name}.weight"])
        add(theirs + "ssm_dt.bias", state[mine + "dt_proj.bias"])
        add(theirs + "ssm_conv1d.weight", state[mine + "conv1d.weight"].squeeze(1))
        add(theirs + "ssm_conv1d.bias", state[mine + "conv1d.bias"])
        add(theirs + "ssm_a", -torch.exp(state[mine + "A_log"].float()))
        add(theirs + "ssm_d", state[mine + "D"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@llama_cpp.llama_log_callback
def _silent(level, text, data):
    pass


def quantize(path, to, kind):
    """Writes a file of f32 weights anew as "bf16" or "q8_0", as llama-quantize does."""
    llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = {
        "bf16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
        "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    }[kind]
    if llama_cpp.llama_model_quantize(path.encode(), to.encode(), ctypes.byref(params)) != 0:
        raise RuntimeError(f"llama.cpp cannot make {to} of {path}")


class Model:
    """A loaded file with room for so many tokens."""

    def __init__(self, path, room):
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = room
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def read(self, tokens):
        """Goes on with these tokens; the logits of the last, as a view."""
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(array, len(tokens))
        if llama_cpp.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        values = ctypes.cast(logits, ctypes.POINTER(ctypes.c_float * self.vocab)).contents
        return torch.frombuffer(values, dtype=torch.float32)

    def start(self):
        threads = torch.get_num_threads()
        llama_cpp.llama_set_n_threads(self.context, threads, threads)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)


class Prefill:
    """Reads a prompt; calling it gives the logits of its last position."""

    def __init__(self, path, tokens):
        self.model = Model(path, len(tokens))
        self.tokens = tokens

    def __call__(self):
        self.model.start()
        return self.model.read(self.tokens).clone()


class Decode:
    """Goes on greedily from a prompt; calling it gives the tokens and the seconds they took."""

    def __init__(self, path, prompt, count):
        self.model = Model(path, len(prompt) + count)
        self.prompt, self.count = prompt, count

    def __call__(self):
        self.model.start()
        tokens = [int(self.model.read(self.prompt).argmax())]
        start = time.perf_counter()
        while len(tokens) < self.count:
            tokens.append(int(self.model.read(tokens[-1:]).argmax()))
        return tokens, time.perf_counter() - start
