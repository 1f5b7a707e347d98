"""The end of a round: the gate's verdict and the round's branch, then merge, tag, observers, and the ledger last."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq

from t2t.campaign.campaign import Campaign
from t2t.campaign.decision import ask, read_decision
from t2t.campaign.facts import RoundFiles, RoundScores, RoundStart, Settled, TrainFacts, read_control, read_verdict
from t2t.campaign.observer import Observer
from t2t.campaign.record import Record, champion, stop_reason
from t2t.campaign.steps.evaluate import LOSS
from t2t.core.config import parse
from t2t.core.files import sha256, sha256_file, write_noted
from t2t.data.scales import read_scales
from t2t.evaluation.collapse import hacking_lines
from t2t.evaluation.decisions import Decisions
from t2t.evaluation.gate import Verdict, difference, judge
from t2t.evaluation.watch import late_training, proxy_and_people, self_share

log = logging.getLogger("t2t")


def settle(
    campaign: Campaign, start: RoundStart, trained: TrainFacts, scores: RoundScores, observer: Observer
) -> Settled:
    """Gates a round, and commits what it left to its branch. One that waits for a person is told and asked about."""
    began, k = time.monotonic(), start.round
    records = campaign.ledger.records()
    best = champion(records)
    _warn_of_other_yardstick(campaign, best)
    verdict = _verdict(campaign, k, best)
    weights = sha256_file(campaign.files(k).weights)
    commit = _commit(campaign, k, trained, scores, verdict, weights)
    record = _record(campaign, start, trained, scores, verdict, weights, commit, observer)
    if verdict.passed is not None:
        rounds = campaign.config.rounds
        record = record.model_copy(update={"stop": stop_reason([*records, record], rounds.max, rounds.patience)})
    record = record.model_copy(update={"seconds": trained.seconds + scores.seconds + time.monotonic() - began})
    if campaign.config.watch.hacking is not None and campaign.config.recipe == "auto":
        record = record.model_copy(update={"watch": record.watch | _hacking(campaign, k, trained, scores, best)})
    for line in hacking_lines(record.watch):
        log.warning("Round %d: %s", k, line)
    if verdict.passed is None:
        observer.round_settled(campaign, record, records)
        ask(campaign.lake, campaign.layout, record)
    return Settled(record=record, best=best)


def _hacking(
    campaign: Campaign, k: int, trained: TrainFacts, scores: RoundScores, best: Record | None
) -> dict[str, float]:
    """What the watch says of the student's loss on its teachers' tasks beside PR-AUC on people's validation pairs."""
    drop, now = campaign.config.watch.hacking or 0.0, scores.validation
    losses, before = (
        {name.removeprefix(LOSS): value for name, value in metrics.items() if name.startswith(LOSS)}
        for metrics in (now, best.validation if best else {})
    )
    people = None
    if best is not None and losses.keys() & before.keys():
        table = pq.read_table(campaign.files(k).pairs("validation"))
        candidate = campaign.pairs_of(table, "validation")
        people = difference(candidate, campaign.scored_pairs(best, "validation"), campaign.config.evaluation.resamples)
    found = proxy_and_people(losses, before, people, drop)
    if "pr_auc_low" in now:
        found |= late_training(trained.curve, trained.best_step, now["pr_auc"] - now["pr_auc_low"], drop)
    return found


def publish(campaign: Campaign, settled: Settled, observer: Observer) -> Record:
    """Merges and tags a round that passed; tells the observer; writes the ledger entry, last."""
    began, record, layout = time.monotonic(), settled.record, campaign.layout
    k = record.round
    if record.status == "passed":
        facts = {"campaign": record.campaign, "round": str(k), "status": record.status}
        message = f"Merge round {k} of {record.campaign}"
        commit = campaign.lake.merge(record.branch, "main", layout.merge_key(k), message, facts)
        campaign.lake.tag(layout.tag(k), commit)
        record = record.model_copy(update={"commit": commit})
    record = record.model_copy(update={"seconds": record.seconds + time.monotonic() - began})
    observer.round_settled(campaign, record, campaign.ledger.records()[:k])
    campaign.ledger.append(record)
    return record


def _commit(
    campaign: Campaign, k: int, trained: TrainFacts, scores: RoundScores, verdict: Verdict, weights: str
) -> str:
    files, layout, name = campaign.files(k), campaign.layout, campaign.config.name
    status = {"campaign": name, "round": str(k), "status": verdict.status}
    message = f"Round {k} of {name}: {verdict.status}, {verdict.reason}"
    facts = {"pr_auc": f"{scores.test['pr_auc']:.6f}", "rows": str(trained.rows), "weights": weights}
    commit = campaign.lake.commit(
        layout.branch(k),
        {layout.file(k, file.name): file for file in files.kept()},
        key=layout.round_key(k),
        message=message,
        metadata=status | facts,
    )
    if campaign.config.gate == "manual" and verdict.passed is not None:
        # The commit above was made while the round waited.
        commit = campaign.lake.commit(
            layout.branch(k),
            {layout.file(k, files.verdict.name): files.verdict},
            key=layout.decided_key(k),
            message=message,
            metadata=status,
        )
    return commit


def _record(
    campaign: Campaign,
    start: RoundStart,
    trained: TrainFacts,
    scores: RoundScores,
    verdict: Verdict,
    weights: str,
    commit: str,
    observer: Observer,
) -> Record:
    """The round's record as far as it is known at the gate; as it was trained, whatever was retracted since."""
    lineup, students = campaign.lineup, campaign.lineup.own(trained.rows_by_teacher)
    return Record(
        campaign=campaign.config.name,
        round=start.round,
        status=verdict.status,
        reason=verdict.reason,
        teachers=tuple(lineup.reference(teacher, commit) for teacher in start.teachers),
        identity=scores.identity,
        rows=trained.rows,
        rows_by_teacher=trained.rows_by_teacher,
        validation=scores.validation,
        test=scores.test,
        best_step=trained.best_step,
        checkpoint=str(campaign.files(start.round).student.relative_to(campaign.workspace.work)),
        weights_sha256=weights,
        run_id=observer.round_started(campaign, start),
        branch=campaign.layout.branch(start.round),
        commit=commit,
        data_commit=start.commit,
        label_commits=lineup.label_commits(start.teachers, start.commit),
        started_from=start.started_from,
        recipe=trained.recipe,
        scales={name: scale.facts for name, scale in read_scales(campaign.files(start.round).scales).items()},
        resampled=scores.resampled,
        control=read_control(campaign.files(start.round)),
        yardstick=yardstick(campaign),
        decisions=read_decisions(campaign.files(start.round)),
        self_teacher=None,
        stand_in=trained.stand_in,
        encoder=campaign.embedded.encoder if campaign.tuned_weights is not None else None,
        seconds=0.0,
        watch=_watched(trained, students),
    )


def _watched(trained: TrainFacts, students: Sequence[str]) -> dict[str, float]:
    """What is known of a round's training before its student labels anything. Args: students: own ones it learned
    from."""
    weight = {} if trained.human_weight is None else {"human_weight": trained.human_weight}
    return {"self_share": self_share(trained.rows_by_teacher, students)} | weight


def read_decisions(files: RoundFiles) -> dict[str, float]:
    """What a yes of the round's student is worth, as flat numbers; nothing where its thresholds were not chosen."""
    path = files.decisions
    return parse(Decisions, json.loads(path.read_text(encoding="utf-8")), path).metrics() if path.is_file() else {}


def yardstick(campaign: Campaign) -> str:
    """SHA-256 of the pairs of the validation split and which of them are positive."""
    pairs = campaign.human_pairs("validation")
    codes = np.stack([pairs.sample, pairs.topic, pairs.positive.astype(np.int64)])
    return sha256(json.dumps([list(pairs.sample_ids), list(pairs.topics)]), codes.tobytes())


def _warn_of_other_yardstick(campaign: Campaign, best: Record | None) -> None:
    if best is not None and best.yardstick not in ("", yardstick(campaign)):
        log.warning(
            "The validation split or its annotations changed since round %d: PR-AUCs of before and after are "
            "measured by other pairs. The gate compares the pairs that both rounds scored; champion and patience "
            "go by the numbers as they were measured.",
            best.round,
        )


def _verdict(campaign: Campaign, k: int, best: Record | None) -> Verdict:
    """The gate's verdict on round k: once it is said it stays, whatever is retracted before the round ends."""
    files, config = campaign.files(k), campaign.config
    said_before = read_verdict(files)
    if said_before is not None:
        return said_before
    verdict = judge(
        config.gate,
        campaign.pairs_of(pq.read_table(files.pairs("validation")), "validation"),
        campaign.scored_pairs(best, "validation") if best else None,
        config.evaluation.resamples,
        decision=read_decision(campaign.lake, campaign.layout, k) if config.gate == "manual" else None,
    )
    if verdict.passed is not None:
        content = {"passed": verdict.passed, "reason": verdict.reason}
        write_noted(files.verdict, json.dumps(content, indent=2))
    return verdict
