"""Every number that a person can set has bounds, and what is beyond them is refused with the bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from t2t.campaign.config import CampaignConfig
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.data.dataset import DatasetConfig
from t2t.data.embeddings.config import TimmConfig
from t2t.teachers.kinds.timm import Entry as TimmEntry

CONTENT: dict[str, Any] = {"name": "demo", "dataset": "demo", "encoder": {"kind": "pixels"}}


def numbers(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield where, schema
        for key, value in schema.items():
            yield from numbers(value, f"{where}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from numbers(value, where)


@pytest.mark.parametrize("model", [CampaignConfig, DatasetConfig, TimmConfig, TimmEntry])
def test_every_number_has_a_least_and_a_most(model: Any) -> None:
    found = dict(numbers(model.model_json_schema()))
    assert found
    lacks_least = {where for where, schema in found.items() if not {"minimum", "exclusiveMinimum"} & set(schema)}
    lacks_most = {where for where, schema in found.items() if not {"maximum", "exclusiveMaximum"} & set(schema)}
    assert (lacks_least, lacks_most) == (set(), set())


def with_setting(key: str, value: Any) -> dict[str, Any]:
    content: dict[str, Any] = {**CONTENT}
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place[parent] = {**place.get(parent, {})}
        place = place[parent]
    place[last] = value
    return content


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", 2**64, "less than or equal to 4294967295"),
        ("seed", -1, "greater than or equal to 0"),
        ("training.steps", 2**70, "less than or equal to 1000000000"),
        ("training.steps", True, "training: steps: true is no number"),
        ("training.learning_rate", float("nan"), "finite number"),
        ("training.learning_rate", float("inf"), "finite number"),
        ("training.learning_rate", 0, "greater than 0"),
        ("training.task_weight", {"human": float("inf")}, "finite number"),
        ("training.task_weight", {"nobody": 1}, "names 'nobody', which is no teacher here: human"),
        ("student.sample.d_model", 10**8, "less than or equal to 65536"),
        ("student.text", {"d_model": 65536, "d_ff": 65536, "layers": 24}, "20,000,000,000 are the most"),
        ("student.text", {"head": "none", "d_model": 128}, "text.head: none needs dim: 128"),
        ("encoder.frames", 0, "greater than or equal to 1"),
        ("evaluation.resamples", 0, "greater than or equal to 10"),
        ("rounds.max", False, "rounds: max: false is no number"),
    ],
)
def test_what_is_beyond_is_refused_with_the_bound(key: str, value: Any, words: str) -> None:
    with pytest.raises(T2TError) as error:
        parse(CampaignConfig, with_setting(key, value), "demo.yaml")
    assert words in str(error.value)


def test_frames_are_not_divided_by_zero() -> None:
    with pytest.raises(T2TError, match="greater than 0"):
        parse(TimmConfig, {"model": "x", "std": 0}, "demo.yaml")
