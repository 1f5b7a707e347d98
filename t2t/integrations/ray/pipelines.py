"""Embedding and labeling as Ray Data pipelines (`engine: ray`): stateful actors, one on each GPU, or CPU where there
is none.

What crosses the cluster is small: names of files go out, counts come back. Results go where they go on one machine,
to the work folder, which all nodes share: a shard of the embedding store, a part of a teacher's labels, each written
whole under a name of its own. That is why nothing is lost or doubled when an actor, a node or the driver dies: work is
repeated, and finds what is there; one lake commit follows, made by the driver from all parts, as on one machine.
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from t2t.core.errors import T2TError
from t2t.core.files import sha256_file, staging
from t2t.core.host import find_device
from t2t.core.progress import progress
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.distilled import located
from t2t.data.embeddings.embed import Batcher, Clips, decode_in_order
from t2t.data.embeddings.encoders import build_encoder, by_clip, encoded, refuse_not_finite
from t2t.data.embeddings.limits import Limits
from t2t.data.embeddings.store import EmbeddingStore
from t2t.integrations.ray.connect import cluster, explained
from t2t.teachers import TeacherContext, TeacherEntry, build
from t2t.teachers.labeling import Part

# Items that wait at an actor beside the one it works on.
AHEAD = 1


@dataclass(frozen=True)
class EmbedOnRay:
    """Hashes and embeds files into the store `<work>/embeddings`, in the same shards as one machine would."""

    config: EncoderConfig
    work: Path
    shard_samples: int
    limits: Limits | None = None

    def hash(self, paths: Sequence[str]) -> Iterator[tuple[str, int, int, str]]:
        """Of each file that can be read: absolute path, size, time of change in ns, hex SHA-256."""
        for row in _spread(self._items(paths), _Hasher, (), self.work, "Hashing files", len(paths), "files"):
            yield from map(tuple, json.loads(row["content"]))

    def embed(self, missing: Sequence[tuple[str, str]]) -> None:
        """Args: missing: each file's SHA-256 and path. Those that cannot be read are left out."""
        arguments = (self.config, self.work.absolute(), self.limits)
        for _ in _spread(self._items(missing), _Embedder, arguments, self.work, "Embedding", len(missing), "videos"):
            pass

    def _items(self, files: Sequence[Any]) -> list[dict[str, Any]]:
        starts = range(0, len(files), self.shard_samples)
        parts = [files[start : start + self.shard_samples] for start in starts]
        return [{"number": i, "content": json.dumps(part).encode()} for i, part in enumerate(parts)]


def label_parts(entry: TeacherEntry, context: TeacherContext, parts: Sequence[Part]) -> None:
    """Makes the files of all parts.

    The teacher is built anew by each actor, from its entry; the dataset that it sees there has no tables.
    """
    topics = list(dict.fromkeys(part.topics for part in parts))
    items = [
        {
            "number": i,
            "file": str(part.file.absolute()),
            "topics": topics.index(part.topics),
            "content": _bytes(part.samples),
        }
        for i, part in enumerate(parts)
    ]
    dataset = context.dataset
    empty = replace(dataset, samples=dataset.samples.schema.empty_table(), human=dataset.human.schema.empty_table())
    there = replace(context, dataset=empty, work=context.work.absolute())
    samples = sum(len(part.samples) for part in parts)
    for _ in _spread(
        items, _Labeler, (entry, there, topics), context.work, f"Labeling as {entry.id}", samples, "samples"
    ):
        pass
    lost = [part.file for part in parts if not part.file.is_file()]
    if lost:
        raise T2TError(f"{lost[0]}: labeled, but not here. The work folder has to be one that all nodes share.")


class _Hasher:
    """Hashes files; a GPU's actor does so with all its cores."""

    def __init__(self, common: _Common):
        self.cores = common.enter()

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        files = json.loads(item["content"])
        with ThreadPoolExecutor(self.cores) as pool:
            hashed = [file for file in pool.map(_hashed, files) if file]
        return {"number": item["number"], "done": len(files), "content": json.dumps(hashed).encode()}


def _hashed(path: str) -> tuple[str, int, int, str] | None:
    path = os.path.abspath(path)
    try:
        state = os.stat(path)
        return (path, state.st_size, state.st_mtime_ns, sha256_file(path)) if stat.S_ISREG(state.st_mode) else None
    except OSError:
        return None


class _Embedder:
    """Decodes and encodes the files of a shard, and adds it to the store."""

    def __init__(self, common: _Common, config: EncoderConfig, work: Path, limits: Limits | None):
        self.workers, self.limits = common.enter(), limits
        self.encoder = build_encoder(located(config, work), find_device())
        self.store = EmbeddingStore(work / "embeddings", self.encoder.fingerprint)

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        files = json.loads(item["content"])
        # An actor that died may have written the shard.
        self.store.refresh()
        missing = [(key, path) for key, path in files if key not in self.store]
        make = partial(encoded, self.encoder)
        shard = Clips(make) if by_clip(self.encoder) else Batcher(make, self.encoder.batch_size)
        with closing(decode_in_order([path for _, path in missing], self.encoder, self.workers, self.limits)) as clips:
            for (key, _), clip in zip(missing, clips, strict=True):
                if not isinstance(clip, Unreadable):
                    shard.add(key, clip)
        keys, embeddings = shard.finish()
        for key, embedding in zip(keys, embeddings, strict=True):
            refuse_not_finite(self.encoder, dict(missing)[key], embedding)
        self.store.write(keys, embeddings)
        return {"number": item["number"], "done": len(files)}


class _Labeler:
    """Has a teacher label the samples of a part, and writes it."""

    def __init__(
        self, common: _Common, entry: TeacherEntry, context: TeacherContext, topics: Sequence[tuple[str, ...]]
    ):
        common.enter()
        self.teacher = build(entry, replace(context, device=find_device()))
        self.topics = topics

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        part = Part(Path(item["file"]), _table(item["content"]), self.topics[item["topics"]])
        # An actor that died may have written the part; one that is only out of reach may be writing it now.
        if not part.file.is_file():
            temporary = part.file.with_name(f".{uuid.uuid4().hex}-{part.file.name}")
            replace(part, file=temporary).label(self.teacher)
            os.replace(temporary, part.file)
        return {"number": item["number"], "done": len(part.samples)}


class _Common:
    """What every actor does first. shared: a folder that exists while the driver waits."""

    def __init__(self, shared: Path, cores: int):
        self.shared, self.here, self.cores = shared.absolute(), Path.cwd(), cores

    def enter(self) -> int:
        """Refuses a node that does not see the work folder; returns how many cores an actor has."""
        if not self.shared.is_dir():
            raise T2TError(
                f"{self.shared.parent}: a node of the Ray cluster does not see this folder. Put it on storage that all "
                "nodes share, under the same path (T2T_WORK)."
            )
        # Relative paths mean here what they mean for who started it, where this node has that folder.
        if self.here.is_dir():
            os.chdir(self.here)
        return self.cores


def _spread(
    items: Sequence[dict[str, Any]],
    worker: type,
    arguments: tuple[Any, ...],
    work: Path,
    title: str,
    total: int,
    unit: str,
) -> Iterator[dict[str, Any]]:
    """Gives each item to one of many actors, and yields their answers as they come."""
    with staging(work) as shared, cluster() as ray:
        from ray.data import ActorPoolStrategy, DataContext, from_items

        settings = DataContext.get_current()
        settings.enable_progress_bars = False
        has = ray.cluster_resources()
        cpus, gpus = int(has.get("CPU", 1)), int(has.get("GPU", 0))
        # An actor on a GPU takes its share of the cores along, for decoding.
        cores = max(cpus // gpus, 1) if gpus else 1
        actors = max(min(gpus or cpus, len(items)), 1)
        pool = ActorPoolStrategy(
            min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=1 + AHEAD
        )
        data = from_items(list(items), override_num_blocks=len(items)).map(
            worker,
            fn_constructor_args=(_Common(shared, cores), *arguments),
            compute=pool,
            num_cpus=0 if gpus else 1,
            num_gpus=1 if gpus else 0,
            # A lost actor comes again wherever there is room, and what it had not finished is done again.
            max_restarts=-1,
            max_task_retries=-1,
        )
        try:
            with progress(title, total, unit, part=True) as advance:
                for row in data.iter_rows():
                    advance(int(row["done"]))
                    yield row
        except (GeneratorExit, T2TError):
            raise
        except Exception as error:  # its kinds differ between versions; what it wraps is what counts
            raise explained(error, title) from error


def _bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _table(content: bytes) -> pa.Table:
    with pa.ipc.open_stream(content) as reader:
        return reader.read_all()
