"""The common scale: maps rise and can be undone, whatever teachers' confidences look like; only their order counts."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from t2t.core.errors import T2TError
from t2t.data.coding import Coded, code
from t2t.data.labels import LABEL_SCHEMA
from t2t.data.scales import Scale, apply_scales, read_scales, scale_of, write_scales
from t2t.evaluation import scales as finder
from t2t.evaluation.scales import VOTES_RIGHT, VOTES_SEEN, Shared, fit_scales, scales_of

pytestmark = pytest.mark.unit

ROWS, PAIRS = 6000, 2000
DRAW = np.random.default_rng(3)
KNOWN = DRAW.normal(size=ROWS)
# What a teacher that knows something would say: its logits are calibrated, one pair in ten is positive.
LOGITS = 2 * KNOWN - 3.5
TRUTH = (DRAW.random(PAIRS) < expit(LOGITS[:PAIRS])).astype(np.float64)
GROUPS = np.arange(PAIRS) // 4


def shared(confidence: np.ndarray, truth: np.ndarray = TRUTH, groups: np.ndarray | None = None) -> Shared:
    n = len(truth)
    return Shared(confidence[:n], truth, GROUPS[:n] if groups is None else groups)


def fitted(confidence: np.ndarray, truth: np.ndarray = TRUTH, prior: float | None = None) -> Scale:
    prior = float(truth.mean()) if prior is None else prior
    return fit_scales({"a": confidence}, {"a": shared(confidence, truth)}, prior)["a"]


def loss(common: np.ndarray) -> float:
    p = np.clip(common[:PAIRS].astype(np.float64), 1e-6, 1 - 1e-6)
    return float(-(TRUTH * np.log(p) + (1 - TRUTH) * np.log1p(-p)).mean())


BASE = loss(np.full(PAIRS, TRUTH.mean()))


def rises(scale: Scale) -> bool:
    return all(low < high for knots in (scale.raw, scale.common) for low, high in pairwise(knots))


# -- the scale itself ------------------------------------------------------------------------------------------------


def test_apply_and_invert_undo_each_other() -> None:
    confidence = expit(LOGITS).astype(np.float32)
    scale = fitted(confidence)
    inside = confidence[(confidence > scale.raw[0]) & (confidence < scale.raw[-1])]
    assert np.abs(scale.invert(scale.apply(inside)) - inside).max() < 1e-3
    middle = np.linspace(scale.common[0], scale.common[-1], 500)
    np.testing.assert_allclose(scale.apply(scale.invert(middle)), middle, atol=1e-4)
    assert scale.apply(inside).dtype == scale.invert(middle).dtype == np.float32
    assert scale.apply(np.full((2, 3), 0.2)).shape == (2, 3)


def test_beyond_the_knots_the_ends_hold() -> None:
    scale = Scale(raw=(0.2, 0.4), common=(0.1, 0.9))
    np.testing.assert_allclose(scale.apply(np.array([0.0, 0.2, 0.3, 1.0])), [0.1, 0.1, 0.5, 0.9], atol=1e-6)
    np.testing.assert_allclose(scale.invert(np.array([0.0, 0.5, 1.0])), [0.2, 0.3, 0.4], atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "common"),
    [
        ((0.1, 0.1), (0.1, 0.2)),
        ((0.1, 0.2, 0.3), (0.2, 0.1, 0.3)),
        ((0.1, 0.2), (0.5,)),
        ((-0.1, 0.2), (0.1, 0.2)),
        ((0.1, float("nan")), (0.1, 0.2)),
        ((), ()),
    ],
)
def test_what_does_not_rise_within_0_and_1_is_no_scale(raw: tuple[float, ...], common: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError):
        Scale(raw=raw, common=common)


def test_points_that_are_equal_once_rounded_are_one() -> None:
    scale = scale_of(np.array([0.1, 0.1 + 1e-12, 0.2]), np.array([0.1, 0.2, 0.3]))
    assert (scale.raw, scale.common) == ((0.1, 0.2), (0.1, 0.3))


def test_identities_without_a_scale_stay_as_they_are() -> None:
    confidence, teacher = np.array([0.3, 0.3, 0.3], np.float32), np.array([0, 1, 2])
    out = apply_scales(confidence, teacher, {1: Scale(raw=(0.2, 0.4), common=(0.1, 0.9))})
    np.testing.assert_allclose(out, [0.3, 0.5, 0.3], atol=1e-6)
    assert confidence[1] == np.float32(0.3)


def test_scales_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    confidence = expit(LOGITS)
    found = fit_scales({"a": confidence, "b": confidence**2}, {"a": shared(confidence)}, 0.1)
    write_scales(tmp_path / "scales.json", found)
    assert read_scales(tmp_path / "scales.json") == found
    assert read_scales(tmp_path / "none.json") == {}


def test_a_file_that_is_no_scale_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "scales.json").write_text(json.dumps({"a": {"raw": [0.2, 0.1], "common": [0.1, 0.2]}}))
    with pytest.raises(T2TError, match=r"scales\.json"):
        read_scales(tmp_path / "scales.json")


# -- fitted on people ------------------------------------------------------------------------------------------------

MONOTONE = {
    "squared": lambda p: p**2,
    "root": np.sqrt,
    "ranks": lambda p: (np.argsort(np.argsort(p)) + 0.5) / len(p),
    "cold": lambda p: expit(logit(p) / 3),
    "loud": lambda p: expit(logit(p) * 3),
    "timid": lambda p: 0.01 + 0.05 * p,
}


@pytest.mark.parametrize("kind", MONOTONE)
def test_only_a_teachers_order_counts(kind: str) -> None:
    calibrated = expit(LOGITS)
    changed = MONOTONE[kind](calibrated)
    one, other = fitted(calibrated), fitted(changed)
    first, second = one.apply(calibrated), other.apply(changed)
    assert np.corrcoef(first, second)[0, 1] > 0.99
    assert loss(second) == pytest.approx(loss(first), rel=0.04)
    assert loss(second) < 1.02 * loss(calibrated)
    assert one.worth == pytest.approx(other.worth, abs=0.03)


def test_the_slope_tells_timid_from_loud() -> None:
    calibrated = expit(LOGITS)
    slopes = [fitted(expit(LOGITS * factor)).slope for factor in (1 / 3, 1, 3)]
    assert slopes == pytest.approx([3, 1, 1 / 3], rel=0.15)
    assert fitted(calibrated).worth == pytest.approx(1 - loss(calibrated) / BASE, abs=0.03)


def test_a_teacher_that_contradicts_few_people_has_a_nearly_flat_map() -> None:
    """Where people's positives are fewer than ten, nobody can tell whether it is chance."""
    few = np.where(np.cumsum(TRUTH) <= 8, TRUTH, 0.0)
    against = expit(-LOGITS)
    scale = fitted(against, few)
    low, high = np.quantile(scale.apply(against), [0.01, 0.99])
    assert high - low < 0.06
    assert scale.worth == 0
    assert rises(scale)


def test_a_worthless_teachers_map_is_nearly_constant() -> None:
    noise = np.random.default_rng(8).random(ROWS)
    scale = fitted(noise)
    common = scale.apply(noise)
    assert scale.worth is not None
    assert scale.worth < 0.01
    assert common.std() < 0.03
    assert common.mean() == pytest.approx(TRUTH.mean(), abs=0.02)


def test_hard_labels_become_how_often_people_agree() -> None:
    hard = (LOGITS > 0).astype(np.float32)
    scale = fitted(hard)
    assert scale.raw == (0, 1)
    for value in (0, 1):
        agreed = TRUTH[hard[:PAIRS] == value]
        # Votes are believed at first, as if ten were looked at.
        seen = VOTES_SEEN * (1 if value else (1 - hard.mean()) / hard.mean())
        meant = VOTES_RIGHT if value else (1 - VOTES_RIGHT) * hard.mean() / (1 - hard.mean())
        expected = (agreed.sum() + seen * meant) / (len(agreed) + seen)
        assert scale.apply(np.array(float(value))) == pytest.approx(expected, abs=0.03)


def votes_scale(right: int, wrong: int) -> Scale:
    """Of a teacher that votes for one of two classes in a hundred samples, some of which people looked at."""
    hard = np.tile([0.0, 1.0], 100).astype(np.float32)
    truth = np.concatenate([np.tile([0.0, 1.0], right), np.tile([1.0, 0.0], wrong)])
    known = {"a": Shared(hard[: len(truth)], truth, np.arange(len(truth)) // 2)} if len(truth) else {}
    return fit_scales({"a": hard}, known, 0.5)["a"]


def test_a_vote_is_believed_until_many_say_otherwise() -> None:
    one = np.array(1.0)
    assert votes_scale(0, 0).apply(one) == pytest.approx(VOTES_RIGHT, abs=0.01)
    assert votes_scale(0, 3).apply(one) == pytest.approx(9 / 13, abs=0.02)
    assert votes_scale(3, 0).apply(one) == pytest.approx(12 / 13, abs=0.02)
    assert votes_scale(50, 50).apply(one) == pytest.approx(59 / 110, abs=0.02)


def test_ties_are_one_place() -> None:
    coarse = np.round(expit(LOGITS), 1)
    scale = fitted(coarse)
    assert len(scale.raw) == len(np.unique(coarse))
    assert loss(scale.apply(coarse)) < 1.05 * loss(expit(LOGITS))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_is_one_point_at_peoples_share(value: float) -> None:
    constant = np.full(ROWS, value, np.float32)
    scale = fitted(constant)
    assert len(scale.raw) == len(scale.common) == 1
    assert scale.common[0] == pytest.approx(TRUTH.mean(), abs=0.01)
    assert scale.worth == 0


def test_a_one_sided_teacher_is_brought_down_and_keeps_its_order() -> None:
    high = 0.9 + 0.1 * expit(LOGITS)
    scale = fitted(high)
    assert scale.apply(high).mean() == pytest.approx(TRUTH.mean(), abs=0.02)
    assert roc_auc_score(TRUTH, scale.apply(high)[:PAIRS]) == pytest.approx(
        roc_auc_score(TRUTH, high[:PAIRS]), abs=0.01
    )


def test_few_pairs_draw_a_map_to_its_own_distribution_and_many_away_from_it() -> None:
    confidence, prior = expit(LOGITS), float(TRUTH.mean())
    names = ["a", "b", "c", "d"]
    others = {name: shared(confidence) for name in names[1:]}
    noise = np.random.default_rng(5).permutation(TRUTH)

    def mapped(pairs: int) -> np.ndarray:
        """Where people's answers have nothing to do with what `a` says."""
        known = others | ({"a": shared(confidence, noise[:pairs])} if pairs else {})
        found: np.ndarray = fit_scales(dict.fromkeys(names, confidence), known, prior)["a"].apply(confidence)
        return found

    own = mapped(0)
    apart = [float(np.abs(mapped(pairs) - own).mean()) for pairs in (20, 200, PAIRS)]
    assert apart[0] < 0.75 * apart[2]
    assert apart == sorted(apart)


def test_pairs_of_one_group_only_are_folded_one_by_one() -> None:
    noise = np.random.default_rng(4).random(ROWS)
    known = Shared(noise[:PAIRS], TRUTH, np.zeros(PAIRS, np.int64))
    worth = fit_scales({"a": noise}, {"a": known}, 0.1)["a"].worth
    assert worth is not None
    assert worth < 0.01


def test_many_pairs_are_drawn_from_and_counted_all(monkeypatch: pytest.MonkeyPatch) -> None:
    confidence = expit(LOGITS)
    whole = fitted(confidence)
    monkeypatch.setattr(finder, "MOST_SHARED", PAIRS // 2)
    monkeypatch.setattr(finder, "MOST_ROWS", ROWS // 4)
    some = fitted(confidence)
    assert (some.pairs, some.positives) == (whole.pairs, whole.positives) == (PAIRS, TRUTH.sum())
    assert (some.raw[0], some.raw[-1]) == (whole.raw[0], whole.raw[-1])
    assert np.corrcoef(some.apply(confidence), whole.apply(confidence))[0, 1] > 0.98


def test_rows_are_not_drawn_at_a_beat_that_topics_have_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come sample by sample, topic by topic: every fifth row is always of the same topic."""
    confidence = np.where(np.arange(ROWS) % 5 == 0, 0.1, 0.8) + 0.01 * expit(LOGITS)
    monkeypatch.setattr(finder, "MOST_ROWS", ROWS // 4)
    found = fit_scales({"a": confidence}, {}, 0.2)["a"].apply(confidence)
    assert found.mean() == pytest.approx(0.2, abs=0.03)


# -- its own distribution --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [0.01, 0.1, 0.4])
@pytest.mark.parametrize("values", [expit(LOGITS), 0.01 + 0.05 * expit(LOGITS), np.round(expit(LOGITS), 1)])
def test_without_shared_pairs_the_mean_is_the_prior(prior: float, values: np.ndarray) -> None:
    scale = fit_scales({"a": values}, {}, prior)["a"]
    assert (scale.how, scale.pairs, scale.worth, scale.slope) == ("own", 0, None, None)
    assert scale.apply(values).mean() == pytest.approx(prior, rel=0.1)
    assert rises(scale)


def test_without_any_person_the_mean_is_its_own() -> None:
    values = expit(LOGITS)
    scale = fit_scales({"a": values}, {})["a"]
    assert scale.how == "own"
    assert scale.apply(values).mean() == pytest.approx(values.mean(), rel=0.05)


def test_people_who_found_nothing_are_people() -> None:
    """A prior of 0 is what they said, not that they said nothing."""
    values = expit(LOGITS)
    assert fit_scales({"a": values}, {}, 0.0)["a"].apply(values).mean() < 0.01


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_pairs_that_are_all_alike_count_but_fit_nothing(answer: float) -> None:
    values = expit(LOGITS)
    scale = fitted(values, np.full(50, answer), 0.1)
    assert (scale.how, scale.pairs, scale.positives) == ("own", 50, 50 * answer)


def test_steepness_is_that_of_the_teachers_people_know() -> None:
    values = expit(LOGITS)
    weak = expit(LOGITS + 4 * np.random.default_rng(2).normal(size=ROWS))
    beside = [fit_scales({"a": values, "b": known}, {"b": shared(known)}, 0.1)["a"] for known in (values, weak)]
    assert np.std(beside[0].apply(values)) > 1.5 * np.std(beside[1].apply(values))


def test_a_very_steep_teacher_beside_one_without_pairs() -> None:
    """The shift that makes the mean the prior lies far out where the slope is large."""
    rng = np.random.default_rng(0)
    truth = np.zeros(20_000)
    truth[:1000] = 1
    sure = np.where(truth > 0, 0.9, 0.1) + 1e-3 * rng.random(len(truth))
    many = np.concatenate([sure, 0.05 * rng.random(1_000_000)])
    known = Shared(sure, truth, np.arange(len(truth)))
    found = fit_scales({"sure": many, "own": rng.random(500_000)}, {"sure": known}, 0.005)
    assert rises(found["own"])
    assert found["own"].how == "own"


# -- whatever comes --------------------------------------------------------------------------------------------------

CONFIDENCES = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from([0.0, 1.0, 0.5, float(np.nextafter(np.float32(1), np.float32(0))), 1e-45]),
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_a_teacher_says_its_scale_is_valid_and_rises(data: st.DataObject) -> None:
    confidence = data.draw(hnp.arrays(np.float32, st.integers(1, 60), elements=CONFIDENCES))
    n = data.draw(st.integers(0, len(confidence)))
    truth = data.draw(hnp.arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0, 0.5])))
    groups = data.draw(hnp.arrays(np.int64, n, elements=st.integers(0, 5)))
    prior = data.draw(st.one_of(st.none(), st.floats(0, 1)))
    scale = fit_scales({"a": confidence}, {"a": Shared(confidence[:n], truth, groups)}, prior)["a"]
    assert Scale.model_validate_json(scale.model_dump_json()) == scale
    assert rises(scale)
    common = scale.apply(np.sort(confidence))
    assert np.isfinite(common).all()
    assert ((common > 0) & (common < 1)).all()
    assert (np.diff(common) >= 0).all()
    assert scale.worth is None or 0 <= scale.worth <= 1


# -- from label tables -----------------------------------------------------------------------------------------------


def coded(rows: dict[str, list[tuple[str, str, float]]]) -> Coded:
    tables = []
    for teacher, content in rows.items():
        samples, topics, values = zip(*content, strict=True) if content else ((), (), ())
        columns = [pa.array(samples, pa.string()), pa.array(topics, pa.string())]
        columns += [pa.array([teacher] * len(content), pa.string()), pa.array(values, pa.float32())]
        tables.append(pa.table(columns, schema=LABEL_SCHEMA))
    return code(tables, [f"s{i}" for i in range(ROWS // 3)], ["red", "green", "blue"], list(rows))


def rows_of(values: np.ndarray, topics: tuple[str, ...] = ("red", "green", "blue")) -> list[tuple[str, str, float]]:
    names = ("red", "green", "blue")
    return [(f"s{i // 3}", names[i % 3], float(v)) for i, v in enumerate(values) if names[i % 3] in topics]


def test_labels_are_matched_pair_by_pair_and_missing_topics_are_no_pairs() -> None:
    values = expit(LOGITS)
    labels = coded({"human": rows_of(TRUTH), "all": rows_of(values), "red": rows_of(values, ("red",)), "none": []})
    groups = np.arange(ROWS // 3)
    found = scales_of(labels, groups)
    assert set(found) == {"all", "red"}
    assert (found["all"].pairs, found["all"].positives) == (PAIRS, TRUTH.sum())
    assert (found["red"].pairs, found["red"].positives) == (len(TRUTH[::3]), TRUTH[::3].sum())
    expected = fitted(values.astype(np.float32))
    assert found["all"].worth == pytest.approx(expected.worth, abs=0.03)


def test_students_have_the_scale_of_whom_they_speak_as() -> None:
    values = expit(LOGITS)
    names = {"human": rows_of(TRUTH), "a": rows_of(values), "self-0": rows_of(values), "self-1": rows_of(values)}
    found = scales_of(coded(names), np.arange(ROWS // 3), {"self-0": "a", "self-1": "human"})
    assert set(found) == {"a", "self-0"}
    assert found["self-0"] == found["a"]


def test_without_people_each_has_its_own() -> None:
    values = expit(LOGITS)
    found = scales_of(coded({"a": rows_of(values), "b": rows_of(values**2)}), np.arange(ROWS // 3))
    assert {scale.how for scale in found.values()} == {"own"}


def test_an_identity_that_says_the_opposite_is_turned_around() -> None:
    """What it explains of people is what the same answers the right way round explain."""
    random = np.random.default_rng(0)
    truth = (random.random(600) < 0.2).astype(float)
    said = (0.05 + 0.5 * truth * random.random(600) + 0.3 * random.random(600)).clip(0, 1)
    group = np.arange(600) // 6
    both = {"honest": said, "liar": 1 - said}
    scales = fit_scales(both, {name: Shared(c, truth, group) for name, c in both.items()}, 0.2)
    honest, liar = scales["honest"], scales["liar"]
    assert liar.turned
    assert not honest.turned
    assert np.allclose(liar.apply(1 - said), honest.apply(said), atol=1e-4)
    assert np.allclose(liar.invert(liar.apply(1 - said)), 1 - said, atol=1e-3)
    assert liar.worth == honest.worth
    assert liar.slope == -(honest.slope or 0)
    again = Scale.model_validate_json(liar.model_dump_json())
    assert again == liar
    assert again.turned


def test_one_that_knows_nothing_is_not_turned_around() -> None:
    random = np.random.default_rng(1)
    for _ in range(20):
        truth, said = (random.random(400) < 0.1).astype(float), random.random(400)
        shared = {"lot": Shared(said, truth, np.arange(400))}
        assert not fit_scales({"lot": said}, shared, 0.1)["lot"].turned


def test_rows_come_to_the_same_scale_in_however_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    confidence, teacher = rng.random(5_000, np.float32), rng.integers(0, 4, 5_000).astype(np.int16)
    scales = {k: Scale(raw=(0.1, 0.5, 0.9), common=(0.05 * k, 0.3, 0.8), gain=2.0) for k in (1, 3)}
    whole = [apply_scales(confidence, teacher, scales, taught) for taught in (False, True)]
    monkeypatch.setattr("t2t.data.scales.ROWS", 7)
    parts = [apply_scales(confidence, teacher, scales, taught) for taught in (False, True)]
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_of_many_identities_few_distributions_are_held_and_the_scales_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    said = {f"t{i:02}": rng.random(400, np.float32) for i in range(6)}
    known = {
        name: Shared(values[:60], rng.integers(0, 2, 60).astype(float), np.arange(60)) for name, values in said.items()
    }
    before = fit_scales(said, known, 0.3)
    monkeypatch.setattr("t2t.evaluation.scales.HELD", 1)
    assert fit_scales(said, known, 0.3) == before
