"""Runs a study: every cell with every seed, one campaign after the other, through the same loop as `t2t run`.

What is done is asked of the campaigns' ledgers, so a study may be killed anywhere: the next start goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from statistics import mean

from t2t.campaign.campaign import Campaign
from t2t.campaign.decision import command
from t2t.campaign.engine import Engine
from t2t.campaign.facts import Settled
from t2t.campaign.loop import Step, call, run
from t2t.campaign.observer import open_observers
from t2t.core.errors import T2TError, explain, interrupted, one_line
from t2t.core.progress import clock, within
from t2t.core.workspace import Workspace
from t2t.studies.cells import Job, Study
from t2t.studies.checks import check_study, remember_study, study_lock
from t2t.studies.outcomes import Outcome, standing
from t2t.studies.sharing import Sharing

log = logging.getLogger("t2t")

# Runs one campaign to its end, or until it waits for a person.
RunOne = Callable[[Campaign, Step], Settled | None]


def run_one(campaign: Campaign, step: Step) -> Settled | None:
    """One campaign as `t2t run` runs it, with the observers that the environment asks for."""
    return run(campaign, open_observers(campaign), step)


def run_study(
    study: Study,
    workspace: Workspace,
    pattern: str | None = None,
    run_campaign: RunOne = run_one,
    step: Step = call,
    engine: Engine | None = None,
    opened: Callable[[], object] = lambda: None,
) -> list[Outcome]:
    """Runs what is still to be done of a study. One process at a time works on a study.

    A cell that fails is told and does not keep the others from running; the next start tries it again.

    Args:
        pattern: only cells whose name fits.
        run_campaign: runs one campaign. step: runs one cell with one seed, as the loop's runs a step of a round.
        engine: of all campaigns; that of each one's configuration when None.
        opened: called once the study is this process's.

    Returns: an outcome of each cell with each seed, in the order of `Study.jobs`.

    Raises T2TError, before anything runs, for a study that cannot be; Busy where another process works on it.
    """
    jobs = study.jobs(pattern)
    with study_lock(study, workspace), _said_once():
        check_study(study, workspace, jobs)
        opened()
        before = [standing(workspace, job) for job in jobs]
        left = [outcome for outcome in before if outcome.state != "done"]
        log.info(
            "Study %s: %d cells, %d seeds: %d campaigns, %d of them done.",
            *(study.name, len({job.cell.name for job in jobs}), len(study.seeds), len(jobs), len(jobs) - len(left)),
        )
        timing = _Timing(before)
        ended: dict[str, Outcome] = {}
        sharing = Sharing(workspace)
        for i, outcome in enumerate(left, len(jobs) - len(left) + 1):
            job = outcome.job
            place = f"{i} of {len(jobs)}{timing.left()}"
            log.info("Study %s, %s: %s", study.name, place, job)
            with within(place):
                began = time.monotonic()
                ended[job.campaign] = _run(study, workspace, job, run_campaign, sharing, step, engine)
                timing.add(job, time.monotonic() - began)
        return [ended.get(outcome.job.campaign, outcome) for outcome in before]


class Incomplete(T2TError):
    """Some of a study's campaigns failed; the others are done."""


def refuse_failures(study: Study, outcomes: Sequence[Outcome]) -> None:
    """Raises Incomplete, naming what failed and how to go on, where anything did."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        head = f"Study {study.name}: of {len(outcomes)} campaigns {len(failed)} failed, the others went on."
        lines = [f"{outcome.job}: {outcome.reason}" for outcome in failed]
        raise Incomplete("\n  ".join([head, *lines]) + "\nWhat is done stays; the same command tries these again.")


def _run(
    study: Study,
    workspace: Workspace,
    job: Job,
    run_campaign: RunOne,
    sharing: Sharing,
    step: Step,
    engine: Engine | None,
) -> Outcome:
    campaign = Campaign(job.config, workspace, engine)
    try:
        remember_study(workspace, study, job)
        settled = step(str(job), run_campaign, campaign, sharing)
        records = tuple(campaign.ledger.records())
    except Exception as error:
        if interrupted(error):
            raise
        told = error if isinstance(error, T2TError) else explain(error)
        reason = str(told) if told is not None else f"{type(error).__name__}: {one_line(error)}"
        log.error("Study %s, %s failed: %s", study.name, job, reason)
        log.debug("How it came to that:", exc_info=error)
        with suppress(Exception):  # where it is the lake that failed
            return Outcome(job, "failed", reason, tuple(campaign.ledger.records()))
        return Outcome(job, "failed", reason)
    if settled is not None:
        reason = f"round {settled.record.round} waits: {command(settled.record)}"
        log.warning("Study %s, %s: %s", study.name, job, reason)
        return Outcome(job, "waiting", reason, records)
    return Outcome(job, "done", "", records)


@contextmanager
def _said_once() -> Iterator[None]:
    """What is to be known of a dataset or a teacher is said by the first campaign, and not by each."""
    said: set[str] = set()

    def news(line: logging.LogRecord) -> bool:
        message = line.getMessage()
        known = line.levelno == logging.WARNING and not message.startswith("Round") and message in said
        said.add(message)
        return not known

    log.addFilter(news)
    try:
        yield
    finally:
        log.removeFilter(news)


class _Timing:
    """How long the rest takes, by what took how long: a cell with more rounds takes longer than its neighbour."""

    def __init__(self, before: Sequence[Outcome]):
        self.took: dict[str, list[float]] = {}
        self.left_over = [outcome.job for outcome in before if outcome.state != "done"]
        for outcome in before:
            if outcome.state == "done":
                self.took.setdefault(outcome.job.cell.slug, []).append(outcome.seconds)

    def add(self, job: Job, seconds: float) -> None:
        self.took.setdefault(job.cell.slug, []).append(seconds)
        self.left_over.remove(job)

    def left(self) -> str:
        if not self.took:
            return ""
        by_cell = {slug: mean(seconds) for slug, seconds in self.took.items()}
        usual = mean(by_cell.values())
        return f", about {clock(sum(by_cell.get(job.cell.slug, usual) for job in self.left_over))} left"
