"""Data sets whose samples are embedded already, for `benchmarks/recipes.py`: what a round trains on and measures by.

demo, jhmdb and caltech are the registry's campaigns, prepared as `t2t run` does; youtube and sms are two sets of the
benchmark WRENCH (Zhang et al. 2021), texts as vectors, whose labeling functions are the teachers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import t2t.data.demo
from t2t.campaign.campaign import Campaign
from t2t.campaign.observer import Observer
from t2t.campaign.steps.prepare import prepare
from t2t.campaign.steps.rows import groups_of, next_rows
from t2t.core.workspace import Workspace
from t2t.data.coding import Coded, code
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
WEAK = "weak"
WORK = Path(__file__).parents[1] / "work" / "bench" / "recipes"


@dataclass
class World:
    """One data set, ready to be trained on.

    embeddings: of all samples. rows: who says what of those that may be trained on. where: int64, their positions in
    `embeddings`. groups: int64, their groups. pairs: by split, not scored; at: the positions of their samples.
    outside: by split, each teacher's confidences of the pairs, NaN where it gave none.
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
    if name == "demo":
        return None
    root = Path(os.environ.get("T2T_DATA", ""))
    if not os.environ.get("T2T_DATA"):
        return "T2T_DATA does not say where its files are"
    folder = root / ("wrench" if name in WRENCH else "caltech" if name == WEAK else name)
    if not folder.is_dir():
        return f"{folder} is not there"
    return None if name in WRENCH or os.environ.get("T2T_WEIGHTS") else "T2T_WEIGHTS does not say where its encoder is"


def open_world(name: str, settings: tuple[str, ...] = ()) -> World:
    """A data set by name; `weak` is caltech with its hundred weak teachers instead of its own."""
    if name in WRENCH:
        return _wrench(Path(os.environ["T2T_DATA"]) / "wrench" / name, name)
    if name == WEAK:
        return _weak(Path(os.environ["T2T_DATA"]) / "caltech" / "weak-teachers.npz")
    return _campaign(name, settings)


def _campaign(name: str, settings: tuple[str, ...] = ()) -> World:
    data = WORK / "data" if name == "demo" else Path(os.environ["T2T_DATA"])
    if name == "demo":
        t2t.data.demo.make(data / "demo")
    campaign = Campaign.open(name, Workspace.find(None, data, WORK / "work"), f"{name}-bench", list(settings))
    prepare(campaign, Observer())
    main = campaign.lake.resolve("main")
    rows = next_rows(campaign, main, (HUMAN, *campaign.config.teachers))
    pairs = {split: campaign.human_pairs(split) for split in ("train", "validation", "test")}
    outside: dict[str, dict[str, np.ndarray]] = {split: {} for split in pairs}
    for teacher in campaign.config.teachers:
        labels = read_labels(campaign.lake, main, campaign.dataset.name, teacher)
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
    )


def _weak(path: Path) -> World:
    """caltech's samples and people, and a hundred weak teachers."""
    world = _campaign("caltech")
    with np.load(path) as file:
        confidence, ids, topics = file["confidence"], file["sample_ids"].tolist(), file["topics"].tolist()
    names = tuple(f"weak-{i:02}" for i in range(len(confidence)))
    human = world.of(())
    tables = [_table(human.rows)]
    outside: dict[str, dict[str, np.ndarray]] = {split: {} for split in world.pairs}
    for name, said in zip(names, confidence, strict=True):
        sample, topic = np.nonzero(~np.isnan(said))
        columns = [pa.array(ids).take(pa.array(sample)), pa.array(topics).take(pa.array(topic))]
        columns += [pa.repeat(pa.scalar(name), len(sample)), pa.array(said[sample, topic].astype(np.float32))]
        tables.append(pa.table(columns, schema=LABEL_SCHEMA))
        for split, those in world.pairs.items():
            outside[split][name] = teacher_scores(those, tables[-1])
    rows = code(tables, world.rows.sample_ids, world.rows.topics, (HUMAN, *names))
    return replace(world, name=WEAK, rows=rows, outside=outside)


def _table(coded: Coded) -> pa.Table:
    ids = coded.sample_ids if isinstance(coded.sample_ids, pa.Array) else pa.array(coded.sample_ids)
    names = (pa.array(coded.topics), pa.array(coded.teachers))
    columns = [ids.take(pa.array(coded.sample)), names[0].take(pa.array(coded.topic))]
    columns += [names[1].take(pa.array(coded.teacher)), pa.array(coded.confidence)]
    return pa.table(columns, schema=LABEL_SCHEMA)


def _wrench(folder: Path, name: str) -> World:
    """Texts as one frame each; a labeling function that votes for a class says 1 of it and 0 of the others. Of the
    human-labeled part three quarters are trained on, and every fourth row is for validation."""
    classes = (folder / "classes.txt").read_text(encoding="utf-8").split()
    vectors, gold, ids, votes = [], [], [], []
    for split in ("train", "valid", "test"):
        vectors.append(np.load(folder / f"{split}_vectors.npy", allow_pickle=False))
        gold.append(np.loadtxt(folder / f"{split}_gold.csv", skiprows=1, delimiter=",", dtype=int, ndmin=1))
        votes.append(np.loadtxt(folder / f"{split}_votes.csv", skiprows=1, delimiter=",", dtype=int, ndmin=2))
        ids += [f"{split}-{i}" for i in range(len(vectors[-1]))]
    starts = np.cumsum([0, *map(len, vectors)])
    truth, votes_of = np.concatenate(gold), np.concatenate(votes)
    valid = np.arange(starts[1], starts[2])
    parts = {
        "train": valid[valid % 4 != 0],
        "validation": valid[valid % 4 == 0],
        "test": np.arange(starts[2], starts[3]),
    }
    trained = np.concatenate([np.arange(starts[1]), parts["train"]])

    def table(teacher: str, samples: np.ndarray, said: np.ndarray) -> pa.Table:
        samples, said = samples[said >= 0], said[said >= 0]
        columns = [pa.array(ids).take(pa.array(np.repeat(samples, len(classes))))]
        columns += [
            pa.array(np.tile(classes, len(samples))),
            pa.repeat(pa.scalar(teacher), len(samples) * len(classes)),
        ]
        answers = said[:, None] == np.arange(len(classes))
        return pa.table([*columns, pa.array(answers.ravel().astype(np.float32))], schema=LABEL_SCHEMA)

    tables = [table(HUMAN, parts["train"], truth[parts["train"]])]
    names = tuple(f"lf{i:03}" for i in range(votes_of.shape[1]))
    pairs = {split: _class_pairs(ids, rows, truth, classes) for split, rows in parts.items()}
    outside: dict[str, dict[str, np.ndarray]] = {split: {} for split in pairs}
    for i, teacher in enumerate(names):
        tables.append(table(teacher, np.arange(len(ids)), votes_of[:, i]))
        for split, those in pairs.items():
            outside[split][teacher] = teacher_scores(those, tables[-1])
    names = tuple(t for t, labels in zip(names, tables[1:], strict=True) if _speaks(labels, ids, trained))
    rows = code(tables, [ids[i] for i in trained], classes, (HUMAN, *names))
    embeddings = Embeddings.of([vector[None] for vector in np.concatenate(vectors)])
    return World(name, embeddings, tuple(classes), frozenset(), rows, trained, trained, pairs, parts, outside)


def _speaks(labels: pa.Table, ids: list[str], trained: np.ndarray) -> bool:
    """Whether a labeling function says anything of what is trained on."""
    return bool(pc.any(pc.is_in(labels["sample_id"], value_set=pa.array([ids[i] for i in trained]))).as_py())


def _class_pairs(ids: list[str], rows: np.ndarray, truth: np.ndarray, classes: list[str]) -> Pairs:
    sample, topic = np.repeat(np.arange(len(rows)), len(classes)), np.tile(np.arange(len(classes)), len(rows))
    target = (truth[rows][sample] == topic).astype(np.float32)
    names = tuple(ids[i] for i in rows)
    return Pairs(names, tuple(classes), sample, topic, target, np.full(len(target), np.nan, np.float32))
