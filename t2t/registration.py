"""Labels enter the lake here: data, hand-written teachers, and students that became teachers.

Layout, one prefix for each teacher and round so that merges are clean:

    <dataset>/data/...                        samples, annotations, topics, quarantine
    <dataset>/teachers/<id>/entry.json        the identity: entry, fingerprint
    <dataset>/teachers/<id>/labels.parquet    its labels
    <dataset>/teachers/<id>/asked.parquet     the samples it was asked for; the topics stand in entry.json
    <dataset>/teachers/<id>/retracted.json    where somebody retracted it (`t2t.retraction`)
    <dataset>/campaigns/<campaign>/...        campaign.json, round-<k>/, ledger/
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from t2t.config import parse
from t2t.dataset import Dataset
from t2t.errors import T2TError
from t2t.files import sha256, staging
from t2t.labeling import Asked, label, parts_folder, parts_key, read_asked, remove_parts, shard_samples, stored
from t2t.lake import Lake
from t2t.lake.tables import LABEL_SCHEMA, label_blocks, latest_commit, read_json, read_table, write_parquet
from t2t.ledger import TeacherRef
from t2t.teachers import Teacher

if TYPE_CHECKING:
    from t2t.campaign import CampaignConfig

log = logging.getLogger("t2t")


def teacher_prefix(dataset: str, teacher_id: str) -> str:
    return f"{dataset}/teachers/{teacher_id}/"


def commit_data(lake: Lake, dataset: Dataset, quarantine: pa.Table, work: Path) -> str:
    """Commits samples, annotations, topics and quarantine to `main`; the same data again changes nothing."""
    prefix = f"{dataset.name}/data/"
    # Paths are this machine's own; the lake keeps what identifies a sample.
    quarantine = quarantine.select(["sample_id", "reason"])
    unreadable = sha256(json.dumps(quarantine.to_pylist()))
    about = {"dataset": dataset.name, "fingerprint": dataset.fingerprint, "quarantine": unreadable}
    latest = latest_commit(lake, "main", f"data:{dataset.name}:")
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


def freeze_campaign(
    lake: Lake,
    prefix: str,
    config: CampaignConfig,
    retracted: Collection[str] = frozenset(),
    taught: Collection[str] = frozenset(),
) -> None:
    """Writes the campaign's configuration at its first start; later it is compared.

    Teachers may be added, retracted ones may be taken out, rounds prolonged, snapshots made more or less often, health
    checks and watches set anew, and the work may move to other machines or more workers. Any other change would make
    rounds that cannot be compared, so it raises T2TError that names the changed keys. So does a campaign of the same
    name on another dataset: their branches would be the same.

    Args:
        taught: the teachers that the rounds so far learned from; they may not be taken out either.
    """
    current = json.loads(config.model_dump_json())
    path = f"{prefix}campaign.json"
    known = read_json(lake, "main", path)
    if known is None:
        end = f"/campaigns/{config.name}/campaign.json"
        other = next((entry.path for entry in lake.list("main") if entry.path.endswith(end)), "")
        if other:
            raise T2TError(
                f"A campaign {config.name!r} on dataset {other.split('/')[0]!r} is in this lake already, and a "
                "campaign's name is also that of its branches: run this one under another name (--name)."
            )
        lake.commit(
            "main",
            {path: json.dumps(current, indent=2).encode()},
            key=f"campaign:{prefix}",
            message=f"Campaign: {config.name}",
            metadata={"campaign": config.name},
        )
        return
    from t2t.campaign import CampaignConfig  # with it comes PyTorch, which those who only look at the lake do without

    # A newer version may have keys that the one that froze it had not: they have their defaults. Where it cannot be
    # read any more, the keys that differ are at least named.
    with suppress(T2TError):
        known = json.loads(parse(CampaignConfig, known, path).model_dump_json())
    free = {"description", "rounds", "health", "watch", "engine"}
    own = {teacher for teacher in taught if config.is_own(teacher)}
    if {*known["teachers"], *taught} - own - set(retracted) <= set(current["teachers"]):
        free.add("teachers")
    for settings in (known, current):
        for key in ("snapshot_minutes", "snapshot_steps", "workers"):
            settings.get("training", {}).pop(key, None)
    changed = sorted(key for key in {*known, *current} - free if known.get(key) != current.get(key))
    if changed:
        raise T2TError(
            f"Campaign {config.name!r} has begun with another configuration; changed since: {', '.join(changed)}. "
            "Its rounds could not be compared: run it under another name (--name)."
        )


def registered(lake: Lake, dataset: str, teacher_id: str, ref: str = "main") -> dict[str, Any] | None:
    """A teacher's registration (`id`, `fingerprint`, `rows`, `topics`, `entry`), or None when the lake has none."""
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
    """Has a teacher label what it was not asked before, and commits its entry with its labels, in one commit.

    At first that is every topic for each of `samples`; later the samples and topics that came since, whose labels are
    added by a new commit (earlier rounds keep reading the one they were trained on). With nothing missing nothing is
    written. Expensive teachers label in parts that survive a kill (`t2t.labeling`).

    An identity is immutable: the same id with another fingerprint raises T2TError. The ground truth alone may change:
    other annotations replace `human`'s labels by a new commit.
    """
    entry = teacher.entry
    fingerprint = teacher.fingerprint()
    reference = TeacherRef(id=entry.id, fingerprint=fingerprint)
    known = registered(lake, dataset.name, entry.id, branch)
    if known is not None and known["fingerprint"] != fingerprint and entry.kind != "annotations":
        raise T2TError(
            f"Teacher {entry.id!r} is registered with other content (fingerprint {known['fingerprint'][:12]}, now "
            f"{fingerprint[:12]}): its entry, label file, weights or preprocessing changed. Labels of two teachers are "
            "never mixed under one identity: choose a new id."
        )
    wanted = Asked(tuple(samples["sample_id"].to_pylist()), tuple(topics))
    parts = parts_key(dataset.name, teacher, fingerprint)
    shard = shard_samples(teacher)
    # One process at a time adds to a teacher's labels: two that began at the same commit, each with samples of its own,
    # would write over each other's.
    turn = sha256(dataset.name, entry.id)[:16]
    try:
        with parts_folder(work, f"{turn}-turn"):
            head = lake.resolve(branch)
            before = asked(lake, head, dataset.name, entry.id, wanted.topics, fingerprint)
            missing = wanted - (before or Asked())
            if before is None or missing:
                name = sha256(str(shard), *(block.key for block in missing))[:16]
                with nullcontext() if shard is None else parts_folder(work, f"{parts}-{name}") as folder:
                    _label(
                        lake, branch, head, dataset, teacher, reference, samples, wanted, before, folder, work, metadata
                    )
    finally:
        remove_parts(work, turn)
    # Also those that a kill left between the commit and this line.
    remove_parts(work, parts)
    return reference


def asked(
    lake: Lake, ref: str, dataset: str, teacher_id: str, topics: Sequence[str], fingerprint: str | None = None
) -> Asked | None:
    """What a teacher was asked so far; None where it is not registered, or has another fingerprint than the given one.

    Args:
        topics: taken for those it was asked where an older version registered it without noting them.
    """
    known = registered(lake, dataset, teacher_id, ref)
    if known is None or fingerprint not in (None, known["fingerprint"]):
        return None
    return read_asked(lake, ref, teacher_prefix(dataset, teacher_id), known.get("topics", topics))


def _label(
    lake: Lake,
    branch: str,
    head: str,
    dataset: Dataset,
    teacher: Teacher,
    reference: TeacherRef,
    samples: pa.Table,
    wanted: Asked,
    before: Asked | None,
    parts: Path | None,
    work: Path,
    metadata: dict[str, str] | None,
) -> None:
    """Labels what `wanted` has and `before` has not; commits it behind the rows that `head` has."""
    entry, fingerprint = teacher.entry, reference.fingerprint
    prefix = teacher_prefix(dataset.name, entry.id)
    now = (before or Asked()) | wanted
    key = f"teacher:{dataset.name}:{entry.id}:"
    latest = latest_commit(lake, head, key) if registered(lake, dataset.name, entry.id, head) is not None else None
    if latest is None:
        key += fingerprint
    elif before is None:
        key += f"{fingerprint}:{latest.id}"
    else:
        # Named after the commit it follows, so that a repeat finds it and nothing else does.
        key += f"{fingerprint}:{now.key[:16]}:{latest.id}"
    with staging(work) as folder, ExitStack() as stack:
        tables = label(teacher, samples, wanted - (before or Asked()), parts)
        old = 0
        if before is not None:
            file = stack.enter_context(lake.read(head, f"{prefix}labels.parquet"))
            old = pq.read_metadata(file).num_rows
            tables = chain(stored(file), tables)
        rows = write_parquet(tables, folder / "labels.parquet", LABEL_SCHEMA)
        if before is not None and rows == old and entry.kind == "annotations":
            return  # nobody has annotated the new samples yet, which is no news
        write_parquet(pa.table({"sample_id": pa.array(now.samples, pa.string())}), folder / "asked.parquet")
        content = {"id": entry.id, "kind": entry.kind, "fingerprint": fingerprint, "rows": rows}
        content |= {"topics": now.topics, "entry": entry.model_dump(mode="json")}
        about = {"dataset": dataset.name, "teacher": entry.id, "fingerprint": fingerprint, "rows": str(rows)}
        lake.commit(
            branch,
            {
                f"{prefix}entry.json": json.dumps(content, indent=2, ensure_ascii=False).encode(),
                f"{prefix}labels.parquet": folder / "labels.parquet",
                f"{prefix}asked.parquet": folder / "asked.parquet",
            },
            key=key,
            message=f"Teacher: {entry.id} ({entry.kind}), {rows} labels of {dataset.name}"
            + (f", {rows - old} of them new" if old else ""),
            metadata=about | (metadata or {}),
        )
    log.info(
        "Registered teacher %s: %s labels%s", entry.id, f"{rows:,}", f", {rows - old:,} of them new" if old else ""
    )


def label_tables(lake: Lake, ref: str, dataset: str, teacher_id: str) -> Iterator[pa.Table]:
    """A registered teacher's labels at a commit in tables of about a million rows, their names as dictionaries."""
    with lake.read(ref, f"{teacher_prefix(dataset, teacher_id)}labels.parquet") as file:
        yield from label_blocks(file)


def read_labels(lake: Lake, ref: str, dataset: str, teacher_id: str) -> pa.Table:
    """A registered teacher's labels at a commit."""
    return read_table(lake, ref, f"{teacher_prefix(dataset, teacher_id)}labels.parquet")


def label_commits(lake: Lake, ref: str, dataset: str, teachers: Sequence[str]) -> dict[str, str]:
    """Of each teacher the id of the last commit behind `ref` that wrote its labels; "" when there is none."""
    found = dict.fromkeys(teachers, "")
    left = {name: f"teacher:{dataset}:{name}:" for name in teachers}
    for commit in lake.log(ref):
        if not left:
            break
        if commit.key.startswith(f"teacher:{dataset}:"):
            for name in [name for name, key in left.items() if commit.key.startswith(key)]:
                found[name] = commit.id
                del left[name]
    return found
