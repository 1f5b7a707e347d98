"""A campaign's students in MLflow's registry: one version a round, the champion by an alias."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from t2t.core.errors import T2TError
from t2t.core.files import sha256, sha256_file, staging
from t2t.integrations.mlflow.client import Gone
from t2t.integrations.mlflow.model_files import write_model
from t2t.integrations.mlflow.runs import Runs
from t2t.integrations.mlflow.text import CHAMPION, short

MODEL_ID = re.compile(r"\bm-[0-9a-f]{32}\b")
DESCRIPTION_LENGTH = 5000  # characters of a version's description: MLflow's own limit


class Models:
    """The registered model `t2t-<campaign>`."""

    def __init__(self, runs: Runs):
        self.runs = runs
        self.name = f"t2t-{runs.campaign}"

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

            def made() -> Any | None:
                models = client.search_logged_models([self.runs.experiment], where)
                return next((m for m in models if m.source_run_id == run), None)

            model = client.make(
                "create_logged_model",
                self.runs.experiment,
                name,
                run,
                model_tags,
                params,
                "t2t-student",
                look=made,
            )
        if str(model.status) != "READY" or not self._has_files(model.model_id):
            client.log_model_artifacts(model.model_id, str(folder))
            self._make_servable(model, folder, model_tags.get("t2t.identity"), run)
            client.finalize_logged_model(model.model_id, "READY")
        self._link(run, k, model, metrics, new=not logged_before)
        if self._version_of(run, model, digest) is None:
            self._register(run, model, digest, model_tags)
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

        def linked_to_run() -> bool | None:
            outputs = client.get_run(run).outputs
            return model.model_id in {output.model_id for output in (outputs.model_outputs if outputs else [])} or None

        if new or not linked_to_run():
            client.make("log_outputs", run, [LoggedModelOutput(model.model_id, k)], look=linked_to_run)
        self.runs.metrics(run, [(0, metrics)])  # as the round's other numbers (`MLflowTracker.log_round`)
        linked_metrics = [] if new else client.get_logged_model(model.model_id).metrics
        has = {metric.key for metric in linked_metrics or []}
        points = {key: self.runs.history(run, key).get(0) for key in metrics if key not in has}
        # The same key, step, time and value as in the run: MLflow takes that for the same point there.
        linked = [Metric(key, p[1], p[0], 0, model.model_id, run_id=run) for key, p in points.items() if p]
        if linked:
            client.log_batch(run, metrics=linked)

    def _register(self, run: str, model: Any, digest: str, tags: dict[str, str]) -> None:
        client = self.runs.client
        if not self._is_there():
            note = f"Students of campaign {self.runs.campaign}, one version a round; the best is aliased `{CHAMPION}`."
            tag = {"t2t.campaign": self.runs.campaign}
            client.make("create_registered_model", self.name, tag, note, look=lambda: self._is_there() or None)
        # The registry of a local store looks `models:/` up in the process's global store, which is another one.
        source = model.artifact_location if self.runs.database else f"models:/{model.model_id}"
        description = short(tags.pop("mlflow.note.content", ""), DESCRIPTION_LENGTH) or None
        version = client.make(
            "create_model_version",
            self.name,
            source,
            run,
            tags,
            description=description,
            model_id=model.model_id,
            look=lambda: self._version_of(run, model, digest),
        )
        registered = json.dumps([{"name": self.name, "version": version.version}])
        client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": registered})

    def _is_there(self) -> bool:
        return bool(self.runs.client.search_registered_models(f"name = '{self.name}'"))

    def _versions(self, run: str) -> list[Any]:
        """The registered versions of a round's run, oldest first."""
        # By the run: all versions would be more with every round.
        where = f"name = '{self.name}' and run_id = '{run}'"
        versions = self.runs.client.search_model_versions(where, max_results=1000)
        return sorted(versions, key=lambda version: int(version.version))

    def _version_of(self, run: str, model: Any, digest: str) -> Any | None:
        """The version that a model is registered as."""
        return next(
            (
                version
                for version in self._versions(run)
                if version.tags.get("t2t.digest") == digest and _model_of(version) in (None, model.model_id)
            ),
            None,
        )

    def has(self, k: int) -> bool:
        """Whether round k's student is registered, with its files."""
        run = self.runs.find(k)
        versions = self._versions(run) if run else []
        if not versions:
            return False
        model = _model_of(versions[-1])
        return model is None or self._has_files(model)

    def _has_files(self, model_id: str) -> bool:
        try:
            self.runs.client.get_logged_model(model_id)  # a deleted one's files stay for a while
            return bool(self.runs.client.list_logged_model_artifacts(model_id))
        except Gone:
            return False

    def leads(self, k: int) -> bool:
        """Whether the alias is at round k."""
        found = self.runs.client.search_registered_models(f"name = '{self.name}'")
        number = str(found[0].aliases.get(CHAMPION, "")) if found else ""
        run = self.runs.find(k)
        return run is not None and number in {str(version.version) for version in self._versions(run)}

    def champion(self, k: int | None) -> bool:
        """Moves the alias to round k's latest version; takes it away where that has none, or with None.

        Returns: whether round k has the alias now.
        """
        run = None if k is None else self.runs.find(k)
        versions = self._versions(run) if run else []
        if versions:
            self.runs.client.set_registered_model_alias(self.name, CHAMPION, versions[-1].version)
        elif self._is_there():
            self.runs.client.delete_registered_model_alias(self.name, CHAMPION)
        return bool(versions)


def _model_of(version: Any) -> str | None:
    """The id of a version's model, where its source names one: MLflow's own registry does not return the id itself."""
    found = MODEL_ID.search(str(version.source))
    return found[0] if found else None
