"""Campaigns that lack something: the page is made all the same, and says what is missing and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2t.campaign.decision import decide
from t2t.commands.page import parts, write_report
from t2t.commands.page.contribution import LeaveOneOut
from t2t.commands.page.material import Material, part
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.teachers.retraction import retract
from tests.helpers.campaigns import prepared, run, run_until, waits
from tests.helpers.page import Page, hostile_campaign


def shared(finished: Workspace, folder: Path) -> Workspace:
    """A work folder of its own, with the embeddings that are there already."""
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "embeddings").symlink_to(finished.work / "embeddings")
    return Workspace.find(finished.registry, finished.data, folder / "work")


def text_of(place, **options) -> Page:
    return Page(write_report(place, "tiny", **options).read_text(encoding="utf-8"))


def test_a_campaign_whose_videos_are_gone_has_all_but_what_needs_them(copied, tmp_path):
    found = text_of(copied(tmp_path / "nothing"))
    assert "does not exist" in found.text["contribution"]
    assert "No picture:" in found.text["changed"]
    assert not found.all("img")
    for name in ("headline", "rounds", "curves", "topics", "teachers", "lineage", "commits"):
        assert "Missing." not in found.text[name]


def test_retracted_rounds_are_shown_as_such_with_the_reason(copied):
    place = copied()
    retract(Material(place, "tiny").lake, "demo", "vendor", "It <b>guessed</b>.")
    found = text_of(place, leave_one_out=False)
    assert "No round that stands has passed" in found.text["headline"]
    assert "Every round learned from a retracted teacher" in found.text["headline"]
    assert found.text["rounds"].count("learned from vendor, which was retracted") == 3
    assert "It <b>guessed</b>." in found.text["teachers"]
    assert "Descends from vendor, which is retracted." in found.text["teachers"]
    assert "retracted: learned from vendor" in found.text["lineage"]
    # The other teacher stands, and would be compared with none.
    assert LeaveOneOut(Material(place, "tiny")).outside == ["colour-expert"]


def test_a_round_that_waits_and_one_that_was_rejected(finished, tmp_path):
    place = shared(finished, tmp_path)
    at_work = hostile_campaign(place, gate="manual", rounds={"max": 2}, teachers=["vendor"])
    waits(at_work)
    found = text_of(place, leave_one_out=False)
    assert "Round 0 waits for a person. Answer: t2t decide tiny 0 --pass" in found.text["headline"]
    assert "so there is no champion; below is round 0, waiting" in found.text["headline"]
    assert "There is one round only, so no topic has moved yet." in found.text["topics"]
    assert "red square" in found.text["topics"]
    assert "There is one round only" in found.text["changed"]
    assert "No student of this campaign has become a teacher yet" in found.text["watch"]
    decide(at_work.ledger, "tiny", 0, False, "<i>no</i>")
    run_until(at_work, "round 0: publish")
    found = text_of(place, leave_one_out=False)
    assert "Round 1 comes next: t2t run tiny" in found.text["headline"]
    assert "<i>no</i>" in found.text["rounds"]
    assert "rejected" in found.text["rounds"]


def test_the_conventional_average_has_a_page_too(finished, tmp_path):
    place = shared(finished, tmp_path)
    run(hostile_campaign(place, method="conventional-average", rounds={"max": 1}, teachers=["vendor"]))
    found = text_of(place)
    assert "the baseline that Teacher2Task replaces" in found.text["teachers"]
    assert "Missing." not in found.text["contribution"]
    assert "One round, without self-training." in found.text["headline"]


def test_without_outside_teachers_there_is_nobody_to_compare_with(finished, monkeypatch):
    material = Material(finished, "tiny")
    monkeypatch.setattr(material, "outside", lambda record: [])
    assert parts.headline(material)["teacher"] is None
    assert parts.curves(material)["rows"] == []
    assert parts.rounds(material)["best"] is None
    assert "no outside teacher" in part(parts.contribution, material, True).missing


def test_a_campaign_that_has_only_begun(finished, tmp_path):
    place = shared(finished, tmp_path)
    prepared(hostile_campaign(place))
    found = text_of(place)
    assert "No round is finished yet. Go on: t2t run tiny" in found.text["headline"]
    for name in ("rounds", "curves", "contribution", "topics", "changed", "lineage"):
        assert "Missing." in found.text[name], name
    assert "vendor" in found.text["teachers"]
    assert "Missing." not in found.text["commits"]


def test_a_campaign_that_never_ran_is_an_error(finished):
    with pytest.raises(T2TError, match="has not run in"):
        write_report(finished, "tniy")
