"""Several students as one: the mean of their logits, as one product of two vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logit

from t2t.core.errors import T2TError
from t2t.students.checkpoint import load, save
from t2t.students.dual_encoder import build
from t2t.students.ensemble import Ensemble
from t2t.students.student import Student
from t2t.students.text import TopicTokens
from t2t.training.config import TrainingConfig
from t2t.training.loop import build_optimizer, train
from tests.helpers.students import DIM, TEACHERS, TOPICS, pretrained_folder, random_clips, tiny_config, tiny_student
from tests.helpers.training import pr_auc, toy

CLIPS = random_clips([3, 1, 4])
EVERY = np.arange(len(CLIPS))


def ensemble(text: dict | None = None, teachers: tuple[str, ...] = TEACHERS, **changes: object) -> Ensemble:
    """Three members whose scales and biases differ, as they do after training."""
    student = tiny_student(tiny_config(text, members=3, **changes), teachers)
    assert isinstance(student, Ensemble)
    with torch.no_grad():
        for i, member in enumerate(student.members):
            member.scale.add_(0.4 * i)
            member.bias.sub_(0.7 * i)
    return student


@pytest.mark.parametrize("text", [{"identity": "token"}, {"identity": "gate", "identity_std": 0.5}])
def test_it_says_the_mean_of_its_members_logits(text: dict) -> None:
    student = ensemble(text)
    said = []
    for member in student.members:
        member.register_module("frontend", student.frontend)
        said.append(logit(member.predict(CLIPS, EVERY, TOPICS, "colour").astype(np.float64)))
    assert np.abs(said[0] - said[1]).max() > 0.1
    ours = logit(student.predict(CLIPS, EVERY, TOPICS, "colour").astype(np.float64))
    np.testing.assert_allclose(ours, np.mean(said, axis=0), atol=1e-4)


def test_its_embeddings_have_unit_length_and_its_cosines_are_cosines() -> None:
    student = ensemble({"identity": "gate"})
    samples, texts = student.embed(CLIPS, EVERY), student.encode_topics(TOPICS)
    assert samples.shape == (3, 24)
    for vectors in (samples, texts):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))


@pytest.mark.parametrize("kind", [None, "t5", "bert"])
@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("identity", ["token", "gate"])
def test_a_checkpoint_gives_the_same_scores(kind: str | None, freeze: bool, identity: str, tmp_path: Path) -> None:
    text = {"identity": identity, "freeze": freeze}
    if kind:
        text |= {"pretrained": str(pretrained_folder(tmp_path / "tower", kind))}
    student = ensemble(text)
    save(student, tmp_path / "student")
    again = load(tmp_path / "student")
    for name in TEACHERS:
        np.testing.assert_array_equal(
            student.predict(CLIPS, EVERY, TOPICS, name), again.predict(CLIPS, EVERY, TOPICS, name)
        )


def test_a_text_encoder_that_is_not_trained_is_there_once_and_reads_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretrained_folder(tmp_path / "tower", "bert")
    student = ensemble({"pretrained": str(folder), "freeze": True, "identity": "gate"})
    own = ensemble({"pretrained": str(folder), "identity": "gate"})
    words = [name for name in student.state_dict() if "word_embeddings" in name]
    assert len(words) == 1
    assert len([name for name in own.state_dict() if "word_embeddings" in name]) == 3
    rows: list[int] = []
    encode = Student._encode_tokens
    monkeypatch.setattr(Student, "_encode_tokens", lambda s, ids, m: rows.append(len(ids)) or encode(s, ids, m))
    student.encode_topics(TOPICS)
    assert rows == [len(TOPICS)]
    assert student.encode_words(TopicTokens(student.tokenizer, TOPICS)) is not None


def test_a_new_teacher_leaves_the_scores_of_all_others_untouched() -> None:
    before, after = ensemble({"identity": "gate"}), ensemble({"identity": "gate"}, (*TEACHERS, "new"))
    for name in TEACHERS:
        np.testing.assert_array_equal(
            before.predict(CLIPS, EVERY, TOPICS, name), after.predict(CLIPS, EVERY, TOPICS, name)
        )


def test_it_starts_from_another_one_and_matches_identities_by_name() -> None:
    before = ensemble({"identity": "gate", "identity_std": 0.5})
    with torch.no_grad():
        for value in before.parameters():
            value.add_(0.1)
    after = ensemble({"identity": "gate", "identity_std": 0.5}, ("human", "new", "shape", "colour"))
    after.start_from(before)
    np.testing.assert_array_equal(
        before.predict(CLIPS, EVERY, TOPICS, "shape"), after.predict(CLIPS, EVERY, TOPICS, "shape")
    )


@pytest.mark.parametrize(("first", "second"), [(1, 3), (3, 1), (2, 3), (3, 2)])
def test_it_does_not_start_from_one_of_another_shape(first: int, second: int) -> None:
    before, after = (tiny_student(tiny_config(members=members)) for members in (first, second))
    with pytest.raises(T2TError, match="needs the same student"):
        after.start_from(before)


def test_a_kind_that_is_a_variant_of_ours_is_single() -> None:
    class Variant(Student):
        pass

    build(tiny_config(), DIM, TOPICS, TEACHERS, 0, kind=Variant)
    with pytest.raises(T2TError, match="for the kind dual-encoder only"):
        build(tiny_config(members=2), DIM, TOPICS, TEACHERS, 0, kind=Variant)


def test_a_training_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    matrix, embeddings = toy()
    config = TrainingConfig(
        steps=12, batch_rows=256, loss="bce", noise=0.3, ema=0.9, evaluate_every=4, snapshot_steps=4
    )
    weights = []
    for cut in (None, 2):
        looks: list[float] = []

        def look(now: Student, looks: list[float] = looks, cut: int | None = cut) -> float:
            looks.append(pr_auc(now, embeddings))
            if len(looks) == cut:
                raise KeyboardInterrupt
            return looks[-1]

        def run(validate: object, path: Path = tmp_path / f"{cut}.safetensors") -> Student:
            student = tiny_student(tiny_config({"identity": "gate"}, members=3), matrix.teachers, matrix.topics)
            train(student, matrix, embeddings, config, 0, validate, snapshot=path)
            return student

        if cut:
            with pytest.raises(KeyboardInterrupt):
                run(look)
        weights.append(run(lambda now: pr_auc(now, embeddings)).state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_every_member_is_trained_by_a_loss_of_its_own_and_their_mean_is_what_is_validated() -> None:
    matrix, embeddings = toy()
    student = tiny_student(tiny_config({"identity": "gate"}, members=3), matrix.teachers, matrix.topics)
    before = [member.project.weight.detach().clone() for member in student.members]
    config = TrainingConfig(steps=30, batch_rows=256, loss="bce", learning_rate=1e-2, noise=0.2, evaluate_every=15)
    seen: list[int] = []
    train(student, matrix, embeddings, config, 0, lambda now: seen.append(now.width) or pr_auc(now, embeddings))
    assert seen == [24, 24]
    for member, weight in zip(student.members, before, strict=True):
        assert (member.project.weight - weight).abs().max() > 1e-3
    groups = build_optimizer(student, config).param_groups
    assert len(groups[2]["params"]) == 6  # scale and bias of each
    trained = sum(p.requires_grad for p in student.parameters())
    assert sum(len(group["params"]) for group in groups) == trained
