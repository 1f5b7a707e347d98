"""A campaign with a recipe leaves its yardsticks, and the report and the table of rounds say what they came to."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from t2t.campaign import evidence
from t2t.campaign.campaign import Campaign
from t2t.campaign.scored import Scored
from t2t.commands.page import write_report
from t2t.evaluation.standing import SplitYardsticks, Yardsticks, verdict
from t2t.lake import UnknownPath
from t2t.teachers.store import read_labels
from tests.helpers.campaigns import run, tiny_auto
from tests.helpers.cli import invoke
from tests.helpers.page import Page

NAMES = ["average, raw", "average, common scale", "best teacher", "stacking on human rows", "human rows alone"]


def begun(world, work, **changes) -> Campaign:
    return tiny_auto(world, work, **{"teachers": ["vendor", "colour-expert"], "rounds": 2, **changes})


@pytest.fixture(scope="module")
def campaign(world, tmp_path_factory) -> Campaign:
    """Two rounds. Read only."""
    at_work = begun(world, tmp_path_factory.mktemp("work"))
    run(at_work)
    return at_work


def left(campaign: Campaign, k: int) -> Yardsticks:
    found = Scored(campaign.lake, campaign.config.dataset).yardsticks(campaign.ledger.records()[k])
    assert found is not None
    return found


def split(found: Yardsticks, name: str) -> SplitYardsticks:
    return found.validation if name == "validation" else found.test


@pytest.mark.parametrize("name", ["validation", "test"])
@pytest.mark.parametrize("k", [0, 1])
def test_every_round_leaves_its_yardsticks_in_the_lake(campaign, k, name):
    found = left(campaign, k)
    here = split(found, name)
    assert [one.name for one in here.yardsticks] == NAMES
    assert found.left_out == {}
    record = campaign.ledger.records()[k]
    metrics = record.validation if name == "validation" else record.test
    assert here.student is not None
    assert here.student_seen is not None
    assert here.student.pr_auc == pytest.approx(metrics["pr_auc"], abs=1e-6)
    assert here.student_seen.pr_auc == pytest.approx(metrics["pr_auc_seen"], abs=1e-6)
    for one in here.yardsticks:
        assert one.overall is not None
        assert one.seen is not None
        assert one.seen.difference_low <= one.seen.difference <= one.seen.difference_high
    text = campaign.files(k).yardsticks.read_text(encoding="utf-8")
    assert Yardsticks.model_validate_json(text) == found


def test_the_raw_average_is_that_of_the_labels_in_the_lake(campaign):
    pairs = campaign.human_pairs("test")
    said: dict[tuple[str, str], list[float]] = {}
    for name in campaign.config.teachers:
        for row in read_labels(campaign.lake, "main", "demo", name).to_pylist():
            said.setdefault((row["sample_id"], row["topic"]), []).append(row["confidence"])
    keys = [(pairs.sample_ids[s], pairs.topics[t]) for s, t in zip(pairs.sample, pairs.topic, strict=True)]
    average = np.array([np.mean(said[key]) if key in said else np.nan for key in keys], np.float32)
    spoken = ~np.isnan(average)
    found = left(campaign, 0).test.yardsticks[0].overall
    assert found is not None
    assert found.pairs == spoken.sum()
    own = average_precision_score(pairs.positive[spoken], average[spoken])
    assert found.pr_auc == pytest.approx(own, abs=1e-5)


def test_a_samples_embedding_is_the_mean_of_its_frames(campaign, monkeypatch):
    monkeypatch.setattr(evidence, "BLOCK", 5)
    ids = tuple(campaign.ids("test"))
    frames, mask = campaign.embedded.embeddings.gather(campaign.positions(ids))
    expected = [sample[there].astype(np.float32).mean(axis=0) for sample, there in zip(frames, mask, strict=True)]
    np.testing.assert_allclose(evidence.mean_frames(campaign, ids), np.stack(expected), rtol=1e-4, atol=1e-4)


def test_they_take_no_time_in_a_tiny_world(campaign):
    assert left(campaign, 0).seconds < 2  # 0.2 where nothing else runs


def test_the_table_of_rounds_and_the_report_say_what_they_came_to(campaign, tmp_path):
    best = campaign.champion()
    assert best is not None
    found = left(campaign, best.round)
    sentence = verdict("test", found.test)
    place = campaign.workspace
    where = ("--registry", place.registry, "--data-root", place.data, "--work", place.work)
    printed = invoke(*where, "rounds", "tiny")
    assert printed.exit_code == 0, printed.output
    assert printed.output.count(sentence) == 1
    shown = Page(write_report(place, "tiny", False, tmp_path / "page.html").read_text(encoding="utf-8"))
    text = " ".join(shown.text["yardsticks"].split())
    assert sentence in text
    assert verdict("validation", found.validation) in text
    assert all(name in text for name in NAMES)
    for one in (*found.validation.yardsticks, *found.test.yardsticks):
        assert one.seen is not None
        assert f"{one.seen.pr_auc:.3f}" in text
        assert one.detail in text
    assert "#yardsticks" in {about["href"] for about in shown.all("a")}
    assert "Missing." not in text


def test_a_damaged_file_is_said_to_be_missing_and_the_report_has_the_rest(campaign, tmp_path, monkeypatch):
    monkeypatch.setattr("t2t.campaign.scored.read_json", lambda *_: {"validation": 3})
    shown = Page(write_report(campaign.workspace, "tiny", False, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Missing." in shown.text["yardsticks"]
    assert "Missing." not in shown.text["rounds"]
    place = campaign.workspace
    where = ("--registry", place.registry, "--data-root", place.data, "--work", place.work)
    printed = invoke(*where, "rounds", "tiny")
    assert printed.exit_code == 0, printed.output
    assert "yardsticks cannot be read" in printed.output


@pytest.mark.parametrize("changes", [{"teachers": []}, {"method": "conventional-average"}])
def test_campaigns_without_teachers_and_baselines_have_theirs(world, tmp_path, changes):
    at_work = begun(world, tmp_path, rounds=1, **changes)
    run(at_work)
    names = [one.name for one in left(at_work, 0).test.yardsticks]
    assert names == (["human rows alone"] if "teachers" in changes else NAMES)


def test_a_campaign_that_gives_its_whole_recipe_leaves_what_it_always_left(world, tmp_path):
    training = {"steps": 6, "batch_rows": 1024, "evaluate_every": 3}
    at_work = begun(world, tmp_path, recipe="manual", training=training, rounds=1)
    (record,) = run(at_work)
    assert Scored(at_work.lake, at_work.config.dataset).yardsticks(record) is None
    with pytest.raises(UnknownPath):
        at_work.lake.read(record.commit, at_work.layout.file(0, "yardsticks.json"))
    shown = Page(write_report(at_work.workspace, "tiny", False, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "yardsticks" not in shown.text
    assert "#yardsticks" not in {about["href"] for about in shown.all("a")}
