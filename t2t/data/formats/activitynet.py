"""ActivityNet's JSON and Kinetics' tables: what happens in videos that are named by their number at YouTube.

The videos themselves come from elsewhere; many are gone by the time that somebody looks for them.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2t.core.errors import DataError, one_line
from t2t.core.files import atomic_file
from t2t.data.formats.model import Content, Options, Reader, Sample, modality_of, name_of
from t2t.data.formats.records import csv_rows, json_file
from t2t.data.labels import POSITIVE

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")


def read_activitynet(source: Path, options: Options) -> Content:
    """ActivityNet's annotations (`database`), Kinetics' JSON, or results (`results`), which are predictions of a
    version of the file's name.

    A label of a part of a video is one of the video, or by the part's share of it (`Options.spans`).
    """
    content = json_file(source, options.limits)
    reading = _Reading(source, options)
    if not isinstance(content, dict):
        raise reading.refused("", "is no object with videos.")
    with reading.at("taxonomy"):
        reading.topics(content.get("taxonomy") or [])
    with reading.at("database"):
        videos = list((content.get("database") or ({} if "results" in content else content)).items())
        results = list((content.get("results") or {}).items())
    for video, entry in videos:
        with reading.at(f"video {one_line(video, 60)}"):
            reading.video(video, entry)
    version = name_of(content.get("t2t_model")) or source.stem
    for video, entries in results:
        with reading.at(f"video {one_line(video, 60)}"):
            reading.results(video, entries, version)
    return reading.content


class _Reading(Reader):
    def topics(self, taxonomy: Any) -> None:
        """The leaves of a taxonomy."""
        nodes = [node for node in taxonomy if isinstance(node, dict)]
        inner = {node.get("parentName") for node in nodes}
        for node in nodes:
            if node.get("nodeName") not in inner:
                self.topic(node.get("nodeName"), "taxonomy")

    def video(self, video: str, entry: Any) -> None:
        record = f"video {one_line(video, 60)}"
        if not isinstance(entry, dict):
            raise self.refused(record, "is no object; ActivityNet's annotations are needed.")
        annotations = entry.get("annotations") or []
        annotations = [annotations] if isinstance(annotations, dict) else annotations
        split = str(entry.get("subset") or "").lower()
        if not annotations and split.startswith("test"):
            # Their labels are kept secret, and nothing can be measured without any.
            self.content.counts["videos of the test subset without labels, taken for unlabeled"] += 1
            split = "unlabeled"
        names = _names(video, entry.get("path"))
        group = str(entry.get("group") or "")
        sample = self.sample(Sample(video, names[0], record, modality_of(names[0]), group, split, others=names[1:]))
        spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for annotation in annotations:
            if not isinstance(annotation, dict):
                raise self.refused(record, "an annotation that is no object.")
            who = name_of(annotation.get("annotator")) or self.options.annotator
            topic = self.topic(annotation.get("label"), record)
            spans.setdefault((topic, who), []).append(self._span(annotation.get("segment"), record))
        for (topic, who), parts in spans.items():
            self.review(sample.id, who)
            self.answer(sample.id, topic, who, self._value(parts, entry, record))
        for who, topics in (entry.get("t2t_below") or {}).items():
            for topic, value in topics.items():
                self.answer(sample.id, self.topic(topic, record), who, self.number(value, record, "relevance"))

    def _span(self, segment: Any, record: str) -> tuple[float, float]:
        if segment is None:
            return 0.0, math.inf
        ends = segment if isinstance(segment, list) else []
        if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends):
            raise self.refused(record, f"segment {one_line(repr(segment), 60)} is no pair of seconds.")
        return float(ends[0]), float(ends[1])

    def _value(self, parts: list[tuple[float, float]], entry: Mapping[str, Any], record: str) -> float:
        if self.options.spans == "any":
            return 1.0
        duration = entry.get("duration")
        if not isinstance(duration, int | float) or not duration > 0:
            raise self.refused(record, "no duration, so no share can be told: use --spans any.")
        covered = end = 0.0
        for start, stop in sorted((max(0.0, a), min(b, float(duration))) for a, b in parts):
            covered += max(0.0, stop - max(start, end))
            end = max(end, stop)
        return min(covered / duration, 1.0)

    def results(self, video: str, entries: Any, version: str) -> None:
        record = f"video {one_line(video, 60)}"
        sample = self.content.samples.get(video)
        if sample is None:
            names = _names(video, None)
            sample = self.sample(Sample(video, names[0], record, "video", others=names[1:]))
        best: dict[str, float] = {}
        for entry in entries if isinstance(entries, list) else [entries]:
            topic = self.topic(entry.get("label"), record)
            best[topic] = max(best.get(topic, 0.0), self.number(entry.get("score"), record, "score"))
        for topic, value in best.items():
            self.prediction(sample.id, topic, version, value)


def _names(video: str, path: Any) -> tuple[str, ...]:
    """What a video's file may be called."""
    given = (str(path),) if path else ()
    names = (*(f"{video}{suffix}" for suffix in SUFFIXES), *(f"v_{video}{suffix}" for suffix in SUFFIXES))
    return tuple(dict.fromkeys((*given, *names, video)))


def read_kinetics(source: Path, options: Options) -> Content:
    """Kinetics' tables: label, youtube_id, time_start, time_end, split. A part of a video is a sample, and its video
    its group; its file is named as their own tool does (`<id>_<start>_<end>`, six digits each), below its label or not.
    """
    reading = Reader(source, options)
    for line, row in csv_rows(source, options.limits):
        record = f"row {line}"
        video = row.get("youtube_id", "").strip()
        if not video:
            raise DataError(source, "column 'youtube_id' is missing or empty.", line)
        start, end, label = (row.get(key, "").strip() for key in ("time_start", "time_end", "label"))
        name, names = video, [row.get("path", "").strip()]
        if start and end:
            try:
                first, last = int(float(start)), int(float(end))
            except (ValueError, OverflowError):
                raise DataError(source, f"{start!r} to {end!r} are no seconds.", line, "time_start") from None
            name = f"{video}_{first:06d}_{last:06d}"
            names += [f"{name}{suffix}" for suffix in SUFFIXES]
            names += [f"{video}_{first}_{last}{suffix}" for suffix in SUFFIXES]
        names += [f"{video}{suffix}" for suffix in SUFFIXES]
        if label:
            names = [f"{label}/{name}" for name in names if name] + names
        files = tuple(name for name in names if name)
        split = row.get("split", "").strip().lower()
        if not label and split.startswith("test"):
            reading.content.counts["rows of the test split without a label, taken for unlabeled"] += 1
            split = "unlabeled"
        sample = reading.content.samples.get(name) or reading.sample(
            Sample(
                name,
                files[0],
                record,
                modality_of(files[0]),
                row.get("group", "").strip() or video,
                split,
                others=files[1:],
            )
        )
        if label:
            who = name_of(row.get("annotator")) or options.annotator
            reading.answer(sample.id, reading.topic(label, record), who, 1.0)
            reading.review(sample.id, who)
    return reading.content


# -- writing ---------------------------------------------------------------------------------------------------------


def write_activitynet(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes annotations of whole videos, relevances below 0.5 beside them (`t2t_below`), and a file of results
    (`<out>.<n>.json`) for each model version."""
    answers, predictions = content.by_sample(content.answers), content.by_sample(content.predictions)
    subsets = {"train": "training", "test": "testing"}
    database: dict[str, dict[str, Any]] = {}
    for sample in content.samples.values():
        below: dict[str, dict[str, float]] = {}
        annotations = []
        for who, rows in answers[sample.id].items():
            for row in rows:
                if row.value < POSITIVE:
                    below.setdefault(who, {})[row.topic] = row.value
                else:
                    annotations.append({"label": row.topic, "annotator": who})
        subset = subsets.get(sample.split, sample.split)
        database[sample.id] = {
            "subset": subset,
            "group": sample.group,
            "path": sample.media,
            "annotations": annotations,
        }
        if below:
            database[sample.id]["t2t_below"] = below
    files = [out]
    everything = {"version": "t2t", "taxonomy": [{"nodeName": topic} for topic in content.topics], "database": database}
    with atomic_file(out) as temporary:
        temporary.write_text(json.dumps(everything, ensure_ascii=False), encoding="utf-8")
    for number, version in enumerate(dict.fromkeys(row.who for row in content.predictions), start=1):
        results = {
            name: [{"label": row.topic, "score": row.value} for row in rows[version]]
            for name, rows in predictions.items()
            if version in rows
        }
        files.append(out.with_suffix(f".{number}.json"))
        with atomic_file(files[-1]) as temporary:
            told = {"version": "t2t", "t2t_model": version, "results": results, "external_data": {}}
            temporary.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    content.lost(below=False)
    return files


def write_kinetics(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes a row for each answer that a topic is there, and one without a label for samples without any."""
    answers = content.by_sample(content.answers)
    with atomic_file(out) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "youtube_id", "time_start", "time_end", "split", "group", "annotator", "path"])
        for sample in content.samples.values():
            rows = [row for rows in answers[sample.id].values() for row in rows if row.value >= POSITIVE]
            own = (sample.id, "", "", sample.split, sample.group)
            for row in rows:
                writer.writerow([row.topic, *own, row.who, sample.media])
            if not rows:
                writer.writerow(["", *own, "", sample.media])
    content.lost(predictions=True)
    return [out]
