"""What a plan says of a student's size, and what is refused before anything is done: presets, folders, memory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from t2t.campaign import preflight as before_a_run
from t2t.campaign.config import CampaignConfig
from t2t.campaign.preflight import check_student, least_footprint, preflight, tell_refusal
from t2t.commands.plan import estimate
from t2t.commands.plan.estimate import plan
from t2t.commands.plan.show import plan_json, print_plan
from t2t.commands.tables import console
from t2t.core import host
from t2t.core.config import parse
from t2t.core.errors import T2TError
from t2t.core.workspace import Workspace
from t2t.students.config import DualEncoderConfig
from t2t.students.presets import PRESETS
from tests.helpers.campaigns import tiny, tiny_at
from tests.helpers.documented import refused
from tests.helpers.students import pretrained_folder


def with_student(student: dict[str, Any], **changes: Any) -> CampaignConfig:
    content = {"name": "c", "dataset": "demo", "encoder": {"kind": "pixels"}, "teachers": ["vendor"], **changes}
    return parse(CampaignConfig, {**content, "student": student}, "test")


def test_a_preset_is_its_keys_and_those_given_go_before(tmp_path: Path) -> None:
    config = with_student({"preset": "student-150m"})
    plain = with_student(PRESETS["student-150m"])
    assert config == plain
    # What is frozen with a campaign, and hashed, are the keys.
    assert config.model_dump_json() == plain.model_dump_json()
    assert "preset" not in config.model_dump_json()
    assert json.loads(config.model_dump_json())["student"] == PRESETS["student-150m"]
    own = with_student({"preset": "student-300m", "dim": 32, "text": {"pretrained": "/models/mt5", "freeze": True}})
    assert own.student.text.pretrained == "/models/mt5"
    assert (own.student.dim, own.student.sample.d_model, own.student.text.freeze) == (32, 1024, True)
    assert DualEncoderConfig.model_validate({"preset": None}) == DualEncoderConfig()
    with pytest.raises(T2TError, match=r"student\.(dual-encoder\.)?preset.*student-150m"):
        with_student({"preset": "student-1b"})
    with pytest.raises(T2TError, match="preset"):
        with_student({"kind": "multi-head", "preset": "student-150m"})


def test_an_encoder_that_is_nowhere_is_refused_at_once(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("t2t.data.embeddings.hub._unreachable", lambda: "no route to it")
    made = tiny(world, tmp_path / "work")
    for student, said in (
        ({"preset": "student-150m"}, "'google/t5-v1_1-base' cannot be read: no such folder, and the hub cannot"),
        (
            {"text": {"pretrained": "/nowhere"}},
            "'/nowhere' cannot be read: no such folder. Give one as save_pretrained",
        ),
        ({"text": {"pretrained": str(tmp_path)}}, "it has no config.json"),
    ):
        config = made.config.model_copy(update={"student": with_student(student).student})
        began = time.process_time()
        assert said in refused(lambda config=config: preflight(made.workspace, config))  # type: ignore[misc]
        assert time.process_time() - began < 2
        tell_refusal(made.workspace, config)
        assert said in caplog.records[-1].getMessage()
    folder = pretrained_folder(tmp_path / "hub", "t5")
    check_student(with_student({"text": {"pretrained": str(folder)}}))


def test_weights_that_no_memory_here_holds_are_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_student({"sample": {"layers": 8, "d_model": 2048, "heads": 16, "d_ff": 8192}})
    least = least_footprint(config)
    assert least is not None
    # Weights, gradients, two of AdamW's, the moving average, and the best step's with those before it; and what AdamW
    # makes of its largest matrix.
    assert least.needed == 28 * least.total + 8 * 2048 * 8192
    for memory, gpu, fits in ((least.needed, False, True), (least.needed - 1, False, False), (1, True, True)):
        monkeypatch.setattr(before_a_run, "machine_memory", lambda memory=memory: memory)
        monkeypatch.setattr(before_a_run, "has_gpu", lambda gpu=gpu: gpu)
        if fits:
            check_student(config)
        else:
            assert f"A student of {least.total:,} weights takes" in refused(lambda: check_student(config))
    # Elsewhere there may be more.
    check_student(config.model_copy(update={"engine": "ray"}))


def test_a_container_has_the_memory_that_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = host.machine_memory()
    assert whole > 1 << 28
    limit, none = tmp_path / "memory.max", tmp_path / "none"
    limit.write_text("123456789\n")
    none.write_text("max\n")
    monkeypatch.setattr(host, "CONTAINER_LIMITS", (str(none), str(limit), str(tmp_path / "missing")))
    assert host.machine_memory() == 123456789


def test_a_plan_says_what_the_student_weighs_and_whether_it_fits(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretrained_folder(tmp_path / "hub", "t5")
    place = Workspace.find(world / "registry", world / "data", tmp_path / "work")
    student = {"preset": "student-150m", "text": {"pretrained": str(folder)}}
    made = tiny_at(place, student=student, recipe="auto")
    found = plan(made.workspace, made.config, probe=False)
    assert found.student is not None
    assert found.student.where == "this machine"
    assert found.student.fits
    assert found.student.weights["sample tower"] > 42_000_000
    # The tower from elsewhere is frozen by the recipe.
    assert found.student.total - found.student.trained > 1000
    assert found.student.bytes["optimizer"] == 8 * (found.student.trained + 768 * 2048)
    # So are checkpoints known that nobody has made yet.
    assert found.bytes["checkpoints"] == 2 * len(found.rounds) * found.student.bytes["weights"]
    content = plan_json(found)["student"]
    assert content["needed"] == sum(content["bytes"].values())
    assert content["fits"]
    with console.capture() as capture:
        print_plan(found)
    text = " ".join(capture.get().split())
    assert f"Student: {found.student.total:,} weights" in text
    assert f"{found.student.trained:,} of them trained" in text
    assert "does not fit" not in text
    # One that does not fit is not tried: that could end the process.
    monkeypatch.setattr("t2t.commands.plan.memory.machine_memory", lambda: 1 << 20)

    def never(*_: object) -> None:
        raise AssertionError("tried")

    monkeypatch.setattr(estimate, "try_rounds", never)
    large = plan(made.workspace, made.config)
    with console.capture() as capture:
        print_plan(large)
    assert "That does not fit." in " ".join(capture.get().split())
    assert large.unmeasured


@pytest.mark.parametrize("kind", ["multi-head", "encoder-only"])
def test_a_plan_of_another_kind_says_its_shape_and_what_becomes_of_unseen_topics(
    world: Path, tmp_path: Path, kind: str
) -> None:
    made = tiny(world, tmp_path / "work", student={"kind": kind}, recipe="auto")
    assert made.dataset.unseen
    found = plan(made.workspace, made.config, probe=False)
    assert found.student is not None
    assert ("topics" in found.student.weights) == (kind == "multi-head")
    [chosen] = [choice.value for choice in found.recipe if choice.setting == "student"]
    assert chosen == ("2 layers over frames" if kind == "multi-head" else "1 layers that read topic and frames")
    notes = " ".join(found.notes)
    assert ("reads no texts" in notes) == (kind == "multi-head")
    assert ("scored at chance" in notes) == (kind == "encoder-only")
