"""Copies a reference case, keeping of its expected tensors what the tests read.

    python3 tests/goldens/trim.py SOURCE_FOLDER DESTINATION_FOLDER

A case has config.json, model.safetensors, inputs.safetensors, expected.safetensors and case.json
(what it is, versions, and per tensor the largest error that is still right). Needs safetensors and
numpy from PyPI.
"""

import fnmatch
import json
import pathlib
import shutil
import sys

from safetensors.numpy import load_file, save_file

KEPT = [
    "logits",
    "logits_right_padded",
    "logits_left_padded",
    "logits_incremental",
    "hidden_states.*",
    "attentions.*",
    "mixer.*",
    "generated_greedy",
    "blocks.*",
    "raw.logits",
    "raw.cache.*",
    "processed.logits",
    "processed.weights.*",
]
NOTES = ["case", "seed", "what", "source", "convention", "weights", "processing", "versions"]


def is_kept(name):
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in KEPT)


def main(source, destination):
    destination.mkdir(parents=True, exist_ok=True)
    for name in ["config.json", "model.safetensors", "inputs.safetensors"]:
        shutil.copyfile(source / name, destination / name)
    expected = load_file(source / "expected.safetensors")
    expected = {name: tensor for name, tensor in expected.items() if is_kept(name)}
    save_file(expected, destination / "expected.safetensors")
    case = json.loads((source / "case.json").read_text())
    trimmed = {name: case[name] for name in NOTES if name in case}
    limits = case["tolerance"]["max_abs"]
    trimmed["tolerance"] = {
        "max_abs": {name: limits[name] for name in limits if name in expected}
    }
    (destination / "case.json").write_text(json.dumps(trimmed, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
