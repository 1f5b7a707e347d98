"""A Hugging Face `datasets` folder: what `save_to_disk` writes, or Parquet files; a folder of pictures with a table.

Their Arrow and Parquet files are read as what they are. No code of a folder is ever run: a dataset that is a script is
refused. Pictures that are inside of a file are written out, named by their content.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.core.errors import DataError, T2TError, listed, one_line
from t2t.core.files import atomic_file, atomic_folder, sha256
from t2t.core.progress import progress
from t2t.data.formats import folders
from t2t.data.formats.media import fetched
from t2t.data.formats.model import OWN, SPLITS, Content, Options, Reader, Sample, modality_of, name_of
from t2t.data.formats.records import csv_rows, json_file, json_records

MEDIA = ("image", "video", "img", "file_name", "path", "file", "filepath")
# Of columns that can hold one modality only, which.
SHOWN = {"image": "image", "img": "image", "video": "video"}
# Columns of t2t's own, which hold all that it knows.
ANSWERS, PREDICTIONS = "annotations", "predictions"
# How a file begins, and the ending that it gets.
BEGINNINGS = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"BM": ".bmp"}
ROWS = 1024
MOST = " Say what stands for 1 by --number-max."


def read(source: Path, options: Options) -> Content:
    """Its labels are the columns with class labels (one, or a list), or those that `Options.labels` names: class
    names, lists of such, or a number or truth value of the topic that the column is named as.

    What is not named of a sample was not asked, unless `Options.exclusive` or `complete` says so. -1 is no label.

    Raises T2TError for a folder without data, or with a script instead of it.
    """
    if not source.is_dir():
        raise T2TError(f"{source}: is no folder; name the one that save_to_disk wrote, or that has the Parquet files.")
    files = list(_files(source))
    if not files:
        if (table := _table(source)) is not None:
            return _with_table(source, table, options)
        scripts = sorted(path.name for path in source.glob("*.py"))
        if scripts:
            raise T2TError(
                f"{source}: has a script ({listed(scripts, 3)}) and no data; scripts are not run. Load it where you "
                "trust it, and save it by save_to_disk."
            )
        return folders.read(source, options)
    reading = _Reading(source, options)
    with progress(f"Reading {source.name}", len(files), "files") as advance:
        for split, path, features in files:
            reading.file(split, path, features)
            advance()
    return reading.settle()


# -- files -----------------------------------------------------------------------------------------------------------

Features = dict[str, Any]


def _files(source: Path) -> Iterator[tuple[str, Path, Features]]:
    """(split, file, features) of each file with rows; the split is "" where nothing says it."""
    if (source / "dataset_dict.json").is_file():
        for split in sorted(path.parent.name for path in source.glob("*/state.json")):
            yield from _saved(source / split, split)
    elif (source / "state.json").is_file():
        yield from _saved(source, "")
    else:
        for path in sorted(source.rglob("*.parquet")):
            relative = path.relative_to(source)
            words = [*relative.parts[:-1], *re.split(r"[-_.]", path.name)]
            split = next((word for word in words if word.lower() in SPLITS), "")
            try:
                metadata = pq.read_schema(path).metadata or {}
                told = json.loads(metadata.get(b"huggingface", b"{}"))
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DataError(path, f"cannot be read: {one_line(error, 120)}.") from None
            yield split, path, (told.get("info") or {}).get("features") or {}


def _saved(folder: Path, split: str) -> Iterator[tuple[str, Path, Features]]:
    state = json_file(folder / "state.json", Options().limits)
    info = json_file(folder / "dataset_info.json", Options().limits)
    if not isinstance(state, dict) or not isinstance(info, dict):
        raise DataError(folder / "state.json", "is built otherwise than this format has it: it is no object.")
    for entry in state.get("_data_files") or []:
        name = str(entry.get("filename"))
        if Path(name).name != name:
            raise DataError(folder / "state.json", f"{name!r} is no file's name.")
        # A dataset that was saved without splits remembers which one it was.
        yield split or str(state.get("_split") or ""), folder / name, info.get("features") or {}
    if state.get("_indices_data_files"):
        raise DataError(folder / "state.json", "has a table of indices; save it again by save_to_disk.")


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(ROWS)
            return
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield from stream
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, f"cannot be read: {one_line(error, 120).rstrip('.')}.") from None


# -- rows ------------------------------------------------------------------------------------------------------------


def _classes(feature: Any) -> list[str] | None:
    """The names of a feature that is a class label, or a list of such."""
    if isinstance(feature, list) and len(feature) == 1:
        return _classes(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature.get("names") or []]
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        return _classes(feature.get("feature"))
    return None


class _Reading(Reader):
    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.written: Counter[str] = Counter()
        self.used: dict[str, None] = {}

    def file(self, split: str, path: Path, features: Features) -> None:
        number = 0
        for batch in _batches(path):
            names = batch.schema.names
            media = self._media(names, path)
            classes = {name: found for name in names if (found := _classes(features.get(name))) is not None}
            labels = list(self.options.labels) or ([ANSWERS] if ANSWERS in names else list(classes))
            if missing := [name for name in labels if name not in names]:
                raise DataError(path, f"no column {missing[0]!r} (--labels); it has {listed(names)}.")
            if not labels and PREDICTIONS not in names:
                raise DataError(path, f"no column of class labels; name one of {listed(names)} by --labels.")
            self.used |= dict.fromkeys(labels)
            for name in classes if labels == [ANSWERS] else labels:
                for topic in classes.get(name, ()):
                    self.topic(topic, name)
            for row in batch.to_pylist():
                number += 1
                with self.at(f"{path.name}, row {number}"):
                    self.row(row, media, labels, classes, split, f"{path.name}, row {number}")

    def _media(self, names: list[str], path: Path) -> list[str]:
        keys = [self.options.media_key] if self.options.media_key else [name for name in MEDIA if name in names]
        if not keys or keys[0] not in names:
            raise DataError(path, f"no column with media; name one of {listed(names)} by --media-key.")
        return keys

    def row(
        self, row: Mapping[str, Any], media: list[str], labels: list[str], classes: Mapping[str, list[str]], split: str,
        record: str,
    ) -> None:  # fmt: skip
        key = next((key for key in media if row[key] is not None), media[0])
        place = self._stored(row[key], record)
        further = {
            name: str(value)
            for name, value in row.items()
            if name not in (*OWN, *media, *labels, *classes, "annotator") and isinstance(value, str | int | float)
        }
        given = {key: str(row.get(key) or "") for key in OWN}
        sample = self.sample(
            Sample(
                given["sample_id"],
                place,
                record,
                # (WebP may be either, and its ending says nothing.)
                modality_of(place, given["modality"] or SHOWN.get(key, "")),
                given["group"],
                given["split"] or split.lower(),
                further,
            )
        )
        who = name_of(row.get("annotator")) or self.options.annotator
        for name in labels:
            if name == ANSWERS and isinstance(row[name], list):
                for told in row[name]:
                    by = name_of(told["annotator"]) or self.options.annotator
                    value = self.number(told["relevance"], record, "relevance")
                    self.answer(sample.id, self.topic(told["topic"], record), by, value)
                    self.review(sample.id, by)
            elif row[name] is not None and row[name] != -1:
                self._label(sample, name, row[name], classes.get(name), who, record)
                self.review(sample.id, who)
        for told in row.get(PREDICTIONS) or () if isinstance(row.get(PREDICTIONS), list) else ():
            value = self.number(told["confidence"], record, "confidence")
            self.prediction(sample.id, self.topic(told["topic"], record), name_of(told["model"]), value)

    def _label(self, sample: Sample, column: str, value: Any, names: list[str] | None, who: str, record: str) -> None:
        if isinstance(value, bool | float) or (isinstance(value, int) and names is None):
            answer = self.number(float(value), record, f"{column}:", self.options.number_max, MOST)
            self.answer(sample.id, self.topic(column, record), who, answer)
            return
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int) and names is not None:
                if not 0 <= item < len(names):
                    raise self.refused(record, f"{column} {item} is none of {len(names)} classes.")
                item = names[item]
            self.answer(sample.id, self.topic(item, record), who, 1.0)

    def _stored(self, cell: Any, record: str) -> str:
        """Where a cell's media are; what is inside of it is written out."""
        if isinstance(cell, str) and cell:
            return cell
        if not isinstance(cell, dict) or not (cell.get("bytes") or cell.get("path")):
            raise self.refused(record, "has no media.")
        content = cell.get("bytes")
        if not content:
            return str(cell["path"])
        if self.options.store is None:
            raise self.refused(record, "has its media inside of the table, and there is no folder for them.")
        ending = next((end for start, end in BEGINNINGS.items() if content.startswith(start)), "")
        if content.startswith(b"RIFF"):  # WebP's pictures and AVI's clips alike
            ending = ".webp" if content[8:12] == b"WEBP" else ".avi"
        ending = ending or Path(str(cell.get("path") or "")).suffix.lower() or ".mp4"
        target = self.options.store / f"{sha256(content)[:32]}{ending}"
        if not target.is_file():
            with atomic_file(target) as temporary:
                temporary.write_bytes(content)
            self.written["files"] += 1
        return str(target)

    def settle(self) -> Content:
        if self.used:
            self.content.remarks.append(f"Columns with labels: {', '.join(self.used)} (--labels).")
        if self.written:
            self.content.remarks.append(f"{self.written['files']:,} media were inside of it: {self.options.store}.")
        return self.content


# -- a folder of pictures with a table -------------------------------------------------------------------------------


def _table(source: Path) -> Path | None:
    found = [path for name in ("metadata.csv", "metadata.jsonl") for path in (source / name, *source.glob(f"*/{name}"))]
    return next((path for path in found if path.is_file()), None)


def _with_table(source: Path, first: Path, options: Options) -> Content:
    """Pictures whose names and labels stand in `metadata.csv` or `.jsonl`, for all or in each split's folder."""
    reading = _Reading(source, options)
    for path in sorted(source.rglob(first.name)):
        folder = path.parent.relative_to(source).as_posix()
        split = folder if folder.lower() in SPLITS else ""
        rows = csv_rows(path, options.limits) if path.suffix == ".csv" else json_records(path, options.limits)
        for number, row in rows:
            record = f"{path.relative_to(source)}, row {number}"
            if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
                raise reading.refused(record, "has no file_name.")
            labels = list(options.labels) or [name for name in ("label", "labels") if name in row]
            if not labels or any(name not in row for name in labels):
                raise reading.refused(record, f"no column of labels; name one of {listed(list(row))} by --labels.")
            reading.used |= dict.fromkeys(labels)
            named = {**row, "file_name": f"{folder}/{row['file_name']}" if folder != "." else row["file_name"]}
            labelled = {name: value if value != "" else None for name, value in named.items()}
            with reading.at(record):
                reading.row(labelled, ["file_name"], labels, {}, split, record)
    return reading.settle()


# -- writing ---------------------------------------------------------------------------------------------------------


def write(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes a folder with a Parquet file for each split, with the features that `datasets.load_dataset` reads.

    Pictures are inside of it, videos are named. `topics` has what is there by the mean of people's answers;
    `annotations` and `predictions` have all answers and confidences with their names.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    names = list(content.topics)
    schema = _schema(names)
    positives = content.positives()
    answers, predictions = content.by_sample(content.answers), content.by_sample(content.predictions)
    content.refuse_columns(schema.names)
    for key in dict.fromkeys(key for sample in content.samples.values() for key in sample.further):
        schema = schema.append(pa.field(key, pa.string()))
    by_split: dict[str, list[Sample]] = {}
    for sample in content.samples.values():
        by_split.setdefault(sample.split or "unlabeled", []).append(sample)
    with atomic_folder(out) as folder:
        (folder / "data").mkdir()
        for split, samples in by_split.items():
            path = folder / "data" / f"{split}-00000-of-00001.parquet"
            with pq.ParquetWriter(path, schema, compression="zstd") as writer:
                for start in range(0, len(samples), ROWS // 8):
                    rows = [
                        _row(sample, positives[sample.id], names, answers[sample.id], predictions[sample.id])
                        for sample in samples[start : start + ROWS // 8]
                    ]
                    writer.write_table(pa.Table.from_pylist(rows, schema))
    return [out]


def _row(
    sample: Sample, topics: list[str], names: list[str], answers: Mapping[str, Any], predictions: Mapping[str, Any]
) -> dict[str, Any]:
    image = sample.modality == "image"
    media = {"bytes": fetched(sample.media).read_bytes() if image else None, "path": sample.media}
    return {
        "sample_id": sample.id,
        "image": media if image else None,
        "video": None if image else media,
        "modality": sample.modality,
        "group": sample.group,
        "split": sample.split,
        "topics": [names.index(topic) for topic in topics],
        ANSWERS: [
            {"annotator": row.who, "topic": row.topic, "relevance": row.value}
            for rows in answers.values()
            for row in rows
        ],
        PREDICTIONS: [
            {"model": row.who, "topic": row.topic, "confidence": row.value}
            for rows in predictions.values()
            for row in rows
        ],
        **sample.further,
    }


def _schema(names: list[str]) -> pa.Schema:
    text, media = pa.string(), pa.struct({"bytes": pa.binary(), "path": pa.string()})
    said = {
        ANSWERS: pa.list_(pa.struct({"annotator": text, "topic": text, "relevance": pa.float64()})),
        PREDICTIONS: pa.list_(pa.struct({"model": text, "topic": text, "confidence": pa.float64()})),
    }
    columns = {"sample_id": text, "image": media, "video": media, "modality": text, "group": text, "split": text}
    schema = pa.schema({**columns, "topics": pa.list_(pa.int64()), **said})

    def value(kind: str) -> dict[str, str]:
        return {"dtype": kind, "_type": "Value"}

    features: dict[str, Any] = {name: value("string") for name in ("sample_id", "modality", "group", "split")}
    features |= {"image": {"_type": "Image"}, "video": {"_type": "Video"}}
    features["topics"] = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}
    for name, who, number in ((ANSWERS, "annotator", "relevance"), (PREDICTIONS, "model", "confidence")):
        struct = {who: value("string"), "topic": value("string"), number: value("float64")}
        features[name] = {"feature": struct, "_type": "List"}
    ordered = {name: features[name] for name in schema.names}
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": ordered}})})
