"""Tasks, k-NN, the probe and their measures, against sums made by hand and against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from t2t.core.errors import T2TError
from t2t.distillation.evaluation.knn import knn
from t2t.distillation.evaluation.measure import Measured, measure, over_seeds
from t2t.distillation.evaluation.probe import linear_probe, scaled
from t2t.distillation.evaluation.task import task_of
from tests.distillation.evaluation.worlds import classes, dataset, features

pytestmark = pytest.mark.unit


# -- tasks ------------------------------------------------------------------------------------------------------------


def test_a_dataset_s_labels_by_people_are_a_task_of_classes(tmp_path):
    task = task_of(dataset(tmp_path / "pictures"))

    assert (task.exclusive, task.metric, task.topics) == (True, "top-1", ("cat", "dog", "emu"))
    assert (len(task.fit), len(task.test)) == (18, 12)
    assert task.sample_ids[:3] == ("s0", "s1", "s2")
    assert task.sample_ids[18:20] == ("s3", "s4")
    assert task.fit.argmax(axis=1).tolist() == [int(name[1:]) // 6 % 3 for name in task.sample_ids[:18]]
    assert not set(task.fit_groups) & set(task.test_groups)


def test_where_people_answered_a_part_the_rest_is_unknown_and_map_is_measured(tmp_path):
    task = task_of(dataset(tmp_path / "pictures", exclusive=False))

    assert (task.exclusive, task.metric) == (False, "mAP")
    assert np.isnan(task.fit).sum() == 18
    assert np.nansum(task.fit) == 18


def test_samples_without_features_are_left_out_and_none_at_all_is_said(tmp_path):
    whole = dataset(tmp_path / "pictures")

    task = task_of(whole, readable=[f"s{i}" for i in range(24)])
    assert (len(task.fit), len(task.test)) == (12, 8)
    with pytest.raises(T2TError, match="people labeled no readable sample of test to measure on"):
        task_of(whole, readable=["s0"])
    with pytest.raises(T2TError, match="people labeled no readable sample of unlabeled to learn from"):
        task_of(whole, fit=("unlabeled",))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [(np.zeros((3, 2)), "has 30 samples: give one row for each"), (np.full((30, 2), np.nan), "not finite")],
)
def test_features_that_do_not_fit_are_refused(tmp_path, rows, reason):
    with pytest.raises(T2TError, match=reason):
        task_of(dataset(tmp_path / "pictures")).parts(rows)


# -- k-NN -------------------------------------------------------------------------------------------------------------


def test_knn_is_the_sum_over_neighbours_made_by_hand():
    generator = np.random.default_rng(0)
    fit, asked = generator.normal(size=(20, 4)), generator.normal(size=(7, 4))
    said = (generator.random((20, 3)) < 0.4).astype(np.float32)
    said[3, 1] = said[5, 2] = np.nan

    found = knn(fit.astype(np.float32), said, asked.astype(np.float32), ks=[1, 5, 50])

    for k in (1, 5, 50):
        for q, row in enumerate(asked):
            near = [(float(row @ one / np.linalg.norm(row) / np.linalg.norm(one)), i) for i, one in enumerate(fit)]
            near = sorted(near, reverse=True)[:k]
            for t in range(3):
                known = [(np.exp(s / 0.07), said[i, t]) for s, i in near if not np.isnan(said[i, t])]
                share = sum(w * y for w, y in known) / sum(w for w, _ in known) if known else 0
                assert found[k][q, t] == pytest.approx(share, abs=1e-5)


def test_knn_sees_directions_only_and_bears_zeros_and_any_block(monkeypatch):
    task = classes()
    rows = features(task, 0.5)
    fit, asked = task.parts(rows)
    whole = knn(fit, task.fit, asked)

    assert np.isfinite(knn(np.zeros_like(fit), task.fit, asked)[10]).all()
    longer = fit * np.random.default_rng(1).uniform(0.1, 9, (len(fit), 1)).astype(np.float32)
    np.testing.assert_allclose(knn(longer, task.fit, asked)[10], whole[10], atol=1e-4)
    monkeypatch.setattr("t2t.distillation.evaluation.knn.BLOCK", 100)
    np.testing.assert_allclose(knn(fit, task.fit, asked)[200], whole[200], atol=1e-6)


# -- the probe --------------------------------------------------------------------------------------------------------


def test_the_probe_is_scikit_learn_s_logistic_regression_with_the_c_that_was_found():
    task = classes(fit=60)
    rows = features(task, 0.7, dim=90)  # more numbers than samples: it is fitted in fewer

    probe = linear_probe(task, rows)

    fit, asked = (part.astype(np.float64) for part in task.parts(rows))
    centred = fit - fit.mean(axis=0)
    scale = np.sqrt((centred**2).mean())
    plain = LogisticRegression(C=probe.c, max_iter=1000).fit(centred / scale, task.fit.argmax(axis=1))
    wanted = plain.predict_proba((asked - fit.mean(axis=0)) / scale)
    said = np.exp(probe.scores - probe.scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(said / said.sum(axis=1, keepdims=True), wanted, atol=2e-3)
    assert probe.tried[probe.c] == max(probe.tried.values())
    assert next(c for c, value in probe.tried.items() if value == probe.tried[probe.c]) == probe.c


def test_the_probe_does_not_look_at_what_is_measured_on():
    task = classes()
    rows = features(task, 1.0)
    other = replace(task, test=np.roll(task.test, 1, axis=1))

    assert linear_probe(task, rows).c == linear_probe(other, rows).c
    shaken = rows.copy()
    shaken[len(task.fit) :] *= 100
    assert linear_probe(task, shaken).tried == linear_probe(task, rows).tried


def test_turning_features_changes_no_answer_and_few_columns_stay_as_they_are():
    generator = np.random.default_rng(0)
    fit, _asked = scaled(generator.normal(size=(30, 6)), generator.normal(size=(9, 6)))
    assert fit.shape == (30, 6)
    assert (fit**2).mean() == pytest.approx(1)
    wide, few = scaled(generator.normal(size=(5, 40)), generator.normal(size=(3, 40)))
    assert wide.shape == (5, 5)
    assert few.shape == (3, 5)
    same, _ = scaled(np.ones((4, 3)), np.ones((1, 3)))
    assert (same == 0).all()


@pytest.mark.parametrize("sources", ["many", "one"])
def test_topics_that_are_not_exclusive_have_a_probe_each_on_what_is_known(sources):
    task = classes(fit=90)
    said = task.fit.copy()
    said[::4, 0] = np.nan
    groups = task.fit_groups if sources == "many" else np.zeros_like(task.fit_groups)
    task = replace(task, fit=said, exclusive=False, fit_groups=groups)
    rows = features(replace(task, fit=np.nan_to_num(said)), 0.4)

    probe = linear_probe(task, rows)

    assert measure(task, probe.scores, 0).value > 0.9
    assert measure(task, np.zeros_like(probe.scores), 0).value == pytest.approx(1 / 3)


def test_a_class_that_nobody_shows_is_said_of_nobody():
    task = classes(topics=4)
    fit = task.fit.copy()
    fit[fit[:, 3] == 1] = [1, 0, 0, 0]
    task = replace(task, fit=fit)

    assert (linear_probe(task, features(task, 0.3)).scores.argmax(axis=1) != 3).all()


# -- measures ---------------------------------------------------------------------------------------------------------


def test_top_1_and_its_interval_draw_sources():
    task = classes(test=90)
    scores = task.test + 0.0
    wrong = np.isin(task.test_groups, np.unique(task.test_groups)[:10])  # whole sources are wrong
    scores[wrong] = np.roll(scores[wrong], 1, axis=1)

    found = measure(task, scores, 500)

    assert found.value == pytest.approx(1 - wrong.mean())
    alone = measure(replace(task, test_groups=np.arange(90)), scores, 500)
    width = [one.interval.high - one.interval.low for one in (found, alone)]
    assert width[0] > 1.4 * width[1]
    assert found.interval.low < found.value < found.interval.high


def test_map_is_the_mean_of_scikit_learn_s_average_precision_with_draws_as_weights():
    generator = np.random.default_rng(0)
    task = replace(classes(test=60), exclusive=False)
    said = (generator.random((60, 3)) < 0.3).astype(np.float32)
    said[::7, 2] = np.nan
    said[:, 1] = 0  # nobody shows it: it is not measured
    task = replace(task, test=said)
    scores = generator.integers(0, 9, (60, 3)).astype(float)  # many are equal

    found = measure(task, scores, 50, seed=3)

    def wanted(times):
        each = []
        for t in (0, 2):
            known = ~np.isnan(said[:, t])
            each.append(average_precision_score(said[known, t], scores[known, t], sample_weight=times[known]))
        return np.mean(each)

    assert found.value == pytest.approx(wanted(np.ones(60)))
    from t2t.evaluation.metrics import draws

    times = draws(np.random.default_rng(3), 50, task.test_groups)
    drawn = np.array([wanted(column) for column in times.T])
    np.testing.assert_allclose(found.drawn, drawn + found.value - drawn.mean())


def test_a_map_of_few_positives_lies_within_its_own_interval():
    # A positive that is drawn twice counts more than twice: 0.078 had the interval [0.088, 0.114].
    generator = np.random.default_rng(0)
    said = (generator.random((1000, 100)) < 0.02).astype(np.float32)
    scores = said * 0.8 + generator.standard_normal(said.shape)
    groups = generator.integers(0, 200, 1000)
    task = replace(classes(), test=said, exclusive=False, topics=tuple(map(str, range(100))), test_groups=groups)

    found, shaken = measure(task, scores), measure(task, scores + 0.3 * generator.standard_normal(said.shape))

    for one in (found, shaken, found.less(shaken)):
        assert one.interval.low < one.value < one.interval.high
        assert one.drawn.mean() == pytest.approx(one.value, abs=1e-3)
    none = measure(replace(task, test=np.zeros_like(said)), scores, 10)
    assert np.isnan(none.value)
    assert np.isnan(none.interval.low)


@pytest.mark.parametrize("sources", [40, 120])
def test_an_interval_of_map_holds_what_other_samples_would_give(sources):
    values, drawn, generator = [], [], np.random.default_rng(0)
    of = np.repeat(np.arange(sources), 120 // sources)
    for seed in range(60):
        shared = generator.random((sources, 10)) < 0.05
        said = np.where(generator.random((120, 10)) < 0.8, shared[of], generator.random((120, 10)) < 0.05)
        noise = generator.standard_normal(said.shape) + generator.standard_normal(shared.shape)[of]
        topics = tuple(map(str, range(10)))
        task = replace(classes(), test=said.astype(np.float32), exclusive=False, topics=topics, test_groups=of)
        measured = measure(task, said + 0.7 * noise, 100, seed)
        values.append(measured.value)
        drawn.append(measured.interval)
    held = np.mean([one.low <= np.mean(values) <= one.high for one in drawn])
    assert 0.9 <= held <= 1


def test_differences_are_paired_and_seeds_are_drawn_too():
    task = classes(test=90)
    good = measure(task, task.test + 0.0)
    half = task.test.copy()
    half[:45] = np.roll(half[:45], 1, axis=1)
    bad = measure(task, half)

    assert good.less(good).interval == Measured(0.0, np.zeros(1000)).interval
    assert good.less(bad).interval.low > 0.2
    mean = over_seeds([good, bad, bad])
    assert mean.value == pytest.approx((good.value + 2 * bad.value) / 3)
    assert mean.interval.high - mean.interval.low > bad.interval.high - bad.interval.low
    assert over_seeds([good, good]).interval == good.interval
    # Two seeds, of which each resample draws one: the variance between them whole, and not half of it.
    apart = [Measured(value, np.full(4000, value)) for value in (0.4, 0.6)]
    assert over_seeds(apart).drawn.var() == pytest.approx(np.var([0.4, 0.6], ddof=1) / 2, rel=0.05)
