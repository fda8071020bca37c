"""The rows of whole models: training steps, and GPT-2 forward and back.

The PyTorch side is written as nanoGPT is (one product for queries, keys and values, fused attention,
fused AdamW), with weights read from the folder that ours writes.
"""

import dataclasses
import json
import pathlib
import time

import torch
import torch.nn.functional as F

from race import Contest, Work, note, write_raw


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, item in header.items():
        if name == "__metadata__":
            continue
        assert item["dtype"] == "F32", name
        begin, end = item["data_offsets"]
        body = bytearray(data[8 + length + begin : 8 + length + end])
        tensors[name] = torch.frombuffer(body, dtype=torch.float32).reshape(item["shape"])
    return tensors


class Block(torch.nn.Module):
    def __init__(self, config, weights):
        super().__init__()
        d, self.heads = config["d_model"], config["n_heads"]

        def parameter(value):
            return torch.nn.Parameter(value.contiguous().clone())

        def norm(name):
            layer = torch.nn.LayerNorm(d)
            layer.weight = parameter(weights[name + ".w"])
            layer.bias = parameter(weights[name + ".b"])
            return layer

        def joined(kind):  # [heads, d, d_head] -> [heads * d_head, d]
            return torch.cat([weights[f"attn.W_{n}"].permute(0, 2, 1).reshape(-1, d) for n in kind])

        self.ln1 = norm("ln1")
        self.qkv = parameter(joined("QKV"))
        self.qkv_bias = parameter(torch.cat([weights[f"attn.b_{n}"].reshape(-1) for n in "QKV"]))
        self.out = parameter(weights["attn.W_O"].reshape(-1, d).t())
        self.out_bias = parameter(weights["attn.b_O"])
        self.has_mlp = "mlp.W_in" in weights
        if self.has_mlp:
            self.ln2 = norm("ln2")
            self.up = parameter(weights["mlp.W_in"].t())
            self.up_bias = parameter(weights["mlp.b_in"])
            self.down = parameter(weights["mlp.W_out"].t())
            self.down_bias = parameter(weights["mlp.b_out"])

    def forward(self, x):
        batch, pos, d = x.shape
        qkv = F.linear(self.ln1(x), self.qkv, self.qkv_bias)
        q, k, v = (
            t.view(batch, pos, self.heads, -1).transpose(1, 2) for t in qkv.split(d, dim=2)
        )
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        z = z.transpose(1, 2).reshape(batch, pos, d)
        x = x + F.linear(z, self.out, self.out_bias)
        if self.has_mlp:
            hidden = F.gelu(F.linear(self.ln2(x), self.up, self.up_bias))
            x = x + F.linear(hidden, self.down, self.down_bias)
        return x


class Model(torch.nn.Module):
    def __init__(self, config, weights):
        super().__init__()
        self.embed = torch.nn.Parameter(weights["embed.W_E"].clone())
        self.positions = torch.nn.Parameter(weights["pos_embed.W_pos"].clone())
        self.blocks = torch.nn.ModuleList()
        for layer in range(len(config["blocks"])):
            prefix = f"blocks.{layer}."
            own = {n[len(prefix) :]: w for n, w in weights.items() if n.startswith(prefix)}
            self.blocks.append(Block(config, own))
        self.final = torch.nn.LayerNorm(config["d_model"])
        self.final.weight = torch.nn.Parameter(weights["ln_final.w"].clone())
        self.final.bias = torch.nn.Parameter(weights["ln_final.b"].clone())
        tied = config["tied"]
        self.unembed = self.embed if tied else torch.nn.Parameter(weights["unembed.W_U"].t().contiguous())

    def forward(self, tokens, targets):
        x = F.embedding(tokens, self.embed) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.final(x), self.unembed)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class TorchTraining:
    """Steps of AdamW on the batches, one after the other."""

    def __init__(self, config, weights, tokens, lr, weight_decay, compiled=False, autocast=False):
        model = Model(config, weights)
        # As ours: matrices and the embedding; not biases, gains and the table of positions.
        decayed = [p for n, p in model.named_parameters() if p.dim() >= 2 and n != "positions"]
        others = [p for n, p in model.named_parameters() if p.dim() < 2 or n == "positions"]
        groups = [
            {"params": decayed, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=lr, fused=True)
        if compiled:
            torch._dynamo.reset()  # or the rows before count against its limit of recompilations
            model = torch.compile(model)
        self.model = model
        self.autocast = autocast
        self.tokens = tokens
        self.losses = []

    def __call__(self):
        batch = self.tokens[len(self.losses) % len(self.tokens)]
        self.adam.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
            loss = self.model(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        self.adam.step()
        self.losses.append(loss.item())


@dataclasses.dataclass
class TrainingRow:
    name: str
    layers: int
    d_model: int
    n_heads: int
    context: int
    batch: int
    vocab: int
    mlp: bool
    goal: float
    threads: tuple = (2,)
    share_goal: float = None
    steps: int = 100  # whose losses are compared
    dtype: str = "f32"  # bf16: mixed precision here, autocast there

    lr, weight_decay = 1e-3, 0.1

    @property
    def shape(self):
        kind = "" if self.mlp else "attention-only "
        return (
            f"{kind}layers={self.layers} d={self.d_model} h={self.n_heads} ctx={self.context} "
            f"B={self.batch} vocab={self.vocab}"
        )

    def title(self):
        return f"{self.name} {self.shape} {self.dtype}"

    def config(self):
        return {
            "model_type": "residual",
            "d_model": self.d_model,
            "n_ctx": self.context,
            "d_vocab": self.vocab,
            "blocks": [["attn", "mlp"] if self.mlp else ["attn"]] * self.layers,
            "n_heads": self.n_heads,
            "d_head": self.d_model // self.n_heads,
            "d_mlp": 4 * self.d_model if self.mlp else 0,
            "activation": "gelu",
            "tied": self.mlp,
            "unembed_bias": False,
        }

    def work(self):
        """Multiply-adds of the products there and back, and of causal attention."""
        matrices = self.layers * self.d_model**2 * (12 if self.mlp else 4)
        matrices += self.d_model * self.vocab
        tokens = self.batch * self.context
        attention = self.layers * 2.0 * tokens * self.context * self.d_model * 3.5
        return Work(6.0 * matrices * tokens + attention, self.dtype)

    def contests(self, race):
        config = self.config()
        generator = torch.Generator().manual_seed(1)
        shape = [8, self.batch, self.context + 1]
        tokens = torch.randint(self.vocab, shape, generator=generator)
        write_raw(tokens, f"{race.folder}/tokens")
        race.server.ask(
            do="train",
            config=config,
            folder=f"{race.folder}/model",
            tokens=f"{race.folder}/tokens",
            shape=shape,
            lr=self.lr,
            weight_decay=self.weight_decay,
            precision=self.dtype,
        )
        weights = read_safetensors(f"{race.folder}/model/model.safetensors")
        torch.set_num_threads(2)

        def training(**how):
            return TorchTraining(config, weights, tokens, self.lr, self.weight_decay, **how)

        mixed = self.dtype == "bf16"
        eager = training(autocast=mixed)
        peers = [eager]
        if race.compile:
            try:
                compiled = training(compiled=True, autocast=mixed)
                start = time.perf_counter()
                compiled()
                note(f"  compiled in {time.perf_counter() - start:.0f} s")
                peers.append(compiled)
            except Exception as error:  # no C++ compiler, or one it does not like
                note(f"  torch.compile: {str(error).splitlines()[0]}")
        # The first steps of both, whose losses must agree with those of PyTorch in f32.
        steps = min(self.steps, race.training_steps)
        exact = training() if mixed else eager
        for run in [exact, eager] if mixed else [eager]:
            for _ in range(steps):
                run()
        race.server.ask(do="time", threads=2, seconds=0, repeat=steps, warm=False)
        ours = race.server.ask(do="losses")["losses"][:steps]

        def difference(losses):
            return max(abs(a - b) for a, b in zip(losses, exact.losses))

        errors = [difference(ours), difference(eager.losses)]
        for threads in self.threads:
            yield Contest(
                self.name,
                self.shape,
                self.dtype,
                threads,
                peers,
                self.goal,
                self.work(),
                self.share_goal,
                error_ours=errors[0],
                error_peer=errors[1],
            )


def gpt2_folder(race):
    """GPT-2 124M with random weights, as Hugging Face writes it."""
    import transformers

    folder = f"{race.folder}/gpt2"
    if not pathlib.Path(folder).exists():
        torch.manual_seed(1)
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def gpt2(folder, dtype):
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=dtype).eval()


def bridge(folder, dtype):
    """TransformerLens's model of the folder; None without it."""
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        note("  without TransformerLens: it needs the Python package transformer_lens")
        return None
    return TransformerBridge.boot_transformers(
        folder, hf_model=gpt2(folder, dtype), device="cpu", dtype=dtype
    )


def gpt2_work(count, pos, unembedded):
    """Of a forward pass of `count` tokens in rows of `pos`, with logits of `unembedded`."""
    blocks = 12 * 12 * 768**2
    return 2.0 * (blocks * count + 768 * 50257 * unembedded) + 12 * 2.0 * count * pos * 768


@dataclasses.dataclass
class ForwardRow:
    """GPT-2 124M with random weights, against Hugging Face's and TransformerLens's."""

    batch: int
    pos: int
    goal: float
    dtype: str = "f32"
    backward: bool = False
    threads: tuple = (2, 1)

    @property
    def name(self):
        return "GPT-2 124M" + (", there and back" if self.backward else " forward")

    @property
    def shape(self):
        return f"{self.batch}x{self.pos}"

    def title(self):
        return f"{self.name} {self.shape} {self.dtype}"

    def contests(self, race):
        try:
            folder = gpt2_folder(race)
        except ImportError:
            note("  left out: it needs the Python package transformers")
            return
        wanted = {"f32": torch.float32, "bf16": torch.bfloat16}[self.dtype]
        model = gpt2(folder, wanted)
        tokens = torch.arange(self.batch * self.pos).reshape(self.batch, self.pos)
        race.server.ask(
            do="model",
            folder=folder,
            shape=[self.batch, self.pos],
            dtype=self.dtype,
            backward=self.backward,
        )

        def there():
            with torch.no_grad():
                return model(tokens, use_cache=False).logits

        def there_and_back():
            model.zero_grad(set_to_none=True)
            logits = model(tokens, use_cache=False).logits
            F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
            return model.transformer.wte.weight.grad

        run = there_and_back if self.backward else there
        peers = [run]
        lens = bridge(folder, wanted) if self.dtype == "f32" and not self.backward else None
        if lens is not None:

            def there_with_lens():
                with torch.no_grad():
                    return lens(tokens)

            peers.append(there_with_lens)
        torch.set_num_threads(2)
        theirs, ours = run().float(), race.our_results()[0]
        keep, model = model, gpt2(folder, torch.float64)
        want = run()
        model = keep
        largest = want.abs().max()
        errors = [float((t.double() - want).abs().max() / largest) for t in (ours, theirs)]
        count = self.batch * self.pos
        work = gpt2_work(count, self.pos, count)
        for threads in self.threads:
            yield Contest(
                self.name,
                self.shape,
                self.dtype,
                threads,
                peers,
                self.goal,
                Work(work * (3 if self.backward else 1), self.dtype),
                error_ours=errors[0],
                error_peer=errors[1],
            )


@dataclasses.dataclass
class PrefillRow:
    """GPT-2 124M reads a prompt, logits of the last position alone, against llama.cpp."""

    pos: int = 512
    goal: float = 1.0
    threads: tuple = (2,)

    name, dtype = "GPT-2 124M prefill, llama.cpp", "f32"
    # Of its llama-bench with 2 threads on 2 cores of an AMD EPYC, where it is not installed.
    tokens_per_second = 753

    @property
    def shape(self):
        return f"1x{self.pos}, last logits"

    def title(self):
        return f"{self.name} {self.shape} {self.dtype}"

    def contests(self, race):
        try:
            folder = gpt2_folder(race)
        except ImportError:
            note("  left out: it needs the Python package transformers")
            return
        tokens = torch.arange(self.pos)
        race.server.ask(do="model", folder=folder, shape=[1, self.pos], dtype="f32", last_logits=1)
        torch.set_num_threads(2)
        with torch.no_grad():
            exact = gpt2(folder, torch.float64)(tokens[None], use_cache=False).logits[0, -1]

        def error(logits):
            return float((logits.double() - exact).abs().max() / exact.abs().max())

        peers, error_peer, keep = [], None, None
        try:
            import llama

            path = f"{race.folder}/gpt2.gguf"
            llama.write_gguf(gpt2(folder, torch.float32), path)
            peers.append(llama.Prefill(path, tokens.tolist()))
            error_peer = error(peers[0]())
        except ImportError:
            note("  against a time on record: it needs the packages llama-cpp-python and gguf")
            keep = self.pos / self.tokens_per_second
        for threads in self.threads:
            yield Contest(
                self.name,
                self.shape,
                self.dtype,
                threads,
                peers,
                self.goal,
                Work(gpt2_work(self.pos, self.pos, 1), self.dtype),
                keep_seconds=keep,
                error_ours=error(race.our_results()[0].flatten()),
                error_peer=error_peer,
            )


def all_rows():
    return [
        TrainingRow("training step", 2, 256, 8, 256, 16, 256, False, 1.6, (2, 1)),
        TrainingRow("training step", 2, 256, 8, 256, 16, 50257, False, 1.5, steps=10),
        TrainingRow("training step", 4, 128, 4, 64, 12, 65, True, 1.6, (2, 1)),
        TrainingRow("training step", 6, 384, 6, 256, 12, 65, True, 1.2, (2, 1), 0.8),
        TrainingRow("training step", 2, 256, 8, 256, 16, 256, False, 1.3, dtype="bf16"),
        TrainingRow("training step", 2, 256, 8, 256, 16, 50257, False, 1.3, steps=5, dtype="bf16"),
        TrainingRow("training step", 4, 128, 4, 64, 12, 65, True, 1.3, (2, 1), dtype="bf16"),
        TrainingRow("training step", 6, 384, 6, 256, 12, 65, True, 1.3, (2, 1), None, 20, "bf16"),
        ForwardRow(1, 1024, 1.3),
        ForwardRow(8, 128, 1.3),
        ForwardRow(1, 16, 2.0),
        ForwardRow(1, 1024, 1.2, "bf16"),
        ForwardRow(8, 128, 1.2, "bf16"),
        ForwardRow(1, 16, 1.2, "bf16"),
        ForwardRow(1, 1024, 1.3, backward=True, threads=(2,)),
        PrefillRow(),
    ]
