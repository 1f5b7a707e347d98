"""FiftyOne's `samples.json`: each field with labels is somebody: people by `Options.human`, else a model.

t2t writes people's answers into the field `ground_truth`, those below 0.5 into `ground_truth_below`, and in both to
each label whose it is (`annotator`) and, where it is not 1, its `relevance`.
"""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t2t.core.errors import one_line
from t2t.core.files import atomic_file
from t2t.data.formats.model import NOBODY, OWN, SPLITS, Content, Options, Reader, Sample, modality_of, name_of
from t2t.data.formats.records import json_file
from t2t.data.labels import POSITIVE
from t2t.data.remote import shown

HUMAN, BELOW = "ground_truth", "_below"
# Kinds of labels, and the key with several of them.
MANY = {"Classifications": "classifications", "Detections": "detections", "TemporalDetections": "detections"}
MANY |= {"Polylines": "polylines"}
# What a written sample has beside its columns and the models' fields.
KEYS = ("filepath", "_media_type", "tags", HUMAN, HUMAN + BELOW)
ONE = ("Classification", "Detection", "TemporalDetection", "Polyline")
# Bytes of one label's logits once they are unpacked.
MOST_LOGITS = 1 << 24


def read(source: Path, options: Options) -> Content:
    """A dataset that was exported as FiftyOneDataset: `samples.json`, or its folder.

    A prediction's confidence is that of its label (the surest, where there are several), of all classes by `logits`
    where the file or the `metadata.json` beside it has their names. A sample's tag that names a split is its split.

    Raises DataError, naming the sample, for what cannot be read.
    """
    path = source / "samples.json" if source.is_dir() else source
    content = json_file(path, options.limits)
    reading = _Reading(path, options)
    if not isinstance(content, dict) or not isinstance(content.get("samples"), list):
        raise reading.refused("", "no samples of FiftyOne: it has no `samples`; export as FiftyOneDataset.")
    beside = path.parent / "metadata.json"
    for about in (content, json_file(beside, options.limits) if beside.is_file() else {}):
        with reading.at("classes"):
            reading.names(about)
    for number, sample in enumerate(content["samples"], start=1):
        with reading.at(f"sample {number}"):
            reading.entry(sample, f"sample {number}")
    return reading.settle()


class _Reading(Reader):
    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.classes: dict[str, list[str]] = {}
        self.default: list[str] = []
        self.best: dict[tuple[str, str, str], float] = {}
        self.people: set[str] = set()

    def names(self, about: Any) -> None:
        if not isinstance(about, dict):
            return
        # metadata.json has the dataset's own description under `info` in older exports.
        for place in (about, about.get("info")):
            if isinstance(place, dict):
                if isinstance(place.get("classes"), dict):
                    self.classes |= {str(field): list(map(str, names)) for field, names in place["classes"].items()}
                if isinstance(place.get("default_classes"), list):
                    self.default = list(map(str, place["default_classes"]))
        for name in self.default:
            self.topic(name, "default_classes")

    def entry(self, entry: Any, record: str) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("filepath"), str):
            raise self.refused(record, "has no filepath.")
        media = entry["filepath"]
        tags = [tag for tag in entry.get("tags") or [] if isinstance(tag, str) and tag.lower() in SPLITS]
        group = entry.get("group")
        kind = entry.get("_media_type", entry.get("media_type"))
        sample = self.sample(
            Sample(
                str(entry.get("sample_id") or ""),
                media,
                f"{record} ({one_line(shown(media), 80)})",
                kind if kind in ("image", "video") else modality_of(media),
                str(group.get("id", "")) if isinstance(group, dict) else str(group or ""),
                tags[0].lower() if tags else "",
                {
                    key: str(value)
                    for key, value in entry.items()
                    if key not in ("filepath", "sample_id", "group") and not key.startswith("_")
                    if isinstance(value, str | int | float)
                },
            )
        )
        for field, value in entry.items():
            if isinstance(value, dict) and value.get("_cls") in (*MANY, *ONE):
                self._field(sample, field, list(_labels(value)), value["_cls"])
            elif isinstance(value, dict) and value.get("_cls") not in (None, "Group", "ObjectId"):
                self.content.counts[f"fields of the kind {one_line(value['_cls'], 40)}, which has no labels"] += 1

    def _field(self, sample: Sample, field: str, labels: Sequence[Mapping[str, Any]], kind: str) -> None:
        human = field.removesuffix(BELOW) in self.options.human
        if human and not labels:
            self._reviewed(sample, self._who({}, field))
        for label in labels:
            if human:
                who = self._who(label, field)
                self._reviewed(sample, who)
                relevance = label.get("relevance", 0 if field.endswith(BELOW) else 1)
                topic = self.topic(label.get("label"), sample.record)
                self.answer(sample.id, topic, who, self.number(relevance, sample.record, "relevance"))
                continue
            version = name_of(label.get("model_version")) or field
            if label.get("logits") is not None and self._logits(sample, field, version, label["logits"], kind):
                continue
            confidence = label.get("confidence")
            if confidence is None:
                self.content.counts["predictions without a confidence, taken for 1"] += 1
            value = 1.0 if confidence is None else self.number(confidence, sample.record, "confidence")
            key = (sample.id, self.topic(label.get("label"), sample.record), version)
            self.best[key] = max(value, self.best.get(key, 0.0))

    def _who(self, label: Mapping[str, Any], field: str) -> str:
        named = self.options.annotator if self.options.annotator != NOBODY else field.removesuffix(BELOW)
        return name_of(label.get("annotator")) or named

    def _reviewed(self, sample: Sample, who: str) -> None:
        self.review(sample.id, who)
        self.people.add(who)

    def _logits(self, sample: Sample, field: str, version: str, logits: Any, kind: str) -> bool:
        """Takes confidences of all classes from logits; False where nobody says which classes they are of."""
        names = self.classes.get(field) or self.default
        try:
            values = _numbers(logits)
        except (ValueError, KeyError, TypeError, zlib.error, EOFError) as error:
            raise self.refused(sample.record, f"logits of {field!r}: {one_line(error, 100)}.") from None
        if not names or kind not in ("Classification", "Classifications"):
            self.content.counts["logits whose classes nobody names"] += 1
            return False
        if values.shape != (len(names),) or not np.isfinite(values).all():
            raise self.refused(sample.record, f"logits of {field!r}: not {len(names)} finite numbers, one a class.")
        if kind == "Classification":
            chances = np.exp(values - values.max())
            chances = chances / chances.sum()
        else:
            chances = 1 / (1 + np.exp(-np.clip(values, -700, 700)))
        for name, chance in zip(names, chances.tolist(), strict=True):
            self.best[sample.id, self.topic(name, sample.record), version] = min(chance, 1.0)
        return True

    def settle(self) -> Content:
        for (sample, topic, version), value in self.best.items():
            self.prediction(sample, topic, version, value)
        missing = [field for field in self.options.human if not self.people]
        if missing:
            self.content.remarks.append(
                f"No field {' or '.join(missing)}: nothing here is people's. Say which one is by --human FIELD."
            )
        return self.content


def _labels(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    kind = value["_cls"]
    many = value.get(MANY[kind]) or [] if kind in MANY else [value]
    yield from (label for label in many if isinstance(label, dict))


def _numbers(logits: Any) -> np.ndarray:
    """Logits as a list, or as FiftyOne packs them: base64 of zlib of NumPy's own format."""
    if isinstance(logits, list):
        return np.asarray(logits, dtype=np.float64)
    packed = logits["$binary"]
    packed = packed["base64"] if isinstance(packed, dict) else packed
    content = zlib.decompressobj().decompress(base64.b64decode(packed), MOST_LOGITS)
    return np.load(io.BytesIO(content), allow_pickle=False).astype(np.float64).reshape(-1)


def write(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes one `samples.json`: people's answers in `ground_truth`, each teacher's labels in a field of its own."""
    content.refuse_columns(KEYS)
    answers, predictions = content.by_sample(content.answers), content.by_sample(content.predictions)
    taken = {*KEYS, *OWN, *(key for sample in content.samples.values() for key in sample.further)}
    fields: dict[str, str] = {}
    for who in dict.fromkeys(row.who for row in content.predictions):
        fields[who] = _field_name(who, taken)
        taken.add(fields[who])
    samples = []
    for sample in content.samples.values():
        entry: dict[str, Any] = {
            **sample.further,
            "filepath": sample.media,
            "sample_id": sample.id,
            "_media_type": sample.modality,
            "tags": [sample.split] if sample.split else [],
            "group": sample.group,
        }
        told = [row for rows in answers[sample.id].values() for row in rows]
        for field, rows in (
            (HUMAN, [row for row in told if row.value >= POSITIVE]),
            (HUMAN + BELOW, [row for row in told if row.value < POSITIVE]),
        ):
            labels = [{"_cls": "Classification", "label": row.topic, "annotator": row.who} for row in rows]
            for label, row in zip(labels, rows, strict=True):
                if row.value not in (0.0, 1.0):
                    label["relevance"] = row.value  # type: ignore[assignment]
            if labels:
                entry[field] = {"_cls": "Classifications", "classifications": labels}
        for version, rows in predictions[sample.id].items():
            entry[fields[version]] = {
                "_cls": "Classifications",
                "classifications": [
                    {
                        "_cls": "Classification",
                        "label": row.topic,
                        "confidence": row.value,
                        "model_version": version,
                    }
                    for row in rows
                ],
            }
        samples.append(entry)
    everything = {"name": out.stem, "default_classes": list(content.topics), "samples": samples}
    with atomic_file(out) as temporary:
        temporary.write_text(json.dumps(everything, ensure_ascii=False), encoding="utf-8")
    return [out]


def _field_name(version: str, taken: Collection[str]) -> str:
    """A version as a field may be named that nothing else has."""
    name = re.sub(r"\W", "_", version, flags=re.ASCII).strip("_") or "model"
    name = f"model_{name}" if name[0].isdigit() else name
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free
