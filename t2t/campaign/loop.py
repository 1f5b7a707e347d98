"""The loop: train a student, measure it, gate it, let it teach, publish; and again, until the stopping rule says so.

`t2t run`, the Prefect flow, `t2t.run` in Python and the tests all run this one. Each step leaves one artifact, written
atomically, and looks for it first; the ledger entry in the lake comes last and is the only truth about what is done
(DESIGN, section 6). So a process may die anywhere: the next one goes on at the first missing step.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from t2t.campaign.campaign import Campaign
from t2t.campaign.facts import Settled
from t2t.campaign.observer import Observer
from t2t.campaign.steps.begin import begin
from t2t.campaign.steps.control import control
from t2t.campaign.steps.evaluate import evaluate
from t2t.campaign.steps.prepare import prepare
from t2t.campaign.steps.promote import promote
from t2t.campaign.steps.publish import publish, settle
from t2t.campaign.steps.rows import rows
from t2t.campaign.steps.train import train
from t2t.campaign.steps.tune import tune
from t2t.core.errors import T2TError
from t2t.tuning.needs import tuning_of

Step = Callable[..., Any]


def call(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs a step here and now. Prefect has a `step` of its own, which makes a task of it."""
    return function(*arguments)


def run(campaign: Campaign, observer: Observer, step: Step = call, until: int | None = None) -> Settled | None:
    """Runs a campaign's rounds, from the first that is not in its ledger. One process at a time works on a campaign.

    Args:
        observer: told how it goes on; `Observer()` tells nobody.
        step: runs each step, given its name, a function and its arguments; returns what the function returns.
        until: stop before this round; by the campaign's stopping rule when None.

    Returns: the round that waits for a person (`gate: manual`), or None.

    Raises Busy where another process works on the campaign; T2TError for what a person can mend.
    """
    with campaign.lock:
        try:
            step("prepare", prepare, campaign, observer)
            if tuning_of(campaign.config.encoder) is not None:
                step("tune", tune, campaign, observer)
            while (k := campaign.lineup.next_round()) is not None and (until is None or k < until):
                began = monotonic()
                start = step(f"round {k}: begin", begin, campaign, k, observer)
                matrix = step(f"round {k}: rows", rows, campaign, start)
                trained = step(f"round {k}: train", train, campaign, start, matrix, began, observer)
                scores = step(f"round {k}: evaluate", evaluate, campaign, start)
                step(f"round {k}: control", control, campaign, start, trained)
                settled = step(f"round {k}: gate", settle, campaign, start, trained, scores, observer)
                if settled.waits:
                    observer.finished(campaign, "waiting")
                    return settled
                if settled.teaches:
                    settled = step(f"round {k}: promote", promote, campaign, settled)
                record = step(f"round {k}: publish", publish, campaign, settled, observer)
                if all(done.round != k for done in campaign.ledger.records()):
                    raise T2TError(f"Round {k} was published and is not in the ledger. `t2t lake check` says why.")
                observer.recorded(campaign, record)
        except BaseException:
            with suppress(Exception):  # that error is the one to see; what observers have is mended by the next run
                observer.finished(campaign, "failed")
            raise
        observer.finished(campaign, "ended" if k is None else "pausing")
    return None
