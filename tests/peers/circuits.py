#!/usr/bin/env python3
"""Races //tools:circuits against TransformerLens's formulas on a GPT-2 small of random weights.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch transformers transformer_lens
    /tmp/peers/bin/python tests/peers/circuits.py [--tied] [--peer=false] [--json]

Two things of 12 x 12 heads with d_model 768, on two threads: the compositions Q, K and V of all
pairs of heads, and the copying scores with embeddings, of W_E OV W_U and W_E QK W_E^T. Each side is a
process of its own, for its peak memory; times are without loading the model. TransformerLens is
raced by its own FactoredMatrix and composition_scores, on the same weights.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PARTS = {"compositions": "composition.*", "full_copying": "full_*"}
GOALS = {"compositions": 3.0, "full_copying": 1.5}  # seconds


def make_model(folder, tied):
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(tie_word_embeddings=tied))
    model.save_pretrained(folder)


def ours(folder, part, threads):
    """(seconds, peak bytes, tensors by name)"""
    from safetensors.torch import load_file

    out = str(pathlib.Path(folder) / "ours.safetensors")
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE)\n"
        "sys.stdout.write(done.stdout.decode())\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)\n"
    )
    lines = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "bazel-bin/tools/circuits"), f"--model={folder}",
         f"--out={out}", f"--names={PARTS[part]}", f"--threads={threads}", "--json"],
        check=True, stdout=subprocess.PIPE,
    ).stdout.decode().splitlines()
    seconds = json.loads(lines[0])["seconds"]
    return sum(s for name, s in seconds.items() if name != "load"), int(lines[1]), load_file(out)


def peer(folder, part, threads, out):
    """Prints its seconds and peak bytes as JSON, and writes its tensors."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformer_lens import FactoredMatrix
    from transformer_lens.utilities import composition_scores

    torch.set_num_threads(threads)
    weights = load_file(str(pathlib.Path(folder) / "model.safetensors"))
    layers, heads, d = 12, 12, 768
    prefix = "transformer.h.%d.attn.%s.weight"
    columns = torch.stack([weights[prefix % (l, "c_attn")] for l in range(layers)])
    split = columns.view(layers, d, 3, heads, 64).permute(2, 0, 3, 1, 4).contiguous()
    W_Q, W_K, W_V = split
    W_O = torch.stack([weights[prefix % (l, "c_proj")] for l in range(layers)])
    W_O = W_O.view(layers, heads, 64, d)
    W_E = weights["transformer.wte.weight"]
    W_U = weights.get("lm_head.weight", W_E).T
    OV, QK = FactoredMatrix(W_V, W_O), FactoredMatrix(W_Q, W_K.transpose(-2, -1))
    tensors = {}
    start = time.monotonic()
    if part == "compositions":
        below = torch.arange(layers)[:, None, None, None] < torch.arange(layers)[None, None, :, None]
        for name, right in (("Q", QK), ("K", QK.T), ("V", OV)):
            scores = composition_scores(OV, right, broadcast_dims=True)
            tensors["composition." + name] = torch.where(below, scores, torch.zeros(()))
    else:
        for name, circuit in (("full_OV", W_E @ OV @ W_U), ("full_QK", W_E @ QK @ W_E.T)):
            values = circuit.eigenvalues
            tensors[name + ".copying_score"] = values.sum(-1).real / values.abs().sum(-1)
    seconds = time.monotonic() - start
    save_file({name: x.contiguous() for name, x in tensors.items()}, out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "bytes": peak}))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tied", action="store_true", help="W_U is W_E transposed, as published")
    parser.add_argument("--peer", default="true", choices=("true", "false"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help="a folder made by an earlier run; made there if it is not")
    parser.add_argument("--only", choices=tuple(PARTS), help="one of the two")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run-peer", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run_peer:
        folder, part, out = args.run_peer
        peer(folder, part, args.threads, out)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.model or scratch
        if not (pathlib.Path(folder) / "config.json").exists():
            make_model(folder, args.tied)
        rows = []
        for part in [args.only] if args.only else PARTS:
            times = [ours(folder, part, args.threads) for _ in range(3)]
            seconds, peak, tensors = sorted(times, key=lambda t: t[0])[1]
            row = {"name": part, "threads": args.threads, "ours_seconds": seconds,
                   "ours_bytes": peak, "goal_seconds": GOALS[part]}
            if args.peer == "true":
                from safetensors.torch import load_file

                out = str(pathlib.Path(scratch) / "peer.safetensors")
                done = subprocess.run(
                    [sys.executable, __file__, f"--threads={args.threads}", "--run-peer", folder,
                     part, out], check=True, stdout=subprocess.PIPE,
                )
                theirs = json.loads(done.stdout.splitlines()[-1])
                row["peer_seconds"], row["peer_bytes"] = theirs["seconds"], theirs["bytes"]
                row["ratio"] = theirs["seconds"] / seconds
                row["difference"] = max(
                    float((tensors[name] - x).abs().max()) for name, x in load_file(out).items()
                )
            rows.append(row)
    if args.json:
        print(json.dumps({"rows": rows}, indent=1))
        return
    for row in rows:
        line = (f"{row['name']:14s} {row['ours_seconds']:6.2f} s {row['ours_bytes'] / 1e9:5.2f} GB "
                f"(goal {row['goal_seconds']} s)")
        if "peer_seconds" in row:
            line += (f"   TransformerLens {row['peer_seconds']:6.2f} s {row['peer_bytes'] / 1e9:5.2f} GB"
                     f"   {row['ratio']:.1f} times   differ by {row['difference']:.1g}")
        print(line)


if __name__ == "__main__":
    main()
