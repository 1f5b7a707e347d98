"""Labels enter the lake here: data, hand-written teachers, and students that became teachers.

Layout, one prefix for each teacher and round so that merges are clean:

    <dataset>/data/...                        samples, annotations, topics, quarantine
    <dataset>/teachers/<id>/entry.json        the identity: entry, fingerprint
    <dataset>/teachers/<id>/labels.parquet    its labels
    <dataset>/campaigns/<campaign>/...        campaign.json, round-<k>/, ledger/
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from t2t.campaign import CampaignConfig
from t2t.dataset import Dataset
from t2t.errors import T2TError
from t2t.files import sha256
from t2t.lake import Commit, Lake, UnknownPath, UnknownRef
from t2t.lake.tables import LABEL_SCHEMA, read_table, write_parquet
from t2t.ledger import TeacherRef
from t2t.teachers import Teacher

log = logging.getLogger("t2t")


def teacher_prefix(dataset: str, teacher_id: str) -> str:
    return f"{dataset}/teachers/{teacher_id}/"


def read_json(lake: Lake, ref: str, path: str) -> dict[str, Any] | None:
    """A JSON file of the lake, or None where the reference or the path does not exist."""
    try:
        with lake.read(ref, path) as file:
            return json.load(file)
    except (UnknownPath, UnknownRef):
        return None


@contextmanager
def staging(work: Path) -> Iterator[Path]:
    """A folder for files on their way into the lake, removed afterwards."""
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="staging-", dir=work) as folder:
        yield Path(folder)


def _latest(lake: Lake, ref: str, prefix: str) -> Commit | None:
    """The newest commit whose key begins so. What may change more than once, and back, needs it: a key that holds the
    content alone would be found again in the log when an earlier content returns, and nothing would be written."""
    return next((commit for commit in lake.log(ref) if commit.key.startswith(prefix)), None)


def commit_data(lake: Lake, dataset: Dataset, quarantine: pa.Table, work: Path) -> str:
    """Commits samples, annotations, topics and quarantine to `main`; the same data again changes nothing."""
    prefix = f"{dataset.name}/data/"
    # Paths are this machine's own; the lake keeps what identifies a sample.
    quarantine = quarantine.select(["sample_id", "reason"])
    unreadable = sha256(json.dumps(quarantine.to_pylist()))
    about = {"dataset": dataset.name, "fingerprint": dataset.fingerprint, "quarantine": unreadable}
    latest = _latest(lake, "main", f"data:{dataset.name}:")
    if latest is not None and latest.metadata == about:
        return latest.id
    with staging(work) as folder:
        files: dict[str, Path | bytes] = {}
        for name, table in (
            ("samples", dataset.samples.drop_columns(["path"])),
            ("human", dataset.human),
            ("quarantine", quarantine),
        ):
            write_parquet(table, folder / f"{name}.parquet")
            files[f"{prefix}{name}.parquet"] = folder / f"{name}.parquet"
        topics = [{"topic": topic, "unseen": topic in dataset.unseen} for topic in dataset.topics]
        files[f"{prefix}topics.json"] = json.dumps(topics, indent=1, ensure_ascii=False).encode()
        return lake.commit(
            "main",
            files,
            key=f"data:{dataset.name}:{dataset.fingerprint}:{unreadable}:{latest.id if latest else 'first'}",
            message=f"Data: {dataset.name}, {len(dataset.samples)} samples",
            metadata=about,
        )


def freeze_campaign(lake: Lake, prefix: str, config: CampaignConfig) -> None:
    """Writes the campaign's configuration at its first start; later it is compared.

    Teachers may be added, and rounds prolonged; any other change would make rounds that cannot be compared, so it
    raises T2TError that names the changed keys.
    """
    current = json.loads(config.model_dump_json())
    known = read_json(lake, "main", f"{prefix}campaign.json")
    if known is None:
        lake.commit(
            "main",
            {f"{prefix}campaign.json": json.dumps(current, indent=2).encode()},
            key=f"campaign:{prefix}",
            message=f"Campaign: {config.name}",
            metadata={"campaign": config.name},
        )
        return
    free = {"description", "rounds"}
    if set(known["teachers"]) <= set(current["teachers"]):
        free.add("teachers")
    changed = sorted(key for key in {*known, *current} - free if known.get(key) != current.get(key))
    if changed:
        raise T2TError(
            f"Campaign {config.name!r} has begun with another configuration; changed since: {', '.join(changed)}. "
            "Its rounds could not be compared: run it under another name (--name)."
        )


def registered(lake: Lake, dataset: str, teacher_id: str, ref: str = "main") -> dict[str, Any] | None:
    """A teacher's registration (`id`, `fingerprint`, `rows`, `entry`), or None when the lake does not know it."""
    return read_json(lake, ref, f"{teacher_prefix(dataset, teacher_id)}entry.json")


def register(
    lake: Lake,
    branch: str,
    dataset: Dataset,
    teacher: Teacher,
    samples: pa.Table,
    topics: Sequence[str],
    work: Path,
    metadata: dict[str, str] | None = None,
) -> TeacherRef:
    """Labels `samples` and commits the teacher's entry with its labels, in one commit.

    A teacher that is registered with the same fingerprint is left as it is. An identity is immutable: the same id with
    another fingerprint raises T2TError. The ground truth alone may grow: new annotations replace `human`'s labels by a
    new commit, and earlier rounds keep reading the one they were trained on.
    """
    entry = teacher.entry
    fingerprint = teacher.fingerprint()
    known = registered(lake, dataset.name, entry.id, branch)
    if known is not None and known["fingerprint"] == fingerprint:
        return TeacherRef(id=entry.id, fingerprint=fingerprint)
    if known is not None and entry.kind != "annotations":
        raise T2TError(
            f"Teacher {entry.id!r} is registered with other content (fingerprint {known['fingerprint'][:12]}, now "
            f"{fingerprint[:12]}): its entry, label file, weights or preprocessing changed. Labels of two teachers are "
            "never mixed under one identity: choose a new id."
        )
    prefix = teacher_prefix(dataset.name, entry.id)
    key = f"teacher:{dataset.name}:{entry.id}:"
    latest = _latest(lake, branch, key) if known is not None else None
    key += fingerprint if latest is None else f"{fingerprint}:{latest.id}"
    with staging(work) as folder:
        rows = write_parquet(teacher.label(samples, topics), folder / "labels.parquet", LABEL_SCHEMA)
        content = {"id": entry.id, "kind": entry.kind, "fingerprint": fingerprint, "rows": rows}
        content["entry"] = entry.model_dump(mode="json")
        lake.commit(
            branch,
            {
                f"{prefix}entry.json": json.dumps(content, indent=2).encode(),
                f"{prefix}labels.parquet": folder / "labels.parquet",
            },
            key=key,
            message=f"Teacher: {entry.id} ({entry.kind}), {rows} labels of {dataset.name}",
            metadata={"dataset": dataset.name, "teacher": entry.id, "fingerprint": fingerprint, "rows": str(rows)}
            | (metadata or {}),
        )
    log.info("Registered teacher %s: %s labels", entry.id, f"{rows:,}")
    return TeacherRef(id=entry.id, fingerprint=fingerprint)


def read_labels(lake: Lake, ref: str, dataset: str, teacher_id: str) -> pa.Table:
    """A registered teacher's labels at a commit."""
    return read_table(lake, ref, f"{teacher_prefix(dataset, teacher_id)}labels.parquet")
