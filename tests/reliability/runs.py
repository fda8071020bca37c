"""What the tests of training runs share: starting one, and judging what lies in its folder."""

import json
import os
import random
import re
import subprocess
import zlib

TOOL = os.path.join("tools", "train")

# Small enough that a step takes a fraction of a millisecond and a save a few.
TINY = ["--model=attn_only", "--d_model=8", "--n_layers=1", "--n_heads=2", "--context=8",
        "--batch_size=2", "--warmup_steps=3", "--attn_dropout=0.1", "--eval_batches=1",
        "--threads=1"]


def write_text(path, seed=0, size=6000):
    """A text of words that follow each other at random."""
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "dogs.\n"]
    rng = random.Random(seed)
    text = ""
    while len(text) < size:
        text += rng.choice(words) + " "
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def train(*args, **kwargs):
    """A finished run of //tools:train; text output."""
    return subprocess.run([TOOL] + list(args), capture_output=True, text=True, check=False,
                          timeout=300, **kwargs)


def start(*args, **kwargs):
    """A run that goes on while the caller does."""
    return subprocess.Popen([TOOL] + list(args), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **kwargs)


def read(*parts):
    with open(os.path.join(*parts), "rb") as f:
        return f.read()


def checkpoints(out):
    """Steps of the folders called checkpoint-N, rising."""
    folder = os.path.join(out, "checkpoints")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = (re.fullmatch(r"checkpoint-(\d+)", name) for name in names)
    return sorted(int(match.group(1)) for match in found if match)


def temporaries(out):
    """Everything a killed run may leave half done."""
    found = []
    for folder in (out, os.path.join(out, "checkpoints")):
        if os.path.isdir(folder):
            found += [name for name in os.listdir(folder) if name.startswith(".")]
    return found


def problems(out, step):
    """What is wrong with a checkpoint, by its manifest; [] if nothing. Not the product's own code:
    sizes and zlib's crc32."""
    folder = os.path.join(out, "checkpoints", "checkpoint-%d" % step)
    try:
        manifest = json.loads(read(folder, "manifest.json"))
        wrong = [] if manifest["step"] == step else ["step %s" % manifest["step"]]
        names = {entry["name"] for entry in manifest["files"]}
        if not {"model.safetensors", "optimizer.safetensors", "config.json"} <= names:
            wrong.append("holds only %s" % sorted(names))
        for entry in manifest["files"]:
            data = read(folder, entry["name"])
            if (len(data), "%08x" % zlib.crc32(data)) != (entry["bytes"], entry["crc32"]):
                wrong.append("%s differs from its manifest" % entry["name"])
        return wrong
    except (OSError, ValueError, KeyError) as error:
        return [repr(error)]


def metrics(out):
    """The whole lines of metrics.jsonl."""
    path = os.path.join(out, "metrics.jsonl")
    if not os.path.exists(path):
        return []
    text = read(path).decode()
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def ending(out):
    """What runs of the same settings must have in common: weights, and metrics but for the speed."""
    lines = metrics(out)
    for line in lines:
        del line["tokens_per_second"]
    return read(out, "model.safetensors"), lines


def corrupt(path, rng):
    """Flips one bit."""
    data = bytearray(read(path))
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)
    with open(path, "wb") as f:
        f.write(data)
