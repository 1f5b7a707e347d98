"""The dual-encoder: two towers that do not know of each other, and identities that do not know of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from t2t.core.errors import T2TError
from t2t.data.pairs import Pairs
from t2t.students import build_student
from t2t.students.config import DualEncoderConfig
from t2t.students.dual_encoder import Student
from t2t.students.text import TopicTokens
from tests.helpers.students import DIM, TEACHERS, TOPICS, pretrained_folder, random_clips, tiny_config, tiny_student

CLIPS = random_clips([4, 1, 3, 2, 4])
EVERY = np.arange(len(CLIPS))


def frames() -> tuple[torch.Tensor, torch.Tensor]:
    values, mask = CLIPS.gather(EVERY)
    return torch.from_numpy(values).float(), torch.from_numpy(mask)


def test_embeddings_of_samples_and_texts_have_unit_length() -> None:
    student = tiny_student()
    samples, texts = student.encode_samples(*frames()), student.encode_topics(TOPICS, "shape")
    assert samples.shape == (len(CLIPS), 8)
    assert texts.shape == (len(TOPICS), 8)
    for embedded in (samples, texts):
        assert embedded.dtype == torch.float32
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(len(embedded)))
    # They are not all one vector either.
    assert (samples[0] - samples[1]).norm() > 1e-3
    assert (texts[0] - texts[1]).norm() > 1e-3


@pytest.mark.parametrize("frontend", [{}, {"variation": True}, {"whiten": 4}, {"change": False}])
def test_padding_changes_nothing(frontend: dict) -> None:
    student = tiny_student(tiny_config(frontend=frontend))
    values, mask = frames()
    expected = student.encode_samples(values, mask)
    longer = torch.nn.functional.pad(values, (0, 0, 0, 3))
    longer_mask = torch.nn.functional.pad(mask, (0, 3))
    dirty = torch.where(longer_mask.unsqueeze(-1), longer, torch.tensor(50.0))
    torch.testing.assert_close(student.encode_samples(dirty, longer_mask), expected, atol=1e-5, rtol=0)
    for i, count in enumerate(CLIPS.counts):
        alone = student.encode_samples(values[i : i + 1, :count], mask[i : i + 1, :count])
        torch.testing.assert_close(alone[0], expected[i], atol=1e-5, rtol=0)


def test_a_texts_embedding_does_not_depend_on_its_neighbours() -> None:
    student = tiny_student()
    together = student.encode_topics(TOPICS)
    for i, topic in enumerate(TOPICS):
        torch.testing.assert_close(student.encode_topics([topic])[0], together[i], atol=1e-5, rtol=0)


def test_a_samples_embedding_is_independent_of_identities() -> None:
    student = tiny_student()
    before = student.encode_samples(*frames())
    with torch.no_grad():
        student.identity.weight.normal_()
        student.text_head.weight.normal_()
    assert torch.equal(student.encode_samples(*frames()), before)
    other = tiny_student(teachers=["human"])
    assert torch.equal(other.encode_samples(*frames()), before)


def test_identities_give_different_scores() -> None:
    student = tiny_student(tiny_config({"identity_std": 1.0}))
    scores = [student.predict(CLIPS, EVERY, TOPICS, name) for name in TEACHERS]
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    assert np.abs(scores[1] - scores[2]).max() > 1e-4


@pytest.mark.parametrize("kind", [None, "bert"])
def test_a_new_teacher_leaves_the_scores_of_all_others_untouched(kind: str | None, tmp_path: Path) -> None:
    config = tiny_config({"pretrained": str(pretrained_folder(tmp_path, kind))} if kind else None)
    before = tiny_student(config)
    after = tiny_student(config, teachers=[*TEACHERS, "demo-self-0"])
    for name in TEACHERS:
        np.testing.assert_array_equal(
            after.predict(CLIPS, EVERY, TOPICS, name), before.predict(CLIPS, EVERY, TOPICS, name)
        )


def test_an_identity_starts_from_its_name_wherever_it_stands() -> None:
    first, second = tiny_student(), tiny_student(teachers=TEACHERS[::-1], seed=5)
    for i, name in enumerate(TEACHERS):
        assert torch.equal(first.identity.weight[i], second.identity.weight[second.teachers.index(name)])
    assert not torch.equal(first.identity.weight[0], first.identity.weight[1])


def test_the_seed_draws_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    states = [tiny_student(seed=seed).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["project.weight"], states[2]["project.weight"])


@pytest.mark.parametrize("name", ["humn", "Human", "demo-self-0"])
def test_an_unknown_identity_is_refused_with_the_nearest_known_one(name: str) -> None:
    expected = "Did you mean 'human'" if name != "demo-self-0" else "Known: colour, human, shape"
    with pytest.raises(T2TError, match=f"no identity '{name}'.*{expected}"):
        tiny_student().predict(CLIPS, EVERY, TOPICS, name)


def test_predict_scores_encoded_topics_and_asks_people_by_default() -> None:
    student = tiny_student().train()
    scores = student.predict(CLIPS, EVERY, TOPICS)
    assert not student.training
    np.testing.assert_array_equal(scores, student.predict(CLIPS, EVERY, TOPICS, "human"))
    assert scores.dtype == np.float32
    assert scores.shape == (len(CLIPS), len(TOPICS))
    samples, texts = student.encode_samples(*frames()), student.encode_topics(TOPICS)
    cosine = torch.nn.functional.cosine_similarity(samples[:, None], texts[None], dim=-1)
    expected = torch.sigmoid(student.scale.exp() * cosine + student.bias)
    np.testing.assert_allclose(scores, expected.detach().numpy(), atol=1e-6)


def test_pairs_alone_are_scored_as_in_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    student = tiny_student()
    whole = student.predict(CLIPS, EVERY[::-1].copy(), TOPICS, "shape")
    monkeypatch.setattr("t2t.students.student.PAIR_BLOCK", 2)
    sample, topic = np.array([1, 0, 1, 3, 1]), np.array([3, 1, 1, 0, 3])
    blank = np.zeros(len(sample), np.float32)
    pairs = Pairs(tuple("abcde"), TOPICS, sample, topic, blank, blank)
    scores = student.predict_pairs(CLIPS, EVERY[::-1].copy(), pairs, "shape").score
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, whole[sample, topic], rtol=0, atol=1e-6)
    assert student.predict_pairs(CLIPS, EVERY, pairs.where(np.zeros(len(sample), bool))).score.shape == (0,)


def test_scores_follow_the_indices_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    student = tiny_student()
    whole = student.predict(CLIPS, EVERY, TOPICS)
    np.testing.assert_allclose(student.predict(CLIPS, EVERY[[3, 0, 3]], TOPICS), whole[[3, 0, 3]], atol=1e-6)
    monkeypatch.setattr("t2t.students.student.ENCODE_BLOCK", 2)
    np.testing.assert_allclose(student.predict(CLIPS, EVERY, TOPICS), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("bias", "prior", "expected"), [(None, 0.2, 0.2), (None, 0.0, 1e-3), (None, 1.0, 1 - 1e-3), (0.0, 0.2, 0.5)]
)
def test_a_score_starts_at_the_rows_mean_confidence(bias: float | None, prior: float, expected: float) -> None:
    student = build_student(tiny_config(bias=bias), DIM, TOPICS, TEACHERS, 0, prior)
    assert torch.sigmoid(student.logits(torch.zeros(1))).item() == pytest.approx(expected, rel=1e-4)
    assert student.logits(torch.ones(1)).item() - student.logits(torch.zeros(1)).item() == pytest.approx(10.0)


@pytest.mark.parametrize("kind", ["bert", "t5"])
def test_a_pretrained_text_tower_comes_with_its_weights_and_its_own_tokens(kind: str, tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path, kind)
    student = tiny_student(tiny_config({"pretrained": str(folder)}))
    source = transformers.AutoModelForTextEncoding.from_pretrained(folder).eval()
    for name, value in source.state_dict().items():
        assert torch.equal(student.text_encoder.state_dict()[name], value), name
    # A text is what the model would be given, with the identity's embedding in front.
    identity = torch.tensor(student.token_ids(["shape"]))
    ids, mask = TopicTokens(student.tokenizer, ["red ball"]).texts(np.array([0]), identity.numpy())
    words = source.get_input_embeddings()(torch.from_numpy(ids[:, 1:]))
    embedded = torch.cat([student.identity.weight[2].view(1, 1, -1), words], dim=1)
    hidden = source(inputs_embeds=embedded, attention_mask=torch.from_numpy(mask).long()).last_hidden_state
    expected = torch.nn.functional.normalize(student.text_head(hidden.mean(1)), dim=-1)
    torch.testing.assert_close(student.encode_topics(["red ball"], "shape"), expected.detach(), atol=1e-5, rtol=0)
    assert ids[0, -1] == student.tokenizer.convert_tokens_to_ids("</s>")


def test_a_pretrained_tower_in_half_precision_is_trained_in_single(tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path, "bert", torch.bfloat16)
    student = tiny_student(tiny_config({"pretrained": str(folder)}))
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}
    assert student.encode_topics(TOPICS).dtype == torch.float32


def test_a_pretrained_tower_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(T2TError, match=r"text\.pretrained.*nowhere"):
        tiny_student(tiny_config({"pretrained": str(tmp_path / "nowhere")}))


def gradients(student: Student) -> set[str]:
    """Names of the parameters that a step would move."""
    student.train()
    tokens = TopicTokens(student.tokenizer, TOPICS)
    ids, mask = tokens.texts(np.arange(3), student.token_ids(TEACHERS))
    cosine = student.encode_samples(*frames()) @ student.encode_texts(torch.from_numpy(ids), torch.from_numpy(mask)).T
    student.logits(cosine).sum().backward()
    return {name for name, parameter in student.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("freeze", [False, True])
def test_a_frozen_encoder_still_learns_its_identities(freeze: bool, tmp_path: Path) -> None:
    folder = pretrained_folder(tmp_path, "t5")
    moved = gradients(tiny_student(tiny_config({"pretrained": str(folder), "freeze": freeze})))
    assert {"identity.weight", "text_head.weight", "project.weight", "scale", "bias"} <= moved
    assert any(name.startswith("text_encoder.") for name in moved) is not freeze


@pytest.mark.parametrize("values", [{"dim": 1}, {"scale": 0}, {"sample": {"d_model": 4}}, {"text": {"dropout": 1}}])
def test_what_the_configuration_refuses(values: dict) -> None:
    with pytest.raises(ValueError):
        DualEncoderConfig.model_validate(values)
