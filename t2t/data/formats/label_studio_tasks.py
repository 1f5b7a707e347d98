"""Label Studio's JSON as t2t writes it: tasks with annotations and predictions, and the configuration that shows them.

Two controls are t2t's own: YES holds the topics that are there, NO those that are not. What is neither (a mean, a
confidence) is a `number` whose control is named as its topic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from t2t.core.files import atomic_file, write_text
from t2t.data.formats.model import Answer, Content, Options, Sample

YES, NO = "t2t-yes", "t2t-no"
# What a task's data is asked about, one {"value": topic} each, where not every topic is.
ASKED = "topics"


def write(content: Content, out: Path, options: Options) -> list[Path]:
    """Writes the full export's JSON, and beside it (`.xml`) the configuration of a project that shows it.

    Annotators and versions keep their names. A sample's columns stand in its `data`, which Label Studio hands through.
    `asked` becomes `data.topics`, what a task asks; a project whose tasks have it asks only for these.

    Returns: the files.
    """
    content.refuse_columns(("video", "image", ASKED))
    answers, predictions = content.by_sample(content.answers), content.by_sample(content.predictions)
    with atomic_file(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for number, sample in enumerate(content.samples.values(), start=1):
            file.write("[\n" if number == 1 else ",\n")
            task = {
                "id": number,
                "data": task_data(sample, content.asked.get(sample.id)),
                "annotations": [
                    {"completed_by": _annotator(who), "was_cancelled": False, "result": results(rows, sample.modality)}
                    for who, rows in answers[sample.id].items()
                ],
                "predictions": [
                    {"model_version": who, "result": numbers(rows, sample.modality)}
                    for who, rows in predictions[sample.id].items()
                ],
            }
            file.write(json.dumps(task, ensure_ascii=False))
        file.write("\n]\n" if content.samples else "[]\n")
    named = [row.topic for row in content.predictions]
    named += [row.topic for row in content.answers if row.value not in (0.0, 1.0)]
    modalities = {sample.modality for sample in content.samples.values()}
    config = out.with_suffix(".xml")
    asked = bool(content.asked)
    write_text(config, configuration(tuple(content.topics), sorted(set(named)), modalities, asked))
    return [out, config]


def task_data(sample: Sample, asked: Sequence[str] | None = None) -> dict[str, Any]:
    """A task's `data`: the media under `video` or `image`, the sample's columns, and what is asked."""
    own = {"sample_id": sample.id, "modality": sample.modality, "group": sample.group, "split": sample.split}
    key = sample.modality or "video"
    data: dict[str, Any] = {key: sample.media, **own, **sample.further}
    return data if asked is None else data | {ASKED: [{"value": topic} for topic in asked]}


def results(rows: Sequence[Answer], modality: str) -> list[dict[str, Any]]:
    """One annotator's answers of one sample: what is there, what is not, and numbers for what is between."""
    found = []
    for control, value in ((YES, 1.0), (NO, 0.0)):
        topics = [row.topic for row in rows if row.value == value]
        if topics:
            found.append(_written(control, modality, "choices", topics))
    return found + numbers([row for row in rows if row.value not in (0.0, 1.0)], modality)


def numbers(rows: Sequence[Answer], modality: str) -> list[dict[str, Any]]:
    """A number for each topic, under a control that has its name."""
    return [_written(row.topic, modality, "number", row.value) for row in rows if math.isfinite(row.value)]


def _written(control: str, modality: str, kind: str, value: Any) -> dict[str, Any]:
    return {"from_name": control, "to_name": modality or "video", "type": kind, "value": {kind: value}}


def _annotator(who: str) -> Any:
    """As imports into Label Studio take it: a user's number, or an object with an address."""
    return int(who) if who.isascii() and who.isdigit() and str(int(who[:18])) == who else {"email": who}


def configuration(
    topics: Sequence[str], named: Sequence[str] = (), modalities: Collection[str] = (), asked: bool = False
) -> str:
    """The labeling configuration of a project for such a file.

    Args:
        topics: to choose from. named: those that have a control for a number, too. modalities: of its samples.
        asked: each task says by its `data.topics` which ones it asks for; `topics` are then no choices of all tasks.
    """
    lines = ["<View>"]
    for modality in sorted(modalities or {"video"}):
        tag = "Image" if modality == "image" else "Video"
        lines.append(f'  <{tag} name="{modality}" value="${modality}"/>')
    target = ",".join(sorted(modalities or {"video"}))
    for control, words in ((YES, "It is there"), (NO, "It is not there")):
        choice = f'  <Choices name="{control}" toName="{target}" choice="multiple"'
        lines.append(f"  <Header value={quoteattr(words)}/>")
        lines.append(f'{choice} value="${ASKED}">' if asked else f"{choice}>")
        lines += [f"    <Choice value={quoteattr(topic)}/>" for topic in topics]
        lines.append("  </Choices>")
    for topic in named:
        lines.append(f'  <Number name={quoteattr(topic)} toName="{target}" min="0" max="1" step="any"/>')
    return "\n".join([*lines, "</View>", ""])
