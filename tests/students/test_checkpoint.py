"""Checkpoints: the same scores bit for bit, no pickle, and words instead of tracebacks for what is not one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import t2t
from t2t.core.errors import T2TError
from t2t.data.embeddings.config import PixelsConfig
from t2t.students.checkpoint import load, read_config, read_encoder, save
from t2t.students.dual_encoder import Student
from tests.helpers.students import TEACHERS, TOPICS, pretrained_folder, random_clips, tiny_config, tiny_student

CLIPS = random_clips([4, 1, 3])
EVERY = np.arange(len(CLIPS))


def shaken(student: Student, seed: int = 3) -> Student:
    """Other weights than any student starts with, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return student


def assert_same(first: Student, second: Student) -> None:
    state, other = first.state_dict(), second.state_dict()
    assert state.keys() == other.keys()
    for name, value in state.items():
        assert value.dtype == other[name].dtype
        assert torch.equal(value, other[name]), name
    for name in first.teachers:
        # Topics that the tokenizer was not fitted on as well.
        topics = [*TOPICS, "ninja warrior party", "naïve café"]
        np.testing.assert_array_equal(
            first.predict(CLIPS, EVERY, topics, name), second.predict(CLIPS, EVERY, topics, name)
        )


@pytest.mark.parametrize(
    "changes",
    [{}, {"frontend": {"whiten": 5, "variation": True}}, {"bias": -1.0, "scale": 3.0}, {"text": {"max_tokens": 2}}],
)
def test_a_student_comes_back_bit_for_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    student = shaken(tiny_student(tiny_config(**changes)))
    student.frontend.fit(CLIPS, EVERY)
    save(student, tmp_path / "student")
    loaded = t2t.load_student(tmp_path / "student", "cpu").student
    assert not loaded.training
    assert loaded.teachers == list(TEACHERS)
    assert loaded.config == student.config
    assert_same(student, loaded)


@pytest.mark.parametrize(("kind", "dtype"), [("bert", torch.float32), ("t5", torch.float32), ("bert", torch.bfloat16)])
def test_a_pretrained_tower_comes_back_without_its_source(kind: str, dtype: torch.dtype, tmp_path: Path) -> None:
    source = pretrained_folder(tmp_path / "hub", kind, dtype)
    student = shaken(tiny_student(tiny_config({"pretrained": str(source)})))
    save(student, tmp_path / "student")
    source.rename(tmp_path / "gone")
    assert_same(student, load(str(tmp_path / "student")))


@pytest.mark.parametrize("kind", [None, "bert", "t5"])
def test_the_same_weights_are_the_same_bytes(kind: str | None, tmp_path: Path) -> None:
    # A self-training teacher's fingerprint rests on them: a round that is done again must give the same teacher.
    config = tiny_config({"pretrained": str(pretrained_folder(tmp_path / "hub", kind))} if kind else None)
    student = shaken(tiny_student(config))
    contents = set()
    for i in range(6):
        folder = tmp_path / f"student-{i}"
        save(student, folder)
        contents.add((folder / "model.safetensors").read_bytes())
        student = load(folder)
    assert len(contents) == 1


def test_the_folder_holds_weights_json_and_nothing_that_is_executed(tmp_path: Path) -> None:
    save(tiny_student(), tmp_path / "student")
    assert [path.name for path in tmp_path.iterdir()] == ["student"]
    files = [path for path in (tmp_path / "student").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jinja"}
    assert (tmp_path / "student" / "model.safetensors") in files
    # A pickle starts with its protocol's opcode, a zip of PyTorch's with PK.
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"PK")]
    assert load_file(tmp_path / "student" / "model.safetensors")["identity.weight"].shape == (3, 16)


def test_further_facts_are_kept_and_the_frame_encoder_is_read_back(tmp_path: Path) -> None:
    encoder = PixelsConfig(frames=3)
    save(tiny_student(), tmp_path / "student", {"round": 2, "encoder": encoder.model_dump(mode="json")})
    assert read_config(tmp_path / "student")["round"] == 2
    assert read_encoder(tmp_path / "student") == encoder


def test_a_checkpoint_without_frame_encoder_says_so(tmp_path: Path) -> None:
    save(tiny_student(), tmp_path / "student")
    with pytest.raises(T2TError, match="no 'encoder'"):
        read_encoder(tmp_path / "student")


def test_saving_again_replaces_the_checkpoint(tmp_path: Path) -> None:
    save(tiny_student(), tmp_path / "student")
    (tmp_path / "student" / "stale.json").write_text("{}")
    second = shaken(tiny_student())
    save(second, tmp_path / "student")
    assert not (tmp_path / "student" / "stale.json").exists()
    assert_same(second, load(tmp_path / "student"))


def cut(fraction: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = folder / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[: int(len(content) * fraction)])

    return damage


def edit(**changes: Any) -> Callable[[Path], None]:
    """Sets keys of config.json; None removes one."""

    def damage(folder: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return damage


def without(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        if path.is_dir():
            path.rename(folder.parent / "elsewhere")
        else:
            path.unlink()

    return damage


def lose_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_head.weight"]
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut(0.5), "model.safetensors: weights cannot be read"),
        (cut(0.0001), "model.safetensors: weights cannot be read"),
        (cut(0), "model.safetensors: weights cannot be read"),
        (lose_a_tensor, "model.safetensors: weights cannot be read.*text_head.weight"),
        (without("model.safetensors"), "model.safetensors: weights cannot be read"),
        (without("config.json"), "not a checkpoint of a student"),
        (without("tokenizer"), "tokenizer"),
        (without("tokenizer/tokenizer.json"), "tokenizer"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a checkpoint of a student"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe"), "not a checkpoint of a student"),
        (lambda folder: (folder / "config.json").write_text("[]"), "another format"),
        (edit(format=2), "another format; this version reads format 1"),
        (edit(format=None), "another format"),
        (edit(student=None), "config.json: key 'student' is missing"),
        (edit(teachers=None), "config.json: key 'teachers' is missing"),
        (edit(input_dim=None), "config.json: key 'input_dim' is missing"),
        (edit(student={"dimm": 8}), "config.json: unknown key 'student.dimm'. Did you mean 'dim'"),
        (edit(teachers=["human"]), "model.safetensors: weights cannot be read"),
        (edit(input_dim=99), "model.safetensors: weights cannot be read"),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_words(damage: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    save(tiny_student(), folder)
    damage(folder)
    with pytest.raises(T2TError, match=f"(?s){words}"):
        load(folder)


def test_weights_with_a_header_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    save(tiny_student(), tmp_path)
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.write((90 << 20).to_bytes(8, "little") + b"{")
        file.seek(91 << 20)
        file.write(b"x")
    with pytest.raises(T2TError, match=r"weights cannot be read: a header of 94,371,840 bytes; 16,777,216 are the"):
        load(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(T2TError, match="nowhere: not a checkpoint of a student"):
        load(tmp_path / "nowhere")


def test_a_student_starts_from_another_one_with_identities_matched_by_name() -> None:
    previous = shaken(tiny_student(teachers=["human", "colour", "gone"]))
    fresh = tiny_student(teachers=["demo-self-0", "colour", "human"])
    own = fresh.identity.weight[0].clone()
    fresh.start_from(previous)
    for name in ("human", "colour"):
        np.testing.assert_array_equal(
            fresh.predict(CLIPS, EVERY, TOPICS, name), previous.predict(CLIPS, EVERY, TOPICS, name)
        )
    assert torch.equal(fresh.identity.weight[0], own)
    assert fresh.identity.weight.requires_grad
    # It is a copy: training one leaves the other.
    shaken(fresh, seed=4)
    assert not torch.equal(fresh.project.weight, previous.project.weight)


@pytest.mark.parametrize(
    "other", [{"config": tiny_config(dim=4)}, {"topics": ["something else", "entirely other words here"]}]
)
def test_a_student_does_not_start_from_one_of_another_shape(other: dict[str, Any]) -> None:
    with pytest.raises(T2TError, match="needs the same student and topics"):
        tiny_student().start_from(tiny_student(**other))
