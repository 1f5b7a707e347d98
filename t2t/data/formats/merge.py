"""What was read from another program's file, as a dataset's tables: a new dataset's, or added to those that are there.

Nothing that is there is changed by adding: topics, samples and answers are added behind it. The tables are written
beside their places, read back by the dataset's own reader, and only then put there.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from t2t.core.errors import T2TError, listed, one_line
from t2t.core.files import atomic_file, sha256, staging
from t2t.data.columns import is_parquet
from t2t.data.dataset import LONGEST_TOPIC, DatasetConfig, read_dataset
from t2t.data.formats.model import OWN, Answer, Content
from t2t.data.formats.records import csv_rows
from t2t.data.labels import HUMAN, POSITIVE
from t2t.data.limits import TableLimits
from t2t.data.tables import plain_text, read_lines, read_table

ANNOTATIONS = ("sample_id", "topic", "annotator", "relevance")
TEACHER = ("sample_id", "topic", "confidence")
# The folder of a dataset in which label files of teachers are.
TEACHERS = "teachers"

Cells = dict[str, str]
Given = dict[tuple[str, str, str], float]
# None: was shown the pair, and did not answer.
Answers = dict[tuple[str, str, str], float | None]
Labels = dict[tuple[str, str], float]


@dataclass
class Tables:
    """A dataset's tables, row by row.

    samples: by id, a cell a column. annotations: relevance by (sample, topic, annotator). noted: of the annotations'
    file the cells of its further columns, by the same. teachers: of each label file, by the teacher's id, confidence by
    (sample, topic). versions: what a teacher's id was called where it comes from.
    """

    samples: dict[str, Cells] = field(default_factory=dict)
    topics: dict[str, None] = field(default_factory=dict)
    annotations: Answers = field(default_factory=dict)
    noted: dict[tuple[str, str, str], Cells] = field(default_factory=dict)
    teachers: dict[str, Labels] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: DatasetConfig, root: Path) -> Tables:
        """Those of a dataset that is there and has been read without an error. Of teachers, none."""
        tables = cls()
        tables.samples = {row["sample_id"]: row for row in raw_rows(root / config.samples, config.table_limits)}
        tables.topics = dict.fromkeys(line.strip() for line in read_lines(root / config.topics, config.table_limits))
        columns = {name: pa.string() for name in ANNOTATIONS[:3]} | {"relevance": pa.float64()}
        rows = read_table(root / config.annotations, columns, config.table_limits, empty=["relevance"])
        keys = list(zip(*(rows[name].to_pylist() for name in ANNOTATIONS[:3]), strict=True))
        tables.annotations = dict(zip(keys, rows["relevance"].to_pylist(), strict=True))
        if further := [name for name in rows.column_names if name not in ANNOTATIONS]:
            cells = raw_rows(root / config.annotations, config.table_limits)
            tables.noted = {
                key: {name: row.get(name, "") for name in further} for key, row in zip(keys, cells, strict=True)
            }
        return tables

    @staticmethod
    def labels(file: Path) -> Labels:
        """A teacher's label file."""
        rows = read_table(file, {"sample_id": pa.string(), "topic": pa.string(), "confidence": pa.float64()})
        pairs = zip(*(rows[name].to_pylist() for name in TEACHER[:2]), strict=True)
        return dict(zip(pairs, rows["confidence"].to_pylist(), strict=True))

    def pairs(self) -> tuple[int, int]:
        """Pairs that people answered, and those of them that are positive (the annotators' mean is 0.5 or more)."""
        sums: dict[tuple[str, str], list[float]] = {}
        for (sample, topic, _), value in self.annotations.items():
            if value is None:
                continue
            total = sums.setdefault((sample, topic), [0.0, 0.0])
            total[0] += value
            total[1] += 1
        return len(sums), sum(total / count >= POSITIVE for total, count in sums.values())


def raw_rows(path: Path, limits: TableLimits) -> list[Cells]:
    """The cells of a table as they stand there: `007` stays so."""
    if is_parquet(path):
        rows = pd.read_parquet(path).to_dict("records")
        return [{str(key): _text(value) for key, value in row.items()} for row in rows]
    return [row for _, row in csv_rows(path, limits)]


def _text(value: Any) -> str:
    return "" if value is None or (isinstance(value, float) and pd.isna(value)) else str(value)


# -- what was read ---------------------------------------------------------------------------------------------------


def plain_topics(content: Content, known: Iterable[str]) -> dict[str, str]:
    """Of each topic of `content` its name in the dataset: that of a topic there that nobody could tell from it (Unicode
    form, blanks). Raises T2TError for one that is too long."""
    names = {plain_text(topic): topic for topic in known}
    found = {}
    for topic in content.topics:
        if len(topic) > LONGEST_TOPIC:
            raise T2TError(
                f"Label {one_line(repr(topic), 60)} has {len(topic):,} characters; {LONGEST_TOPIC:,} are the most. Is "
                "it a text rather than a label?"
            )
        found[topic] = names.setdefault(plain_text(topic), topic)
    return found


def answers_of(content: Content, topics: Mapping[str, str], complete: bool, exclusive: bool) -> tuple[Given, list[str]]:
    """People's answers by (sample, topic, annotator), and sentences on what was decided.

    With `complete` a topic that an annotator did not give to a sample they looked at is 0, of those that its task asked
    for, or of all topics of the content. With `exclusive`, likewise, where they gave a positive one.
    """
    found: Given = {}
    counts: Counter[str] = Counter()
    for row in content.answers:
        key = (row.sample_id, topics[row.topic], row.who)
        if found.get(key, row.value) != row.value:
            counts["differ"] += 1
        found[key] = row.value
    if complete or exclusive:
        every = tuple(dict.fromkeys(topics.values()))
        positive = {(sample, who) for (sample, _, who), value in found.items() if value >= POSITIVE}
        for sample, who in content.reviewed:
            if complete or (sample, who) in positive:
                for topic in content.asked.get(sample, ()) if sample in content.asked else every:
                    name = topics.get(topic, topic)
                    if (sample, name, who) not in found:
                        found[sample, name, who] = 0.0
                        counts["added"] += 1
    told = []
    if counts["differ"]:
        told.append(
            f"{counts['differ']:,} answers differ from the annotator's own to the same pair; the last one counts."
        )
    if counts["added"]:
        told.append(f"{counts['added']:,} answers are 0 since you said that what is not there was denied.")
    return found, told


def predictions_of(
    rows: Sequence[Answer], topics: Mapping[str, str], renamed: Mapping[str, str]
) -> tuple[dict[str, Labels], dict[str, str]]:
    """Labels by teacher and pair, and the version that each teacher's id stands for.

    Raises T2TError for a version that says two things of one pair.
    """
    versions = list(dict.fromkeys(row.who for row in rows))
    ids = teacher_ids(versions, renamed)
    labels: dict[str, Labels] = {ids[version]: {} for version in versions}
    for row in rows:
        pair = (row.sample_id, topics[row.topic])
        of = labels[ids[row.who]]
        if of.setdefault(pair, row.value) != row.value:
            raise T2TError(
                f"Model version {row.who!r} says {of[pair]:g} and {row.value:g} of sample {pair[0]!r} and topic "
                f"{pair[1]!r}; keep one of the two in the file."
            )
    return labels, {ids[version]: version for version in versions}


def teacher_ids(versions: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """An id that a teacher may have for each version: the version itself where it can be one, else what is left of it
    with a hash of the whole, so that it does not depend on which others there are."""
    if unknown := [version for version in renamed if version not in versions]:
        raise T2TError(f"--teacher {unknown[0]}=...: no such version in there. Versions: {listed(versions) or 'none'}.")
    found: dict[str, str] = {}
    for version in versions:
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in version).strip("._-")
        mended = plain != version or len(version) > 64 or version == HUMAN
        clash = any(other.casefold() == version.casefold() for other in versions if other != version)
        name = f"{plain[:55] or 'model'}-{sha256(version)[:8]}" if mended or clash else version
        found[version] = renamed.get(version, name)
    twice = [version for version, name in found.items() if list(found.values()).count(name) > 1]
    if twice:
        raise T2TError(f"Versions {listed(twice)} would be one teacher; give them ids of their own by --teacher.")
    return found


# -- writing ---------------------------------------------------------------------------------------------------------


def write_tables(tables: Tables, before: Tables, config: DatasetConfig, root: Path, data_root: Path) -> list[Path]:
    """Writes those of a dataset's files that differ from `before`, once the dataset's own reader has taken them.

    Returns: the files that were written.

    Raises DataError where it does not take them; then nothing is written.
    """
    columns = dict.fromkeys([*OWN, *(name for row in tables.samples.values() for name in row)])
    further = dict.fromkeys(name for cells in tables.noted.values() for name in cells)
    # In this order what is there stays whole, should it end between two: each next one names things of those before.
    files: dict[str, tuple[bool, Sequence[str], Iterable[Sequence[str]]]] = {
        config.samples: (
            list(tables.samples.items()) != list(before.samples.items()),
            list(columns),
            ([row.get(name, "") for name in columns] for row in tables.samples.values()),
        ),
        config.annotations: (
            tables.annotations != before.annotations,
            [*ANNOTATIONS, *further],
            (
                [*key, "" if value is None else number(value), *(tables.noted.get(key, {}).get(n, "") for n in further)]
                for key, value in tables.annotations.items()
            ),
        ),
    }
    rows: Iterable[Sequence[str]]
    for teacher, labels in tables.teachers.items():
        rows = ([*pair, number(value)] for pair, value in labels.items())
        files[f"{TEACHERS}/{teacher}.csv"] = (labels != before.teachers.get(teacher), TEACHER, rows)
    changed = [config.topics] if list(tables.topics) != list(before.topics) else []
    with staging(root) as folder:
        (folder / config.topics).write_text("".join(f"{topic}\n" for topic in tables.topics), encoding="utf-8")
        for name, (differs, header, rows) in files.items():
            if differs or not name.startswith(f"{TEACHERS}/"):
                _write(folder / name, header, rows)
            if differs or not (root / name).is_file():
                changed.append(name)
        names = {key: f"{folder.name}/{getattr(config, key)}" for key in ("samples", "annotations", "topics")}
        try:
            read_dataset(config.model_copy(update=names), data_root)
        except T2TError as error:
            raise T2TError(str(error).replace(str(folder), str(root))) from None
        for name in changed:
            with atomic_file(root / name) as temporary:
                os.replace(folder / name, temporary)
    return [root / name for name in changed]


def number(value: float) -> str:
    """A number that is read back as it is."""
    return repr(float(value)).removesuffix(".0")


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_parquet(path):
        frame = pd.DataFrame([list(row) for row in rows], columns=list(header), dtype=str)
        for name in {"relevance", "confidence"} & set(header):
            frame[name] = frame[name].replace("", "nan").astype(float)
        frame.to_parquet(path, index=False)
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
