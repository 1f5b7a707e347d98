"""`t2t run` on a finished campaign: nothing is loaded where nothing has changed, and whatever has changed is seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from t2t.campaign.campaign import Campaign
from t2t.core.locks import Busy, Exclusive
from t2t.core.workspace import Workspace
from t2t.integrations import finished
from t2t.integrations.finished import inputs, note_finished, run_finished
from t2t.lake.git import GitLake
from t2t.lake.layout import DatasetLayout
from t2t.teachers.retraction import retract
from tests.helpers.campaigns import run
from tests.helpers.worlds import command

# Runs the command line, and says which of the heavy libraries it loaded.
LOADED = """
import sys
from t2t.cli import main
try:
    main()
finally:
    heavy = {"torch", "transformers", "mlflow", "prefect", "timm", "sklearn"}
    print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def ended(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with registry, data and work of the finished campaign `tiny`, with the teacher `vendor`. Read only."""
    folder = tmp_path_factory.mktemp("ended")
    for name in ("registry", "data"):
        shutil.copytree(world / name, folder / name)
    file = folder / "registry" / "campaigns" / "tiny.yaml"
    content = {**yaml.safe_load(file.read_text()), "teachers": ["vendor"], "rounds": {"max": 1}}
    content["training"] = {"steps": 4, "batch_rows": 256, "evaluate_every": 2}
    file.write_text(yaml.safe_dump(content))
    run(Campaign.open("tiny", Workspace(folder / "registry", folder / "data", folder / "work")))
    return folder


@pytest.fixture
def place(ended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of it, with its note."""
    monkeypatch.setenv("T2T_OBSERVERS", "")
    monkeypatch.setattr(finished, "TICK", 0)
    for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copytree(ended, tmp_path / "own")
    own = tmp_path / "own"
    workspace = Workspace(own / "registry", own / "data", own / "work")
    campaign = Campaign.open("tiny", workspace)
    note(campaign)
    assert run_finished(workspace, campaign.config)
    return workspace


def note(campaign: Campaign) -> None:
    given = (campaign.workspace, campaign.config, campaign.dataset, campaign.lake)
    note_finished(*given, inputs(*given))


def is_known(place: Workspace, *settings: str) -> bool:
    return run_finished(place, Campaign.open("tiny", place, settings=settings).config)


def _in_registry(place: Workspace) -> None:
    file = place.registry / "campaigns" / "tiny.yaml"
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**content, "teachers": ["vendor", "colour-expert"]}))


def _in_labels(place: Workspace) -> None:
    file = place.data / "demo" / "teachers" / "vendor.csv"
    text = file.read_text()
    times = file.stat()
    file.write_text(text.replace("0.", "1.", 1).replace("1.", "0.", 1))  # as long as before, and as old
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def _in_annotations(place: Workspace) -> None:
    file = place.data / "demo" / "annotations.csv"
    file.write_text(file.read_text().replace("1.0", "0.0", 1))


def _a_clip(place: Workspace) -> None:
    next((place.data / "demo" / "clips").iterdir()).write_bytes(b"another")


def _embeddings(place: Workspace) -> None:
    next(place.work.glob("embeddings/*/*.safetensors")).unlink()


def _retraction(place: Workspace) -> None:
    retract(GitLake(place.work / "lake.git"), "demo", "vendor")


def _variable(place: Workspace) -> None:
    os.environ["T2T_WEIGHTS"] = str(place.work)


@pytest.mark.parametrize(
    "change", [_in_registry, _in_labels, _in_annotations, _a_clip, _embeddings, _retraction, _variable]
)
def test_whatever_has_changed_is_looked_at(
    place: Workspace, change: Callable[[Workspace], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T2T_WEIGHTS", "/nowhere")
    note(Campaign.open("tiny", place))
    assert is_known(place)
    change(place)
    assert not is_known(place)


def test_other_settings_and_servers_are_looked_at(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_known(place, "rounds.max=2")
    assert not is_known(place, "evaluation.precision=0.5")
    monkeypatch.setenv("T2T_OBSERVERS", "mlflow")
    assert not is_known(place)
    monkeypatch.setenv("T2T_OBSERVERS", "")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert not is_known(place)


def test_what_changed_while_it_ran_is_not_noted(place: Workspace) -> None:
    campaign = Campaign.open("tiny", place)
    given = (place, campaign.config, campaign.dataset, campaign.lake)
    before = inputs(*given)
    _a_clip(place)
    note_finished(*given, before)
    assert not is_known(place)


def test_another_process_at_work_is_named(place: Workspace) -> None:
    code = "import sys, time; from t2t.core.locks import Exclusive\n"
    code += "with Exclusive(sys.argv[1], 'x'): print(1, flush=True); time.sleep(60)"
    lock = place.work / "campaigns" / "tiny" / "run.lock"
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            with pytest.raises(Busy, match="is being run by process"):
                is_known(place)
        finally:
            other.kill()
    with Exclusive(lock, "x"):
        pass


def test_a_run_with_nothing_to_do_loads_none_of_the_libraries_and_says_the_same(place: Workspace) -> None:
    def t2t() -> tuple[str, str]:
        line, environment = command(place.registry.parent, place.work, "run", "tiny")
        line[1:3] = ["-c", LOADED]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr.splitlines()[-1]

    (place.work / "campaigns" / "tiny" / "finished.json").unlink()
    whole, loaded = t2t()
    assert "torch" in loaded
    quick, loaded = t2t()
    assert loaded == "[]"
    assert quick == whole

    _in_registry(place)
    _, loaded = t2t()
    assert "torch" in loaded
    labels = DatasetLayout("demo").teacher("colour-expert").labels
    assert [entry.path for entry in GitLake(place.work / "lake.git").list("main", labels)] == [labels]
