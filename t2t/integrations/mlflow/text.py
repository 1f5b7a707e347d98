"""Texts for MLflow: notes, flat parameters, values within its limits, addresses without their passwords."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t2t.campaign.record import Record

CHAMPION = "champion"
MODE = "?workflowType=machine_learning"  # without it the UI opens in its mode for language-model applications
CHART = f"/runs{MODE}&compareRunsMode=CHART"  # behind an experiment's address: one line for each campaign, by round


def note(
    campaign: str, dataset: str, rows: Sequence[Mapping[str, Any]], verdicts: Sequence[str], stop: str | None
) -> str:
    """A campaign's description: its table of rounds (`MLflowTracker.rounds`), with their verdicts."""

    def number(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.3f}"

    lines = [f"Campaign **{campaign}** on dataset **{dataset}**: {len(rows)} round{'s' * (len(rows) != 1)}."]
    lines[0] += "".join(f" Champion: round {r['round']}, PR-AUC {number(r['pr_auc'])}." for r in rows if r["champion"])
    lines += ["", "| round | PR-AUC | 95 % interval | seen | unseen | validation | |", "|---|---|---|---|---|---|---|"]
    for row, verdict in zip(rows, verdicts, strict=True):
        interval = " to ".join(filter(None, (number(row["pr_auc_low"]), number(row["pr_auc_high"]))))
        cells = [str(row["round"]), number(row["pr_auc"]), interval, number(row["pr_auc_seen"])]
        cells += [number(row["pr_auc_unseen"]), number(row["validation_pr_auc"])]
        cells.append(CHAMPION if row["champion"] else verdict.replace("passed", ""))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Stopped: {stop}."] if stop else []
    return "\n".join(lines)


def table_json(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as pandas writes a table with `orient="split"`, which MLflow's UI shows as one; NaN is null."""

    def cell(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 10) if math.isfinite(value) else None
        return value

    data = [[cell(row[column]) for column in columns] for row in rows]
    return json.dumps({"columns": list(columns), "data": data}, separators=(",", ":"))


def checkpoint_note(record: Record, dataset: str, lake: str) -> str:
    """A checkpoint's description: what it is, where it comes from, how to ask it.

    Args:
        lake: the lake's address at the round's commit.
    """
    verdict, k, told = record.status, record.round, set(record.shown())
    teachers = [
        f"| {teacher.id} | `{teacher.fingerprint[:12]}` | {record.rows_by_teacher.get(teacher.id, 0):,} | "
        f"`{record.label_commits.get(teacher.id, '')[:12]}` |"
        for teacher in record.teachers
        if teacher.id in told
    ]
    more = len(record.teachers) - len(teachers)
    teachers += [f"| and {more:,} more | | | |"] if more else []
    return "\n".join(
        [
            f"Student of round {k} of campaign **{record.campaign}** on dataset **{dataset}**: {verdict}, PR-AUC "
            f"{record.test['pr_auc']:.3f} on test, {record.score:.3f} on validation. Asked as `{record.identity}`.",
            "",
            f"Lake: `{lake}`. Labels were read at commit `{record.data_commit}`.",
            "",
            "| teacher | fingerprint | rows | labels' commit |",
            "|---|---|---|---|",
            *teachers,
            "",
            f"Where all of it comes from: `t2t lineage {record.campaign}/{k}`. To serve it: `mlflow models serve -m "
            f"models:/t2t-{record.campaign}@{CHAMPION} --env-manager local` (the champion; T2T_SERVE_ROOT names the "
            "folder that videos may be read from, T2T_SERVER_LOGIN the login that it asks for).",
        ]
    )


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def short(value: Any, length: int) -> str:
    """A value as text: lists as JSON, cut with an ellipsis where MLflow would refuse it."""
    text = json.dumps(value, default=str) if isinstance(value, list | tuple | dict) else str(value)
    return text if len(text) <= length else text[: length - 1] + "…"
