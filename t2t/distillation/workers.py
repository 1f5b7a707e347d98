"""A distillation by several workers on this machine (`training.workers`): this process, and helpers of its own.

Every worker runs the same loop (`t2t.distillation.loop.distill`) on the same frames; each opens the teachers, and DDP
adds up what they compute. A worker that dies ends the distillation in words; the same command goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t2t.core.config import Config
from t2t.core.files import staging
from t2t.data.embeddings.frames import FrameSource
from t2t.distillation.config import DistillationConfig
from t2t.training.group import ALONE, Group
from t2t.training.processes import helpers


class DistillationJob(Config):
    """What a helper is told. All paths are absolute; all workers see them.

    work: the folder with decoded frames and kept features. keys: a file, JSON, of the frames' keys; most: of these
    frames, at most (`FrameSource.open`). snapshot: which the leader writes, and all go on from.
    """

    title: str
    config: DistillationConfig
    work: Path
    keys: Path
    most: int | None
    snapshot: Path


@contextmanager
def together(
    title: str, config: DistillationConfig, source: FrameSource, work: Path, snapshot: Path, device: str
) -> Iterator[Group]:
    """The group that trains together, for the length of the block; this process leads it, or is alone.

    Teachers' features that are kept have to be there before. Raises T2TError where the machine has fewer GPUs, or a
    helper ends too soon.
    """
    if config.training.workers == 1:
        yield ALONE
        return
    with staging(work) as folder:
        keys = folder / "keys.json"
        keys.write_text(json.dumps(list(source.keys)), encoding="utf-8")
        job = DistillationJob(title=title, config=config, work=work, keys=keys, most=source.kept, snapshot=snapshot)
        with helpers(job, config.training.workers, device, folder, "t2t.distillation.worker") as group:
            yield group
