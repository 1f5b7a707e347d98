"""What could be had instead of a study's students: the yardsticks that each round left in the lake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from t2t.campaign.record import Record
from t2t.evaluation.standing import Compared, Own, Yardstick
from t2t.studies.cells import Cell
from t2t.studies.numbers import SPLITS, Number
from t2t.studies.results import Results

# What the rounds' yardsticks are called among the rivals.
NAMES = {
    "average-raw": "average, raw",
    "average-calibrated": "average, common scale",
    "best-teacher": "best teacher",
    "stacking": "stacking on human rows",
    "human-rows": "human rows alone",
}
# The parts of a split that yardsticks are measured on.
MEASURED = {"pr_auc": "overall", "pr_auc_seen": "seen"}


@dataclass(frozen=True)
class Beside:
    """A rival beside a cell, on one measure.

    words: its name within a sentence. detail: how it was made. models: how many it asks about a new clip.
    number: its own. less: the student's less it, on the pairs that the rival scores.
    """

    name: str
    words: str
    detail: str
    models: int
    number: Number
    less: Number | None


def beside(results: Results, cell: Cell, measure: str) -> list[Beside]:
    """The study's rivals (`baselines`; all that the rounds left where it names none) beside a cell's champions."""
    split, _, part = measure.partition(" ")
    if split not in SPLITS or part not in MEASURED:
        return []
    named = results.study.config.baselines or tuple(NAMES)
    by_seed = {run.job.seed: run.champion for run in results.of_cell(cell) if run.champion is not None}
    found = []
    for name in named:
        some = {seed: _found(results, record, NAMES.get(name, name), split) for seed, record in by_seed.items()}
        made = _together(name, {seed: one for seed, one in some.items() if one is not None}, MEASURED[part])
        found += [made] if made is not None else []
    return found


def left_out(results: Results) -> dict[str, str]:
    """The study's baselines that no cell has, and why."""
    named = results.study.config.baselines
    had = {one.name for cell in results.study.cells for one in beside(results, cell, "test pr_auc")}
    reasons = {}
    for name in named:
        if name not in had:
            reasons[name] = _reason(results, NAMES.get(name, name))
    return reasons


def _reason(results: Results, name: str) -> str:
    for run in results.runs:
        yardsticks = results.yardsticks(run.champion) if run.champion is not None else None
        if yardsticks is not None and name in yardsticks.left_out:
            return yardsticks.left_out[name]
    return "no round has measured it"


def _found(results: Results, record: Record, name: str, split: str) -> Yardstick | None:
    yardsticks = results.yardsticks(record)
    if yardsticks is None:
        return None
    some = yardsticks.test if split == "test" else yardsticks.validation
    return next((one for one in some.yardsticks if one.name == name), None)


def _together(name: str, by_seed: Mapping[int, Yardstick], part: str) -> Beside | None:
    compared: dict[int, Compared] = {
        seed: one for seed, yardstick in by_seed.items() if (one := getattr(yardstick, part)) is not None
    }
    if not compared:
        return None
    first = by_seed[next(iter(compared))]
    own = _own(compared)
    less = Number.plain({seed: one.difference for seed, one in compared.items()})
    if less is not None and len(compared) == 1:
        only = next(iter(compared.values()))
        less = less.model_copy(update={"low": only.difference_low, "high": only.difference_high, "pairs": only.pairs})
    return Beside(name, first.words, first.detail, first.models, own, less)


def _own(compared: Mapping[int, Compared | Own]) -> Number:
    """A rival's own number: what does not hang on the student's seed has one interval for all of them."""
    number = Number.plain({seed: one.pr_auc for seed, one in compared.items()})
    assert number is not None
    ends = {(one.low, one.high) for one in compared.values()}
    if len(ends) > 1 or len(set(number.seeds.values())) > 1:
        return number
    low, high = next(iter(ends))
    return number.model_copy(update={"low": low, "high": high})
