"""People's answers: names, what they come to together, and what each annotator is worth."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import average_precision_score

from t2t.core.errors import T2TError
from t2t.data.consensus import Answers, dawid_skene, mace
from t2t.data.dataset import Dataset, DatasetConfig, read_dataset
from t2t.data.people import LONGEST, OTHER, PeopleConfig, identities, identity_of, left_out
from tests.helpers.datasets import Rows, annotation_rows, make, pairs, refusal
from tests.helpers.people import crowd, table

WRENCH = Path(__file__).parents[3] / "shared" / "data" / "wrench" / "youtube"
# An expert, two who are usual, one who answers by lot, one who says yes to nearly everything.
CROWD = {"expert": (0.97, 0.98), "usual": (0.85, 0.9), "other": (0.8, 0.9), "lot": (0.5, 0.5), "yes": (0.98, 0.1)}


def opened(tmp_path: Path, people: dict[str, Any], rows: Rows | None = None, **options: Any) -> Dataset:
    config = make(tmp_path, annotations=rows).model_copy(update={"people": PeopleConfig(**people)})
    return read_dataset(config, tmp_path, **options)


def annotations(*names: str) -> Rows:
    """Every annotator says the same of the four pairs."""
    return [{**row, "annotator": name} for name in names for row in annotation_rows()]


# -- names ---------------------------------------------------------------------------------------------------------


def test_a_name_is_an_identity_as_it_stands_or_cut_with_its_hash():
    for name in ("anna", "Анна", "🦊 fox", "team/anna", "../x", "a:b", "other ", "50%"):
        assert identity_of(name) == f"human/{name}"
    long = "ж" * 200
    assert identity_of(long) != identity_of(f"{long}!")
    for name in (long, "x" * 5000, "other"):
        identity = identity_of(name)
        assert identity != OTHER
        assert identity[-9] == "~"
        assert len(identity.encode()) <= LONGEST + len("human/")


def test_who_has_few_rows_shares_an_identity_and_who_has_none_has_none():
    rows = {"anna": 50, "ben": 49, "cleo": 1, "dan": 0}
    assert identities(rows, 50) == {"anna": "human/anna", "ben": OTHER, "cleo": OTHER, "dan": None}
    grouped = identities(rows, 50)
    assert left_out(rows, grouped, {"human/anna"}) == ["anna"]
    assert left_out(rows, grouped, {"human/cleo", "human/dan"}) == ["cleo", "dan"]
    assert left_out(rows, grouped, {OTHER}) == ["ben", "cleo"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Zoe\u0301", "Zo\u00e9"), "differs from 'Zoe\u0301' in spaces or Unicode form only"),
        (("anna", "anna "), "has blanks at its ends"),
        (("an\tna",), "has the control character U+0009 in it"),
        (("anna b", "anna  b"), "differs from 'anna b' in spaces"),
        ((identity_of("other").removeprefix("human/"), "other"), "which is 'other~"),
    ],
)
def test_names_that_nobody_can_tell_apart_are_refused_where_names_matter(tmp_path, names, message):
    config = make(tmp_path, annotations=annotations(*names))
    read_dataset(config, tmp_path)  # where they do not, all goes on as ever
    told = refusal(config.model_copy(update={"people": PeopleConfig(identities=True)}), tmp_path)
    assert message in told
    assert "annotations.csv, row" in told
    assert "column 'annotator'" in told


def test_the_rows_that_count_are_of_the_training_split_and_of_seen_topics(tmp_path):
    rows = [*annotations("anna"), {**annotation_rows()[0], "annotator": "ben"}]
    rows.append({"sample_id": "d", "topic": "blue square", "annotator": "cleo", "relevance": 1})
    dataset = opened(tmp_path, {"identities": True, "least": 2}, rows)
    assert dataset.identity_of == {"anna": "human/anna", "ben": OTHER, "cleo": None}
    train = pa.array(dataset.sample_ids("train"))
    assert dataset.people_rows(train) == {"human": 2, "human/anna": 2, OTHER: 1}
    unseen = DatasetConfig.model_validate(dataset.config.model_dump() | {"unseen": {"topics": ["blue square"]}})
    assert read_dataset(unseen, tmp_path).identity_of == {"anna": OTHER, "ben": OTHER, "cleo": None}


def test_people_who_share_an_identity_and_a_pair_have_one_row_of_it(tmp_path):
    dataset = opened(tmp_path, {"identities": True}, annotations("anna", "ben"))
    assert dataset.people_rows(pa.array(["a", "b"])) == {"human": 2, OTHER: 2}


# -- what is as ever ---------------------------------------------------------------------------------------------


def test_without_people_in_its_file_a_dataset_is_what_it_was(tmp_path):
    plain = read_dataset(make(tmp_path), tmp_path)
    # SHA-256 over the three files and the topic split, and nothing else.
    from t2t.core.files import sha256, sha256_file

    files = (tmp_path / "tiny" / name for name in ("samples.csv", "annotations.csv", "topics.txt"))
    assert plain.fingerprint == sha256(*map(sha256_file, files))
    assert opened(tmp_path, {}).fingerprint == plain.fingerprint
    assert plain.identity_of == plain.annotators == {}
    for people in ({"identities": True}, {"combine": "dawid-skene"}, {"identities": True, "least": 2}):
        assert opened(tmp_path, people).fingerprint != plain.fingerprint


def test_an_empty_relevance_is_a_mistake_until_the_file_says_what_it_is(tmp_path):
    rows = annotations("anna", "ben")
    rows[0] |= {"relevance": None}
    told = refusal(make(tmp_path, annotations=rows), tmp_path)
    assert "row 2, column 'relevance': is empty." in told
    assert "`people: {unanswered: abstain}`" in told
    dataset = opened(tmp_path, {"unanswered": "abstain"}, rows)
    assert pairs(dataset)["a", "red circle"] == 1  # ben's alone
    rows[4] |= {"relevance": None}
    assert ("a", "red circle") not in pairs(opened(tmp_path, {"unanswered": "abstain"}, rows))
    assert dataset.answers is not None
    assert dataset.answers["relevance"].null_count == 1


def test_nan_is_no_abstention(tmp_path):
    config = make(tmp_path, kind="parquet").model_copy(update={"people": PeopleConfig(unanswered="abstain")})
    frame = pd.read_parquet(tmp_path / "tiny" / "annotations.parquet")
    relevance = pa.array([float("nan"), *frame["relevance"][1:]], pa.float64())
    columns = {name: pa.array(frame[name]) for name in ("sample_id", "topic", "annotator")}
    import pyarrow.parquet as pq

    pq.write_table(pa.table({**columns, "relevance": relevance}), tmp_path / "tiny" / "annotations.parquet")
    assert "nan is not a number from 0 to 1" in refusal(config, tmp_path)


def test_retracted_annotators_do_not_count(tmp_path):
    rows = annotations("anna", "ben")
    rows[0] |= {"relevance": 0.0}  # anna of (a, red circle)
    people = {"identities": True, "least": 1}
    before, after = opened(tmp_path, people, rows), opened(tmp_path, people, rows, marked=["human/anna"])
    assert pairs(before)["a", "red circle"] == 0.5
    assert pairs(after)["a", "red circle"] == 1
    assert after.left_out == ("anna",)
    assert list(after.annotators) == ["human/ben"]
    assert after.identity_of == before.identity_of
    assert after.fingerprint != before.fingerprint


# -- together ----------------------------------------------------------------------------------------------------


def test_dawid_and_skene_by_hand():
    """Two pairs, three annotators; one step of expectation and maximisation, computed by hand.

    The shares of yes are 2/3 and 1/3, so the share of yes is 1/2. Annotator a says yes, no: of a yes 2/3, of a no 1/3.
    So does b; c says no, yes: of a yes 1/3, of a no 2/3. The odds of the first pair are 2 x 2 x 2 (c's no is for yes).
    """
    rows = [("v", "t", who, float(yes)) for who, yes in (("a", 1), ("b", 1), ("c", 0))]
    rows += [("w", "t", who, float(yes)) for who, yes in (("a", 0), ("b", 0), ("c", 1))]
    answers = Answers.of(table(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("t2t.data.consensus.ROUNDS", 1)
        found = dawid_skene(answers, usual=0)
    assert found.yes == pytest.approx([8 / 9, 1 / 9])
    # And the errors of that: of a yes (8/9 and 1/9 in all 1) a says yes with 8/9.
    assert found.errors is not None
    assert found.errors[0, :, 1] == pytest.approx([1 / 9, 8 / 9, 0], abs=1e-9)
    assert found.errors[2, :, 1] == pytest.approx([8 / 9, 1 / 9, 0], abs=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_dawid_and_skene_are_those_of_crowd_kit_where_nobody_abstains(seed, monkeypatch):
    """Step for step: both converge slowly, and each stops by a rule of its own."""
    crowdkit = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed (extra `people`)")
    _, answers = crowd(CROWD, pairs=150, seed=seed)
    frame = pd.DataFrame({"task": answers.pair, "worker": answers.annotator, "label": answers.yes.astype(int)})
    monkeypatch.setattr("t2t.data.consensus.ROUNDS", 25)
    theirs = crowdkit.DawidSkene(n_iter=25, tol=-1e9).fit_predict_proba(frame).sort_index()[1]
    assert dawid_skene(answers, usual=0).yes == pytest.approx(theirs.to_numpy(), abs=1e-6)


@pytest.mark.parametrize("how", ["dawid-skene", "mace"])
def test_the_model_knows_better_than_the_mean_whom_to_believe(how):
    if how == "mace":
        pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed (extra `people`)")
    truth, answers = crowd(CROWD, pairs=600)
    mean = np.bincount(answers.pair, answers.relevance) / np.bincount(answers.pair)
    found = dawid_skene(answers) if how == "dawid-skene" else mace(answers)
    again = dawid_skene(answers) if how == "dawid-skene" else mace(answers)
    assert (found.yes == again.yes).all()
    before, after = (average_precision_score(truth, score) for score in (mean, found.yes))
    assert before < 0.85
    assert after > 0.92
    order = [answers.annotators.index(name) for name in ("expert", "usual", "lot")]
    if found.competence is not None:
        assert min(found.competence[order[:2]]) > found.competence[order[2]] + 0.3
    else:
        assert found.errors is not None
        youden = found.errors[:, 1, 1] - found.errors[:, 1, 0]
        assert list(youden[order]) == sorted(youden[order], reverse=True)
        assert abs(youden[answers.annotators.index("lot")]) < 0.15


def test_mace_does_not_depend_on_who_answers_first():
    """crowd-kit's mixes up habits where labels or workers first appear in another order than that of their names."""
    pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed (extra `people`)")
    _, answers = crowd(CROWD, pairs=200, each=4)
    found = []
    for order in (np.lexsort((answers.annotator, answers.yes)), np.lexsort((-answers.annotator, ~answers.yes))):
        columns = {name: getattr(answers, name)[order] for name in ("pair", "annotator", "relevance")}
        found.append(mace(replace(answers, **columns)))
    one, other = found
    np.testing.assert_allclose(one.yes, other.yes, atol=0.01)
    np.testing.assert_allclose(one.competence, other.competence, atol=0.03)
    np.testing.assert_allclose(one.habits, other.habits, atol=0.03)
    assert one.habits is not None
    assert one.habits[answers.annotators.index("yes"), 1] > 0.8


def test_one_answer_alone_is_believed_as_far_as_its_annotator():
    """Of a pair with one annotator. Whom nobody can check is taken at their word."""
    truth, answers = crowd(CROWD, pairs=600)
    rows = [
        (f"v{pair:04}", "a topic", answers.annotators[who], value)
        for pair, who, value in zip(answers.pair, answers.annotator, answers.relevance, strict=True)
    ]
    alone = [("x1", "expert", 1.0), ("x2", "expert", 0.0), ("x3", "lot", 1.0), ("x4", "new", 1.0), ("x5", "new", 0.0)]
    more = Answers.of(table([*rows, *((sample, "a topic", who, value) for sample, who, value in alone)]))
    yes = dict(zip(more.sample_ids.to_pylist(), dawid_skene(more).yes, strict=True))
    assert yes["x1"] > 0.8
    assert yes["x2"] < 0.1
    assert truth.mean() - 0.15 < yes["x3"] < truth.mean() + 0.2
    assert (yes["x4"], yes["x5"]) == (1, 0)


@pytest.mark.parametrize("how", ["dawid-skene", "mace"])
def test_annotators_who_never_meet_are_taken_at_their_word(how):
    if how == "mace":
        pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed (extra `people`)")
    _, answers = crowd(CROWD, pairs=300, each=1)
    found = dawid_skene(answers) if how == "dawid-skene" else mace(answers)
    assert (found.yes == answers.relevance).all()


def test_few_answers_say_little_of_somebody():
    """Two who agree in all of three pairs are not infallible for that; and one who errs once in two is no liar."""
    rows = [(f"v{at}", "t", who, float(at == 0)) for at in range(3) for who in ("anna", "ben")]
    rows += [("v1", "t", "new", 1.0), ("v2", "t", "new", 0.0)]
    errors = dawid_skene(Answers.of(table(rows))).errors
    assert errors is not None
    assert 0.7 < errors[0, 1, 1] < 1
    assert 0.2 < errors[2, 0, 0] < 0.9


def test_an_abstention_is_something_that_somebody_says():
    """A keyword rule speaks where it sees its word, and is silent elsewhere: its silence is what tells."""
    generator = np.random.default_rng(0)
    truth = generator.random(500) < 0.5
    rows: list[tuple[str, str, str, float | None]] = []
    for at, true in enumerate(truth):
        for rule in range(6):  # three for yes, three for no
            speaks = generator.random() < (0.45 if true == (rule < 3) else 0.05)
            rows.append((f"v{at}", "t", f"r{rule}", float(rule < 3) if speaks else None))
    everything = Answers.of(table(rows))
    spoken = Answers.of(table([row for row in rows if row[3] is not None]))
    right = np.mean((dawid_skene(everything).yes > 0.5) == truth)
    of = truth[[int(name[1:]) for name in spoken.sample_ids.to_pylist()]]
    dropped = np.mean((dawid_skene(spoken).yes > 0.5) == of)
    assert right > 0.85
    assert dropped < 0.7  # all rules of one answer are perfect where only that counts what they say


def votes(split: str) -> tuple[pd.DataFrame, np.ndarray]:
    frame = pd.read_csv(WRENCH / f"{split}_votes.csv").melt(ignore_index=False, var_name="annotator").reset_index()
    frame = frame.assign(sample_id=split + frame["index"].astype(str).str.zfill(5))
    return frame, pd.read_csv(WRENCH / f"{split}_gold.csv")["label"].to_numpy()


@pytest.mark.skipif(not WRENCH.is_dir(), reason="the votes of WRENCH's youtube are not on this machine")
@pytest.mark.parametrize(("abstain", "expected"), [(True, 83.2), (False, 52.8)])
def test_the_votes_of_youtube_come_to_what_is_known_of_them(abstain, expected):
    """Accuracy of 83.2 with abstention as a value, 52.8 without: measured by others of the same votes."""
    test, gold = votes("test")
    frame = pd.concat([votes("train")[0], test])
    relevance = frame["value"].astype(float).where(frame["value"] >= 0)
    if not abstain:
        frame, relevance = frame[relevance.notna()], relevance[relevance.notna()]
    names = {name: pa.array(frame[name].tolist(), pa.string()) for name in ("sample_id", "annotator")}
    topic = pa.array(["spam"] * len(frame))
    answers = Answers.of(pa.table({**names, "topic": topic, "relevance": pa.array(relevance, from_pandas=True)}))
    yes = pd.Series(dawid_skene(answers).yes, answers.sample_ids.to_pylist())
    score = yes.reindex([f"test{at:05}" for at in range(len(gold))]).fillna(0.5).to_numpy()
    generator = np.random.default_rng(0)
    drawn = [np.where(score == 0.5, generator.random(len(score)) > 0.5, score > 0.5) for _ in range(20)]
    assert 100 * np.mean([said == gold for said in drawn]) == pytest.approx(expected, abs=1.0 if not abstain else 0.5)


# -- in a dataset ------------------------------------------------------------------------------------------------


def test_human_is_the_posterior_and_is_kept_by_its_content(tmp_path, monkeypatch):
    rows = annotations("anna", "ben", "cleo")
    rows[0] |= {"relevance": 0.0}
    people = {"combine": "dawid-skene", "identities": True, "least": 1}
    first = opened(tmp_path, people, rows, kept=tmp_path / "kept")
    assert first.human.schema.names == ["sample_id", "topic", "confidence"]
    assert first.human["confidence"].type == pa.float32()
    (file,) = (tmp_path / "kept").iterdir()
    # The second command finds it, and computes nothing.
    monkeypatch.setattr("t2t.data.consensus.posterior", lambda *_: pytest.fail("computed again"))
    assert opened(tmp_path, people, rows, kept=tmp_path / "kept").human.equals(first.human)
    monkeypatch.undo()
    file.write_bytes(b"half of it")
    assert opened(tmp_path, people, rows, kept=tmp_path / "kept").human.equals(first.human)
    without = opened(tmp_path, people, rows, kept=tmp_path / "kept", marked=["human/anna"])
    assert without.left_out == ("anna",)
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_mace_without_its_library_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr("t2t.data.consensus.has_crowdkit", lambda: False)
    with pytest.raises(T2TError, match=r"pip install 'teacher2task\[people\]'"):
        opened(tmp_path, {"combine": "mace"})
    assert "crowdkit" not in sys.modules or opened(tmp_path, {}).human is not None


def test_a_dataset_of_mace(tmp_path):
    pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed (extra `people`)")
    dataset = opened(tmp_path, {"combine": "mace"}, annotations("anna", "ben", "cleo"))
    assert pc.min_max(dataset.human["confidence"]).as_py()["max"] <= 1
    found = pairs(dataset)
    assert found["a", "red circle"] > 0.9
    assert found["b", "blue square"] < 0.1
