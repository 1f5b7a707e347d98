"""`training.workers: 2` of a distillation: helpers that take part, that are missed when they die, and never stay."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from t2t.core.errors import T2TError
from t2t.data.embeddings.frames import FrameSettings, FrameSource, decode_frames
from t2t.distillation.cache import keep_features
from t2t.distillation.config import DistillationConfig
from t2t.distillation.loop import Distilled, Report, distill
from t2t.distillation.student import EncoderStudent
from t2t.distillation.teachers import build_teachers
from t2t.distillation.views import build_views
from t2t.distillation.workers import together
from tests.helpers.distilling import configured
from tests.helpers.processes import descendants

SIDE = 32


def pictures(folder: Path) -> pa.Table:
    draws = np.random.default_rng(0)
    paths = [folder / f"{number:02}.png" for number in range(20)]
    for path in paths:
        coarse = Image.fromarray(draws.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    return pa.table(
        {
            "sample_id": [path.stem for path in paths],
            "path": [str(path) for path in paths],
            "modality": ["image"] * len(paths),
        }
    )


def config(workers: int, **changes: Any) -> DistillationConfig:
    teachers = [
        {"name": name, "kind": "timm", "model": f"test_{name}", "pretrained": False, "size": SIDE}
        for name in ("vit", "resnet")
    ]
    settings: dict[str, Any] = {"teachers": teachers, "frames": {"size": SIDE}, "augment": "none", **changes}
    return configured(**settings, training={"workers": workers, "threads": 1})


def train(source: FrameSource, work: Path, config: DistillationConfig, told: Report = lambda *_: None) -> Distilled:
    """As a run does it: features kept before the helpers start."""
    teachers, snapshot = build_teachers(config.teachers), work / "snapshot.safetensors"
    kept = keep_features(teachers, source, work) if config.augment == "none" else None
    student = EncoderStudent(config.student, config.training.seed)
    with together("Distillation", config, source, work, snapshot, "cpu") as group:
        return distill(
            student, teachers, source, build_views(config), config, kept, report=told, snapshot=snapshot, group=group
        )


def helpers() -> list[int]:
    found = []
    for pid in descendants(os.getpid()):
        with suppress(OSError):  # it ended meanwhile
            if b"t2t.distillation.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.mark.services
@pytest.mark.timeout(900)
def test_a_helper_that_is_killed_is_missed_in_words_and_the_next_run_comes_to_the_student_of_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work = tmp_path / "work"
    source = decode_frames(pictures(tmp_path), work, FrameSettings(8, SIDE))

    def kill(step: int, point: dict[str, float]) -> None:
        for pid in helpers():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(T2TError, match=r"Worker 1 of the training ended with status -9: .* goes on from its last"):
        train(source, work, config(2), kill)
    assert not helpers()
    with caplog.at_level("INFO", "t2t"):
        two = train(source, work, config(2))
    assert "goes on at step 3" in caplog.text
    assert not helpers()
    assert not list(work.glob(".staging-*"))
    (work / "snapshot.safetensors").unlink()
    one = train(source, work, config(1))
    for (step, mine), (other, theirs) in zip(one.curve, two.curve, strict=True):
        assert step == other
        assert theirs == pytest.approx(mine, rel=2e-3)


def test_one_worker_is_this_process(tmp_path: Path) -> None:
    work = tmp_path / "work"
    source = decode_frames(pictures(tmp_path), work, FrameSettings(8, SIDE))
    distilled = train(source, work, config(1, augment="unic"))
    assert distilled.curve[-1][1]["loss"] < distilled.curve[0][1]["loss"]
    assert not helpers()
