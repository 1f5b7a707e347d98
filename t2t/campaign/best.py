"""A campaign's champion as people use it: its checkpoint, its topics, and the thresholds at which it says yes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from t2t.campaign.entries import open_dataset
from t2t.campaign.find import ledger_of
from t2t.campaign.ledger import Ledger
from t2t.campaign.record import Record, champion
from t2t.core.config import parse
from t2t.core.errors import T2TError, nearest
from t2t.core.workspace import Workspace
from t2t.data.pairs import Pairs, pairs_of
from t2t.evaluation.config import PRECISION
from t2t.evaluation.thresholds import Thresholds, choose
from t2t.lake.layout import DatasetLayout
from t2t.lake.tables import read_json, read_table


@dataclass(frozen=True)
class Best:
    """The champion of a campaign that has run, found by the campaign's name. Nothing of it needs torch."""

    workspace: Workspace
    ledger: Ledger
    record: Record

    @classmethod
    def of(cls, workspace: Workspace, campaign: str) -> Best:
        """Raises T2TError where no round of the campaign has passed and stands."""
        ledger = ledger_of(workspace, campaign)
        record = champion(ledger.records())
        if record is None:
            raise T2TError(f"Campaign {campaign!r} has no champion: no round that stands has passed.")
        return cls(workspace, ledger, record)

    def check(
        self, named: Sequence[str] | None = None, precision: float | None = None, identity: str | None = None
    ) -> None:
        """Raises T2TError for what no student can be asked, before its libraries are loaded, which takes seconds."""
        _texts(named)
        if precision is not None and not 0 < precision < 1:
            raise T2TError(f"A precision lies between 0 and 1, both excluded; {precision:g} does not.")
        known = [self.record.identity, *(teacher.id for teacher in self.record.teachers)]
        if identity is not None and identity not in known:
            raise T2TError(f"This student has no identity {identity!r}.{nearest(identity, known)}")

    @property
    def dataset(self) -> str:
        return self.ledger.layout.dataset

    @property
    def checkpoint(self) -> Path:
        return self.workspace.work / self.record.checkpoint

    @cached_property
    def topics(self) -> tuple[str, ...]:
        """All topics of the campaign's dataset."""
        return open_dataset(self.workspace, self.dataset).topics

    def thresholds(self, precision: float | None = None) -> Thresholds:
        """The thresholds that the round left; those for another wished precision, or of a round from before there were
        thresholds, are chosen now, by the same pairs.

        Args:
            precision: as wished, 0..1; the campaign's own (`evaluation.precision`) when None.
        """
        self.check(precision=precision)
        record, layout = self.record, self.ledger.layout
        content = read_json(self.ledger.lake, record.commit, layout.file(record.round, "decisions.json"))
        if content is not None:
            kept = parse(Thresholds, content["thresholds"], f"round {record.round}: decisions.json")
            if precision in (None, kept.wished):
                return kept
        return choose(self._validation(), record.identity, PRECISION if precision is None else precision)

    def _validation(self) -> Pairs:
        """The validation pairs that the round scored, with the groups that the lake knows of."""
        record, lake = self.record, self.ledger.lake
        table = read_table(lake, record.commit, self.ledger.layout.pairs(record.round, "validation"))
        ids = list(dict.fromkeys(table["sample_id"].to_pylist()))
        pairs = pairs_of(table, ids, tuple(dict.fromkeys(table["topic"].to_pylist())))
        samples = read_table(
            lake, record.commit, DatasetLayout(self.dataset).table("samples"), ["sample_id", "group"]
        ).to_pandas()
        groups = dict(zip(samples["sample_id"], samples["group"], strict=True))
        return pairs.in_groups([str(groups.get(name, name)) for name in ids])


def asked_topics(best: Best, named: Sequence[str] | None) -> list[str]:
    """The topics that were named, each once, or all of the dataset's. Raises T2TError for an empty one."""
    return _texts(named) or list(best.topics)


def _texts(named: Sequence[str] | None) -> list[str]:
    topics = list(dict.fromkeys(topic.strip() for topic in named or ()))
    if "" in topics:
        raise T2TError("A topic is empty: --topics takes a text, such as --topics 'red star'.")
    return topics
