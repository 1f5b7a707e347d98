"""Two students that teach each other, by consensus or in turns, and what people's rows weigh beside theirs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.facts import RoundFiles, TrainFacts
from t2t.campaign.steps import promote
from t2t.commands.lineage import lineage
from t2t.commands.page import write_report
from t2t.commands.plan.estimate import plan
from t2t.commands.rounds import print_rounds
from t2t.commands.tables import console
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.students.checkpoint import load
from t2t.teachers.retraction import retract
from t2t.teachers.store import read_labels
from tests.helpers.campaigns import run

Make = Callable[..., Campaign]
CONSENSUS = {"self_training": {"co_teachers": "consensus", "agree_within": 0.02, "top_k": 4, "random": 4}}
AUTO = {"recipe": "auto", "training": {"steps": 20, "evaluate_every": 10}}


def own_teachers(campaign: Campaign) -> list[list[str]]:
    return [
        [teacher.id for teacher in record.teachers if campaign.config.is_own(teacher.id)]
        for record in campaign.ledger.records()
    ]


def labels(campaign: Campaign, teacher: str) -> pa.Table:
    table: pa.Table = read_labels(campaign.lake, "main", "demo", teacher)
    return table


def second(campaign: Campaign, k: int) -> RoundFiles:
    return RoundFiles(campaign.files(k).folder / "second")


def test_two_label_each_as_itself_where_they_agree(campaign: Make) -> None:
    at_work = campaign(**CONSENSUS, rounds={"max": 3, "patience": 9})
    first, _, last = run(at_work)
    assert (first.self_teacher, first.second_teacher) == ("tiny-self-0", "tiny-self-0-b")
    assert (last.self_teacher, last.second_teacher) == (None, None)
    assert not second(at_work, 2).folder.exists()  # nobody follows
    assert own_teachers(at_work) == [
        [],
        ["tiny-self-0", "tiny-self-0-b"],
        ["tiny-self-0", "tiny-self-0-b", "tiny-self-1", "tiny-self-1-b"],
    ]
    one, other = (labels(at_work, name).to_pandas() for name in ("tiny-self-0", "tiny-self-0-b"))
    pairs = ["sample_id", "topic"]
    assert one[pairs].equals(other[pairs])
    gap = np.abs(one["confidence"] - other["confidence"])
    assert 0 < len(one) < 16 * len(at_work.dataset.taught)
    assert 0 < gap.max() < 0.02
    # Nothing is averaged: each says what its own student says.
    topics, ids = list(at_work.dataset.taught), at_work.ids("unlabeled")
    where = at_work.positions(ids)
    for folder, table in ((at_work.checkpoint(first), one), (second(at_work, 0).student, other)):
        said = load(folder).predict(at_work.embedded.embeddings, where, topics)
        at = [ids.index(name) for name in table["sample_id"]], [topics.index(name) for name in table["topic"]]
        np.testing.assert_allclose(said[at], table["confidence"], atol=1e-6)
    tree = json.dumps(lineage(at_work.workspace, "tiny/1"))
    assert str(second(at_work, 0).student.relative_to(at_work.workspace.work)) in tree
    assert "tiny-self-0-b" in write_report(at_work.workspace, "tiny").read_text()


def test_a_second_student_that_was_trained_is_not_trained_again(
    campaign: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work = campaign(**CONSENSUS)
    with monkeypatch.context() as killed:
        killed.setattr(promote, "_register", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(at_work)
    before = second(at_work, 0).weights.stat().st_mtime_ns
    run(campaign(**CONSENSUS))
    assert second(at_work, 0).weights.stat().st_mtime_ns == before
    # Undisturbed it comes to the same.
    other = campaign("other", **CONSENSUS)
    run(other)
    for name in ("tiny-self-0", "tiny-self-0-b"):
        assert labels(other, name).equals(labels(at_work, name))


def test_a_prolonged_campaigns_last_round_gets_its_second_student(campaign: Make) -> None:
    run(campaign(**CONSENSUS, rounds={"max": 1}))
    at_work = campaign(**CONSENSUS, rounds={"max": 2})
    assert "trains two" in " ".join(plan(at_work.workspace, at_work.config).notes)
    assert own_teachers(at_work) == [[]]
    run(at_work)
    assert own_teachers(at_work) == [[], ["tiny-self-0", "tiny-self-0-b"]]


def test_rows_that_are_gone_are_named(campaign: Make) -> None:
    run(campaign(**CONSENSUS, rounds={"max": 1}))
    at_work = campaign(**CONSENSUS, rounds={"max": 2})
    shutil.rmtree(at_work.files(0).labels)
    with pytest.raises(T2TError, match="the second student of round 0 would learn from these rows"):
        run(at_work)


def test_retracting_the_second_student_takes_what_learned_from_it(campaign: Make) -> None:
    at_work = campaign(**CONSENSUS)
    run(at_work)
    retract(at_work.lake, "demo", "tiny-self-0-b")
    assert [record.status for record in at_work.ledger.records()] == ["passed", "retracted"]
    run(at_work)
    assert own_teachers(at_work)[2] == ["tiny-self-0"]


def test_retention_counts_rounds_and_not_students(campaign: Make) -> None:
    settings = {"self_training": {**CONSENSUS["self_training"], "retention": "latest"}}
    at_work = campaign(**settings, rounds={"max": 3, "patience": 9})
    run(at_work)
    assert own_teachers(at_work)[2] == ["tiny-self-1", "tiny-self-1-b"]


def test_two_lines_take_turns_and_go_on_from_their_own(campaign: Make) -> None:
    training = {"steps": 10, "batch_rows": 1024, "evaluate_every": 5, "initialise": "previous"}
    at_work = campaign(
        self_training={"co_teachers": "alternating"}, training=training, rounds={"max": 4, "patience": 9}
    )
    records = run(at_work)
    assert own_teachers(at_work) == [[], ["tiny-self-0"], ["tiny-self-1"], ["tiny-self-0", "tiny-self-2"]]
    assert [record.started_from for record in records] == [None, None, 0, 1]


def test_what_nobody_asks_for_is_written_nowhere(campaign: Make) -> None:
    at_work = campaign(rounds={"max": 1})
    written = json.loads(at_work.config.model_dump_json())
    assert set(written["self_training"]) == {"identity", "top_k", "random", "block", "retention"}
    assert set(written["watch"]) == {"min_agreement", "min_entropy", "max_psi"}
    (record,) = run(at_work)
    assert not {"second_teacher", "stand_in"} & set(record.model_dump())
    asked = at_work.config.model_copy(update={"self_training": parse_settings(co_teachers="consensus")})
    assert json.loads(asked.model_dump_json())["self_training"]["co_teachers"] == "consensus"
    assert parse(CampaignConfig, json.loads(asked.model_dump_json()), "again") == asked


def parse_settings(**settings: Any) -> Any:
    content = {"name": "x", "dataset": "d", "encoder": {"kind": "pixels"}, "self_training": settings}
    return parse(CampaignConfig, content, "x").self_training


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"agree_within": 0.1}, "it needs co_teachers: consensus"),
        ({"agree_within": 0.0, "co_teachers": "consensus"}, "greater than 0"),
        ({"co_teachers": "both"}, "'alternating' or 'consensus'"),
        ({"human_weight": 1.0}, "less than 1"),
        ({"human_weight": "much"}, "self_training.human_weight"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(T2TError, match=said):
        parse_settings(**settings)


@pytest.mark.parametrize("wanted", [0.6, "auto"])
def test_peoples_weight_is_set_for_a_round_and_kept_with_it(campaign: Make, wanted: float | str) -> None:
    at_work = campaign(**AUTO, self_training={"human_weight": wanted})
    first, last = run(at_work)
    assert "human_weight" not in first.watch
    weight = last.watch["human_weight"]
    assert weight == 0.6 if wanted == 0.6 else 0.1 <= weight <= 0.9
    recipe, rows = last.recipe, last.rows_by_teacher
    assert recipe is not None
    assert recipe.human_share is not None
    students = recipe.task_weight["tiny-self-0"] * rows["tiny-self-0"]
    share = (1 - recipe.human_share) * students / (students + rows["vendor"])
    assert recipe.human_share / (recipe.human_share + share) == pytest.approx(weight)
    # The control has people's share as it is where no student has a part.
    control = TrainFacts.read(RoundFiles(at_work.files(1).folder / "control")).recipe
    assert control is not None
    assert first.recipe is not None
    assert control.human_share == pytest.approx(first.recipe.human_share, abs=0.01)
    assert dict(control.task_weight) == {}
    with console.capture() as capture:
        print_rounds(at_work.workspace, "tiny")
    assert f"round 1 {weight:.2f}." in " ".join(capture.get().split())
