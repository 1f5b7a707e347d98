"""Checkpoints: safetensors weights, config.json and the tokenizer. No pickle, nothing fetched on loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file
from torch import Tensor

from t2t.config import Config, parse
from t2t.errors import T2TError, one_line
from t2t.files import atomic_folder, sha256_file
from t2t.media.encoders import EncoderConfig
from t2t.students.dual_encoder import DualEncoderConfig, Student, text_encoder_from_config

FORMAT = 1
# Frame embeddings have some thousand numbers; a config.json that says otherwise must not ask for terabytes.
MOST_DIMENSIONS = 1 << 20


class _EncoderOnly(Config):
    encoder: EncoderConfig


class _Saved(BaseModel):
    """What loading needs of config.json; its other keys are facts for whoever reads it."""

    student: DualEncoderConfig
    input_dim: int = Field(ge=1, le=MOST_DIMENSIONS)
    teachers: list[str] = Field(min_length=1)
    text_encoder: dict[str, Any] | None = None

    @field_validator("teachers")
    @classmethod
    def _distinct(cls, teachers: list[str]) -> list[str]:
        if len(set(teachers)) < len(teachers):
            raise ValueError("an identity stands twice")
        return teachers


def save(student: Student, folder: Path, extra: dict[str, Any]) -> None:
    """Writes a checkpoint folder atomically.

    Args:
        extra: further facts for config.json, such as the frame encoder's configuration, campaign and round.
    """
    config = {
        "format": FORMAT,
        "student": student.config.model_dump(mode="json"),
        "input_dim": student.input_dim,
        "teachers": student.teachers,
        **extra,
    }
    if student.config.text.pretrained is not None:
        config["text_encoder"] = student.text_encoder.config.to_dict()
    with atomic_folder(folder) as temporary:
        save_file(_weights(student), temporary / "model.safetensors")
        (temporary / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        student.tokenizer.save_pretrained(temporary / "tokenizer")


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises T2TError when the folder holds none or one of another format."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise T2TError(f"{folder}: not a checkpoint of a student ({one_line(error)}).") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise T2TError(f"{folder}: a checkpoint of another format; this version reads format {FORMAT}.")
    return config


def read_encoder(folder: Path) -> EncoderConfig:
    """The frame encoder whose embeddings the student was trained on."""
    path = folder / "config.json"
    config = read_config(folder)
    if "encoder" not in config:
        raise T2TError(f"{path}: no 'encoder', so this student can score ready embeddings only.")
    return parse(_EncoderOnly, {"encoder": config["encoder"]}, path).encoder


def load(folder: Path, device: str = "cpu") -> Student:
    """Reads a checkpoint. Raises T2TError when it is not one, or is truncated."""
    from transformers import AutoTokenizer

    config = parse(_Saved, read_config(folder), folder / "config.json")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True, trust_remote_code=False)
    except Exception as error:  # Its parsers raise whatever a broken file leads them to.
        raise T2TError(f"{folder / 'tokenizer'}: the tokenizer cannot be read: {_told(error)}") from None
    try:
        encoder = text_encoder_from_config(config.text_encoder) if config.text_encoder is not None else None
    except Exception as error:
        raise T2TError(f"{folder / 'config.json'}: no text encoder can be made of it: {_told(error)}") from None
    student = Student(config.student, config.input_dim, tokenizer, config.teachers, encoder)
    try:
        load_model(student, str(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise T2TError(f"{folder / 'model.safetensors'}: weights cannot be read: {_told(error)}") from None
    return student.to(device).eval()


def _told(error: Exception) -> str:
    text = one_line(error).rstrip(".")
    # A KeyError's own words are the key.
    return f"{type(error).__name__} {text}." if isinstance(error, LookupError | AttributeError) else f"{text}."


def load_checked(folder: Path, weights_sha256: str, device: str = "cpu") -> Student:
    """`load`, for a checkpoint whose weights are known. Raises T2TError where the file holds others."""
    path = folder / "model.safetensors"
    if path.is_file() and sha256_file(path) != weights_sha256:
        raise T2TError(f"{path}: not the weights that the round left (their SHA-256 differs): the file was damaged.")
    return load(folder, device)


def _weights(student: Student) -> dict[str, Tensor]:
    """The state, each tensor under one name (a T5 encoder's word embeddings have two).

    safetensors' own `save_model` notes the second names in the file in a random order, so that the same weights would
    have another SHA-256, and a self-training teacher another fingerprint, each time they are saved.
    """
    names = {name for name, _ in student.named_parameters(remove_duplicate=False)}
    second = names - {name for name, _ in student.named_parameters()}
    return {name: value.contiguous() for name, value in student.state_dict().items() if name not in second}


@torch.no_grad()
def start_from(student: Student, previous: Student) -> None:
    """Copies another student's weights into a new one; identities are matched by name, new ones keep their start.

    Raises T2TError when the two differ in shape.
    """
    rows = {teacher: i for i, teacher in enumerate(previous.teachers)}
    state = previous.state_dict()
    identity = student.identity.weight.clone()
    for i, teacher in enumerate(student.teachers):
        if teacher in rows:
            identity[i] = state["identity.weight"][rows[teacher]]
    state["identity.weight"] = identity
    try:
        student.load_state_dict(state)
    except RuntimeError as error:
        raise T2TError(
            f"`initialise: previous` needs the same student and topics as the round before: {_told(error)}"
        ) from None
