"""What each annotator is worth, by the others and by the models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from t2t.data.competence import competence, people_remarks
from t2t.data.consensus import Answers
from t2t.data.dataset import Dataset, DatasetConfig
from tests.helpers.people import crowd, table

CROWD = {"expert": (0.97, 0.98), "usual": (0.85, 0.92), "other": (0.85, 0.92), "lot": (0.5, 0.5)}


def by_name(answers: Answers, with_mace: bool | None = False) -> dict[str, dict[str, float]]:
    frame = competence(answers, with_mace)
    return {row["annotator"]: row for row in frame.to_dict("records")}


def of_answers(answers: Answers) -> Dataset:
    """A dataset that has nothing but answers."""
    columns = [answers.sample_ids.take(answers.pair), answers.topics.take(answers.pair)]
    rows = zip(*columns, answers.annotator, answers.relevance, strict=True)
    said = table([(s.as_py(), t.as_py(), answers.annotators[who], float(value)) for s, t, who, value in rows])
    config = DatasetConfig(name="tiny", root="tiny")
    return Dataset(config, None, said, said, (), frozenset(), answers=said)  # type: ignore[arg-type]


def test_agreement_is_with_the_majority_of_the_others() -> None:
    rows: list[tuple[str, str, str, float | None]] = []
    for sample, said in {"v": (1, 1, 0), "w": (1, 0, 0), "x": (1, 1, None), "y": (0, None, None)}.items():
        rows += [
            (sample, "t", who, None if value is None else float(value))
            for who, value in zip(("anna", "ben", "cleo"), said, strict=True)
        ]
    found = by_name(Answers.of(table(rows)))
    anna, ben, cleo = (found[name] for name in ("anna", "ben", "cleo"))
    assert (anna["answers"], anna["unanswered"], anna["yes"], anna["shared"]) == (4, 0, 0.75, 3)
    assert (cleo["answers"], cleo["unanswered"], cleo["shared"]) == (2, 2, 2)
    # v: the others of anna are one and one, which is half; w: both say no; x: ben says yes.
    assert anna["agreement"] == pytest.approx((0.5 + 0 + 1) / 3)
    # v: of ben's others one says yes; w: one; x: anna says yes.
    assert ben["agreement"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert 0 < anna["low"] < anna["agreement"] < anna["high"] < 1


def test_sensitivity_and_specificity_are_those_of_the_annotators() -> None:
    pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed (extra `people`)")
    found = by_name(crowd(CROWD, pairs=1500)[1], with_mace=None)
    for name, (sensitivity, specificity) in CROWD.items():
        assert found[name]["sensitivity"] == pytest.approx(sensitivity, abs=0.06)
        assert found[name]["specificity"] == pytest.approx(specificity, abs=0.06)
    assert found["expert"]["competence"] > found["lot"]["competence"] + 0.4


def test_of_whom_nobody_can_check_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2t.data.competence.has_crowdkit", lambda: False)
    _, answers = crowd(CROWD, pairs=200, each=1)
    frame = competence(answers)
    assert (frame["shared"] == 0).all()
    unknown = ["agreement", "low", "high", "youden", "sensitivity", "specificity", "competence"]
    assert frame[unknown].isna().all(axis=None)
    assert people_remarks(of_answers(answers)) == []


def test_who_answers_by_lot_or_the_opposite_is_named_and_nobody_else() -> None:
    _, answers = crowd({**CROWD, "contrary": (0.05, 0.05)}, pairs=1500)
    told = people_remarks(of_answers(answers))
    assert len(told) == 2
    assert told[0].startswith("Annotator contrary: the answers say the opposite of those of the others")
    assert told[1].startswith("Annotator lot: the answers have hardly to do with those of the others")


def test_who_is_one_sided_is_told_to_write_down_the_silence() -> None:
    _, answers = crowd({**CROWD, "marks": (0.99, 0.03)}, pairs=1500)
    told = " ".join(people_remarks(of_answers(answers)))
    assert "Annotator marks is one-sided:" in told
    assert "(marks): a model of their errors goes wrong without it" in told


def test_positives_that_are_rare_make_nobody_one_sided() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(400) < 0.01
    rows = [(f"v{at}", "t", who, float(yes)) for at, yes in enumerate(truth) for who in ("anna", "ben")]
    assert people_remarks(of_answers(Answers.of(table(rows)))) == []


def test_one_annotator_alone_is_compared_with_nobody() -> None:
    dataset = of_answers(Answers.of(table([("v", "t", "anna", 1.0)] * 1)))
    assert people_remarks(dataset) == []
    assert isinstance(competence(Answers.of(table([("v", "t", "anna", 1.0)])), False), pd.DataFrame)
