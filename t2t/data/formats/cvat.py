"""CVAT's XML 1.1, for images and for videos.

A tag or a shape on a picture, or a track that is inside of a video, says that its label is there. That a label is not
there nobody says: a picture without it may be one that nobody has looked at (`Options.complete` says that all were).
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from t2t.core.files import atomic_file
from t2t.data.formats.model import NOBODY, Content, Options, Reader, Sample, modality_of, name_of
from t2t.data.formats.records import Element, xml_file
from t2t.data.labels import POSITIVE
from t2t.data.remote import shown

# Who made what CVAT says its models made.
AUTOMATIC = "auto"
# The attribute of such a tag with the model's version.
MODEL = "model"
TRUTH = {"true": 1.0, "false": 0.0}


def read(source: Path, options: Options) -> Content:
    """Annotations of a task or a project, of pictures (`<image>`) or videos (`<track>`).

    Whoever the task is assigned to answered, else its owner. What a model made (`source="auto"`) is a prediction. Of
    attributes those are read that `Options.labels` names: a checkbox is the topic of its name, any other value itself.

    Raises DataError for another XML, or one with entities.
    """
    root = xml_file(source, options.limits)
    reading = _Reading(source, options)
    if root.tag != "annotations":
        raise reading.refused("", f"its root is <{root.tag}>, not CVAT's <annotations>; export as 'CVAT 1.1'.")
    meta = (root.all("meta") or [Element("meta", {})])[0]
    for element in meta.every():
        if element.tag == "label" and element.at("name"):
            reading.topic(element.at("name"), "meta")
    tasks = [element for element in meta.every() if element.tag in ("task", "job")]
    reading.tasks = {task.at("id"): task for task in tasks}
    reading.meta = meta
    for image in root.all("image"):
        reading.image(image)
    for track in root.all("track"):
        reading.track(track)
    return reading.content


class _Reading(Reader):
    tasks: dict[str, Element]
    meta: Element

    def _task(self, element: Element) -> Element | None:
        number = element.attributes.get("task_id", "")
        return self.tasks.get(number) or (next(iter(self.tasks.values()), None) if not number else None)

    def _who(self, task: Element | None) -> str:
        for role in ("assignee", "owner"):
            for key in ("username", "email"):
                name = name_of(task.at(role, key)) if task else ""
                if name:
                    return name
        return self.options.annotator

    def _source(self, task: Element | None) -> str:
        """The video that a task is of."""
        return (task.at("source") if task else "") or self.meta.at("source")

    def image(self, image: Element) -> None:
        name = image.attributes.get("name", "")
        record = f"image {image.attributes.get('id', '?')}"
        if not name:
            raise self.refused(record, "has no name.")
        task = self._task(image)
        sample = self.sample(
            Sample(
                "",
                name,
                f"{record} ({shown(name)})",
                modality_of(name),
                group=self._source(task),
                split=image.attributes.get("subset", "") if image.attributes.get("subset") != "default" else "",
            )
        )
        who = self._who(task)
        self.review(sample.id, who)
        for child in image.children:
            if "label" in child.attributes:
                self._label(child, sample, who)

    def track(self, track: Element) -> None:
        task = self._task(track)
        record = f"track {track.attributes.get('id', '?')}"
        video = self._source(task)
        if not video:
            raise self.refused(record, "nothing says of which video it is: <meta> has no <source>.")
        sample = self.sample(Sample("", video, record, "video"))
        who = self._who(task)
        self.review(sample.id, who)
        if track.children and all(child.attributes.get("outside") == "1" for child in track.children):
            self.content.counts["tracks that are never inside of their video"] += 1
            return
        self._label(track, sample, who)

    def _label(self, element: Element, sample: Sample, who: str) -> None:
        topic = self.topic(element.attributes.get("label", ""), sample.record)
        if element.attributes.get("source") == AUTOMATIC:
            versions = [child.text for child in element.all("attribute") if child.attributes.get("name") == MODEL]
            self.prediction(sample.id, topic, name_of("".join(versions)) or AUTOMATIC, 1.0)
            return
        self.answer(sample.id, topic, who, 1.0)
        for attribute in (child for child in element.every() if child.tag == "attribute"):
            name, value = attribute.attributes.get("name", ""), attribute.text.strip()
            if name not in self.options.labels:
                self.content.counts["attributes, which are read where --labels names them"] += 1
            elif value.lower() in TRUTH:
                self.answer(sample.id, self.topic(name, sample.record), who, TRUTH[value.lower()])
            elif value:
                self.answer(sample.id, self.topic(value, sample.record), who, 1.0)


def write(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes a project with a task for each annotator, who is its assignee, and one for each model version.

    Only what is there (relevance or confidence 0.5 or more) can be said: the rest is counted.
    """
    answers, predictions = content.by_sample(content.answers), content.by_sample(content.predictions)
    people = list(dict.fromkeys(row.who for row in content.answers)) or [NOBODY]
    versions = list(dict.fromkeys(row.who for row in content.predictions))
    labels = "".join(f"<label><name>{escape(topic)}</name><type>tag</type></label>" for topic in content.topics)
    tasks = "".join(
        f"<task><id>{number}</id><name>{escape(who)}</name><assignee><username>{escape(who)}</username></assignee></task>"
        for number, who in enumerate([*people, *versions], start=1)
    )
    with atomic_file(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(f"<meta><project><name>t2t</name><tasks>{tasks}</tasks><labels>{labels}</labels></project></meta>\n")
        for number, who in enumerate([*people, *versions], start=1):
            source, by = ("manual", answers) if number <= len(people) else (AUTOMATIC, predictions)
            for position, sample in enumerate(content.samples.values()):
                rows = by[sample.id].get(who)
                if rows is None and (number > 1 or any(answers[sample.id].values())):
                    continue  # a sample without an answer stands in the first task, which loses none
                topics = [row.topic for row in rows or () if row.value >= POSITIVE]
                model = f'<attribute name="{MODEL}">{escape(who)}</attribute>' if source == AUTOMATIC else ""
                subset = f" subset={quoteattr(sample.split)}" if sample.split else ""
                file.write(f'<image id="{position}" name={quoteattr(sample.media)} task_id="{number}"{subset}>')
                file.writelines(f'<tag label={quoteattr(topic)} source="{source}">{model}</tag>' for topic in topics)
                file.write("</image>\n")
        file.write("</annotations>\n")
    content.lost(ids=True)
    if content.predictions:
        content.counts["confidences, of which those of 0.5 or more are a tag"] += len(content.predictions)
    videos = sum(sample.modality == "video" for sample in content.samples.values())
    if videos:
        content.remarks.append(f"{videos:,} videos are written as pictures are: CVAT itself has one file a video.")
    return [out]
