"""A study runs as campaigns do, each once; what they have in common is done once, and nothing comes out otherwise."""

from __future__ import annotations

import json
import logging
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import t2t
from t2t.campaign.campaign import Campaign
from t2t.campaign.engine import LocalEngine
from t2t.campaign.facts import Settled
from t2t.campaign.loop import Step, run
from t2t.campaign.observer import Observer
from t2t.commands.campaigns import campaigns_json
from t2t.core.errors import T2TError
from t2t.core.locks import Busy
from t2t.core.sums import damaged
from t2t.core.workspace import Workspace
from t2t.studies.cells import Study, read_study
from t2t.studies.checks import check_study, study_lock, study_of
from t2t.studies.config import StudyRun
from t2t.studies.running import Incomplete, Outcome, _Timing, refuse_failures, run_study
from tests.helpers.study_world import STUDY, alone, ledgers, without, write_study

MEASURED = ("test.parquet", "validation.parquet", "test_topics.csv", "decisions.json")


@pytest.fixture
def write(world: Path, tmp_path: Path) -> Callable[..., tuple[Workspace, Study]]:
    """Writes a study into the tiny world's registry; its work folder is the test's own."""

    return partial(write_study, world, tmp_path)


def test_equal_first_rounds_are_trained_once_and_nothing_comes_out_otherwise(
    write: Callable[..., tuple[Workspace, Study]], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    # With scales, yardsticks, decisions and controls.
    workspace, study = write({**STUDY, "seeds": [3], "set": {**STUDY["set"], "recipe": "auto"}})
    caplog.set_level(logging.INFO, "t2t")
    outcomes = run_study(study, workspace, run_campaign=alone, engine=LocalEngine("cpu"))
    assert [outcome.state for outcome in outcomes] == ["done"] * 2
    said = [record.getMessage() for record in caplog.records]
    taken = "Round 0: trained on the same as that of pair-few-s3, whose student it takes over."
    assert said.count(taken) == said.count("Round 0: measured as that of pair-few-s3.") == 1
    assert any(line.startswith("[1 of 2] Round 0: training: 10/10 steps") for line in said)
    assert sum("Embedding: 56/56 videos" in line for line in said) == 1
    assert sum(line.startswith("Dataset demo: Topics without a positive human label:") for line in said) == 1
    states = {row["campaign"]: row["state"] for row in campaigns_json(workspace)}
    assert states["pair-more-s3"] == "all 2 rounds are done, of the study pair"
    # Each campaign by itself, in another work folder.
    apart = Workspace(workspace.registry, workspace.data, tmp_path / "apart")
    for job in study.jobs():
        run(Campaign(job.config, apart, LocalEngine("cpu")), Observer())
    assert ledgers(workspace, study) == ledgers(apart, study)
    for job in study.jobs():
        ours, theirs = (place.work / "campaigns" / job.campaign / "round-000" for place in (workspace, apart))
        for name in ("student/model.safetensors", *(f"evaluation/{name}" for name in MEASURED)):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
        for name in ("student/config.json", "evaluation/metrics.json", "evaluation/yardsticks.json"):
            contents = [json.loads((place / name).read_text()) for place in (ours, theirs)]
            assert without(contents[0]) == without(contents[1]), name
        assert damaged(ours / "student") is damaged(ours / "evaluation") is None
    # Labels came into the lake once, and frames were embedded once.
    campaign = Campaign(study.jobs()[0].config, workspace)
    keys = [commit.key for commit in campaign.lake.log("main")]
    for teacher in ("human", "colour-expert", "shape-expert", "vendor"):
        assert sum(key.startswith(f"teacher:demo:{teacher}:") for key in keys) == 1
    assert study_of(workspace, "pair-more-s3") == "pair"


def test_what_is_done_is_not_done_again(
    write: Callable[..., tuple[Workspace, Study]], caplog: pytest.LogCaptureFixture
) -> None:
    workspace, study = write({**STUDY, "seeds": 1, "set": {**STUDY["set"], "rounds.max": 1}})
    ran: list[str] = []

    def counted(campaign: Campaign, step: Step) -> Settled | None:
        ran.append(campaign.config.name)
        return alone(campaign, step)

    run_study(study, workspace, "few", counted)
    run_study(study, workspace, run_campaign=counted)
    run_study(study, workspace, run_campaign=counted)
    assert ran == ["pair-few-s0", "pair-more-s0"]
    again = t2t.run_study("pair", workspace=workspace, seeds=[0], cells="m*", observer=Observer())
    assert [(outcome.job.campaign, outcome.state, len(outcome.records)) for outcome in again] == [
        ("pair-more-s0", "done", 1)
    ]
    for other, words in (("pair-few-s0", "a part of the study 'pair'"), ("tiny-seed-1", "a seed of 'tiny'")):
        with pytest.raises(T2TError, match=words):
            t2t.run(other, workspace=workspace, observer=Observer())
    with pytest.raises(T2TError, match="study 'pair': key 'seeds'"):
        t2t.run_study("pair", workspace=workspace, seeds=-1, observer=Observer())
    with study_lock(study, workspace), pytest.raises(T2TError, match="'pair-few-s0' has begun with another config"):
        check_study(read_study(workspace, StudyRun(study="pair", settings=("training.steps=11",))), workspace)


def test_a_cell_that_fails_is_told_and_the_others_run(write: Callable[..., tuple[Workspace, Study]]) -> None:
    workspace, study = write({**STUDY, "seeds": 1, "set": {**STUDY["set"], "rounds.max": 1}})

    def ill(campaign: Campaign, step: Step) -> Settled | None:
        if campaign.config.name == "pair-few-s0":
            raise T2TError("The teacher went home.")
        return alone(campaign, step)

    outcomes = run_study(study, workspace, run_campaign=ill)
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    with pytest.raises(Incomplete, match=r"of 2 campaigns 1 failed[^\n]+\n  few, seed 0: The teacher went home\."):
        refuse_failures(study, outcomes)
    refuse_failures(study, run_study(study, workspace, run_campaign=alone))


def test_two_processes_do_not_work_on_one_study(write: Callable[..., tuple[Workspace, Study]]) -> None:
    workspace, study = write(STUDY)
    with study_lock(study, workspace):
        process = multiprocessing.get_context("fork").Process(target=_busy, args=(study, workspace))
        process.start()
        process.join(20)
    assert process.exitcode == 7


def _busy(study: Study, workspace: Workspace) -> None:
    try:
        run_study(study, workspace, run_campaign=alone)
    except Busy as busy:
        raise SystemExit(7 if "Study 'pair' is being run by process" in str(busy) else 1) from None


def test_campaigns_of_the_registry_and_of_other_studies_are_left_alone(
    write: Callable[..., tuple[Workspace, Study]],
) -> None:
    workspace, study = write({**STUDY, "seeds": 1, "set": {**STUDY["set"], "rounds.max": 1}})
    run_study(study, workspace, "few", alone)
    _, other = write({**STUDY, "cells": [{"name": "s0"}], "seeds": [0]}, name="pair-few")
    assert other.jobs()[0].campaign == "pair-few-s0-s0"
    moved = workspace.work / "campaigns" / "pair-few-s0"
    moved.rename(moved.with_name("pair-few-s0-s0"))
    with pytest.raises(T2TError, match="'pair-few-s0-s0' is a campaign of the study 'pair'"):
        check_study(other, workspace)


def test_what_is_left_is_told_by_how_long_the_same_cell_took(half: tuple[Workspace, Study]) -> None:
    jobs = list(half[1].jobs())  # two cells with the first seed, then with the second
    timing = _Timing([Outcome(job, "open") for job in jobs])
    assert timing.left() == ""
    timing.add(jobs[0], 10)
    assert timing.left() == ", about 0:30 left"
    timing.add(jobs[1], 100)
    assert timing.left() == ", about 1:50 left"
    timing.add(jobs[2], 12)
    assert timing.left() == ", about 1:40 left"


def test_every_cell_is_checked_and_data_are_read_once(
    write: Callable[..., tuple[Workspace, Study]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of the same teachers differ in what a run would be refused for, too."""
    cells = [{"name": "students"}, {"name": "three", "set": {"method": "flyingsquid", "rounds.max": 1}}]
    workspace, study = write({**STUDY, "cells": cells, "set": {"teachers": ["vendor", "colour-expert"]}})
    with pytest.raises(T2TError, match=r"cell 'three': method: 'flyingsquid' needs 3 outside teachers"):
        check_study(study, workspace)
    unfit = {"name": "unfit", "set": {"student": {"text": {"pretrained": "/no/such/encoder"}}}}
    workspace, study = write({**STUDY, "cells": [{"name": "students"}, unfit]})
    with pytest.raises(T2TError, match=r"cell 'unfit': .*/no/such/encoder"):
        check_study(study, workspace)
    workspace, study = write({**STUDY, "set": {"rounds.max": 1, "training.steps": 5}, "seeds": 1})
    run_study(study, workspace, run_campaign=alone)
    read = []
    monkeypatch.setattr("t2t.studies.checks.check_data", lambda *arguments: read.append(arguments))
    check_study(read_study(workspace, StudyRun(study="pair", seeds=3)), workspace)
    assert [begun for *_, begun in read] == [True, False]


def test_an_evaluation_is_taken_over_only_where_as_much_is_measured(
    write: Callable[..., tuple[Workspace, Study]],
) -> None:
    cells = [{"name": "unwatched", "set": {"watch.hacking": None}}, {"name": "watched"}]
    settings = {"training.steps": 10, "training.evaluate_every": 5, "rounds.max": 1, "recipe": "auto"}
    workspace, study = write({**STUDY, "cells": cells, "set": settings, "seeds": 1})
    outcomes = run_study(study, workspace, run_campaign=alone)
    losses = [
        [name for name in outcome.records[0].validation if name.startswith("teacher_loss/")] for outcome in outcomes
    ]
    assert losses[0] == []
    assert losses[1]


@pytest.mark.parametrize("words", [("study", "kinds", "--dry-run"), ("study",)])
def test_how_far_campaigns_came_is_said_without_torch(half: tuple[Workspace, Study], words: tuple[str, ...]) -> None:
    place = half[0]
    code = "import sys\nfrom t2t.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n"
    code += "    print(end.code, sorted({'torch', 'sklearn', 'matplotlib', 'prefect'} & set(sys.modules)))"
    folders = ["--registry", str(place.registry), "--data-root", str(place.data), "--work", str(place.work)]
    done = subprocess.run([sys.executable, "-c", code, *folders, *words], capture_output=True, text=True, check=True)
    assert "kinds" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"
