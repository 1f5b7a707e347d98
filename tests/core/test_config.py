"""Configuration: errors name file, key and remedy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from t2t.core.config import Config, expand, parse, read_yaml
from t2t.core.errors import T2TError, nearest

pytestmark = pytest.mark.unit


class Cat(Config):
    kind: Literal["cat"] = "cat"
    whiskers: int = 12


class Dog(Config):
    kind: Literal["dog"] = "dog"
    barks: bool = True


class Optimiser(Config):
    learning_rate: float = Field(1e-3, gt=0)
    steps: int = 100


class Settings(Config):
    name: str
    optimiser: Optimiser = Optimiser()
    pets: tuple[Annotated[Cat | Dog, Field(discriminator="kind")], ...] = ()
    low: float = 0
    high: float = 1

    @model_validator(mode="after")
    def _in_order(self) -> Settings:
        if self.low > self.high:
            raise ValueError("low must not exceed high")
        return self


def refusal(content: dict[str, Any]) -> str:
    with pytest.raises(T2TError) as caught:
        parse(Settings, content, "settings.yaml")
    return str(caught.value)


def test_what_is_valid_becomes_the_model():
    found = parse(Settings, {"name": "a", "optimiser": {"steps": 7}, "pets": [{"kind": "dog"}]}, "settings.yaml")
    assert found == Settings(name="a", optimiser=Optimiser(steps=7), pets=(Dog(),))


def test_a_configuration_does_not_change():
    with pytest.raises(ValidationError):
        Settings(name="a").name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"name": "a", "nmae": 1}, ["unknown key 'nmae'", "Did you mean 'name'?"]),
        ({"name": "a", "optimizer": {}}, ["unknown key 'optimizer'", "Did you mean 'optimiser'?"]),
        (
            {"name": "a", "optimiser": {"learning_rte": 1}},
            ["unknown key 'optimiser.learning_rte'", "Did you mean 'learning_rate'?"],
        ),
        (
            {"name": "a", "optimiser": {"zzz": 1}},
            ["unknown key 'optimiser.zzz'", "Known: learning_rate, steps."],
        ),
        ({"name": "a", "pets": [{"kind": "cat", "wiskers": 3}]}, ["wiskers'", "Did you mean 'whiskers'?"]),
        ({"name": "a", "pets": [{"kind": "cow"}]}, ["'pets.0.kind'", "'cow' is none of 'cat', 'dog'"]),
        ({}, ["key 'name' is missing"]),
        ({"name": "a", "optimiser": {"steps": "many"}}, ["key 'optimiser.steps'", "integer", "found 'many'"]),
        ({"name": "a", "optimiser": {"learning_rate": 0}}, ["key 'optimiser.learning_rate'", "greater than 0"]),
        ({"name": "a", "low": 2}, ["low must not exceed high"]),
        ({"nmae": 1, "high": "x"}, ["'name' is missing", "unknown key 'nmae'", "key 'high'"]),
    ],
)
def test_problems_name_the_file_the_key_and_the_remedy(content, expected):
    message = refusal(content)
    assert message.startswith("settings.yaml: ")
    assert "\n" not in message
    assert [part for part in expected if part not in message] == []


def test_yaml_is_read_as_a_mapping(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: größe\nnested: {list: [1, two]}\n", encoding="utf-8")
    assert read_yaml(path) == {"name": "größe", "nested": {"list": [1, "two"]}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: a\nb: [1,\nc: 2\n", "line 4"),
        (b"name: a\n\tb: 1\n", "line 2"),
        (b"name: a\nb: 'open\n", "line 3"),
        (b"a: 1\nb: {c: 1}}\n", "line 2"),
        (b"a: !!python/object/apply:os.system ['true']\n", "line 1"),
        (b"name: \xff\xfe\n", "not readable as YAML"),
        (b"- a\n- b\n", "found list"),
        (b"just text\n", "found str"),
        (b"", "found NoneType"),
    ],
)
def test_yaml_errors_name_the_file_and_the_line(tmp_path, content, expected):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(T2TError) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(T2TError, match=r"none\.yaml: no such file"):
        read_yaml(tmp_path / "none.yaml")


def test_expand_reaches_every_string_and_nothing_else(monkeypatch):
    monkeypatch.setenv("T2T_TEST_FOLDER", "/from/environment")
    monkeypatch.setenv("data", "/not/this")
    content = {"path": "${data}/a.csv", "list": ["${T2T_TEST_FOLDER}", {"deep": "${data}${data}"}], "n": 3, "no": None}
    assert expand(content, {"data": "/d"}, "x.yaml") == {
        "path": "/d/a.csv",
        "list": ["/from/environment", {"deep": "/d/d"}],
        "n": 3,
        "no": None,
    }
    assert content["path"] == "${data}/a.csv"


@pytest.mark.parametrize("text", ["plain", "$data", "${}", "${a-b}", "$ {data}", ""])
def test_other_dollars_stay(text):
    assert expand(text, {"data": "/d"}, "x.yaml") == text


def test_what_a_variable_holds_is_not_expanded_again():
    assert expand("${data}", {"data": "${data}"}, "x.yaml") == "${data}"


def test_an_unset_variable_is_named_with_its_file(monkeypatch):
    monkeypatch.delenv("T2T_TEST_UNSET", raising=False)
    with pytest.raises(T2TError, match=r"^x\.yaml: \$\{T2T_TEST_UNSET\} is not set\. Set the environment variable"):
        expand({"a": ["${T2T_TEST_UNSET}"]}, {}, "x.yaml")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("apearance", ["appearance", "motion"], " Did you mean 'appearance'?"),
        ("zzz", ["motion", "appearance"], " Known: appearance, motion."),
        ("zzz", [], ""),
    ],
)
def test_nearest(name, known, expected):
    assert nearest(name, known) == expected
