"""The page of //tools:edges in a browser: the circuit is drawn, links tell what they are, nothing is
loaded, nothing fails, and it fits a phone. Skipped where no Chromium is installed."""

import os
import unittest

from tests.browser import chromium
from tests.harness import run_cases
from tests.tools import tools

_TRAINED = os.path.join("interp", "testdata", "trained_induction")


def _page(name, *args):
    path = os.path.join(os.environ["TEST_TMPDIR"], name)
    done = tools.run("edges", "--report=" + path, *args)
    if done.code:
        raise AssertionError(done.err)
    return path


@unittest.skipUnless(chromium.find(), "no Chromium on the PATH")
class CircuitPageTest(chromium.PageTest, unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.path = _page("circuit.html", "--model=" + _TRAINED, "--task=induction", "--rows=8",
                         "--length=24", "--top=4", "--sets=10")

    def texts(self, page, figure):
        return page.evaluate("""[...[...document.querySelectorAll('figure.plot')][%d]
            .querySelectorAll('.vega svg text')].map(text => text.textContent)""" % figure)

    def test_is_drawn_light_and_dark_wide_and_narrow(self):
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            with self.subTest(width=width, dark=dark):
                with chromium.Page(width=width, dark=dark, mobile=width < 500) as page:
                    page.open(self.path)
                    # The circuit, faithfulness by size, and the random circuits.
                    marks = page.evaluate("""[...document.querySelectorAll('figure.plot')].map(
                        figure => figure.querySelectorAll('.vega svg path').length)""")
                    self.assertEqual(len(marks), 3)
                    self.assertTrue(all(marks), marks)
                    for node in ("embed", "L0H0", "L1H0", "logits"):
                        self.assertIn(node, self.texts(page, 0))
                    self.check(page)

    def test_nodes_stand_apart_and_inside(self):
        # Of the golden GPT-2, whose edges are many: names that overlap cannot be read.
        path = _page("many.html", "--model=" + tools.golden("gpt2_tiny"), "--task=induction",
                     "--rows=2", "--length=12", "--top=60", "--sets=0")
        for width in (1280, 390):
            with self.subTest(width=width):
                with chromium.Page(width=width, mobile=width < 500) as page:
                    page.open(path)
                    boxes = page.evaluate("""(() => {
                        const svg = document.querySelector('figure.plot .vega svg');
                        const around = svg.getBoundingClientRect();
                        return [...svg.querySelectorAll('text')].filter(text =>
                            /^(embed|logits|L[0-9])/.test(text.textContent)).map(text => {
                          // Every name twice: behind it stands its own halo.
                          const box = text.getBoundingClientRect();
                          return [text.textContent, box.left, box.top, box.right, box.bottom,
                                  box.left >= around.left && box.right <= around.right];
                        });
                    })()""")
                    boxes = list({box[0]: box for box in boxes}.values())
                    self.assertGreater(len(boxes), 8)
                    for i, (name, left, top, right, bottom, inside) in enumerate(boxes):
                        self.assertTrue(inside, name)
                        for other in boxes[:i]:
                            apart = (left >= other[3] or right <= other[1] or
                                     top >= other[4] or bottom <= other[2])
                            self.assertTrue(apart, (name, other[0]))
                    self.check(page)

    def test_the_table_is_of_the_largest_first(self):
        with chromium.Page() as page:
            page.open(self.path)
            rows = page.evaluate("""[...document.querySelectorAll('figure.table tbody tr')].map(
                row => [...row.cells].map(cell => cell.textContent))""")
            self.assertEqual(len(rows), 4)
            sizes = [abs(float(score.replace("\u2212", "-"))) for _, score in rows]
            self.assertEqual(sizes, sorted(sizes, reverse=True))
            self.assertIn("L1H0->logits", [edge for edge, _ in rows])
            self.check(page)


if __name__ == "__main__":
    run_cases.main()
