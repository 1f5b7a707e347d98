"""A dataset: samples, human annotations and topics, read from a folder and checked before anything else happens.

The files are a public contract (README, "Bring your own videos"): `samples`, `annotations`, `topics`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from t2t.core.config import Config
from t2t.core.errors import DataError, T2TError, nearest, one_line
from t2t.core.files import sha256, sha256_file
from t2t.data.annotations import mean_answer, of_pairs, read_annotations, together, trained_as
from t2t.data.columns import first_row, refuse
from t2t.data.copies import same_videos
from t2t.data.embeddings.limits import Limits, with_limits
from t2t.data.labels import HUMAN
from t2t.data.limits import TableLimits
from t2t.data.people import PeopleConfig, left_out
from t2t.data.remote.addresses import RemoteConfig, is_remote
from t2t.data.sample_paths import SamplePaths
from t2t.data.source import SourceFile
from t2t.data.tables import (
    control_character,
    plain_text,
    read_lines,
    read_table,
    refuse_bad_names,
    refuse_duplicates,
    refuse_unknown,
)
from t2t.data.vector_files import VECTORS, split_row

SPLITS = ("train", "unlabeled", "validation", "test")
MODALITIES = ("video", "image", VECTORS)
# A dataset's name is a folder of the lake.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
# A topic is a name or a sentence; what is longer is another file by mistake.
LONGEST_TOPIC = 1000


class UnseenConfig(Config):
    """The topic-split protocol: topics whose labels are kept out of training.

    Either a list, or a fraction drawn by a stable hash: a topic's lot does not depend on which other topics there are.
    """

    topics: tuple[str, ...] | None = Field(None, description="The unseen topics, by name.")
    fraction: float | None = Field(
        None, ge=0, lt=1, description="Or their share of all topics, drawn by a hash of their names."
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Of that draw.")
    by: Literal["everyone", "people"] = Field(
        "everyone",
        description="Whose labels are kept out: everyone's; or people's only, so that a student learns these topics "
        "from teachers alone, and people measure how well.",
    )

    @model_validator(mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return {"topics": value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one_way(self) -> UnseenConfig:
        if (self.topics is None) == (self.fraction is None):
            raise ValueError("give either 'topics' (a list) or 'fraction' (0 to 1)")
        return self

    def draw(self, topics: Sequence[str]) -> frozenset[str]:
        """The unseen ones among `topics`. Raises ValueError for a listed topic that does not exist."""
        if self.topics is not None:
            unknown = sorted(set(self.topics) - set(topics))
            if unknown:
                raise ValueError(f"unseen topics that are not in the topics file: {', '.join(unknown)}")
            return frozenset(self.topics)
        assert self.fraction is not None
        limit = self.fraction * 2**64
        return frozenset(t for t in topics if _stable_hash(f"{self.seed}:{t}") < limit)


def _stable_hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class DatasetConfig(Config):
    """`registry/datasets/<name>.yaml`. Paths are relative to `root`, and `root` to the data root (T2T_DATA)."""

    name: str = Field(pattern=NAME, description="The file's own name.")
    description: str = Field("", description="One line for people.")
    root: str = Field(description="Its folder, from the data root (T2T_DATA, or --data-root); ${data} of its teachers.")
    samples: str = Field(
        "samples.csv", description="Table of samples: sample_id, path, modality, group, split (CSV or Parquet)."
    )
    annotations: str = Field(
        "annotations.csv", description="People's labels: sample_id, topic, annotator, relevance (CSV or Parquet)."
    )
    topics: str = Field("topics.txt", description="The topics, one a line.")
    unseen: UnseenConfig = Field(
        UnseenConfig(fraction=0.0), description="Topics whose labels are kept out of training, to measure new ones by."
    )
    exclusive: bool | None = Field(
        None,
        description="Whether each sample has exactly one of the topics, so that the most likely one is an answer: true "
        "is checked; null: where people answered all topics of what is measured, and said yes to one each.",
    )
    max_unreadable: float = Field(0.01, ge=0, le=1, description="Share of samples that may be unreadable.")
    table_limits: TableLimits = Field(TableLimits(), description="What a table of it, or of labels, may be at most.")
    shared_videos: Literal["refuse", "allow"] = Field(
        "refuse",
        description="Whether one video may stand, under two ids, in validation or test and in another split as well. "
        "Then the student is measured on what it was trained on.",
    )
    limits: Limits = Field(Limits(), description="What decoding one file may cost; what needs more is unreadable.")
    people: PeopleConfig = Field(
        PeopleConfig(), description="Who annotates: an identity for each, and how their answers become `human`."
    )
    schemes: tuple[Literal["file", "https", "http", "s3", "gs"], ...] = Field(
        ("file",), description="Schemes that a sample's path may have; files of other machines are fetched and kept."
    )
    remote: RemoteConfig = Field(RemoteConfig(), description="How files of other machines are fetched and kept.")


@dataclass(frozen=True)
class Dataset:
    """A checked dataset.

    samples: columns sample_id, path (absolute, or an address), modality, group, split and whatever else the file had.
    human: columns sample_id, topic, confidence (float32): what people say together (`people.combine`).
    content: hex SHA-256 of the samples, annotations and topics files as they were read; hashed when needed if empty.
    answers: columns sample_id, topic, annotator, relevance (float64, null where unanswered), one row an answer; None
        where nobody knows them.
    left_out: the annotators among them whose answers do not count, since they were retracted.
    """

    config: DatasetConfig
    root: Path
    samples: pa.Table
    human: pa.Table
    topics: tuple[str, ...]
    unseen: frozenset[str]
    content: tuple[str, ...] = ()
    answers: pa.Table | None = None
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        samples, topics, unseen = (f"{len(these):,}" for these in (self.samples, self.topics, self.unseen))
        return f"Dataset({self.name!r}, {samples} samples, {topics} topics, {unseen} of them unseen)"

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def seen(self) -> tuple[str, ...]:
        return tuple(topic for topic in self.topics if topic not in self.unseen)

    @property
    def taught(self) -> tuple[str, ...]:
        """The topics whose rows by teachers may be trained on: the seen ones, or all where only people keep silent."""
        return self.topics if self.config.unseen.by == "people" else self.seen

    def split(self, *names: str) -> pa.Table:
        """The samples of the named splits, in file order."""
        for name in names:
            if name not in SPLITS:
                raise T2TError(f"Unknown split {name!r}.{nearest(name, SPLITS)}")
        return self.samples.filter(pc.is_in(self.samples["split"], value_set=pa.array(names)))

    def sample_ids(self, *splits: str) -> list[str]:
        return (self.split(*splits) if splits else self.samples)["sample_id"].to_pylist()

    @cached_property
    def copies(self) -> list[list[int]]:
        """Of each video that stands more than once, its rows in `samples`, from 0."""
        return same_videos(self.samples["path"].to_pylist())

    @property
    def machines(self) -> list[tuple[str, str]]:
        """Scheme and host of every other machine that samples are on."""
        if self.config.schemes == ("file",):
            return []
        begins = pc.extract_regex(self.samples["path"], r"^(?P<place>[a-z0-9]+://[^/?#]+)")
        places = pc.unique(pc.struct_field(begins, "place")).drop_null().to_pylist()
        return [(scheme, host) for scheme, _, host in (place.partition("://") for place in places)]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the three files' content and the topic split (not over the videos: those have their own)."""
        files = [self.root / self.config.samples, self.root / self.config.annotations, self.root / self.config.topics]
        return sha256(*(self.content or map(sha256_file, files)), *sorted(self.unseen), *self._of_people)

    @property
    def _of_people(self) -> list[str]:
        """What the fingerprint holds of how people's answers are used; nothing where that is as ever."""
        if self.config.people == PeopleConfig():
            return []
        return [json.dumps([self.config.people.model_dump(), sorted(self.left_out)])]

    @cached_property
    def identity_of(self) -> dict[str, str | None]:
        """Of each annotator the identity of their rows that may be trained on, None where there is none; those that are
        left out have theirs. Empty where annotators have no identities."""
        if not self.config.people.identities or self.answers is None:
            return {}
        return trained_as(self.config.people, self.answers, self.samples, self.seen)

    @cached_property
    def annotators(self) -> dict[str, list[str]]:
        """Of each identity of annotators that may teach, in the order of their names, whose answers it has."""
        members: dict[str, list[str]] = {}
        for name, identity in self.identity_of.items():
            if identity is not None and name not in self.left_out:
                members.setdefault(identity, []).append(name)
        return {identity: members[identity] for identity in sorted(members)}

    def people_rows(self, train: pa.Array) -> dict[str, int]:
        """The rows of `human`, and of each identity of annotators, that are of some samples and of seen topics."""
        rows = {HUMAN: len(of_pairs(self.human, train, self.seen))}
        if self.annotators and self.answers is not None:
            answers = of_pairs(self.answers.filter(self.answers["relevance"].is_valid()), train, self.seen)
            count = {row["values"]: row["counts"] for row in answers["annotator"].value_counts().to_pylist()}
            for identity, names in self.annotators.items():
                rows[identity] = sum(count.get(name, 0) for name in names)
                if len(names) > 1:  # several may have answered a pair, which is one row
                    shared = answers.filter(pc.is_in(answers["annotator"], value_set=pa.array(names, pa.string())))
                    rows[identity] = len(mean_answer(shared))
        return rows


def without(table: pa.Table, samples: Sequence[str]) -> pa.Table:
    """The rows that are of none of some samples."""
    if not samples:
        return table
    return table.filter(pc.invert(pc.is_in(table["sample_id"], value_set=pa.array(samples, pa.string()))))


def dataset_root(config: DatasetConfig, data_root: Path) -> Path:
    """A dataset's folder. Raises T2TError where there is none."""
    try:
        root = (data_root / config.root).resolve()
        is_there = root.is_dir()
    except (ValueError, OSError, RuntimeError) as error:
        # As of a sample's path.
        reason = one_line(getattr(error, "strerror", None) or error)
        written = one_line(config.root, 200)
        raise T2TError(f"Dataset {config.name!r}: root {written!r} is not a path that can be read: {reason}.") from None
    if not is_there:
        raise T2TError(
            f"Dataset {config.name!r}: folder {root} does not exist. Set T2T_DATA or --data-root to the folder that "
            f"holds {config.root!r}" + (", or make it with `t2t demo`." if config.name == "demo" else ".")
        )
    return root


def read_dataset(
    config: DatasetConfig, data_root: Path, marked: Collection[str] = (), kept: Path | None = None
) -> Dataset:
    """Reads and checks everything but the videos' content.

    Args:
        marked: identities of annotators that were retracted: their answers do not count.
        kept: a folder for what is long in the making, people's posterior, by its content.

    Raises DataError for the first fault found: unknown sample or topic, a number outside 0..1 or NaN, a duplicate,
    a group in two splits, a missing file, an empty cell. Nothing is written before all of it has been read.
    """
    root = dataset_root(config, data_root)
    files = [SourceFile(root / name) for name in (config.samples, config.annotations, config.topics)]
    limits = config.table_limits
    topics = _read_topics(files[2], limits)
    samples = with_limits(_read_samples(files[0], root, config), config.limits)
    answers = read_annotations(files[1], samples, topics, config.people, limits)
    try:
        unseen = config.unseen.draw(topics)
    except ValueError as error:
        raise T2TError(f"Dataset {config.name!r}: {error}") from None
    content = tuple(file.sha256() for file in files)
    out: list[str] = []
    if marked:
        seen = [topic for topic in topics if topic not in unseen]
        groups = trained_as(config.people, answers, samples, seen)
        out = left_out(groups, groups, marked)
    human = together(config.people, answers, out, content[1], kept)
    return Dataset(config, root, samples, human, topics, unseen, content, answers, tuple(out))


def _read_topics(file: SourceFile, limits: TableLimits) -> tuple[str, ...]:
    topics: dict[str, int] = {}
    seen: dict[str, str] = {}
    lines = read_lines(file, limits)
    if not any(line.strip() for line in lines):
        raise DataError(file.path, "no topics; write one a line.")
    for row, line in enumerate(lines, start=1):
        topic = line.strip()
        if not topic:
            raise DataError(file.path, "empty topic.", row)
        if sign := control_character(topic):
            raise DataError(file.path, f"topic {one_line(repr(topic))} has the control character {sign} in it.", row)
        if len(topic) > LONGEST_TOPIC:
            raise DataError(file.path, f"a topic of {len(topic):,} characters; {LONGEST_TOPIC:,} are the most.", row)
        if topic in topics:
            raise DataError(file.path, f"topic {topic!r} stands already in row {topics[topic]}.", row)
        plain = plain_text(topic)
        if plain in seen:
            # Nobody could tell the two apart, and each would get a part of the labels.
            raise DataError(
                file.path,
                f"topic {topic!r} differs from {seen[plain]!r} in row {topics[seen[plain]]} in spaces or Unicode form "
                "only; keep one of them.",
                row,
            )
        topics[topic], seen[plain] = row, topic
    return tuple(topics)


def _read_samples(file: SourceFile, root: Path, config: DatasetConfig) -> pa.Table:
    path = file.path
    names = ("sample_id", "path", "modality", "group", "split")
    table = read_table(file, {name: pa.string() for name in names}, config.table_limits)
    if not len(table):
        raise DataError(path, "no samples.")
    # In an id they break joins with other systems' tables; in a group they let one source into two splits.
    refuse_bad_names(path, table, "sample_id")
    refuse_bad_names(path, table, "group")
    refuse_duplicates(path, table, ["sample_id"])
    refuse_unknown(path, table, "modality", MODALITIES, "modality")
    refuse_unknown(path, table, "split", SPLITS, "split")
    frame = table.select(["group", "split"]).to_pandas()
    first = frame.groupby("group")["split"].transform("first")
    refuse(
        path,
        "group",
        (frame["split"] != first).to_numpy(),
        lambda i: (
            f"group {frame['group'][i]!r} is in two splits, {first[i]!r} and {frame['split'][i]!r}; "
            "a group lies in one split only."
        ),
    )
    paths, modalities = table["path"].to_pylist(), table["modality"].to_pylist()
    files: dict[str, str] = {}  # of numbers, which have many samples each
    places = SamplePaths(path, root, config.schemes, config.remote)

    def resolved_one(index: int, written: str) -> str:
        if modalities[index] != VECTORS:
            return places.resolve(index, written)
        file, row = split_row(written)
        if file not in files:
            files[file] = places.resolve(index, file)
            if is_remote(files[file]):
                where = first_row(path, index)
                raise DataError(path, "numbers are read from files of this machine; copy it here.", where, "path")
        return files[file] if row is None else f"{files[file]}#{row}"

    resolved = [resolved_one(index, written) for index, written in enumerate(paths)]
    return table.set_column(table.column_names.index("path"), "path", pa.array(resolved, pa.string()))
