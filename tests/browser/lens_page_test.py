"""The page of //tools:lens in a browser: figures are drawn, nothing is loaded, nothing fails, and it
fits a phone. Skipped where no Chromium is installed."""

import os
import unittest

from tests.browser import chromium
from tests.harness import run_cases
from tests.tools import tools

_TEXT = "the cat sat on the mat, and the dog sat on the cat. " * 40


@unittest.skipUnless(chromium.find(), "no Chromium on the PATH")
class LensPageTest(chromium.PageTest, unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        folder = tools.folder_with_tokenizer(_TEXT, 300)
        cls.path = os.path.join(folder, "report.html")
        done = tools.run("lens", "--model=" + folder, "--out=" + cls.path,
                         "--prompt=" + _TEXT[:90] + "<b>&amp;",
                         "--tune_on=" + tools.write("text.txt", _TEXT), "--tune_steps=10",
                         "--tune_context=32")
        if done.code:
            raise AssertionError(done.err)

    def test_is_drawn_light_and_dark_wide_and_narrow(self):
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            with self.subTest(width=width, dark=dark):
                with chromium.Page(width=width, dark=dark, mobile=width < 500) as page:
                    page.open(self.path)
                    marks = page.evaluate("""[...document.querySelectorAll('figure.plot')].map(
                        figure => figure.querySelectorAll('.vega svg path').length)""")
                    self.assertEqual(len(marks), 2)
                    self.assertTrue(all(marks), marks)
                    self.check(page)

    def test_tables_are_readable(self):
        with chromium.Page() as page:
            page.open(self.path)
            tables = page.evaluate("""[...document.querySelectorAll('figure.table')].map(figure =>
                [...figure.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent))""")
            self.assertEqual(tables, [["final_post", "1_pre", "0_pre"]] * 2 + [["L0", "L1"]])
            # Every cell of a lens says more when it is pointed at, and shade follows probability.
            titles = page.evaluate("""[...document.querySelectorAll('figure.table')][0]
                .querySelector('tbody td').title.split('\\n').length""")
            self.assertEqual(titles, 5)
            self.check(page)

    def test_heads_and_tokens(self):
        with chromium.Page() as page:
            page.open(self.path)
            readout = "document.querySelector('.readout').textContent"
            before = page.evaluate(readout)
            self.assertEqual(page.evaluate("document.querySelectorAll('.heads button').length"), 8)
            page.evaluate("document.querySelectorAll('.heads button')[5].click()")
            self.assertIn("L1H1", page.evaluate(readout))
            self.assertNotEqual(page.evaluate(readout), before)
            self.assertEqual(page.evaluate("document.querySelectorAll('.strip b').length"), 0)
            self.check(page)

    def test_a_state_space(self):
        path = os.path.join(os.environ["TEST_TMPDIR"], "mamba.html")
        done = tools.run("lens", "--model=" + tools.golden("mamba_auto"), "--out=" + path,
                         "--tokens=1,2,3,4,1,2,3,5,6,7")
        self.assertEqual(done.code, 0, done.err)
        for width, dark in ((1280, False), (390, True)):
            with chromium.Page(width=width, dark=dark, mobile=width < 500) as page:
                page.open(path)
                titles = page.evaluate(
                    "[...document.querySelectorAll('h2')].map(title => title.textContent)")
                self.assertEqual(titles[:2], ["Where information comes from", "What the memory keeps"])
                # Of each layer the mean and the channels that move most.
                names = page.evaluate(
                    "[...document.querySelectorAll('.heads button')].map(b => b.textContent.trim())")
                self.assertEqual(names[0], "L0 mean")
                self.assertTrue(all("C" in name or "mean" in name for name in names), names)
                page.evaluate("document.querySelectorAll('.heads button')[1].click()")
                self.assertIn("L0C", page.evaluate("document.querySelector('.readout').textContent"))
                notes = page.evaluate("""[...document.querySelectorAll('figure.table')][0]
                    .querySelectorAll('tbody td')[3].title""")
                self.assertIn("left of the past", notes)
                self.check(page)


if __name__ == "__main__":
    run_cases.main()
