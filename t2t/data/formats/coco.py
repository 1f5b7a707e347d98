"""COCO's JSON: an annotation says that its category is on a picture, or in a video.

What is not there COCO does not say; LVIS does (`neg_category_ids` of an image). t2t writes that key, and beside it, by
annotator, `t2t_below`: relevances below 0.5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2t.core.errors import one_line
from t2t.core.files import atomic_file
from t2t.data.formats.model import OWN, Content, Options, Reader, Sample, modality_of, name_of
from t2t.data.formats.records import json_file
from t2t.data.labels import POSITIVE
from t2t.data.remote import shown

BELOW = "t2t_below"


def read(source: Path, options: Options) -> Content:
    """Annotations of pictures, and of videos where `videos` have a file; of pictures of a video that is their group.

    An annotation with a `score` is a prediction; of the version `model`, or of the file's name where it has none.

    Raises DataError, naming the record, for an annotation of no picture or category.
    """
    content = json_file(source, options.limits)
    reading = _Reading(source, options)
    if not isinstance(content, dict) or not isinstance(content.get("categories"), list):
        raise reading.refused(
            "",
            "no COCO annotations: it has no `categories`. (A file of results has none; annotations may have a score.)",
        )
    for key in ("images", "videos", "annotations", "categories"):
        records = content.get(key) or []
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise reading.refused(key, "is no list of objects.")
    for category in content["categories"]:
        record = f"category {one_line(category.get('id'), 40)}"
        reading.categories[_id(category.get("id"))] = reading.topic(category.get("name"), record)
    for key, take in (("videos", reading.video), ("images", reading.image), ("annotations", reading.annotation)):
        for record in content.get(key) or []:
            with reading.at(f"{key} {one_line(record.get('id'), 40)}"):
                take(record)
    looked = {sample for sample, _ in reading.content.reviewed}
    for picture in reading.images.values():
        if picture.id not in looked:
            reading.review(picture.id, options.annotator)
    for (sample, topic, version), value in reading.best.items():
        reading.prediction(sample, topic, version, value)
    for image in content.get("images") or []:
        with reading.at(f"images {one_line(image.get('id'), 40)}"):
            reading.below(image)
    return reading.content


def _id(value: Any) -> str:
    return str(value)


class _Reading(Reader):
    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        self.categories: dict[str, str] = {}
        self.images: dict[str, Sample] = {}
        self.videos: dict[str, Sample] = {}
        self.video_names: dict[str, str] = {}
        self.best: dict[tuple[str, str, str], float] = {}

    def _sample(self, record: Mapping[str, Any], media: Any, name: str, group: str = "") -> Sample:
        if not isinstance(media, str) or not media.strip():
            raise self.refused(name, "has no file_name.")
        further = {
            key: str(record[key])
            for key in record.get("t2t_columns") or []
            if isinstance(record.get(key), str | int | float)
        }
        own = {key: str(record.get(key) or "") for key in OWN}
        return self.sample(
            Sample(
                own["sample_id"],
                media,
                f"{name} ({one_line(shown(media), 80)})",
                modality_of(media, own["modality"]),
                own["group"] or group,
                own["split"],
                further,
            )
        )

    def video(self, video: Mapping[str, Any]) -> None:
        number = _id(video.get("id"))
        file = video.get("file_name")
        self.video_names[number] = str(video.get("name") or file or number)
        if isinstance(file, str):
            self.videos[number] = self._sample(video, file, f"video {number}")

    def image(self, image: Mapping[str, Any]) -> None:
        number = _id(image.get("id"))
        group = self.video_names.get(_id(image.get("video_id")), "")
        self.images[number] = self._sample(image, image.get("file_name"), f"image {number}", group)

    def annotation(self, annotation: Mapping[str, Any]) -> None:
        record = f"annotation {one_line(annotation.get('id'), 40)}"
        sample = self.images.get(_id(annotation.get("image_id")))
        if sample is None:
            sample = self.videos.get(_id(annotation.get("video_id")))
        if sample is None:
            raise self.refused(
                record, f"is of image {one_line(annotation.get('image_id'), 40)}, which the file does not have."
            )
        topic = self.categories.get(_id(annotation.get("category_id")))
        if topic is None:
            raise self.refused(
                record, f"is of category {one_line(annotation.get('category_id'), 40)}, which the file does not have."
            )
        if annotation.get("score") is not None:
            version = name_of(annotation.get("model")) or self.path.stem
            # Of several boxes of a category the surest says how sure it is that there is one.
            value = self.number(annotation["score"], record, "score")
            key = (sample.id, topic, version)
            self.best[key] = max(value, self.best.get(key, 0.0))
            return
        who = name_of(annotation.get("annotator")) or self.options.annotator
        self.review(sample.id, who)
        self.answer(sample.id, topic, who, self.number(annotation.get("relevance", 1), record, "relevance"))

    def below(self, image: Mapping[str, Any]) -> None:
        sample, record = self.images[_id(image.get("id"))], f"image {_id(image.get('id'))}"
        ours = image.get(BELOW)
        if isinstance(ours, dict):
            for who, values in ours.items():
                for category, value in values.items():
                    self._below(sample, category, name_of(who), self.number(value, record, BELOW), record)
            return
        for category in image.get("neg_category_ids") or []:
            self._below(sample, category, self.options.annotator, 0.0, record)

    def _below(self, sample: Sample, category: Any, who: str, value: float, record: str) -> None:
        topic = self.categories.get(_id(category))
        if topic is None:
            raise self.refused(record, f"denies category {one_line(category, 40)}, which the file does not have.")
        self.answer(sample.id, topic, who, value)


def write(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes annotations by annotator, negatives as LVIS has them, and predictions with `score` and `model`."""
    content.refuse_columns(("id", "file_name", "neg_category_ids", BELOW, "t2t_columns"))
    numbers = {topic: number for number, topic in enumerate(content.topics, start=1)}
    images, annotations = [], []
    answers, predictions = content.by_sample(content.answers), content.by_sample(content.predictions)
    for number, sample in enumerate(content.samples.values(), start=1):
        below: dict[str, dict[str, float]] = {}
        for who, rows in answers[sample.id].items():
            for row in rows:
                if row.value < POSITIVE:
                    below.setdefault(who, {})[str(numbers[row.topic])] = row.value
                    continue
                shown = {"image_id": number, "category_id": numbers[row.topic], "annotator": who}
                annotations.append(shown if row.value == 1 else shown | {"relevance": row.value})
        for version, rows in predictions[sample.id].items():
            annotations += [
                {"image_id": number, "category_id": numbers[row.topic], "score": row.value, "model": version}
                for row in rows
            ]
        positive = {row.topic for rows in answers[sample.id].values() for row in rows if row.value >= POSITIVE}
        denied = {int(category) for values in below.values() for category in values}
        images.append(
            {
                **sample.further,
                "id": number,
                "file_name": sample.media,
                "sample_id": sample.id,
                "modality": sample.modality,
                "group": sample.group,
                "split": sample.split,
                "neg_category_ids": sorted(denied - {numbers[topic] for topic in positive}),
                BELOW: below,
                "t2t_columns": list(sample.further),
            }
        )
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    everything = {
        "images": images,
        "categories": [{"id": number, "name": topic} for topic, number in numbers.items()],
        "annotations": annotations,
    }
    with atomic_file(out) as temporary:
        temporary.write_text(json.dumps(everything, ensure_ascii=False), encoding="utf-8")
    return [out]
