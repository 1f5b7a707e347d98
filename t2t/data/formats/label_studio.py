"""Label Studio's JSON: the full export, the flat one (JSON-MIN), task files, and the configuration beside them.

What becomes a topic: the choices of `choices` (and of any region's `…labels`), the places of a `taxonomy`, the names of
`number` and `rating` controls, whose value is the relevance. A control whose only choices are yes and no is itself the
topic. A file that t2t writes has two controls of its own: YES holds the topics that are there, NO those that are not;
what is neither (a mean, a confidence) is a `number` whose control is named as its topic.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from t2t.core.errors import one_line
from t2t.data.formats.label_studio_tasks import ASKED, NO, YES, write
from t2t.data.formats.model import NOBODY, OWN, Content, Options, Reader, Sample, modality_of, name_of
from t2t.data.formats.records import json_records, xml_file
from t2t.data.listing import ENDINGS

__all__ = ["read", "write"]

# Words of a control that asks whether something is so; the control is what is asked.
WORDS = {"yes": 1.0, "true": 1.0, "1": 1.0, "no": 0.0, "false": 0.0, "0": 0.0}
# The word beside them of who cannot tell: no answer.
UNSURE = "unsure"
# The controls of `t2t annotate`, whose topic each task's data have under the control's name. (Of another control such a
# key may be anything, such as the clip's title.)
SLOT = re.compile(r"topic[0-9]+")
# Keys of a task's data, in the order in which its media is looked for.
MEDIA = ("video", "image", "img", "media", "file", "path", "url")


def read(source: Path, options: Options) -> Content:
    """An export, or a file of tasks.

    Each annotator keeps their name (the address where the file has it, else the number), and each
    `predictions[].model_version` is a version of its own. Annotations that were cancelled are passed over; of several
    by one annotator of a task the newest counts. Of JSON-MIN is read what it has: no predictions, annotators by number.

    A labeling configuration of the same name with the ending .xml, if there is one, says which topics there are, and
    of which control's choices only one may be chosen: the others are negatives then.

    Raises DataError, naming the task, for what cannot be read.
    """
    reading = _Reading(source, options)
    for number, task in json_records(source, options.limits):
        with reading.at(f"task {number}"):
            reading.task(task, f"task {number}")
    return reading.settle()


class _Reading(Reader):
    def __init__(self, path: Path, options: Options):
        super().__init__(path, options)
        # What a control's results were, until it is known whether it asks yes or no: (sample, who, control, choices).
        self.chosen: list[tuple[str, str, str, list[str], float, bool]] = []
        self.words: dict[str, set[str]] = defaultdict(set)
        self.unread: Counter[str] = Counter()
        self.paths: dict[str, str] = {}
        self.single: dict[str, list[str]] = {}
        self.data: Mapping[str, Any] = {}
        config = path.with_suffix(".xml")
        if config.is_file():
            self._configuration(config)

    def _configuration(self, config: Path) -> None:
        for element in xml_file(config, self.options.limits).every():
            name = element.attributes.get("name", "")
            if element.tag == "Choices":
                values = [child.attributes.get("value", "") for child in element.every() if child.tag == "Choice"]
                if {value.lower() for value in values} <= {*WORDS, UNSURE}:
                    # Of a control in the tasks of `t2t annotate` each task says what is asked.
                    values = [name] if values and UNSURE not in {value.lower() for value in values} else []
                elif element.attributes.get("choice", "single") != "multiple" and "value" not in element.attributes:
                    self.single[name] = [self.topic(value, f"{config.name}, {name}") for value in values]
                for value in values:
                    self.topic(value, f"{config.name}, {name}")

    def task(self, task: Any, record: str) -> None:
        if not isinstance(task, dict):
            raise self.refused(record, f"is {type(task).__name__}, not a task; export as JSON.")
        if task.get("id") is not None:
            record += f" (id {one_line(task['id'], 40)})"
        flat = "data" not in task
        data = _flat_data(task) if flat else task["data"]
        if not isinstance(data, dict):
            raise self.refused(record, "its data is no object.")
        sample, self.data = self.sample(self._sample(data, record)), data
        if (asked := self._asked(data, record)) is not None:
            self.content.asked[sample.id] = asked
        annotations = [_flat_annotation(task)] if flat else task.get("annotations", task.get("completions")) or []
        for annotation in self._newest(annotations, record):
            who = annotator_of(annotation) or NOBODY
            self.review(sample.id, who)
            for result in self._results(annotation, record):
                self._result(sample, who, result, record)
        for prediction in task.get("predictions") or []:
            if isinstance(prediction, dict):  # exports may have their numbers only
                who = name_of(prediction.get("model_version")) or NOBODY
                for result in self._results(prediction, record):
                    self._result(sample, who, result, record, (result.get("score", prediction.get("score")),))

    def _sample(self, data: Mapping[str, Any], record: str) -> Sample:
        key = self.options.media_key or next((key for key in MEDIA if _is_media(data.get(key), True)), "")
        key = key or next((key for key, value in data.items() if _is_media(value, False)), "")
        media = data.get(key)
        if not isinstance(media, str) or not media.strip():
            raise self.refused(
                record, f"no video or image in its data (keys: {', '.join(data) or 'none'}); name one by --media-key."
            )
        own = {name: str(data.get(name) or "") for name in OWN}
        further = {
            name: str(value)
            for name, value in data.items()
            if name not in (*OWN, key) and isinstance(value, str | int | float)
        }
        modality = "image" if key in ("image", "img") else modality_of(media, own["modality"])
        return Sample(own["sample_id"], media.strip(), record, modality, own["group"], own["split"], further)

    def _asked(self, data: Mapping[str, Any], record: str) -> tuple[str, ...] | None:
        asked = data.get(ASKED)
        # Other files may have texts there, which are about the clip and no question.
        if not isinstance(asked, list) or not all(isinstance(item, dict) and "value" in item for item in asked):
            return None
        return tuple(self.topic(item["value"], record) for item in asked)

    def _newest(self, annotations: Any, record: str) -> Iterator[dict[str, Any]]:
        if not isinstance(annotations, list):
            raise self.refused(record, "its annotations are no list.")
        newest: dict[str, dict[str, Any]] = {}
        for annotation in annotations:
            if not isinstance(annotation, dict):
                self.content.counts["annotations that the file has by number only"] += 1
            elif annotation.get("was_cancelled"):
                self.content.counts["annotations that were cancelled"] += 1
            else:
                who = annotator_of(annotation) or NOBODY
                if who in newest:
                    self.content.counts["older annotations of a task by the same annotator"] += 1
                    if _time(annotation) < _time(newest[who]):
                        continue
                newest[who] = annotation
        yield from newest.values()

    def _results(self, annotation: Mapping[str, Any], record: str) -> list[dict[str, Any]]:
        results = annotation.get("result") or []
        if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
            raise self.refused(record, "a result that is no list of objects.")
        return results

    def _result(
        self, sample: Sample, who: str, result: Mapping[str, Any], record: str, scores: tuple[Any, ...] = ()
    ) -> None:
        """Takes in a result; `scores` has the prediction's one score, and nothing for an annotation."""
        kind, control, value = str(result.get("type", "")), str(result.get("from_name", "")), result.get("value")
        predicted = bool(scores)
        value = value if isinstance(value, dict) else {}
        if kind in ("number", "rating") and kind in value:
            most = self.options.rating_max if kind == "rating" else self.options.number_max
            remedy = f" Say what stands for 1 by --{kind}-max."
            self._say(
                sample,
                self.topic(control, record),
                who,
                self.number(value[kind], record, f"{kind} {control!r}:", most, remedy),
                predicted,
            )
            return
        confidence = 1.0
        if predicted and scores[0] is not None:
            confidence = self.number(scores[0], record, "score")
        elif predicted:
            self.content.counts["predictions without a score, taken for 1"] += 1
        if kind == "taxonomy" and isinstance(value.get(kind), list):
            names = [self._place(place, record) for place in value[kind]]
        elif isinstance(value.get(kind), list):
            names = [str(name) for name in value[kind]]
        elif isinstance(value.get("labels"), list):
            names = [str(name) for name in value["labels"]]
        else:
            self.unread[kind or "none"] += 1
            return
        if not predicted and self.options.spans == "share" and kind == "timelinelabels":
            confidence = self._share(value, record)
        said = {name.strip().lower() for name in names}
        if kind == "choices" and UNSURE in said <= {*WORDS, UNSURE}:
            self.content.counts["answers that are unsure"] += 1
            return
        asked = self.data.get(control) if SLOT.fullmatch(control) else None
        if kind == "choices" and isinstance(asked, str) and asked.strip() and said <= set(WORDS):
            control = asked
        self.words[control] |= said
        self.chosen.append((sample.id, who, control, names, confidence, predicted))

    def _say(self, sample: Sample | str, topic: str, who: str, value: float, predicted: bool) -> None:
        name = sample if isinstance(sample, str) else sample.id
        (self.prediction if predicted else self.answer)(name, topic, who, value)

    def _place(self, place: Any, record: str) -> str:
        """The name of a place in a taxonomy."""
        names = [str(name) for name in place] if isinstance(place, list) else [str(place)]
        path = " / ".join(names)
        if self.options.taxonomy == "path" or not names:
            return path
        if self.paths.setdefault(names[-1], path) != path:
            raise self.refused(
                record,
                f"{names[-1]!r} is the last name of {self.paths[names[-1]]!r} and of {path!r}; take the whole path as "
                "the topic: --taxonomy path.",
            )
        return names[-1]

    def _share(self, value: Mapping[str, Any], record: str) -> float:
        """The share of a clip's frames that are in one of the ranges."""
        total = value.get("framesCount")
        if not isinstance(total, int) or total < 1:
            raise self.refused(record, "no framesCount beside its ranges, so no share can be told: use --spans any.")
        inside: set[int] = set()
        for span in value.get("ranges") or []:
            inside |= set(range(max(1, int(span["start"])), min(total, int(span["end"])) + 1))
        return len(inside) / total

    def settle(self) -> Content:
        """What was chosen becomes answers once all controls are known."""
        asks = {control for control, words in self.words.items() if words <= set(WORDS) and control not in (YES, NO)}
        for sample, who, control, names, confidence, predicted in self.chosen:
            record = self.content.samples[sample].record
            for name in names:
                if control in asks:
                    value = WORDS[name.strip().lower()]
                    value = confidence if value else (1 - confidence if predicted else 0.0)
                    self._say(sample, self.topic(control, record), who, value, predicted)
                elif control == NO:
                    self._say(sample, self.topic(name, record), who, 1 - confidence if predicted else 0.0, predicted)
                else:
                    self._say(sample, self.topic(name, record), who, confidence, predicted)
            if control in self.single and names and not predicted:
                left = [topic for topic in self.single[control] if topic not in {self.topic(n, record) for n in names}]
                for topic in left:
                    self._say(sample, topic, who, 0.0, False)
        if asks:
            self.content.remarks.append(f"Controls that ask yes or no are topics: {', '.join(sorted(asks))}.")
        if self.single:
            several = ", ".join(sorted(self.single))
            self.content.remarks.append(f"Of these controls' choices one excludes the others, which are 0: {several}.")
        for kind, count in sorted(self.unread.items()):
            self.content.counts[f"results of type {kind}, which say nothing of a topic"] += count
        return self.content


def _is_media(value: Any, named: bool) -> bool:
    """Whether a value of a task's data is a file: by its ending, or as what a key of that name has."""
    if not isinstance(value, str) or not value.strip() or "\n" in value:
        return False
    return named or Path(value.partition("?d=")[2] or value.partition("?")[0]).suffix.lower() in ENDINGS


def annotator_of(annotation: Mapping[str, Any]) -> str:
    """Whose annotation it is: the address where the export has it, else Label Studio's number; empty for nobody's."""
    who = annotation.get("completed_by", annotation.get("annotator"))
    if isinstance(who, dict):
        who = who.get("email") or who.get("username") or who.get("id")
    return name_of(who)


def _time(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


# -- JSON-MIN --------------------------------------------------------------------------------------------------------

# What stands behind the data in JSON-MIN; between `id` and the first of the others are the results.
BEHIND = ("annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "completed_by")


def _flat_data(task: Mapping[str, Any]) -> dict[str, Any]:
    data = {}
    for key, value in task.items():
        if key == "id" or key in BEHIND:
            break
        data[key] = value
    return data


def _flat_annotation(task: Mapping[str, Any]) -> dict[str, Any]:
    """An annotation as the full export would have it."""
    data, results = _flat_data(task), []
    for control, value in task.items():
        if control in data or control == "id" or control in BEHIND:
            continue
        for item in value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]:
            results.append({"from_name": control, **_flat_result(item)})
    return {**{key: task[key] for key in BEHIND if key in task}, "result": results}


def _flat_result(item: Any) -> dict[str, Any]:
    if isinstance(item, bool) or item is None:
        return {"type": "unknown"}
    if isinstance(item, int | float):
        # A rating is a whole number from 1 on; so may a number be, and --number-max says of which kind it is.
        return {"type": "number", "value": {"number": item}}
    if isinstance(item, str):
        return {"type": "choices", "value": {"choices": [item]}}
    if isinstance(item, list):
        nested = bool(item) and isinstance(item[0], list)
        return {"type": "taxonomy", "value": {"taxonomy": item if nested else [item]}}
    kind = next((key for key, value in item.items() if isinstance(value, list) and key != "ranges"), "")
    return {"type": kind, "value": item}
