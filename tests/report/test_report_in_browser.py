"""The report in a browser, on a phone, a tablet and a desk, on light and on dark pages."""

import json
import re
import shutil
import subprocess
from html import unescape

import pandas as pd
import pytest

from src.artifacts.layout import Layout
from src.report.blocks import Folded, Section
from src.report.page import render
from src.report.plots import Plot
from src.report.study import Study
from src.report.tables import Table

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
WIDTHS = {390: 844, 768: 1024, 1280: 800}
SCHEMES = {"dark": 0, "light": 1}
"""Numbers by which the browser knows its colour schemes."""
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--allow-file-access-from-files", "--virtual-time-budget=4000", "--window-size=1300,1100"),
)
PROBE = """<body><script>
const widths = %s, found = {};
const luminance = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255)
  .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
  .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
const background = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  const clear = colour === "rgba(0, 0, 0, 0)";
  return clear && element.parentElement ? background(element.parentElement) : colour;
};
const contrast = (element) => {
  const [low, high] = [getComputedStyle(element).color, background(element)]
    .map(luminance).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const measure = (page, width) => {
  const view = page.defaultView;
  page.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  const text = page.querySelector("#verdict .text").getBoundingClientRect();
  const texts = [...page.querySelectorAll("h1, h2, h3, p, th, td, li, a, summary, small")]
    .filter((element) => !element.closest(".skip"));
  const table = page.querySelector("table");
  const numbers = () => [...table.tBodies[0].rows].map((row) => row.cells[1].textContent.trim());
  const button = table.tHead.rows[0].cells[1].querySelector("button");
  button.click();
  const falling = numbers();
  button.click();
  const name = table.tBodies[0].rows[0].cells[0];
  const box = table.closest(".scroll");
  box.scrollLeft = 1e6;
  found[width] = {
    page: page.documentElement.scrollWidth, width: view.innerWidth, top: text.top,
    bottom: text.bottom, contrast: Math.min(...texts.map(contrast)), falling, rising: numbers(),
    left: name.getBoundingClientRect().left - box.getBoundingClientRect().left,
    reached: Math.abs(box.scrollLeft + box.clientWidth - box.scrollWidth) < 2,
    more: box.classList.contains("more"), scrolls: box.scrollWidth > box.clientWidth + 1,
    dark: luminance(getComputedStyle(page.body).backgroundColor) < 0.2,
  };
};
for (const [width, height] of Object.entries(widths)) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = height; frame.src = "report.html";
  frame.addEventListener("load", () => {
    measure(frame.contentDocument, width);
    document.querySelector("pre").textContent = JSON.stringify(found);
  });
  document.body.append(frame);
}
</script><pre></pre></body>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")


def page_text(root):
    """Return a report with a verdict, a table that no phone is wide enough for, and a folded section."""
    changes = ["+0.5", "−1.5", "–", "+12"]
    shown = pd.DataFrame({"extractor": list("abcd"), "change": changes})
    shown = shown.assign(**{f"a long heading {n}": "0.123 (0.1 to 0.2)" for n in range(12)})
    table = Table("wide", "Wide", shown, shown)
    plot = Plot("plot", "Plot", "a line through two points", lambda axes: axes.plot([0, 1]))
    sentence = "The strongest attack changes the percentage of users from 0.6 to 4.0. "
    return render(
        Study(Layout("shop", root), 20, (), ()),
        [
            Section("verdict", "Verdict", [3 * sentence, 2 * sentence, sentence], [plot]),
            Section("main", "Main", ["Text."], [table], notes=["A note."]),
            Section("rest", "Rest", ["Text."], [Folded("More", [table])], folded=True),
            Section("missing", "Missing", missing="python " + "--long_option_name=value " * 9),
        ],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "report.html").write_text(page_text(folder))
    (folder / "probe.html").write_text(PROBE % json.dumps(WIDTHS))
    return folder


@pytest.fixture(scope="module", params=list(SCHEMES))
def measured(request, folder):
    """Return the measurements of each width in one colour scheme, made by one start of the browser."""
    command = [
        *(BROWSER, *FLAGS, f"--user-data-dir={folder / request.param}"),
        f"--blink-settings=preferredColorScheme={SCHEMES[request.param]}",
        *("--dump-dom", (folder / "probe.html").as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    pre = re.search("<pre>(.+)</pre>", done.stdout, re.DOTALL)
    assert pre, f"the page could not be measured: {done.stderr[-2000:]}"
    found = {int(width): of for width, of in json.loads(unescape(pre[1])).items()}
    assert set(found) == set(WIDTHS)
    assert all(of["dark"] == (request.param == "dark") for of in found.values())
    return found


def test_no_page_is_cut_at_its_right(measured):
    for width, of in measured.items():
        assert of["page"] <= of["width"], f"{width} px"


def test_the_verdict_is_within_the_first_screen(measured):
    for width, of in measured.items():
        assert 0 < of["top"] < of["bottom"] < WIDTHS[width], f"{width} px"


def test_text_has_contrast(measured):
    assert all(of["contrast"] >= 4.5 for of in measured.values())


def test_a_wide_table_scrolls_to_its_end_and_keeps_its_names_in_sight(measured):
    for of in measured.values():
        assert of["reached"] and of["more"] == of["scrolls"]
        assert abs(of["left"]) < 2
    assert measured[390]["scrolls"]


def test_a_click_sorts_numbers_with_missing_ones_last(measured):
    for of in measured.values():
        assert of["falling"] == ["+12", "+0.5", "−1.5", "–"]
        assert of["rising"] == ["−1.5", "+0.5", "+12", "–"]
