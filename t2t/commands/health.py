"""`t2t teachers health`: the labels that the next round would train on, measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from t2t.campaign.campaign import Campaign
from t2t.campaign.config import CampaignConfig
from t2t.campaign.engine import LocalEngine
from t2t.campaign.entries import campaign_config
from t2t.campaign.find import ledger_of
from t2t.campaign.freeze import frozen_config, read_frozen
from t2t.campaign.people import people_note
from t2t.campaign.steps.rows import next_rows, round_scales
from t2t.commands.tables import console, records_of, table_of
from t2t.core.errors import listed
from t2t.core.workspace import Workspace
from t2t.data.competence import answers_of, competence
from t2t.data.labels import is_people
from t2t.data.scales import Scale
from t2t.evaluation.health import check_health, health
from t2t.evaluation.worth import remarks

# Annotators, or teachers, that a terminal is told of.
MOST_SHOWN = 30


@dataclass(frozen=True)
class Health:
    """What was measured of the labels that a campaign's next round would train on.

    report: as `t2t.evaluation.health.health` makes it. scales: columns teacher, slope, worth, scale; None where
    confidences are not brought to one scale. missing: teachers without labels yet. remarks: sentences. people: the
    annotators, as `t2t.data.competence.competence` makes it; None where there are fewer than two.
    """

    report: pd.DataFrame
    scales: pd.DataFrame | None
    missing: list[str]
    remarks: list[str]
    people: pd.DataFrame | None
    config: CampaignConfig


def health_json(workspace: Workspace, campaign: str) -> dict[str, Any]:
    """`t2t teachers health --json`: {labels, scales, people, missing, remarks}: a list with a teacher each, the same of
    their maps to the common scale (null where it is not used), a list with an annotator each (null where there are not
    two), teachers without labels, sentences for people."""
    measured = _measure(workspace, campaign)
    return {
        "labels": records_of(measured.report),
        "scales": None if measured.scales is None else records_of(measured.scales),
        "people": None if measured.people is None else records_of(measured.people),
        "missing": measured.missing,
        "remarks": measured.remarks,
    }


def reopen(workspace: Workspace, campaign: str) -> Campaign:
    """A campaign that has begun, with the settings that its next round would have. Raises T2TError for another one."""
    ledger = ledger_of(workspace, campaign)
    if campaign in workspace.names("campaigns"):
        # What the next round would read, in the lake where the campaign began.
        config = campaign_config(workspace, campaign).model_copy(update={"lake": read_frozen(ledger)["lake"]})
    else:
        config = frozen_config(ledger)
    return Campaign(config, workspace, LocalEngine("cpu"))


def _measure(workspace: Workspace, campaign: str) -> Health:
    opened = reopen(workspace, campaign)
    config = opened.config
    head = opened.lake.resolve("main")
    names = opened.lineup.of_round(len(opened.ledger.records()), head)
    coded = next_rows(opened, head, names)
    report, scales = health(coded), round_scales(opened, coded)
    own = opened.lineup.own(names)
    missing = [name for name in config.teachers if name not in names and name not in opened.lineup.retracted()]
    table = _scale_table(names, scales, own) if config.common_scale else None
    words = [str(remark) for remark in remarks(coded, scales, config.common_scale, own)]
    counts = {str(row["teacher"]): int(row["rows"]) for row in report.to_dict("records")}
    if note := people_note(config, counts):
        words.insert(0, note)
    combine = opened.dataset.config.people.combine
    answers = answers_of(opened.dataset)
    people = None if answers is None else competence(answers, True if combine == "mace" else None)
    return Health(report, table, missing, words, people, config)


def print_health(workspace: Workspace, campaign: str) -> None:
    """The health of the labels on `main` that the campaign's next round would train on."""
    measured = _measure(workspace, campaign)
    short = {
        "at_zero": "at 0",
        "at_one": "at 1",
        "human_pairs": "pairs",
        "pr_auc": "PR-AUC",
        "calibration_error": "ECE",
    }
    counts = dict.fromkeys(("rows", "samples", "topics", "distinct", "pairs"), ",d")
    shares = dict.fromkeys(("entropy", "at 0", "at 1", "mean", "PR-AUC", "chance", "ECE"), ".3f")
    title = f"Labels that {campaign} trains on next; pairs, PR-AUC and calibration error (ECE) where people labeled too"
    report, more = _cut(measured.report)
    console.print(table_of(report.rename(columns=short), title, **counts, **shares))
    _print_more(more)
    if measured.scales is not None:
        title = (
            "How they are brought to one scale: slope of their logits (1 is calibrated, above is timid, below is loud),"
            " and worth, the share of people's answers that they explain"
        )
        best = measured.scales.sort_values("worth", ascending=False, kind="stable", na_position="first")
        console.print(table_of(_cut(measured.scales, best)[0], title, slope=".2f", worth=".3f"))
        _print_more(more)
    if measured.people is not None:
        _print_people(measured.people)
    if measured.missing:
        console.print(f"Not labeled yet, the next run does it: {listed(measured.missing)}")
    for remark in measured.remarks[:MOST_SHOWN]:
        console.print(remark, markup=False, soft_wrap=True)
    if len(measured.remarks) > MOST_SHOWN:
        console.print(f"and {len(measured.remarks) - MOST_SHOWN:,} more remarks: t2t teachers health {campaign} --json")
    check_health(measured.report, measured.config.health.model_copy(update={"constant": "warn"}), campaign)


def _cut(frame: pd.DataFrame, order: pd.DataFrame | None = None) -> tuple[pd.DataFrame, int]:
    """A table of teachers as long as a person reads, and how many rows it lacks: the first of `order`, else those with
    the highest PR-AUC where people labeled too, people's own before them."""
    if len(frame) <= MOST_SHOWN:
        return frame, 0
    if order is None:
        order = frame.sort_values("pr_auc", ascending=False, kind="stable", na_position="first")
    return order.head(MOST_SHOWN), len(frame) - MOST_SHOWN


def _print_more(more: int) -> None:
    if more:
        console.print(f"and {more:,} more teachers, which are worth less: --json has all")


def _print_people(people: pd.DataFrame) -> None:
    """The annotators with most answers; all are in the JSON."""
    shown = people.sort_values("answers", ascending=False, kind="stable").head(MOST_SHOWN)
    shown = shown.drop(columns=["youden", "error"])
    empty = [name for name in ("unanswered", "competence") if not shown[name].fillna(0).any()]
    title = (
        "Annotators: agreement with the others' majority on the pairs they share (95 % from low to high); sensitivity "
        "and specificity by Dawid-Skene"
    )
    if "competence" not in empty:
        title += "; competence by MACE, the share of answers given by knowing"
    counts = dict.fromkeys(("answers", "unanswered", "shared"), ",d")
    shares = dict.fromkeys(("yes", "agreement", "low", "high", "sensitivity", "specificity", "competence"), ".3f")
    formats = {name: form for name, form in {**counts, **shares}.items() if name not in empty}
    console.print(table_of(shown.drop(columns=empty), title, **formats))
    if len(people) > len(shown):
        console.print(f"{len(people) - len(shown):,} more annotators, with fewer answers, are in --json.")


def _scale_table(names: Sequence[str], scales: Mapping[str, Scale], own: Collection[str]) -> pd.DataFrame:
    """Columns teacher, slope, worth (NaN where unknown) and scale: where the map of each comes from.

    Args:
        own: the campaign's students, whose scale is that of whom they were asked as.
    """
    rows = []
    for name in names:
        scale = scales.get(name)
        slope, worth, origin = (float("nan"), float("nan"), "raw: it has no labels")
        if is_people(name) or (name in own and scale is None):
            origin = "the common one"
        elif name in own:
            origin = "that of whom it was asked as"
        elif scale is not None:
            slope, worth = (float("nan") if fact is None else fact for fact in (scale.slope, scale.worth))
            origin = f"people, {scale.pairs:,} pairs" if scale.how == "people" else "own distribution"
        rows.append({"teacher": name, "slope": slope, "worth": worth, "scale": origin})
    return pd.DataFrame(rows)
