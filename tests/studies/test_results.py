"""What a study came to: every number is the campaigns' own, and what is missing is named."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.evaluation.metrics import average_precision
from t2t.studies.cells import Study, read_study
from t2t.studies.numbers import CONTROL
from t2t.studies.results import Results
from t2t.studies.rivals import Rivals
from t2t.studies.shown import DASH, cells_table, markdown, plain, shown
from t2t.studies.tables import StudyTable, as_csv, as_json, measure
from tests.helpers.studies import NESTED, STUDY, study_in


@pytest.fixture(scope="module")
def rivals(half: tuple[Workspace, Study]) -> Rivals:
    workspace, study = half
    return Rivals(Results.of(workspace, study), workspace.work / "studies" / "kinds" / "rivals")


@pytest.fixture(scope="module")
def table(rivals: Rivals) -> StudyTable:
    return measure(rivals)


def test_a_number_is_the_mean_of_the_champions_own(rivals: Rivals, table: StudyTable) -> None:
    results, cell = rivals.results, rivals.results.study.cells[0]
    champions = {run.job.seed: run.champion for run in results.of_cell(cell)}
    number = table.cells[0].numbers["test pr_auc"]
    for seed, record in champions.items():
        assert record is not None
        assert number.seeds[seed] == pytest.approx(record.test["pr_auc"])
        assert table.cells[0].numbers["validation pr_auc"].seeds[seed] == pytest.approx(record.score)
        assert table.cells[0].numbers["test pr_auc_seen"].seeds[seed] == pytest.approx(record.test["pr_auc_seen"])
    assert number.mean == pytest.approx(np.mean(list(number.seeds.values())))
    assert number.low is not None
    assert number.high is not None
    assert number.low < number.mean < number.high
    assert table.cells[0].numbers["seconds"].mean > 0
    assert table.cells[0].numbers["weights"].mean == pytest.approx(0.2, abs=0.1)


def test_one_seed_has_the_interval_of_its_own_round(rivals: Rivals, table: StudyTable) -> None:
    (run,) = [run for run in rivals.results.of_cell(rivals.results.study.cells[1]) if run.records]
    assert run.champion is not None
    number = table.cells[1].numbers["test pr_auc"]
    assert (number.low, number.high) == pytest.approx(
        (run.champion.test["pr_auc_low"], run.champion.test["pr_auc_high"])
    )


def test_what_is_missing_is_named_and_the_rest_is_measured(table: StudyTable) -> None:
    assert table.missing == ((f"{NESTED}, seed 1", "no round is finished"),)
    assert list(table.cells[1].numbers["test pr_auc"].seeds) == [0]
    rows = cells_table(table).rows
    each = [name for name, _ in cells_table(table).columns].index("each seed")
    assert rows[1][each].endswith(f" {DASH}")
    assert len(rows[0][each].split()) == 2


def test_differences_are_of_the_seeds_that_both_have(table: StudyTable) -> None:
    less = table.cells[1].less["test pr_auc"]
    ours, theirs = (row.numbers["test pr_auc"].seeds[0] for row in (table.cells[1], table.cells[0]))
    assert list(less.seeds) == [0]
    assert less.mean == pytest.approx(ours - theirs)
    assert less.low is not None
    assert not table.cells[0].less
    assert f"{less.mean:+.3f} (1 of 2 seeds)" in cells_table(table).rows[1]


def test_rounds_and_sizes_have_numbers_of_their_own(rivals: Rivals, table: StudyTable) -> None:
    assert list(table.cells[0].rounds) == [0, 1]
    record = rivals.results.of_cell(rivals.results.study.cells[0])[0].records[1]
    assert table.cells[0].rounds[1]["test pr_auc"].seeds[record_seed(rivals)] == pytest.approx(record.test["pr_auc"])
    assert rivals.results.sizes == [4]
    assert "test pr_auc_size/4" in table.cells[1].numbers
    assert "test pr_auc_size/4" not in table.cells[0].numbers
    assert [one.title for one in shown(table)] == ["Cells", "Rounds", "Embedding sizes", "Rivals"]


def test_a_round_of_self_training_stands_beside_its_control(rivals: Rivals, table: StudyTable) -> None:
    first, second = table.cells[0].rounds[0], table.cells[0].rounds[1]
    controls = [run.records[1].control for run in rivals.results.of_cell(rivals.results.study.cells[0])]
    gains = [control.gain_test.value for control in controls if control is not None]
    assert list(second[CONTROL].seeds.values()) == gains
    assert len(gains) == 2
    assert CONTROL not in first
    rounds = shown(table)[1]
    assert [name for name, _ in rounds.columns][-2:] == ["over control", "each seed"]
    assert rounds.rows[0][-2:] == ("", "")
    assert rounds.rows[1][-2:] == (f"{sum(gains) / 2:+.3f}", " ".join(f"{gain:+.3f}" for gain in gains))


def record_seed(rivals: Rivals) -> int:
    return rivals.results.of_cell(rivals.results.study.cells[0])[0].job.seed


def test_rivals_stand_on_the_same_pairs_with_what_they_ask(rivals: Rivals, table: StudyTable) -> None:
    by_name = {rival.name: rival for rival in table.cells[0].rivals}
    assert list(by_name) == ["average-raw", "stacking", "best-teacher"]
    assert (by_name["average-raw"].models, by_name["best-teacher"].models) == (2, 1)
    # The average of a single teacher is that teacher.
    assert [rival.name for rival in table.cells[1].rivals] == ["stacking", "best-teacher"]
    average = by_name["average-raw"]
    record = rivals.results.of_cell(rivals.results.study.cells[0])[0].champion
    assert record is not None
    pairs = rivals.results.pairs(record, "test")
    said = np.stack([rivals.results.scored.teacher(name, record, pairs) for name in ("colour-expert", "vendor")])
    spoken = ~np.isnan(said).all(axis=0)
    mean = np.nanmean(said[:, spoken], axis=0)
    # A rival has a score for all pairs; of those that somebody speaks of it is the plain mean.
    fitted = rivals.fitted(rivals.results.of_cell(rivals.results.study.cells[0])[0])["average-raw"]
    np.testing.assert_allclose(np.array(fitted.scores)[spoken], mean, rtol=1e-5)
    assert average.numbers["test pr_auc"].mean == pytest.approx(
        average_precision(pairs.with_score(np.array(fitted.scores, np.float32)))
    )
    less = average.less["test pr_auc"]
    assert less.mean == pytest.approx(table.cells[0].numbers["test pr_auc"].mean - average.numbers["test pr_auc"].mean)
    assert less.low is not None
    assert set(less.seeds) == {0, 1}


def test_rivals_are_fitted_once_for_all_cells_of_the_same_teachers(
    rivals: Rivals, table: StudyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr("t2t.studies.rivals.measure_rivals", never)
    monkeypatch.setattr("t2t.evaluation.seeds.bootstrap", never)  # nor drawn again
    again = Rivals(Results.of(rivals.results.workspace, rivals.results.study), rivals.folder)
    assert measure(again) == table


def test_without_named_baselines_the_rounds_own_yardsticks_are_shown(
    half: tuple[Workspace, Study], tmp_path: Path
) -> None:
    workspace, study = half
    plain_one = Study(study.config.model_copy(update={"baselines": ()}), study.path, study.cells)
    table = measure(Rivals(Results.of(workspace, plain_one), tmp_path))
    rivals = {rival.name: rival for rival in table.cells[0].rivals}
    assert "average-raw" in rivals
    assert "human-rows" in rivals
    assert rivals["human-rows"].models == 0
    assert not list(tmp_path.iterdir())
    # Of one seed the lake has the paired interval, of more it has no scores to draw one.
    assert rivals["average-raw"].less["test pr_auc"].low is None
    assert {r.name: r for r in table.cells[1].rivals}["stacking"].less["test pr_auc"].low is not None


def test_rivals_that_cannot_be_fitted_are_named_with_the_reason(
    half: tuple[Workspace, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise T2TError("The data are gone.")

    monkeypatch.setattr("t2t.studies.rivals.measure_rivals", refuse)
    workspace, study = half
    config = study.config.model_copy(update={"baselines": ("average-raw", "mace")})
    table = measure(Rivals(Results.of(workspace, Study(config, study.path, study.cells)), tmp_path))
    assert table.left_out == {"mace": "The data are gone."}
    # The rounds have measured the average themselves.
    assert [rival.name for rival in table.cells[0].rivals] == ["average-raw"]


def test_damaged_yardsticks_cost_no_report(
    half: tuple[Workspace, Study], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("t2t.campaign.scored.read_json", lambda *_: {"validation": 3})
    workspace, study = half
    unnamed = Study(study.config.model_copy(update={"baselines": ()}), study.path, study.cells)
    table = measure(Rivals(Results.of(workspace, unnamed), tmp_path))
    assert not table.cells[0].rivals
    assert "test pr_auc" in table.cells[0].numbers
    assert "The yardsticks of kinds-two-teachers-s0 are left out" in caplog.text


def test_csv_and_json_have_every_number(table: StudyTable) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    (row,) = [r for r in rows if (r["what"], r["cell"], r["measure"]) == ("cell", NESTED, "test pr_auc")]
    number = table.cells[1].numbers["test pr_auc"]
    assert float(row["mean"]) == number.mean
    assert (row["seed_0"], row["seed_1"]) == (str(number.mean), "")
    assert row["against"] == "two teachers"
    assert {r["models"] for r in rows if r["what"] == "rival average-raw"} == {"2"}
    assert StudyTable.model_validate(json.loads(as_json(table))) == table


def test_markdown_takes_names_for_text(table: StudyTable) -> None:
    text = markdown(cells_table(table))
    assert "\\<b\\>nested\\</b\\>" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert plain("[x](http://y) a|b [0.1, 0.2]") == "\\[x](http://y) a\\|b [0.1, 0.2]"


def test_a_cell_whose_campaign_began_otherwise_is_named(half: tuple[Workspace, Study], tmp_path: Path) -> None:
    """Somebody changed the study's file since: the numbers are not those of what the file says now."""
    workspace, study = half
    content = {**STUDY, "set": {**STUDY["set"], "training": {"steps": 7, "evaluate_every": 3}}}
    registry = tmp_path / "registry"
    shutil.copytree(workspace.registry, registry, symlinks=True)
    (registry / "studies" / "kinds.yaml").write_text(yaml.safe_dump(content))
    other = Workspace(registry, workspace.data, workspace.work)
    results = Results.of(other, read_study(other, "kinds"))
    assert [cell for cell, _ in results.changed] == [
        f"{cell}, seed {s}" for cell, s in (("two teachers", 0), (NESTED, 0), ("two teachers", 1))
    ]
    assert {keys for _, keys in results.changed} == {"training"}
    assert not Results.of(workspace, study).changed


def test_a_study_without_a_round_is_refused(world: Path, tmp_path: Path) -> None:
    workspace, study = study_in(world, tmp_path)
    with pytest.raises(T2TError, match=r"'kinds' has no finished round yet. Run it: t2t study kinds"):
        Results.of(workspace, study)
    assert not (tmp_path / "work").exists()
