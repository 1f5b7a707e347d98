"""A campaign's champion as people use it: its checkpoint, its topics, and the thresholds at which it says yes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow.compute as pc

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
from t2t.lake import UnknownPath
from t2t.lake.layout import DatasetLayout
from t2t.lake.tables import read_json, read_table
from t2t.students.config import no_such_size


def no_champion(ledger: Ledger) -> T2TError:
    """The error of a campaign none of whose rounds can be used."""
    why = ledger.encoder_out() if ledger.records() else None
    cause = f"it looks through {why}" if why else "no round that stands has passed"
    return T2TError(f"Campaign {ledger.layout.name!r} has no champion: {cause}.")


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
            raise no_champion(ledger)
        return cls(workspace, ledger, record)

    def check(
        self,
        named: Sequence[str] | None = None,
        precision: float | None = None,
        identity: str | None = None,
        dim: int | None = None,
    ) -> None:
        """Raises T2TError for what the student cannot be asked, before its libraries are loaded, which takes
        seconds."""
        _texts(named)
        if precision is not None and not 0 < precision < 1:
            raise T2TError(f"A precision lies between 0 and 1, both excluded; {precision:g} does not.")
        known = [self.record.identity, *(teacher.id for teacher in self.record.teachers)]
        if identity is not None and identity not in known:
            raise T2TError(f"This student has no identity {identity!r}.{nearest(identity, known)}")
        if dim is not None and self.sizes and dim not in self.sizes:
            raise no_such_size(dim, self.sizes)

    def smaller(self, dim: int | None) -> int | None:
        """A size of the student's vectors where it is another one than the whole."""
        return None if self.sizes and dim == self.sizes[-1] else dim

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that the student's vectors can have, the whole last; none where its checkpoint is not here."""
        try:
            student = json.loads((self.checkpoint / "config.json").read_text(encoding="utf-8"))["student"]
            return (*map(int, student.get("matryoshka") or ()), int(student["dim"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return ()

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

    def thresholds(self, precision: float | None = None, dim: int | None = None) -> Thresholds:
        """The thresholds that the round left; those for another wished precision or a smaller size, or of a round from
        before there were thresholds, are chosen now, by the same pairs.

        Args:
            precision: as wished, 0..1; the campaign's own (`evaluation.precision`) when None.
            dim: the size of the vectors that score; the whole when None.
        """
        self.check(precision=precision, dim=dim)
        record, layout = self.record, self.ledger.layout
        content = read_json(self.ledger.lake, record.commit, layout.file(record.round, "decisions.json"))
        if content is not None:
            kept = parse(Thresholds, content["thresholds"], f"round {record.round}: decisions.json")
            precision = kept.wished if precision is None else precision
            if precision == kept.wished and self.smaller(dim) is None:
                return kept
        pairs = self._validation(self.smaller(dim))
        return choose(pairs, record.identity, PRECISION if precision is None else precision)

    def _validation(self, size: int | None) -> Pairs:
        """The validation pairs that the round scored, by a size, with the groups that the lake knows of."""
        record, lake, layout = self.record, self.ledger.lake, self.ledger.layout
        if size is None:
            table = read_table(lake, record.commit, layout.pairs(record.round, "validation"))
        else:
            try:
                table = read_table(lake, record.commit, layout.sizes(record.round, "validation"))
            except UnknownPath:
                raise T2TError(
                    f"Round {record.round} of {record.campaign} kept no scores by size, so that no thresholds can be "
                    f"chosen for size {size}: leave --dim out, or run a further round."
                ) from None
            table = table.filter(pc.equal(table["size"], size))
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
