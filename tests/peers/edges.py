#!/usr/bin/env python3
"""Races //tools:edges against TransformerLens on a GPT-2 small of random weights.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch transformers transformer_lens
    ./bazelw build //tools:edges
    /tmp/peers/bin/python tests/peers/edges.py [--only=NAME] [--model=DIR] [--peer=false] [--json]

Rows are scores of all 32,491 edges, summed over positions: by EAP, by EAP-IG of inputs and of
activations (5 steps, Hanna et al. 2024), exactly, and ACDC. The published package needs the
HookedTransformer that TransformerLens 4 removed, so the formulas stand here, on its hook points:
what writers wrote on both prompts in one tensor, a backward pass to every reader, and one product
for the readers of a point. It is spared what the package does in vain: gradients of weights, and
backward passes below the activation that is interpolated. Each side is a process of its own, for
its peak memory; times are without loading the model, but hold both runs that scores start from.

Exact scores and ACDC have no peer that runs here; what TransformerLens is timed on there is a
forward pass with the hook that puts one edge in, on a few evenly spaced edges, multiplied.
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

import patching

ROOT = patching.ROOT
STEPS = 5
THRESHOLD = 0.001
# name: method, metric
ROWS = {
    "eap": ("eap", "logit_difference"),
    "eap_ig_inputs": ("eap_ig_inputs", "logit_difference"),
    "eap_ig_activations": ("eap_ig_activations", "logit_difference"),
    "exact": ("exact", "logit_difference"),
    "acdc": ("acdc", "kl"),
}


def ours(folder, prompts, ids, name, threads):
    """(seconds, peak bytes, tensors of the file, runs)"""
    from safetensors.torch import load_file

    method, metric = ROWS[name]
    out = prompts + ".ours"
    line, peak = patching.with_peak([
        str(ROOT / "bazel-bin/tools/edges"), f"--model={folder}", f"--clean={prompts}:clean",
        f"--corrupted={prompts}:corrupted", f"--method={method}", f"--metric={metric}",
        f"--answer={ids[0]}", f"--wrong={ids[1]}", f"--steps={STEPS}",
        f"--threshold={THRESHOLD}", "--top=1", "--curve=1", "--sets=0", f"--threads={threads}",
        f"--out={out}", "--json",
    ])
    done = json.loads(line)
    return done["seconds"]["score"], peak, load_file(out), done["runs"]


def by_head(x, count):
    """[batch, pos, heads, d_model], or without heads, as [heads, batch, pos, d_model]."""
    return x.reshape(*x.shape[:2], count, -1).permute(2, 0, 1, 3)


class Peer:
    """A model whose readers' gradients and writers' outputs are looked at."""

    def __init__(self, folder):
        import torch

        self.torch = torch
        self.model = patching.bridge(folder)
        self.model.set_use_attn_result(True)
        self.model.set_use_split_qkv_input(True)
        self.model.set_use_hook_mlp_in(True)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.layers, self.heads = self.model.cfg.n_layers, self.model.cfg.n_heads
        # Sites in the order of a run: hook, first writer, writers.
        self.sites = [("blocks.0.hook_resid_pre", 0, 1)]
        # Readers in the order of //tools:edges: hook, writers before it, first reader, readers.
        self.readers = []
        writers, readers = 1, 0
        for layer in range(self.layers):
            block = f"blocks.{layer}."
            for part in "qkv":
                self.readers.append((f"{block}attn.hook_{part}_input", writers, readers, self.heads))
                readers += self.heads
            self.sites.append((f"{block}attn.hook_result", writers, self.heads))
            writers += self.heads
            self.readers.append((f"{block}hook_mlp_in", writers, readers, 1))
            readers += 1
            self.sites.append((f"{block}hook_mlp_out", writers, 1))
            writers += 1
        last = f"blocks.{self.layers - 1}.hook_resid_post"
        self.readers.append((last, writers, readers, 1))
        self.n_writers, self.n_readers = writers, readers + 1

    def outputs(self, tokens):
        """What every writer wrote: [writers, batch, pos, d_model]."""
        torch = self.torch
        outputs = torch.empty(self.n_writers, *tokens.shape, self.model.cfg.d_model)

        def keep(first, count):
            def hook(x, hook):
                outputs[first:first + count] = by_head(x, count)
            return hook

        with torch.no_grad():
            self.model.run_with_hooks(
                tokens, fwd_hooks=[(name, keep(*rest)) for name, *rest in self.sites])
        return outputs

    def add(self, tokens, metric, difference, scores, site, value, only):
        """Adds difference . gradient to scores [writers, readers], of the writers [only), with
        `value`, [heads, batch, pos, d_model], in place of what the site wrote."""
        torch = self.torch
        read = {}

        def put(x, hook):
            return value.permute(1, 2, 0, 3).reshape(x.shape).detach().requires_grad_(True)

        def keep(name):
            # A copy: what stands at the hook also goes past the reader.
            def hook(x, hook):
                if x.requires_grad:
                    read[name] = x.clone()
                    return read[name]
            return hook

        hooks = [(site, put)] + [(name, keep(name)) for name, *_ in self.readers]
        logits = self.model.run_with_hooks(tokens, fwd_hooks=hooks)
        taken = [reader for reader in self.readers if reader[0] in read and reader[1] > only[0]]
        gradients = torch.autograd.grad(metric(logits).sum(), [read[name] for name, *_ in taken])
        begin = only[0]
        for (_, before, first, count), gradient in zip(taken, gradients):
            end = min(before, only[1])
            scores[begin:end, first:first + count] += (
                difference[begin:end].flatten(1) @ by_head(gradient, count).flatten(1).T)

    def edge_forward(self, tokens, metric, difference, edge):
        """The metric with one edge put in."""
        writer, reader = edge
        name, _, first, _ = next(r for r in self.readers if r[2] <= reader < r[2] + r[3])

        def put(x, hook):
            x = x.clone()
            if x.dim() == 4:
                x[:, :, reader - first] += difference[writer]
            else:
                x += difference[writer]
            return x

        with self.torch.no_grad():
            return metric(self.model.run_with_hooks(tokens, fwd_hooks=[(name, put)]))


def peer(folder, prompts, answer, wrong, name, threads, cells):
    """Prints its seconds and peak bytes as JSON, and writes its scores [writers, readers]."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(threads)
    model = Peer(folder)
    tokens = load_file(prompts)
    clean, corrupted = tokens["clean"], tokens["corrupted"]
    right = torch.tensor(list(map(int, answer.split(","))))
    left = torch.tensor(list(map(int, wrong.split(","))))
    batch = clean.shape[0]

    def metric(logits):
        rows = torch.arange(batch)
        return logits[rows, -1, right] - logits[rows, -1, left]

    with torch.no_grad():
        model.model(clean)
    everything = (0, model.n_writers)
    start = time.monotonic()
    written = model.outputs(clean)
    other = model.outputs(corrupted)
    difference = other - written
    scores = torch.zeros(model.n_writers, model.n_readers)
    embed = model.sites[0][0]
    if name == "eap":
        model.add(clean, metric, difference, scores, embed, written[:1], everything)
    elif name == "eap_ig_inputs":
        for k in range(STEPS):
            value = other[:1] + k / STEPS * (written[:1] - other[:1])
            model.add(clean, metric, difference, scores, embed, value, everything)
        scores /= STEPS
    elif name == "eap_ig_activations":
        for site, first, count in model.sites:
            only = (first, first + count)
            for k in range(STEPS):
                value = torch.lerp(other[first:first + count], written[first:first + count], k / STEPS)
                model.add(clean, metric, difference, scores, site, value, only)
        scores /= STEPS
    else:
        edges = [(w, r) for _, before, first, count in model.readers
                 for r in range(first, first + count) for w in range(before)]
        taken = [edges[round(i * (len(edges) - 1) / (cells - 1))] for i in range(cells)]
        with torch.no_grad():
            before = metric(model.model(clean))
        seconds = time.monotonic() - start
        start = time.monotonic()
        for edge in taken:
            scores[edge] = (model.edge_forward(clean, metric, difference, edge) - before).sum()
        seconds += (time.monotonic() - start) * len(edges) / cells
    if name != "exact":
        seconds = time.monotonic() - start
    save_file({"scores": scores / batch}, prompts + ".peer")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "bytes": peak}))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="comma-separated rows: " + ", ".join(ROWS))
    parser.add_argument("--peer", default="true", choices=("true", "false"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--positions", type=int, default=16)
    parser.add_argument("--cells", type=int, default=12, help="edges TransformerLens is timed on")
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
        folder = args.model or scratch
        if not pathlib.Path(folder, "config.json").exists():
            patching.make_model(folder, {})
        prompts = str(pathlib.Path(scratch, "prompts"))
        ids = patching.make_prompts(prompts, {}, args.batch, args.positions)
        for name in args.only.split(",") if args.only else ROWS:
            slow = name in ("exact", "acdc")
            times = [ours(folder, prompts, ids, name, args.threads) for _ in range(1 if slow else 3)]
            seconds, peak, tensors, runs = sorted(times, key=lambda t: t[0])[len(times) // 2]
            row = {"name": name, "batch": args.batch, "positions": args.positions,
                   "edges": tensors["result"].numel(), "runs": runs, "threads": args.threads,
                   "ours_seconds": seconds, "ours_bytes": peak}
            if args.peer == "true" and name != "acdc":
                from safetensors.torch import load_file

                line, _ = patching.with_peak([
                    sys.executable, __file__, f"--threads={args.threads}", f"--cells={args.cells}",
                    "--run-peer", folder, prompts, *ids, name])
                theirs = json.loads(line)
                row["peer_seconds"], row["peer_bytes"] = theirs["seconds"], theirs["bytes"]
                row["ratio"] = theirs["seconds"] / seconds
                scores = load_file(prompts + ".peer")["scores"]
                scores = scores[tensors["writer"], tensors["reader"]]
                known = scores != 0
                difference = (tensors["result"] - scores)[known].abs().max()
                row["difference"] = float(difference)
                row["largest"] = float(scores.abs().max())
            rows.append(row)
            if not args.json:
                print(line_of(row), flush=True)
    if args.json:
        print(json.dumps({"rows": rows}, indent=1))


def line_of(row):
    line = (f"{row['name']:20s} {row['edges']:6d} edges {row['ours_seconds']:8.2f} s "
            f"{row['ours_bytes'] / 1e9:5.2f} GB")
    if "peer_seconds" in row:
        line += (f"   TransformerLens {row['peer_seconds']:8.2f} s {row['peer_bytes'] / 1e9:5.2f} GB"
                 f"   {row['ratio']:6.1f} times   differ by {row['difference']:.1g} of "
                 f"{row['largest']:.1g}")
    return line


if __name__ == "__main__":
    main()
