"""`t2t data export`: a dataset as other programs read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
from rich.markup import escape

from t2t.campaign.entries import open_dataset, teacher_entry
from t2t.campaign.find import lakes
from t2t.commands.tables import console
from t2t.core.errors import T2TError, listed, nearest, one_line
from t2t.core.workspace import Workspace
from t2t.data.dataset import Dataset
from t2t.data.formats.merge import Tables
from t2t.data.formats.model import OWN, Answer, Content, Options, Sample
from t2t.data.formats.table import FORMATS
from t2t.data.labels import HUMAN
from t2t.data.remote import is_remote
from t2t.lake import Lake
from t2t.teachers import TeacherContext, build
from t2t.teachers.retraction import marks
from t2t.teachers.store import label_tables, registered


def export_data(
    workspace: Workspace, name: str, format_name: str, out: Path, teachers: Sequence[str] = (), prefix: str = ""
) -> list[Path]:
    """Writes a dataset in a format: each annotator's answers, and labels of teachers as predictions under their ids.

    Args:
        prefix: stands before each file's path within the dataset's folder; without one, paths are absolute. Addresses
            stay as they are.

    A teacher's labels are those in the lake; of one of kind `labels` that no lake has yet, those of its file.

    Returns: the files.

    Raises T2TError for an unknown dataset, format or teacher, and where `out` is there.
    """
    if format_name not in FORMATS:
        raise T2TError(
            f"--format {one_line(format_name, 40)}: no format that is written.{nearest(format_name, FORMATS)}"
        )
    if out.exists():
        raise T2TError(f"{out}: is there; choose another name, or remove it.")
    dataset = open_dataset(workspace, name)
    sources = {teacher: _source(workspace, dataset, teacher) for teacher in dict.fromkeys(teachers)}
    content = content_of(dataset)
    for teacher, tables in sources.items():
        for table in tables:
            ids, topics = (table[column].to_pylist() for column in ("sample_id", "topic"))
            # The shortest number that is this float32: what was 0.3 stays 0.3.
            values = [float(str(value)) for value in table["confidence"].to_numpy()]
            content.predictions += [
                Answer(sample, topic, teacher, value)
                for sample, topic, value in zip(ids, topics, values, strict=True)
                if sample in content.samples and topic in content.topics
            ]
    if prefix:
        for sample in content.samples.values():
            if is_remote(sample.media):
                continue
            if not (path := Path(sample.media)).is_relative_to(dataset.root):
                raise T2TError(
                    f"{path}: is outside of {dataset.root}, so it has no path behind --prefix; leave it out."
                )
            sample.media = prefix + quote(path.relative_to(dataset.root).as_posix())
    out.parent.mkdir(parents=True, exist_ok=True)
    files = FORMATS[format_name].write(content, out, Options())
    for line in (
        f"{len(content.samples):,} samples, {len(content.topics):,} topics, {len(content.answers):,} answers of "
        f"{len({row.who for row in content.answers}):,} annotators, {len(content.predictions):,} labels of "
        f"{len(sources):,} teachers.",
        *content.remarks,
        *(f"Not in this format: {count:,} {what}." for what, count in content.counts.items()),
        *(f"Wrote {path}" for path in files),
    ):
        console.print(escape(line), soft_wrap=True)
    return files


def content_of(dataset: Dataset) -> Content:
    """A dataset's samples, topics and people's answers; media by their absolute path."""
    tables = Tables.of(dataset.config, dataset.root)
    paths = dict(zip(*(dataset.samples[column].to_pylist() for column in ("sample_id", "path")), strict=True))
    content = Content(topics=dict.fromkeys(dataset.topics))
    for row in tables.samples.values():
        further = {key: cell for key, cell in row.items() if key not in OWN and cell}
        own = (row["modality"], row["group"], row["split"])
        content.samples[row["sample_id"]] = Sample(row["sample_id"], paths[row["sample_id"]], "", *own, further)
    content.answers = [Answer(*key, value) for key, value in tables.annotations.items() if value is not None]
    if empty := len(tables.annotations) - len(content.answers):
        content.counts["pairs that somebody was shown and did not answer"] += empty
    return content


def _source(workspace: Workspace, dataset: Dataset, teacher: str) -> Iterator[pa.Table]:
    """Tables of a teacher's labels. Raises T2TError where nobody has any, or two lakes have different ones."""
    if teacher == HUMAN:
        raise T2TError("--teachers human: people's answers are exported as they are, each annotator's own.")
    found: dict[str, Lake] = {}
    for lake in lakes(workspace):
        registration = registered(lake, dataset.name, teacher)
        if registration is not None:
            if teacher in marks(lake, dataset.name):
                raise T2TError(
                    f"Teacher {teacher!r} is retracted; t2t teachers retract {teacher} --undo takes it back."
                )
            found[registration.fingerprint] = lake
    if len(found) > 1:
        where = listed([lake.uri("main", "") for lake in found.values()])
        raise T2TError(f"Teacher {teacher!r} has other labels in each of several lakes: {where}.")
    if found:
        return label_tables(next(iter(found.values())), "main", dataset.name, teacher)
    entry = teacher_entry(workspace, teacher, dataset.root)
    if entry.kind != "labels":
        raise T2TError(
            f"Teacher {teacher!r} (kind {entry.kind}) has no labels of {dataset.name!r} in a lake yet: run a campaign "
            "with it first."
        )
    return build(entry, TeacherContext(dataset, workspace.work)).label(dataset.samples, dataset.topics)
