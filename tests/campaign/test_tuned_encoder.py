"""Campaigns whose frame encoder is tuned on their labels first: `encoder: {tune: ...}`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from safetensors.torch import load_file

from t2t.campaign.campaign import Campaign
from t2t.campaign.tuned import WEIGHTS, all_tuned, encoder_folder
from t2t.data.embeddings.encoders import build_encoder
from t2t.students.checkpoint import ENCODER, read_encoder
from t2t.students.scorer import load_student
from tests.helpers.campaigns import run

TUNE = {"by": "last-blocks", "steps": 4, "evaluate_every": 2, "samples": 4, "learning_rate": 0.01}
VIT = {"kind": "timm", "model": "test_vit", "pretrained": False, "size": 160, "frames": 2, "mean": 0.5, "std": 0.5}


def encoder(**tune: Any) -> dict[str, Any]:
    return {**VIT, "tune": {**TUNE, **tune}}


@pytest.mark.parametrize("by", ["last-blocks", "lora"])
def test_rounds_rest_on_the_tuned_encoder(by: str, campaign: Callable[..., Campaign], world: Path) -> None:
    made = campaign(encoder=encoder(by=by))
    first, second = run(made)
    (tuned,) = all_tuned(made.ledger)
    frozen = build_encoder(made.config.encoder)
    assert tuned.of == frozen.fingerprint
    assert [step for step, _ in tuned.curve] == [0, 2, 4]
    assert [ref.id for ref in tuned.teachers] == ["human", "vendor"]
    assert made.embedded.encoder == tuned.fingerprint
    if tuned.best_step:
        assert tuned.fingerprint != tuned.of
    # What is saved is timm's own model, whole, with no change left beside it.
    weights = encoder_folder(made.folder, 0) / WEIGHTS
    timm.create_model("test_vit", num_classes=0).load_state_dict(load_file(weights), strict=True)
    # Every checkpoint carries it, so that it answers wherever it is.
    for record in (first, second):
        folder = made.checkpoint(record)
        assert (folder / ENCODER).read_bytes() == weights.read_bytes()
        assert read_encoder(folder).tune is None  # type: ignore[union-attr]
        scorer = load_student(folder, "cpu")
        assert scorer.encoder.fingerprint == tuned.fingerprint
    sample = made.samples("test").slice(0, 1)
    scores = scorer.score(sample["path"].to_pylist(), made.dataset.topics)
    place = made.positions(sample["sample_id"])
    stored = scorer.student.predict(made.embedded.embeddings, place, made.dataset.topics, "human")
    assert np.abs(scores - stored).max() < 2e-3
    # And the student that became a teacher labels by it.
    assert {ref.id for ref in second.teachers} == {"human", "vendor", "tiny-self-0"}
