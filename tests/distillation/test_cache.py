"""Kept features: those that a teacher gives live, once, and again where a shard is lost or a sample is new."""

from __future__ import annotations

import os
import signal
from collections import namedtuple
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from t2t.data.embeddings.frames import FrameSettings, FrameSource, decode_frames
from t2t.data.embeddings.store import NotStored
from t2t.distillation.cache import keep_features, open_features
from t2t.distillation.config import TimmTeacherConfig
from t2t.distillation.parts import FeatureTeacher
from t2t.distillation.teachers import build_teacher
from t2t.distillation.views import PlainViews
from tests.helpers.clips import random_clip
from tests.helpers.documented import refused

SETTINGS = FrameSettings(per_sample=3, size=40)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> pa.Table:
    """Eight clips of 1 to 5 frames."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [str(random_clip(folder / f"{i}.mp4", seed=i, count=1 + i % 5)) for i in range(8)]
    return pa.table({"sample_id": [Path(path).stem for path in paths], "path": paths, "modality": ["video"] * 8})


@pytest.fixture
def frames(clips, tmp_path) -> FrameSource:
    return decode_frames(clips, tmp_path, SETTINGS)


def teacher(name: str = "vit", **changes: object) -> FeatureTeacher:
    settings = {"model": "test_vit", "size": 32, "pretrained": False, **changes}
    return build_teacher(TimmTeacherConfig(name=name, **settings))


def test_kept_features_are_the_teacher_s_own(frames, tmp_path):
    teachers = [teacher(), teacher("resnet", model="test_resnet")]
    kept = keep_features(teachers, frames, tmp_path)
    chosen = np.array([5, 0, len(frames) - 1, 5])
    crops = PlainViews(40).plain(frames.read(chosen))
    for one in teachers:
        expected, found = one.tokens(crops), kept[one.name](chosen)
        for part, own in zip(found, expected, strict=True):
            assert part.dtype == torch.float32
            assert torch.equal(part, own.half().float())


def test_a_second_time_nothing_is_computed(frames, tmp_path, monkeypatch):
    one = teacher()
    first = keep_features([one], frames, tmp_path)["vit"]
    monkeypatch.setattr(one, "tokens", lambda crops: pytest.fail("computed again"))
    everything = np.arange(len(frames))
    for kept in (keep_features([one], frames, tmp_path), open_features([one], frames, tmp_path)):
        assert all(torch.equal(*both) for both in zip(kept["vit"](everything), first(everything), strict=True))


def test_only_cls_is_kept_where_no_patches_are_learned(frames, tmp_path):
    one = teacher()
    whole = keep_features([one], frames, tmp_path)["vit"](np.arange(4))
    short = keep_features([one], frames, tmp_path, patches=False)["vit"](np.arange(4))
    assert torch.equal(short.cls, whole.cls)
    assert short.patches.shape == (4, 0, one.dim)


def test_new_samples_and_other_teachers_are_computed_and_old_ones_are_not(clips, tmp_path):
    few = decode_frames(clips.slice(0, 5), tmp_path, SETTINGS)
    one, seen = teacher(), []
    keep_features([one], few, tmp_path)
    tokens = one.tokens

    def counted(crops: np.ndarray):
        seen.append(len(crops))
        return tokens(crops)

    one.tokens = counted  # type: ignore[method-assign]
    grown = decode_frames(clips, tmp_path, SETTINGS)
    kept = keep_features([one], grown, tmp_path)["vit"]
    assert sum(seen) == len(grown) - len(few)
    assert torch.equal(kept(np.arange(3)).cls, tokens(few.read(np.arange(3))).cls.half().float())
    other = teacher(mean=0.1)
    assert not torch.equal(keep_features([other], grown, tmp_path)["vit"](np.arange(3)).cls, kept(np.arange(3)).cls)
    small = decode_frames(clips, tmp_path, FrameSettings(3, 32))
    with pytest.raises(NotStored):
        open_features([one], small, tmp_path)


def test_frames_that_are_left_out_move_no_number(clips, tmp_path):
    some = decode_frames(clips, tmp_path, SETTINGS, most=5)
    kept = keep_features([teacher()], some, tmp_path)["vit"](np.arange(len(some)))
    assert torch.equal(kept.cls, teacher().tokens(some.read(np.arange(len(some)))).cls.half().float())


def test_copies_are_computed_once(clips, tmp_path, monkeypatch):
    twice = decode_frames(pa.concat_tables([clips, clips]), tmp_path, SETTINGS, unique=False)
    one, seen = teacher(), []
    tokens = one.tokens
    monkeypatch.setattr(one, "tokens", lambda crops: seen.append(len(crops)) or tokens(crops))
    kept = keep_features([one], twice, tmp_path)["vit"](np.arange(len(twice)))
    assert 2 * sum(seen) == len(twice)
    assert torch.equal(*kept.cls.split(len(twice) // 2))


def test_a_damaged_shard_is_computed_anew(frames, tmp_path):
    one = teacher()
    expected = keep_features([one], frames, tmp_path)["vit"](np.arange(len(frames)))
    shard = next((tmp_path / "features").rglob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-40] ^= 1
    shard.write_bytes(content)
    again = keep_features([one], frames, tmp_path)["vit"](np.arange(len(frames)))
    assert torch.equal(again.patches, expected.patches)


def killed_after_a_shard(clips: pa.Table, work: Path) -> None:
    from t2t.data.embeddings import store
    from t2t.distillation import cache

    cache.SHARD_BYTES = 1  # a shard for each sample
    write = store.write_shard

    def shard(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        if len(list((work / "features").rglob("*.safetensors"))) == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    store.write_shard = shard  # type: ignore[assignment]
    keep_features([teacher()], decode_frames(clips, work, SETTINGS), work)


def test_a_killed_run_goes_on_after_its_last_shard(clips, frames, tmp_path, monkeypatch):
    process = get_context("spawn").Process(target=killed_after_a_shard, args=(clips, tmp_path))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    one, seen = teacher(), []
    tokens = one.tokens
    monkeypatch.setattr(one, "tokens", lambda crops: seen.append(len(crops)) or tokens(crops))
    kept = keep_features([one], frames, tmp_path)["vit"](np.arange(len(frames)))
    assert sum(seen) == len(frames) - frames.frames.counts[:3].sum()
    assert torch.equal(kept.patches, tokens(frames.read(np.arange(len(frames)))).patches.half().float())


def test_a_full_disk_and_bad_numbers_are_refused_before_they_do_harm(frames, tmp_path, monkeypatch):
    one = teacher()
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    with monkeypatch.context() as patched:
        patched.setattr("t2t.distillation.cache.shutil.disk_usage", lambda folder: usage)
        patched.setattr(one, "tokens", lambda crops: pytest.fail("computed"))
        assert "loss.patches: false" in refused(lambda: keep_features([one], frames, tmp_path))
    tokens = one.tokens
    monkeypatch.setattr(one, "tokens", lambda crops: tokens(crops)._replace(cls=tokens(crops).cls.log()))
    assert "teacher 'vit' gives NaN or infinite numbers" in refused(lambda: keep_features([one], frames, tmp_path))
    assert not list((tmp_path / "features").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (np.inf, "gives NaN or infinite numbers"),  # of which clamping made 65,504
        (1e6, "kept features are float16"),
        (1e-8, "kept features are float16"),
    ],
)
def test_numbers_that_float16_cannot_hold_are_refused(frames, tmp_path, monkeypatch, factor, words):
    one = teacher()
    tokens = one.tokens
    monkeypatch.setattr(one, "tokens", lambda crops: type(tokens(crops))(*(factor * part for part in tokens(crops))))
    assert "teacher 'vit'" in (said := refused(lambda: keep_features([one], frames, tmp_path)))
    assert words in said
    assert not list((tmp_path / "features").rglob("*.safetensors"))
