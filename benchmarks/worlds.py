"""Data sets whose samples are embedded already, for `benchmarks/recipes.py`: what a round trains on and measures by.

demo, jhmdb and caltech are the registry's campaigns, prepared as `t2t run` does; youtube and sms are two sets of the
benchmark WRENCH (Zhang et al. 2021), imported: texts as vectors, whose labeling functions are the teachers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

import t2t.data.demo
from t2t.campaign.campaign import Campaign
from t2t.campaign.observer import Observer
from t2t.campaign.steps.prepare import prepare
from t2t.campaign.steps.rows import groups_of, next_rows
from t2t.commands.import_request import Request
from t2t.commands.votes_import import FORMAT, import_votes
from t2t.core.workspace import Workspace
from t2t.data.coding import Coded, code
from t2t.data.dataset import Dataset
from t2t.data.demo.crowd import make_crowd
from t2t.data.embeddings.store import Embeddings
from t2t.data.labels import HUMAN, LABEL_SCHEMA
from t2t.data.pairs import Pairs, teacher_scores
from t2t.data.scales import Scale
from t2t.teachers.store import read_labels
from t2t.training.baselines.base import Heard, Known
from t2t.training.baselines.labels import Frames, unlabeled
from t2t.training.matrix import LabelMatrix, assemble

CAMPAIGNS = ("demo", "jhmdb", "caltech")
WRENCH = ("youtube", "sms")
# Made in WRENCH's form, with more classes (`benchmarks.made_votes`).
MADE = ("words6", "words9", "pictures6", "pictures9", "videos7")
WEAK = "weak"
WORK = Path(__file__).parents[1] / "work" / "bench" / "recipes"


@dataclass
class World:
    """One data set, ready to be trained on.

    embeddings: of all samples. rows: who says what of those that may be trained on. where: int64, their positions in
    `embeddings`. groups: int64, their groups. pairs: by split, not scored; at: the positions of their samples.
    outside: by split, each teacher's confidences of the pairs, NaN where it gave none.
    dataset, labels: of a campaign's data, and all that its teachers say.
    """

    name: str
    embeddings: Embeddings
    topics: tuple[str, ...]
    unseen: frozenset[str]
    rows: Coded
    where: np.ndarray
    groups: np.ndarray
    pairs: dict[str, Pairs]
    at: dict[str, np.ndarray]
    outside: dict[str, dict[str, np.ndarray]]
    encoder: dict[str, Any] = field(default_factory=lambda: {"kind": "pixels"})
    dataset: Dataset | None = None
    labels: Mapping[str, pa.Table] = field(default_factory=dict)

    @property
    def teachers(self) -> tuple[str, ...]:
        return tuple(name for name in self.rows.teachers if name != HUMAN)

    def of(self, teachers: tuple[str, ...]) -> World:
        """The same with some of its outside teachers only."""
        names = (HUMAN, *teachers)
        coded = Coded(self.rows.sample_ids, self.rows.topics, names)
        parts = [(i, self.rows.of(self.rows.teachers.index(name))) for i, name in enumerate(names)]
        for column in ("sample", "topic", "confidence"):
            setattr(coded, column, np.concatenate([getattr(self.rows, column)[rows] for _, rows in parts]))
        lengths = [rows.stop - rows.start for _, rows in parts]
        coded.teacher = np.repeat(np.arange(len(names), dtype=np.int16), lengths)
        coded.ends = [int(end) for end in np.cumsum(lengths)]
        return replace(self, rows=coded)


def mean_frames(world: World, positions: np.ndarray) -> np.ndarray:
    """The mean of samples' frame embeddings, float32 [samples, dim]. Args: positions: in `world.embeddings`."""
    frames, mask = world.embeddings.gather(positions)
    return np.asarray(frames.sum(axis=1, dtype=np.float32) / np.maximum(mask.sum(axis=1), 1)[:, None])


def heard(world: World, split: str, teachers: tuple[str, ...]) -> Heard:
    """A split's pairs with what teachers say of them."""
    said = {name: world.outside[split][name] for name in teachers}
    return Heard(world.pairs[split], said, mean_frames(world, world.at[split]))


def known_of(world: World, scales: Mapping[str, Scale], matrix: LabelMatrix | None = None) -> tuple[Known, Frames]:
    """What rivals may learn from, and mean frame embeddings of the samples that are trained on.

    Args:
        matrix: the world's rows, raw; made when None.
    """
    matrix = assemble(world.of(world.teachers).rows) if matrix is None else matrix

    def frames(samples: np.ndarray) -> np.ndarray:
        return mean_frames(world, world.where[samples])

    train = heard(world, "train", world.teachers)
    seen = np.isin(train.pairs.topic, [i for i, name in enumerate(world.topics) if name not in world.unseen])
    rest = unlabeled(matrix, world.teachers, world.topics, frames)
    return Known(train.where(seen), heard(world, "validation", world.teachers), scales, rest), frames


def available(name: str) -> str | None:
    """Why a data set cannot be used here, or None."""
    if name == "demo" or name in MADE[:2]:
        return None
    name = {"pictures6": "caltech", "pictures9": "caltech", "videos7": "jhmdb"}.get(name, name)
    root = Path(os.environ.get("T2T_DATA", ""))
    if not os.environ.get("T2T_DATA"):
        return "T2T_DATA does not say where its files are"
    folder = root / ("wrench" if name in WRENCH else "caltech" if name == WEAK else name)
    if not folder.is_dir():
        return f"{folder} is not there"
    return None if name in WRENCH or os.environ.get("T2T_WEIGHTS") else "T2T_WEIGHTS does not say where its encoder is"


def open_world(name: str, settings: tuple[str, ...] = ()) -> World:
    """A data set by name; `weak` is caltech with its hundred weak teachers instead of its own."""
    if name == WEAK:
        return _weak(Path(os.environ["T2T_DATA"]) / "caltech" / "weak-teachers.npz")
    return _campaign(name, settings)


def _campaign(name: str, settings: tuple[str, ...] = ()) -> World:
    data = WORK / "data" if name in ("demo", *WRENCH, *MADE) else Path(os.environ["T2T_DATA"])
    place = Workspace.find(_registry(name) if name in MADE else None, data, WORK / "work")
    if name == "demo":
        t2t.data.demo.make(data / "demo")
    if name in (*WRENCH, *MADE) and not (data / name / "samples.csv").is_file():
        import_votes(place, Request(FORMAT, votes_folder(name), name))
    campaign = Campaign.open(name, place, f"{name}-bench", list(settings))
    prepare(campaign, Observer())
    main = campaign.lake.resolve("main")
    rows = next_rows(campaign, main, (HUMAN, *campaign.config.teachers))
    pairs = {split: campaign.human_pairs(split) for split in ("train", "validation", "test")}
    outside: dict[str, dict[str, np.ndarray]] = {split: {} for split in pairs}
    said = {t: read_labels(campaign.lake, main, campaign.dataset.name, t) for t in campaign.config.teachers}
    for teacher, labels in said.items():
        for split, those in pairs.items():
            outside[split][teacher] = teacher_scores(those, labels)
    return World(
        name,
        campaign.embedded.embeddings,
        campaign.dataset.topics,
        campaign.dataset.unseen,
        rows,
        campaign.positions(rows.sample_ids),
        groups_of(campaign.readable, rows.sample_ids),
        pairs,
        {split: campaign.positions(those.sample_ids) for split, those in pairs.items()},
        outside,
        campaign.config.encoder.model_dump(),
        campaign.dataset,
        said,
    )


def votes_folder(name: str) -> Path:
    """The folder of vectors, votes and gold of a data set of WRENCH, or of a made one, which is made if need be."""
    if name in WRENCH:
        return Path(os.environ["T2T_DATA"]) / "wrench" / name
    from benchmarks.made_votes import made  # it looks at worlds, too

    return made(name)


def _registry(name: str) -> Path:
    """A registry for a made world, with its campaign."""
    registry = WORK / "registry"
    content: dict[str, Any] = {"name": name, "dataset": name, "teachers": [f"{name}-functions"]}
    content |= {"encoder": {"kind": "vectors", "dim": 256}}
    for folder in ("campaigns", "datasets", "teachers"):
        (registry / folder).mkdir(parents=True, exist_ok=True)
    (registry / "campaigns" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return registry


def _weak(path: Path) -> World:
    """caltech's samples and people, and a hundred weak teachers."""
    return replace(taught_by(_campaign("caltech"), _crowd(path)), name=WEAK)


def crowd_of(world: World, count: int) -> dict[str, pa.Table]:
    """The labels of a crowd of weak teachers of the demo (so many), or of caltech's hundred."""
    if world.name == "demo":
        return _crowd(make_crowd(WORK / "data" / "demo", count))
    return _crowd(Path(os.environ["T2T_DATA"]) / "caltech" / "weak-teachers.npz")


def _crowd(path: Path) -> dict[str, pa.Table]:
    with np.load(path) as file:
        confidence, ids, topics = file["confidence"], file["sample_ids"].tolist(), file["topics"].tolist()
    found = {}
    for i, said in enumerate(confidence):
        name = f"weak-{i:02}"
        sample, topic = np.nonzero(~np.isnan(said))
        columns = [pa.array(ids).take(pa.array(sample)), pa.array(topics).take(pa.array(topic))]
        columns += [pa.repeat(pa.scalar(name), len(sample)), pa.array(said[sample, topic].astype(np.float32))]
        found[name] = pa.table(columns, schema=LABEL_SCHEMA)
    return found


def taught_by(world: World, tables: Mapping[str, pa.Table]) -> World:
    """The same samples and people with other teachers. Args: tables: what each says of all samples."""
    outside: dict[str, dict[str, np.ndarray]] = {split: {} for split in world.pairs}
    for name, labels in tables.items():
        for split, those in world.pairs.items():
            outside[split][name] = teacher_scores(those, labels)
    people = _table(world.of(()).rows)
    rows = code([people, *tables.values()], world.rows.sample_ids, world.rows.topics, (HUMAN, *tables))
    # Samples that nobody speaks of any more keep their places.
    return replace(world, rows=rows, outside=outside, labels=dict(tables))


def _table(coded: Coded) -> pa.Table:
    ids = coded.sample_ids if isinstance(coded.sample_ids, pa.Array) else pa.array(coded.sample_ids)
    names = (pa.array(coded.topics), pa.array(coded.teachers))
    columns = [ids.take(pa.array(coded.sample)), names[0].take(pa.array(coded.topic))]
    columns += [names[1].take(pa.array(coded.teacher)), pa.array(coded.confidence)]
    return pa.table(columns, schema=LABEL_SCHEMA)
