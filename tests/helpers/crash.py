"""Kills campaigns and compares what they come to with a campaign that nobody disturbed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2t.campaign.ledger import Ledger
from t2t.core.files import sha256_file
from t2t.lake import Lake, open_lake
from tests.helpers.worlds import ROOT

SETTINGS = [
    "recipe=auto",  # scales, yardsticks and controls are killed, too
    "training.steps=24",
    "training.evaluate_every=8",
    "training.snapshot_steps=5",
    "rounds.max=2",
    "self_training.top_k=4",
    "self_training.random=4",
]
# What may differ between two runs that did the same: times, and ids that are drawn or come from times.
VOLATILE = {
    "seconds",
    "training/seconds",
    "run_id",
    "commit",
    "data_commit",
    "label_commits",
    "checkpoint",
    "code_version",
    "lake",
}


class Victims:
    """A server of victims (see victim.py). Use it as a context manager."""

    def __init__(self, show: dict[str, str] | None = None):
        hidden = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
        kept = {key: value for key, value in os.environ.items() if key not in hidden}
        settings = {**kept, **(show or {}), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.victim"],
            cwd=ROOT,
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def __enter__(self) -> Victims:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(30)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def run(self, place: Place, **order: Any) -> int:
        """Runs the campaign in `place`; returns its exit status, -9 when it was killed."""
        assert self.process.stdin
        print(json.dumps({**place.order(), **order}), file=self.process.stdin, flush=True)
        return int(self._answer()["status"])


@dataclass
class Place:
    """Where one campaign runs."""

    world: Path
    work: Path
    lake: str = "git"
    settings: list[str] = field(default_factory=lambda: list(SETTINGS))
    logs: Path | None = None  # where its log is written; beside `work` where None

    def order(self) -> dict[str, Any]:
        self.work.mkdir(parents=True, exist_ok=True)
        order = {"registry": str(self.world / "registry"), "data": str(self.world / "data"), "work": str(self.work)}
        return {**order, "settings": [*self.settings, f"lake={self.lake}"], "log": str(self.log)}

    @property
    def log(self) -> Path:
        return (self.logs or self.work.parent) / f"{self.work.name}.log"

    def open(self) -> Lake:
        return open_lake(self.lake, self.work)

    def remove(self) -> None:
        shutil.rmtree(self.work)
        self.log.unlink()


def outcome(place: Place, mlflow_uri: str | None = None) -> dict[str, Any]:
    """Everything a campaign came to, without what may differ: two campaigns that did the same have the same."""
    lake = place.open()
    ledger = Ledger(lake, "demo", "tiny")
    records = [_without(record.model_dump(mode="json")) for record in ledger.records()]
    head = lake.resolve("main")
    files = {}
    for entry in lake.list(head):
        if "/ledger/" in entry.path:
            continue
        content = entry.digest
        if entry.path.endswith(".json"):
            with lake.read(head, entry.path) as file:
                content = json.dumps(_without(json.load(file)), sort_keys=True)
        files[entry.path] = content
    keys = sorted(commit.key for commit in lake.log(head))
    campaign = place.work / "campaigns" / "tiny"
    return {
        "records": records,
        "files": files,
        "keys": [re.sub(r":[0-9a-f]{40,64}$", ":*", key) for key in keys],
        "weights": {
            path.parent.parent.name: sha256_file(path) for path in campaign.glob("round-*/student/model.safetensors")
        },
        "mlflow": history(mlflow_uri or f"sqlite:///{place.work / 'mlflow.db'}"),
        "left": leftovers(place.work),
    }


def _without(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without(value) for key, value in content.items() if key not in VOLATILE}
    return [_without(value) for value in content] if isinstance(content, list) else content


def leftovers(work: Path) -> list[str]:
    """What should not be there after a campaign's end: temporary files, staging folders, parts, snapshots."""
    found = [path for path in work.rglob("*") if re.search(r"\.tmp|staging", path.name)]
    found += [*work.rglob("training.safetensors"), *work.glob("labeling/*")]
    return sorted(str(path.relative_to(work)) for path in found)


def history(uri: str) -> dict[str, Any]:
    """MLflow's runs by name: state, parameters, every point of every metric, inputs, files; and the model registry."""
    import mlflow

    client = mlflow.MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("demo")
    found: dict[str, Any] = {"runs": {}}
    names = {}
    for run in client.search_runs([experiment.experiment_id]):
        names[run.info.run_id] = run.info.run_name
        points = {}
        for key in run.data.metrics:
            if key not in VOLATILE:
                # MLflow gives them in the order of their times, and clocks may go backwards.
                told = client.get_metric_history(run.info.run_id, key)
                points[key] = sorted((point.step, point.value) for point in told)
        tags = {key: value for key, value in run.data.tags.items() if key.startswith("t2t.") and "commit" not in key}
        tags = {key: value for key, value in tags.items() if key not in ("t2t.lake", "t2t.code_version")}
        content = {"status": run.info.status, "points": points, "tags": tags, "params": dict(run.data.params)}
        content["params"].pop("lake", None)
        content["inputs"] = sorted(entry.dataset.name for entry in run.inputs.dataset_inputs)
        content["files"] = sorted(_files(client, run.info.run_id, ""))
        outputs = run.outputs.model_outputs if run.outputs else []
        content["models"] = len(outputs)
        found["runs"].setdefault(run.info.run_name, []).append(content)
    models = client.search_logged_models([experiment.experiment_id])
    found["models"] = sorted((model.name, str(model.status)) for model in models)
    versions = client.search_model_versions("name = 't2t-tiny'")
    found["versions"] = sorted(names[version.run_id] for version in versions)
    champion = client.get_model_version_by_alias("t2t-tiny", "champion")
    found["champion"] = names[champion.run_id]
    return found


def _files(client: Any, run: str, folder: str) -> list[str]:
    found = []
    for file in client.list_artifacts(run, folder):
        found += _files(client, run, file.path) if file.is_dir else [file.path]
    return found


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Readable differences of two outcomes, by path."""
    if isinstance(expected, dict) and isinstance(found, dict):
        result = []
        for key in sorted({*expected, *found}, key=str):
            if key not in expected or key not in found:
                result.append(f"{where}/{key}: {'missing' if key in expected else 'too much'}")
            else:
                result += differences(expected[key], found[key], f"{where}/{key}")
        return result
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for i, pair in enumerate(zip(expected, found, strict=True))
            for line in differences(*pair, f"{where}[{i}]")
        ]
    return [] if expected == found else [f"{where}: {str(expected)[:200]} became {str(found)[:200]}"]
