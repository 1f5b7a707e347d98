"""The page of a finished campaign: whole, self-contained, escaped, and with the numbers that the engine has."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from t2t.campaign.record import champion
from t2t.commands.page import changes, page, parts, topics, write_report
from t2t.commands.page.clips import Clips
from t2t.commands.page.material import Material
from t2t.commands.page.pictures import COLOURS, css, svg
from t2t.core.errors import T2TError
from t2t.evaluation import figures
from t2t.evaluation.gate import judge
from t2t.integrations.mlflow.page import log_page
from t2t.teachers.store import read_labels
from tests.helpers.cli import invoke
from tests.helpers.page import DESCRIPTION, SAMPLE, TOPIC, Page, hostile_campaign, state_of

SECTIONS = ["headline", "rounds", "curves", "contribution", "topics", "examples", "changed", "teachers", "watch"]
SECTIONS += ["lineage", "commits", "made"]


@pytest.fixture(scope="module")
def html(finished, tmp_path_factory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topics, "MOVED", 100)
        patch.setattr(changes, "VIDEOS", 100)
        path = write_report(finished, "tiny", out=tmp_path_factory.mktemp("page") / "page.html")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shown(html: str) -> Page:
    return Page(html)


def test_every_part_is_there_and_nothing_is_missing(shown):
    assert [about["id"] for about in shown.all("section")] == SECTIONS
    targets = {f"#{about['id']}" for _, about in shown.elements if "id" in about}
    assert {about["href"] for about in shown.all("a")} == {f"#{name}" for name in ["main", *SECTIONS[1:]]} <= targets
    assert "Missing." not in "".join(shown.text.values())


def test_nothing_comes_from_elsewhere_and_the_pages_own_script_alone_runs(shown):
    """Whatever topics, ids and descriptions say: they are text."""
    assert shown.all("script") == [{}]
    assert shown.html.count("<script") == 1
    own = shown.html[shown.html.index("<script>") + len("<script>") : shown.html.index("</script>")]
    assert own == (Path(page.__file__).parent / "page.js").read_text()
    for tag, about in shown.elements:
        assert not any(name.startswith("on") for name in about), (tag, about)
        for name in ("src", "srcset", "href", "xlink:href", "action", "data"):
            assert re.match(r"#|data:image/(jpeg|webp);base64,[A-Za-z0-9+/=]+$", about.get(name) or "#"), (tag, about)
    assert not re.search(r"url\((?!#)|@import", shown.html)
    policy = [about["content"] for about in shown.all("meta") if "http-equiv" in about]
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert policy == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"]
    assert {tag for tag, _ in shown.elements}.isdisjoint({"link", "iframe", "object", "embed", "form", "base"})
    assert DESCRIPTION in shown.text["head"]
    assert TOPIC in shown.text["topics"]
    assert SAMPLE in shown.text["changed"]
    assert SAMPLE in "".join(about["alt"] or "" for about in shown.all("img"))


def test_people_who_do_not_see_it_can_read_it(shown):
    assert [about.get("lang") for about in shown.all("html")] == ["en"]
    assert all(about.get("alt") for about in shown.all("img"))
    assert all(about.get("scope") in ("col", "row") for about in shown.all("th"))
    assert all(about.get("aria-label") for _, about in shown.elements if about.get("role") in ("img", "region"))
    ids = Counter(about["id"] for _, about in shown.elements if "id" in about)
    assert [name for name, times in ids.items() if times > 1] == []


def test_the_headline_has_the_gates_paired_difference(finished, shown):
    at_work = hostile_campaign(finished, rounds={"max": 3, "patience": 3})
    records = at_work.ledger.records()
    best = champion(records)
    assert best is not None
    material = Material(finished, "tiny")
    found = parts.headline(material)
    assert found["about"] == best
    assert f"{best.test['pr_auc']:.3f}" in shown.text["headline"]
    other = records[0] if best.round else records[1]
    pairs = [at_work.scored_pairs(record, "test") for record in (best, other)]
    expected = judge("always", *pairs, at_work.config.evaluation.resamples).difference
    mine = material.difference(*(material.pairs(record.round, "test") for record in (best, other)))
    assert mine == expected
    assert (found["gain"] == expected) is (best.round != 0)


def test_the_best_outside_teacher_is_compared_on_the_pairs_that_it_labels(finished):
    material = Material(finished, "tiny")
    found, record = parts.headline(material)["teacher"], material.measured
    values = {name: record.test[f"pr_auc_teacher/{name}"] for name in ("vendor", "colour-expert")}
    assert found["name"] == max(values, key=lambda name: values[name])
    assert found["own"] == pytest.approx(values[found["name"]])
    assert found["student"] == pytest.approx(record.test[f"pr_auc_beside/{found['name']}"])
    assert found["gain"].value == pytest.approx(found["student"] - found["own"])


def test_a_teacher_has_one_colour_in_all_pictures_and_tables(finished, shown):
    material = Material(finished, "tiny")
    assert list(material.styles) == ["vendor", "colour-expert"]
    own = [css(colour) for colour, _ in material.styles.values()]
    for name in ("curves", "contribution"):
        part = shown.html[shown.html.index(f'<section id="{name}">') :]
        part = part[: part.index("</section>")]
        picture, table = part[: part.index("<figcaption>")], part[part.index("<table") :]
        assert [colour in picture for colour in own] == [True, True]
        assert [colour in table for colour in own] == [True, True]
        assert css(figures.PINK) not in part


def test_the_style_sheet_has_the_pictures_colours(html):
    light = html[html.index(":root") : html.index("@media")]
    own = {colour: name for colour, name in COLOURS.items() if name not in ("ink",)}
    assert [name for colour, name in own.items() if f"--{name}: {colour.lower()};" not in light] == []


def test_topics_and_their_counts_are_those_of_the_rounds(finished):
    found = topics.by_topic(Material(finished, "tiny"))
    assert found["better"] + found["worse"] + found["same"] + found["unmeasured"] == 39
    gains = [row["change"] for row in found["gains"]]
    assert gains == sorted(gains, reverse=True)
    losses = [row["change"] for row in found["losses"]]
    assert losses == sorted(losses)
    assert all(row["positives"] > 0 and row["pairs"] >= row["positives"] for row in found["gains"] + found["losses"])


def test_the_videos_that_changed_most_are_those_of_the_students_labels(finished, shown):
    material = Material(finished, "tiny")
    found = changes.changed(material, Clips(material))
    assert (found["before"], found["after"]) == ("tiny-self-0", "tiny-self-1")
    assert len(found["videos"]) == changes.VIDEOS
    tables = [read_labels(material.lake, "main", "demo", f"tiny-self-{k}").to_pylist() for k in (0, 1)]
    first, last = ({(row["sample_id"], row["topic"]): row["confidence"] for row in table} for table in tables)
    moved = {pair: abs(last[pair] - first[pair]) for pair in first.keys() & last.keys()}
    assert found["pairs"] == len(moved)
    top = max(moved, key=lambda pair: moved[pair])
    assert (found["videos"][0]["sample_id"], found["videos"][0]["labels"][0]["topic"]) == top
    part = Page(shown.html[shown.html.index('<section id="changed">') : shown.html.index('<section id="teachers">')])
    assert len(part.all("img")) == len(material.ids("unlabeled"))


def test_the_command_prints_the_path_and_leaves_the_lake_as_it_was(copied):
    place = copied()
    lake = Material(place, "tiny").lake
    before = state_of(lake)
    words = ["--registry", place.registry, "--data-root", place.data, "--work", place.work, "report", "tiny"]
    result = invoke(*words, "--no-leave-one-out")
    assert result.exit_code == 0, result.output
    path = Path(result.output.split("  (")[0])
    assert path == place.work / "campaigns" / "tiny" / "report" / "tiny.html"
    assert "Left out by --no-leave-one-out" in Page(path.read_text()).text["contribution"]
    assert state_of(lake) == before


def test_the_page_goes_to_mlflow_where_the_campaign_has_a_run(copied, monkeypatch, tmp_path, caplog):
    place, told = copied(), []

    class Tracker:
        def __init__(self, uri, work, dataset, campaign):
            self.campaign = dataset, campaign

        def log_page(self, path):
            told.append((*self.campaign, path))
            if len(told) > 1:
                raise T2TError("No MLflow server answers.")

    monkeypatch.setattr("t2t.integrations.mlflow.page.MLflowTracker", Tracker)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log_page(place, "tiny", tmp_path / "page.html")
    assert told == []  # there is no store, and looking for the run must not make one
    (place.work / "mlflow.db").touch()
    log_page(place, "tiny", tmp_path / "page.html")
    assert told == [("demo", "tiny", tmp_path / "page.html")]
    with caplog.at_level("WARNING", "t2t"):
        log_page(place, "tiny", tmp_path / "page.html")
    assert "not in MLflow: No MLflow server answers." in caplog.text


def test_numbers_line_up_and_what_is_not_known_is_a_dash():
    assert (page.number(0.12345), page.number(None), page.number(float("nan"))) == (
        "0.123",
        page.NOTHING,
        page.NOTHING,
    )
    assert (page.signed(-0.0104), page.signed(0.5)) == (f"{page.MINUS}0.010", "+0.500")
    assert [page.count(23776), page.percent(0.333), page.measure(9920.0), page.measure(0.5)] == [
        "23,776",
        "33%",
        "9,920",
        "0.500",
    ]


def test_a_picture_is_markup_with_the_pages_colours_and_ids_of_its_own():
    table = pd.DataFrame({"name": ["<b>a</b>", "c"], "value": [0.1, 0.0], "low": [0.0, -0.1], "high": [0.2, 0.1]})
    pictures = [svg(figures.differences(table, "x", {"c": (figures.GREEN, "-")}), name) for name in ("one", "two")]
    assert pictures[0].startswith("<svg")
    assert "&lt;b&gt;a&lt;/b&gt;" in pictures[0]
    assert css(figures.GREEN) in pictures[0]
    assert not re.search("#[0-9a-f]{6}", pictures[0])
    ids = [set(re.findall(' id="([^"]+)"', picture)) for picture in pictures]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', pictures[0]))
    assert used <= ids[0]
    assert pictures[0] == svg(figures.differences(table, "x", {"c": (figures.GREEN, "-")}), "one")
