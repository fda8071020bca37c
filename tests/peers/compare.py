#!/usr/bin/env python3
"""Races residual against PyTorch on this machine: the same data, turn by turn, in one run.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install torch==2.13.0
    /tmp/peers/bin/python tests/peers/compare.py

builds our side (bazelw build //tests/bench:peer_server), runs both and prints a table: medians,
their ratio (theirs / ours, > 1: we are faster) with the goal, the share of what the machine can do,
measured in the same run, and the largest error against float64. `transformers` adds the rows of
GPT-2, `transformer_lens` a second opponent there, `llama-cpp-python` and `gguf` (built here:
`pip install --no-binary llama-cpp-python`) that of the prefill. Rows that miss their goal are marked; the exit code is 0 all the same.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--write-docs", action="store_true", help="write docs/benchmarks.md with the table"
    )
    parser.add_argument(
        "--filter", default="*", metavar="GLOB", help="rows whose 'name shape dtype' matches"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter turns")
    parser.add_argument("--threads", type=int, choices=(1, 2), help="only these rows")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--server", help="a peer_server that is built already")
    return parser.parse_args()


def build():
    target = "//tests/bench:peer_server"
    # Bazel's own output goes to stderr: stdout is the table's.
    done = subprocess.run(["./bazelw", "build", target], cwd=ROOT, stdout=sys.stderr, check=False)
    if done.returncode:
        sys.exit(f"compare.py: ./bazelw build {target} failed")
    return str(ROOT / "bazel-bin/tests/bench/peer_server")


def main():
    args = arguments()
    try:
        import torch
    except ImportError:
        sys.exit(
            "compare.py: this Python has no PyTorch; in a virtual environment: "
            "pip install torch==2.13.0"
        )
    import model_rows
    import op_rows
    import race as races
    import report
    import s4_rows
    import scan_rows
    import ssm_rows

    rows = [
        row
        for row in op_rows.all_rows() + scan_rows.all_rows() + ssm_rows.all_rows() +
        s4_rows.all_rows() + model_rows.all_rows()
        if fnmatch.fnmatch(row.title(), args.filter)
    ]
    if not rows:
        sys.exit(f"compare.py: no row matches {args.filter!r}; --list names them")
    if args.list:
        print("\n".join(row.title() for row in rows))
        return

    server = races.Server(args.server or build())
    race = races.Race(server, 0.05 if args.quick else 0.1, 3 if args.quick else 5)
    race.compile = not args.no_compile and not args.quick
    race.training_steps = 10 if args.quick else 100
    results = []
    try:
        try:
            for row in rows:
                races.note(row.title())
                for contest in row.contests(race):
                    if args.threads in (None, contest.threads):
                        results.append(race.run(contest))
                        races.note("  " + report.line(results[-1]))
        except KeyboardInterrupt:
            races.note("stopped: these are the rows so far")
            if not results:
                sys.exit(130)
        limits = {threads: race.limits(threads) for threads in (1, 2)}
    finally:
        server.close()
        shutil.rmtree(race.folder, ignore_errors=True)

    whole = {
        "machine": report.machine(),
        "torch": torch.__version__,
        "limits": {str(threads): values for threads, values in limits.items()},
        "rows": results,
    }
    if args.write_docs:
        report.write_docs(ROOT / "docs/benchmarks.md", whole)
    print(json.dumps(whole, indent=1) if args.json else report.table(whole))


if __name__ == "__main__":
    main()
