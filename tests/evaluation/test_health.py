"""The health of labels: the numbers against slow and plain ones, and what is done about a constant teacher."""

from __future__ import annotations

import logging
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import average_precision_score

from t2t.core.errors import T2TError
from t2t.data.coding import code
from t2t.data.labels import LABEL_SCHEMA
from t2t.evaluation.config import HealthConfig
from t2t.evaluation.health import COLUMNS, check_health, health, nearly_constant

pytestmark = pytest.mark.unit

SAMPLES = [f"s{i}" for i in range(40)]
TOPICS = ["red", "green", "blue"]


def table(teacher: str, rows: list[tuple[str, str, float]]) -> pa.Table:
    samples, topics, values = zip(*rows, strict=True) if rows else ((), (), ())
    columns = [pa.array(samples, pa.string()), pa.array(topics, pa.string())]
    columns += [pa.array([teacher] * len(rows), pa.string()), pa.array(values, pa.float32())]
    return pa.table(columns, schema=LABEL_SCHEMA)


def rows(seed: int = 0, samples: list[str] = SAMPLES) -> list[tuple[str, str, float]]:
    draw = np.random.default_rng(seed).random
    return [(sample, topic, float(np.float32(draw()))) for sample in samples for topic in TOPICS]


def people(seed: int = 7, samples: list[str] = SAMPLES) -> list[tuple[str, str, float]]:
    return [(sample, topic, float(value > 0.6)) for sample, topic, value in rows(seed, samples)]


def health_of(tables: dict[str, pa.Table], samples: list[str], topics: list[str]) -> pd.DataFrame:
    return health(code(tables.values(), samples, topics, list(tables)))


def test_measures_are_those_of_plain_loops():
    said, truth = rows(), people(samples=SAMPLES[:25])
    said[0], said[5] = ("s0", "red", 0.0), ("s1", "blue", 1.0)
    report = health_of({"human": table("human", truth), "vendor": table("vendor", said)}, SAMPLES, TOPICS)
    assert tuple(report.columns) == COLUMNS
    assert report.teacher.tolist() == ["human", "vendor"]
    found = report.iloc[1]
    values = [value for _, _, value in said]
    assert (found.rows, found.samples, found.topics, found.distinct) == (120, 40, 3, len(set(values)))
    assert (found.at_zero, found.at_one) == (1 / 120, 1 / 120)
    assert found["mean"] == pytest.approx(sum(values) / 120)
    counts = [0] * 32
    for value in values:
        counts[min(int(value * 32), 31)] += 1
    assert found.entropy == pytest.approx(-sum(c / 120 * math.log2(c / 120) for c in counts if c))

    answers = {(sample, topic): value for sample, topic, value in said}
    pairs = [(answers[sample, topic], value >= 0.5) for sample, topic, value in truth]
    assert found.human_pairs == len(pairs) == 75
    assert found.pr_auc == pytest.approx(average_precision_score([p for _, p in pairs], [v for v, _ in pairs]))
    error = 0.0
    for low in range(10):
        own = [(v, p) for v, p in pairs if min(int(np.float32(v) * np.float32(10)), 9) == low]
        if own:
            error += len(own) / 75 * abs(sum(v for v, _ in own) / len(own) - sum(p for _, p in own) / len(own))
    assert found.calibration_error == pytest.approx(error)


def test_people_are_not_held_against_themselves():
    report = health_of({"human": table("human", people())}, SAMPLES, TOPICS)
    assert report.distinct.tolist() == [2]
    assert report[["pr_auc", "calibration_error"]].isna().all().all()
    assert nearly_constant(report, HealthConfig(min_distinct=9)) == {}


def test_a_perfect_teacher_scores_one_and_is_calibrated():
    truth = people()
    report = health_of({"human": table("human", truth), "echo": table("echo", truth)}, SAMPLES, TOPICS)
    assert report.pr_auc[1] == 1
    assert report.calibration_error[1] == 0


def test_rows_that_nothing_is_trained_on_do_not_count():
    report = health_of({"vendor": table("vendor", rows())}, SAMPLES[:10], TOPICS[:2])
    assert (report.rows[0], report.samples[0], report.topics[0]) == (20, 10, 2)


@pytest.mark.parametrize("truth", [[], [("s39", "red", 1.0)], [("s0", "red", 0.0)]])
def test_without_a_common_positive_pair_there_is_no_pr_auc(truth):
    said = rows(samples=SAMPLES[:10])
    report = health_of({"human": table("human", truth), "vendor": table("vendor", said)}, SAMPLES, TOPICS)
    assert math.isnan(report.pr_auc[1])
    assert report.human_pairs[1] == (truth == [("s0", "red", 0.0)])


CONSTANT = {
    "always": ([("s0", "red", 0.3), ("s1", "red", 0.3)], "1 distinct confidence in 2 labels"),
    "silent": ([], "no label for any training sample"),
    "stuck": ([(s, t, 0.5 + i * 1e-6) for i, s in enumerate(SAMPLES) for t in TOPICS], "an entropy of 0.0000 bits"),
}


@pytest.mark.parametrize("teacher", CONSTANT)
def test_nearly_constant_teachers_are_found_by_their_measure(teacher):
    said, measure = CONSTANT[teacher]
    report = health_of({"vendor": table("vendor", rows()), teacher: table(teacher, said)}, SAMPLES, TOPICS)
    found = nearly_constant(report, HealthConfig())
    assert list(found) == [teacher]
    assert found[teacher].startswith(measure)


def test_hard_labels_are_an_opinion():
    report = health_of({"detector": table("detector", people())}, SAMPLES, TOPICS)
    assert nearly_constant(report, HealthConfig()) == {}
    assert list(nearly_constant(report, HealthConfig(min_distinct=3))) == ["detector"]
    assert list(nearly_constant(report, HealthConfig(min_entropy=1.5))) == ["detector"]


def test_a_campaign_warns_blocks_or_does_not_look(caplog):
    said = {"vendor": table("vendor", rows()), "stuck": table("stuck", CONSTANT["always"][0])}
    report = health_of(said, SAMPLES, TOPICS)
    with caplog.at_level(logging.WARNING, "t2t"):
        check_health(report, HealthConfig(constant="off"), "demo")
        assert caplog.messages == []
        check_health(report, HealthConfig(), "demo")
        assert [message for message in caplog.messages if "stuck" in message and "health.min_distinct" in message]
        with pytest.raises(T2TError, match=r"'stuck'.*1 distinct.*health demo.*retract stuck.*health.constant: warn"):
            check_health(report, HealthConfig(constant="block"), "demo")
    check_health(health_of({"vendor": said["vendor"]}, SAMPLES, TOPICS), HealthConfig(constant="block"), "demo")


def test_pairs_are_matched_among_many_samples():
    n = 50_000
    samples = [f"s{i}" for i in range(n)]
    ids = pa.array(samples).take(pa.array(np.repeat(np.arange(n), 3)))
    topics = pa.array(TOPICS).take(pa.array(np.tile(np.arange(3), n)))
    confidence = pa.array(np.random.default_rng(0).random(3 * n, np.float32))
    tables = {
        name: pa.table([ids, topics, pa.repeat(pa.scalar(name), 3 * n), confidence], schema=LABEL_SCHEMA)
        for name in ("human", "v")
    }
    report = health_of(tables, samples, TOPICS)
    assert report.rows.tolist() == [3 * n, 3 * n]
    assert report.human_pairs[1] == 3 * n
    assert report.pr_auc[1] == 1
