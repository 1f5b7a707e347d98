"""A tower without layers is T5's, weight for weight and bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import T5EncoderModel

from t2t.students.checkpoint import save
from t2t.students.config import TowerConfig
from t2t.students.plain import PlainTower
from t2t.students.towers import t5
from tests.helpers.students import tiny_config, tiny_student


@pytest.mark.parametrize(("words", "width"), [(1, 16), (30, 64)])
def test_it_is_what_transformers_makes_of_no_layer(words: int, width: int) -> None:
    config = TowerConfig(layers=0, d_model=width, heads=2, d_ff=16, dropout=0.2)
    torch.manual_seed(3)
    theirs, after = T5EncoderModel(t5(config, words)), torch.rand(4)
    torch.manual_seed(3)
    ours, again = PlainTower(config, words), torch.rand(4)
    assert torch.equal(after, again)  # what is drawn next
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(value, ours.state_dict()[name]), name
    mask, outcomes = torch.ones(2, 5, dtype=torch.int64), []
    for tower in (theirs, ours):
        torch.manual_seed(5)
        x = torch.randn(2, 5, width, requires_grad=True)
        tower.train()
        out = tower(inputs_embeds=x, attention_mask=mask).last_hidden_state
        out.square().sum().backward()
        outcomes.append((out, x.grad, tower.encoder.final_layer_norm.weight.grad))
    for theirs_part, ours_part in zip(*outcomes, strict=True):
        assert torch.equal(theirs_part, ours_part)


def test_a_student_of_such_towers_answers_without_transformers_models(tmp_path: Path) -> None:
    tower = {"layers": 0, "d_model": 16}
    save(tiny_student(tiny_config({**tower, "identity": "gate"}, sample=tower, members=2)), tmp_path / "student")
    program = (
        "import sys; from t2t.students.checkpoint import load; from tests.helpers.students import random_clips;"
        f"student = load({str(tmp_path / 'student')!r});"
        "print(student.predict(random_clips([2]), __import__('numpy').arange(1), ['red ball']).shape);"
        "print([name for name in sys.modules if name.startswith('transformers.models.t5')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(1, 1)", "[]"]
