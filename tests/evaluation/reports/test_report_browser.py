"""The page of a comparison as a headless Chromium draws it, where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
from html import escape
from typing import Any

import pytest
from bs4 import BeautifulSoup

from tests.evaluation.reports.report_cases import CASES, soup_of

WIDTHS = (390, 768, 1110, 1280)
_MEASURE = """
async function measure() {
  const found = [];
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, inside = frame.contentWindow, out = [];
    const width = page.documentElement.clientWidth;
    const seen = (e) => e.getClientRects().length > 0;
    for (const e of page.querySelectorAll("main *")) {
      if (e.closest(".scroll, .unseen, thead, svg") || !seen(e)) continue;
      const r = e.getBoundingClientRect();
      if (r.right > width + 0.5 || r.left < -0.5) out.push(e.outerHTML.slice(0, 120));
    }
    const cells = [...page.querySelectorAll("table.measures tbody td")];
    const hidden = cells.filter((e) => e.getBoundingClientRect().width < 8).length;
    const heads = page.querySelectorAll("table.measures .head");
    const named = [...heads].filter((e) => e.getBoundingClientRect().width > 8).length;
    const texts = [], over = [];
    for (const svg of [...page.querySelectorAll("svg")].filter(seen)) {
      const edge = svg.getBoundingClientRect();
      const boxes = [...svg.querySelectorAll("text.label, text.number, text.corner")];
      const rects = boxes.map((t) => [t.textContent, t.getBoundingClientRect()]);
      rects.forEach(([a, r], i) => {
        if (r.right > edge.right + 1 || r.left < edge.left - 1) texts.push(a);
        rects.slice(0, i).forEach(([b, q]) => {
          const slack = 2;
          if (r.left < q.right - slack && q.left < r.right - slack &&
              r.top < q.bottom - slack && q.top < r.bottom - slack) over.push(a + " / " + b);
        });
      });
    }
    const scroll = page.documentElement.scrollWidth;
    found.push({name: frame.title, inner: inside.innerWidth, scroll,
                out: out.slice(0, 3), cells: cells.length, hidden, named, texts, over,
                charts: [...page.querySelectorAll("svg")].filter(seen).length});
  }
  document.body.innerHTML = "";
  const pre = document.createElement("pre");
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
}
window.onload = measure;
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], dict[str, Any]]:
    """What a browser makes of every case at every width, all in one start of it."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium here to look at the page with")
    frames = "".join(
        f'<iframe title="{name} {width}" style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{escape(rows.to_html())}"></iframe>'
        for name, rows in CASES.items()
        for width in WIDTHS
    )
    place = tmp_path_factory.mktemp("browser")
    harness = place / "harness.html"
    harness.write_text(
        f"<!doctype html><meta charset=utf-8><body>{frames}<script>{_MEASURE}</script>",
        encoding="utf-8",
    )
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={place / 'own'}",
        "--virtual-time-budget=20000", "--dump-dom", harness.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    said = BeautifulSoup(done.stdout, "html.parser").pre
    if said is None:
        pytest.skip(f"this Chromium does not run here: {done.stderr.strip()[-200:]}")
    return {
        (each["name"].rpartition(" ")[0], int(each["name"].rpartition(" ")[2])): each
        for each in json.loads(said.text)
    }


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", CASES)
def test_nothing_sticks_out_of_the_window(
    measured: dict[tuple[str, int], dict[str, Any]], name: str, width: int
) -> None:
    found = measured[name, width]
    assert found["inner"] == width
    assert found["scroll"] <= width
    assert not found["out"]
    assert not found["hidden"]
    if name == "twenty":
        assert found["cells"] > 200 and found["charts"] == 4
        # Every cell of a card has its name; the cells of a table have one above the column.
        columns = len(soup_of(CASES[name]).select(".measures thead th"))
        assert found["named"] == (20 * (columns - 1) if width <= 1100 else 0)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", CASES)
def test_no_text_of_a_chart_covers_another(
    measured: dict[tuple[str, int], dict[str, Any]], name: str, width: int
) -> None:
    found = measured[name, width]
    assert not found["texts"]
    assert not found["over"]
