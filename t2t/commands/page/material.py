"""What the lake knows of a campaign, for a report: read once, and without videos, checkpoints or a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from t2t.campaign.config import CampaignConfig
from t2t.campaign.decision import waiting
from t2t.campaign.engine import LocalEngine
from t2t.campaign.entries import open_dataset
from t2t.campaign.find import ledger_of
from t2t.campaign.freeze import frozen_config, read_frozen
from t2t.campaign.record import SHOWN, Record, champion
from t2t.campaign.scored import Scored
from t2t.campaign.seeds import seed_ledgers, seeds_table
from t2t.campaign.tuned import encoder_of
from t2t.core.errors import T2TError, one_line
from t2t.core.workspace import Workspace
from t2t.data.coding import positions, strings
from t2t.data.dataset import Dataset
from t2t.data.embeddings.embed import Embedded
from t2t.data.labels import HUMAN, is_people
from t2t.data.pairs import Pairs
from t2t.evaluation.figures import Style, teacher_styles
from t2t.evaluation.gate import judge
from t2t.evaluation.metrics import Interval
from t2t.lake.layout import DatasetLayout
from t2t.teachers.base import Registration
from t2t.teachers.retraction import marks
from t2t.teachers.store import registered


class Missing(T2TError):
    """A part of the report cannot be made; the message says why, and what would bring it."""


@dataclass(frozen=True)
class Part:
    """A part of the page: what it shows, or why it is missing."""

    shown: Any = None
    missing: str = ""


def part(build: Callable[..., Any], *arguments: Any) -> Part:
    """What `build` returns, or why it cannot: a report of a campaign that lacks something has the rest."""
    try:
        return Part(build(*arguments))
    except (T2TError, OSError) as error:
        return Part(missing=one_line(error))


class Material:
    """One campaign as the lake has it.

    records: its finished rounds as they count now. waits: the round that waits for a person, or None.
    shown: both, oldest first. champion: as the ledger has it, or None.
    main: the round that the report is mostly about, the champion or else the last one; None before the first.
    out: the teachers that are retracted, each with the one it descends from. marks: those that were so by name.
    frozen: the configuration with which the campaign began.

    Raises T2TError when the campaign has not begun here.
    """

    def __init__(self, workspace: Workspace, campaign: str):
        self.workspace, self.campaign = workspace, campaign
        self.ledger = ledger_of(workspace, campaign)
        self.lake, self.layout = self.ledger.lake, self.ledger.layout
        self.dataset = self.layout.dataset
        self.frozen: dict[str, Any] = read_frozen(self.ledger)
        self.records = self.ledger.records()
        self.waits = waiting(self.ledger)
        self.shown: list[Record] = [*self.records, *([self.waits] if self.waits else [])]
        self.champion = champion(self.records)
        self.main = self.champion or (self.shown[-1] if self.shown else None)
        self.out = self.ledger.retracted()
        self.scored = Scored(self.lake, self.dataset)
        self.marks = marks(self.lake, self.dataset)
        # The same questions come from several parts of the page.
        self.pairs = cache(self._pairs)
        self.scores = cache(self._scores)
        self.entry = cache(self._entry)

    @property
    def resamples(self) -> int:
        return int(self.frozen["evaluation"]["resamples"])

    @property
    def measured(self) -> Record:
        """`main`. Raises Missing while there is no round."""
        if self.main is None:
            raise Missing(f"No round has been measured yet. Go on with the campaign: t2t run {self.campaign}")
        return self.main

    @cached_property
    def over_seeds(self) -> pd.DataFrame | None:
        """The rounds over the campaign's seeds; None where it has one seed."""
        ledgers = seed_ledgers(self.ledger)
        return seeds_table({k: other.records() for k, other in ledgers.items()}) if len(ledgers) > 1 else None

    # -- data --------------------------------------------------------------------------------------------------------

    @property
    def data(self) -> DatasetLayout:
        return self.scored.data

    @property
    def samples(self) -> pd.DataFrame:
        """The samples on `main`: sample_id, group, split and others, without paths."""
        return self.scored.samples

    def ids(self, split: str) -> list[str]:
        return self.scored.ids(split)

    def groups(self, split: str) -> list[str]:
        """The group of each of `ids(split)`."""
        return self.scored.groups(split)

    @property
    def topics(self) -> tuple[str, ...]:
        return self.scored.topics

    @property
    def unseen(self) -> frozenset[str]:
        return self.scored.unseen

    # -- rounds ------------------------------------------------------------------------------------------------------

    def _pairs(self, k: int, split: str) -> Pairs:
        """The pairs that round k scored on a split; the samples and topics are in the same order for every round."""
        return self.scored.pairs(self.shown[k], split)

    def health(self, record: Record) -> pd.DataFrame:
        """The health of the labels that a round was trained on (`t2t.evaluation.health`)."""
        with self.lake.read(record.commit, self.layout.file(record.round, "health.csv")) as file:
            return pd.read_csv(file)

    def difference(self, better: Pairs, worse: Pairs) -> Interval | None:
        """PR-AUC of one student less that of another, with its 95 % interval, as the gate computes it: a paired
        bootstrap over groups, on the pairs that both scored. None where no such pair is positive."""
        try:
            return judge("always", better, worse, self.resamples).difference
        except T2TError:
            return None

    # -- teachers ----------------------------------------------------------------------------------------------------

    def _entry(self, teacher: str, ref: str = "main") -> Registration | None:
        """A teacher's registration; None where it has none."""
        return registered(self.lake, self.dataset, teacher, ref)

    def is_own(self, teacher: str) -> bool:
        """Whether a teacher is a student of this campaign."""
        registration = self.entry(teacher)
        made = registration.student_of if registration is not None else None
        return made is not None and made[0] == self.campaign

    def outside(self, record: Record) -> list[str]:
        """The teachers of a round that are neither people nor students of campaigns, and that the page tells of."""
        return [name for name in record.shown() if not is_people(name) and not self.is_own(name) and name in self.named]

    @cached_property
    def named(self) -> set[str]:
        """The outside teachers that the page tells of by name: all, or those of `main` that are best on validation."""
        return set(self.main.foremost() if self.main is not None else self.frozen["teachers"][:SHOWN])

    @property
    def more(self) -> int:
        """How many outside teachers of `main` the page does not name."""
        return len(self.main.teachers) - len(self.main.shown()) if self.main is not None else 0

    @cached_property
    def teachers(self) -> list[str]:
        """`human`, the outside teachers as the campaign names them and as they came, then its own students."""
        taught = [teacher.id for record in self.shown for teacher in record.teachers]
        taught += [
            name for record in self.shown for name in (record.self_teacher, record.second_teacher) if name is not None
        ]
        names = dict.fromkeys([HUMAN, *self.frozen["teachers"], *taught])
        if self.more:
            names = {n: None for n in names if is_people(n) or n in self.named or n in self.marks or self.is_own(n)}
        return sorted(names, key=self.is_own)  # stable

    @cached_property
    def styles(self) -> dict[str, Style]:
        """Each outside teacher's colour and dashes, the same in all pictures and tables."""
        return teacher_styles(name for name in self.teachers if not is_people(name) and not self.is_own(name))

    def _scores(self, teacher: str, k: int, split: str) -> np.ndarray:
        """A teacher's confidences for the pairs of round k, as that round left them in the lake: float [P], NaN where
        it gave none."""
        return self.scored.teacher(teacher, self.shown[k], self.pairs(k, split))

    # -- embeddings and students -------------------------------------------------------------------------------------

    @cached_property
    def engine(self) -> LocalEngine:
        return LocalEngine()

    @cached_property
    def opened(self) -> Dataset:
        """The dataset as its files are now."""
        return open_dataset(self.workspace, self.dataset, lambda: self.lake)

    @cached_property
    def config(self) -> CampaignConfig:
        """The configuration with which the campaign began. Raises T2TError where this version cannot read it."""
        return frozen_config(self.ledger)

    @cached_property
    def embedded(self) -> Embedded:
        """The embeddings of all readable samples, from the store."""
        limit = self.opened.config.max_unreadable
        encoder = encoder_of(self.config, self.ledger, self.workspace.work / "campaigns" / self.config.name)
        return self.engine.embed(self.opened.samples, encoder, self.workspace.work, limit)

    def positions(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Where samples stand in `embedded`, int64; -1 where one is not."""
        return positions(strings(sample_ids), strings(self.embedded.sample_ids)).astype(np.int64)
