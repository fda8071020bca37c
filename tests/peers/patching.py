#!/usr/bin/env python3
"""Races //tools:patch against TransformerLens on GPT-2s of random weights.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch transformers transformer_lens
    ./bazelw build //tools:patch
    /tmp/peers/bin/python tests/peers/patching.py [--only=NAME] [--model=DIR] [--peer=false] [--json]

Rows are sweeps of GPT-2 small (12 layers, 12 heads, d_model 768, the whole vocabulary) on prompts
of 16 random tokens that differ from the third on, of a model of 4 layers and d_model 64 on 64
tokens, and attribution patching. Each side is a process of its own, for its peak memory, and times
are without loading the model, but ours holds the paging in of its mapped weights, and both runs the
sweep starts from. TransformerLens's cells take one forward each, so that it is
timed on evenly spaced ones (--cells) and multiplied; values are compared there. Attribution is of
what blocks read and write, in TransformerLens by attribution_patch.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SMALL = {}
TINY = {"n_layer": 4, "n_embd": 64, "n_head": 4, "n_positions": 64, "vocab_size": 1000}
# name: config, batch, positions, kind, by, method, goal
ROWS = {
    "resid_pre": (SMALL, 1, 16, "resid_pre", "pos", "activation", 18),
    "z_head": (SMALL, 1, 16, "z", "head", "activation", 10),
    "z_head_pos": (SMALL, 1, 16, "z", "head_pos", "activation", 18),
    "q_head": (SMALL, 1, 16, "q", "head", "activation", 10),
    "pattern_head": (SMALL, 1, 16, "pattern", "head", "activation", 10),
    "resid_pre_8": (SMALL, 8, 16, "resid_pre", "pos", "activation", 18),
    "z_head_8": (SMALL, 8, 16, "z", "head", "activation", 10),
    "attribution": (SMALL, 1, 16, "block_every", "pos", "attribution", 3),
    "tiny_resid_pre": (TINY, 1, 64, "resid_pre", "pos", "activation", 20),
    "tiny_z_head": (TINY, 1, 64, "z", "head", "activation", 20),
    "tiny_z_head_pos": (TINY, 1, 64, "z", "head_pos", "activation", 20),
}


def make_model(folder, config):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **config)).save_pretrained(folder)


def make_prompts(path, config, batch, positions):
    """Pairs that differ from the third token on: as names in a sentence do, and more."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    vocab = config.get("vocab_size", 50257)
    clean = torch.randint(vocab, (batch, positions))
    corrupted = clean.clone()
    corrupted[:, 2:] = torch.randint(vocab, (batch, positions - 2))
    save_file({"clean": clean, "corrupted": corrupted}, path)
    ids = torch.randint(vocab, (2, batch)).tolist()
    return [",".join(map(str, row)) for row in ids]


def with_peak(command):
    """A process's stdout, and its peak bytes."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE)\n"
        "sys.stdout.write(done.stdout.decode())\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)\n"
    )
    lines = subprocess.run([sys.executable, "-c", code, *command], check=True,
                           stdout=subprocess.PIPE).stdout.decode().splitlines()
    return lines[0], int(lines[-1])


def ours(folder, prompts, ids, row, threads):
    from safetensors.torch import load_file

    _, _, _, kind, by, method, _ = row
    out = prompts + ".ours"
    line, peak = with_peak([
        str(ROOT / "bazel-bin/tools/patch"), f"--model={folder}",
        f"--clean={prompts}:clean", f"--corrupted={prompts}:corrupted", f"--kind={kind}",
        f"--by={by}", f"--method={method}", f"--answer={ids[0]}", f"--wrong={ids[1]}",
        f"--threads={threads}", f"--out={out}", "--json",
    ])
    done = json.loads(line)
    return done["seconds"]["patch"], peak, load_file(out)["result"]


def bridge(folder):
    """The folder's model in TransformerLens."""
    from tokenizers import Tokenizer, models
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerFast

    # It wants a tokenizer, which is not used.
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="b", eos_token="b",
                                        name_or_path=folder, pad_token="b")
    model = TransformerBridge.boot_transformers(folder, device="cpu", tokenizer=tokenizer)
    model.enable_compatibility_mode(disable_warnings=True, no_processing=True)
    model.eval()
    return model


def peer(folder, prompts, answer, wrong, name, threads, cells):
    """Prints its seconds for the whole sweep and peak bytes as JSON, and writes its cells."""
    import torch
    import transformer_lens.patching as patching
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(threads)
    _, _, _, kind, by, method, _ = ROWS[name]
    model = bridge(folder)
    tokens = load_file(prompts)
    clean, corrupted = tokens["clean"], tokens["corrupted"]
    right = torch.tensor(list(map(int, answer.split(","))))
    left = torch.tensor(list(map(int, wrong.split(","))))

    def metric(logits):
        rows = torch.arange(logits.shape[0])
        return (logits[rows, -1, right[: len(rows)]] - logits[rows, -1, left[: len(rows)]]).mean()

    if method == "attribution":
        from transformer_lens.tools.analysis.attribution_patching import attribution_patch

        times = []
        for _ in range(4):
            start = time.monotonic()
            result = attribution_patch(model, clean, corrupted, metric)
            times.append(time.monotonic() - start)
        seconds = sorted(times[1:])[1]
        scores = {str(node): float(score) for node, score in result.node_scores.items()}
        save_file({"scores": torch.tensor(list(scores.values()))}, prompts + ".peer")
    else:
        import pandas

        layers, heads, positions = model.cfg.n_layers, model.cfg.n_heads, clean.shape[1]
        axes = {"pos": ["layer", "pos"], "head": ["layer", "head_index"],
                "head_pos": ["layer", "pos", "head_index"]}[by]
        if (kind, by) == ("pattern", "head_pos"):
            axes = ["layer", "head_index", "pos"]
        sizes = {"layer": layers, "pos": positions, "head_index": heads}
        table = patching.make_df_from_ranges([sizes[a] for a in axes], axes)
        if kind == "pattern":
            setter = patching.layer_head_pattern_patch_setter
        else:
            setter = {"pos": patching.layer_pos_patch_setter,
                      "head": patching.layer_head_vector_patch_setter,
                      "head_pos": patching.layer_pos_head_vector_patch_setter}[by]
        taken = sorted({round(i * (len(table) - 1) / (cells - 1)) for i in range(cells)})
        with torch.no_grad():
            model(corrupted)
            start = time.monotonic()
            _, cache = model.run_with_cache(clean)
            both = time.monotonic() - start
            start = time.monotonic()
            values = patching.generic_activation_patch(
                model, corrupted, cache, metric, setter, kind,
                index_df=pandas.DataFrame(table.iloc[taken]).reset_index(drop=True),
            )
            seconds = both + (time.monotonic() - start) * len(table) / len(taken)
        save_file({"values": values.contiguous(), "taken": torch.tensor(taken)}, prompts + ".peer")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "bytes": peak}))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="comma-separated rows: " + ", ".join(ROWS))
    parser.add_argument("--peer", default="true", choices=("true", "false"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cells", type=int, default=24, help="TransformerLens is timed on")
    parser.add_argument("--model", help="a folder with a GPT-2 small; made if it is not given")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run-peer", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run_peer:
        # What libraries print is not the result.
        stdout, sys.stdout = os.dup(1), sys.stderr
        os.dup2(2, 1)
        sys.stdout = os.fdopen(stdout, "w")
        peer(*args.run_peer, args.threads, args.cells)
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in args.only.split(",") if args.only else ROWS:
            row = ROWS[name]
            config, batch, positions, kind, by, method, goal = row
            tiny = config is TINY
            folder = args.model if args.model and not tiny else f"{scratch}/{'tiny' if tiny else 'small'}"
            if not pathlib.Path(folder, "config.json").exists():
                make_model(folder, config)
            prompts = f"{scratch}/{name}"
            ids = make_prompts(prompts, config, batch, positions)
            times = [ours(folder, prompts, ids, row, args.threads) for _ in range(3)]
            seconds, peak, result = sorted(times, key=lambda t: t[0])[1]
            done = {"name": name, "batch": batch, "positions": positions,
                    "cells": result.numel(), "threads": args.threads, "ours_seconds": seconds,
                    "ours_bytes": peak, "goal": goal}
            if args.peer == "true":
                from safetensors.torch import load_file

                line, _ = with_peak([sys.executable, __file__, f"--threads={args.threads}",
                                     f"--cells={args.cells}", "--run-peer", folder, prompts, *ids,
                                     name])
                theirs = json.loads(line)
                done["peer_seconds"], done["peer_bytes"] = theirs["seconds"], theirs["bytes"]
                done["ratio"] = theirs["seconds"] / seconds
                found = load_file(prompts + ".peer")
                if "values" in found:
                    ours_there = result.reshape(-1)[found["taken"]]
                    done["difference"] = float((ours_there - found["values"]).abs().max())
            rows.append(done)
            if not args.json:
                print(line_of(done), flush=True)
    if args.json:
        print(json.dumps({"rows": rows}, indent=1))


def line_of(row):
    line = (f"{row['name']:16s} {row['cells']:5d} cells {row['ours_seconds']:8.3f} s "
            f"{row['ours_bytes'] / 1e9:5.2f} GB")
    if "peer_seconds" in row:
        line += (f"   TransformerLens {row['peer_seconds']:8.2f} s {row['peer_bytes'] / 1e9:5.2f} GB"
                 f"   {row['ratio']:6.1f} times (goal {row['goal']})")
    if "difference" in row:
        line += f"   differ by {row['difference']:.1g}"
    return line


if __name__ == "__main__":
    main()
