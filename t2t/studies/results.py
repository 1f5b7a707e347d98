"""What a study came to: its cells' campaigns as the lake has them, and every number of them over seeds.

A study may be half done: what is there is measured, what is missing is named.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from t2t.campaign.freeze import changed_keys, read_frozen
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import RETRACTED, Record, champion
from t2t.campaign.scored import Scored
from t2t.core.errors import T2TError, one_line
from t2t.core.workspace import Workspace
from t2t.data.pairs import Pairs
from t2t.evaluation.metrics import chance
from t2t.evaluation.seeds import Resampler, Together
from t2t.evaluation.standing import Yardsticks
from t2t.lake import Lake, UnknownLake, open_lake
from t2t.studies.cells import Cell, Job, Study
from t2t.studies.checks import study_folder
from t2t.studies.numbers import CONTROL, PARTS, SIZE, SPLITS, Number

log = logging.getLogger("t2t")


@dataclass(frozen=True)
class Run:
    """A cell with a seed, as its campaign's ledger has it. records: its finished rounds; none where it has not begun.

    changed: the settings in which its campaign began otherwise than the study's file has them now.
    """

    job: Job
    records: tuple[Record, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def champion(self) -> Record | None:
        return champion(list(self.records))

    @property
    def ended(self) -> bool:
        """Whether no further round follows."""
        return bool(self.records) and self.records[-1].stop is not None

    def record(self, k: int | None) -> Record | None:
        """Round k, or the champion where k is None."""
        if k is None:
            return self.champion
        return next((record for record in self.records if record.round == k and record.status != RETRACTED), None)

    @property
    def missing(self) -> str:
        """What it lacks, in words; empty where it is whole."""
        if not self.records:
            return "no round is finished"
        if self.champion is None:
            return "no round that stands has passed"
        if not self.ended:
            count = len(self.records)
            return f"under way, {count} round{'' if count == 1 else 's'} finished"
        return ""


@dataclass
class Results:
    """A study's runs, and what is measured of them, each thing once.

    resampler: draws the intervals.
    """

    study: Study
    workspace: Workspace
    resampler: Resampler = field(default_factory=Resampler)
    _pairs: dict[tuple[str, int, str], Pairs] = field(default_factory=dict, repr=False)
    _yardsticks: dict[str, Yardsticks | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, workspace: Workspace, study: Study) -> Results:
        """Reads the ledgers. Raises T2TError where no round of any cell is finished."""
        resamples = study.cells[0].config.evaluation.resamples
        found = cls(study, workspace, Resampler(resamples, folder=study_folder(workspace, study.name) / "draws"))
        if not any(run.records for run in found.runs):
            raise T2TError(f"Study {study.name!r} has no finished round yet. Run it: t2t study {study.name}")
        return found

    # -- what has run --------------------------------------------------------------------------------------------

    @cached_property
    def lake(self) -> Lake | None:
        """The lake of all cells; None before it is made."""
        try:
            return open_lake(self.study.lake, self.workspace.work, create=False)
        except UnknownLake:
            return None

    @cached_property
    def scored(self) -> Scored:
        """The dataset's samples and topics. Raises T2TError before there is a lake."""
        if self.lake is None:
            raise T2TError(f"Study {self.study.name!r} has not run here. Run it: t2t study {self.study.name}")
        return Scored(self.lake, self.study.dataset)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Every cell with every seed, in the order in which they are run."""
        return tuple(self._run(job) for job in self.study.jobs())

    def _run(self, job: Job) -> Run:
        if self.lake is None:
            return Run(job)
        ledger = Ledger(self.lake, self.study.dataset, job.campaign)
        records = ledger.records()
        if not records:
            return Run(job)
        taught = {teacher.id for record in records for teacher in record.teachers}
        changed = changed_keys(read_frozen(ledger), job.config, ledger.layout, ledger.retracted(), taught)
        return Run(job, tuple(records), tuple(sorted(changed)))

    def of_cell(self, cell: Cell) -> list[Run]:
        return [run for run in self.runs if run.job.cell.slug == cell.slug]

    @cached_property
    def missing(self) -> list[tuple[str, str]]:
        """(cell and seed, what it lacks), in the order of the file."""
        runs = [run for cell in self.study.cells for run in self.of_cell(cell)]
        return [(str(run.job), run.missing) for run in runs if run.missing]

    @cached_property
    def changed(self) -> list[tuple[str, str]]:
        """(cell and seed, settings): runs whose campaigns began with other settings than the study has now."""
        return [(str(run.job), ", ".join(run.changed)) for run in self.runs if run.changed]

    # -- numbers -------------------------------------------------------------------------------------------------

    @cached_property
    def unseen(self) -> bool:
        """Whether the dataset keeps topics out of training."""
        return bool(self.scored.unseen)

    def pairs(self, record: Record, split: str, part: str = "pr_auc") -> Pairs:
        """What a round scored on a split; of seen or of unseen topics where `part` says so."""
        key = record.campaign, record.round, split
        if key not in self._pairs:
            self._pairs[key] = self.scored.pairs(record, split)
        return self.part_of(self._pairs[key], part)

    def part_of(self, pairs: Pairs, part: str) -> Pairs:
        """The pairs of all topics, or of seen or of unseen ones."""
        unseen = self.scored.unseen
        if part == "pr_auc_seen":
            return pairs.of_topics(frozenset(pairs.topics) - unseen)
        return pairs.of_topics(unseen) if part == "pr_auc_unseen" else pairs

    def yardsticks(self, record: Record) -> Yardsticks | None:
        """What a round's yardsticks came to; None where it left none, or none that can be read, which is told."""
        if record.commit not in self._yardsticks:
            self._yardsticks[record.commit] = None
            try:
                self._yardsticks[record.commit] = self.scored.yardsticks(record)
            except T2TError as error:
                log.warning("The yardsticks of %s are left out: %s", record.campaign, one_line(error))
        return self._yardsticks[record.commit]

    def chance(self, measure: str) -> float | None:
        """What a measure is by chance, on the pairs of the first run that has one; None where it is no PR-AUC."""
        split, _, metric = measure.partition(" ")
        part = "pr_auc" if metric.startswith(SIZE) else metric
        record = next((run.champion for run in self.runs if run.champion is not None), None)
        if record is None or split not in SPLITS or part not in PARTS:
            return None
        level = chance(self.pairs(record, split, part))
        return level if level == level else None

    def number(self, cell: Cell, measure: str, k: int | None = None) -> Number | None:
        """A measure of a cell over its seeds, of their champions or of round k; None where no seed has it."""
        records = self._records(cell, k)
        split, _, metric = measure.partition(" ")
        if split in SPLITS and metric in PARTS:
            if not records:
                return None
            found = self.resampler.mean([self.pairs(record, split, metric) for record in records.values()])
            return number_of(found, list(records))
        values = {seed: self._plain(record, cell, measure) for seed, record in records.items()}
        return Number.plain({seed: value for seed, value in values.items() if value is not None})

    def difference(self, cell: Cell, measure: str, k: int | None = None) -> Number | None:
        """A cell's measure less that of the cell that it is held against, on seeds that both have; None for that one
        itself, and where there is no such seed."""
        other = self.study.against(cell)
        if other.slug == cell.slug:
            return None
        ours, theirs = self._records(cell, k), self._records(other, k)
        seeds = [seed for seed in ours if seed in theirs]
        if not seeds:
            return None
        split, _, metric = measure.partition(" ")
        if split in SPLITS and metric in PARTS:
            sides = [[self.pairs(records[seed], split, metric) for seed in seeds] for records in (ours, theirs)]
            return number_of(self.resampler.difference(*sides), seeds)
        each = {
            seed: (self._plain(ours[seed], cell, measure), self._plain(theirs[seed], other, measure)) for seed in seeds
        }
        return Number.plain({seed: a - b for seed, (a, b) in each.items() if a is not None and b is not None})

    def _records(self, cell: Cell, k: int | None) -> dict[int, Record]:
        """By seed the champion, or round k, of those that have one."""
        found = {run.job.seed: run.record(k) for run in self.of_cell(cell)}
        return {seed: record for seed, record in found.items() if record is not None}

    def _plain(self, record: Record, cell: Cell, measure: str) -> float | None:
        """A number that a record has itself, or that is known of its checkpoint."""
        split, _, metric = measure.partition(" ")
        if split in SPLITS:
            return (record.test if split == "test" else record.validation).get(metric)
        if measure == "rows":
            return float(record.rows)
        if measure == "round":
            return float(record.round)
        if measure == "models":
            return 1.0
        if measure == CONTROL:
            return record.control.gain_test.value if record.control else None
        if measure == "weights":
            path = self.workspace.work / record.checkpoint / "model.safetensors"
            return path.stat().st_size / 1e6 if path.is_file() else None
        if measure == "seconds":
            # Of all rounds up to it: self-training has cost them, too.
            runs = [run for run in self.of_cell(cell) if run.job.campaign == record.campaign]
            return sum(done.seconds for done in runs[0].records if done.round <= record.round)
        return None

    def rounds(self, cell: Cell) -> list[int]:
        """The rounds that any seed of a cell has finished."""
        return sorted({record.round for run in self.of_cell(cell) for record in run.records})

    @cached_property
    def sizes(self) -> list[int]:
        """The embedding sizes, smaller than the whole, that any student was measured with."""
        metrics = (metric for run in self.runs for record in run.records for metric in record.test)
        return sorted({int(metric.removeprefix(SIZE)) for metric in metrics if metric.startswith(SIZE)})


def number_of(found: Together, seeds: Sequence[int]) -> Number | None:
    """A measured number with the names of its seeds; None where it is none."""
    value = found.mean
    if value.value != value.value:
        return None
    whole = value.low == value.low
    return Number(
        mean=value.value,
        low=value.low if whole else None,
        high=value.high if whole else None,
        seeds=dict(zip(seeds, found.each, strict=True)),
        pairs=found.pairs,
    )
