"""A table with a column for each topic: empty is not asked, 0 is no, 1 is yes, and numbers may stand between.

With a column `annotator` a row is what one of them says of a sample; with a column `model`, what a model's version
says, and the topics are the columns behind that one.
"""

from __future__ import annotations

import csv
from pathlib import Path

from t2t.core.errors import DataError
from t2t.core.files import atomic_file
from t2t.data.answers import number
from t2t.data.csv_files import Dialect, beginning_of
from t2t.data.formats.model import OWN, Content, Options, Reader, Sample, modality_of, name_of
from t2t.data.formats.records import csv_rows
from t2t.data.tables import plain_text

# How the column with the file may be named, in the order in which it is looked for.
MEDIA = ("path", "file", "filepath", "file_path", "filename", "file_name", "video", "image", "media", "url")
WHO, MODEL = "annotator", "model"
WORDS = {"yes": 1.0, "true": 1.0, "y": 1.0, "no": 0.0, "false": 0.0, "n": 0.0}


def read(source: Path, options: Options) -> Content:
    """A CSV file. Its topics are the columns that `Options.labels` names, else those behind the column `model`, else
    all that are none of a sample's own.

    Raises DataError, naming row and column, for a cell that is no number.
    """
    reading = Reader(source, options)
    key, topics, own = "", [], set(OWN) | {WHO, MODEL}
    comma = Dialect.of(beginning_of(source)).decimal_comma if source.is_file() else False
    for line, row in csv_rows(source, options.limits):
        if not key:
            key = _media(source, row, options)
            topics = _topics(source, row, options, own | {key})
            for column in topics:
                reading.topic(column, "header")
        record = f"row {line}"
        further = {name: cell for name, cell in row.items() if name not in {*own, key, *topics}}
        media = row[key].strip()
        if not media:
            raise DataError(source, "is empty.", line, key)
        cells = {name: row.get(name, "").strip() for name in own}
        sample = Sample(
            cells["sample_id"], media, record, cells["modality"] or modality_of(media), cells["group"], cells["split"]
        )
        sample.further = further
        sample = reading.sample(sample)
        version, who = name_of(cells[MODEL]), name_of(cells[WHO]) or options.annotator
        for column in topics:
            if (cell := row[column].strip()) != "":
                value = _value(source, cell, line, column, options.number_max, comma)
                topic = reading.topic(column, record)
                if version:
                    reading.prediction(sample.id, topic, version, value)
                else:
                    reading.answer(sample.id, topic, who, value)
        if not version and (name_of(cells[WHO]) or WHO not in row):
            reading.review(sample.id, who)
    return reading.content


def _media(source: Path, row: dict[str, str], options: Options) -> str:
    key = options.media_key or next((name for name in MEDIA if name in row), "")
    if key not in row:
        raise DataError(source, f"no column with the media ({', '.join(MEDIA)}); name it by --media-key.", 1)
    return key


def _topics(source: Path, row: dict[str, str], options: Options, own: set[str]) -> list[str]:
    if missing := [name for name in options.labels if name not in row]:
        raise DataError(source, f"column {missing[0]!r} (--labels) is missing.", 1)
    columns = list(row)
    if MODEL in row:  # as t2t writes it: behind it are the topics, and before it may be columns of the samples
        columns = columns[columns.index(MODEL) :]
    topics = list(options.labels) or [name for name in columns if name not in own]
    if not topics:
        raise DataError(source, "no column with a topic.", 1)
    plain: dict[str, str] = {}
    for name in topics:
        if plain.setdefault(plain_text(name), name) != name:
            raise DataError(source, f"columns {plain[plain_text(name)]!r} and {name!r} are one topic; keep one.", 1)
    return topics


def _value(source: Path, cell: str, line: int, column: str, most: float, comma: bool) -> float:
    try:
        if cell.lower() in WORDS:
            return WORDS[cell.lower()]
        value = float(cell.replace(",", ".") if comma else cell)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise DataError(
            source,
            f"{cell[:60]!r} is not a number from 0 to {most:g}. Say what stands for 1 by --number-max, or which "
            "columns are topics by --labels.",
            line,
            column,
        )
    return value / most


def write(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes a row for each annotator and each model version of a sample; nothing is lost."""
    answers, predictions = content.by_sample(content.answers), content.by_sample(content.predictions)
    further = list(dict.fromkeys(key for sample in content.samples.values() for key in sample.further))
    header = [*OWN, *further, WHO, MODEL, *content.topics]
    if clash := [name for name in header if header.count(name) > 1]:
        raise DataError(out, f"{clash[0]!r} is a topic and a column of the samples; rename one of them.")
    with atomic_file(out) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for sample in content.samples.values():
            own = [sample.id, sample.media, sample.modality, sample.group, sample.split]
            own += [sample.further.get(key, "") for key in further]
            lines = [(who, "", rows) for who, rows in answers[sample.id].items()]
            lines += [("", version, rows) for version, rows in predictions[sample.id].items()]
            for who, version, rows in lines or [("", "", [])]:
                values = {row.topic: number(row.value) for row in rows}
                writer.writerow([*own, who, version, *(values.get(topic, "") for topic in content.topics)])
    return [out]
