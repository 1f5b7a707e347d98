"""The composition root, which puts run history, report and flow around the loop: `t2t run`, and Python's `t2t.run`.

The module can be called, since a package and its function of one name would hide each other: `t2t.run("demo")` is
`t2t.run.run("demo")`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.decision import command, question
from t2t.campaign.facts import Settled
from t2t.campaign.loop import Step
from t2t.campaign.loop import run as run_loop
from t2t.campaign.observer import Observer, open_observers
from t2t.campaign.record import Record
from t2t.campaign.seeds import seeded, tell_seed
from t2t.campaign.steps.prepare import outside_teachers
from t2t.commands.page import write_report
from t2t.commands.page.study import StudyReport, write_study_report
from t2t.commands.tables import console
from t2t.core.config import parse
from t2t.core.errors import expect
from t2t.core.host import check_environment, observer_names
from t2t.core.workspace import Workspace
from t2t.data.soundness import refuse_unsound
from t2t.distillation.entries import DistillationRun, check_distillation, read_distillation
from t2t.distillation.watcher import Watcher
from t2t.integrations.door import login_of
from t2t.integrations.finished import inputs, note_finished, print_closing
from t2t.integrations.mlflow.page import log_page
from t2t.integrations.mlflow.store import load_mlflow
from t2t.integrations.mlflow.study import log_study
from t2t.integrations.services import prefect_server
from t2t.studies.cells import read_study
from t2t.studies.checks import refuse_part, study_lock
from t2t.studies.config import StudyRun
from t2t.studies.outcomes import Outcome, standing
from t2t.studies.running import Incomplete
from t2t.studies.running import run_study as run_cells

if TYPE_CHECKING:
    from t2t.distillation.config import DistillationConfig
    from t2t.distillation.running import DistilledResult


def run(
    campaign: str | Campaign,
    *,
    workspace: Workspace | None = None,
    name: str | None = None,
    settings: Sequence[str] = (),
    observer: Observer | None = None,
) -> list[Record]:
    """Runs a campaign's rounds in this process, without Prefect; one that was interrupted goes on where it stopped.

    Args:
        campaign: of the registry by name, or opened before (the next three arguments are then not looked at).
        workspace: folders `registry`, `data` and `work`; found as the command line does when None.
        name: run it under another name. settings: changes, as `training.steps=500`.
        observer: told how it goes on; those of T2T_OBSERVERS when None (MLflow), `Observer()` tells nobody.

    Where the campaign has several seeds, each further one is run after it as a campaign of its own.

    Returns: the campaign's records, oldest first. Under `gate: manual` a round may wait for a person after them: a line
        says so, and what to type.

    Raises T2TError for what a person can mend, Busy where another process works on the campaign.
    """
    if observer is not None:
        expect(observer, Observer, "observer is a t2t.campaign.observer.Observer; Observer() tells nobody")
    if isinstance(campaign, str):
        refuse_part(Workspace.or_found(workspace), campaign)
    opened = campaign if isinstance(campaign, Campaign) else Campaign.open(campaign, workspace, name, settings)
    check_environment(opened.workspace.work, _history() if observer is None else [])
    with opened.lock:
        for one in _with_seeds(opened):
            tell_seed(opened.config, one.config)
            settled = run_loop(one, open_observers(one) if observer is None else observer)
            if settled is not None:
                asked = f"{question(settled.record, settled.best)} Answer with: {command(settled.record)}"
                console.print(asked, markup=False)
    return opened.ledger.records()


def _with_seeds(opened: Campaign) -> list[Campaign]:
    """A campaign, and one for each of its further seeds (`seeds: 3`)."""
    further = seeded(opened.config)[1:]
    return [opened, *(Campaign(config, opened.workspace, opened.engine) for config in further)]


def run_campaign(workspace: Workspace, config: CampaignConfig) -> None:
    """What `t2t run` does around the flow: a Prefect server where there is none, the flow, the closing table.

    Data and teachers are checked before a server starts.
    """
    opened = Campaign(config, workspace)
    refuse_unsound(opened.dataset)  # reading it checks it, before the lake is made
    check_environment(workspace.work, ["PREFECT_API_URL", *_history()])
    begun = inputs(workspace, config, opened.dataset, opened.lake)
    teachers = outside_teachers(opened)
    for teacher in teachers if not opened.ledger.records() else ():
        # One without a key, a budget or its package says so here, and not after Prefect's server is up.
        teacher.entry.ready()
    open_observers(opened)  # an unknown one, or none of a plug-in's; the flow opens its own
    # The flow holds the lock; here it is only asked for, so that a second run is refused before a server starts.
    with opened.lock:
        pass
    seeds = _with_seeds(opened)
    if all(one.lineup.next_round() is None for one in seeds) and not os.environ.get("PREFECT_API_URL"):
        # Nothing is left to schedule: what may have come meanwhile (videos, a retraction) needs no server of its own.
        for one in seeds:
            run_loop(one, open_observers(one))
    else:
        _run_flow(opened, workspace)
    note_finished(workspace, config, opened.dataset, opened.lake, begun)
    print_closing(workspace, opened.ledger)


def _run_flow(opened: Campaign, workspace: Workspace) -> None:
    """The campaign's flow in Prefect."""
    with _prefect(workspace):
        # Prefect reads its settings at its import.
        from t2t.flows.self_training import self_training

        self_training(opened.config, workspace=workspace)


@contextmanager
def _prefect(workspace: Workspace) -> Iterator[None]:
    """The Prefect server of the environment for the block, else one for as long as it lasts."""
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # Prefect's own lines go to its server, where its UI shows them; the terminal has the engine's, and errors once.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    home, login = workspace.work / "prefect", login_of(workspace.work)
    server = None if os.environ.get("PREFECT_API_URL") else prefect_server(home, meanwhile=_load, login=login)
    with server or nullcontext():
        from t2t.integrations.prefect.steps import make_limit

        if server:
            make_limit()
        yield


def run_study(
    study: str,
    *,
    workspace: Workspace | None = None,
    name: str | None = None,
    settings: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    cells: str | None = None,
    observer: Observer | None = None,
) -> list[Outcome]:
    """Runs what is still to be done of a study in this process, without Prefect.

    Args:
        study: of the registry by name.
        workspace, name, settings: as for `run`; the settings are all cells'.
        seeds: instead of the file's: so many, or which. cells: only those whose name fits, as `dual*`.
        observer: told how its campaigns go on; those of T2T_OBSERVERS when None (MLflow), `Observer()` tells nobody.

    Returns: an outcome of each cell with each seed: how far it came, and its records. One that failed says why, and
        kept no other from running.

    Raises T2TError for what a person can mend, Busy where another process works on the study.
    """
    if observer is not None:
        expect(observer, Observer, "observer is a t2t.campaign.observer.Observer; Observer() tells nobody")
    place = Workspace.or_found(workspace)
    wanted = {"study": study, "name": name, "settings": settings, "seeds": seeds, "cells": cells}
    order = parse(StudyRun, wanted, f"study {study!r}")
    check_environment(place.work, _history() if observer is None else [])

    def one(campaign: Campaign, step: Step) -> Settled | None:
        return run_loop(campaign, open_observers(campaign) if observer is None else observer, step)

    return run_cells(read_study(place, order), place, cells, one)


def run_study_flow(workspace: Workspace, order: StudyRun) -> Incomplete | None:
    """What `t2t study` does around the flow: a Prefect server where there is none, and where anything is to be run.

    Returns: what failed, to be said at the end.
    """
    study = read_study(workspace, order)
    check_environment(workspace.work, ["PREFECT_API_URL", *_history()])
    jobs = study.jobs(order.cells)
    open_observers(Campaign(jobs[0].config, workspace))
    with study_lock(study, workspace):
        pass
    if all(standing(workspace, job).state == "done" for job in jobs):
        return None
    try:
        with _prefect(workspace):
            from t2t.flows.study import study as flow

            flow(order, workspace=workspace)
    except Incomplete as error:
        return error
    return None


def run_distillation(
    distillation: str,
    *,
    workspace: Workspace | None = None,
    name: str | None = None,
    settings: Sequence[str] = (),
    watcher: Watcher | None = None,
) -> DistilledResult:
    """Runs what is still to be done of a distillation in this process, without Prefect.

    Args:
        distillation: of the registry by name.
        workspace, name, settings: as for `run`.
        watcher: told how it goes on; MLflow where T2T_OBSERVERS says so when None, `Watcher()` tells nobody.

    Returns: the encoder's folder, its card, and what it is worth beside its teachers.

    Raises T2TError for what a person can mend, Busy where another process works on it.
    """
    if watcher is not None:
        expect(watcher, Watcher, "watcher is a t2t.distillation.watcher.Watcher; Watcher() tells nobody")
    place = Workspace.or_found(workspace)
    wanted = {"distillation": distillation, "name": name, "settings": settings}
    order = parse(DistillationRun, wanted, f"distillation {distillation!r}")
    config = read_distillation(place, order)
    check_distillation(place, config)
    check_environment(place.work, _history() if watcher is None else [])
    # timm, which takes seconds and no other run needs.
    from t2t.distillation.distillation import Distillation
    from t2t.distillation.running import run as distill
    from t2t.integrations.mlflow.distillation import open_watcher

    return distill(Distillation(config, place), open_watcher() if watcher is None else watcher)


def run_distillation_flow(workspace: Workspace, order: DistillationRun) -> None:
    """What `t2t distill` does around the flow: a Prefect server where there is none, and where anything is to be
    done."""
    config = read_distillation(workspace, order)
    check_environment(workspace.work, ["PREFECT_API_URL", *_history()])
    if _is_distilled(config, workspace):
        return
    with _prefect(workspace):
        from t2t.flows.distill import distill as flow

        flow(order, workspace=workspace)


def _is_distilled(config: DistillationConfig, workspace: Workspace) -> bool:
    """Whether nothing of a distillation is left to do. What it would be refused for is said before a server starts; the
    models that are opened for it are let go, and the flow opens its own."""
    from t2t.distillation.distillation import Distillation
    from t2t.distillation.running import check, is_done

    distillation = Distillation(config, workspace)
    with distillation.lock:
        if not (done := is_done(distillation)):
            check(distillation)
    return done


def report_campaign(workspace: Workspace, campaign: str, leave_one_out: bool, out: Path | None) -> Path:
    """Writes a campaign's report and logs it to MLflow where the campaign has a run; returns the page's path."""
    path = write_report(workspace, campaign, leave_one_out, out)
    log_page(workspace, campaign, path)
    return path


def report_study(workspace: Workspace, order: StudyRun, out: Path | None = None) -> StudyReport:
    """Writes what a study came to so far, and tells MLflow where that watches here.

    Raises T2TError where no round of it is finished.
    """
    study = read_study(workspace, order)
    report = write_study_report(workspace, study, out, order.words)
    log_study(workspace, study, report)
    return report


def _history() -> list[str]:
    """The variables whose servers the observers of the environment need."""
    return ["MLFLOW_TRACKING_URI"] if "mlflow" in observer_names() else []


def _load() -> None:
    """Imports what the flow needs while its server starts; Prefect reads its settings at its import."""
    import t2t.flows.self_training  # noqa: F401

    load_mlflow()


class _Callable(ModuleType):
    @wraps(run)
    def __call__(self, *arguments: Any, **keywords: Any) -> list[Record]:
        return run(*arguments, **keywords)


# What editors and notebooks show of it.
__signature__ = signature(run)
sys.modules[__name__].__class__ = _Callable
