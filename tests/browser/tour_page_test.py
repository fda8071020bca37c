"""The tour's page in a browser: figures are drawn, nothing is loaded, nothing fails, pointing and
keys change what is seen, and it fits a phone. Skipped where no Chromium is installed."""

import os
import unittest

from tests.browser import chromium
from tests.harness import run_cases
from tests.tools import tools

_TEXT = "".join("It is said in chapter %d, and said again in chapter %d: <b>&amp;</b>\n"
                % (i % 23, i % 23) for i in range(400))

_MARKS = """[...document.querySelectorAll('figure.plot')].map(figure =>
  figure.querySelectorAll('.vega svg .mark-line path, .vega svg .mark-rect path, ' +
                          '.vega svg .mark-symbol path').length)"""
_SHADED = """[...document.querySelectorAll('figure.tokens')].map(figure =>
  [...figure.querySelectorAll('.strip span')].map(s => s.style.getPropertyValue('--weight')).join())"""
_READOUT = "[...document.querySelectorAll('.readout')].map(p => p.textContent)"
_INK = """[...document.querySelectorAll('canvas')].map(canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d');
  copy.drawImage(canvas, 0, 0);
  const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  return data.filter((value, i) => i % 4 === 3 && value > 0).length;
})"""


def _center(selector, index=0):
    return """(() => {
      const element = document.querySelectorAll(%r)[%d];
      element.scrollIntoView({block: 'center'});
      const box = element.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];
    })()""" % (selector, index)


@unittest.skipUnless(chromium.find(), "no Chromium on the PATH")
class TourPageTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        out = os.path.join(os.environ["TEST_TMPDIR"], "tour")
        # More noise than training, so that every figure of the page has something to show.
        done = tools.run("tour", "--text=" + tools.write("<text> & more.txt", _TEXT), "--out=" + out,
                         "--max_steps=30", "--measure_every=5", "--d_model=32", "--n_heads=4",
                         "--context=48", "--vocab_size=300", "--learning_rate=0.02")
        if done.code:
            raise AssertionError(done.err)
        cls.path = os.path.join(out, "report.html")

    def check_quiet(self, page):
        self.assertEqual(page.errors, [])
        self.assertEqual(len(page.requests), 1, page.requests)  # the page itself

    def check_fits(self, page):
        page_width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        self.assertLessEqual(page_width, window)
        too_wide = page.evaluate("""[...document.querySelectorAll('body *')].filter(element =>
            !element.closest('.scroll, svg') &&
            element.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 99))""")
        self.assertEqual(too_wide, [])

    def test_figures_are_drawn_light_and_dark_wide_and_narrow(self):
        for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
            with self.subTest(width=width, dark=dark):
                with chromium.Page(width=width, dark=dark, mobile=width < 500) as page:
                    page.open(self.path)
                    marks = page.evaluate(_MARKS)
                    self.assertGreaterEqual(len(marks), 5)
                    self.assertTrue(all(marks), marks)
                    self.assertTrue(all(page.evaluate(_INK)))
                    self.check_fits(page)
                    self.check_quiet(page)

    def test_the_scheme_and_the_width_are_followed(self):
        with chromium.Page() as page:
            page.open(self.path)
            color = "document.querySelector('.vega svg .mark-text text').getAttribute('fill')"
            width = "document.querySelector('.vega svg').getBoundingClientRect().width"
            light, wide = page.evaluate(color), page.evaluate(width)
            page.set_dark(True)
            self.assertNotEqual(page.evaluate(color), light)
            page.set_width(390, 800)
            self.assertLess(page.evaluate(width), wide)
            self.check_fits(page)
            self.check_quiet(page)

    def test_pointing_at_a_token_shows_where_it_looks(self):
        with chromium.Page() as page:
            page.open(self.path)
            before, said = page.evaluate(_SHADED), page.evaluate(_READOUT)
            self.assertEqual(len(before), 3)
            page.mouse(*page.evaluate(_center("figure.tokens .strip span", 30)))
            after = page.evaluate(_SHADED)
            self.assertNotEqual(after[0], before[0])
            self.assertEqual(after[1:], before[1:])
            self.assertIn("(position 30)", page.evaluate(_READOUT)[0])
            self.assertNotEqual(page.evaluate(_READOUT)[0], said[0])
            # Nothing later than the token is looked at, and the weights shown add up to no more
            # than all.
            weights = [float(w) for w in after[0].split(",")]
            self.assertEqual(sum(weights[31:]), 0)
            self.assertGreater(sum(weights), 0.85)
            self.assertLess(sum(weights), 0.95)
            self.check_quiet(page)

    def test_keys(self):
        with chromium.Page() as page:
            page.open(self.path)
            page.evaluate("document.querySelector('.strip [tabindex=\"0\"]').focus()")
            page.key("Home")
            self.assertIn("(position 0)", page.evaluate(_READOUT)[0])
            page.key("ArrowRight")
            self.assertIn("(position 1)", page.evaluate(_READOUT)[0])
            page.key("End")
            self.assertIn("(position 47)", page.evaluate(_READOUT)[0])
            page.key("ArrowRight")  # no further
            self.assertIn("(position 47)", page.evaluate(_READOUT)[0])
            self.check_quiet(page)

    def test_heads(self):
        with chromium.Page() as page:
            page.open(self.path)
            shaded, ink = page.evaluate(_SHADED), page.evaluate(_INK)
            page.evaluate("document.querySelectorAll('.heads')[0].children[1].click()")
            checked = page.evaluate("[...document.querySelectorAll('.heads')[0].children]"
                                    ".map(b => b.getAttribute('aria-checked'))")
            self.assertEqual(checked.count("true"), 1)
            self.assertEqual(checked[1], "true")
            self.assertEqual(len(checked), 8)
            self.assertNotEqual(page.evaluate(_SHADED)[0], shaded[0])
            self.assertEqual(len(page.evaluate(_INK)), len(ink))
            self.check_quiet(page)

    def test_pointing_at_a_plot_gives_the_number(self):
        with chromium.Page() as page:
            page.open(self.path)
            x, y = page.evaluate(_center(".vega svg .mark-rect.role-mark path", 1))
            page.mouse(x, y)
            page.mouse(x + 1, y)
            self.assertFalse(page.evaluate("document.getElementById('tip').hidden"))
            self.assertTrue(page.evaluate("document.getElementById('tip').textContent"))
            self.check_quiet(page)

    def test_the_text_is_text(self):
        with chromium.Page() as page:
            page.open(self.path)
            self.assertEqual(page.evaluate("document.querySelectorAll('.strip b').length"), 0)
            self.assertIn("<text> & more.txt", page.evaluate("document.body.textContent"))
            self.assertIn("<b>", page.evaluate("document.querySelector('main').textContent"))


if __name__ == "__main__":
    run_cases.main()
