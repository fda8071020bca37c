"""Copies some instances of a reference case of the selective scan.

    python3 tests/goldens/selective_scan/extract.py SOURCE_FOLDER 00,03,11

A case has inputs.safetensors, expected.safetensors and case.json. Needs safetensors and numpy from
PyPI.
"""

import json
import pathlib
import sys

from safetensors.numpy import load_file, save_file


def main(source, keys):
    here = pathlib.Path(__file__).parent

    def kept(names):
        return [name for name in names if name.split(".")[0] in keys]

    for name in ["inputs.safetensors", "expected.safetensors"]:
        tensors = load_file(source / name)
        save_file({key: tensors[key] for key in kept(tensors)}, here / name)
    case = json.loads((source / "case.json").read_text())
    case["instances"] = [i for i in case["instances"] if i["key"] in keys]
    limits = case["tolerance"]["max_abs"]
    case["tolerance"] = {"max_abs": {name: limits[name] for name in kept(limits)}}
    del case["observed_float32_vs_float64"]
    (here / "case.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2].split(","))
