"""`t2t compare --baselines`: a finished round's student among its rivals; and rivals as methods of a campaign."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from t2t.campaign.campaign import Campaign
from t2t.campaign.evidence import Frames, known_of
from t2t.campaign.facts import RoundStart
from t2t.campaign.rivals import measure_rivals, rivalry
from t2t.campaign.steps.rows import as_trained, next_rows
from t2t.commands.page import write_report
from t2t.commands.rivals import rivals_verdict
from t2t.core.errors import T2TError
from t2t.data.coding import strings
from t2t.data.labels import HUMAN
from t2t.data.scales import read_scales
from t2t.evaluation.metrics import bootstrap
from t2t.training.baselines import METHODS, RIVALS
from t2t.training.baselines.labels import blocks
from t2t.training.baselines.table import missing
from t2t.training.matrix import LabelMatrix, assemble
from tests.helpers.campaigns import run, tiny_auto
from tests.helpers.cli import invoke
from tests.helpers.page import Page
from tests.helpers.worlds import ROOT

TEACHERS = ["vendor", "colour-expert", "shape-expert"]


def begun(world, work, **changes) -> Campaign:
    return tiny_auto(world, work, **{"teachers": TEACHERS, "rounds": 1, **changes})


@pytest.fixture(scope="module")
def campaign(world, tmp_path_factory) -> Campaign:
    """One round. Read only."""
    at_work = begun(world, tmp_path_factory.mktemp("work"))
    run(at_work)
    return at_work


def asked(campaign: Campaign, *arguments: object):
    place = campaign.workspace
    where = ("--registry", place.registry, "--data-root", place.data, "--work", place.work)
    return invoke(*where, "compare", "tiny", *arguments)


def test_every_rival_is_measured_on_the_student_s_own_pairs(campaign):
    found = rivalry(campaign)
    record = campaign.ledger.records()[0]
    pairs = campaign.scored_pairs(record, "test")
    assert [one.name for one in found.rivals] == list(RIVALS)
    assert found.pairs == len(pairs.sample)
    assert found.outside == tuple(TEACHERS)
    assert found.student["overall"].pr_auc == pytest.approx(record.test["pr_auc"], abs=1e-6)
    had = [one for one in found.rivals if not one.left_out]
    assert {one.name for one in found.rivals} - {one.name for one in had} <= {"mace", "snorkel", "hyper-label-model"}
    for one in had:
        assert (len(one.scores), len(one.filled)) == (found.pairs, found.pairs)
        assert np.isfinite(one.filled).all()
        spoken = ~np.isnan(one.scores)
        np.testing.assert_array_equal(one.filled[spoken], one.scores[spoken])
        assert one.overall is not None
        assert one.overall.pairs == found.pairs
        own = average_precision_score(pairs.positive, one.filled)
        assert one.overall.pr_auc == pytest.approx(own, abs=1e-5)
        assert one.overall.difference == pytest.approx(record.test["pr_auc"] - own, abs=1e-5)
        drawn = bootstrap(pairs, 100) - bootstrap(pairs.with_score(one.filled), 100)
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        assert (one.overall.difference_low, one.overall.difference_high) == pytest.approx((low, high), abs=1e-5)
        assert one.seen is not None
        assert one.unseen is not None
        assert one.sees_test == (one.name == "oracle")
    models = {one.name: one.models for one in had}
    assert models["average-raw"] == models["stacking"] == 3
    assert models["best-teacher"] == models["random-selection"] == 1
    assert models["human-rows"] == 0


def test_the_table_has_the_student_first_and_the_best_rival_next(campaign):
    shown = asked(campaign, "--baselines", "--names", "average-raw,oracle,human-rows")
    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.output.splitlines() if "│" in line]
    assert "the student" in lines[0]
    names = [line.split("│")[1].strip() for line in lines[1:]]
    assert sorted(names) == ["average-raw", "human-rows", "oracle *"]
    values = [float(line.split("│")[2].split("[")[0]) for line in lines[1:]]
    assert values == sorted(values, reverse=True)
    assert "a bound of choosing" in shown.output
    assert rivals_verdict(rivalry(campaign, 0, ["average-raw", "oracle", "human-rows"])) in shown.output
    assert "--set method=average-raw" in shown.output


def test_programs_have_the_same_as_json_and_what_is_left_out(campaign, monkeypatch):
    monkeypatch.setattr("t2t.training.baselines.voting.missing", lambda name: "it needs crowd-kit")
    shown = asked(campaign, "--baselines", "--round", 0, "--names", "stacking,mace", "--json")
    assert shown.exit_code == 0, shown.output
    content = json.loads(shown.stdout)
    assert (content["campaign"], content["round"]) == ("tiny", 0)
    assert content["left_out"] == {"mace": "it needs crowd-kit"}
    (one,) = content["rivals"]
    assert (one["name"], one["models"], one["share_scored"]) == ("stacking", 3, 1)
    assert one["overall"]["difference_low"] <= one["overall"]["difference"] <= one["overall"]["difference_high"]
    assert content["verdict"].startswith("On test the student (PR-AUC ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--baselines", "--names", "stackin"], "--names: unknown rival 'stackin'"),
        (["--baselines", "--names", ","], "--names is empty"),
        (["--baselines", "--round", 7], "has no round 7; it has rounds 0 to 0"),
        (["--baselines", 0, 1], "leave out the numbers"),
        (["--names", "stacking", 0, 1], "--names goes with --baselines"),
        ([], "Name two rounds"),
        ([0], "Name two rounds"),
    ],
)
def test_what_is_asked_amiss_is_refused(campaign, monkeypatch, arguments, message):
    monkeypatch.setattr("t2t.commands.rivals.rivalry", lambda *_: pytest.fail("it was measured"))
    shown = asked(campaign, *arguments)
    assert shown.exit_code == 1, shown.output
    assert message in str(shown.exception)


def test_the_labels_of_test_are_seen_by_the_oracle_only(campaign, monkeypatch):
    names = ["average-calibrated", "tuned-average", "dawid-skene", "stacking", "mtard", "oracle"]
    first = measure_rivals(campaign, 0, names)
    pairs_of = Campaign.scored_pairs

    def turned(self, record, split):
        from dataclasses import replace

        pairs = pairs_of(self, record, split)
        return replace(pairs, target=1 - pairs.target)

    monkeypatch.setattr(Campaign, "scored_pairs", turned)
    second = measure_rivals(campaign, 0, names)
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.scores, other.scores, equal_nan=True) != (one.name == "oracle"), one.name


# -- as methods ---------------------------------------------------------------------------------------------------


def checked(campaign: Campaign, matrix: LabelMatrix) -> None:
    """One label a pair of the one identity, a row of people being people's own."""
    assert matrix.teachers == (HUMAN,)
    assert 0 <= matrix.confidence.min() <= matrix.confidence.max() <= 1
    owner = np.repeat(np.arange(len(matrix.sample_ids)), np.diff(matrix.indptr))
    ids = strings(matrix.sample_ids).to_pylist()
    keys = list(zip([ids[i] for i in owner], [matrix.topics[t] for t in matrix.topic], strict=True))
    assert len(set(keys)) == len(keys)
    label = dict(zip(keys, matrix.confidence.tolist(), strict=True))
    train = set(campaign.ids("train"))
    said = {(row["sample_id"], row["topic"]): row["confidence"] for row in campaign.dataset.human.to_pylist()}
    theirs = {pair: value for pair, value in said.items() if pair[0] in train and pair[1] in campaign.dataset.seen}
    assert theirs
    assert {pair: label[pair] for pair in theirs} == pytest.approx(theirs)
    others = [value for pair, value in label.items() if pair not in theirs]
    assert len(others) > 100
    assert np.std(others) > 1e-3


@pytest.mark.parametrize("method", [name for name in METHODS if missing(name) is None])
def test_a_rivals_labels_are_what_a_conventional_student_learns_from(campaign, method):
    start = RoundStart.read(campaign.files(0), 0)
    scales = read_scales(campaign.files(0).scales)
    raw = assemble(next_rows(campaign, start.commit, start.teachers))
    known, _ = known_of(campaign, start.commit, start.teachers, scales, raw)
    frames = Frames(campaign, raw)
    first, second = (as_trained(raw, method, scales, lambda matrix: (known, frames)) for _ in range(2))
    checked(campaign, first)
    for column in ("indptr", "topic", "confidence"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))


def test_a_campaign_by_a_rivals_labels(world, tmp_path):
    at_work = begun(world, tmp_path, method="dawid-skene")
    (record,) = run(at_work)
    matrix = LabelMatrix.load(at_work.files(0).labels)
    checked(at_work, matrix)
    assert record.rows_by_teacher == {HUMAN: matrix.rows}
    shown = Page(write_report(at_work.workspace, "tiny", True, tmp_path / "page.html").read_text(encoding="utf-8"))
    text = " ".join(" ".join(shown.text.values()).split())
    assert "what each teacher adds to it is not measured" in text
    assert "one label a pair under one identity, as dawid-skene makes it" in text
    # Its file in the registry says something else of it by now: what counts is how it began.
    printed = asked(at_work, "--baselines", "--names", "average-raw,stacking")
    assert printed.exit_code == 0, printed.output
    assert len([line for line in printed.output.splitlines() if "│ 3 " in line]) == 2
    # Its rivals are its teachers' too, though its student knows none of them.
    (average,) = measure_rivals(at_work, 0, ["average-raw"])
    assert average.models == 3


def test_labels_do_not_depend_on_how_many_samples_are_asked_at_once(campaign, monkeypatch):
    start = RoundStart.read(campaign.files(0), 0)
    raw = assemble(next_rows(campaign, start.commit, start.teachers))
    known, _ = known_of(campaign, start.commit, start.teachers, {}, raw)
    frames = Frames(campaign, raw)
    whole = as_trained(raw, "random-selection", {}, lambda matrix: (known, frames))
    monkeypatch.setattr("t2t.training.baselines.labels.MOST_CELLS", 900)
    assert len(list(blocks(raw))) > 3
    parts = as_trained(raw, "random-selection", {}, lambda matrix: (known, frames))
    for column in ("indptr", "topic", "confidence"):
        np.testing.assert_array_equal(getattr(whole, column), getattr(parts, column))


def test_too_few_teachers_or_a_package_that_is_missing_are_refused_at_once(world, tmp_path, monkeypatch):
    from t2t.campaign.preflight import preflight

    few = begun(world, tmp_path, method="flyingsquid", teachers=["vendor", "colour-expert"])
    with pytest.raises(T2TError, match="'flyingsquid' needs 3 outside teachers, and there are 2"):
        preflight(few.workspace, few.config)
    one = begun(world, tmp_path, method="dawid-skene", teachers=["vendor"])
    with pytest.raises(T2TError, match="'dawid-skene' needs 2 outside teachers, and there is 1"):
        preflight(one.workspace, one.config)
    monkeypatch.setattr("t2t.training.baselines.table.importlib.util.find_spec", lambda name: None)
    lacking = begun(world, tmp_path, method="mace")
    with pytest.raises(T2TError, match=r"it needs crowd-kit, which is not installed: pip install 'teacher2task\[peo"):
        preflight(lacking.workspace, lacking.config)


def test_what_is_asked_amiss_is_said_before_torch_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from t2t.commands.compare import check_asked, named_rivals\n"
        "from t2t.core.errors import T2TError\n"
        "from tests.helpers.worlds import no_world\n"
        "place = no_world(Path(sys.argv[1]))\n"
        "for campaign, names in (('nope', 'stakking'), ('nope', None)):\n"
        "    try:\n"
        "        check_asked(place, campaign, None, None, True, 0, names)\n"
        "    except T2TError as error:\n"
        "        print(error)\n"
        "print(named_rivals('stacking, mace,stacking,'), 'torch' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True)
    lines = said.stdout.splitlines()
    assert lines[0].endswith("--names: unknown rival 'stakking'. Did you mean 'stacking'?"), said.stderr
    assert lines[1].startswith("Campaign 'nope' ")
    assert lines[2:] == ["['stacking', 'mace'] False"]
