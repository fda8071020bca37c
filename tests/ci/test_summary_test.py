"""Tests of test_summary: event streams as Bazel 4.2.3 writes them."""

import contextlib
import io
import json
import os
import tempfile
import unittest

from tests.ci import test_summary
from tests.harness import run_cases

_XML = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" failures="1" disabled="1" errors="0" time="0.1" name="AllTests">
  <testsuite name="S" tests="4" failures="1" disabled="1" skipped="1" errors="0">
    <testcase name="Passes" status="run" result="completed" classname="S" />
    <testcase name="Fails" status="run" result="completed" classname="S">
      <failure message="a.cc:1" type="">a.cc:1</failure>
    </testcase>
    <testcase name="Skips" status="run" result="skipped" classname="S">
      <skipped message="no GPU" />
    </testcase>
    <testcase name="DISABLED_One" status="notrun" result="suppressed" classname="S" />
  </testsuite>
</testsuites>
"""


class TestSummaryTest(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="a folder ")
        self.addCleanup(self.folder.cleanup)

    def write(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def result(self, label, status, xml=None, attempt=1, shard=1):
        outputs = [{"name": "test.log", "uri": "file:///nowhere"}]
        if xml is not None:
            path = self.write("%s_%d_%d.xml" % (label[2:], attempt, shard), xml)
            outputs.append({"name": "test.xml", "uri": "file://" + path.replace(" ", "%20")})
        return {
            "id": {"testResult": {"label": label, "run": 1, "shard": shard, "attempt": attempt}},
            "testResult": {"status": status, "testActionOutput": outputs},
        }

    def completed(self, label, success):
        completed = {"success": True} if success else {"failureDetail": {"message": "exit 1"}}
        return {"id": {"targetCompleted": {"label": label}}, "completed": completed}

    def aborted(self, label, reason, kind="targetCompleted"):
        return {"id": {kind: {"label": label}}, "aborted": {"reason": reason}}

    def summarize(self, *events):
        return test_summary.summarize(json.dumps(event) for event in events)

    def test_counts_the_cases_of_googletest(self):
        self.assertEqual(
            self.summarize(self.completed("//a", True), self.result("//a", "FAILED", _XML)),
            [1, 1, 2])

    def test_a_test_without_cases_is_one(self):
        self.assertEqual(self.summarize(self.result("//a", "PASSED")), [1, 0, 0])
        self.assertEqual(
            self.summarize(self.result("//a", "PASSED", "<testsuites></testsuites>")), [1, 0, 0])

    def test_a_crash_or_timeout_is_a_failure_whatever_was_written(self):
        passed = _XML.replace('<failure message="a.cc:1" type="">a.cc:1</failure>', "")
        for status in ("FAILED", "TIMEOUT", "INCOMPLETE", "REMOTE_FAILURE"):
            self.assertEqual(self.summarize(self.result("//a", status)), [0, 1, 0])
            self.assertEqual(self.summarize(self.result("//a", status, "<testsui")), [0, 1, 0])
            self.assertEqual(self.summarize(self.result("//a", status, passed)), [2, 1, 2])

    def test_what_does_not_build_is_a_failure(self):
        self.assertEqual(self.summarize(self.completed("//a", False)), [0, 1, 0])
        self.assertEqual(self.summarize(self.aborted("//a", "ANALYSIS_FAILURE")), [0, 1, 0])

    def test_a_failed_test_is_counted_once(self):
        self.assertEqual(
            self.summarize(self.result("//a", "FAILED"), self.completed("//a", False)), [0, 1, 0])

    def test_an_incompatible_target_is_skipped_once(self):
        self.assertEqual(
            self.summarize(
                self.aborted("//a", "SKIPPED"), self.aborted("//a", "SKIPPED", "testSummary")),
            [0, 0, 1])

    def test_the_last_attempt_counts(self):
        self.assertEqual(
            self.summarize(
                self.result("//a", "FAILED", attempt=1), self.result("//a", "PASSED", attempt=2)),
            [1, 0, 0])

    def test_shards_add_up(self):
        self.assertEqual(
            self.summarize(
                self.result("//a", "PASSED", shard=1), self.result("//a", "PASSED", shard=2)),
            [2, 0, 0])

    def test_a_cut_off_stream_counts_as_far_as_it_goes(self):
        lines = [json.dumps(self.result("//a", "PASSED")), '{"id": {"testRes']
        self.assertEqual(test_summary.summarize(lines), [1, 0, 0])

    def run_main(self, text, *args):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = test_summary.main(list(args) + [self.write("events", text)])
        return status, out.getvalue()

    def test_bazel_failing_without_a_failed_test_is_a_failure(self):
        self.assertEqual(
            self.run_main("", "--exit_code=2"), (1, "0 passed, 1 failed, 0 skipped\n"))

    def test_no_tests_found_is_none(self):
        self.assertEqual(
            self.run_main("", "--exit_code=4"), (0, "0 passed, 0 failed, 0 skipped\n"))

    def test_main(self):
        event = json.dumps(self.result("//a", "PASSED"))
        self.assertEqual(self.run_main(event), (0, "1 passed, 0 failed, 0 skipped\n"))


if __name__ == "__main__":
    run_cases.main()
