"""What training is measured against is the same student."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import training_world
from benchmarks.training_world import RowByRow, World
from t2t.students.config import DualEncoderConfig, EncoderOnlyConfig, TextTowerConfig, TowerConfig

TINY = TowerConfig(layers=1, d_model=16, heads=2, d_ff=32)


@pytest.mark.parametrize("identity", ["token", "gate"])
def test_a_row_alone_has_the_logit_that_it_has_in_a_grouped_batch(
    identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_world, "DIM", 32)
    text = TextTowerConfig.model_validate({**TINY.model_dump(), "identity": identity})
    world = World.make(4, DualEncoderConfig(sample=TINY, text=text), topics=20)
    world.config = world.config.model_copy(update={"noise": 0.0, "frame_dropout": 0.0})
    student, matrix = world.student.eval(), world.matrix
    rows = range(len(world.rows))
    with torch.inference_mode():
        alone = RowByRow(world).eval()(**world.rows.collate([world.rows[row] for row in rows]))["logits"]
        teacher = student.token_ids(matrix.teachers)[matrix.teacher] - student.words
        tokens = student.topic_tokens(matrix.topics)
        texts = tuple(map(torch.from_numpy, student.texts(tokens, matrix.topic.astype(np.int64), teacher)))
        sample = torch.arange(4).repeat_interleave(training_world.ROWS_PER_SAMPLE)
        row = torch.arange(len(rows))
        grouped = student.row_logits(world.rows.frames, world.rows.mask, texts, sample, row)
    torch.testing.assert_close(alone, grouped, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("match", [False, True])
def test_a_row_that_is_read_alone_has_the_logit_that_it_has_in_a_grouped_batch(
    match: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_world, "DIM", 32)
    reader = {**TINY.model_dump(), "layers": 2, "match": match}
    config = EncoderOnlyConfig.model_validate({"kind": "encoder-only", "reader": reader})
    world = World.make(4, config, topics=20)
    world.config = world.config.model_copy(update={"noise": 0.0, "frame_dropout": 0.0})
    student, matrix, row = world.student.eval(), world.matrix, torch.arange(len(world.rows))
    with torch.inference_mode():
        rows = world.rows.collate([world.rows[number] for number in range(len(row))])
        alone = RowByRow(world).eval()(**rows)["logits"]
        tokens, teacher = student.topic_tokens(matrix.topics), matrix.teacher.astype(np.int64)
        texts = tuple(map(torch.from_numpy, student.texts(tokens, matrix.topic.astype(np.int64), teacher)))
        sample = torch.arange(4).repeat_interleave(training_world.ROWS_PER_SAMPLE)
        grouped = student.members[-1].row_logits(world.rows.frames, world.rows.mask, texts, sample, row)
    torch.testing.assert_close(alone, grouped, rtol=1e-4, atol=1e-4)
