"""People's answers, read back from Label Studio's export or the filled CSV file, and put into the dataset's files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from t2t.campaign.campaign import Campaign
from t2t.campaign.entries import changing, open_dataset
from t2t.campaign.record import RETRACTED
from t2t.core.errors import DataError, T2TError, listed, nearest, one_line
from t2t.core.workspace import Workspace
from t2t.data.answers import Answer, append, merge, move_groups
from t2t.data.csv_files import Dialect, read_csv, records
from t2t.data.dataset import Dataset
from t2t.data.formats.label_studio import annotator_of
from t2t.data.source import SourceFile

# What a topic may be answered with, and what stands in a task's place for a topic that has none.
ANSWERS = ("yes", "no", "unsure")
NOTHING = "(nothing more)"
RELEVANCE = {"yes": 1.0, "no": 0.0}


@dataclass(frozen=True)
class Read:
    """What came of a file of answers.

    rows: added to the annotations. known: stood there already. empty: pairs without a yes or no: unsure, skipped, not
    answered yet. conflicts: a sentence each. moved: groups that came from `unlabeled` to `train`. untaught: of the new
    rows, those of unseen topics, which no round trains on. annotations: the file.
    """

    rows: int
    known: int
    empty: int
    conflicts: list[str]
    moved: list[str]
    untaught: int
    annotations: Path
    annotators: list[str] = field(default_factory=list)


def read_answers(workspace: Workspace, dataset: str, file: Path, annotator: str | None, move: bool) -> Read:
    """Adds the answers in a file to the annotations of a dataset. The same file again adds nothing.

    Args:
        annotator: who answered where the file does not say, or says it by Label Studio's number only.
        move: whether groups of the split `unlabeled` with answers become `train`, where answers are trained on.

    Raises DataError, naming the record, for an answer that is none, or of a sample or topic that is not there, before
    anything is written; T2TError where clips would have to be moved and `move` is not set.
    """
    with changing(workspace, dataset):
        opened = open_dataset(workspace, dataset)
        answers, empty = _answers(file, annotator, opened)
        splits = _splits(opened, answers)
        path = (opened.root / opened.config.annotations).resolve()
        merged = merge(path, answers, opened.config.table_limits)
        groups = sorted({splits[a.sample_id][1] for a in answers if splits[a.sample_id][0] == "unlabeled"})
        if groups and not move:
            raise T2TError(
                f"{len(groups):,} groups of split 'unlabeled' have answers, and no round trains on people's labels of "
                f"that split: add --move to make them 'train' in {opened.root / opened.config.samples} "
                f"({listed(groups, 5)})."
            )
        # First the splits: killed in between, the same command again adds the answers.
        if groups:
            move_groups((opened.root / opened.config.samples).resolve(), groups, "train")
        append(path, merged.new)
    taught = [a for a in merged.new if splits[a.sample_id][0] not in ("validation", "test")]
    untaught = sum(answer.topic in opened.unseen for answer in taught)
    names = sorted({answer.annotator for answer in merged.new})
    return Read(len(merged.new), merged.known, empty, merged.conflicts, groups, untaught, path, names)


def next_step(campaign: Campaign) -> str:
    """What a run of a campaign makes of other annotations, in a sentence."""
    name, records = campaign.config.name, campaign.ledger.records()
    k = len(records)
    run = f"t2t run {name}" if name in campaign.workspace.names("campaigns") else f"t2t run CAMPAIGN --name {name}"
    if why := campaign.lineup.stop(records):
        # Retracted rounds do not count.
        more = 1 + sum(record.status != RETRACTED for record in records)
        return (
            f"The campaign has ended: {why}. One more round learns from them: {run} --set "
            f"rounds.max={more} --set rounds.patience={more}"
        )
    if campaign.files(k).begun.is_file():
        return (
            f"Round {k} has begun and ends with the annotations that it began with; the one after it learns from "
            f"these: {run}"
        )
    return f"Round {k} learns from them: {run}"


def _answers(file: Path, annotator: str | None, dataset: Dataset) -> tuple[list[Answer], int]:
    """The answers of a file, each once, and how many pairs have none."""
    if annotator is not None and (annotator != annotator.strip() or not annotator.isprintable() or not annotator):
        raise T2TError(f"--annotator takes a name; {annotator!r} is none.")
    source = SourceFile(file)
    if not file.is_file():
        raise DataError(file, "no such file.")
    dataset.config.table_limits.refuse_bytes(file, file.stat().st_size)
    content = source.read()
    begins = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not begins:
        raise DataError(file, "the file is empty; expected a header line and rows.")
    of_label_studio = begins[:1] in (b"[", b"{")
    read = _of_label_studio(file, content, annotator) if of_label_studio else _of_csv(file, content, annotator)
    found: dict[tuple[str, str, str], Answer] = {}
    empty = 0
    for answer in read:
        if answer is None:
            empty += 1
            continue
        before = found.setdefault(answer.key, answer)
        if before.relevance != answer.relevance:
            raise DataError(
                file,
                f"{answer.where}: {answer.annotator!r} says {answer.relevance:g} of sample {answer.sample_id!r} and "
                f"topic {answer.topic!r}, and {before.relevance:g} in {before.where}; keep one of them.",
            )
    topics = set(dataset.topics)
    for answer in found.values():
        if answer.topic not in topics:
            raise DataError(
                file, f"{answer.where}: unknown topic {one_line(repr(answer.topic))}.{nearest(answer.topic, topics)}"
            )
    return list(found.values()), empty


def _splits(dataset: Dataset, answers: list[Answer]) -> dict[str, tuple[str, str]]:
    """Of each sample its split and group. Raises T2TError for an answer of a sample that is not there, or of `test`."""
    columns = (dataset.samples[name].to_pylist() for name in ("sample_id", "split", "group"))
    splits = {name: (split, group) for name, split, group in zip(*columns, strict=True)}
    for answer in answers:
        if answer.sample_id not in splits:
            hint = nearest(answer.sample_id, splits) if len(splits) <= 10_000 else ""
            raise T2TError(f"{answer.where}: unknown sample {one_line(repr(answer.sample_id))}.{hint}")
        if splits[answer.sample_id][0] == "test":
            raise T2TError(
                f"{answer.where}: sample {answer.sample_id!r} is of split 'test', of which nothing is asked here. "
                f"Write it into {dataset.config.annotations} yourself if it is meant so."
            )
    return splits


def _of_csv(file: Path, content: bytes, annotator: str | None) -> Iterator[Answer | None]:
    names = ("sample_id", "topic", "annotator", "relevance")
    try:
        table = read_csv(file, content, list(names))
    except (pa.ArrowException, OSError) as error:
        raise DataError(file, f"not readable as a table: {one_line(error).rstrip('.')}.") from None
    for name in (*names[:2], names[3]):
        if name not in table.column_names:
            raise DataError(file, f"column {name!r} is missing.{nearest(name, table.column_names)}")
    comma = Dialect.of(content[: 1 << 16]).decimal_comma
    lines = [line for line, _ in records(file)][1:]
    for line, row in zip(lines, table.to_pylist(), strict=True):
        said = row["relevance"].strip()
        if said.lower() in ("", "unsure"):
            yield None
            continue
        who = (row.get("annotator") or "").strip() or annotator
        if not who:
            raise DataError(file, "who answered? Fill the cell, or add --annotator NAME for all.", line, "annotator")
        value = _relevance(file, line, said.replace(",", ".") if comma else said)
        yield Answer(row["sample_id"], row["topic"], who, value, f"{file}, row {line}")


def _relevance(file: Path, line: int, said: str) -> float:
    if said.lower() in RELEVANCE:
        return RELEVANCE[said.lower()]
    try:
        value = float(said)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise DataError(
            file,
            f"{one_line(repr(said), 100)} is neither yes, no nor unsure, nor a number from 0 to 1.",
            line,
            "relevance",
        )
    return value


def _of_label_studio(file: Path, content: bytes, annotator: str | None) -> Iterator[Answer | None]:
    """The choices in an export in Label Studio's format JSON; skipped and unsure ones are None."""
    try:
        tasks = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(file, f"not readable as JSON: {one_line(error, 100)}.") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(file, "no list of tasks: export in Label Studio's format JSON.")
    for number, task in enumerate(tasks, start=1):
        where, data, given = f"{file}, task {task.get('id', number)}", task.get("data"), task.get("annotations")
        if not isinstance(data, dict) or not isinstance(given, list):
            raise DataError(file, f"task {number} has no `data` and `annotations`: export in the format JSON.")
        sample = data.get("sample_id")
        if not isinstance(sample, str):
            raise DataError(file, f"task {number}: no `sample_id` in its data; is it one that t2t annotate wrote?")
        slots = {name: topic for name, topic in data.items() if name.startswith("topic") and topic != NOTHING}
        if not given:
            yield from [None] * len(slots)
        for annotation in _newest(file, number, given):
            said = {} if annotation.get("was_cancelled") else _choices(file, number, annotation.get("result"))
            for name, topic in slots.items():
                choice = said.get(name)
                who = annotator or annotator_of(annotation)
                if choice not in RELEVANCE:
                    yield None
                elif not who:
                    raise DataError(file, f"task {number}: nobody's annotation; add --annotator NAME.")
                else:
                    yield Answer(sample, str(topic), who, RELEVANCE[choice], where)


def _newest(file: Path, number: int, given: list[Any]) -> list[dict[str, Any]]:
    """Of each annotator of a task the newest annotation."""
    newest: dict[str, dict[str, Any]] = {}
    for annotation in given:
        if not isinstance(annotation, dict):
            raise DataError(file, f"task {number}: an annotation is no object: export in the format JSON.")
        who = annotator_of(annotation)
        times = [str(one.get("updated_at") or one.get("created_at") or "") for one in (newest.get(who, {}), annotation)]
        if times[0] <= times[1]:
            newest[who] = annotation
    return list(newest.values())


def _choices(file: Path, number: int, result: Any) -> dict[str, str]:
    """The answer by the name of its control. Raises DataError for what is none of ours."""
    found: dict[str, str] = {}
    for item in result if isinstance(result, list) else []:
        value = item.get("value") if isinstance(item, dict) else None
        chosen = value.get("choices") if isinstance(value, dict) else None
        if not isinstance(chosen, list) or not isinstance(item.get("from_name"), str):
            continue  # of a control that somebody added
        if not item["from_name"].startswith("topic"):
            continue
        if len(chosen) != 1 or chosen[0] not in ANSWERS:
            shown = one_line(repr(chosen), 100)
            raise DataError(file, f"task {number}: the answer {shown} is neither yes, no nor unsure.")
        found[item["from_name"]] = chosen[0]
    return found
