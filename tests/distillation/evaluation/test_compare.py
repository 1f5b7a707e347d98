"""The student beside its teachers: the table, its files and pictures, and what is taken away from encoders."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import timm
import torch

from t2t.core.errors import T2TError
from t2t.distillation.evaluation.analysis import Direction, by_directions, pruned
from t2t.distillation.evaluation.compare import concatenated, evaluate, mean_by_sample
from t2t.distillation.evaluation.figures import falling
from t2t.distillation.evaluation.report import write_report
from t2t.distillation.evaluation.table import CONCATENATION, EvaluationTable, as_csv, as_json, as_markdown
from tests.distillation.evaluation.worlds import classes, features

NOISE = {"small": 0.3, "mobilenet": 0.8, "lite0": 2.0}


@pytest.fixture(scope="module")
def table() -> EvaluationTable:
    asked = []

    def made(name, task):
        asked.append((name, task.dataset))
        return features(task, NOISE[name], dim=12, seed=len(name))

    def cut(name, share, task):
        return features(task, NOISE[name] + 4 * share, dim=12, seed=len(name))

    found = evaluate([classes()], "small", ["mobilenet", "lite0"], made, ks=(10, 100), pruned=cut, resamples=200)
    assert len(asked) == len(set(asked)) == 3
    return found


def test_the_table_has_every_encoder_and_paired_differences(table):
    by_encoder = table.of("made")

    assert list(by_encoder) == ["small", "mobilenet", "lite0", CONCATENATION]
    assert [row.measure for row in by_encoder["small"]] == ["k-NN 10", "k-NN 100", "probe"]
    assert by_encoder[CONCATENATION][0].dim == 24
    probe = {name: rows[-1] for name, rows in by_encoder.items()}
    assert probe["small"].value.value > probe["lite0"].value.value
    less = probe["lite0"].student_less
    assert less.value == pytest.approx(probe["small"].value.value - probe["lite0"].value.value)
    assert less.low > 0
    assert probe["small"].student_less is None
    assert probe["small"].c > 0
    assert table.metrics()["made/probe"] == probe["small"].value.value
    assert table.tasks[0].all_neighbours == (100,)


def test_the_table_is_read_again_and_written_for_programs_and_people(table):
    assert EvaluationTable.model_validate(json.loads(as_json(table))) == table
    rows = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert {row["encoder"] for row in rows} == {"small", "mobilenet", "lite0", CONCATENATION}
    assert float(rows[0]["value"]) == table.rows[0].value.value
    assert sum("pruned" in row["measure"] for row in rows) == 3 * 7
    text = as_markdown(table)
    assert "| lite0 | teacher | 12 |" in text
    assert "With k of 100 all 60 samples answer." in text


def test_the_report_s_files_lie_beside_the_page(table, tmp_path):
    _, files = write_report(table, tmp_path / "report" / "small.html", "small", ("Made of two.",))

    assert [path.name for path in files] == [
        *("small.md", "small.csv", "small.json", "small-made-encoders.png", "small-made-directions.png"),
        "small-made-pruning.png",
    ]
    assert all(path.stat().st_size > 100 for path in files)
    text = files[0].read_text()
    assert text.startswith("# small\n\nMade of two.\n\n## made")
    assert "(small-made-pruning.png)" in text


def test_a_report_that_cannot_be_written_says_where(table, tmp_path):
    (tmp_path / "report").write_text("in the way")
    with pytest.raises(T2TError, match=r"small\.html: the report cannot be written"):
        write_report(table, tmp_path / "report" / "small.html", "small")


def test_nothing_to_measure_and_nothing_to_draw_are_said():
    with pytest.raises(T2TError, match=r"evaluation\.knn is empty and evaluation\.probe is false"):
        evaluate([classes()], "small", [], lambda name, task: features(task, 1.0), ks=(), probe=False)
    with pytest.raises(ValueError, match="no curves to draw"):
        falling([], "x", "top-1", "nothing", {})


def test_a_probe_alone_without_neighbours_and_one_teacher_has_no_concatenation():
    found = evaluate([classes()], "s", ["t"], lambda name, task: features(task, 1.0), ks=(), analyses=False)

    assert [(row.encoder, row.measure) for row in found.rows] == [("s", "probe"), ("t", "probe")]
    assert found.rows[1].student_less.value == 0
    assert found.directions == found.pruning == ()
    assert "student less it, probe" in as_markdown(found)


# -- features -----------------------------------------------------------------------------------------------------


def test_samples_are_the_means_of_their_frames():
    frames = np.arange(10.0).reshape(5, 2).astype(np.float16)

    found = mean_by_sample(frames, np.array([1, 0, 1, 1, 2]), 3)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[2, 3], [10 / 3, 13 / 3], [8, 9]], rtol=1e-6)


def test_no_teacher_drowns_the_others_in_the_concatenation():
    task = classes()
    one, other = features(task, 0.5), features(task, 0.5, seed=1)

    joined = concatenated([one * 1000, other])

    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 2**0.5, rtol=1e-5)
    np.testing.assert_allclose(joined, concatenated([one, other]), atol=1e-6)


# -- what is taken away ---------------------------------------------------------------------------------------------


def test_whitened_directions_have_deviation_one_and_all_of_them_are_all_there_is():
    rows = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([9, 5, 3, 1, 0.1, 0])
    directions = Direction.of(rows)

    assert len(directions) == 5  # one is flat
    np.testing.assert_allclose(np.cov(directions.cut(rows, 5, True).T), np.eye(5), atol=1e-5)
    plain = directions.cut(rows, 5, False)
    np.testing.assert_allclose(plain @ directions.axes + directions.mean, rows, atol=1e-4)


def test_directions_are_of_what_is_learned_from():
    task = classes(fit=9)
    rows = features(task, 0.5, dim=40)
    found = by_directions(task, rows, dims=(2, 4, 64))
    assert list(found) == [2, 4, 8]  # 9 samples have 8 directions

    rows[9:] *= 50
    assert np.allclose(Direction.of(rows[:9]).axes, Direction.of(features(task, 0.5, dim=40)[:9]).axes)


def test_pruning_takes_the_smallest_weights_of_each_layer_and_leaves_the_model_alone():
    model = timm.create_model("test_vit", num_classes=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    cut = pruned(model, 0.6)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(cut.state_dict()) == set(before)
    weight, was = cut.blocks[0].mlp.fc1.weight, before["blocks.0.mlp.fc1.weight"]
    assert (weight == 0).float().mean() == pytest.approx(0.6, abs=0.01)
    assert was[weight == 0].abs().max() <= was[weight != 0].abs().min()
    assert torch.equal(cut.blocks[0].mlp.fc1.bias, before["blocks.0.mlp.fc1.bias"])
    whole = pruned(model, 0.0).state_dict()
    assert all(torch.equal(whole[name], value) for name, value in before.items())


def test_networks_with_channels_last_are_pruned_as_others():
    model = timm.create_model("test_resnet", num_classes=0).eval()
    plain = pruned(model, 0.5).state_dict()

    last = pruned(model.to(memory_format=torch.channels_last), 0.5).state_dict()

    assert all(torch.equal(last[name], value) for name, value in plain.items())
    assert (last["conv1.0.weight"] == 0).float().mean() == pytest.approx(0.5, abs=0.01)
