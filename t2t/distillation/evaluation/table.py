"""The one table of a distillation: as people read it, in Markdown, and as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import Literal

from pydantic import Field

from t2t.core.config import Config
from t2t.evaluation.interval import Interval, JsonInterval

CONCATENATION = "concatenation"
Role = Literal["student", "teacher", "all teachers"]


class Row(Config):
    """One number of one encoder. measure: `k-NN <k>` or `probe`. student_less: the student's less this one's, paired;
    None for the student itself. c: that the probe found."""

    encoder: str
    role: Role
    dim: int = Field(ge=1)
    dataset: str
    measure: str
    value: JsonInterval
    student_less: JsonInterval | None = None
    c: float | None = None


class Curve(Config):
    """How an encoder's k-NN (of 20) falls, or rises. points: a place (how many principal directions are left, whitened;
    or which share of the weights is taken away, 0..1) and what was measured there."""

    encoder: str
    dataset: str
    points: tuple[tuple[float, JsonInterval], ...]


class TaskFacts(Config):
    """What was measured on. fit, test: samples. groups: sources that the samples of the test are of.
    all_neighbours: the k that are no fewer than the samples to learn from, so that all of them answer."""

    dataset: str
    metric: Literal["top-1", "mAP"]
    topics: int = Field(ge=1)
    fit: int = Field(ge=1)
    test: int = Field(ge=1)
    groups: int = Field(ge=1)
    all_neighbours: tuple[int, ...] = ()


class EvaluationTable(Config):
    """Encoders beside one another on datasets, as `t2t distill report` shows it.

    directions, pruning: curves by how many directions of the features are left, and by the share of weights without
    which the encoder has to do (on one frame of each sample); empty where that was not asked.
    """

    student: str
    rows: tuple[Row, ...]
    tasks: tuple[TaskFacts, ...]
    directions: tuple[Curve, ...] = ()
    pruning: tuple[Curve, ...] = ()
    seconds: float = Field(ge=0)

    def of(self, dataset: str) -> dict[str, list[Row]]:
        """The rows of a dataset, by encoder, in the order of the table."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            if row.dataset == dataset:
                found.setdefault(row.encoder, []).append(row)
        return found

    def metrics(self) -> dict[str, float]:
        """The student's numbers under flat names, such as `jhmdb/k-NN 20`, for a run history; NaN left out."""
        mine = [row for row in self.rows if row.role == "student"]
        return {f"{row.dataset}/{row.measure}": row.value.value for row in mine if row.value.value == row.value.value}


def note(facts: TaskFacts) -> str:
    """What a dataset's table says under it."""
    what = "share of samples whose most likely topic is theirs" if facts.metric == "top-1" else (
        "mean over topics of average precision"
    )  # fmt: skip
    text = (
        f"{facts.metric} ({what}) on {facts.test:,} samples of {facts.groups:,} sources, {facts.topics:,} topics; "
        f"learned from {facts.fit:,} samples. k-NN: cosine, weights exp(similarity / 0.07). Probe: logistic, C found "
        "on parts of what is learned from. In brackets the 95 % interval: sources are drawn, then samples in them; "
        "differences are paired."
    )
    if facts.metric == "mAP":
        text += " Draws, which few positives a topic make too high, are shifted to have the value as their mean."
    if facts.all_neighbours:
        ks = ", ".join(map(str, facts.all_neighbours))
        text += f" With k of {ks} all {facts.fit:,} samples answer."
    return text


def cells(table: EvaluationTable, facts: TaskFacts) -> tuple[list[str], list[list[str]]]:
    """A dataset's columns and rows as text: one row an encoder, and what the student has more than it by the best k and
    by the probe."""
    by_encoder = table.of(facts.dataset)
    names = [row.measure for row in by_encoder[table.student]]
    compared = [name for name in (_best_k(by_encoder[table.student]), "probe") if name in names]
    lines = []
    for encoder, rows in by_encoder.items():
        by_measure = {row.measure: row for row in rows}
        less = [by_measure[name].student_less for name in compared]
        values = [str(by_measure[name].value) for name in names]
        lines.append(
            [encoder, rows[0].role, str(rows[0].dim), *values, *("" if d is None else signed(d) for d in less)]
        )
    return ["encoder", "is", "numbers", *names, *(f"student less it, {name}" for name in compared)], lines


def _best_k(rows: list[Row]) -> str:
    near = [row for row in rows if row.measure != "probe"]
    return max(near, key=lambda row: row.value.value).measure if near else ""


def signed(difference: Interval) -> str:
    return f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def as_markdown(table: EvaluationTable) -> str:
    """A section for each dataset."""
    parts = []
    for facts in table.tasks:
        columns, lines = cells(table, facts)
        text = [columns, ["---", "---", *["---:"] * (len(columns) - 2)], *lines]
        rows = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in text)
        parts.append(f"## {facts.dataset}\n\n{rows}\n\n{note(facts)}")
    return "\n\n".join(parts) + "\n"


def as_json(table: EvaluationTable) -> str:
    return json.dumps(table.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


COLUMNS = ("dataset", "metric", "encoder", "role", "dim", "measure", "value", "low", "high")
DIFFERENCE = ("student_less", "student_less_low", "student_less_high", "c")


def as_csv(table: EvaluationTable) -> str:
    """One row a number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS + DIFFERENCE)
    metric = {facts.dataset: facts.metric for facts in table.tasks}
    for row in table.rows:
        d, v = row.student_less, row.value
        less = [None] * 3 if d is None else [d.value, d.low, d.high]
        names = [row.dataset, metric[row.dataset], row.encoder, row.role, row.dim, row.measure]
        writer.writerow([*names, v.value, v.low, v.high, *less, row.c])
    dims = {row.encoder: row.dim for row in table.rows}
    roles = {row.encoder: row.role for row in table.rows}
    for curves, words in (
        (table.directions, "k-NN 20, {:g} directions, whitened"),
        (table.pruning, "k-NN 20, one frame, {:.0%} of weights pruned"),
    ):
        for curve in curves:
            of = [curve.dataset, metric[curve.dataset], curve.encoder, roles[curve.encoder], dims[curve.encoder]]
            for place, v in curve.points:
                writer.writerow([*of, words.format(place), v.value, v.low, v.high, *[None] * 4])
    return buffer.getvalue()
