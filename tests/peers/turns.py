"""Sides that take turns in whole runs, each of which says how long it took, and a table for a terminal."""

import statistics
import time


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
