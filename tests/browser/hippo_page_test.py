"""The page of //tools:hippo in a browser: every plot is drawn, nothing is loaded, nothing fails, and it
fits a phone. Skipped where no Chromium is installed."""

import os
import unittest

from tests.browser import chromium
from tests.harness import run_cases
from tests.tools import tools


@unittest.skipUnless(chromium.find(), "no Chromium on the PATH")
class HippoPageTest(chromium.PageTest, unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.path = os.path.join(os.environ["TEST_TMPDIR"], "memory.html")
        done = tools.run("hippo", "--measure=legs", "--n=32", "--html=" + cls.path)
        if done.code:
            raise AssertionError(done.err)

    def test_is_drawn_light_and_dark_wide_and_narrow(self):
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            with self.subTest(width=width, dark=dark):
                with chromium.Page(width=width, dark=dark, mobile=width < 500) as page:
                    page.open(self.path)
                    # Three moments, the error over time, the errors by N, and five bases.
                    lines = page.evaluate("""[...document.querySelectorAll('figure.plot')].map(
                        figure => figure.querySelectorAll('.vega svg .mark-line path').length)""")
                    self.assertEqual(lines, [2, 2, 2, 1, 5, 2, 2, 2, 2, 2])
                    # Logarithmic: four times N is as wide anywhere.
                    ticks = page.evaluate("""[...[...document.querySelectorAll('figure.plot')][4]
                        .querySelectorAll('.mark-text.role-axis-label text')].map(text =>
                            [text.textContent, text.getBoundingClientRect().x
                                + text.getBoundingClientRect().width / 2])""")
                    at = {name: x for name, x in ticks}
                    self.assertAlmostEqual(at["16"] - at["4"], at["64"] - at["16"], delta=8)
                    self.check(page)


if __name__ == "__main__":
    run_cases.main()
