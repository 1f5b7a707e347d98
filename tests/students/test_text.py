"""Texts of the student: an identity costs one position, and arrays put together what strings would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t2t.students import build_student
from t2t.students.config import fitting
from t2t.students.dual_encoder import add_identities
from t2t.students.text import TopicTokens, fit_tokenizer, identity_token
from tests.helpers.students import TOPICS


def test_any_text_survives_the_tokenizer_of_other_topics() -> None:
    tokenizer = fit_tokenizer(TOPICS)
    for text in ("red ball", "Ninja-Warrior party!", "naïve café ☕", "日本語"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids).strip() == text


def test_a_frequent_word_is_one_token() -> None:
    tokenizer = fit_tokenizer(["dancing alone", "dancing together", "slow dancing"])
    assert len(tokenizer("dancing", add_special_tokens=False)["input_ids"]) == 1


def test_the_tokenizer_does_not_depend_on_the_order_of_topics() -> None:
    assert fit_tokenizer(TOPICS).get_vocab() == fit_tokenizer(TOPICS[::-1]).get_vocab()


def test_an_identity_is_one_token_and_leaves_the_other_tokens_as_they_are() -> None:
    tokenizer = fit_tokenizer(TOPICS)
    before = tokenizer.get_vocab()
    add_identities(tokenizer, ["human", "demo-self-0"])
    assert {token: i for token, i in tokenizer.get_vocab().items() if i < len(before)} == before
    text = f"{identity_token('demo-self-0')} red ball"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids[0] == len(before) + 1
    assert ids[1:] == tokenizer("red ball", add_special_tokens=False)["input_ids"]


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None, max_examples=50)
@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_texts_are_identity_then_topic_then_end(topics: list[str], data: st.DataObject) -> None:
    tokenizer = fit_tokenizer(TOPICS)
    add_identities(tokenizer, ["human", "vendor"])
    tokens = TopicTokens(tokenizer, topics)
    asked = data.draw(st.lists(st.integers(0, len(topics) - 1), min_size=1, max_size=8))
    identity = len(tokenizer) - 1 - np.array(asked) % 2
    ids, mask = tokens.texts(np.array(asked), identity)
    longest = 0
    for row, kept, topic, own in zip(ids, mask, asked, identity, strict=True):
        inner = tokenizer(topics[topic], add_special_tokens=False)["input_ids"][:32]
        text = [own, *inner, tokenizer.eos_token_id]
        assert row[kept].tolist() == text
        assert kept[: len(text)].all()
        assert set(row[~kept]) <= {tokenizer.pad_token_id}
        longest = max(longest, len(text))
    assert ids.shape == mask.shape == (len(asked), longest)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_long_topic_is_cut(limit: int) -> None:
    tokenizer = fit_tokenizer(["x"])
    tokens = TopicTokens(tokenizer, ["a very long topic indeed", "a"], max_tokens=limit)
    ids, mask = tokens.texts(np.array([0]), np.array([99]))
    whole = tokenizer("a very long topic indeed", add_special_tokens=False)["input_ids"]
    assert ids[0].tolist() == [99, *whole[:limit], tokenizer.eos_token_id]
    assert mask.all()


def test_topics_that_a_tower_without_layers_cannot_tell_apart_are_named(caplog: pytest.LogCaptureFixture) -> None:
    topics = ["man bites dog", "dog bites man", "a red box"]
    build_student(fitting(1, 100), 4, topics, ("human",), 0)
    assert "1 topics have the same words as another one in another order" in caplog.text
    assert "'dog bites man' and 'man bites dog'" in caplog.text
    caplog.clear()
    shape = fitting(1, 100)
    layered = shape.model_copy(update={"text": shape.text.model_copy(update={"layers": 1})})
    build_student(layered, 4, topics, ("human",), 0)
    build_student(shape, 4, topics[1:], ("human",), 0)
    assert caplog.text == ""
