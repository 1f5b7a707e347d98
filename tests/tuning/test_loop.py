"""Tuning as a whole: it goes on after a kill, the tie holds, and the best step is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from t2t.core.errors import T2TError
from t2t.tuning import loop
from t2t.tuning.loop import Tuned, samples_seen, tune
from tests.tuning.material import TRAINING, Made, config, made


class Killed(Exception):
    """As a process that is killed."""


def weights(one: Made) -> list[torch.Tensor]:
    return [p.detach().clone() for p in one.encoder.trained]


def tuned(folder: Path, name: str = "a", **settings: Any) -> tuple[Made, Tuned]:
    one = made(folder, config(**settings))
    return one, tune(one.head, one.encoder, one.material, TRAINING, 0, folder / f"{name}.safetensors")


@pytest.mark.parametrize("by", ["last-blocks", "lora"])
def test_a_killed_tuning_goes_on_bit_for_bit(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, result = tuned(tmp_path, by=by, steps=6)
    one = made(tmp_path, config(by=by, steps=6))
    step = loop._Tuning.step

    def until_the_fifth(self: loop._Tuning, number: int) -> float:
        if number == 5:
            raise Killed
        return step(self, number)

    monkeypatch.setattr(loop._Tuning, "step", until_the_fifth)
    with pytest.raises(Killed):
        tune(one.head, one.encoder, one.material, TRAINING, 0, tmp_path / "b.safetensors")
    again = made(tmp_path, config(by=by, steps=6))
    steps: list[int] = []
    monkeypatch.setattr(loop._Tuning, "step", lambda self, number: steps.append(number) or step(self, number))
    resumed = tune(again.head, again.encoder, again.material, TRAINING, 0, tmp_path / "b.safetensors")
    assert steps == [4, 5]
    assert resumed == result
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))


def test_the_tie_keeps_features_near_to_what_they_were(tmp_path: Path) -> None:
    def how_far(tie: float, residual: float = 0.1) -> float:
        _, result = tuned(tmp_path, f"{tie}-{residual}", tie=tie, residual=residual, steps=8)
        return result.curve[-1][1]["moved"]

    free, tied, rigid = how_far(0.0), how_far(10.0), how_far(10.0, residual=0.0)
    assert tied < 0.5 * free
    assert rigid <= tied


def test_the_curve_begins_with_the_encoder_as_it_was_and_the_best_step_is_kept(tmp_path: Path) -> None:
    one, result = tuned(tmp_path, steps=6)
    assert [step for step, _ in result.curve] == [0, 2, 4, 6]
    scores = {step: point["validation_pr_auc"] for step, point in result.curve}
    assert result.best_score == max(scores.values()) == scores[result.best_step]
    start = made(tmp_path, config(steps=6))
    unchanged = all(torch.equal(a, b) for a, b in zip(weights(one), weights(start), strict=True))
    assert unchanged == (result.best_step == 0)


def test_only_frames_that_are_looked_at_are_decoded(tmp_path: Path) -> None:
    one = made(tmp_path, config(steps=1, samples=2))
    seen = samples_seen(one.material.matrix, one.encoder.tune, TRAINING, 0)
    assert len(seen) == 2
    assert len(one.material.clips.values) == len({*seen.tolist(), *range(6)})


def test_labels_are_learned(tmp_path: Path) -> None:
    _, result = tuned(tmp_path, tie=0.0, steps=30, evaluate_every=10)
    losses = [point["loss"] for _, point in result.curve[1:]]
    assert losses[-1] < 0.9 * losses[0]


def test_a_loss_that_diverges_names_the_key_of_the_tuning(tmp_path: Path) -> None:
    one = made(tmp_path, config(steps=4, learning_rate=100.0, tie=1e6))
    one.encoder.trained[0].data.fill_(float("inf"))
    with pytest.raises(T2TError, match=r"Lower encoder\.tune\.learning_rate"):
        tune(one.head, one.encoder, one.material, TRAINING, 0, tmp_path / "x.safetensors")
