"""A campaign's facts: configuration, data, lake, ledger, folders. Reads only, and knows no step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from t2t.campaign.config import CampaignConfig
from t2t.campaign.encoders import with_encoder
from t2t.campaign.engine import Engine, open_engine
from t2t.campaign.entries import open_dataset, read_campaign
from t2t.campaign.facts import RoundFiles
from t2t.campaign.find import NOTE, check_lake
from t2t.campaign.freeze import read_frozen
from t2t.campaign.ledger import Ledger
from t2t.campaign.lineup import Lineup
from t2t.campaign.record import Record, champion
from t2t.campaign.tuned import encoder_of
from t2t.core.errors import T2TError, expect
from t2t.core.locks import Exclusive
from t2t.core.workspace import Workspace
from t2t.data.coding import codes, positions, strings
from t2t.data.dataset import Dataset
from t2t.data.embeddings.config import EncoderConfig, TimmConfig
from t2t.data.embeddings.embed import Embedded
from t2t.data.embeddings.vectors import check_samples
from t2t.data.pairs import Pairs, human_pairs, pairs_of
from t2t.lake import Lake, open_lake
from t2t.lake.layout import CampaignLayout
from t2t.lake.tables import read_table
from t2t.teachers import TeacherContext
from t2t.teachers.register import Registrar
from t2t.tuning.needs import tuning_of


class Campaign:
    """One campaign, as its configuration, its data and its lake have it.

    Args:
        engine: where videos are embedded and labeled and students trained; the configuration's when None.

    Attributes:
        folder: the campaign's own in the work folder. layout: its paths and keys in the lake.
        lock: held by the process that works on the campaign; `with campaign.lock` raises Busy, naming host and process,
            where another one does.
    """

    def __init__(self, config: CampaignConfig, workspace: Workspace, engine: Engine | None = None):
        self._given = with_encoder(config, workspace)
        self.workspace = workspace
        self.engine = engine or open_engine(config.engine)
        self.folder = workspace.work / "campaigns" / config.name
        self.layout = CampaignLayout(config.dataset, config.name)
        self.lock = Exclusive(self.folder / "run.lock", f"Campaign {config.name!r}")
        self._said: set[str] = set()

    @classmethod
    def open(
        cls,
        campaign: str,
        workspace: Workspace | None = None,
        name: str | None = None,
        settings: Sequence[str] = (),
        engine: Engine | None = None,
    ) -> Campaign:
        """A campaign of the registry.

        Args:
            workspace: its folders; found as the command line does when None (`Workspace.find`).
            name: run it under another name. settings: changes, as `training.steps=500`.

        Raises T2TError for an unknown campaign or key, naming the nearest one.
        """
        if isinstance(settings, str):
            raise T2TError(f"settings is a list: settings=[{settings!r}].")
        expect(settings, (list, tuple), "settings is a list of texts, such as ['training.steps=500']")
        for setting in settings:
            expect(setting, str, "A setting is a text, such as 'training.steps=500'")
        place = Workspace.or_found(workspace)
        return cls(read_campaign(place, campaign, name, list(settings)), place, engine)

    def __repr__(self) -> str:
        return f"Campaign({self._given.name!r}, dataset {self._given.dataset!r}, in {self.folder})"

    @cached_property
    def config(self) -> CampaignConfig:
        """The configuration as it was given; of a campaign that began before there were recipes, without one."""
        given = self._given
        if given.recipe == "auto" and (self.folder / NOTE).is_file():
            frozen = read_frozen(self.ledger)
            if frozen.get("recipe") == "manual":
                return given.model_copy(update={"recipe": "manual"})
        return given

    def is_news(self, line: str) -> bool:
        """Whether something is said for the first time: what holds in every round is told once a run."""
        news = line not in self._said
        self._said.add(line)
        return news

    # -- the lake ------------------------------------------------------------------------------------------------

    @cached_property
    def lake(self) -> Lake:
        check_lake(self.folder, self._given.lake)
        return open_lake(self._given.lake, self.workspace.work)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.lake, self._given.dataset, self._given.name)

    @cached_property
    def lineup(self) -> Lineup:
        """Who teaches a round, and as whom its student is asked."""
        return Lineup(self.config, self.ledger)

    def registrar(self, branch: str = "main") -> Registrar:
        """What brings teachers' labels of this campaign's dataset into the lake, on a branch."""
        return Registrar(self.lake, self.dataset, self.workspace.work, branch, self.engine.label)

    def scored_pairs(self, record: Record, split: str) -> Pairs:
        """The scored pairs that a round left in the lake, for `validation` or `test`."""
        table = read_table(self.lake, record.commit, self.layout.pairs(record.round, split))
        return self.pairs_of(table, split)

    def pairs_of(self, table: pa.Table, split: str) -> Pairs:
        """The pairs of a table of scored ones, over the same samples in the same order for every student."""
        return pairs_of(table, self.ids(split), self.dataset.topics).in_groups(self._groups(split))

    # -- data ----------------------------------------------------------------------------------------------------

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset; reading it checks it."""
        return open_dataset(self.workspace, self.config.dataset, lambda: self.lake)

    @cached_property
    def context(self) -> TeacherContext:
        return TeacherContext(self.dataset, self.workspace.work, self.engine.device)

    @cached_property
    def encoder(self) -> EncoderConfig:
        """The frame encoder that its rounds are trained behind: as configured, or what was tuned of it."""
        tuned = tuning_of(self.config.encoder) is not None
        return encoder_of(self.config, self.ledger, self.folder) if tuned else self.config.encoder

    @cached_property
    def embedded(self) -> Embedded:
        """The embeddings of all readable samples; computed once, then read from the store."""
        self.check_samples()
        dataset, work = self.dataset, self.workspace.work
        return self.engine.embed(dataset.samples, self.encoder, work, dataset.config.max_unreadable)

    @property
    def tuned_weights(self) -> Path | None:
        """The file of its tuned encoder's weights, which every checkpoint carries; None where it is as configured."""
        tuned = self.encoder
        return Path(str(tuned.weights)) if isinstance(tuned, TimmConfig) and tuned is not self.config.encoder else None

    def forget_encoder(self) -> None:
        """After another encoder was tuned: embeddings, and which samples have some, are asked for anew."""
        for name in ("encoder", "embedded", "_embedded_ids", "readable"):
            self.__dict__.pop(name, None)

    def check_samples(self) -> None:
        """Raises T2TError where the frame encoder cannot take the dataset's samples; embeds nothing."""
        if self.is_news("samples are checked"):
            check_samples(self.dataset.samples, self.config.encoder)

    @cached_property
    def _embedded_ids(self) -> pa.Array:
        return pa.array(self.embedded.sample_ids, pa.string())

    @cached_property
    def readable(self) -> pa.Table:
        """The readable samples, in file order."""
        samples = self.dataset.samples
        return samples.filter(pa.array(codes(samples["sample_id"], self._embedded_ids) >= 0))

    def samples(self, *splits: str) -> pa.Table:
        """The readable samples of some splits, in file order."""
        return self.readable.filter(pc.is_in(self.readable["split"], value_set=pa.array(splits)))

    def ids(self, *splits: str) -> list[str]:
        """The readable samples' ids of some splits, in file order."""
        ids: list[str] = self.samples(*splits)["sample_id"].to_pylist()
        return ids

    def human_pairs(self, split: str) -> Pairs:
        """The human-labeled pairs of a split, not scored yet."""
        return human_pairs(self.dataset.human, self.ids(split), self.dataset.topics).in_groups(self._groups(split))

    def _groups(self, split: str) -> list[str]:
        groups: list[str] = self.samples(split)["group"].to_pylist()
        return groups

    def positions(self, sample_ids: Sequence[str] | Any) -> np.ndarray:
        """Where samples stand in `embedded`, int64. Raises T2TError for one that has no embedding."""
        places = positions(strings(sample_ids), self._embedded_ids).astype(np.int64)
        if (places < 0).any():
            raise T2TError(
                f"Sample {sample_ids[int(places.argmin())]!r} has no embedding: it was removed or is unreadable."
            )
        return places

    # -- rounds --------------------------------------------------------------------------------------------------

    def files(self, k: int) -> RoundFiles:
        """The files of round k in the work folder."""
        return RoundFiles(self.folder / f"round-{k:03}")

    def champion(self) -> Record | None:
        """The best round that passed and stands, by PR-AUC on validation; None before there is one."""
        return champion(self.ledger.records())

    def checkpoint(self, record: Record) -> Path:
        """The folder of a round's student: `t2t.load_student(campaign.checkpoint(record))`."""
        return self.workspace.work / record.checkpoint

    def seed(self, k: int) -> int:
        """Every round draws its own numbers, so that a rejected round is not tried again just as it was."""
        return self.config.seed * 1000 + k
