"""Compares models in folders with Hugging Face's transformers, both ways.

    pip install torch==2.13.0 transformers==5.24.0
    ./bazelw build //tools:activations //tools:evaluate //tools:generate //tools:tokenize //tools:train
    python3 tests/pretrained/compare.py [--tools=bazel-bin/tools] [--models=30] [--seed=1] \\
        [--text=README.md] [FOLDER ..]

1. Random models of every kind and option, saved by transformers (in f32, f16 or bf16, whole or in
   shards), run here: logits against transformers' in float64.
2. Models trained here, opened with from_pretrained: equal logits, equal tokens.
3. Each FOLDER (a trained model with its tokenizer): perplexity of the text, greedy continuations.
The last line is 'N compared, N different'; the exit code is 1 if any differ.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file


class Comparison:
    def __init__(self, tools, scratch):
        self.tools, self.scratch = tools, scratch
        self.compared = self.different = 0

    def run(self, tool, *args, text=None):
        done = subprocess.run([os.path.join(self.tools, tool), *args], capture_output=True,
                              check=False, input=text, encoding="utf-8")
        if done.returncode:
            raise RuntimeError("%s %s: %s" % (tool, " ".join(args), done.stderr.strip()))
        return done.stdout

    def check(self, what, ok, detail=""):
        self.compared += 1
        self.different += not ok
        print("%s %s %s" % ("same     " if ok else "DIFFERENT", what, detail), flush=True)

    def logits(self, folder, ids):
        tokens, out = (os.path.join(self.scratch, n) for n in ("ids.safetensors", "out.safetensors"))
        save_file({"input_ids": ids}, tokens)
        self.run("activations", "--model=" + folder, "--tokens=" + tokens, "--names=blocks.0.hook_resid_pre",
                 "--out=" + out)
        return load_file(out)["logits"]

    def check_logits(self, what, folder, model, ids):
        with torch.no_grad():
            want = model.double().eval()(ids).logits
        error = (self.logits(folder, ids).double() - want).abs().max().item()
        scale = want.abs().max().item()
        self.check(what, error <= 2e-5 * max(scale, 1), "largest error %.1e of %.1f" % (error, scale))


def random_model(rng):
    """(name, model): small, with random options, weights large enough for every one to matter."""
    vocab, ctx, layers = rng.randrange(50, 300), rng.choice([16, 33, 64]), rng.randrange(1, 4)
    heads, head = rng.randrange(1, 7), 2 * rng.randrange(2, 9)
    act = rng.choice(["gelu", "gelu_new", "relu", "silu"])
    kind = rng.choice(["gpt2", "gpt_neox", "llama"])
    common = dict(vocab_size=vocab, tie_word_embeddings=rng.random() < 0.5)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            n_positions=ctx, n_embd=heads * head, n_layer=layers, n_head=heads,
            n_inner=rng.choice([None, rng.randrange(8, 90)]), activation_function=act,
            scale_attn_by_inverse_layer_idx=rng.random() < 0.5,
            scale_attn_weights=rng.random() < 0.8, layer_norm_epsilon=rng.choice([1e-5, 1e-3]),
            **common)
        model = transformers.GPT2LMHeadModel(config)
    elif kind == "gpt_neox":
        config = transformers.GPTNeoXConfig(
            max_position_embeddings=ctx, hidden_size=heads * head, num_hidden_layers=layers,
            num_attention_heads=heads, intermediate_size=rng.randrange(8, 90), hidden_act=act,
            use_parallel_residual=rng.random() < 0.5, attention_bias=rng.random() < 0.7,
            rope_parameters={"rope_type": "default", "rope_theta": rng.choice([10000.0, 500.0]),
                             "partial_rotary_factor": 2 * rng.randrange(1, head // 2 + 1) / head},
            layer_norm_eps=rng.choice([1e-5, 1e-3]), **common)
        model = transformers.GPTNeoXForCausalLM(config)
    else:
        groups = rng.choice([g for g in range(1, heads + 1) if heads % g == 0])
        rope = rng.choice([
            {"rope_type": "default"}, {"rope_type": "linear", "factor": 3.0},
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 16}])
        config = transformers.LlamaConfig(
            max_position_embeddings=ctx, hidden_size=heads * rng.randrange(2, 12), num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=groups, head_dim=head,
            intermediate_size=rng.randrange(8, 90), hidden_act=act,
            attention_bias=rng.random() < 0.5, mlp_bias=rng.random() < 0.5,
            rope_parameters=dict(rope, rope_theta=rng.choice([10000.0, 500000.0])), **common)
        model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.5 / math.sqrt(parameter.shape[-1]) if parameter.dim() > 1 else 0.3
            parameter.add_(torch.randn_like(parameter) * spread)
    return kind, model


def compare_loading(comparison, count, rng):
    for i in range(count):
        torch.manual_seed(rng.randrange(1 << 30))
        kind, model = random_model(rng)
        dtype = rng.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
        folder = os.path.join(comparison.scratch, "model%d" % i)
        shards = {"max_shard_size": "30KB"} if rng.random() < 0.4 else {}
        model.to(dtype).save_pretrained(folder, **shards)
        # Read again: the conversion above rounded tables of rotations too.
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
        ids = torch.randint(model.config.vocab_size, (2, rng.randrange(1, 16)))
        name = "%s %s%s" % (kind, dtype, " in shards" if shards else "")
        comparison.check_logits(name, folder, model, ids)


# Names of presets and what is changed of them.
TRAINED = {
    "gpt2": ["--model=gpt2"],
    "gpt2 untied, relu": ["--model=gpt2", "--tied=false", "--activation=relu", "--d_mlp=70"],
    "llama": ["--model=llama", "--n_kv_heads=2"],
    "llama with biases, llama3": ["--model=llama", "--attention_bias=true", "--mlp_bias=true",
                                  "--gate_bias=true", "--rotary_scaling=llama3",
                                  "--rotary_factor=4", "--rotary_original_ctx=32", "--tied=true"],
    "gpt_neox": ["--model=gpt2", "--positions=rotary", "--rotary_dim=8", "--parallel=true",
                 "--activation=gelu", "--tied=false"],
}


def compare_saving(comparison, text):
    sample = open(text, encoding="utf-8").read()[:300]
    for name, flags in TRAINED.items():
        folder = os.path.join(comparison.scratch, "trained " + name)
        comparison.run("train", *flags, "--text=" + text, "--out=" + folder, "--steps=8",
                       "--tokenizer=bpe:400", "--context=48", "--batch_size=4", "--n_layers=2",
                       "--eval_every=0", "--json")
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        ids = torch.randint(model.config.vocab_size, (2, 31))
        comparison.check_logits("from_pretrained of " + name, folder, model, ids)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ours = json.loads(comparison.run("tokenize", "--tokenizer=" + folder,
                                         text=json.dumps(sample) + "\n"))
        comparison.check("its tokens", tokenizer.encode(sample, add_special_tokens=False) == ours)


def compare_folder(comparison, folder, text):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    context = model.config.max_position_embeddings
    sample = open(text, encoding="utf-8").read()[: 3 * context]
    path = os.path.join(comparison.scratch, "sample.txt")
    with open(path, "w", encoding="utf-8") as f:
        f.write(sample)
    ids = tokenizer.encode(sample)[:context]
    cut = tokenizer.decode(ids, skip_special_tokens=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(cut)
    ids = tokenizer.encode(cut)
    batch = torch.tensor([ids])
    with torch.no_grad():
        want = math.exp(model(batch, labels=batch).loss.item())
    ours = json.loads(comparison.run("evaluate", "--model=" + folder, "--text=" + path,
                                     "--context=%d" % len(ids), "--json"))
    comparison.check("perplexity of " + folder, abs(ours["perplexity"] - want) <= 1e-4 * want,
                     "%.6f and %.6f of %d tokens" % (ours["perplexity"], want, len(ids)))
    for length in (1, 5, 17):
        with torch.no_grad():
            want = model.generate(batch[:, :length], max_new_tokens=40, do_sample=False,
                                  pad_token_id=0)[0, length:].tolist()
        ours = json.loads(comparison.run(
            "generate", "--model=" + folder, "--tokens=" + ",".join(map(str, ids[:length])),
            "--max_new_tokens=40", "--temperature=0", "--json"))["tokens"]
        comparison.check("greedy after %d tokens" % length, ours[: len(want)] == want[: len(ours)])
    for words in (1, 4, 12):
        prompt = " ".join(cut.split()[:words])
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            want = model.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[0].tolist()
        ours = json.loads(comparison.run("generate", "--model=" + folder, "--prompt=" + prompt,
                                         "--max_new_tokens=40", "--temperature=0", "--json"))
        comparison.check("greedy after %d words" % words,
                         ours["prompt_tokens"] + ours["tokens"] == want[: ids.shape[1] + len(ours["tokens"])])
        start = tokenizer.decode(ours["prompt_tokens"], skip_special_tokens=True)
        whole = tokenizer.decode(ours["prompt_tokens"] + ours["tokens"], skip_special_tokens=True)
        comparison.check("its text", start + ours["text"] == whole, repr(ours["text"][:40]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--tools", default="bazel-bin/tools")
    parser.add_argument("--models", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--text", default="README.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        comparison = Comparison(args.tools, scratch)
        compare_loading(comparison, args.models, random.Random(args.seed))
        compare_saving(comparison, args.text)
        for folder in args.folders:
            compare_folder(comparison, folder, args.text)
    print("%d compared, %d different" % (comparison.compared, comparison.different))
    sys.exit(1 if comparison.different else 0)


if __name__ == "__main__":
    main()
