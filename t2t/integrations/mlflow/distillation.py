"""A distillation in MLflow: one run in its first dataset's experiment, with curves by teacher and token type, what the
encoder is worth, and its files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from t2t.commands.distillations import made_of
from t2t.commands.page.distillation import write_distillation_report
from t2t.core.host import observer_names
from t2t.distillation.distillation import Distillation
from t2t.distillation.entries import settled
from t2t.distillation.evaluation.table import as_markdown
from t2t.distillation.record import Evaluated, Prepared, Published, TrainedEncoder
from t2t.distillation.watcher import Watcher
from t2t.integrations.mlflow.names import LETTERS
from t2t.integrations.mlflow.runs import Runs

KIND = {"t2t.kind": "distillation"}


def open_watcher() -> Watcher:
    """MLflow's, where it is asked to watch here (T2T_OBSERVERS), else one that tells nobody."""
    return MLflowWatcher() if "mlflow" in observer_names() else Watcher()


class MLflowWatcher(Watcher):
    """Tells MLflow. Runs are found by tags and points by their steps, so that telling again changes nothing."""

    def __init__(self) -> None:
        self._runs: dict[str, Runs] = {}

    def ready(self, distillation: Distillation) -> None:
        self._of(distillation).write_mark()

    def opened(self, distillation: Distillation, prepared: Prepared) -> None:
        runs, config = self._of(distillation), distillation.config
        params: dict[str, Any] = {
            **settled(config),
            "frames": {**config.frames.model_dump(mode="json"), "count": prepared.frame_count, "key": prepared.frames},
            "samples": prepared.samples,
            "fingerprint": {teacher.name: teacher.fingerprint[:12] for teacher in prepared.teachers},
        }
        params["teachers"] = {teacher.name: f"{teacher.kind} {teacher.model}" for teacher in prepared.teachers}
        runs.start(None, config.name, KIND, params, {"mlflow.note.content": config.description or "A distillation."})

    def curve(self, distillation: Distillation, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        runs = self._of(distillation)
        runs.metrics(
            runs.need(), [(step, {named(key): value for key, value in numbers.items()}) for step, numbers in points]
        )

    def failed(self, distillation: Distillation) -> None:
        runs = self._of(distillation)
        if (run := runs.find()) is not None:
            runs.finish(run, "FAILED", {})

    def published(
        self, distillation: Distillation, trained: TrainedEncoder, evaluated: Evaluated, published: Published
    ) -> None:
        runs, card = self._of(distillation), published.card
        run = runs.need()
        numbers = {"frames per second": trained.frames_per_second, "training seconds": trained.seconds}
        if evaluated.table is not None:
            numbers |= {f"student on test/{named(key)}": value for key, value in evaluated.table.metrics().items()}
        runs.replace_metrics(run, numbers)
        for path in sorted(distillation.place.iterdir()):
            runs.client.log_artifact(run, str(path), "encoder")
        lines = [
            f"Encoder **{card.name}** (`{card.model}`, {card.dim} numbers a frame), fingerprint "
            f"`{published.fingerprint[:12]}`, distilled of:",
            *(f"- {one.name}: {one.kind} {one.model}, `{one.fingerprint[:12]}`" for one in card.teachers),
            f"\nUse it in a campaign: `encoder: {{kind: distilled, name: {card.name}}}`",
        ]
        if evaluated.table is not None:
            lines.append(as_markdown(evaluated.table))
            report = write_distillation_report(
                distillation.workspace, card.name, evaluated.table, facts=made_of(published.card)
            )
            for path in report.files:
                runs.client.log_artifact(run, str(path), "report")
        tags = {"t2t.encoder": card.name, "t2t.fingerprint": published.fingerprint, "t2t.lake_commit": published.commit}
        runs.finish(run, "FINISHED", {**tags, "mlflow.note.content": "\n".join(lines)})

    def _of(self, distillation: Distillation) -> Runs:
        name = distillation.name
        if name not in self._runs:
            place = distillation.workspace.work, distillation.config.datasets[0]
            self._runs[name] = Runs(None, *place, name, owner="distillation")
        return self._runs[name]


def named(key: str) -> str:
    """A number's name in MLflow's letters; the slash makes sections."""
    return re.sub(r"/+", "/", "/".join(LETTERS.sub(" ", part).strip() for part in key.split("/")))
