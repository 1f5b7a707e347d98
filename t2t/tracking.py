"""The run history in MLflow: experiment = dataset, parent run = campaign, child run = round.

MLflow is a convenience for people, repaired from the lake's ledger and never asked what is done. Everything here can
therefore be repeated: runs are found by deterministic tags, a metric that has a point at a step gets no second one,
files are written over, and a checkpoint is known by its content. One process writes a campaign at a time.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import shlex
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

from t2t.errors import T2TError
from t2t.files import sha256, sha256_file, staging
from t2t.mlflow_store import create_store, lake_source, load_mlflow, server_command, store_path
from t2t.mlflow_text import CHAMPION, flatten, note, short, shown, user

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

log = logging.getLogger("t2t")

# What a campaign's line in the chart view is drawn from: logged on the parent as well, with step = round. A teacher's
# own PR-AUC hardly changes between rounds, so it stays on the children, in the picture and in the tables.
HEADLINE = ("pr_auc", "pr_auc_seen", "pr_auc_unseen", "validation_pr_auc")
# MLflow's page that compares runs shows files side by side, but only those that lie in no folder.
COMPARED = ("pr_curves", "topics")
TABLE = ("pr_auc", "pr_auc_low", "pr_auc_high", "pr_auc_seen", "pr_auc_unseen", "validation_pr_auc")
MODE = "?workflowType=machine_learning"  # without it the UI opens in its mode for language-model applications
CHART = f"/runs{MODE}&compareRunsMode=CHART"  # behind an experiment's address: one line for each campaign, by round
# Within MLflow's own limits: 1000 entries in a call, 100 of them parameters; characters of a tag, of a
# parameter, of a dataset's digest and of a model version's description.
METRICS_A_CALL, PARAMS_A_CALL, TAG_LENGTH, PARAM_LENGTH, DIGEST_LENGTH = 800, 100, 8000, 6000, 36
DESCRIPTION_LENGTH = 5000


@dataclass(frozen=True)
class DataInput:
    """Data a round read: its name, where exactly it is (a lake URI with its commit), and that commit's id."""

    name: str
    uri: str
    digest: str
    context: str = "training"


class MLflowTracker:
    """Writes one campaign's history.

    Args:
        uri: an MLflow server or database; where None, `MLFLOW_TRACKING_URI`, and without that `work`/mlflow.db.
        dataset: the experiment's name.
        campaign: the parent run's name; letters, digits, `-` and `_`.
    """

    def __init__(self, uri: str | None, work: Path, dataset: str, campaign: str):
        self.dataset, self.campaign = dataset, campaign
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_path(work)}"
        self.model_name = f"t2t-{campaign}"
        self._work = Path(work)
        sqlite = self.uri.startswith("sqlite:////")
        self._database = Path(self.uri.removeprefix("sqlite:///")) if sqlite else None
        self._runs: dict[int | None, str] = {}
        # Per run and metric: step -> (timestamp, value) of the points that are there, asked for at most once.
        self._points: dict[tuple[str, str], dict[int, tuple[int, float]]] = {}
        # Every call costs a search or a write of the database, so what this process knows is not asked for: which runs
        # it made, in what state runs are, which inputs and tables they have, that the registered model is there.
        self._new: set[str] = set()
        self._status: dict[str, str] = {}
        self._inputs: dict[str, set[tuple[str, str]]] = {}
        self._listed: dict[str, list[dict[str, str]]] = {}
        self._model_is_there = False

    # Connecting and finding

    @functools.cached_property
    def _client(self) -> Any:
        mlflow = load_mlflow()
        if self._database:
            create_store(self._database)
        elif self.uri.startswith(("http://", "https://")):
            # MLflow itself would try for four minutes.
            try:
                urlopen(f"{self.uri.rstrip('/')}/health", timeout=10).close()
            except HTTPError:
                pass  # it answers, and that is all that was asked
            except OSError as error:
                raise T2TError(f"No MLflow server answers at {shown(self.uri)}: {error}. Is it running?") from None
        client = mlflow.MlflowClient(self.uri, self.uri)
        try:
            client.search_experiments(max_results=1)
        except mlflow.MlflowException as error:
            raise T2TError(f"MLflow store {shown(self.uri)}: {error}") from None
        return client

    @functools.cached_property
    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.dataset)
        if found is None:
            # Only a local store needs to be told where files go; a server knows.
            place = self._database and (self._database.with_name("mlartifacts") / self.dataset).as_uri()
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                found = self._client.get_experiment(self._client.create_experiment(self.dataset, place, tags))
            except load_mlflow().MlflowException:
                found = self._client.get_experiment_by_name(self.dataset)  # another process was faster
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        experiment = str(found.experiment_id)
        if "mlflow.note.content" not in found.tags:
            # Stands above the experiment's runs, which the UI opens as a bare list.
            about = f"Dataset **{self.dataset}**: each run is a campaign, the runs below it are its rounds. "
            about += f"[PR-AUC by round](#/experiments/{experiment}{CHART})"
            self._client.set_experiment_tag(experiment, "mlflow.note.content", about)
        return experiment

    def _search(self, kind: str, **tags: str) -> list[Any]:
        """This campaign's runs of a kind, oldest first."""
        wanted = {"t2t.kind": kind, "t2t.campaign": self.campaign, **tags}
        where = " and ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
        order = ["attributes.start_time ASC"]
        return list(self._client.search_runs([self._experiment], where, order_by=order, max_results=1000))

    def run_id(self, k: int | None = None) -> str | None:
        """The run of round k, or of the campaign; None where there is none yet."""
        if k not in self._runs:
            if k is None:
                found = self._search("campaign")
            else:
                parent = self.run_id()
                # Children of a parent that somebody deleted belong to the past.
                tags = {"t2t.round": str(k), "mlflow.parentRunId": parent or ""}
                found = self._search("round", **tags) if parent else []
            if not found:
                return None
            self._runs[k] = found[0].info.run_id
        return self._runs[k]

    def _need(self, k: int | None = None) -> str:
        run = self.run_id(k)
        if run is None:
            what = f"campaign {self.campaign!r}" if k is None else f"round {k} of campaign {self.campaign!r}"
            raise T2TError(f"MLflow has no run for {what}: call {'open' if k is None else 'start_round'} first.")
        return run

    # Writing

    def open(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        """Starts the campaign's run, or goes on in the one that is there, whatever state a killed process left it in.

        Args:
            params: flat or nested; logged once. A value that differs from the first one does not replace it (MLflow's
                parameters cannot change): the first stays, and the tag `t2t.changed_params` holds the new ones.
        Returns:
            the run's id.
        """
        return self._start(None, self.campaign, {"t2t.kind": "campaign"}, params, tags)

    def finished(self, k: int) -> bool:
        """Whether round k has a run that is finished and not deleted."""
        run = self.run_id(k)
        return run is not None and self._client.get_run(run).info.status == "FINISHED"

    def start_round(self, k: int, params: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        """Starts the child run of round k, or goes on in it; a finished one stays finished. Parameters as in `open`."""
        own = {"t2t.kind": "round", "t2t.round": k, "mlflow.parentRunId": self._need()}
        return self._start(k, f"{self.campaign}-round-{k}", own, params, tags)

    def _start(
        self, k: int | None, name: str, own: Mapping[str, Any], params: Mapping[str, Any], tags: Mapping[str, Any]
    ) -> str:
        own = {**own, "t2t.campaign": self.campaign, "t2t.dataset": self.dataset}
        run = self.run_id(k)
        if run is None:
            origin = {"mlflow.user": user(), "mlflow.source.name": f"t2t run {self.campaign}"}
            origin["mlflow.source.type"] = "LOCAL"
            wanted = {key: short(value, TAG_LENGTH) for key, value in {**origin, **tags, **own}.items()}
            run = str(self._client.create_run(self._experiment, tags=wanted, run_name=name).info.run_id)
            self._runs[k] = run
            self._new.add(run)
            self._status[run] = "RUNNING"
            known: dict[str, str] = {}
            changed_tags: dict[str, Any] = {}
        else:
            found = self._client.get_run(run)
            known, changed_tags = found.data.params, dict(tags)
            self._status[run] = found.info.status
            if found.info.status != "RUNNING" and (k is None or found.info.status != "FINISHED"):
                self._client.update_run(run, status="RUNNING")
                self._status[run] = "RUNNING"
        flat = {key: short(value, PARAM_LENGTH) for key, value in flatten(params)}
        changed = {key: value for key, value in flat.items() if known.get(key, value) != value}
        if changed:
            log.warning("MLflow keeps the first values of parameters that changed: %s", ", ".join(sorted(changed)))
            changed_tags["t2t.changed_params"] = json.dumps(changed)
        self._write(run, params={key: value for key, value in flat.items() if key not in known}, tags=changed_tags)
        return run

    def log_inputs(self, k: int, inputs: Sequence[DataInput]) -> None:
        """Logs the lake commits that round k reads as dataset inputs; each (name, digest) once."""
        source = lake_source()
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        run = self._need(k)
        if run not in self._inputs:
            known = [] if run in self._new else self._client.get_run(run).inputs.dataset_inputs
            self._inputs[run] = {(i.dataset.name, i.dataset.digest) for i in known}
        there, wanted = set(self._inputs[run]), []
        for item in inputs:
            digest = item.digest[:DIGEST_LENGTH]  # the URI has all of it
            if (item.name, digest) not in there:
                there.add((item.name, digest))
                dataset = MetaDataset(source(item.uri), name=item.name, digest=digest)
                tags = [InputTag("mlflow.data.context", item.context), InputTag("t2t.uri", item.uri[:500])]
                wanted.append(DatasetInput(dataset._to_mlflow_entity(), tags))
        if wanted:
            self._client.log_inputs(run, wanted)
            self._inputs[run] = there

    def log_curve(self, k: int, points: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Logs (step, values) points of round k, in batches. NaN and infinite values are left out, and steps that a
        metric already has are not logged again: a resumed round repeats some."""
        self._metrics(self._need(k), points)

    def log_round(
        self,
        k: int,
        metrics: Mapping[str, float],
        figures: Mapping[str, Figure],
        tables: Mapping[str, pd.DataFrame],
    ) -> None:
        """Logs what round k came to: its metrics (step k), pictures and tables on the child; the HEADLINE metrics and
        the table of rounds on the parent."""
        child, parent = self._need(k), self._need()
        self._metrics(child, [(k, metrics)], self._files(child, figures, tables))
        headline = {key: metrics[key] for key in HEADLINE if key in metrics}
        self._metrics(parent, [(k, headline)], self._summary())

    def log_checkpoint(
        self, k: int, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, Any] | None = None
    ) -> str:
        """Stores a checkpoint's files as a LoggedModel of round k and registers it as a version of `t2t-<campaign>`.

        Known by its files' content: the same folder again gives the same model and version. This is
        `mlflow.initialize_logged_model`, `log_model_artifacts` and `finalize_logged_model` through the client, since
        the first one of these depends on the process's active experiment.

        Beside a student's files go those that let MLflow serve it (`t2t.serving`); they are no part of that content.

        Args:
            metrics: PR-AUC and the like, linked with the model (step k).
            tags: for the model and its version, such as `t2t.commit`, the lake commit of this round, and
                `t2t.identity`, whom it answers as; `mlflow.note.content` is the description of both.
        Returns:
            the model's URI, `models:/<id>`.
        Raises:
            T2TError: `folder` has no files.
        """
        folder, run = Path(folder), self._need(k)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            raise T2TError(f"{folder}: no checkpoint files there.")
        digest = sha256(*(part for path in files for part in (str(path.relative_to(folder)), sha256_file(path))))
        own = {"t2t.campaign": self.campaign, "t2t.round": str(k), "t2t.digest": digest}
        own |= {key: str(value) for key, value in (tags or {}).items()}
        where = f"tags.`t2t.digest` = '{digest}' and tags.`t2t.campaign` = '{self.campaign}'"
        found = [m for m in self._client.search_logged_models([self._experiment], where) if m.source_run_id == run]
        if found:
            model = found[0]
        else:
            name, params = f"student-round-{k}", {"round": str(k), "campaign": self.campaign}
            model = self._client.create_logged_model(self._experiment, name, run, own, params, "t2t-student")
        if str(model.status) != "READY":
            self._client.log_model_artifacts(model.model_id, str(folder))
            self._make_servable(model, folder, own.get("t2t.identity"), run)
            self._client.finalize_logged_model(model.model_id, "READY")
        self._link(run, k, model, metrics, new=not found)
        if not any(version.tags.get("t2t.digest") == digest for version in self._versions(k)):
            # The registry of a local store looks `models:/` up in the process's global store, which is another one.
            source = model.artifact_location if self._database else f"models:/{model.model_id}"
            about = short(own.pop("mlflow.note.content", ""), DESCRIPTION_LENGTH) or None
            version = self._client.create_model_version(
                self.model_name, source, run, own, description=about, model_id=model.model_id
            )
            registered = json.dumps([{"name": self.model_name, "version": version.version}])
            self._client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": registered})
        return f"models:/{model.model_id}"

    def _make_servable(self, model: Any, folder: Path, identity: str | None, run: str) -> None:
        if not (folder / "config.json").is_file():
            return  # not a student's
        from t2t.serving import write_model

        with staging(self._work) as beside:
            write_model(beside, folder, identity, model.model_id, run, model.creation_timestamp)
            self._client.log_model_artifacts(model.model_id, str(beside))

    def _link(self, run: str, k: int, model: Any, metrics: Mapping[str, float], new: bool) -> None:
        """Ties a model to its run and its metrics, without a second point in the run's own history."""
        from mlflow.entities import LoggedModelOutput, Metric

        outputs = None if new else self._client.get_run(run).outputs
        if model.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else [])}:
            self._client.log_outputs(run, [LoggedModelOutput(model.model_id, k)])
        self._metrics(run, [(k, metrics)])
        known = [] if new else self._client.get_logged_model(model.model_id).metrics
        has = {metric.key for metric in known or []}
        points = {key: self._history(run, key).get(k) for key in metrics if key not in has}
        # The same key, step, time and value as in the run: MLflow takes that for the same point there.
        linked = [Metric(key, p[1], p[0], k, model.model_id, run_id=run) for key, p in points.items() if p]
        if linked:
            self._client.log_batch(run, metrics=linked)

    def _versions(self, k: int) -> list[Any]:
        """Registered versions of round k, oldest first; makes the registered model where there is none."""
        if not self._model_is_there:
            try:
                note = f"Students of campaign {self.campaign}, one version a round; the best is aliased `{CHAMPION}`."
                self._client.create_registered_model(self.model_name, {"t2t.campaign": self.campaign}, note)
            except load_mlflow().MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            self._model_is_there = True
        found = self._client.search_model_versions(f"name = '{self.model_name}'", max_results=1000)
        run = self._need(k)
        return sorted((version for version in found if version.run_id == run), key=lambda v: int(v.version))

    def champion(self, k: int | None) -> None:
        """Moves the alias `champion` to round k's checkpoint and marks its run, and only its run; None takes alias and
        marks away, since no round that stands has passed.

        Raises:
            T2TError: round k has no registered checkpoint.
        """
        run = None if k is None else self._need(k)
        versions = [] if k is None else self._versions(k)
        if k is not None and not versions:
            raise T2TError(f"Round {k} of {self.campaign!r} has no registered checkpoint to make champion.")
        if versions:
            self._client.set_registered_model_alias(self.model_name, CHAMPION, versions[-1].version)
        elif self._client.search_registered_models(f"name = '{self.model_name}'"):
            self._client.delete_registered_model_alias(self.model_name, CHAMPION)
        for other in self._rounds():
            if other.info.run_id != run and "t2t.champion" in other.data.tags:
                self._client.delete_tag(other.info.run_id, "t2t.champion")
        if run is not None:
            self._write(run, tags={"t2t.champion": "true"})
        self._write(self._need(), tags={"t2t.champion_round": "none" if k is None else k, **self._summary()})

    def finish_round(self, k: int, status: str = "FINISHED", tags: Mapping[str, Any] | None = None) -> None:
        """Ends round k's run with FINISHED, FAILED or KILLED, or leaves it SCHEDULED while it waits for a person.

        `start_round` goes on in a run that has not finished; a finished one keeps its end. Where `tags` have the
        engine's `t2t.status` and `t2t.reason`, the run page's description says them too.
        """
        tags = dict(tags or {})
        if "t2t.status" in tags:
            tags["mlflow.note.content"] = f"Round {k}: **{tags['t2t.status']}**. {tags.get('t2t.reason', '')}".strip()
            if "t2t.stop" in tags:
                tags["mlflow.note.content"] += f"\n\nThe campaign stopped: {tags['t2t.stop']}."
        self._finish(self._need(k), status, tags)

    def discard_round(self, k: int) -> None:
        """Sets round k's run aside, marked as discarded, where there is one: the round begins again, and its points,
        which cannot be taken back, would stand in the way of the new ones."""
        run = self.run_id(k) if self.run_id() else None
        if run is not None:
            self._finish(run, "KILLED", {"t2t.kind": "discarded", "t2t.status": "discarded"})
            del self._runs[k]

    def log_page(self, path: Path) -> bool:
        """Stores a page with the campaign's run, in the folder `report`; false where the campaign has no run."""
        try:
            run = self.run_id()
            if run is not None:
                self._client.log_artifact(run, str(path), "report")
        # Its HTTP client's errors are OSErrors.
        except (load_mlflow().MlflowException, OSError) as error:
            raise T2TError(f"MLflow at {shown(self.uri)} does not take {path}: {error}") from None
        return run is not None

    def finish(self, status: str = "FINISHED", tags: Mapping[str, Any] | None = None) -> None:
        """Ends the campaign's run; does nothing where it was never opened, so that error handlers can call this."""
        run = self.run_id()
        if run is not None:
            for child in self._rounds():
                if child.info.status == "RUNNING":
                    # Under way when the campaign failed, or of a round that was never ended.
                    self._finish(child.info.run_id, "FAILED" if status == "FAILED" else "KILLED", {})
            self._finish(run, status, {**(tags or {}), **self._summary()})

    def _finish(self, run: str, status: str, tags: Mapping[str, Any] | None) -> None:
        self._write(run, tags=tags)
        if (self._status.get(run) or self._client.get_run(run).info.status) != status:
            self._client.set_terminated(run, status)
            self._status[run] = status

    # Looking

    def ui_command(self) -> str:
        """The command line (or the address) with which a person looks at this store."""
        if self._database:
            arguments, environment = server_command(self._database)
            settings = [f"{name}={value}" for name, value in environment.items()]
            return shlex.join([*settings, *arguments])
        return self.url() or f"mlflow server --host 127.0.0.1 --backend-store-uri {shown(self.uri)}"

    def url(self, k: int | None = None) -> str | None:
        """The web page of round k, or of the campaign; None where the store is no server."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        return f"{shown(self.uri).rstrip('/')}/#/experiments/{self._experiment}/runs/{self._need(k)}{MODE}"

    # Pieces

    def _write(
        self,
        run: str,
        metrics: Sequence[Any] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes everything at once, or in as few calls as MLflow allows."""
        from mlflow.entities import Param, RunTag

        points, pairs = list(metrics), [Param(key, value) for key, value in (params or {}).items()]
        marks = [RunTag(key, short(value, TAG_LENGTH)) for key, value in (tags or {}).items()]
        while points or pairs or marks:
            self._client.log_batch(run, points[:METRICS_A_CALL], pairs[:PARAMS_A_CALL], marks)
            points, pairs, marks = points[METRICS_A_CALL:], pairs[PARAMS_A_CALL:], []

    def _history(self, run: str, key: str) -> dict[int, tuple[int, float]]:
        if (run, key) not in self._points:
            # A run that this process created has no point it does not know of.
            found = [] if run in self._new else self._client.get_metric_history(run, key)
            self._points[run, key] = {metric.step: (metric.timestamp, metric.value) for metric in found}
        return self._points[run, key]

    def _metrics(
        self, run: str, points: Iterable[tuple[int, Mapping[str, float]]], tags: Mapping[str, Any] | None = None
    ) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        wanted = {}
        for step, values in points:
            for key, number in values.items():
                value = float(number)
                if math.isfinite(value) and step not in self._history(run, key):
                    wanted[key, step] = Metric(key, value, now, step)
        self._write(run, list(wanted.values()), tags=tags)
        for metric in wanted.values():
            self._history(run, metric.key)[metric.step] = (metric.timestamp, metric.value)

    def _files(self, run: str, figures: Mapping[str, Figure], tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
        """Logs pictures and tables; returns the tag that is to be written for the UI to show the tables."""
        if not figures and not tables:
            return {}
        with staging(self._work) as folder:
            for name, figure in figures.items():
                path = Path(folder, "figures", name).with_suffix(".png")
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path)
            listed = []
            for name, table in tables.items():
                path = Path(folder, "tables", name).with_suffix(".json")
                path.parent.mkdir(parents=True, exist_ok=True)
                # As `log_table` writes it, which would append to a table that is there: a repeat doubled its rows.
                table.to_json(path, orient="split", index=False, date_format="iso")
                listed.append({"path": path.relative_to(folder).as_posix(), "type": "table"})
            for name in COMPARED:
                if name in figures:
                    shutil.copy(Path(folder, "figures", f"{name}.png"), folder)
                if name in tables:
                    tables[name].to_csv(Path(folder, f"{name}.csv"), index=False)
            self._client.log_artifacts(run, folder)
        if run not in self._listed:
            there = {} if run in self._new else self._client.get_run(run).data.tags
            self._listed[run] = json.loads(there.get("mlflow.loggedArtifacts", "[]"))
        self._listed[run] += [entry for entry in listed if entry not in self._listed[run]]
        return {"mlflow.loggedArtifacts": json.dumps(self._listed[run])}

    def _rounds(self) -> list[Any]:
        found = self._search("round", **{"mlflow.parentRunId": self._need()})
        return sorted(found, key=lambda run: int(run.data.tags["t2t.round"]))

    def rounds(self) -> pd.DataFrame:
        """One row a round, as MLflow has them: round, champion (bool), the metrics of TABLE, status, run_id."""
        return self._table(self._rounds())

    def _table(self, runs: list[Any]) -> pd.DataFrame:
        import pandas as pd

        rows = []
        for run in runs:
            tags = run.data.tags
            row: dict[str, Any] = {"round": int(tags["t2t.round"]), "champion": "t2t.champion" in tags}
            row |= {key: run.data.metrics.get(key, float("nan")) for key in TABLE}
            rows.append(row | {"status": run.info.status, "run_id": run.info.run_id})
        return pd.DataFrame(rows, columns=["round", "champion", *TABLE, "status", "run_id"])

    def _summary(self) -> dict[str, str]:
        """Logs the table of rounds on the parent; returns the tags that are to be written with it, with a readable note
        (the run page's description)."""
        runs = self._rounds()
        table = self._table(runs)
        listed = self._files(self._need(), {}, {"rounds": table.drop(columns="status")})
        verdicts = [run.data.tags.get("t2t.status", "") for run in runs]
        stop = runs[-1].data.tags.get("t2t.stop") if runs else None
        return {**listed, "mlflow.note.content": note(self.campaign, self.dataset, table, verdicts, stop)}
