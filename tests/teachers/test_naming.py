"""Free text becomes topics: which names an answer has, how surely, which topics are meant, and what is left."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t2t.core.errors import DataError
from t2t.data.source import SourceFile
from t2t.teachers.naming.counts import Counts
from t2t.teachers.naming.kept import Answer, Kept
from t2t.teachers.naming.texts import Named, named, plain
from t2t.teachers.naming.topics import Topics
from t2t.teachers.vision_language import Spoken
from tests.helpers.documented import refused

pytestmark = pytest.mark.unit


def read(text: str, several: bool = True, ended: bool = True, score: Any = "mean") -> list[tuple[str, float, bool]]:
    """The names of an answer with one character a token, each of log-probability -0.1, and -0.5 for capitals."""
    ends = range(1, len(text) + 1)
    logprobs = [-0.5 if sign.isupper() else -0.1 for sign in text]
    return [(n.text, n.confidence, n.cut) for n in named(text, list(ends), logprobs, ended, several, score)]


def names(text: str, **how: Any) -> list[str]:
    return [name for name, _, _ in read(text, **how)]


def test_an_answer_is_taken_apart():
    assert names("a dog\nhot dog\n") == ["a dog", "hot dog"]
    assert names("dog, cat; bird") == ["dog", "cat", "bird"]
    assert names("1. **Dog**\n2) 'cat'.\n- a bird\n• C++") == ["Dog", "cat", "a bird", "C++"]
    # Lines are the names where there are several: a comma belongs to one.
    assert names("Paris, France\nLyon") == ["Paris, France", "Lyon"]
    assert names("dog, cat\nbird", several=False) == ["dog, cat"]
    assert names("\n  dog \n", several=False) == ["dog"]
    assert names("3D printing") == ["3D printing"]
    assert names("\u72ac\u3001\u732b") == ["\u72ac", "\u732b"]
    assert names("") == names(" \n -- \n") == []


def test_a_names_confidence_is_that_of_its_own_tokens():
    assert read("abc\nXYZ") == [
        ("abc", pytest.approx(math.exp(-0.1)), False),
        ("XYZ", pytest.approx(math.exp(-0.5)), False),
    ]
    assert [c for _, c, _ in read("abc\nXYZ", score="sum")] == pytest.approx([math.exp(-0.3), math.exp(-1.5)])
    # What is taken off the ends counts as little as what stands between.
    assert read("NO. 1\n- abc!")[1][1] == pytest.approx(math.exp(-0.1))
    # Tokens of several characters, and one that is a part of a character: both bytes of it count.
    (found,) = named("hé x", [1, 1, 2, 4], [-1.0, -2.0, -3.0, -6.0], True, False)
    assert found.confidence == pytest.approx(math.exp(-3.0))


def test_the_last_name_of_an_answer_without_an_end_is_cut():
    assert [cut for *_, cut in read("dog\nhot", ended=False)] == [False, True]
    assert [cut for *_, cut in read("dog\n", ended=False)] == [False]
    assert [cut for *_, cut in read("dog\nhot", several=False, ended=False)] == [False]
    assert [cut for *_, cut in read("ho", several=False, ended=False)] == [True]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A Dog", "dog"),
        ("the  D\uff4fg.", "dog"), ("rock-climbing", "Rock climbing"), ("dog\u2019s bowl", "dogs bowl"),
        ("Stra\u00dfe", "STRASSE"), ("an \u201chour\u201d", "hour"), ("caf\u00e9", "cafe\u0301"),
        ("snow_board", "snow board"),
    ],
)  # fmt: skip
def test_texts_that_are_one_name(one, other):
    assert plain(one) == plain(other)


def test_texts_that_are_other_names():
    every = ["C", "C++", "C#", "?!", "...", "a", "the", "dog", "dogs", "café", "cafe", "R&B", "RB", "3 5", "35", "🐶"]
    assert len({plain(text) for text in every}) == len(every)
    assert all(plain(text) for text in every)


def topics(
    tmp_path: Path, aliases: str = "", of: tuple[str, ...] = ("A dog", "hot dog", "zebra"), **more: Any
) -> Topics:
    file = tmp_path / "aliases.csv"
    file.write_text("text,topic\n" + aliases, encoding="utf-8")
    return Topics(of, "seer", SourceFile(file) if aliases else None, ("none",), **more)


def test_names_aliases_and_nothing(tmp_path):
    of = topics(tmp_path, "puppy,A dog\nThe Doggy!,A dog\n")
    found = {text: of.of(Named(text, 1.0)) for text in ("Dog.", "hot-dog", "a puppy", "doggy", "None", "cat")}
    assert found == {
        "Dog.": ("A dog", "name"), "hot-dog": ("hot dog", "name"), "a puppy": ("A dog", "alias"),
        "doggy": ("A dog", "alias"), "None": (None, "nothing"), "cat": (None, "unmapped"),
    }  # fmt: skip
    # Half a name may be another topic's.
    assert of.of(Named("zebra", 1.0, cut=True)) == (None, "cut")
    # A topic that is called so comes first.
    assert topics(tmp_path, of=("none", "dog")).of(Named("None", 1.0)) == ("none", "name")


def test_topics_that_a_text_cannot_tell_apart_need_an_alias(tmp_path):
    refused(lambda: topics(tmp_path, of=("Turkey", "turkey", "dog")))
    assert topics(tmp_path, "turkey,turkey\n", ("Turkey", "turkey", "dog")).of(Named("TURKEY", 1.0))[0] == "turkey"


@pytest.mark.parametrize("rows", ["puppy,a cat\n", "puppy,A dog\nPuppy!,zebra\n", "dog,zebra\n", "puppy\n", ",A dog\n"])
def test_bad_aliases_are_refused_by_row(tmp_path, rows):
    message = refused(lambda: topics(tmp_path, rows), DataError)
    assert "aliases.csv" in message


def test_a_text_stands_for_the_nearest_topic_above_the_threshold(tmp_path):
    places = {"A dog": 0.0, "hot dog": 1.0, "zebra": 2.0, "puppy": 0.1, "sausage": 0.95, "moon": 3.1, "???": None}

    def embed(texts: Any) -> np.ndarray:
        angles = [places[text] for text in texts]
        return np.array([[0.0, 0.0] if a is None else [math.cos(a), math.sin(a)] for a in angles])

    of = topics(tmp_path, "sausage,zebra\n", embed=embed, threshold=0.9)
    assert of.of(Named("puppy", 1.0)) == ("A dog", "nearest")
    assert of.of(Named("sausage", 1.0)) == ("zebra", "alias")
    assert of.of(Named("moon", 1.0)) == (None, "unmapped")
    assert of.of(Named("???", 1.0)) == (None, "unmapped")


def test_what_stands_for_no_topic_is_counted_once_a_sample(tmp_path):
    counts, file = Counts(), tmp_path / "proposed" / "seer.csv"
    counts.write(file)
    assert not file.exists()
    one = [
        (Named("Cat", 0.5), None, "unmapped"),
        (Named("a cat", 0.9), None, "unmapped"),
        (Named("dog", 1.0), "dog", "name"),
    ]
    for _ in range(2):
        counts.add("s1", one)
    counts.add("s3", [(Named("cat, grey", 0.25), None, "unmapped"), (Named("ca", 0.25, cut=True), None, "cut")])
    counts.add("s2", [(Named("the cat", 0.5), None, "unmapped")])
    counts.add("s4", [])
    counts.write(file)
    rows = list(csv.reader(file.open(encoding="utf-8")))
    assert rows == [
        ["text", "samples", "confidence", "examples"], ["a cat", "2", "0.7000", "s1; s2"],
        ["ca...", "1", "0.2500", "s3"], ["cat, grey", "1", "0.2500", "s3"],
    ]  # fmt: skip
    told = counts.remarks(3, file)
    assert told[0] == "4 answers name 6 texts: 1 by a topic's name, 1 are cut off, 4 stand for no topic."
    assert told[1:4] == [
        "1 answers name nothing at all.",
        "1 texts end at max_new_tokens, and are not taken for a topic.",
        "2 of 3 topics are never named.",
    ]
    assert told[4].startswith("3 proposed topics, all in ")
    assert "'a cat' (2 samples, such as s1)" in told[4]
    # A topic that came since: nothing is left, and the table says so.
    Counts(samples={"s1"}).write(file)
    assert len(file.read_text().splitlines()) == 1


def test_answers_are_kept_by_content_and_damage_is_asked_again(tmp_path, caplog):
    spoken = Spoken("a dog", (1, 5), (-0.5, -0.25), True)
    kept = Kept(tmp_path, "q" * 64)
    kept.write("pets", [Answer("s1", "c1", spoken), Answer("s2", "c2", spoken)])
    kept.write("pets", [Answer("s1", "c1", spoken), Answer("s2", "c2", spoken)])
    kept.write("zoo", [Answer("z1", "c3", spoken)])
    again = Kept(tmp_path, "q" * 64)
    files = again.refresh()
    assert (len(files), again.refresh()) == (2, [])
    assert again.get("c2") == spoken
    assert again.get("c4") is None
    found = [answer for name in files for answer in again.of(name, "pets")]
    assert [(answer.sample_id, answer.content) for answer in found] == [("s1", "c1"), ("s2", "c2")]
    for file in again.folder.iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    assert Kept(tmp_path, "q" * 64).refresh() == []
    assert "its clips are asked again" in caplog.text
    assert not list(again.folder.iterdir())
