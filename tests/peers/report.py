"""The table of a race, for a terminal and for docs/benchmarks.md."""

import datetime
import os
import platform
import re

NOTES_BEGIN, NOTES_END = "<!-- notes -->", "<!-- end of notes -->"


def machine():
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = re.findall(r"model name\s*: (.*)", file.read())
        model = names[0] if names else model
    except OSError:
        pass
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {platform.system()}"


def seconds(value):
    if value is None:
        return "-"
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def error(value):
    return "-" if value is None else f"{value:.1e}"


def missed(row):
    return row["ratio"] < row["goal"]


def inexact(row):
    """More than twice the error of a naive implementation."""
    return row["error_naive"] is not None and row["error_ours"] > 2 * row["error_naive"]


def line(row):
    return (
        f'{row["threads"]} threads: ours {seconds(row["ours_seconds"])}, '
        f'theirs {seconds(row["peer_seconds"])}, ratio {row["ratio"]:.2f} of {row["goal"]:.2f}'
        f'{" MISSED" if missed(row) else ""}, share {number(row["limit_share"])}, '
        f'errors {error(row["error_ours"])} {error(row["error_peer"])} {error(row["error_naive"])}'
        f'{" INEXACT" if inexact(row) else ""}'
    )


COLUMNS = (
    "op", "shape", "dtype", "threads", "ours", "PyTorch", "ratio", "goal", "", "of the limit",
    "error", "PyTorch's error", "naive's error",
)


def cells(row):
    return (
        row["name"],
        row["shape"],
        row["dtype"],
        str(row["threads"]),
        seconds(row["ours_seconds"]),
        seconds(row["peer_seconds"]),
        number(row["ratio"]),
        number(row["goal"]),
        ", ".join(["missed"] * missed(row) + ["inexact"] * inexact(row)),
        "-" if row["limit_share"] is None else f'{100 * row["limit_share"]:.0f} %',
        error(row["error_ours"]),
        error(row["error_peer"]),
        error(row["error_naive"]),
    )


def limits_text(whole):
    lines = []
    for threads, limit in sorted(whole["limits"].items()):
        lines.append(
            f'{threads} thread{"s" if threads != "1" else ""}: {limit["f32"] / 1e9:.0f} GFLOP/s '
            f'f32 multiply-adds, {limit["bf16"] / 1e9:.0f} GFLOP/s bf16 dot products, '
            f'{limit["read"] / 1e9:.1f} GB/s read, {limit["copy"] / 1e9:.1f} GB/s copied '
            "(read and written)"
        )
    return lines


def summary(whole):
    rows = whole["rows"]
    short = [row for row in rows if missed(row)]
    worst = min(rows, key=lambda row: row["ratio"] / row["goal"])
    return (
        f'{len(rows) - len(short)} of {len(rows)} rows reach their goal; furthest from it: '
        f'{worst["name"]} {worst["shape"]} {worst["dtype"]}, {worst["threads"]} threads, '
        f'{worst["ratio"]:.2f} of {worst["goal"]:.2f}; {sum(map(inexact, rows))} rows have more '
        "than twice the error of a naive implementation"
    )


def table(whole):
    rows = [COLUMNS] + [cells(row) for row in whole["rows"]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    head = [f'{whole["machine"]}; PyTorch {whole["torch"]}'] + limits_text(whole)
    return "\n".join(head + [""] + [text.rstrip() for text in lines] + ["", summary(whole)])


def write_docs(path, whole):
    """The page; what stands between the marks of notes in the page before it is kept."""
    notes = f"{NOTES_BEGIN}\n{NOTES_END}"
    if path.exists():
        before = path.read_text(encoding="utf-8")
        if NOTES_BEGIN in before and NOTES_END in before:
            notes = before[before.index(NOTES_BEGIN) : before.index(NOTES_END) + len(NOTES_END)]
    text = [
        "# Benchmarks",
        "",
        "Written by `tests/peers/compare.py --write-docs`; run it to have the numbers of your "
        "machine. residual and PyTorch take turns on the same data in one run; times are medians, "
        "the ratio is PyTorch's time over ours (above 1 we are faster), the share is of what the "
        "machine did in the same run (for memory: of reading or copying as many bytes, turn by turn "
        "beside the row), errors are the largest against float64, relative to the "
        "largest value. The naive implementation is the formula in f32 with sums in order "
        "(tests/peers/naive.py); where our error is more than twice its own, the row says inexact.",
        "",
        f'{whole["machine"]}; PyTorch {whole["torch"]}; '
        f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}.",
        "",
    ]
    text += [f"- {limit}" for limit in limits_text(whole)]
    text += ["", summary(whole) + ".", "", notes, ""]
    text.append("| " + " | ".join(COLUMNS) + " |")
    text.append("|" + "---|" * len(COLUMNS))
    text += ["| " + " | ".join(cells(row)) + " |" for row in whole["rows"]]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
