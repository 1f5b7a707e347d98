"""A distillation in MLflow: one run, whatever kills there were, with curves, the encoder's files and the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from t2t.distillation.distillation import Distillation
from t2t.distillation.entries import read_distillation
from t2t.distillation.running import run
from t2t.integrations.mlflow.distillation import MLflowWatcher, open_watcher
from tests.helpers.distillations import SMALL, distillation_in


class Killed(BaseException):
    """What a kill looks like from inside."""


class Dying(MLflowWatcher):
    """Dies once the training came to step 4."""

    def curve(self, distillation: Distillation, points: Any) -> None:
        super().curve(distillation, points)
        if any(step == 4 for step, _ in points):
            raise Killed


def test_one_run_has_curves_by_teacher_and_token_type_the_encoder_and_what_it_is_worth(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("T2T_OBSERVERS", "mlflow")
    workspace = distillation_in(world, tmp_path, evaluation={**SMALL["evaluation"], "datasets": ["demo"]})
    config = read_distillation(workspace, "small")
    with pytest.raises(Killed):
        run(Distillation(config, workspace, "cpu"), Dying())
    client = MlflowClient(f"sqlite:///{workspace.work}/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    assert [one.info.status for one in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    result = run(Distillation(config, workspace, "cpu"), open_watcher())
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    tags = found.data.tags
    assert (tags["t2t.kind"], tags["t2t.encoder"]) == ("distillation", "small")
    assert tags["t2t.fingerprint"] == result.card.fingerprint
    assert "encoder: {kind: distilled, name: small}" in tags["mlflow.note.content"]
    for name in ("loss/tokens/cls", "loss/tokens/patches", "loss/maps/cls", "held_out/maps/patches"):
        steps = [point.step for point in client.get_metric_history(found.info.run_id, name)]
        assert steps == [2, 4, 6], name
    assert found.data.params["teachers.tokens"] == "timm test_vit"
    assert found.data.metrics["student on test/demo/k-NN 3"] == pytest.approx(
        next(row.value.value for row in result.table.of("demo")["small"] if row.measure == "k-NN 3")
    )
    files = {file.path for folder in ("encoder", "report") for file in client.list_artifacts(found.info.run_id, folder)}
    assert {"encoder/encoder.json", "encoder/model.safetensors", "report/small.html", "report/small.csv"} <= files
