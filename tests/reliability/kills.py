"""kill -9 at random moments of training: nothing is lost but the steps since the last checkpoint.

    bazel run //tests/reliability:kills -- --kills=500
"""

import argparse
import os
import random
import tempfile
import time

from tests.reliability import runs

_STEPS = 600
_EVERY = 2  # steps between checkpoints: most of the time is spent saving


class Tally:
    """What was seen over all kills."""

    def __init__(self):
        self.kills = self.in_save = self.runs = self.starts = self.most_temporaries = 0
        self.most_lost = 0

    def __str__(self):
        return ("%d kills, %d of them within a save, in %d finished runs (%d starts); at most %d "
                "temporaries left by one kill, at most %d steps lost" %
                (self.kills, self.in_save, self.runs, self.starts, self.most_temporaries,
                 self.most_lost))


def _expect(condition, *what):
    if not condition:
        raise AssertionError(" ".join(map(str, what)))


def _after_kill(out, before, tally):
    """Checks the folder of a killed run; returns the newest step saved."""
    steps = runs.checkpoints(out)
    for step in steps:
        wrong = runs.problems(out, step)
        _expect(not wrong, "checkpoint", step, wrong)
    newest = steps[-1] if steps else 0
    _expect(newest >= before, "step", before, "was saved, now the newest is", newest)
    _expect(len(steps) <= 3, "kept", steps)
    temporaries = runs.temporaries(out)
    tally.in_save += any("checkpoint" in name for name in temporaries)
    tally.most_temporaries = max(tally.most_temporaries, len(temporaries))
    _expect(len(temporaries) <= 1, "left", temporaries)
    lines = [line["step"] for line in runs.metrics(out)]
    _expect(lines == list(range(1, len(lines) + 1)), "steps of metrics.jsonl", lines)
    tally.most_lost = max(tally.most_lost, len(lines) - newest)
    _expect(len(lines) - newest <= _EVERY, len(lines), "steps done,", newest, "saved")
    return newest


def run(kills, folder, seed=0):
    """Kills runs until there were `kills`; every run ends with the bits of one that was left in
    peace. Returns a Tally."""
    rng, tally = random.Random(seed), Tally()
    text = os.path.join(folder, "text.txt")
    runs.write_text(text)
    settings = runs.TINY + ["--text=" + text, "--steps=%d" % _STEPS]
    straight = os.path.join(folder, "straight")
    done = runs.train(*settings, "--out=" + straight, "--checkpoint_every=0")
    _expect(done.returncode == 0, done.stderr)
    while tally.kills < kills:
        out = os.path.join(folder, "killed%d" % tally.runs)
        newest = 0
        while True:
            resume = os.path.exists(os.path.join(out, "train.json"))
            args = ["--resume"] if resume else settings + ["--checkpoint_every=%d" % _EVERY]
            process = runs.start(*args, "--out=" + out)
            tally.starts += 1
            if tally.kills < kills:
                # From before the first line of the program's own code to well within the run.
                try:
                    process.wait(timeout=rng.random() ** 2 * 0.3)
                except runs.subprocess.TimeoutExpired:
                    process.kill()
            _, errors = process.communicate()
            if process.returncode == 0:
                break
            _expect(process.returncode == -9, "exit", process.returncode, errors)
            _expect(not errors, errors)
            tally.kills += 1
            newest = _after_kill(out, newest, tally)
        _expect(not runs.temporaries(out), "left", runs.temporaries(out))
        _expect(runs.ending(out) == runs.ending(straight), "other bits than a run left in peace")
        tally.runs += 1
    return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print("seed", options.seed)
    with tempfile.TemporaryDirectory() as folder:
        print(run(options.kills, folder, options.seed))


if __name__ == "__main__":
    main()
