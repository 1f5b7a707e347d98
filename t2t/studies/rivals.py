"""What could be had instead of a study's students, beside its cells.

The study's `baselines` are fitted once for all cells and seeds that learned from the same teachers and rows, and kept;
a study that names none is shown the yardsticks that its rounds left in the lake.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t2t.campaign.campaign import Campaign
from t2t.campaign.record import Record
from t2t.campaign.rivals import measure_rivals
from t2t.core.config import Config, parse
from t2t.core.errors import T2TError, one_line
from t2t.core.files import read_noted, sha256, write_noted
from t2t.evaluation.standing import Compared, Yardstick
from t2t.studies.cells import Cell
from t2t.studies.numbers import PARTS, SPLITS, Number
from t2t.studies.results import Results, Run, number_of
from t2t.training.baselines.measure import RivalScore

log = logging.getLogger("t2t")

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


class Fitted(Config):
    """A rival that was fitted beside a round. left_out: why it could not be had; "" where it could.

    scores: of the round's test pairs; none where it could not.
    """

    name: str
    words: str = ""
    detail: str = ""
    models: int = 0
    left_out: str = ""
    seconds: float = 0.0
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Beside:
    """A rival beside a cell, on one measure.

    words: its name within a sentence. detail: how it was made. models: how many it asks about a new clip.
    number: its own. less: the student's less it, on the same pairs.
    """

    name: str
    words: str
    detail: str
    models: int
    number: Number
    less: Number | None


class Rivals:
    """The rivals of a study. folder: where those that were fitted are kept."""

    def __init__(self, results: Results, folder: Path):
        self.results, self.folder = results, folder
        self.named = results.study.config.baselines
        self._fitted: dict[str, dict[str, Fitted]] = {}
        self._failed: dict[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """All that are looked for."""
        return self.named or tuple(NAMES)

    def beside(self, cell: Cell, measure: str) -> list[Beside]:
        """The rivals beside a cell's champions, in the order of the study's file."""
        split, _, part = measure.partition(" ")
        runs = [run for run in self.results.of_cell(cell) if run.champion is not None]
        if split not in SPLITS or part not in PARTS or not runs:
            return []
        found = [self._one(name, runs, split, part) for name in self.names]
        return [one for one in found if one is not None]

    def left_out(self) -> dict[str, str]:
        """The study's baselines that no cell has, and why."""
        had = {one.name for cell in self.results.study.cells for one in self.beside(cell, "test pr_auc")}
        return {name: self._reason(name) for name in self.named if name not in had}

    def _one(self, name: str, runs: Sequence[Run], split: str, part: str) -> Beside | None:
        if self.named and split == "test":
            fitted = self.fitted(runs[0]).get(name)
            if fitted is not None and fitted.scores:
                return self._of_scores(fitted, runs, part)
            if fitted is not None:
                return None
        return self._of_yardsticks(name, runs, split, part)

    # -- fitted ----------------------------------------------------------------------------------------------------

    def fitted(self, run: Run) -> dict[str, Fitted]:
        """The study's baselines beside a run's champion, by name; none where they cannot be fitted here, which is told
        once."""
        record = run.champion
        assert record is not None
        key = _key(self.results, run, record)
        if key not in self._fitted:
            kept = {name: self._kept(key, name) for name in self.named}
            found = {name: one for name, one in kept.items() if one is not None}
            lacking = [name for name in self.named if name not in found]
            if lacking:
                try:
                    scored = measure_rivals(Campaign(run.job.config, self.results.workspace), record.round, lacking)
                    found |= {score.name: self._keep(key, score) for score in scored}
                except T2TError as error:
                    self._failed |= dict.fromkeys(lacking, one_line(error))
                    log.warning("The rivals of %s cannot be fitted here: %s", run.job, one_line(error))
            self._fitted[key] = found
        return self._fitted[key]

    def _kept(self, key: str, name: str) -> Fitted | None:
        path = self.folder / f"{key}-{name}.json"
        if not path.is_file():
            return None
        return parse(Fitted, read_noted(path, "Delete it: the rival is fitted again."), path)

    def _keep(self, key: str, score: RivalScore) -> Fitted:
        facts = {name: getattr(score, name) for name in ("name", "words", "detail", "models", "left_out", "seconds")}
        one = Fitted(**facts, scores=tuple(np.asarray(score.filled, np.float64).tolist()))
        self.folder.mkdir(parents=True, exist_ok=True)
        write_noted(self.folder / f"{key}-{score.name}.json", json.dumps(one.model_dump(mode="json")))
        return one

    def _of_scores(self, fitted: Fitted, runs: Sequence[Run], part: str) -> Beside | None:
        """A rival has one set of scores, held against every seed's student."""
        records = {run.job.seed: record for run in runs if (record := run.champion) is not None}
        first = self.results.pairs(next(iter(records.values())), "test")
        rival = first.with_score(np.array(fitted.scores, np.float32))
        rival = self.results.part_of(rival, part)
        students = [self.results.pairs(record, "test", part) for record in records.values()]
        own = number_of(self.results.resampler.mean([rival]), [0])
        if own is None:
            return None
        own = own.model_copy(update={"seeds": dict.fromkeys(records, own.mean)})
        less = number_of(self.results.resampler.difference(students, [rival] * len(students)), list(records))
        return Beside(fitted.name, fitted.words, fitted.detail, fitted.models, own, less)

    # -- yardsticks ------------------------------------------------------------------------------------------------

    def _of_yardsticks(self, name: str, runs: Sequence[Run], split: str, part: str) -> Beside | None:
        if part not in MEASURED:
            return None
        by_seed: dict[int, tuple[Yardstick, Compared]] = {}
        for run in runs:
            record = run.champion
            one = None if record is None else _yardstick(self.results, record, NAMES.get(name, name), split)
            compared = None if one is None else getattr(one, MEASURED[part])
            if one is not None and compared is not None:
                by_seed[run.job.seed] = (one, compared)
        return _together(name, by_seed) if by_seed else None

    def _reason(self, name: str) -> str:
        for fitted in self._fitted.values():
            if name in fitted and fitted[name].left_out:
                return fitted[name].left_out
        if name in self._failed:
            return self._failed[name]
        return "no round has measured it"


def _key(results: Results, run: Run, record: Record) -> str:
    """What a rival's scores follow from: whom it hears, the rows that it is fitted on, and the pairs that it scores."""
    own = run.job.config.is_own
    teachers = [
        (one.id, one.fingerprint, record.label_commits.get(one.id)) for one in record.teachers if not own(one.id)
    ]
    pairs = results.pairs(record, "test")
    truth = pairs.positive.tobytes() + pairs.sample.tobytes() + pairs.topic.tobytes()
    frames = run.job.config.encoder.model_dump_json()
    # The rounds' own maps to the common scale follow from teachers and people's rows.
    facts = [teachers, record.yardstick, run.job.config.common_scale, frames]
    return sha256(json.dumps([*facts, run.job.config.teachers_see_unseen, sha256(truth)]))[:16]


def _yardstick(results: Results, record: Record, name: str, split: str) -> Yardstick | None:
    yardsticks = results.yardsticks(record)
    if yardsticks is None:
        return None
    some = yardsticks.test if split == "test" else yardsticks.validation
    return next((one for one in some.yardsticks if one.name == name), None)


def _together(name: str, by_seed: Mapping[int, tuple[Yardstick, Compared]]) -> Beside:
    """What does not hang on the student's seed has one interval for all of them; a difference has one of a single seed
    only, since the lake has no scores of yardsticks."""
    first, compared = next(iter(by_seed.values()))[0], {seed: one for seed, (_, one) in by_seed.items()}
    number = Number.plain({seed: one.pr_auc for seed, one in compared.items()})
    less = Number.plain({seed: one.difference for seed, one in compared.items()})
    assert number is not None
    ends = {(one.pr_auc, one.low, one.high) for one in compared.values()}
    if len(ends) == 1:
        _, low, high = next(iter(ends))
        number = number.model_copy(update={"low": low, "high": high})
    if less is not None and len(compared) == 1:
        only = next(iter(compared.values()))
        less = less.model_copy(update={"low": only.difference_low, "high": only.difference_high, "pairs": only.pairs})
    return Beside(name, first.words, first.detail, first.models, number, less)
