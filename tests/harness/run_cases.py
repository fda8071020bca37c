"""unittest.main() that also writes the test.xml Bazel asks for, one <testcase> for each case.

Without it Bazel writes one that says only that the whole program passed: neither the number of
cases nor a skip can be seen in it.

    if __name__ == "__main__":
        run_cases.main()
"""

import os
import sys
import time
import unittest
import xml.etree.ElementTree as ET


class _Result(unittest.TextTestResult):
    """Remembers every case, in the order run, as [case, seconds, outcome, message]."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cases = []
        self._started = 0.0

    def startTest(self, test):
        super().startTest(test)
        self._started = time.monotonic()
        self.cases.append([test, 0.0, None, ""])

    def stopTest(self, test):
        super().stopTest(test)
        self.cases[-1][1] = time.monotonic() - self._started

    def _note(self, test, outcome, message):
        # A subtest is reported while its test is the last started; setUpClass has no test started.
        if not self.cases or self.cases[-1][1]:
            self.cases.append([test, 0.0, None, ""])
        if self.cases[-1][2] != "failure":
            self.cases[-1][2:] = [outcome, message]

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "failure", self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "failure", self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failure", str(subtest) + ": " + str(err[1]))

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._note(test, "failure", "unexpected success")

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)


def _xml_text(text):
    """What XML 1.0 can hold of text."""
    return "".join(c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c else "?"
                   for c in text)


def write_xml(cases, path):
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", name="unittest", tests=str(len(cases)))
    for test, seconds, outcome, message in cases:
        case = ET.SubElement(suite, "testcase", name=_xml_text(test.id()), time="%.3f" % seconds)
        if outcome:
            ET.SubElement(case, outcome, message=_xml_text(message))
    ET.ElementTree(suites).write(path, encoding="utf-8", xml_declaration=True)


def main(module="__main__", argv=None):
    """Runs the cases of the module; exits 1 when one fails, and when there are none."""
    argv = argv or sys.argv
    only = os.environ.get("TESTBRIDGE_TEST_ONLY")  # --test_filter
    runner = unittest.TextTestRunner(resultclass=_Result, verbosity=2)
    program = unittest.main(
        module, argv=argv + (["-k", only] if only else []), exit=False, testRunner=runner)
    result = program.result
    if os.environ.get("XML_OUTPUT_FILE"):
        write_xml(result.cases, os.environ["XML_OUTPUT_FILE"])
    for test, _, outcome, message in result.cases:
        if outcome == "skipped":
            print("skipped: %s: %s" % (test.id(), message))
    sys.exit(0 if result.wasSuccessful() and (result.cases or only) else 1)
