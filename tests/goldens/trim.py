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
    "*.patch.*",
    "*.logit_diff_*",
]
# What analyses find, in a file of its own: analyses.safetensors.
ANALYSES = [
    "*.OV.*",
    "*.QK.*",
    "*.full_*.eigenvalue_copying_score",
    "*.composition.*",
    "*.detect.*.mul",
    "*.detect.*.abs",
    "*.induction_stripe",
    "*.decompose_resid",
    "*.accumulated_resid_ln",
    "*.stack_head_results",
    "*.logit_attrs_last",
    "*.logit_attrs_heads_last",
    "*.logit_diff_clean",
]
NOTES = ["case", "seed", "what", "source", "convention", "weights", "processing", "versions"]


def kept(tensors, patterns):
    return {
        name: tensor
        for name, tensor in tensors.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def main(source, destination):
    destination.mkdir(parents=True, exist_ok=True)
    for name in ["config.json", "model.safetensors", "inputs.safetensors"]:
        shutil.copyfile(source / name, destination / name)
    everything = load_file(source / "expected.safetensors")
    expected, analyses = kept(everything, KEPT), kept(everything, ANALYSES)
    save_file(expected, destination / "expected.safetensors")
    if analyses:
        save_file(analyses, destination / "analyses.safetensors")
    case = json.loads((source / "case.json").read_text())
    trimmed = {name: case[name] for name in NOTES if name in case}
    limits = case["tolerance"]["max_abs"]
    trimmed["tolerance"] = {
        "max_abs": {name: limits[name] for name in limits if name in expected}
    }
    (destination / "case.json").write_text(json.dumps(trimmed, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
