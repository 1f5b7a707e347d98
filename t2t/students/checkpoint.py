"""Checkpoints: safetensors weights, config.json and the tokenizer. No pickle, nothing fetched on loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file
from torch import Tensor, nn

from t2t.core.config import Config, parse
from t2t.core.errors import T2TError, one_line, told
from t2t.core.files import atomic_folder, link_or_copy, sha256_file
from t2t.core.sums import SUMS, damaged, write_sums
from t2t.data.embeddings.config import EncoderConfig
from t2t.data.embeddings.distilled import located_near
from t2t.data.embeddings.weights import large_header
from t2t.students import kind_of
from t2t.students.config import ENCODER, StudentConfig
from t2t.students.tokenizers import read_tokenizer

FORMAT = 1
# Frame embeddings have some thousand numbers; a config.json that says otherwise must not ask for terabytes.
MOST_DIMENSIONS = 1 << 20


class _EncoderOnly(Config):
    encoder: EncoderConfig


class _Saved(BaseModel):
    """What loading needs of config.json; its other keys are facts for whoever reads it."""

    student: StudentConfig
    input_dim: int = Field(ge=1, le=MOST_DIMENSIONS)
    teachers: list[str] = Field(min_length=1)

    @field_validator("teachers")
    @classmethod
    def _distinct(cls, teachers: list[str]) -> list[str]:
        if len(set(teachers)) < len(teachers):
            raise ValueError("an identity stands twice")
        return teachers


def save(
    student: Any, folder: str | Path, extra: dict[str, Any] | None = None, encoder_weights: Path | None = None
) -> None:
    """Writes a checkpoint folder atomically.

    Args:
        extra: further facts for config.json, such as the frame encoder's configuration, campaign and round.
        encoder_weights: a file that the checkpoint carries, and its encoder's configuration then names.
    """
    with atomic_folder(folder) as temporary:
        save_file(_weights(student), temporary / "model.safetensors")
        saved = student.saved
        first = {name: saved[name] for name in ("student", "input_dim", "teachers")}
        config = {"format": FORMAT, **first, **(extra or {}), **saved}
        if encoder_weights is not None:
            link_or_copy(encoder_weights, temporary / ENCODER)
            config["encoder"] = {**config["encoder"], "weights": ENCODER}
        (temporary / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        student.tokenizer.save_pretrained(temporary / "tokenizer")
        write_sums(temporary)


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json. Raises T2TError when the folder holds none or one of another format."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise T2TError(
            f"{folder}: not a checkpoint of a student (it has no config.json). Name a round's folder `student`, such "
            "as work/campaigns/demo/round-000/student."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise T2TError(f"{folder}: not a checkpoint of a student ({one_line(error)}).") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise T2TError(f"{folder}: a checkpoint of another format; this version reads format {FORMAT}.")
    return config


def read_student(folder: Path) -> Any:
    """A saved student's configuration, of its kind. Raises T2TError when the folder holds none."""
    return parse(_Saved, read_config(folder), folder / "config.json").student


def read_encoder(folder: Path) -> EncoderConfig:
    """The frame encoder whose embeddings the student was trained on."""
    path = folder / "config.json"
    config = read_config(folder)
    if "encoder" not in config:
        raise T2TError(f"{path}: no 'encoder', so this student can score ready embeddings only.")
    encoder = parse(_EncoderOnly, {"encoder": config["encoder"]}, path).encoder
    if (weights := carried(folder)) is not None:
        return encoder.model_copy(update={"weights": str(weights)})
    return located_near(encoder, folder)


def carried(folder: Path) -> Path | None:
    """The weights of the frame encoder that a checkpoint carries; None where it does not, or they are lost."""
    encoder = read_config(folder).get("encoder")
    names_it = isinstance(encoder, dict) and encoder.get("weights") == ENCODER
    path = folder.absolute() / ENCODER
    return path if names_it and path.is_file() else None


def load(folder: str | Path, device: str = "cpu") -> Any:
    """A saved student, giving the same scores bit for bit. Raises T2TError when it is not one, or is truncated."""
    folder = Path(folder)
    content = read_config(folder)
    saved = parse(_Saved, content, folder / "config.json")
    tokenizer = read_tokenizer(folder / "tokenizer", local_files_only=True)
    student = kind_of(saved.student).restore(content, tokenizer, saved.student, folder / "config.json")
    try:
        if fault := large_header(folder / "model.safetensors"):
            raise T2TError(f"{folder / 'model.safetensors'}: weights cannot be read: {fault}.")
        load_model(student, str(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise T2TError(f"{folder / 'model.safetensors'}: weights cannot be read: {told(error)}") from None
    # What is plainly wrong has been said by now; what is left would pass in silence.
    if (problem := damaged(folder)) is not None:
        raise T2TError(
            f"{folder}: damaged ({problem}). Put the checkpoint back from MLflow or another copy; where its round is "
            f"not done, delete the folder: it is trained again. If you changed a file yourself, delete {SUMS} there."
        )
    try:
        return student.to(device).eval()
    except (RuntimeError, AssertionError) as error:  # what torch says of a device that is not here
        raise T2TError(f"The device {device!r} cannot be used: {told(error)}") from None


def load_checked(folder: Path, weights_sha256: str, device: str = "cpu") -> Any:
    """`load`, for a checkpoint whose weights are known. Raises T2TError where the file holds others."""
    check_weights(folder, weights_sha256)
    return load(folder, device)


def check_weights(folder: Path, weights_sha256: str) -> None:
    """Raises T2TError where a checkpoint's file holds other weights than these."""
    path = folder / "model.safetensors"
    if path.is_file() and sha256_file(path) != weights_sha256:
        raise T2TError(f"{path}: not the weights that the round left (their SHA-256 differs): the file was damaged.")


def _weights(student: nn.Module) -> dict[str, Tensor]:
    """The state, each tensor under one name (a T5 encoder's word embeddings have two).

    safetensors' own `save_model` notes the second names in the file in a random order, so that the same weights would
    have another SHA-256, and a self-training teacher another fingerprint, each time they are saved.
    """
    names = {name for name, _ in student.named_parameters(remove_duplicate=False)}
    second = names - {name for name, _ in student.named_parameters()}
    return {name: value.contiguous() for name, value in student.state_dict().items() if name not in second}
