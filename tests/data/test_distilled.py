"""Distilled encoders as frame encoders: what is read, what is refused, what changes a fingerprint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from t2t.core.errors import T2TError
from t2t.data.embeddings.config import DistilledConfig, TimmConfig
from t2t.data.embeddings.distilled import CARD, WEIGHTS, find_encoder, located, located_near, place_of, read_card
from t2t.data.embeddings.encoders import FrameEncoder, build_encoder
from tests.helpers.contracts import ENCODER_CLAIMS
from tests.helpers.encoders import MODEL, SIZE, TEACHERS, leave_encoder


def encoder_in(work: Path, **settings: object) -> FrameEncoder:
    return build_encoder(located(DistilledConfig.model_validate({"name": "small", **settings}), work))


@pytest.mark.parametrize("claim", ENCODER_CLAIMS, ids=lambda claim: claim.__name__)
def test_it_keeps_the_contract_of_frame_encoders(claim: object, tmp_path: Path) -> None:
    leave_encoder(tmp_path)
    claim(encoder_in(tmp_path))  # type: ignore[operator]


def test_it_gives_what_timm_gives_with_the_same_weights(tmp_path: Path) -> None:
    card = leave_encoder(tmp_path)
    weights = place_of(tmp_path, "small") / WEIGHTS
    timm.create_model(MODEL, num_classes=0).load_state_dict(load_file(weights), strict=True)
    plain = TimmConfig(
        model=MODEL, weights=str(weights), mean=0.5, std=0.25, size=SIZE, interpolation="bilinear", frames=8
    )
    frames = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    assert np.array_equal(encoder_in(tmp_path).encode(frames), build_encoder(plain).encode(frames))
    assert encoder_in(tmp_path).dim == card.dim


def test_the_fingerprint_is_of_weights_teachers_and_frames_and_of_no_machine(tmp_path: Path) -> None:
    leave_encoder(tmp_path / "one")
    leave_encoder(tmp_path / "two")
    leave_encoder(tmp_path / "weights", seed=1)
    leave_encoder(tmp_path / "teachers", teachers=TEACHERS[:1])
    prints = {name: encoder_in(tmp_path / name).fingerprint for name in ("one", "two", "weights", "teachers")}
    prints["frames"] = encoder_in(tmp_path / "one", frames=4).fingerprint
    assert prints["one"] == prints["two"] == encoder_in(tmp_path / "one", batch_size=3).fingerprint
    assert len(set(prints.values())) == 4


def test_its_place_is_written_down_with_nothing(tmp_path: Path) -> None:
    card = leave_encoder(tmp_path)
    here = located(DistilledConfig(name="small"), tmp_path)
    assert here.folder == str(place_of(tmp_path, "small"))
    assert here.model_dump(mode="json") == {
        **{"kind": "distilled", "name": "small", "fingerprint": card.fingerprint, "frames": 8, "batch_size": None}
    }
    student = tmp_path / "campaigns" / "tiny" / "round-000" / "student"
    assert located_near(DistilledConfig(name="small"), student) == here


def test_the_same_encoder_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        leave_encoder(tmp_path / name)
    first, second = (place_of(tmp_path / name, "small") for name in ("one", "two"))
    for file in (CARD, WEIGHTS):
        assert (first / file).read_bytes() == (second / file).read_bytes()


def test_what_is_not_there_changed_or_another_one_is_refused(tmp_path: Path) -> None:
    leave_encoder(tmp_path)
    folder = place_of(tmp_path, "small")
    with pytest.raises(T2TError, match=r"smal: no such encoder\. Did you mean 'small'\? `t2t distill smal` makes it"):
        find_encoder(located(DistilledConfig(name="smal"), tmp_path))
    with pytest.raises(T2TError, match=r"another encoder .* than the one that is asked for"):
        encoder_in(tmp_path, fingerprint="0" * 64)
    (folder / WEIGHTS).write_bytes(b"\0" + (folder / WEIGHTS).read_bytes()[1:])
    with pytest.raises(T2TError, match=r"model.safetensors: damaged"):
        encoder_in(tmp_path)
    content = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**content, "size": 64}))
    with pytest.raises(T2TError, match="not what was written"):
        read_card(folder)
    (folder / CARD).write_text("{")
    with pytest.raises(T2TError, match="cannot be read"):
        encoder_in(tmp_path)


def test_random_numbers_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    leave_encoder(tmp_path)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    encoder_in(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
