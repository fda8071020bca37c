"""Prints 'N passed, N failed, N skipped' for a `bazel test` run.

Usage: test_summary.py [--exit_code=N] EVENTS, the file that --build_event_json_file wrote.
Counts the cases that googletest wrote to test.xml; a test that wrote none (sh_test, py_test)
counts as one, a test without a result (failed to build, timed out) as one failure, an
incompatible target as one skip. --exit_code is Bazel's: a run that failed without any failed
case (interrupted, nothing could be loaded) counts as one failure. Exits 1 when any failed.

Not a walk over bazel-testlogs: that still holds the results of earlier runs, of tests that
this run skipped and of tests that are no more.
"""

import argparse
import json
import sys
import urllib.parse
import xml.etree.ElementTree as ET

_NO_TESTS_FOUND = 4  # Bazel's exit code


def count_xml(path):
    """Returns [passed, failed, skipped] of one test.xml."""
    n = [0, 0, 0]
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            n[1] += 1
        elif case.find("skipped") is not None or case.get("status") == "notrun":
            n[2] += 1
        else:
            n[0] += 1
    return n


def _count_result(result):
    """Returns [passed, failed, skipped] of one testResult event."""
    xml = [
        output["uri"]
        for output in result.get("testActionOutput", [])
        if output["name"] == "test.xml" and output.get("uri", "").startswith("file:")
    ]
    try:
        n = count_xml(urllib.parse.unquote(xml[0][len("file://"):]))
    except (IndexError, OSError, ET.ParseError):
        n = [0, 0, 0]
    if result["status"] not in ("PASSED", "FLAKY") and not n[1]:
        n[1] = 1
    if not any(n):
        n[0] = 1
    return n


def summarize(lines):
    """Returns [passed, failed, skipped] over a stream of build events, one JSON object a line."""
    total = [0, 0, 0]
    best = {}  # (label, shard, run) -> (attempt, counts)
    ran, unfinished = set(), set()
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            break  # the last line of a run that was killed
        for kind in ("targetCompleted", "testSummary", "testResult"):
            if kind not in event.get("id", {}):
                continue
            identity = event["id"][kind]
            label = identity["label"]
            if kind == "testResult" and "testResult" in event:
                key = (label, identity.get("shard"), identity.get("run"))
                attempt = identity.get("attempt", 1)
                if attempt >= best.get(key, (0,))[0]:
                    best[key] = (attempt, _count_result(event["testResult"]))
                ran.add(label)
            elif "aborted" in event:
                if event["aborted"].get("reason") == "SKIPPED":
                    total[2] += kind == "targetCompleted"
                elif kind == "targetCompleted":
                    unfinished.add(label)
            elif kind == "targetCompleted" and not event.get("completed", {}).get("success"):
                unfinished.add(label)
    for _, n in best.values():
        total = [a + b for a, b in zip(total, n)]
    total[1] += len(unfinished - ran)
    return total


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exit_code", type=int, default=0)
    parser.add_argument("events")
    args = parser.parse_args(argv)
    with open(args.events, encoding="utf-8") as f:
        total = summarize(f)
    if args.exit_code not in (0, _NO_TESTS_FOUND) and not total[1]:
        total[1] = 1
    print("%d passed, %d failed, %d skipped" % tuple(total))
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
