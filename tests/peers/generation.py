#!/usr/bin/env python3
"""Races generation against Hugging Face's and llama.cpp's on this machine, in turns, in one run.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch==2.13.0 transformers gguf
    /tmp/peers/bin/pip install --no-binary llama-cpp-python llama-cpp-python
    /tmp/peers/bin/python tests/peers/generation.py

GPT-2 124M with random weights on two threads: reading a prompt, going on from it in f32, bf16 and
int8, the time from the start of a process to its first token, and the most memory a process held.
Reading is timed in two processes that stay (//tests/bench:peer_server), as in compare.py; the rest
is what //tools:generate itself says of a run (--json) or what its process shows. Times are medians,
the ratio is theirs over ours. Going on is held to reading memory: a token reads every weight but the
table of positions, and the keys and values so far, and a turn of each round reads as many bytes on
as many threads and does nothing else (in the server, "move").

Rows that miss their goal are marked; the exit code is 0 all the same.
"""

import argparse
import fnmatch
import json
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import turns  # noqa: E402
from turns import medians, timed  # noqa: E402

THREADS = 2
LAYERS, D_MODEL, N_CTX, D_VOCAB = 12, 768, 1024, 50257
# Parameters: those of matrices, those of gains and biases, and the table of positions.
MATRICES = D_VOCAB * D_MODEL + LAYERS * 12 * D_MODEL**2
VECTORS = LAYERS * 13 * D_MODEL + 2 * D_MODEL
POSITIONS = N_CTX * D_MODEL
PROMPT = 32  # tokens before those that are timed

# What a process of Hugging Face's does for its first tokens.
HUGGING_FACE = """
import sys, torch, transformers
torch.set_num_threads(int(sys.argv[4]))
transformers.utils.logging.disable_progress_bar()
model = transformers.GPT2LMHeadModel.from_pretrained(sys.argv[1]).eval()
ids = torch.arange(int(sys.argv[2]))[None]
with torch.no_grad():
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                         max_new_tokens=int(sys.argv[3]), pad_token_id=0, eos_token_id=None)
print(out[0, ids.shape[1]:].tolist(), flush=True)
"""


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--write-docs", action="store_true", help="write docs/generation.md with the table"
    )
    parser.add_argument("--filter", default="*", metavar="GLOB", help="parts whose name matches")
    parser.add_argument("--quick", action="store_true", help="fewer turns and tokens")
    parser.add_argument("--list", action="store_true", help="name the parts and stop")
    parser.add_argument("--bin", help="bazel-bin, with everything built already")
    return parser.parse_args()


class Bench(turns.Bench):
    """With the models in every format, and what the tool can do."""

    def __init__(self, binaries, quick):
        super().__init__(binaries, 3 if quick else 5, 64 if quick else 128)
        about = subprocess.run([self.generate, "--help"], capture_output=True, text=True, check=True)
        self.help = about.stdout + about.stderr

    def folder(self, dtype):
        """As Hugging Face saves it, in f32 or bf16."""
        import model_rows
        import torch

        plain = model_rows.gpt2_folder(self.race)
        if dtype == "f32":
            return plain

        def make():
            folder = f"{self.race.folder}/gpt2-{dtype}"
            model_rows.gpt2(plain, torch.bfloat16).save_pretrained(folder)
            return folder

        return self._make(dtype, make)

    def hugging_face(self, dtype):
        import model_rows
        import torch

        wanted = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
        return self._make(("hf", dtype), lambda: model_rows.gpt2(self.folder("f32"), wanted))

    def gguf(self, dtype):
        """For llama.cpp, in f32, bf16 or q8_0."""
        import llama

        path = f"{self.race.folder}/gpt2-{dtype}.gguf"

        def make():
            if dtype == "f32":
                llama.write_gguf(self.hugging_face("f32"), path)
            else:
                llama.quantize(self.gguf("f32"), path, dtype)
            return path

        return self._make(("gguf", dtype), make)

    def command(self, dtype, prompt, count, quantize=False):
        return [
            self.generate,
            "--model=" + self.folder(dtype),
            "--tokens=" + ",".join(map(str, range(prompt))),
            f"--max_new_tokens={count}",
            "--temperature=0",
            "--stop_at_eos=false",
            f"--threads={THREADS}",
            "--json",
        ] + (["--quantize=int8"] if quantize else [])


def row(name, shape, dtype, peer, ours, theirs, goal, **more):
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
        "limit_share": None,
        "share_goal": None,
        "error_ours": None,
        "error_peer": None,
    }
    result.update(more)
    return result


def prefill(bench, pos):
    import model_rows
    import torch

    tokens = torch.arange(pos)
    folder = bench.folder("f32")
    server = bench.race.server
    server.ask(do="model", folder=folder, shape=[1, pos], dtype="f32", last_logits=1)
    model = bench.hugging_face("f32")

    def there():
        with torch.no_grad():
            # As its generate reads a prompt: a cache, and the logits of the last position.
            return model(tokens[None], use_cache=True, logits_to_keep=1).logits[0, -1]

    sides = {"ours": lambda: sum(ask()), "Hugging Face": lambda: timed(there)}
    errors = {"ours": bench.race.our_results()[0].flatten(), "Hugging Face": there()}
    try:
        import llama

        other = llama.Prefill(bench.gguf("f32"), tokens.tolist())
        sides["llama.cpp"] = lambda: timed(other)
        errors["llama.cpp"] = other()
    except ImportError:
        bench.note("  without llama.cpp: it needs the packages llama-cpp-python and gguf")

    def ask():
        return server.ask(do="time", threads=THREADS, seconds=0, repeat=1, warm=False)["times"]

    with torch.no_grad():
        exact = model_rows.gpt2(folder, torch.float64)(tokens[None], use_cache=False).logits[0, -1]
    errors = {
        name: float((logits.double() - exact).abs().max() / exact.abs().max())
        for name, logits in errors.items()
    }
    middle = medians(sides, bench.rounds)
    best = model_rows.gpt2_work(pos, pos, 1) / bench.race.limits(THREADS)["f32"]
    for peer, goal in (("Hugging Face", 1.3), ("llama.cpp", 1.1)):
        if peer in middle:
            yield row(
                "prefill",
                f"1x{pos}",
                "f32",
                peer,
                middle["ours"],
                middle[peer],
                goal,
                limit_share=best / middle["ours"],
                error_ours=errors["ours"],
                error_peer=errors[peer],
                tokens_per_second=pos / middle["ours"],
                peer_tokens_per_second=pos / middle[peer],
            )


def weights_bytes(dtype):
    """What a token reads of the weights: all but the table of positions."""
    if dtype == "int8":  # 64 integers and their scale, ops/quantized; vectors stay as they were
        return MATRICES * (1 + 4 / 64) + VECTORS * 4
    return (MATRICES + VECTORS) * {"f32": 4, "bf16": 2}[dtype]


def cache_bytes(tokens):
    return 2 * LAYERS * D_MODEL * 4 * tokens


def ours_going_on(bench, command, tokens_out):
    def side():
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        tokens_out[:] = result["tokens"]
        return result["seconds"]["decode"]

    return side


def decode(bench, dtype):
    """One token after the other, behind a prompt of 32; the first comes with the prompt."""
    import torch

    steps = bench.tokens - 1
    ours, theirs, likewise = [], [], []
    int8 = dtype == "int8"
    if int8 and "--quantize" not in bench.help:
        bench.note("  left out: //tools:generate has no --quantize")
        return
    sides = {
        "ours": ours_going_on(
            bench, bench.command("f32" if int8 else dtype, PROMPT, bench.tokens, int8), ours
        )
    }
    if int8:
        sides["our bf16"] = ours_going_on(bench, bench.command("bf16", PROMPT, bench.tokens), [])
    else:
        model = bench.hugging_face(dtype)
        ids = torch.arange(PROMPT)[None]

        def hugging_face():
            # Its own loop, less the time of one with a single token.
            def run(count):
                with torch.no_grad():
                    return model.generate(
                        ids,
                        attention_mask=torch.ones_like(ids),
                        do_sample=False,
                        max_new_tokens=count,
                        pad_token_id=0,
                        eos_token_id=None,
                    )

            first = timed(lambda: run(1))
            start = time.perf_counter()
            theirs[:] = run(bench.tokens)[0, PROMPT:].tolist()
            return time.perf_counter() - start - first

        sides["Hugging Face"] = hugging_face
    peer_dtype = "q8_0" if int8 else dtype
    try:
        import llama

        other = llama.Decode(bench.gguf(peer_dtype), list(range(PROMPT)), bench.tokens)

        def llama_cpp():
            likewise[:], seconds = other()
            return seconds

        sides["llama.cpp"] = llama_cpp
    except ImportError:
        bench.note("  without llama.cpp: it needs the packages llama-cpp-python and gguf")
    amount = weights_bytes(dtype) + cache_bytes(PROMPT + bench.tokens / 2)

    def limit():
        """A token's bytes, read: other tenants of the memory come and go, so a turn of each round."""
        times = bench.race.server.ask(
            do="move", limit="read", bytes=int(amount), threads=THREADS, seconds=0.2
        )["times"]
        return steps * statistics.median(times)

    # Beside ours, before the peers' turns.
    sides = {"ours": sides.pop("ours"), "limit": limit, **sides}
    middle = medians(sides, bench.rounds)
    best = middle["limit"] / steps
    per_token = {name: seconds / steps for name, seconds in middle.items()}
    for peer, tokens in (("Hugging Face", theirs), ("llama.cpp", likewise), ("our bf16", None)):
        if peer not in per_token:
            continue
        goal, share_goal = 0.9 * per_token[peer] / best, 0.9
        if int8:  # held to peers, not to the bandwidth
            goal, share_goal = (1.6 if peer == "our bf16" else 1.0), None
        same = 0
        while tokens and same < len(ours) and ours[same] == tokens[same]:
            same += 1
        yield row(
            "decode",
            f"{PROMPT} + {bench.tokens}",
            dtype,
            peer if peer != "llama.cpp" or not int8 else "llama.cpp q8_0",
            per_token["ours"],
            per_token[peer],
            goal,
            limit_share=best / per_token["ours"],
            share_goal=share_goal,
            tokens_per_second=1 / per_token["ours"],
            peer_tokens_per_second=1 / per_token[peer],
            same_tokens=same if tokens else None,
        )


def first_byte(command):
    """Seconds from the start of a process to its first output."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    if process.returncode or not first:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return seconds


def python_command(bench, prompt, count):
    return [
        sys.executable,
        "-c",
        HUGGING_FACE,
        bench.folder("f32"),
        str(prompt),
        str(count),
        str(THREADS),
    ]


def first_token(bench):
    ours = [arg for arg in bench.command("f32", PROMPT, 1) if arg != "--json"]
    theirs = python_command(bench, PROMPT, 1)
    sides = {"ours": lambda: first_byte(ours), "theirs": lambda: first_byte(theirs)}
    middle = medians(sides, min(bench.rounds, 3))
    yield row(
        "start to first token",
        f"{PROMPT} + 1",
        "f32",
        "Hugging Face",
        middle["ours"],
        middle["theirs"],
        10.0,
    )


def peak_memory(command):
    """The VmHWM of a process: the most bytes it held at once, mapped files that it read included."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        reader = threading.Thread(target=process.stdout.read)
        reader.start()
        while process.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            except OSError:
                break
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            peak = max(peak, 1024 * int(found.group(1)) if found else 0)
            time.sleep(0.002)
        reader.join()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}")
    return peak


def memory(bench, dtype):
    """Ours against 1.1 times the weights and the cache, and against a process of Hugging Face's."""
    int8 = dtype == "int8"
    stored = "f32" if int8 else dtype
    size = {"f32": 4, "bf16": 2}[stored]
    for prompt, count in ((PROMPT, 128), (960, 64)):
        needed = weights_bytes(dtype) + POSITIONS * size + cache_bytes(prompt + count)
        ours = peak_memory(bench.command(stored, prompt, count, int8))
        theirs = None
        if dtype == "f32" and prompt == PROMPT:
            theirs = peak_memory(python_command(bench, prompt, count))
        yield {
            "name": "peak memory",
            "shape": f"{prompt} + {count}",
            "dtype": dtype,
            "threads": THREADS,
            "peer": "Hugging Face",
            "ours_bytes": ours,
            "peer_bytes": theirs,
            "needed_bytes": needed,
            "ratio": ours / needed,
            "goal": 1.1,
        }


PARTS = {
    "prefill 512": lambda bench: prefill(bench, 512),
    "prefill 1024": lambda bench: prefill(bench, N_CTX),
    "decode f32": lambda bench: decode(bench, "f32"),
    "decode bf16": lambda bench: decode(bench, "bf16"),
    "decode int8": lambda bench: decode(bench, "int8"),
    "first token": first_token,
    "memory f32": lambda bench: memory(bench, "f32"),
    "memory bf16": lambda bench: memory(bench, "bf16"),
    "memory int8": lambda bench: memory(bench, "int8"),
}

COLUMNS = (
    "what", "tokens", "dtype", "against", "ours", "theirs", "ratio", "goal", "", "of the limit",
    "tokens/s", "theirs ",
)


def missed(result):
    if "ours_bytes" in result:
        return result["ratio"] > result["goal"]
    return result["ratio"] < result["goal"]


def cells(result):
    import report

    def rate(key):
        return f"{result[key]:.0f}" if result.get(key) else "-"

    if "ours_bytes" in result:
        peer = result["peer_bytes"]
        return (
            result["name"],
            result["shape"],
            result["dtype"],
            "weights and cache",
            f'{result["ours_bytes"] / 1e6:.0f} MB',
            "-" if peer is None else f"{peer / 1e6:.0f} MB (Hugging Face)",
            f'{result["ratio"]:.2f}',
            f'<= {result["goal"]:.2f}',
            "missed" if missed(result) else "",
            "-",
            "-",
            "-",
        )
    share = "-" if result["limit_share"] is None else f'{100 * result["limit_share"]:.0f} %'
    if result["share_goal"] is not None:
        share += f' of {100 * result["share_goal"]:.0f} %'
    return (
        result["name"],
        result["shape"],
        result["dtype"],
        result["peer"],
        report.seconds(result["ours_seconds"]),
        report.seconds(result["peer_seconds"]),
        f'{result["ratio"]:.2f}',
        f'{result["goal"]:.2f}',
        "missed" if missed(result) else "",
        share,
        rate("tokens_per_second"),
        rate("peer_tokens_per_second"),
    )


def head(whole):
    import report

    lines = [f'{whole["machine"]}; ' + ", ".join(f"{k} {v}" for k, v in whole["peers"].items())]
    return lines + report.limits_text(whole)


def table(whole):
    lines = turns.table([COLUMNS] + [cells(result) for result in whole["rows"]])
    return "\n".join(head(whole) + [""] + lines)


def write_docs(path, whole):
    """The page; what stands between the marks of notes in the page before it is kept."""
    import datetime

    import report

    notes = f"{report.NOTES_BEGIN}\n{report.NOTES_END}"
    if path.exists():
        before = path.read_text(encoding="utf-8")
        if report.NOTES_BEGIN in before and report.NOTES_END in before:
            end = before.index(report.NOTES_END) + len(report.NOTES_END)
            notes = before[before.index(report.NOTES_BEGIN) : end]
    text = [
        "# Generation against Hugging Face and llama.cpp",
        "",
        "Written by `tests/peers/generation.py --write-docs`; run it to have the numbers of your "
        "machine. GPT-2 124M with random weights; all sides take turns in one run, times are "
        "medians, of decoding per token; the ratio is theirs over ours (above 1 we are faster). "
        "Decoding is held to reading as many bytes and doing nothing else, a turn of each round, on "
        "the same threads; memory to the bytes of the weights and of the keys and values.",
        "",
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}; " + head(whole)[0] + ".",
        "",
    ]
    text += [f"- {line}" for line in head(whole)[1:]]
    text += ["", notes, "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    text += ["| " + " | ".join(cells(result)) + " |" for result in whole["rows"]]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def main():
    args = arguments()
    names = [name for name in PARTS if fnmatch.fnmatch(name, args.filter)]
    if not names:
        sys.exit(f"generation.py: no part matches {args.filter!r}; --list names them")
    if args.list:
        print("\n".join(names))
        return
    try:
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"generation.py: {error}; in a virtual environment: pip install torch transformers")
    import report

    torch.set_num_threads(THREADS)
    bench = Bench(turns.built(args.bin), args.quick)
    results = []
    try:
        for name in names:
            bench.note(name)
            for result in PARTS[name](bench):
                results.append(result)
                bench.note("  " + "  ".join(cells(result)))
        limits = {str(THREADS): bench.race.limits(THREADS)}
    finally:
        bench.close()
    peers = {"PyTorch": torch.__version__, "transformers": transformers.__version__}
    try:
        import llama_cpp

        peers["llama-cpp-python"] = llama_cpp.__version__
    except ImportError:
        pass
    whole = {"machine": report.machine(), "peers": peers, "limits": limits, "rows": results}
    if args.write_docs:
        write_docs(turns.ROOT / "docs/generation.md", whole)
    print(json.dumps(whole, indent=1) if args.json else table(whole))


if __name__ == "__main__":
    main()
