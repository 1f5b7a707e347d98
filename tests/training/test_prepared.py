"""Frames as the student sees them: made once, hidden and blurred at each step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from t2t.training import prepared as prepared_module
from t2t.training.config import TrainingConfig
from t2t.training.prepared import Prepared, augment
from tests.helpers.students import random_clips, tiny_config, tiny_student


@pytest.mark.parametrize("frontend", [{}, {"whiten": 4, "variation": True}])
def test_prepared_frames_are_the_frontends_whether_they_are_kept_or_not(
    frontend: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = random_clips([3, 1, 4, 2, 2, 1, 4])
    student = tiny_student(tiny_config(frontend=frontend))
    student.frontend.fit(embeddings, np.arange(7))
    frames, mask = (torch.from_numpy(a) for a in embeddings.gather(np.array([5, 2, 2])))
    expected = student.frontend(frames.float(), mask)
    monkeypatch.setattr(prepared_module, "PREPARE_BLOCK", 2)
    kept = Prepared(student, embeddings)
    monkeypatch.setattr(prepared_module, "PREPARED_BYTES", 0)
    computed = Prepared(student, embeddings)
    assert kept.frames is not None
    assert computed.frames is None
    for prepare in (kept, computed):
        prepared, prepared_mask = prepare(np.array([5, 2, 2]))
        torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-5)
        assert torch.equal(prepared_mask, mask)


def test_batches_of_any_size_lie_in_the_memory_of_the_one_before() -> None:
    prepare = Prepared(tiny_student(), random_clips([3, 1, 4, 2, 2, 1, 4]))
    assert prepare.frames is not None
    places = set()
    for samples in ([4, 0, 6], [1, 5], [2, 2, 3]):
        frames, _ = prepare(np.array(samples))
        assert torch.equal(frames, prepare.frames[samples])
        places.add(frames.data_ptr())
    assert len(places) == 1
    frames, _ = prepare(np.arange(7))
    assert torch.equal(frames, prepare.frames)


MASK = torch.arange(5) < torch.tensor([5, 1, 3]).repeat(200)[:, None]
FRAMES = torch.randn(600, 5, 6, generator=torch.Generator().manual_seed(0)) * MASK.unsqueeze(-1)


def test_without_dropout_and_noise_frames_stay_as_they_are() -> None:
    (frames,), mask = augment(FRAMES, MASK, TrainingConfig(), torch.Generator())
    assert torch.equal(frames, FRAMES)
    assert torch.equal(mask, MASK)


def test_hidden_frames_are_zero_and_no_sample_loses_all_of_its() -> None:
    config = TrainingConfig(frame_dropout=0.6)
    (frames,), mask = augment(FRAMES, MASK, config, torch.Generator().manual_seed(0))
    assert not (mask & ~MASK).any()
    assert mask.any(dim=1).all()
    assert torch.equal(frames, FRAMES * mask.unsqueeze(-1))
    # Of five frames 0.4 stay, but for the 0.6 ** 5 of the clips that would lose all and keep one.
    assert mask[::3].float().mean().item() == pytest.approx(0.4 + 0.6**5 / 5, abs=0.06)


def test_noise_has_its_size_and_stays_out_of_padding() -> None:
    (frames,), mask = augment(FRAMES, MASK, TrainingConfig(noise=0.5), torch.Generator().manual_seed(0))
    assert torch.equal(mask, MASK)
    assert (frames[~MASK] == 0).all()
    assert (frames - FRAMES)[MASK].std().item() == pytest.approx(0.5, rel=0.05)


def test_members_see_each_sample_with_other_noise_of_the_same_size() -> None:
    seen, mask = augment(FRAMES, MASK, TrainingConfig(noise=0.5), torch.Generator().manual_seed(0), members=3)
    noises = [(frames - FRAMES)[MASK] for frames in seen]
    for noise in noises:
        assert noise.std().item() == pytest.approx(0.5, rel=0.05)
    assert abs(torch.corrcoef(torch.stack(noises).flatten(1))[0, 1:]).max() < 0.05
    for frames in seen:
        assert (frames[~MASK] == 0).all()
    plain, _ = augment(FRAMES, mask, TrainingConfig(noise=0.5), torch.Generator().manual_seed(0))
    assert torch.equal(seen[0], plain[0])
