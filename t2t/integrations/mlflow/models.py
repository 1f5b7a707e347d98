"""A campaign's students in MLflow's registry: one version a round, the champion by an alias."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2t.core.errors import T2TError
from t2t.core.files import sha256, sha256_file, staging
from t2t.integrations.mlflow.model_files import write_model
from t2t.integrations.mlflow.runs import Runs
from t2t.integrations.mlflow.store import load_mlflow
from t2t.integrations.mlflow.text import CHAMPION, short

DESCRIPTION_LENGTH = 5000  # characters of a version's description: MLflow's own limit


class Models:
    """The registered model `t2t-<campaign>`."""

    def __init__(self, runs: Runs):
        self.runs = runs
        self.name = f"t2t-{runs.campaign}"
        self._is_there = False

    def log(self, k: int, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, Any] | None = None) -> str:
        """Stores a checkpoint and registers it: `MLflowTracker.log_checkpoint`."""
        folder, run, client = Path(folder), self.runs.need(k), self.runs.client
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            raise T2TError(f"{folder}: no checkpoint files there.")
        digest = sha256(*(part for path in files for part in (str(path.relative_to(folder)), sha256_file(path))))
        model_tags = {"t2t.campaign": self.runs.campaign, "t2t.round": str(k), "t2t.digest": digest}
        model_tags |= {key: str(value) for key, value in (tags or {}).items()}
        where = f"tags.`t2t.digest` = '{digest}' and tags.`t2t.campaign` = '{self.runs.campaign}'"
        logged_before = [
            m for m in client.search_logged_models([self.runs.experiment], where) if m.source_run_id == run
        ]
        if logged_before:
            model = logged_before[0]
        else:
            name, params = f"student-round-{k}", {"round": str(k), "campaign": self.runs.campaign}
            model = client.create_logged_model(self.runs.experiment, name, run, model_tags, params, "t2t-student")
        if str(model.status) != "READY":
            client.log_model_artifacts(model.model_id, str(folder))
            self._make_servable(model, folder, model_tags.get("t2t.identity"), run)
            client.finalize_logged_model(model.model_id, "READY")
        self._link(run, k, model, metrics, new=not logged_before)
        if not any(version.tags.get("t2t.digest") == digest for version in self._versions(k)):
            self._register(run, model, model_tags)
        return f"models:/{model.model_id}"

    def _make_servable(self, model: Any, folder: Path, identity: str | None, run: str) -> None:
        if not (folder / "config.json").is_file():
            return  # not a student's
        with staging(self.runs.work) as beside:
            write_model(beside, folder, identity, model.model_id, run, model.creation_timestamp)
            self.runs.client.log_model_artifacts(model.model_id, str(beside))

    def _link(self, run: str, k: int, model: Any, metrics: Mapping[str, float], new: bool) -> None:
        """Ties a model to its run and its metrics, without a second point in the run's own history."""
        from mlflow.entities import LoggedModelOutput, Metric

        client = self.runs.client
        outputs = None if new else client.get_run(run).outputs
        if model.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
            client.log_outputs(run, [LoggedModelOutput(model.model_id, k)])
        self.runs.metrics(run, [(0, metrics)])  # as the round's other numbers (`MLflowTracker.log_round`)
        linked_metrics = [] if new else client.get_logged_model(model.model_id).metrics
        has = {metric.key for metric in linked_metrics or []}
        points = {key: self.runs.history(run, key).get(0) for key in metrics if key not in has}
        # The same key, step, time and value as in the run: MLflow takes that for the same point there.
        linked = [Metric(key, p[1], p[0], 0, model.model_id, run_id=run) for key, p in points.items() if p]
        if linked:
            client.log_batch(run, metrics=linked)

    def _register(self, run: str, model: Any, tags: dict[str, str]) -> None:
        # The registry of a local store looks `models:/` up in the process's global store, which is another one.
        source = model.artifact_location if self.runs.database else f"models:/{model.model_id}"
        description = short(tags.pop("mlflow.note.content", ""), DESCRIPTION_LENGTH) or None
        version = self.runs.client.create_model_version(
            self.name, source, run, tags, description=description, model_id=model.model_id
        )
        registered = json.dumps([{"name": self.name, "version": version.version}])
        self.runs.client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": registered})

    def _versions(self, k: int) -> list[Any]:
        """Registered versions of round k, oldest first; makes the registered model where there is none."""
        if not self._is_there:
            campaign = self.runs.campaign
            try:
                note = f"Students of campaign {campaign}, one version a round; the best is aliased `{CHAMPION}`."
                self.runs.client.create_registered_model(self.name, {"t2t.campaign": campaign}, note)
            except load_mlflow().MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            self._is_there = True
        versions = self.runs.client.search_model_versions(f"name = '{self.name}'", max_results=1000)
        run = self.runs.need(k)
        return sorted((version for version in versions if version.run_id == run), key=lambda v: int(v.version))

    def champion(self, k: int | None) -> None:
        """Moves the alias to round k's latest version; None takes it away.

        Raises T2TError where round k has no registered checkpoint.
        """
        versions = [] if k is None else self._versions(k)
        if k is not None and not versions:
            raise T2TError(f"Round {k} of {self.runs.campaign!r} has no registered checkpoint to make champion.")
        if versions:
            self.runs.client.set_registered_model_alias(self.name, CHAMPION, versions[-1].version)
        elif self.runs.client.search_registered_models(f"name = '{self.name}'"):
            self.runs.client.delete_registered_model_alias(self.name, CHAMPION)
