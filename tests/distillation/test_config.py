"""A distillation's file: what is written is what is meant, and what cannot be meant is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.distillation.config import DistillationConfig, TransformersTeacherConfig

pytestmark = pytest.mark.unit

LEAST: dict[str, Any] = {
    "name": "small",
    "dataset": "demo",
    "teachers": [
        {"name": "one", "kind": "timm", "model": "test_vit"},
        {"name": "two", "kind": "transformers", "model": "/models/two"},
    ],
    "student": {"model": "test_vit"},
}


def read(**changes: Any) -> DistillationConfig:
    return parse(DistillationConfig, {**LEAST, **changes}, "small.yaml")


def test_the_defaults_are_the_references() -> None:
    config = read()
    assert config.datasets == ("demo",)
    assert read(dataset=["demo", "other"]).datasets == ("demo", "other")
    assert (config.loss.cosine, config.loss.smooth_l1, config.loss.patches) == (0.5, 0.5, True)
    assert (config.standardise.by, config.standardise.momentum_start, config.standardise.momentum_end) == (
        "ema",
        1.0,
        0.001,
    )
    assert (config.projectors.dedicated, config.projectors.ladder, config.drop.rate) == (True, True, 0.5)
    assert isinstance(config.teachers[1], TransformersTeacherConfig)
    assert (config.training.betas, config.training.weight_decay) == ((0.9, 0.99), 0.03)


def test_rate_and_steps_follow_batch_and_frames() -> None:
    training = read(training={"batch": 512, "epochs": 200}).training
    assert training.highest_rate == pytest.approx(6e-4)
    assert training.steps_for(51_200) == 20_000
    assert read(training={"steps": 7}).training.steps_for(51_200) == 7
    assert read(training={"epochs": 1, "batch": 512}).training.steps_for(3) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teachers": []}, "teachers: none is named; name an encoder"),
        ({"evaluation": {"datasets": ["demo"], "knn": [], "probe": False}}, "so nothing is measured"),
        ({"evaluation": {"datasets": ["demo", "demo"]}}, "datasets: named twice: demo"),
        ({"evaluation": {"knn": [10, 10]}}, "knn: named twice: 10"),
        ({"teachers": [{"name": "one", "kind": "timm", "model": model} for model in "ab"]}, "named twice: one"),
        ({"teachers": [{"name": "student", "kind": "timm", "model": "a"}]}, "name it otherwise"),
        ({"teachers": [{"name": "one", "kind": "tim", "model": "a"}]}, "'tim' is none of"),
        ({"dataset": []}, "none is named"),
        ({"dataset": ["demo", "demo"]}, "named twice: demo"),
        ({"splits": []}, "leave it out"),
        ({"loss": {"cosine": 0, "smooth_l1": 0}}, "there is no loss"),
        ({"drop": {"rate": 1.5}}, "drop.rate"),
        ({"drop": {"rte": 0.5}}, "rate"),
        ({"standardise": {"by": "phis"}}, "standardise.by"),
        ({"training": {"learning_rate": 1e-7}}, "above the learning rate"),
        ({"training": {"batch": 1}}, "no deviation to standardise by"),
        ({"training": {"batch": 3, "workers": 4}}, "4 workers cannot share"),
        ({"training": {"betas": [0.9, 1.0]}}, "betas"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(T2TError, match=words):
        read(**changes)


def test_a_slip_in_the_only_teacher_is_said_once() -> None:
    with pytest.raises(T2TError) as error:
        read(teachers=[{"name": "one", "kind": "timm", "model": "a", "meen": 0.5}])
    assert str(error.value).endswith("unknown key 'teachers.0.meen'. Did you mean 'mean'?")
