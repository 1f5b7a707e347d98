"""A campaign's configuration: what is refused, and with which words; retention; `--set`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from t2t.campaign.config import CampaignConfig, SelfTrainingConfig, override
from t2t.campaign.recipe import planned_recipe
from t2t.core.config import parse
from t2t.core.errors import T2TError

MINIMAL: dict[str, Any] = {"name": "demo", "dataset": "jhmdb", "encoder": {"kind": "pixels"}}


def campaign(**changes: Any) -> CampaignConfig:
    return parse(CampaignConfig, {**MINIMAL, **changes}, "demo.yaml")


def test_three_keys_are_a_campaign_and_the_defaults_are_the_papers() -> None:
    config = campaign()
    assert config.method == "teacher2task"
    assert config.training.loss == "mse"
    assert config.training.learning_rate == 1e-3
    assert config.training.balance == 0
    assert config.student.dim == 64
    assert config.evaluation.identity == config.self_training.identity == "human"
    assert config.self_training.retention == "all"
    assert not config.teachers_see_unseen


def test_human_always_takes_part_and_need_not_be_named() -> None:
    assert campaign(teachers=["human", "b", "a"]).teachers == ("b", "a")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a b"}, "'name'"),
        ({"name": "demo/one"}, "'name'"),
        ({"name": "-demo"}, "'name'"),
        ({"name": ""}, "'name'"),
        ({"name": "demo\n"}, "'name'"),
        ({"name": "x" * 65}, "'name'"),
        ({"teachers": ["a", "b", "a"]}, "named twice: a"),
        ({"teachers": ["human", "human"]}, "named twice: human"),
        ({"method": "conventional-average"}, "no self-training: set rounds.max: 1"),
        (
            {"method": "conventional-average", "rounds": {"max": 1}, "evaluation": {"identity": "newest"}},
            "'human' only: evaluation.identity",
        ),
        ({"evaluation": {"identity": "vendr"}, "teachers": ["vendor"]}, "evaluation.identity: 'vendr' is none of"),
        ({"self_training": {"identity": "ghost"}}, "self_training.identity: 'ghost' is none of human, newest"),
        ({"self_training": {"top_k": 0, "random": 0}}, "no pair would be labeled"),
        ({"teachers": ["demo-self-0"]}, "'demo-self-0' is a name the engine gives"),
        ({"gate": "sometimes"}, "'gate'"),
        ({"seed": -1}, "'seed'"),
        ({"rounds": {"max": 0}}, "'rounds.max'"),
        ({"rounds": {"patience": 0}}, "'rounds.patience'"),
        ({"self_training": {"retention": "last"}}, "retention"),
        ({"self_training": {"retention": {"windows": 2}}}, "retention is 'all', 'latest' or {window: n}"),
        ({"self_training": {"retention": {"window": "two"}}}, "retention is 'all', 'latest' or {window: n}"),
        ({"self_training": {"retention": {"window": -1}}}, "retention is 'all', 'latest' or {window: n}"),
        ({"self_training": {"retention": {"window": True}}}, "retention is 'all', 'latest' or {window: n}"),
        ({"self_training": {"retention": -1}}, "greater than or equal to 0"),
        ({"self_training": {"retention": True}}, "retention: true is no number"),
        ({"training": {"step": 5}}, "unknown key 'training.step'. Did you mean 'steps'?"),
        ({"encodr": {}}, "unknown key 'encodr'. Did you mean 'encoder'?"),
        ({"encoder": {"kind": "pixel"}}, "encoder"),
        ({"student": {"kind": "three-encoder"}}, "student: unknown kind 'three-encoder'"),
    ],
)
def test_what_does_not_agree_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(T2TError) as error:
        campaign(**changes)
    assert str(error.value).startswith("demo.yaml: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "conventional-average", "rounds": {"max": 1}},
        {"evaluation": {"identity": "vendor"}, "teachers": ["vendor"]},
        {"evaluation": {"identity": "newest"}, "self_training": {"identity": "newest"}},
        {"self_training": {"top_k": 0, "random": 1}},
        # Another campaign's students may be this one's teachers, and so may a name that only looks alike.
        {"teachers": ["other-self-0", "demo-self-study", "demo-selfie"]},
        {"name": "x" * 64},
        {"name": "Demo_2-b"},
    ],
)
def test_what_agrees_is_taken(changes: dict[str, Any]) -> None:
    config = campaign(**changes)
    assert parse(CampaignConfig, config.model_dump(mode="json"), "again") == config


def test_dots_in_a_name_are_not_any_character() -> None:
    # The campaign's name is a part of a regular expression where own students' names are looked for.
    assert campaign(name="a-b", teachers=["axb-self-0"]).teachers == ("axb-self-0",)


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        campaign().training.steps = 3


@pytest.mark.parametrize(
    ("retention", "kept"),
    [
        ("all", ["s0", "s1", "s2"]),
        ("latest", ["s2"]),
        ({"window": 0}, []),
        ({"window": 1}, ["s2"]),
        ({"window": 2}, ["s1", "s2"]),
        ({"window": 9}, ["s0", "s1", "s2"]),
        (2, ["s1", "s2"]),
    ],
)
def test_which_earlier_students_stay(retention: Any, kept: list[str]) -> None:
    config = SelfTrainingConfig.model_validate({"retention": retention})
    assert config.retained(["s0", "s1", "s2"]) == kept
    assert config.retained([]) == []
    assert SelfTrainingConfig.model_validate(config.model_dump()) == config


def test_a_rounds_student_is_named_after_campaign_and_round() -> None:
    assert campaign().self_teacher(3) == "demo-self-3"


def test_settings_reach_nested_keys_and_leave_the_original_alone() -> None:
    content = {**MINIMAL, "training": {"steps": 5, "loss": "mse"}}
    changed = override(
        content,
        ["training.steps=7", "training.learning_rate=1e-4", "teachers=[a, b]", "student.text.layers=3", "gate=always"],
    )
    assert content == {**MINIMAL, "training": {"steps": 5, "loss": "mse"}}
    config = parse(CampaignConfig, changed, "demo.yaml")
    assert (config.training.steps, config.training.learning_rate, config.training.loss) == (7, 1e-4, "mse")
    assert config.teachers == ("a", "b")
    assert config.student.text.layers == 3
    assert config.gate == "always"


def test_later_settings_win_and_values_may_hold_equals_signs() -> None:
    changed = override(MINIMAL, ["description=a=b", "seed=1", "seed=2", "self_training.retention={window: 1}"])
    assert changed["description"] == "a=b"
    assert changed["seed"] == 2
    assert parse(CampaignConfig, changed, "x").self_training.retention == 1


def test_an_unknown_setting_is_refused_where_it_is_validated() -> None:
    with pytest.raises(T2TError, match=r"unknown key 'training\.stps'"):
        parse(CampaignConfig, override(MINIMAL, ["training.stps=3"]), "demo.yaml")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.steps", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("", "write it as key=value"),
        ("seed=[1", "not readable as YAML: line 1"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(setting: str, words: str) -> None:
    with pytest.raises(T2TError, match=words):
        override(MINIMAL, [setting])


def test_a_student_that_is_given_in_part_is_filled_in_by_the_recipe() -> None:
    config = campaign(student={"text": {"pretrained": "/models/t5"}, "dim": 128})
    again = CampaignConfig.model_validate(json.loads(config.model_dump_json()))
    assert json.loads(config.model_dump_json())["student"] == {"text": {"pretrained": "/models/t5"}, "dim": 128}
    for read in (config, again):
        student = planned_recipe(read, 8, 147, 100, {"human": 10, "vendor": 100}).student
        assert (student.dim, student.text.pretrained, student.text.freeze) == (128, "/models/t5", True)
        assert (student.text.identity, student.sample.layers) == ("gate", 0)
        assert student.text.head == "linear"  # since the size is given
    whole = campaign(student={"text": {"pretrained": "/models/t5"}})
    assert planned_recipe(whole, 1, 147, 100, {"human": 10}).student.text.head == "none"
    loose = campaign(student={"text": {"pretrained": "/models/t5", "freeze": False}})
    trained = planned_recipe(loose, 1, 147, 100, {"human": 10}).student
    assert (trained.text.freeze, trained.members) == (False, 1)  # several would be several large towers
    assert planned_recipe(whole, 1, 147, 100, {"human": 10}).student.members > 1
    token = campaign(student={"text": {"pretrained": "/models/t5", "identity": "token"}})
    assert planned_recipe(token, 1, 147, 100, {"human": 10}).student.members == 1
    whitened = campaign(student={"frontend": {"whiten": 16}})
    assert planned_recipe(whitened, 8, 1280, 100, {"human": 10}).training.noise == 0.45  # of what is kept
    sizes = campaign(student={"dim": 128, "matryoshka": [16, 32]})
    steps = [planned_recipe(read, 8, 147, 100, {"human": 10}).training.steps for read in (config, sizes)]
    assert steps == [1000, 2000]  # several sizes share them
    manual = campaign(recipe="manual", student={"dim": 128})
    assert planned_recipe(manual, 8, 147, 100, {"human": 10}).student == manual.student
