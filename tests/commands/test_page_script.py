"""The page's script in a browser: it runs under the page's own policy, sorts, searches, and answers the mouse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from markupsafe import escape
from matplotlib.figure import Figure

from t2t.commands.page import page, write_report
from t2t.commands.page.hover import Line, answering
from t2t.evaluation.figures import axes_of
from tests.helpers.page import Page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# What a person does, written into the title, which `--dump-dom` shows.
ACTS = """
const texts = (column) => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[column].textContent);
const heads = document.querySelectorAll("thead button");
const seen = [];
heads[1].click(); seen.push(texts(1).join());
heads[1].click(); seen.push(texts(1).join());
heads[0].click(); seen.push(texts(0).join());
seen.push(heads[0].parentElement.getAttribute("aria-sort"));
const box = document.querySelector("input");
box.value = "ED Star"; box.dispatchEvent(new Event("input"));
seen.push([...document.querySelectorAll("tbody tr")].map((row) => row.hidden).join());
const picture = document.querySelector("[data-hover]"), svg = picture.querySelector("svg");
const frame = svg.getBoundingClientRect();
picture.dispatchEvent(new PointerEvent("pointermove", { clientX: frame.left + 0.99 * frame.width, clientY: 5 }));
seen.push(picture.querySelector(".tip").innerText.replaceAll("\\n", "|"));
picture.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
seen.push(picture.querySelector(".tip").innerText.replaceAll("\\n", "|"));
seen.push(picture.querySelectorAll("b").length);
picture.dispatchEvent(new PointerEvent("pointerleave"));
seen.push(picture.classList.contains("asked"));
document.body.dataset.seen = JSON.stringify(seen);
"""
ROWS = [("red star", "1,000"), ("bear", "\u2212 0.5"), ("a car, a star", "\u2013"), ("Zebra", "20")]
TABLE = """<div class="scroll"><table class="sorts" data-search="Find">
<thead><tr><th>name</th><th class="n">value</th></tr></thead><tbody>
"""
TABLE += "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in ROWS)
TABLE += '<tr class="stays"><td>chance</td><td>7</td></tr></tbody></table></div>'


def shown(file: Path) -> Page:
    """The page after its scripts have run."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    # A profile of its own: a person's browser may be open.
    command += [f"--user-data-dir={file.parent / 'profile'}", file.as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Page(found.stdout)


def picture() -> tuple[Figure, list[Line]]:
    figure, axes = axes_of(4, 3)
    axes.plot([0, 1, 2], [0.1, 0.5, 0.3])
    nan = float("nan")
    lines = [Line("<b>one</b>", "#0072b2", [0.1, 0.5, 0.3]), Line("two", "#d55e00", [nan, 0.4, nan])]
    return figure, [*lines, Line("far below", "#000000", [-9.0] * 3, ["x", "y", "z"])]


def test_what_the_script_is_told_lies_where_the_curves_are():
    figure, lines = picture()
    found = answering(figure, "p", [0, 1, 2], ["a", "b", "c"], lines)
    told = json.loads(found.hover)
    assert found.svg.startswith("<svg")
    assert told["titles"] == ["a", "b", "c"]
    assert 0 < told["x"][0] < told["x"][1] < told["x"][2] < 4 * 72
    one, two, far = told["lines"]
    assert 0 < told["top"] < one["y"][1] < one["y"][2] < one["y"][0] < told["bottom"] < 3 * 72
    assert one["text"] == ["0.100", "0.500", "0.300"]
    assert (two["y"][0], two["text"][0]) == (None, "")
    assert (far["y"], far["text"]) == ([None] * 3, ["x", "y", "z"])
    # As Matplotlib itself drew the point in the middle.
    drawn = re.findall(r"[ML] ([\d.]+) ([\d.]+)\s", found.svg)
    at = [(round(float(x), 1), round(float(y), 1)) for x, y in drawn]
    assert set(zip(told["x"], one["y"], strict=True)) <= set(at)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium (apt install chromium)")
def test_it_sorts_searches_and_answers(tmp_path):
    figure, lines = picture()
    found = answering(figure, "p", [0, 1, 2], ["a", "b", "c"], lines)
    hover = str(escape(found.hover))
    style = (Path(page.__file__).parent / "page.css").read_text()
    html = (
        f'<!DOCTYPE html><style>{style}</style><body>{TABLE}<div class="picture" data-hover="{hover}">{found.svg}</div>'
    )
    html += f"<script>{page.script()}</script><script>{ACTS}</script></body>"
    (tmp_path / "page.html").write_text(html)
    body = shown(tmp_path / "page.html").all("body")[0]
    seen = json.loads(body["data-seen"] or "")
    assert seen[:2] == ["1,000,20,\u2212 0.5,\u2013,7", "\u2212 0.5,20,1,000,\u2013,7"]
    assert seen[2] == "a car, a star,bear,red star,Zebra,chance"
    assert seen[3] == "ascending"
    assert seen[4] == "true,true,false,true,true"
    assert seen[5] == "c|0.300  <b>one</b>|z  far below"
    assert seen[6] == "b|0.500  <b>one</b>|0.400  two|y  far below"
    assert seen[7:] == [0, False]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium (apt install chromium)")
def test_the_pages_own_script_runs_under_its_policy_and_no_other(finished, tmp_path):
    """The names in this campaign try to be scripts; one more is put in, as if one had come through."""
    path = write_report(finished, "tiny", leave_one_out=False, out=tmp_path / "page.html")
    html = path.read_text().replace("</main>", "<script>document.title = 'mine'</script></main>")
    path.write_text(html)
    after = shown(path)
    assert len(after.all("button")) > 10
    assert [about["type"] for about in after.all("input")] == ["search"]
    assert [about["class"] for about in after.all("div") if about.get("class") == "tip"]
    assert "mine" not in after.text["head"]
