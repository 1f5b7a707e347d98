"""What every format is read into and written from: samples, people's answers, models' predictions.

A format says no more than it says. A topic that a file does not mention for a sample was *not asked* there, unless the
format itself says that it was (a 0 in a table, one class of several that exclude each other), or whoever imports says
so (`Options.complete`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from t2t.core.errors import DataError, T2TError, one_line, told
from t2t.data.labels import POSITIVE
from t2t.data.limits import TableLimits
from t2t.data.listing import IMAGES
from t2t.data.remote import shown
from t2t.data.tables import control_character, plain_text
from t2t.data.vector_files import VECTORS, is_numbers

# Columns of the table of samples that are its own; whatever else a file says of a sample becomes a further column.
OWN = ("sample_id", "path", "modality", "group", "split")
# Who answered, where a file does not say.
NOBODY = "unnamed"
# What programs call the splits.
SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation"}
SPLITS |= {"dev": "validation", "test": "test", "testing": "test", "unlabeled": "unlabeled", "unlabelled": "unlabeled"}


@dataclass
class Sample:
    """A clip or picture.

    id: "" where the file does not say: then it is named by its media, and `named` is False.
    media: where its file is, in the words of the file it was read from. record: which record of it that was, for
    errors. group, split: "" where the file does not say. further: other columns of the table of samples. others: what
    the file may be called as well.
    """

    id: str
    media: str
    record: str = ""
    modality: str = ""
    group: str = ""
    split: str = ""
    further: dict[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    named: bool = True

    def __post_init__(self) -> None:
        if not self.id:
            self.id, self.named = self.media, False


class Answer(NamedTuple):
    """What somebody says of a pair: `who` is an annotator or a model's version, `value` a number from 0 to 1."""

    sample_id: str
    topic: str
    who: str
    value: float


@dataclass(frozen=True)
class Options:
    """What no file says of itself.

    complete: a topic that an annotator did not give to a sample they looked at is a negative of theirs.
    exclusive: a sample has one class: whoever named it denied the others.
    annotator: who answered, where the format does not say. human: the names whose labels are people's, where a format
    has labels by names alone (FiftyOne's fields). media_key: the key of a record with its file.
    labels: the columns with labels, where a table has others. rating_max, number_max: what is a relevance of 1.
    spans: whether a topic that is marked in a part of a clip holds for the clip, or by the part's share of it.
    taxonomy: whether a place in a tree is named by its last name, or by its path. store: the folder for media that are
    inside of a file; they are named by their content.
    """

    complete: bool = False
    exclusive: bool = False
    annotator: str = NOBODY
    human: tuple[str, ...] = ("ground_truth",)
    media_key: str = ""
    labels: tuple[str, ...] = ()
    rating_max: float = 5.0
    number_max: float = 1.0
    spans: str = "any"
    taxonomy: str = "leaf"
    limits: TableLimits = field(default_factory=TableLimits)
    store: Path | None = None


@dataclass
class Content:
    """All that a file says, or is to say.

    topics: each once, in order, those without an answer too. answers: people's. predictions: models'; their `who` is a
    version. reviewed: (sample, annotator) of each that somebody looked at, whether or not they gave it a topic. asked:
    the topics that a sample's task asks for, where it says so. counts: what was passed over, by what it is. remarks:
    sentences for people.
    """

    samples: dict[str, Sample] = field(default_factory=dict)
    topics: dict[str, None] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    predictions: list[Answer] = field(default_factory=list)
    reviewed: dict[tuple[str, str], None] = field(default_factory=dict)
    asked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def keep(self, samples: Collection[str]) -> None:
        """Leaves out all other samples, and what was said of them."""
        self.samples = {name: sample for name, sample in self.samples.items() if name in samples}
        self.answers = [row for row in self.answers if row.sample_id in samples]
        self.predictions = [row for row in self.predictions if row.sample_id in samples]
        self.reviewed = {key: None for key in self.reviewed if key[0] in samples}

    def rename(self, names: Mapping[str, str]) -> None:
        """Gives samples other ids; those that get one id become one sample, the first of them."""
        samples: dict[str, Sample] = {}
        for old, sample in self.samples.items():
            sample.id = names[old]
            samples.setdefault(sample.id, sample)
        self.samples = samples
        self.answers = [row._replace(sample_id=names[row.sample_id]) for row in self.answers]
        self.predictions = [row._replace(sample_id=names[row.sample_id]) for row in self.predictions]
        self.reviewed = {(names[sample], who): None for sample, who in self.reviewed}
        self.asked = {names[sample]: topics for sample, topics in self.asked.items() if sample in names}

    def positives(self) -> dict[str, list[str]]:
        """Of each sample the topics that people say are there, by their mean."""
        values: dict[tuple[str, str], list[float]] = {}
        for row in self.answers:
            values.setdefault((row.sample_id, row.topic), []).append(row.value)
        found: dict[str, list[str]] = {sample: [] for sample in self.samples}
        for (sample, topic), given in values.items():
            if sum(given) / len(given) >= POSITIVE:
                found[sample].append(topic)
        return found

    def lost(self, ids: bool = False, answers: bool = False, predictions: bool = False, below: bool = True) -> None:
        """Counts what a format that has been written does not hold: columns of the samples; ids and groups; who
        answered; predictions; relevances that are neither 0 nor 1, and, with `below`, those below 0.5."""
        values = [row.value for row in self.answers]
        told = {
            "columns of the samples": len({key for sample in self.samples.values() for key in sample.further}),
            "ids and groups of samples": len(self.samples) if ids else 0,
            "annotators' names": len({row.who for row in self.answers}) if answers else 0,
            "predictions": len(self.predictions) if predictions else 0,
            "answers that a topic is not there": sum(value < POSITIVE for value in values) if below else 0,
            "relevances from 0.5 to 1, which are 1 there": sum(POSITIVE <= value < 1 for value in values),
        }
        self.counts.update({what: count for what, count in told.items() if count})

    def refuse_columns(self, keys: Collection[str]) -> None:
        """Raises T2TError for a column of the samples that a format's records have as a key of their own."""
        for column in dict.fromkeys(key for sample in self.samples.values() for key in sample.further):
            if column in keys:
                raise T2TError(
                    f"The samples' column {column!r} is named as a key of this format; rename it, or choose another "
                    "format."
                )

    def by_sample(self, rows: Iterable[Answer]) -> dict[str, dict[str, list[Answer]]]:
        """Answers by sample and, within, by who gave them."""
        found: dict[str, dict[str, list[Answer]]] = {sample: {} for sample in self.samples}
        for row in rows:
            found[row.sample_id].setdefault(row.who, []).append(row)
        return found


class Reader:
    """Fills a Content record by record; what is wrong is told with file and record."""

    def __init__(self, path: Path, options: Options):
        self.path = path
        self.options = options
        self.content = Content()
        self.plain: dict[str, str] = {}

    def refused(self, record: str, message: str) -> DataError:
        return DataError(f"{self.path}, {record}" if record else self.path, message)

    @contextmanager
    def at(self, record: str) -> Iterator[None]:
        """Within, what breaks because a record is built otherwise than the format says is told with its name."""
        try:
            yield
        except (AttributeError, TypeError, LookupError, ValueError, OverflowError) as error:
            what = told(error)
            raise self.refused(record, f"is built otherwise than this format has it: {what}") from error

    def sample(self, sample: Sample) -> Sample:
        """Adds a sample, or finds the one of the same id. Raises DataError where that is of another file."""
        bad = not sample.id or sample.id != sample.id.strip()
        if bad or (not sample.id.isprintable() and control_character(sample.id)):
            raise self.refused(sample.record, f"the sample's id {one_line(repr(sample.id), 80)} is no name.")
        sample.group = sample.group.strip()
        if not sample.group.isprintable() and control_character(sample.group):
            raise self.refused(sample.record, f"the group {one_line(repr(sample.group), 80)} is no name.")
        there = self.content.samples.setdefault(sample.id, sample)
        if there.media != sample.media:
            raise self.refused(
                sample.record,
                f"sample {sample.id!r} is {one_line(repr(shown(sample.media)), 100)} here and "
                f"{one_line(repr(shown(there.media)), 100)} in {there.record}; each sample has one file.",
            )
        return there

    def topic(self, name: object, record: str) -> str:
        """A topic as it is kept: composed characters, single blanks, nothing invisible."""
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise self.refused(record, f"{one_line(repr(name), 80)} is no label; a text is needed.")
        text = str(name)
        topic = self.plain.get(text) or self.plain.setdefault(text, plain_text(text))
        if not topic:
            raise self.refused(record, "a label without a name.")
        if topic != text:
            self.content.counts["labels whose blanks or Unicode form were made plain"] += 1
        self.content.topics.setdefault(topic)
        return topic

    def number(self, value: object, record: str, what: str, most: float = 1.0, remedy: str = "") -> float:
        """A number from 0 to `most`, divided by it. Raises DataError for what is none."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= most:  # type: ignore[operator]
            raise self.refused(
                record, f"{what} {one_line(repr(value), 60)} is not a number from 0 to {most:g}.{remedy}"
            )
        return float(value) / most  # type: ignore[arg-type]

    def answer(self, sample_id: str, topic: str, who: str, value: float) -> None:
        self.content.answers.append(Answer(sample_id, topic, who, value))

    def prediction(self, sample_id: str, topic: str, who: str, value: float) -> None:
        self.content.predictions.append(Answer(sample_id, topic, who, value))

    def review(self, sample_id: str, who: str) -> None:
        self.content.reviewed[sample_id, who] = None


def modality_of(media: str, said: str = "") -> str:
    """video, image or vectors, as it is `said`, else by the ending. (Other programs call other things a modality.)"""
    if is_numbers(media):
        return VECTORS
    if said in ("video", "image"):
        return said
    path = media.partition("?d=")[2] or media.partition("?")[0]
    return "image" if os.path.splitext(path.replace("\\", "/"))[1].lower() in IMAGES else "video"


def name_of(who: object) -> str:
    """Somebody's name as it is kept."""
    return plain_text(str(who)) if who not in (None, "") else ""
