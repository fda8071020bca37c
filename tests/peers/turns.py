"""Sides that take turns in whole runs, each of which says how long it took; what such races share."""

import pathlib
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def built(given):
    """bazel-bin, with the two programs of a Bench: `given`, or built now."""
    if given:
        return pathlib.Path(given)
    command = ["./bazelw", "build", "//tests/bench:peer_server", "//tools:generate"]
    if subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode:
        sys.exit(f"{' '.join(command)} failed")
    return ROOT / "bazel-bin"


class Bench:
    """The two programs, and what was made for a race: once, in a folder that goes when it ends."""

    def __init__(self, binaries, rounds, tokens):
        import race

        self.race = race.Race(race.Server(str(binaries / "tests/bench/peer_server")), 0, 0)
        self.generate = str(binaries / "tools/generate")
        self.note, self.rounds, self.tokens = race.note, rounds, tokens
        self._made = {}

    def close(self):
        self.race.server.close()
        shutil.rmtree(self.race.folder, ignore_errors=True)

    def _make(self, key, make):
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def medians(sides, rounds):
    """Of the seconds that each of {name: function} gives, turn by turn; a round more warms up."""
    times = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            seconds = side()
            if turn > 0:
                times[name].append(seconds)
            time.sleep(0.01)  # let the other side's threads go to sleep
    return {name: statistics.median(values) for name, values in times.items()}


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def table(rows):
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in rows]
