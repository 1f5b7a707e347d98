"""How fast things go on this machine, from what was measured here: shards, rounds, tables; or by trying a few clips."""

from __future__ import annotations

import io
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from t2t.commands.plan.model import RoundPlan
from t2t.core.errors import T2TError
from t2t.core.progress import silent
from t2t.data.embeddings.decode import Unreadable
from t2t.data.embeddings.embed import SHARD_SAMPLES, Batcher, decode_in_order
from t2t.data.embeddings.limits import limits_of
from t2t.data.labels import LABEL_SCHEMA

if TYPE_CHECKING:
    from t2t.campaign.config import CampaignConfig
    from t2t.campaign.record import Record
    from t2t.data.embeddings.encoders import FrameEncoder

# A trial takes about so many seconds, and so many clips at most.
TRY_SECONDS, TRY_FEW, TRY_MOST = 1.5, 3, 64
# So many gaps between full shards say how long a shard takes, whatever pauses there were between runs.
GAPS = 3
# Rounds whose mean says how long the next one takes.
RECENT = 3


def shard_seconds(folder: Path) -> tuple[float | None, int]:
    """Seconds a sample that embedding took, from when the shards of a store were written; and how many tell.

    After a full shard the run went on at once, after any other one it had ended. The median passes over the few gaps in
    which a run was stopped after all. None where fewer than GAPS gaps are known.
    """
    written: list[tuple[float, str, int]] = []
    for path in folder.glob("*.safetensors"):
        try:
            with safe_open(path, "np") as shard:
                samples = shard.get_slice("keys").get_shape()[0]
        except (OSError, SafetensorError):
            continue
        written.append((path.stat().st_mtime, path.name.partition("-")[0], samples))
    written.sort()
    gaps = [
        (after - before) / samples
        for (before, host, full), (after, same, samples) in pairwise(written)
        if full == SHARD_SAMPLES and host == same and samples
    ]
    return (float(np.median(gaps)), len(gaps)) if len(gaps) >= GAPS else (None, 0)


def try_few(samples: pa.Table, work: Callable[[pa.Table], object]) -> tuple[float | None, int]:
    """Seconds a sample that `work` takes, tried on a few samples from all over the table; and how many those were.

    The first sample pays for what is made only once, a few more tell how many fit into the time, and these are timed.

    Returns: None where it cannot be done, for instance because none of them is readable.
    """
    order = np.random.default_rng(0).permutation(len(samples))[: 1 + TRY_FEW + TRY_MOST]
    first, few, rest = order[:1], order[1 : 1 + TRY_FEW], order[1 + TRY_FEW :]
    with quietly(), silent():
        try:
            seconds, number = _timed(work, samples.take(first)), 1
            if len(few):
                seconds, number = _timed(work, samples.take(few)), len(few)
            more = rest[: int(TRY_SECONDS / max(seconds, 1e-3))]
            if len(more) >= number:
                seconds, number = _timed(work, samples.take(more)), len(more)
            return seconds, number
        except (T2TError, OSError):
            return None, 0


def _timed(work: Callable[[pa.Table], object], samples: pa.Table) -> float:
    start = time.perf_counter()
    work(samples)
    return (time.perf_counter() - start) / len(samples)


@contextmanager
def quietly() -> Iterator[None]:
    """The engine's own lines are about work that counts."""
    log = logging.getLogger("t2t")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def encode(samples: pa.Table, encoder: FrameEncoder) -> None:
    """What embedding does with samples, but for the store. Raises T2TError where none is readable."""
    batches = Batcher(encoder.encode, encoder.batch_size)
    paths = samples["path"].to_pylist()
    with closing(decode_in_order(paths, encoder, limits=limits_of(samples))) as clips:
        for path, clip in zip(paths, clips, strict=True):
            if not isinstance(clip, Unreadable):
                batches.add(path, clip)
    if not batches.finish()[0]:
        raise T2TError("None of the samples can be read.")


def recipe(config: CampaignConfig) -> str:
    """All of a campaign that its rounds' time depends on, but for the number of steps."""
    content = config.model_dump(mode="json", include={"encoder", "student", "training"})
    for key in ("steps", "snapshot_minutes", "snapshot_steps", "initialise", "evaluate_every", "task_weight"):
        content["training"].pop(key, None)
    return json.dumps(content, sort_keys=True)


def round_seconds(
    config: CampaignConfig, records: Sequence[Record], others: Iterable[tuple[CampaignConfig, Sequence[Record]]]
) -> tuple[float | None, str]:
    """How long a round takes, and which ones say so: this campaign's own, or those of another with the same recipe."""
    if records:
        recent = records[-RECENT:]
        return float(np.mean([record.seconds for record in recent])), f"mean of its last {len(recent)} rounds"
    for other, theirs in others:
        if theirs and recipe(other) == recipe(config):
            recent = theirs[-RECENT:]
            # With `recipe: auto` both take as many as their data need.
            scale = 1.0 if "auto" in (config.recipe, other.recipe) else config.training.steps / other.training.steps
            source = f"mean of {len(recent)} rounds of {other.name}" + (", scaled by steps" if scale != 1 else "")
            return float(np.mean([record.seconds for record in recent])) * scale, source
    return None, ""


def with_controls(rounds: Sequence[RoundPlan], outside: int, measured: str) -> str:
    """Has each round that learns from students take twice as long, since a control is trained beside it, for as many
    steps; what a round took before is noted without it.

    Args:
        outside: the teachers of a round that learns from no student. measured: where the rounds' times come from.

    Returns: `measured` with that said.
    """
    beside = [planned for planned in rounds if planned.teachers > outside and planned.seconds is not None]
    for planned in beside:
        planned.seconds = 2 * (planned.seconds or 0.0)
    return f"{measured}; twice, where a control is trained beside it" if beside else measured


def label_bytes(ids: Sequence[str], topics: Sequence[str]) -> float:
    """Bytes of a label in a table, measured on one that is made of a dataset's own names."""
    ids, topics = ids[:2000], topics[:50]
    count = len(ids) * len(topics)
    columns = [pa.array(np.repeat(ids, len(topics))), pa.array(np.tile(topics, len(ids)))]
    columns += [pa.repeat(pa.scalar("teacher"), count), pa.array(np.random.default_rng(0).random(count, np.float32))]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=LABEL_SCHEMA), buffer, compression="zstd")
    return buffer.tell() / max(count, 1)
