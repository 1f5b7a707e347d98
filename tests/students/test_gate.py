"""Identities as gates: a topic is encoded once for all teachers, and nothing else about a student changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t2t.data.scales import scale_of
from t2t.students.checkpoint import load, save
from t2t.students.dual_encoder import Student
from t2t.students.text import TopicTokens
from t2t.training.config import TrainingConfig
from t2t.training.loop import train
from tests.helpers.students import TEACHERS, TOPICS, pretrained_folder, random_clips, tiny_config, tiny_student
from tests.helpers.training import toy

CLIPS = random_clips([3, 1, 4])
EVERY = np.arange(len(CLIPS))
GATE = {"identity": "gate", "identity_std": 0.5}


def test_identities_give_different_scores_and_the_sample_tower_knows_none() -> None:
    student = tiny_student(tiny_config(GATE))
    scores = [student.predict(CLIPS, EVERY, TOPICS, name) for name in TEACHERS]
    assert np.abs(scores[0] - scores[1]).max() > 1e-3
    embedded = student.embed(CLIPS, EVERY)
    with torch.no_grad():
        student.identity.weight.normal_()
    assert torch.equal(student.embed(CLIPS, EVERY), embedded)


def test_a_new_teacher_leaves_the_scores_of_all_others_untouched() -> None:
    before, after = tiny_student(tiny_config(GATE)), tiny_student(tiny_config(GATE), teachers=[*TEACHERS, "new"])
    for name in TEACHERS:
        np.testing.assert_array_equal(
            before.predict(CLIPS, EVERY, TOPICS, name), after.predict(CLIPS, EVERY, TOPICS, name)
        )


def test_a_topic_goes_through_the_tower_once(monkeypatch: pytest.MonkeyPatch) -> None:
    student = tiny_student(tiny_config(GATE))
    tokens = TopicTokens(student.tokenizer, TOPICS)
    topic, teacher = np.array([2, 0, 2, 2]), np.array([0, 1, 1, 2])
    texts = student.texts(tokens, topic, teacher)
    assert len(texts[0]) == 2
    rows: list[int] = []
    encode = Student._encode_tokens
    monkeypatch.setattr(Student, "_encode_tokens", lambda s, ids, m: rows.append(len(ids)) or encode(s, ids, m))
    z = student.encode_texts(*map(torch.from_numpy, texts))
    assert rows == [2]
    for i in range(4):
        alone = student.encode_topics([TOPICS[topic[i]]], TEACHERS[teacher[i]])
        torch.testing.assert_close(z[i], alone[0].detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_a_frozen_tower_reads_each_topic_once_in_a_training_and_comes_to_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, clips = toy()
    config = tiny_config({**GATE, "pretrained": str(pretrained_folder(tmp_path, kind)), "freeze": True, "dropout": 0})
    recipe = TrainingConfig(steps=6, evaluate_every=6, batch_rows=64, loss="bce")
    cached, plain = (tiny_student(config, matrix.teachers) for _ in range(2))
    words: list[int] = []
    encode = Student._encode_tokens
    monkeypatch.setattr(Student, "_encode_tokens", lambda s, ids, m: words.append(len(ids)) or encode(s, ids, m))
    train(cached, matrix, clips, recipe, 0, lambda s: 0.5)
    assert words == [len(TOPICS)]
    monkeypatch.setattr(Student, "encode_words", lambda self, tokens: None)
    train(plain, matrix, clips, recipe, 0, lambda s: 0.5)
    for name, value in cached.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], atol=1e-4, rtol=0, msg=name)


def test_a_tokenizers_start_token_stands_in_front(tmp_path: Path) -> None:
    student = tiny_student(tiny_config(GATE))
    tokens = TopicTokens(student.tokenizer, TOPICS)
    ids, mask = tokens.plain(np.array([0]))
    assert ids[0, 0] == tokens.ids[0, 0]  # no identity, and no start: this tokenizer has none
    tokens.start = 7
    ids, mask = tokens.plain(np.array([0]))
    assert ids[0, 0] == 7
    assert mask[0].sum() == tokens.lengths[0] + 2


def test_a_checkpoint_keeps_gates_and_scales_bit_for_bit(tmp_path: Path) -> None:
    student = tiny_student(tiny_config(GATE))
    student.scales = {"colour": scale_of(np.array([0.01, 0.02, 0.08]), np.array([0.001, 0.2, 0.9]))}
    save(student, tmp_path / "student")
    again = load(tmp_path / "student")
    assert again.scales == student.scales
    for name in TEACHERS:
        np.testing.assert_array_equal(
            again.predict(CLIPS, EVERY, TOPICS, name), student.predict(CLIPS, EVERY, TOPICS, name)
        )


def test_an_identity_answers_on_its_own_scale() -> None:
    student = tiny_student(tiny_config(GATE))
    common = student.predict(CLIPS, EVERY, TOPICS, "colour")
    scale = scale_of(np.array([0.01, 0.02, 0.08]), np.array([0.001, 0.2, 0.9]), pairs=5)
    student.scales = {"colour": scale}
    raw = student.predict(CLIPS, EVERY, TOPICS, "colour")
    assert 0.01 <= raw.min() <= raw.max() <= 0.08
    inside = (common > 0.001) & (common < 0.9)
    np.testing.assert_allclose(scale.apply(raw)[inside], common[inside], atol=1e-5)
    # Others are not touched.
    plain = tiny_student(tiny_config(GATE))
    np.testing.assert_array_equal(student.predict(CLIPS, EVERY, TOPICS), plain.predict(CLIPS, EVERY, TOPICS))


@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_without_a_head_the_towers_vectors_are_the_space(kind: str, tmp_path: Path) -> None:
    config = tiny_config({**GATE, "pretrained": str(pretrained_folder(tmp_path, kind)), "freeze": True, "head": "none"})
    student = tiny_student(config)
    assert student.config.dim == 16  # the tower's; 8 was asked for
    words = student.encode_words(TopicTokens(student.tokenizer, TOPICS))
    assert words is not None
    with torch.no_grad():
        student.identity.weight.zero_()
    torch.testing.assert_close(student.encode_topics(TOPICS), torch.nn.functional.normalize(words, dim=-1))
    save(student, tmp_path / "student")
    again = load(tmp_path / "student")
    np.testing.assert_array_equal(again.predict(CLIPS, EVERY, TOPICS), student.predict(CLIPS, EVERY, TOPICS))
