"""Asking a champion that was trained for several sizes by a smaller one: scores, thresholds, page, comparison."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import t2t
from t2t.campaign.best import Best
from t2t.campaign.campaign import Campaign
from t2t.commands.compare import compare
from t2t.commands.page import write_report
from t2t.core.workspace import Workspace
from t2t.evaluation.thresholds import Thresholds, choose
from t2t.lake.tables import read_table
from t2t.students.checkpoint import load
from t2t.students.sizes import ask_size
from tests.helpers.campaigns import run, tiny
from tests.helpers.cli import invoke

SIZES = (4, 16)
HAS_ONNX = all(find_spec(name) is not None for name in ("onnx", "onnxscript"))


@pytest.fixture(scope="module")
def campaign(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    tower = {"layers": 0, "d_model": 32, "d_ff": 32, "heads": 2}
    student = {"dim": 24, "matryoshka": list(SIZES), "sample": tower, "text": {**tower, "identity": "gate"}}
    made = tiny(world, tmp_path_factory.mktemp("sizes") / "work", student=student)
    run(made)
    return made


@pytest.fixture(scope="module")
def place(campaign: Campaign) -> Workspace:
    return campaign.workspace


def asked(place: Workspace, *words: object) -> Any:
    return invoke("--registry", place.registry, "--data-root", place.data, "--work", place.work, *words)


def videos(place: Workspace) -> list[Path]:
    return sorted((place.data / "demo" / "clips").glob("*.mp4"))[:2]


def test_a_smaller_size_scores_by_itself_and_says_yes_by_thresholds_of_its_own(place: Workspace) -> None:
    best, topics = Best.of(place, "tiny"), ["red star", "blue circle"]
    files = [str(video) for video in videos(place)]
    by_size = {}
    for dim in (None, *SIZES, 24):
        scorer = t2t.load_student(best.checkpoint, dim=dim)
        wanted = scorer.score(files, topics)
        found = t2t.predict("tiny", files, topics, dim=dim, precision=0.2, workspace=place).table
        scores = found.pivot_table(index="file", columns="topic", values="confidence").loc[files, topics]
        np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-6)
        by_size[dim] = wanted
        table = read_table(best.ledger.lake, best.record.commit, best.ledger.layout.sizes(best.record.round, "test"))
        assert sorted(set(table["size"].to_pylist())) == list(SIZES)
        own = best.thresholds(0.2, dim)
        levels = found.set_index("topic")["threshold"].to_dict()
        for topic, level in zip(topics, own.of(topics), strict=True):
            np.testing.assert_allclose(levels[topic], np.nan if np.isinf(level) else level)
    np.testing.assert_array_equal(by_size[24], by_size[None])
    assert np.abs(by_size[4] - by_size[None]).max() > 1e-3
    assert best.thresholds(0.2, 4) != best.thresholds(0.2)
    assert best.thresholds(0.2, 24) == best.thresholds(0.2)


def test_thresholds_of_a_size_come_from_validation_as_that_size_scores_it(campaign: Campaign) -> None:
    best = Best.of(campaign.workspace, "tiny")
    student, pairs = load(best.checkpoint), campaign.human_pairs("validation")
    ask_size(student, 4)
    where = campaign.positions(pairs.sample_ids)
    scored = student.predict_pairs(campaign.embedded.embeddings, where, pairs, best.record.identity)
    assert best.thresholds(0.3, 4) == choose(scored, best.record.identity, 0.3)


@pytest.mark.parametrize("command", ["predict", "tag", "search", "export"])
def test_a_size_that_was_not_trained_is_refused_before_the_student_is_loaded(
    place: Workspace, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "export" and not HAS_ONNX:
        pytest.skip("the extra `onnx` is not installed")
    words = {
        "predict": ("predict", "tiny", *videos(place)),
        "tag": ("tag", *videos(place), "--campaign", "tiny", "--out", tmp_path / "tags.csv"),
        "search": ("search", "tiny", "red star"),
        "export": ("export", "tiny", "--out", tmp_path / "exported"),
    }[command]

    def load_none(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("t2t.students.checkpoint.load", load_none)
    error = str(asked(place, *words, "--dim", 8).exception)
    assert error == "This student has no vectors of size 8. Its sizes: 4, 16, 24 (student.matryoshka)."


def test_tags_and_search_go_by_the_size(place: Workspace, tmp_path: Path) -> None:
    best, files = Best.of(place, "tiny"), videos(place)
    out = tmp_path / "tags.csv"
    assert asked(place, "tag", *files, "--campaign", "tiny", "--out", out, "--top", 3, "--dim", 4).exit_code == 0
    tags = pd.read_csv(out)
    scorer = t2t.load_student(best.checkpoint, dim=4)
    topics = sorted(set(tags["topic"]))
    scores = pd.DataFrame(scorer.score(files, topics), [str(file) for file in files], topics)
    for row in tags.to_dict("records"):
        assert row["confidence"] == pytest.approx(scores.loc[row["sample_id"], row["topic"]], abs=2e-6)
    found, whole, again = (t2t.search("tiny", "red star", dim=dim, workspace=place).table for dim in (4, None, 4))
    pd.testing.assert_frame_equal(found, again)
    assert not np.array_equal(found["confidence"], whole["confidence"])
    [score] = scorer.score([found["path"][0]], ["red star"])
    assert found["confidence"][0] == pytest.approx(score[0], abs=2e-6)
    assert asked(place, "search", "tiny", "red star", "--dim", 16).exit_code == 0


@pytest.mark.slow
@pytest.mark.skipif(not HAS_ONNX, reason="the extra `onnx` is not installed")
def test_an_export_of_a_size_has_its_vectors_scale_and_thresholds(place: Workspace, tmp_path: Path) -> None:
    done = t2t.export("tiny", tmp_path / "exported", dim=4, precision=0.2, workspace=place)
    facts = json.loads((done.folder / "student.json").read_text())
    assert facts["width"] == 4
    student = load(Best.of(place, "tiny").checkpoint)
    assert facts["bias"] == pytest.approx(float(student.of_sizes[0][1].detach()), abs=1e-6)
    assert facts["scale"] == pytest.approx(float(student.of_sizes[0][0].detach().exp()), rel=1e-5)
    kept = Thresholds.model_validate_json((done.folder / "thresholds.json").read_text())
    assert kept == Best.of(place, "tiny").thresholds(0.2, 4)
    if done.runtime is not None:
        assert done.difference is not None
        assert done.difference < 1e-5


def test_page_and_comparison_show_each_size(campaign: Campaign, place: Workspace, tmp_path: Path) -> None:
    records = campaign.ledger.records()
    metrics = compare(place, "tiny", 0, 1, 3).metrics.set_index("metric")
    for size in SIZES:
        row = metrics.loc[f"test pr_auc by vectors of size {size}"]
        assert row["1"] == records[1].test[f"pr_auc_size/{size}"]
    text = write_report(place, "tiny", out=tmp_path / "page.html").read_text(encoding="utf-8")
    table = text[text.index("PR-AUC on test by size") :]
    table = table[: table.index("</table>")]
    heads = re.findall(r'<th scope="col" class="n">([^<]*)</th>', table)
    assert heads == ["round", *map(str, SIZES), "the whole"]
    for record in records:
        numbers = [record.test[f"pr_auc_size/{size}"] for size in SIZES] + [record.test["pr_auc"]]
        assert "".join(f'<td class="n">{value:.3f}</td>' for value in numbers) in table
