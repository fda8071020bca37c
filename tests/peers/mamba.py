#!/usr/bin/env python3
"""Races Mamba-130m against Hugging Face's and llama.cpp's on this machine, in turns, in one run.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch==2.13.0 transformers gguf
    /tmp/peers/bin/pip install --no-binary llama-cpp-python llama-cpp-python
    /tmp/peers/bin/python tests/peers/mamba.py

The shape of the published model with random weights, on two threads: reading 2048 tokens in f32 and
bf16, and going on one token at a time behind a prompt of 32. Reading is timed in processes that
stay (//tests/bench:peer_server), as in compare.py; going on is what //tools:generate itself says of
a run (--json). Times are medians, the ratio is theirs over ours. Going on is also held to the read
bandwidth, measured in the same turns: a token reads every weight, and every state twice.

Rows that miss their goal are marked; the exit code is 0 all the same.
"""

import argparse
import fnmatch
import json
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import turns  # noqa: E402
from turns import medians, table, timed  # noqa: E402

THREADS = 2
LAYERS, D_MODEL, D_INNER, D_STATE, D_CONV = 24, 768, 1536, 16, 4
READ, PROMPT = 2048, 32


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--filter", default="*", metavar="GLOB", help="parts whose name matches")
    parser.add_argument("--rounds", type=int, default=3, help="turns that are counted")
    parser.add_argument("--tokens", type=int, default=64, help="tokens to go on with")
    parser.add_argument("--list", action="store_true", help="name the parts and stop")
    parser.add_argument("--bin", help="bazel-bin, with everything built already")
    return parser.parse_args()


class Bench(turns.Bench):
    """With the model in every format."""

    def folder(self, dtype):
        """As Hugging Face saves it."""
        import torch
        import transformers

        def make():
            folder = f"{self.race.folder}/mamba-{dtype}"
            if dtype == "f32":
                torch.manual_seed(1)
                config = transformers.MambaConfig(hidden_size=D_MODEL, num_hidden_layers=LAYERS)
                model = transformers.MambaForCausalLM(config)
            else:
                model = self._load(self.folder("f32"), torch.bfloat16)
            model.save_pretrained(folder)
            return folder

        return self._make(("folder", dtype), make)

    @staticmethod
    def _load(folder, dtype):
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        return transformers.MambaForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    def hugging_face(self, dtype):
        import torch

        wanted = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
        return self._make(("model", dtype), lambda: self._load(self.folder("f32"), wanted))

    def gguf(self, dtype):
        """For llama.cpp; None without it."""
        try:
            import llama
        except ImportError:
            self.note("  without llama.cpp: it needs the packages llama-cpp-python and gguf")
            return None
        path = f"{self.race.folder}/mamba-{dtype}.gguf"

        def make():
            if dtype == "f32":
                llama.write_mamba_gguf(self.hugging_face("f32"), path)
            else:
                llama.quantize(self.gguf("f32"), path, dtype)
            return path

        return self._make(("gguf", dtype), make)


def row(name, shape, dtype, peer, ours, theirs, goal, tokens, **more):
    result = {
        "name": name,
        "shape": shape,
        "dtype": dtype,
        "threads": THREADS,
        "peer": peer,
        "ours_seconds": ours,
        "peer_seconds": theirs,
        "ratio": theirs / ours,
        "goal": goal,
        "tokens_per_second": tokens / ours,
        "peer_tokens_per_second": tokens / theirs,
    }
    result.update(more)
    return result


def parameters():
    """All of them, the table of tokens once."""
    rank = D_MODEL // 16
    block = D_MODEL * 2 * D_INNER + D_INNER * D_MODEL  # in, out
    block += D_INNER * (D_CONV + 1) + D_INNER * (rank + 2 * D_STATE)
    block += rank * D_INNER + D_INNER + D_INNER * D_STATE + D_INNER + D_MODEL
    return 50280 * D_MODEL + LAYERS * block + D_MODEL


def read(bench, dtype):
    """A prompt, with the logits of its last position."""
    import torch

    tokens = torch.arange(READ)
    server = bench.race.server
    server.ask(do="model", folder=bench.folder(dtype), shape=[1, READ], dtype=dtype, last_logits=1)

    def ours():
        return sum(server.ask(do="time", threads=THREADS, seconds=0, repeat=1, warm=False)["times"])

    sides = {"ours": ours}
    if dtype == "f32":
        model = bench.hugging_face(dtype)

        def there():
            with torch.no_grad():
                return model(tokens[None], use_cache=False, logits_to_keep=1).logits[0, -1]

        sides["Hugging Face"] = lambda: timed(there)
        got, want = bench.race.our_results()[0].flatten(), there()
        difference = (got - want).abs().max() / want.abs().max()
        bench.note(f"  largest difference of a logit, of the largest logit: {difference:.1e}")
    path = bench.gguf(dtype)
    if path:
        import llama

        other = llama.Prefill(path, tokens.tolist())
        sides["llama.cpp"] = lambda: timed(other)
    middle = medians(sides, bench.rounds)
    goals = {"Hugging Face": 4.5, "llama.cpp": 2.0 if dtype == "f32" else 1.8}
    for peer, goal in goals.items():
        if peer in middle:
            yield row(
                "read", f"1x{READ}", dtype, peer, middle["ours"], middle[peer], goal, READ
            )


def go_on(bench, dtype):
    """One token after the other; the first comes with the prompt."""
    steps = bench.tokens - 1
    command = [
        bench.generate,
        "--model=" + bench.folder(dtype),
        "--tokens=" + ",".join(map(str, range(PROMPT))),
        f"--max_new_tokens={bench.tokens}",
        "--temperature=0",
        "--stop_at_eos=false",
        f"--threads={THREADS}",
        "--json",
    ]
    tokens, likewise = [], []

    def ours():
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        tokens[:] = result["tokens"]
        return result["seconds"]["decode"] / steps

    amount = parameters() * {"f32": 4, "bf16": 2}[dtype]
    amount += 2 * 4 * LAYERS * D_INNER * (D_STATE + D_CONV - 1)

    def limit():
        times = bench.race.server.ask(
            do="move", limit="read", bytes=amount, threads=THREADS, seconds=0.2, warm=True
        )["times"]
        return statistics.median(times)

    sides = {"ours": ours, "limit": limit}
    path = bench.gguf(dtype)
    if path:
        import llama

        other = llama.Decode(path, list(range(PROMPT)), bench.tokens)

        def llama_cpp():
            likewise[:], seconds = other()
            return seconds / steps

        sides["llama.cpp"] = llama_cpp
    middle = medians(sides, bench.rounds)
    peers = {"llama.cpp": 1.0, "limit": 0.85}
    for peer, goal in peers.items():
        if peer not in middle:
            continue
        same = None
        if peer == "llama.cpp":
            same = next((i for i, (a, b) in enumerate(zip(tokens, likewise)) if a != b), len(tokens))
        yield row(
            "go on",
            f"{PROMPT} + {bench.tokens}",
            dtype,
            "read bandwidth" if peer == "limit" else peer,
            middle["ours"],
            middle[peer],
            goal,
            1,
            same_tokens=same,
        )


PARTS = {
    "read f32": lambda bench: read(bench, "f32"),
    "read bf16": lambda bench: read(bench, "bf16"),
    "go on f32": lambda bench: go_on(bench, "f32"),
    "go on bf16": lambda bench: go_on(bench, "bf16"),
}

COLUMNS = (
    "what", "tokens", "dtype", "against", "ours", "theirs", "ratio", "goal", "", "tokens/s",
    "theirs ",
)


def cells(result):
    import report

    return (
        result["name"],
        result["shape"],
        result["dtype"],
        result["peer"],
        report.seconds(result["ours_seconds"]),
        report.seconds(result["peer_seconds"]),
        f'{result["ratio"]:.2f}',
        f'{result["goal"]:.2f}',
        "missed" if result["ratio"] < result["goal"] else "",
        f'{result["tokens_per_second"]:.0f}',
        f'{result["peer_tokens_per_second"]:.0f}',
    )


def main():
    args = arguments()
    names = [name for name in PARTS if fnmatch.fnmatch(name, args.filter)]
    if not names:
        sys.exit(f"mamba.py: no part matches {args.filter!r}; --list names them")
    if args.list:
        print("\n".join(names))
        return
    try:
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"mamba.py: {error}; in a virtual environment: pip install torch transformers")
    import report

    torch.set_num_threads(THREADS)
    bench = Bench(turns.built(args.bin), args.rounds, args.tokens)
    results = []
    try:
        for name in names:
            bench.note(name)
            for result in PARTS[name](bench):
                results.append(result)
                bench.note("  " + "  ".join(cells(result)))
    finally:
        bench.close()
    whole = {
        "machine": report.machine(),
        "peers": {"PyTorch": torch.__version__, "transformers": transformers.__version__},
        "rows": results,
    }
    if args.json:
        print(json.dumps(whole, indent=1))
        return
    print(whole["machine"] + "; " + ", ".join(f"{k} {v}" for k, v in whole["peers"].items()))
    print("\n".join(table([COLUMNS] + [cells(result) for result in results])))


if __name__ == "__main__":
    main()
