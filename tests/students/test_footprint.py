"""What a student weighs, counted without building it, is what it weighs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from t2t.students import build_student
from t2t.students.config import DualEncoderConfig, StudentConfig
from t2t.students.footprint import Trained, footprint
from t2t.students.presets import KNOWN, PRESETS
from tests.helpers.students import DIM, TEACHERS, TOPICS, TOWER, pretrained_folder
from tests.students.test_kind_contract import SETTINGS

ON = Trained(
    dim=DIM,
    frames=4,
    samples=40,
    batch_samples=20,
    batch_rows=100,
    topics=len(TOPICS),
    teachers=len(TEACHERS),
    words=0,
    tokens=4.0,
)
FURTHER = [
    ("dual-encoder", {"members": 3, "dim": 8, "matryoshka": [4], "sample": TOWER, "text": TOWER}),
    ("dual-encoder", {"dim": 16, "sample": {**TOWER, "heads": 3, "layers": 2}, "text": {**TOWER, "head": "none"}}),
]


def counted(config: Any) -> None:
    student = build_student(config, DIM, TOPICS, TEACHERS, 0)
    every = {id(p): p for p in student.parameters()}.values()
    found = footprint(student.config, replace(ON, words=len(student.tokenizer) - len(TEACHERS)))
    assert found is not None
    assert found.total == sum(p.numel() for p in every)
    assert found.trained == sum(p.numel() for p in every if p.requires_grad)
    assert found.bytes["weights"] == 4 * found.total
    # Besides AdamW's two numbers of each, those that it makes of one matrix at a time.
    matrices = [p.numel() for p in student.parameters() if p.requires_grad]
    assert 0 <= found.bytes["optimizer"] - 8 * found.trained <= 8 * max(matrices)
    assert found.needed == sum(found.bytes.values())


@pytest.mark.parametrize(
    ("kind", "settings"),
    [*((kind, settings) for kind, several in SETTINGS.items() for settings in several), *FURTHER],
)
def test_weights_are_counted_exactly(kind: str, settings: dict[str, Any]) -> None:
    counted(TypeAdapter(StudentConfig).validate_python({"kind": kind, **settings}))


@pytest.mark.parametrize(
    "text",
    [
        {"freeze": True, "identity": "gate"},
        {"freeze": True, "identity": "gate", "head": "none"},
        {"freeze": True},
        {"identity": "gate"},
    ],
)
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_so_are_those_of_pretrained_towers(kind: str, members: int, text: dict[str, Any], tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path / "hub", kind)
    text = {**text, "pretrained": str(folder)}
    counted(DualEncoderConfig.model_validate({"members": members, "dim": 8, "sample": TOWER, "text": text}))


def test_presets_have_the_sizes_that_they_are_named_after() -> None:
    on = replace(ON, dim=768, frames=16, topics=100)
    found = {name: footprint(DualEncoderConfig(preset=name), on) for name in PRESETS}  # type: ignore[arg-type]
    assert found["student-150m"].total == pytest.approx(152e6, rel=0.02)  # type: ignore[union-attr]
    assert found["student-300m"].total == pytest.approx(344e6, rel=0.02)  # type: ignore[union-attr]
    # As transformers counts them.
    assert KNOWN["google/t5-v1_1-base"].numbers == 109_628_544
    assert KNOWN["google/t5-v1_1-large"].numbers == 341_231_104
    assert KNOWN["google/mt5-small"].numbers == 146_940_608
    assert KNOWN["google/mt5-base"].numbers == 277_040_256
