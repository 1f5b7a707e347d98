"""`t2t distill` at the command line: what there is, what would be done, what is refused, what a retraction reaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign import encoders
from t2t.campaign.best import Best
from t2t.commands.distillations import (
    distillations_json,
    facts_of,
    plan_json,
    print_distillations,
    print_made,
    print_report,
    retract_encoder,
)
from t2t.commands.lineage import lineage
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.distillation.entries import read_distillation, remember
from t2t.distillation.evaluation.table import EvaluationTable, Row, TaskFacts
from t2t.distillation.record import Evaluated, Notes, Published
from t2t.evaluation.interval import Interval
from t2t.lake import open_lake
from tests.helpers.campaigns import run, tiny_at
from tests.helpers.cli import invoke
from tests.helpers.distillations import distillation_in
from tests.helpers.encoders import leave_encoder


def places(workspace: Workspace) -> list[str]:
    return [
        *("--registry", str(workspace.registry), "--data-root", str(workspace.data), "--work", str(workspace.work)),
    ]


def table() -> EvaluationTable:
    facts = TaskFacts(dataset="demo", metric="mAP", topics=3, fit=24, test=16, groups=4)
    rows = [
        Row(encoder=name, role=role, dim=8, dataset="demo", measure=measure, value=Interval(value, value - 0.1, 0.9))
        for name, role, value in (("small", "student", 0.5), ("tokens", "teacher", 0.4))
        for measure in ("k-NN 3", "probe")
    ]
    less = Interval(0.1, 0.0, 0.2)
    rows = [row if row.role == "student" else row.model_copy(update={"student_less": less}) for row in rows]
    return EvaluationTable(student="small", rows=tuple(rows), tasks=(facts,), seconds=1.0)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    plan = plan_json(workspace, read_distillation(workspace, "small"))
    assert (plan["state"], plan["samples"], plan["frames"], plan["steps"]) == ("open", 40, 80, 6)
    said = invoke(*places(workspace), "distill", "small", "--dry-run", "--set", "training.steps=9")
    assert said.exit_code == 0, said.output
    assert "80 at most, of 40 samples" in said.output
    assert "9 steps of 8 frames" in said.output
    assert not workspace.work.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["smal"], "no such distillation. Did you mean 'small'?"),
        (["small", "--set", "training.step=3"], "unknown key 'training.step'. Did you mean 'steps'?"),
        (["small", "--name", "a/b"], "key 'name'"),
        (["report", "smal"], "There is no distillation 'smal'. Did you mean 'small'?"),
        (["report", "small"], "has not been measured yet: t2t distill small"),
        (["retract", "small"], "No lake here has an encoder 'small'."),
    ],
)
def test_what_is_wrong_is_one_line(world: Path, tmp_path: Path, words: list[str], message: str) -> None:
    workspace = distillation_in(world, tmp_path)
    failed = invoke(*places(workspace), "distill", *words)
    assert isinstance(failed.exception, T2TError)
    assert message in str(failed.exception)
    assert "\n" not in str(failed.exception)


def test_the_list_has_lineage_and_what_is_retracted(world: Path, tmp_path: Path, capsys: Any) -> None:
    workspace = distillation_in(world, tmp_path)
    (row,) = distillations_json(workspace)
    assert (row["distillation"], row["state"], row["encoder"]) == ("small", "open", None)
    assert [one["name"] for one in row["teachers"]] == ["tokens", "maps"]
    lake = open_lake("git", workspace.work)
    card = leave_encoder(workspace.work, "other")
    encoders.register(lake, card)
    remember(workspace, read_distillation(workspace, "small"))
    encoders.retract(lake, "other", "left", "its licence")
    other, small = distillations_json(workspace)
    assert small["state"] == "begun"
    assert other["encoder"]["fingerprint"] == card.fingerprint
    assert [one["fingerprint"] for one in other["teachers"]] == ["1" * 64, "2" * 64]
    assert other["retracted"] == "whose teacher left was retracted (its licence)"
    print_distillations(workspace)
    said = " ".join(capsys.readouterr().out.split())
    assert "RETRACTED: whose" in said
    assert "left (11111111)" in said
    assert json.loads(invoke(*places(workspace), "distill", "--json").stdout) == [other, small]


def test_the_report_is_a_page_with_files_beside_it(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    notes = Notes(workspace.work / "distillations" / "small")
    notes.folder.mkdir(parents=True)
    notes.write(Evaluated(table=table(), seconds=1.0))
    said = invoke(*places(workspace), "distill", "report", "small")
    assert said.exit_code == 0, said.output
    folder = notes.folder / "report"
    assert {"small.html", "small.md", "small.csv", "small.json"} <= {path.name for path in folder.iterdir()}
    assert "tokens" in said.output
    notes.write(Evaluated(table=None, seconds=1.0))
    assert "names nothing to measure on" in str(invoke(*places(workspace), "distill", "report", "small").exception)


def test_a_retraction_says_what_it_reaches_and_comes_back(world: Path, tmp_path: Path, capsys: Any) -> None:
    workspace = Workspace.find(world / "registry", world / "data", tmp_path / "work")
    encoders.register(open_lake("git", workspace.work), leave_encoder(workspace.work))
    through = {"encoder": {"kind": "distilled", "name": "small", "frames": 2}, "rounds": {"max": 1}}
    run(tiny_at(workspace, **through))

    def said(*arguments: Any) -> str:
        retract_encoder(workspace, *arguments)
        return " ".join(capsys.readouterr().out.split())

    first = said("small", "left", "its licence", False)
    for part in (
        "Teacher left of the encoder small is retracted",
        "encoder small is out: whose teacher left was retracted (its licence)",
        "campaign tiny looks through the encoder small, whose teacher left was retracted",
        "its 1 round count as retracted, and it does not go on",
        "champion: round 0 to none",
        "t2t run tiny --name OTHER --set encoder.name=NEW",
        "Nothing was deleted. Take it back: t2t distill retract small left --undo",
    ):
        assert part in first
    assert "is retracted, as before" in said("small", "left", "", False)
    for asked in (lambda: Best.of(workspace, "tiny"), lambda: lineage(workspace, "tiny")):
        with pytest.raises(T2TError, match=r"'tiny' has no champion: it looks through .*, whose teacher left was retr"):
            asked()
    back = said("small", "left", "", True)
    assert "Teacher left of the encoder small counts again" in back
    assert "campaign tiny counts again, and can go on" in back
    assert "champion: none to round 0" in back
    with pytest.raises(T2TError, match=r"No lake here has an encoder 'smal'\. Did you mean 'small'\?"):
        retract_encoder(workspace, "smal", None, "", False)


def test_the_list_of_teachers_says_which_encoders_are_out_and_whom_that_reaches(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    lake = open_lake("git", workspace.work)
    encoders.register(lake, leave_encoder(workspace.work))
    run(tiny_at(workspace, rounds={"max": 1}, encoder={"kind": "distilled", "name": "small", "frames": 2}))
    assert " is out" not in invoke(*places(workspace), "teachers").output
    encoders.retract(lake, "small", "left", "a licence")
    said = invoke(*places(workspace), "teachers").output
    assert "The frame encoder small is out, whose teacher left was retracted (a licence)." in said
    assert "Campaign tiny looks through the encoder small, whose teacher left was retracted (a licence)" in said


def test_an_encoder_that_is_out_is_not_offered_to_campaigns(world: Path, tmp_path: Path, capsys: Any) -> None:
    workspace = distillation_in(world, tmp_path)
    card, notes = leave_encoder(workspace.work), Notes(workspace.work / "distillations" / "small")
    lake = open_lake("git", workspace.work)
    commit = encoders.register(lake, card)
    notes.folder.mkdir(parents=True)
    notes.write(Published(card=card, fingerprint=card.fingerprint, commit=commit))

    def said() -> str:
        print_made(workspace, "small")
        return " ".join(capsys.readouterr().out.split())

    assert "In a campaign: encoder: {kind: distilled, name: small}" in said()
    assert "retracted" not in facts_of(workspace, "small")
    encoders.retract(lake, "small", "left")
    out = said()
    assert "RETRACTED: whose teacher left was retracted, so no campaign can look through it" in out
    assert "In a campaign" not in out
    assert facts_of(workspace, "small")["retracted"] == "whose teacher left was retracted"
    print_report(table(), tmp_path / "small.html", facts_of(workspace, "small")["retracted"])
    assert "RETRACTED: whose teacher left was retracted" in " ".join(capsys.readouterr().out.split())
    tree = invoke(*places(workspace), "lineage", "small").output
    assert "RETRACTED: whose teacher left was retracted" in " ".join(tree.split())
