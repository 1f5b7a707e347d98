"""Distillations of the registry: read as a whole, and refused within a moment, without torch, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign import encoders
from t2t.core.errors import T2TError
from t2t.distillation.entries import DistillationRun, check_distillation, read_distillation, remember
from t2t.lake import open_lake
from tests.helpers.distillations import SMALL, distillation_in
from tests.helpers.encoders import leave_encoder


def refused(world: Path, folder: Path, **changes: Any) -> str:
    workspace = distillation_in(world, folder, **changes)
    with pytest.raises(T2TError) as error:
        check_distillation(workspace, read_distillation(workspace, "small"))
    assert not workspace.work.exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_read_with_its_datasets_folder_and_changes(world: Path, tmp_path: Path) -> None:
    teachers = [{**SMALL["teachers"][0], "weights": "${data}/teachers/colour.safetensors"}]
    workspace = distillation_in(world, tmp_path, teachers=teachers)
    order = DistillationRun(distillation="small", name="other", settings=("training.steps=9", "drop.rate=0"))
    config = read_distillation(workspace, order)
    assert (config.name, config.training.steps, config.drop.rate) == ("other", 9, 0)
    assert config.teachers[0].weights == str(workspace.data / "demo" / "teachers" / "colour.safetensors")
    assert order.words == ("small", "--name", "other", "--set", "training.steps=9", "--set", "drop.rate=0")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "demos"}, "no such dataset. Did you mean 'demo'?"),
        ({"evaluation": {"datasets": ["dem"]}}, "no such dataset. Did you mean 'demo'?"),
        ({"splits": ["trian"]}, "splits: 'trian' is none. Did you mean 'train'?"),
        (
            {"student": {"model": "test_resnet", "weights": "/no/s.safetensors"}},
            "(weights that the student starts from)",
        ),
        (
            {"teachers": [{"name": "one", "kind": "timm", "model": "test_vit", "weights": "/no/w.safetensors"}]},
            "/no/w.safetensors: no such file (weights of teacher 'one').",
        ),
        ({"teachers": [{"name": "one", "kind": "transformers", "model": "/no/folder"}]}, "/no/folder: no such folder"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_done(
    world: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    assert said in refused(world, tmp_path, **changes)


def test_a_name_by_set_and_an_unknown_key_are_refused(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    for setting, said in (
        ("name=x", "another name is given by --name"),
        ("training.epoch=3", "unknown key 'training.epoch'. Did you mean 'epochs'?"),
        ("teachers=[]", "teachers: none is named"),
    ):
        with pytest.raises(T2TError) as error:
            read_distillation(workspace, DistillationRun(distillation="small", settings=(setting,)))
        assert said in str(error.value)


def test_one_that_has_begun_keeps_its_settings_but_for_those_that_may_change(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    remember(workspace, read_distillation(workspace, "small"))

    def again(*settings: str) -> None:
        order = DistillationRun(distillation="small", settings=settings)
        check_distillation(workspace, read_distillation(workspace, order))

    again("training.snapshot_steps=1", "training.threads=1", "description=other")
    with pytest.raises(T2TError, match=r"changed since: drop\.rate, training\.steps\. .* another name \(--name\)"):
        again("training.steps=9", "drop.rate=0.1")
    with pytest.raises(T2TError, match=r"has begun in the lake 'git', not in 'git:x'"):
        again("lake=git:x")


def test_a_name_that_another_encoder_has_is_refused(world: Path, tmp_path: Path) -> None:
    workspace = distillation_in(world, tmp_path)
    config = read_distillation(workspace, "small")
    card = leave_encoder(workspace.work)
    with pytest.raises(T2TError, match="an encoder of that name is here already"):
        check_distillation(workspace, config)
    encoders.register(open_lake("git", workspace.work), card)
    remember(workspace, config)
    with pytest.raises(T2TError, match="The lake has an encoder 'small' that was distilled with other settings"):
        check_distillation(workspace, config)


def test_checking_needs_no_torch() -> None:
    code = "import sys, t2t.distillation.entries, t2t.commands.distillations; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
