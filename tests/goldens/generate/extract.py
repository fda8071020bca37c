"""Writes what a reference case generates as JSON.

    python3 tests/goldens/generate/extract.py SOURCE_FOLDER DESTINATION.json

The source has inputs.safetensors (prompt_ids), expected.safetensors (generated_greedy,
generated_greedy_eos, generated_beam3, generated_beam3_eos and the beams' scores, as transformers'
generate returns them) and case.json with the settings. Only new tokens are kept, without what fills
finished rows. Needs safetensors and numpy from PyPI.
"""

import json
import pathlib
import sys

from safetensors.numpy import load_file


def until(tokens, stop):
    return tokens[:tokens.index(stop) + 1] if stop in tokens else tokens


def main(source, destination):
    prompts = load_file(source / "inputs.safetensors")["prompt_ids"].tolist()
    expected = load_file(source / "expected.safetensors")
    case = json.loads((source / "case.json").read_text())
    settings = case["generation"]
    runs = {
        "what": case["what"],
        "versions": case["versions"],
        "prompts": prompts,
        "max_new_tokens": settings["max_new_tokens"],
    }
    if "generated_beam3" not in expected:  # a case of greedy search alone
        runs["greedy"] = [row[len(prompts[0]):] for row in expected["generated_greedy"].tolist()]
        destination.write_text(json.dumps(runs) + "\n")
        return
    n = settings["num_return_sequences"]
    new = {name: [row[len(prompts[0]):] for row in expected["generated_" + name].tolist()]
           for name in ("greedy", "greedy_eos", "beam3", "beam3_eos")}

    def beams(name, stop):
        scores = expected["generated_%s_scores" % name].tolist()
        return [[{"tokens": new[name][i] if stop is None else until(new[name][i], stop),
                  "score": scores[i]} for i in range(row * n, row * n + n)]
                for row in range(len(prompts))]

    greedy_stop = settings["eos_token_id_greedy_eos"]
    beam_stop = settings["eos_token_id_beam3_eos"]
    runs.update({
        "greedy": new["greedy"],
        "greedy_with_stop": {"stop": greedy_stop,
                             "tokens": [until(row, greedy_stop) for row in new["greedy_eos"]]},
        "num_beams": settings["num_beams"],
        "length_penalty": settings["length_penalty"],
        "beams": beams("beam3", None),
        "beams_with_stop": {"stop": beam_stop, "beams": beams("beam3_eos", beam_stop)},
    })
    destination.write_text(json.dumps(runs) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
