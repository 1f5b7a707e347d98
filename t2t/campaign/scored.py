"""What rounds scored, from the lake alone: neither the dataset's files nor checkpoints nor a device are needed."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from t2t.campaign.record import Record
from t2t.core.config import parse
from t2t.data.pairs import Pairs, pairs_of, teacher_scores
from t2t.evaluation.standing import Yardsticks
from t2t.lake import Lake
from t2t.lake.layout import CampaignLayout, DatasetLayout
from t2t.lake.tables import read_json, read_table
from t2t.teachers.store import label_tables, registered

if TYPE_CHECKING:
    import pandas as pd


class Scored:
    """A dataset's samples and topics as the lake has them on `main`, and what its campaigns' rounds left of them."""

    def __init__(self, lake: Lake, dataset: str):
        self.lake, self.dataset = lake, dataset

    @property
    def data(self) -> DatasetLayout:
        return DatasetLayout(self.dataset)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The samples: sample_id, group, split and others, without paths."""
        return read_table(self.lake, "main", self.data.table("samples")).to_pandas()

    def ids(self, split: str) -> list[str]:
        return self.samples.loc[self.samples["split"] == split, "sample_id"].tolist()

    def groups(self, split: str) -> list[str]:
        """The group of each of `ids(split)`."""
        groups: list[str] = self.samples.loc[self.samples["split"] == split, "group"].astype(str).tolist()
        return groups

    @cached_property
    def topics(self) -> tuple[str, ...]:
        return tuple(self._topics)

    @cached_property
    def unseen(self) -> frozenset[str]:
        return frozenset(topic for topic, unseen in self._topics.items() if unseen)

    @cached_property
    def _topics(self) -> dict[str, bool]:
        with self.lake.read("main", self.data.topics) as file:
            return {item["topic"]: item["unseen"] for item in json.load(file)}

    def pairs(self, record: Record, split: str) -> Pairs:
        """The pairs that a round scored on a split; samples and topics are in the same order for every round."""
        path = CampaignLayout(self.dataset, record.campaign).pairs(record.round, split)
        table = read_table(self.lake, record.commit, path)
        return pairs_of(table, self.ids(split), self.topics).in_groups(self.groups(split))

    def teacher(self, teacher: str, record: Record, pairs: Pairs) -> np.ndarray:
        """A teacher's confidences for pairs, as a round left them in the lake: float32 [P], NaN where it gave none. Its
        labels are gone through table by table."""
        scores = np.full(len(pairs.sample), np.nan, np.float32)
        if registered(self.lake, self.dataset, teacher, record.commit) is None:
            return scores
        for table in label_tables(self.lake, record.commit, self.dataset, teacher):
            score = teacher_scores(pairs, table)
            scores = np.where(np.isnan(score), scores, score)
        return scores

    def yardsticks(self, record: Record) -> Yardsticks | None:
        """What the yardsticks of a round came to; None where it left none."""
        path = CampaignLayout(self.dataset, record.campaign).file(record.round, "yardsticks.json")
        content = read_json(self.lake, record.commit, path)
        return None if content is None else parse(Yardsticks, content, self.lake.uri(record.commit, path))
