"""The loop: what it minimises is the formula, all teachers are learned, and the same seed gives the same weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from t2t.core.errors import T2TError
from t2t.distillation.loop import Distilled
from t2t.distillation.loss import teacher_loss
from t2t.distillation.parts import Tokens
from t2t.distillation.projectors import Projectors
from t2t.distillation.schedule import learning_rate, order, split
from t2t.distillation.student import EncoderStudent
from tests.helpers.distilling import Mirrored, Striped, Teacher, configured, run, two_teachers

KEYS = [f"{name}/{kind}" for name in ("vit", "resnet") for kind in ("cls", "patches")]


def same(first: EncoderStudent, second: EncoderStudent) -> bool:
    other = second.state_dict()
    return all(torch.equal(value, other[name]) for name, value in first.state_dict().items())


def last_point(distilled: Distilled) -> dict[str, float]:
    return distilled.curve[-1][1]


@pytest.mark.parametrize("by", ["ema", "phi-s"])
def test_every_teacher_and_token_type_is_learned(by: str) -> None:
    config = configured(standardise={"by": by}, training={"steps": 50, "evaluate_every": 10})
    student, distilled = run(config)
    first, last = distilled.curve[0][1], last_point(distilled)
    assert last["loss"] < 0.7 * first["loss"]
    for key in KEYS:
        assert last[f"loss/{key}"] < 0.8 * first[f"loss/{key}"], key
        # Of colours that were never learned.
        assert last[f"held_out/{key}"] < first[f"held_out/{key}"], key
    assert not student.training


def test_a_step_minimises_the_formula() -> None:
    config = configured(drop={"rate": 0.0}, training={"steps": 1, "held_out": 0.0})
    frames, teachers = Striped(), two_teachers()
    _, distilled = run(config, frames=frames, teachers=teachers)
    # The same by hand: the first batch, standardised by its own mean and deviation.
    student = EncoderStudent(config.student, 0)
    torch.manual_seed(0)
    projectors = Projectors(student.dims, student.grids, teachers, config.projectors)
    batch = order(np.arange(len(frames)), config.training, 0)
    crops = torch.from_numpy(Mirrored()(frames.read(batch), 0, 0))
    wanted = []
    for teacher in teachers:
        cls, patches = teacher.tokens(crops)
        rows = patches.reshape(-1, teacher.dim)
        cls, rows = ((part - part.mean(0)) / part.std(0).clamp_min(1e-4 * part.std(0).square().mean().sqrt())
                     for part in (cls, rows))  # fmt: skip
        wanted.append(Tokens(cls, rows.reshape(patches.shape)))
    losses = [teacher_loss(*both, config.loss) for both in zip(projectors(student(crops)), wanted, strict=True)]
    point = last_point(distilled)
    assert point["loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
    for name, loss in zip(("vit", "resnet"), losses, strict=True):
        assert point[f"loss/{name}/cls"] == pytest.approx(loss[:, 0].mean().item(), rel=1e-4)
        assert point[f"loss/{name}/patches"] == pytest.approx(loss[:, 1].mean().item(), rel=1e-4)


def test_the_curve_has_a_point_for_every_look_and_the_last_step() -> None:
    told: list[tuple[int, dict[str, float]]] = []
    config = configured()
    _, distilled = run(config, report=lambda *point: told.append(point))
    assert [step for step, _ in told] == [5, 10, 12]
    assert told == distilled.curve
    for step, point in told:
        parts = [f"{what}/{key}" for what in ("loss", "held_out") for key in KEYS]
        assert set(point) == {"loss", "held_out", *parts, "taught/vit", "taught/resnet", "learning_rate"}
        assert point["learning_rate"] == learning_rate(step, 12, config.training)
        # Each frame has one teacher for certain, and the other one in half of the cases.
        assert 1 <= point["taught/vit"] + point["taught/resnet"] <= 2


def test_nobody_is_dropped_in_an_evaluation() -> None:
    _, distilled = run(configured(drop={"rate": 1.0}))
    point = last_point(distilled)
    assert point["taught/vit"] + point["taught/resnet"] == pytest.approx(1)
    assert point["held_out"] == pytest.approx(np.mean([point[f"held_out/{key}"] for key in KEYS]))
    # The training's loss is that of the worse teacher of each frame.
    assert point["loss"] > np.mean([point[f"loss/{key}"] for key in KEYS])


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    config = configured(student={"drop_path": 0.3})
    torch.manual_seed(1)
    first, trained = run(config)
    torch.manual_seed(2)
    second, again = run(config)
    other, _ = run(configured(student={"drop_path": 0.3}, training={"seed": 1}))
    assert trained == again
    assert same(first, second)
    assert not same(first, other)


def test_standardisation_keeps_a_loud_teacher_from_outshouting_the_other() -> None:
    def share(by: str) -> float:
        _, distilled = run(configured(standardise={"by": by}, drop={"rate": 0.0}))
        point = distilled.curve[0][1]
        return point["loss/vit/cls"] / (point["loss/vit/cls"] + point["loss/resnet/cls"])

    assert share("none") > 0.95
    for by in ("ema", "phi-s"):
        assert 0.3 < share(by) < 0.7


@pytest.mark.parametrize(
    "changes",
    [
        {"student": {"model": "test_efficientnet"}},
        {"projectors": {"ladder": False}},
        {"projectors": {"dedicated": False, "ladder": False}},
        {"loss": {"patches": False}},
        {"balance": "mtard"},
        {"training": {"clip": 0.1}},
        {"training": {"batch": 100}},
        {"training": {"held_out": 0.0}},
    ],
)
def test_each_part_can_be_switched(changes: dict[str, Any]) -> None:
    _, distilled = run(configured(**changes))
    point = last_point(distilled)
    assert point["loss"] < distilled.curve[0][1]["loss"]
    assert ("held_out" in point) == (changes.get("training", {}).get("held_out") != 0.0)
    assert ("loss/vit/patches" in point) == ("loss" not in changes)
    if "balance" in changes:
        assert point["weight/vit"] + point["weight/resnet"] == pytest.approx(2)
        assert point["weight/vit"] != pytest.approx(1, abs=1e-5)


def test_what_is_kept_of_teachers_is_as_good_as_looking() -> None:
    config, frames, teachers = configured(augment="none"), Striped(), two_teachers()
    views = Mirrored(drawn=False)
    _, trained = run(config, frames=frames, views=views)
    every = [teacher.tokens(torch.from_numpy(frames.read(np.arange(len(frames))))) for teacher in teachers]

    def kept(tokens: Tokens) -> Any:
        return lambda indices: Tokens(*(part[torch.from_numpy(indices)] for part in tokens))

    looks = [teacher.looks for teacher in teachers]
    _, from_kept = run(
        config, frames=frames, views=views, teachers=teachers, kept={"vit": kept(every[0]), "resnet": kept(every[1])}
    )
    assert [teacher.looks for teacher in teachers] == looks
    assert last_point(from_kept)["loss"] == pytest.approx(last_point(trained)["loss"], rel=1e-3)
    with pytest.raises(ValueError, match="plain views"):
        run(configured(), kept={"vit": kept(every[0])})


def test_bf16_comes_to_about_the_same() -> None:
    exact, trained = run(configured(training={"steps": 15}))
    rough, again = run(configured(training={"steps": 15, "precision": "bf16"}))
    assert all(value.dtype == torch.float32 for value in rough.state_dict().values())
    assert not same(exact, rough)
    assert last_point(again)["loss"] == pytest.approx(last_point(trained)["loss"], rel=0.05)


def test_whole_samples_are_held_out_and_every_epoch_sees_each_other_frame_once() -> None:
    frames, config = Striped(), configured().training
    learned, held_out = split(frames, config)
    assert sorted([*learned, *held_out]) == list(range(len(frames)))
    assert not set(frames.rows[0][learned]) & set(frames.rows[0][held_out])
    assert len(held_out) == 2 * frames.per_sample
    steps = len(learned) // config.batch
    seen = np.concatenate([order(learned, config, step) for step in range(2 * steps)])
    for epoch in np.split(seen, 2):
        assert sorted(epoch) == sorted(learned)
    assert not np.array_equal(*np.split(seen, 2))
    few = split(frames, configured(training={"evaluate_on": 3}).training)[1]
    assert len(few) == 3
    assert set(few) <= set(held_out)
    assert len(split(frames, configured(training={"held_out": 0.0}).training)[1]) == 0


def test_the_rate_rises_and_falls_as_the_reference_s() -> None:
    config = configured(training={"warmup": 0.1, "learning_rate": 1e-3, "min_learning_rate": 1e-6}).training
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[:10] == pytest.approx([1e-4 * (step + 1) for step in range(10)])
    assert rates[55] == pytest.approx((1e-3 + 1e-6) / 2)
    assert rates[100] == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("changes", "given", "words"),
    [
        (
            {"training": {"batch": 1}, "standardise": {"by": "none"}, "student": {"model": "test_resnet"}},
            {},
            "batch norms",
        ),
        ({}, {"frames": Striped(1, 1)}, "1 frames to learn from are too few"),
        (
            {},
            {"teachers": [Teacher("vit", "test_vit", math.inf)]},
            "teacher 'vit' gave NaN or infinite numbers by step 0",
        ),
        # The training's loss is a number, and that of the encoder as it will be used is none.
        (
            {
                "training": {"learning_rate": 1000, "steps": 6, "evaluate_every": 2},
                "student": {"model": "test_resnet"},
                "augment": "none",
            },
            {},
            "Lower training.learning_rate, under another name",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused_in_words(changes: dict[str, Any], given: dict[str, Any], words: str) -> None:
    with pytest.raises(T2TError, match=words):
        run(configured(**changes), **given)


def test_a_student_whose_weights_are_no_numbers_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    step = torch.optim.AdamW.step

    def spoilt(optimizer: torch.optim.AdamW, *arguments: Any) -> Any:
        found = step(optimizer, *arguments)
        optimizer.param_groups[0]["params"][0].data.fill_(math.nan)
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", spoilt)
    with pytest.raises(T2TError, match=r"the loss is nan at step 1. Lower training.learning_rate"):
        run(configured(training={"steps": 1, "held_out": 0.0}))
