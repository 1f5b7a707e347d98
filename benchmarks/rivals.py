"""Rivals of the student by data sets: what could be had instead of it, on the same human rows and test pairs.

    python -m benchmarks.rivals                                   # every data set that is here, every rival
    python -m benchmarks.rivals youtube sms --seeds 3 --students stacking,dawid-skene

The student is the one of `recipe: auto`; numbers are the mean over seeds, intervals draw groups, then samples in them,
and are paired. `--students` trains the same recipe on labels of rivals, people's rows weighing as much as in the
student. Of WRENCH's sets there is what its tables have, too: accuracy, or F1 of spam.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console

from benchmarks.recipes import draws, measure, part
from benchmarks.worlds import CAMPAIGNS, WORK, WRENCH, World, available, heard, known_of, open_world
from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import average_precision
from t2t.evaluation.scales import scales_of
from t2t.training.baselines import METHODS, rival_names
from t2t.training.baselines.measure import Held, RivalScore
from t2t.training.baselines.measure import measure as measure_rivals

# What WRENCH measures its sets by, and the class that is to be found.
CLASSES = {"youtube": ("accuracy", 1), "sms": ("F1", 1)}
STUDENT = "the student"
console = Console(width=200, highlight=False)


def run(name: str, seeds: int, names: Sequence[str], students: Sequence[str], resamples: int) -> dict[str, Any]:
    """The rows of a data set's table, the student first, then rivals, then conventional students; best first."""
    world = open_world(name)
    ours = measure(world, (), seeds)["pairs"]["test"]
    base = Table(world, ours, resamples)
    rows = {STUDENT: base.row(ours, 0)}
    known, _ = known_of(world, scales_of(world.of(world.teachers).rows, world.groups))
    test = heard(world, "test", world.teachers)
    test = replace(test, pairs=ours[0])
    began = time.monotonic()
    found = measure_rivals(known, test, names, Held(test, world.unseen, 100))
    seconds = time.monotonic() - began
    for one in sorted(found, key=lambda one: -one.overall.pr_auc if one.overall else 1.0):
        rows[one.name] = {"left_out": one.left_out} if one.left_out else base.row([ours[0].with_score(one.filled)], one)
    for method in students:
        result = measure(world, (f"method={method}", "rounds.max=1"), seeds)
        rows[f"student of {method}"] = base.row(result["pairs"]["test"], 0, result["cpu"])
        console.print(f"{name}, student of {method}: {rows[f'student of {method}']['pr_auc']:.3f}")
    return {"rows": rows, "seconds": round(seconds, 1), "pairs": len(ours[0].sample), "teachers": len(world.teachers)}


class Table:
    """A data set's numbers beside those of the student. Args: ours: the student's scored pairs, one a seed."""

    def __init__(self, world: World, ours: Sequence[Pairs], resamples: int):
        self.world, self.ours, self.resamples = world, ours, resamples
        self.base = draws(ours, resamples)
        self.base_value = float(np.mean([average_precision(pairs) for pairs in ours]))

    def row(self, scored: Sequence[Pairs], one: RivalScore | int, seconds: float | None = None) -> dict[str, Any]:
        drawn, value = draws(scored, self.resamples), float(np.mean([average_precision(pairs) for pairs in scored]))
        rival = one if isinstance(one, RivalScore) else None
        row: dict[str, Any] = {"pr_auc": value, "interval": _bounds(drawn)}
        row["minus_it"] = [self.base_value - value, *_bounds(self.base - drawn)]
        for which in ("seen", "unseen"):
            some = [part(pairs, self.world, which) for pairs in scored]
            row[which] = float(np.mean([average_precision(p) for p in some])) if some[0].positive.any() else None
        row["models"] = rival.models if rival else 0
        row["seconds"] = rival.seconds if rival else seconds
        row["share_scored"] = float((~np.isnan(rival.scores)).mean()) if rival else 1.0
        row["detail"] = rival.detail if rival else ""
        row["sees_test"] = bool(rival and rival.sees_test)
        if self.world.name in CLASSES:
            row |= self._classes(scored)
        return row

    def _classes(self, scored: Sequence[Pairs]) -> dict[str, Any]:
        """Accuracy or F1, and what the student is ahead by, with the interval over samples."""
        kind, wanted = CLASSES[self.world.name]
        said = np.mean([_decided(pairs, wanted) for pairs in scored], axis=0)
        ours = np.mean([_decided(pairs, wanted) for pairs in self.ours], axis=0)
        truth = _of_class(scored[0], wanted)[0]
        generator = np.random.default_rng(0)
        at = generator.integers(0, len(truth), (self.resamples, len(truth)))
        value = _metric(kind, said[None], truth[None])[0]
        drawn = _metric(kind, ours[at], truth[at]) - _metric(kind, said[at], truth[at])
        minus = _metric(kind, ours[None], truth[None])[0] - value
        return {kind: float(value), f"{kind}_minus_it": [float(minus), *_bounds(drawn)]}


def _of_class(pairs: Pairs, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each sample is of a class, bool [samples], and how far its score is above that of the other class."""
    grid = np.full((len(pairs.sample_ids), len(pairs.topics)), np.nan)
    grid[pairs.sample, pairs.topic] = pairs.score
    truth = np.zeros(len(pairs.sample_ids), bool)
    here = pairs.topic == wanted
    truth[pairs.sample[here]] = pairs.positive[here]
    return truth, grid[:, wanted] - grid[:, 1 - wanted]


def _decided(pairs: Pairs, wanted: int) -> np.ndarray:
    """The chance that each sample is said to be of the class, float64 [samples]: a half where scores are equal."""
    margin = _of_class(pairs, wanted)[1]
    return np.where(margin > 0, 1.0, np.where(margin < 0, 0.0, 0.5))


def _metric(kind: str, said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """float64 [n] of said, truth [n, samples]."""
    if kind == "accuracy":
        return np.asarray(np.where(truth, said, 1 - said).mean(axis=1))
    found = (said * truth).sum(axis=1)
    return np.asarray(2 * found / np.maximum(said.sum(axis=1) + truth.sum(axis=1), 1e-9))


def _bounds(drawn: np.ndarray) -> list[float]:
    return [float(bound) for bound in np.nanpercentile(drawn, [2.5, 97.5])]


def markdown(name: str, result: dict[str, Any]) -> str:
    """A data set's table for docs/rivals.md."""
    kind = CLASSES[name][0] if name in CLASSES else None
    rows = result["rows"]
    unseen = rows[STUDENT]["unseen"] is not None
    columns = ["", "PR-AUC [95 %]", "student minus it", *(["seen", "unseen"] if unseen else [])]
    columns += [kind, f"{kind}: student minus it"] if kind else []
    columns += ["models asked", "scores", "s"]
    lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    left_out = []
    for label, row in rows.items():
        if "left_out" in row:
            left_out.append(f"{label}: {row['left_out']}")
            continue
        low, high = row["interval"]
        cells = [f"**{label}**" if label == STUDENT else f"{label} *" if row["sees_test"] else label]
        cells += [f"{row['pr_auc']:.3f} [{low:.3f}, {high:.3f}]"]
        cells += ["" if label == STUDENT else _difference(row["minus_it"])]
        cells += [_value(row["seen"]), _value(row["unseen"])] if unseen else []
        if kind:
            cells += [f"{row[kind]:.3f}", "" if label == STUDENT else _difference(row[f"{kind}_minus_it"])]
        cells += [str(row["models"]), f"{row['share_scored']:.0%}".replace("%", " %")]
        cells += ["" if row["seconds"] is None else f"{row['seconds']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, *(["", "Left out: " + "; ".join(left_out) + "."] if left_out else [])])


def _difference(of: Sequence[float]) -> str:
    text = f"{of[0]:+.3f} [{of[1]:+.3f}, {of[2]:+.3f}]"
    return f"**{text}**" if of[1] > 0 or of[2] < 0 else text


def _value(of: float | None) -> str:
    return "" if of is None else f"{of:.3f}"


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets; all that are here by default.")] = None,
    seeds: int = 3,
    only: Annotated[str, typer.Option(help="Rivals, with commas between; all by default.")] = "",
    students: Annotated[str, typer.Option(help="Rivals whose labels a student learns from; `all` for each.")] = "",
    resamples: int = 1000,
    out: Path = WORK / "rivals.json",
) -> None:
    """Measures rivals on data sets."""
    logging.basicConfig(level=logging.ERROR)
    torch.set_num_threads(1)  # sums depend on it
    wanted = [name.strip() for name in only.split(",") if name.strip()] or rival_names()
    methods = [name.strip() for name in students.split(",") if name.strip()]
    methods = ["conventional-average", *METHODS] if methods == ["all"] else methods
    numbers = json.loads(out.read_text()) if out.is_file() else {}
    for name in names or [*CAMPAIGNS, *WRENCH]:
        if reason := available(name):
            console.print(f"{name}: skipped, {reason}.")
            continue
        numbers[name] = run(name, seeds, wanted, methods, resamples)
        facts = numbers[name]
        console.print(f"\n{name}: {facts['pairs']:,} test pairs, {facts['teachers']} teachers, {facts['seconds']} s\n")
        console.print(markdown(name, facts), markup=False, soft_wrap=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
