"""A campaign that looks through a distilled encoder: what it is frozen to, and what a retraction does to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from t2t.campaign import encoders
from t2t.campaign.campaign import Campaign
from t2t.campaign.freeze import read_frozen
from t2t.campaign.preflight import preflight
from t2t.campaign.record import champion
from t2t.commands.lineage import lineage, print_lineage
from t2t.core.errors import T2TError
from t2t.data.embeddings.distilled import TeacherEncoder, place_of
from t2t.integrations.mlflow.serving import Served
from t2t.lake import open_lake
from t2t.students.checkpoint import read_encoder
from t2t.students.scorer import load_student
from tests.helpers.campaigns import run
from tests.helpers.encoders import leave_encoder

THROUGH = {"encoder": {"kind": "distilled", "name": "small", "frames": 2}, "rounds": {"max": 1}}


@pytest.fixture
def at_work(campaign: Callable[..., Campaign], tmp_path: Path) -> Callable[..., Campaign]:
    """Makes the campaign `tiny` through the encoder `small`, which is there."""
    leave_encoder(tmp_path / "work")
    return lambda **changes: campaign(**{**THROUGH, **changes})


def test_it_is_frozen_to_the_encoders_fingerprint_and_notes_its_lineage(at_work, tmp_path, monkeypatch):
    first = at_work()
    run(first)
    card = encoders.entries(first.lake)["small"]
    frozen = read_frozen(first.ledger)["encoder"]
    assert frozen == {
        **{"kind": "distilled", "name": "small", "fingerprint": card.fingerprint, "frames": 2, "batch_size": None}
    }
    assert [teacher.name for teacher in card.teachers] == ["left", "right"]
    # Going on changes nothing, and the encoder is noted once.
    run(at_work())
    assert len([commit for commit in first.lake.log("main") if commit.key.startswith("encoder:")]) == 1
    # The student finds the encoder beside its campaign.
    scorer = load_student(first.checkpoint(first.ledger.records()[0]))
    assert scorer.encoder.fingerprint == first.embedded.encoder
    assert read_encoder(scorer.folder).folder == str(place_of(tmp_path / "work", "small"))
    # A model server elsewhere is told where it is.
    shutil.copytree(scorer.folder, tmp_path / "served")
    monkeypatch.setenv("T2T_WORK", str(tmp_path / "nowhere"))
    with pytest.raises(T2TError, match=r"small: no such encoder"):
        _ = Served(tmp_path / "served", {}).encoder
    for place in (tmp_path / "work" / "encoders", place_of(tmp_path / "work", "small")):
        monkeypatch.setenv("T2T_SERVE_WEIGHTS", str(place))
        assert Served(tmp_path / "served", {}).encoder.fingerprint == first.embedded.encoder


def test_another_encoder_of_that_name_is_another_campaign(at_work, tmp_path):
    run(at_work())
    leave_encoder(tmp_path / "work", seed=1)
    with pytest.raises(T2TError, match=r"changed since: encoder\."):
        run(at_work())
    with pytest.raises(T2TError, match=r"changed since: encoder\."):
        preflight(at_work().workspace, at_work().config)


def test_an_encoder_that_is_not_here_is_refused_before_anything_is_done(at_work, tmp_path):
    shutil.rmtree(place_of(tmp_path / "work", "small"))
    with pytest.raises(T2TError, match=r"small: no such encoder\. `t2t distill small` makes it"):
        preflight(at_work().workspace, at_work().config)
    with pytest.raises(T2TError, match=r"small: no such encoder"):
        run(at_work())
    assert not (tmp_path / "work" / "lake.git" / "refs" / "tags").exists() or not at_work().ledger.records()


def test_retracting_a_teacher_reaches_encoder_and_campaign_and_comes_back(at_work, capsys):
    first = at_work()
    (before,) = run(first)
    assert encoders.retract(first.lake, "small", "left", "its licence ended")
    assert not encoders.retract(first.lake, "small", "left")  # it is so already
    why = "the encoder small, whose teacher left was retracted (its licence ended)"
    again = at_work(rounds={"max": 2})
    (record,) = again.ledger.records()
    assert record.status == "retracted"
    assert record.reason == f"looks through {why}; was passed: {before.reason}"
    assert champion(again.ledger.records()) is None
    for refused in (lambda: run(again), lambda: preflight(again.workspace, again.config)):
        with pytest.raises(T2TError) as error:
            refused()
        assert str(error.value).startswith(f"Campaign 'tiny' looks through {why}. Distill one without it (t2t distill ")
        assert str(error.value).endswith("or take it back: t2t distill retract small left --undo")
    tree = lineage(again.workspace, "tiny/0")
    (encoder,) = [node for node in tree["from"][0]["from"] if node["kind"] == "encoder"]
    assert encoder["retracted"] == "whose teacher left was retracted (its licence ended)"
    assert [(node["id"], node["retracted"]) for node in encoder["from"]] == [("left", "retracted"), ("right", None)]
    print_lineage(lineage(again.workspace, "small"))
    assert "encoder small  test_resnet, fingerprint" in capsys.readouterr().out
    assert encoders.retract(first.lake, "small", "left", undo=True)
    assert at_work().ledger.records() == [before]
    run(at_work(rounds={"max": 2}))


def test_a_retraction_reaches_what_learned_from_the_retracted_at_any_distance(tmp_path):
    lake = open_lake("git", tmp_path)
    first = leave_encoder(tmp_path, "first")
    child = TeacherEncoder(name="elder", kind="timm", model="test_resnet", fingerprint="5" * 64, weights=first.weights)
    second = leave_encoder(tmp_path, "second", seed=1, teachers=(child,))
    third = leave_encoder(
        tmp_path, "third", seed=2, teachers=({"fingerprint": "7" * 64} | {"name": "x", "kind": "timm", "model": "m"},)
    )
    for card in (first, second, third):
        encoders.register(lake, card)
    assert encoders.out(lake) == {}
    encoders.retract(lake, "first", "right")
    out = encoders.out(lake)
    assert {name: one.why for name, one in out.items()} == {
        "first": "whose teacher right was retracted",
        "second": "whose teacher elder was retracted",
    }
    assert {one.undo for one in out.values()} == {"t2t distill retract first right --undo"}
    encoders.retract(lake, "first", "right", undo=True)
    encoders.retract(lake, "second", None, "by mistake")
    assert {name: one.why for name, one in encoders.out(lake).items()} == {"second": "which was retracted (by mistake)"}


def test_what_the_lake_does_not_know_cannot_be_retracted(tmp_path):
    lake = open_lake("git", tmp_path)
    encoders.register(lake, leave_encoder(tmp_path))
    with pytest.raises(T2TError, match=r"The lake has no encoder 'smal'\. Did you mean 'small'\?"):
        encoders.retract(lake, "smal", None)
    with pytest.raises(T2TError, match=r"Encoder 'small' did not learn from 'lef'\. Did you mean 'left'\?"):
        encoders.retract(lake, "small", "lef")


def test_another_encoder_under_the_same_name_is_a_commit_of_its_own(tmp_path):
    lake = open_lake("git", tmp_path)
    first, other = (leave_encoder(tmp_path, seed=seed) for seed in (0, 1))
    commits = [encoders.register(lake, card) for card in (first, first, other, first)]
    assert commits[0] == commits[1]
    assert len({*commits}) == 3
    assert encoders.entries(lake) == {"small": first}
