"""The run history in MLflow: experiment = dataset, parent run = campaign, child run = round.

MLflow is a convenience for people, repaired from the lake's ledger and never asked what is done. Everything here can
therefore be repeated: runs are found by deterministic tags, a metric that has a point at a step gets no second one,
files are written over, and a checkpoint is known by its content. One process writes a campaign at a time.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2t.core.errors import T2TError
from t2t.core.host import shown
from t2t.integrations.mlflow import names
from t2t.integrations.mlflow.models import Models
from t2t.integrations.mlflow.runs import PARAM_LENGTH, Runs
from t2t.integrations.mlflow.store import lake_source, server_command
from t2t.integrations.mlflow.text import CHART, MODE, flatten, note, short, table_json

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

log = logging.getLogger("t2t")

# What a campaign's line in the chart view is drawn from: logged on the parent as well, with step = round. A teacher's
# own PR-AUC hardly changes between rounds, so it stays on the children, in the picture and in the tables.
HEADLINE = (names.PR_AUC, names.SEEN, names.UNSEEN, names.VALIDATION, names.CONTROL)
TABLE = ("pr_auc", "pr_auc_low", "pr_auc_high", "pr_auc_seen", "pr_auc_unseen", "validation_pr_auc")
DIGEST_LENGTH = 36  # characters of a dataset's digest: MLflow's own limit


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
        self.runs = Runs(uri, work, dataset, campaign)
        self.models = Models(self.runs)
        self._inputs: dict[str, set[tuple[str, str]]] = {}

    @property
    def uri(self) -> str:
        """The store's address."""
        return self.runs.uri

    def run_id(self, k: int | None = None) -> str | None:
        """The run of round k, or of the campaign; None where there is none yet."""
        return self.runs.find(k)

    # Writing

    def ready(self) -> None:
        """Opens the store and writes to it. Raises T2TError, in one line that says what to do, where that fails."""
        self.runs.write_mark()

    def forget(self) -> None:
        """Somebody deleted something: nothing that this process knows of the store holds any more."""
        self.runs.forget_all()
        self._inputs.clear()

    def whole(self, k: int) -> bool:
        """Whether round k is finished here, with its pictures and its student; people may delete any of that."""
        run = self.run_id(k)
        return run is not None and self.finished(k) and self.runs.has_files(run) and self.models.has(k)

    def leads(self, k: int) -> bool:
        """Whether the alias `champion` is at round k."""
        return self.models.leads(k)

    def open(self, params: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        """Starts the campaign's run, or goes on in the one that is there, whatever state a killed process left it in.

        Args:
            params: flat or nested; logged once. A value that differs from the first one does not replace it (MLflow's
                parameters cannot change): the first stays, and the tag `t2t.changed_params` holds the new ones.
        Returns:
            the run's id.
        """
        return self.runs.start(None, self.runs.campaign, {"t2t.kind": "campaign"}, params, tags)

    def finished(self, k: int) -> bool:
        """Whether round k has a run that is finished and not deleted."""
        run = self.run_id(k)
        return run is not None and self.runs.client.get_run(run).info.status == "FINISHED"

    def start_round(self, k: int, params: Mapping[str, Any], tags: Mapping[str, Any]) -> str:
        """Starts the child run of round k, or goes on in it; a finished one stays finished. Parameters as in `open`."""
        identifying = {"t2t.kind": "round", "t2t.round": k, "mlflow.parentRunId": self.runs.need()}
        return self.runs.start(k, f"{self.runs.campaign}-round-{k}", identifying, params, tags)

    def log_inputs(self, k: int, inputs: Sequence[DataInput]) -> None:
        """Logs the lake commits that round k reads as dataset inputs; each (name, digest) once."""
        source = lake_source()
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        run = self.runs.need(k)
        if run not in self._inputs:
            inputs_before = [] if self.runs.is_new(run) else self.runs.client.get_run(run).inputs.dataset_inputs
            self._inputs[run] = {(i.dataset.name, i.dataset.digest) for i in inputs_before}
        there, wanted = set(self._inputs[run]), []
        for item in inputs:
            digest = item.digest[:DIGEST_LENGTH]  # the URI has all of it
            if (item.name, digest) not in there:
                there.add((item.name, digest))
                dataset = MetaDataset(source(item.uri), name=item.name, digest=digest)
                tags = [InputTag("mlflow.data.context", item.context), InputTag("t2t.uri", item.uri[:500])]
                wanted.append(DatasetInput(dataset._to_mlflow_entity(), tags))
        if wanted:

            def logged() -> bool | None:
                inputs = self.runs.client.get_run(run).inputs.dataset_inputs
                return there <= {(i.dataset.name, i.dataset.digest) for i in inputs} or None

            self.runs.client.make("log_inputs", run, wanted, look=logged)
            self._inputs[run] = there

    def log_curve(self, k: int | None, points: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Logs (step, values) points of round k, or of the campaign itself, in batches.

        NaN and infinite values are left out, and steps that a metric already has are not logged again: a resumed round
        repeats some.
        """
        self.runs.metrics(self.runs.need(k), points)

    def log_round(
        self,
        k: int,
        metrics: Mapping[str, float],
        figures: Mapping[str, Figure],
        tables: Mapping[str, pd.DataFrame],
    ) -> None:
        """Logs what round k came to: its metrics, pictures and tables on the child; the HEADLINE metrics (step k) and
        the table of rounds on the parent. On the child all have step 0, which MLflow draws as bars with their value;
        at any other step a single number would be a chart with one dot."""
        child, parent = self.runs.need(k), self.runs.need()
        self.runs.metrics(child, [(0, metrics)], self.runs.files(child, figures, tables))
        # Of all rounds: those that an older version logged have these under other names (`names.BEFORE`).
        runs = self.runs.rounds()
        points = [(int(run.data.tags["t2t.round"]), _headline(run)) for run in runs]
        self.runs.metrics(parent, points, self._summary(runs))

    def log_recipe(self, k: int, params: Mapping[str, Any]) -> None:
        """Parameters of round k that were known only once its rows were; the first ones stay."""
        run = self.runs.need(k)
        known = self.runs.client.get_run(run).data.params
        flat = {key: short(value, PARAM_LENGTH) for key, value in flatten(params)}
        self.runs.write(run, params={key: value for key, value in flat.items() if key not in known})

    def log_checkpoint(
        self, k: int, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, Any] | None = None
    ) -> str:
        """Stores a checkpoint's files as a LoggedModel of round k and registers it as a version of `t2t-<campaign>`.

        Known by its files' content: the same folder again gives the same model and version. This is
        `mlflow.initialize_logged_model`, `log_model_artifacts` and `finalize_logged_model` through the client, since
        the first one of these depends on the process's active experiment.

        Beside a student's files go those that let MLflow serve it (`t2t.serving`); they are no part of that content.

        Args:
            metrics: PR-AUC and the like, linked with the model.
            tags: for the model and its version, such as `t2t.commit`, the lake commit of this round, and
                `t2t.identity`, whom it answers as; `mlflow.note.content` is the description of both.
        Returns:
            the model's URI, `models:/<id>`.
        Raises:
            T2TError: `folder` has no files.
        """
        return self.models.log(k, folder, metrics, tags)

    def champion(self, k: int | None) -> None:
        """Moves the alias `champion` to round k's checkpoint and marks its run, and only its run; None takes alias and
        marks away, since no round that stands has passed.

        Where MLflow has no student of round k (somebody deleted it, and its files are gone), nobody has the alias.
        """
        run = None if k is None else self.runs.find(k)
        if not self.models.champion(k) and k is not None:
            log.warning("MLflow has no student of round %d, so no version is its champion; it is served by nobody.", k)
        for other in self.runs.rounds():
            if other.info.run_id != run and "t2t.champion" in other.data.tags:
                self.runs.delete_tag(other.info.run_id, "t2t.champion")
        if run is not None:
            self.runs.write(run, tags={"t2t.champion": "true"})
        summary = self._summary(self.runs.rounds())  # with the mark as it is now
        self.runs.write(self.runs.need(), tags={"t2t.champion_round": "none" if k is None else k, **summary})

    def finish_round(
        self, k: int, status: str = "FINISHED", tags: Mapping[str, Any] | None = None, seconds: float | None = None
    ) -> None:
        """Ends round k's run with FINISHED, FAILED or KILLED, or leaves it SCHEDULED while it waits for a person.

        `start_round` goes on in a run that has not finished; a finished one keeps its end. Its duration is `seconds`,
        of work, where they are known, and else without the pauses between processes. Where `tags` have the engine's
        `t2t.status` and `t2t.reason`, the run page's description says them too.
        """
        tags = dict(tags or {})
        if "t2t.status" in tags:
            tags["mlflow.note.content"] = f"Round {k}: **{tags['t2t.status']}**. {tags.get('t2t.reason', '')}".strip()
            if "t2t.stop" in tags:
                tags["mlflow.note.content"] += f"\n\nThe campaign stopped: {tags['t2t.stop']}."
        self.runs.finish(self.runs.need(k), status, tags, seconds=seconds)

    def discard_round(self, k: int) -> None:
        """Sets round k's run aside, marked as discarded, where there is one: the round begins again, and its points,
        which cannot be taken back, would stand in the way of the new ones."""
        run = self.run_id(k) if self.run_id() else None
        if run is not None:
            self.runs.finish(run, "KILLED", {"t2t.kind": "discarded", "t2t.status": "discarded"})
            self.runs.forget(k)

    def log_page(self, path: Path) -> bool:
        """Stores a page with the campaign's run, in the folder `report`; false where the campaign has no run."""
        try:
            run = self.run_id()
            if run is not None:
                self.runs.client.log_artifact(run, str(path), "report")
        except (T2TError, OSError) as error:
            raise T2TError(f"MLflow at {shown(self.uri)} does not take {path}: {error}") from None
        return run is not None

    def finish(self, status: str = "FINISHED", tags: Mapping[str, Any] | None = None) -> None:
        """Ends the campaign's run; does nothing where it was never opened, so that error handlers can call this."""
        run = self.run_id()
        if run is not None:
            rounds = self.runs.rounds()
            for child in rounds:
                if child.info.status == "RUNNING":
                    # Under way when the campaign failed, or of a round that was never ended.
                    self.runs.finish(child.info.run_id, "FAILED" if status == "FAILED" else "KILLED", {})
            # Of a process that was killed nothing else is known than what its rounds took.
            taken = sum(_seconds(child) for child in rounds)
            self.runs.finish(run, status, {**(tags or {}), **self._summary(rounds)}, at_least=taken)

    # Looking

    def ui_command(self) -> str:
        """The command line (or the address) with which a person looks at this store."""
        if self.runs.database:
            arguments, environment = server_command(self.runs.database)
            settings = [f"{name}={value}" for name, value in environment.items()]
            return shlex.join([*settings, *arguments])
        server = "python -m t2t.integrations.mlflow.server --host 127.0.0.1 --backend-store-uri"
        return self.url() or f"{server} {shown(self.uri)}"

    def url(self, k: int | None = None) -> str | None:
        """The web page of round k, or the chart with one line for each campaign; None where the store is no server."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        experiment = f"{shown(self.uri).rstrip('/')}/#/experiments/{self.runs.experiment}"
        run = None if k is None else self.runs.find(k)
        return experiment + CHART if run is None else f"{experiment}/runs/{run}{MODE}"

    def _summary(self, runs: Sequence[Any]) -> dict[str, str]:
        """Logs the table of rounds on the parent; returns the tags that are to be written with it, with a readable note
        (the run page's description)."""
        rows = _rows(runs)
        table = table_json(rows, ["round", "champion", *TABLE, "run_id"])
        listed = self.runs.files(self.runs.need(), {}, {"rounds": table})
        verdicts = [run.data.tags.get("t2t.status", "") for run in runs]
        stop = runs[-1].data.tags.get("t2t.stop") if runs else None
        description = note(self.runs.campaign, self.runs.dataset, rows, verdicts, stop)
        return {**listed, "mlflow.note.content": description}


def _metric(run: Any, name: str) -> float:
    """A run's metric, under today's name or the one that it had before; NaN where it has none."""
    found: Mapping[str, float] = run.data.metrics
    return found.get(name, found.get(names.BEFORE.get(name, name), float("nan")))


def _seconds(run: Any) -> float:
    """How long a round's run was at work; 0 where that is not known."""
    return max(0.0, (run.info.end_time - run.info.start_time) / 1000) if run.info.end_time else 0.0


def _headline(run: Any) -> dict[str, float]:
    return {name: _metric(run, name) for name in HEADLINE}


def _rows(runs: Sequence[Any]) -> list[dict[str, Any]]:
    rows = []
    for run in runs:
        tags = run.data.tags
        row: dict[str, Any] = {"round": int(tags["t2t.round"]), "champion": "t2t.champion" in tags}
        row |= {key: _metric(run, names.NAMES[key]) for key in TABLE}
        rows.append(row | {"status": run.info.status, "run_id": run.info.run_id})
    return rows
