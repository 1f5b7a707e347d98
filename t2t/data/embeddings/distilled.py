"""Encoders that were distilled here: folders `encoders/<name>` of the work folder, written once, read without torch.

`encoder.json` says what the weights beside it are, whom they learned from and by which settings; `model.safetensors`
loads in timm. The fingerprint is of both, so that another encoder's numbers are never taken for this one's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import Field

from t2t.core.config import Config, parse
from t2t.core.errors import T2TError, nearest, one_line
from t2t.core.files import atomic_folder, sha256, sha256_file
from t2t.core.workspace import Workspace
from t2t.data.embeddings.config import Crop, DistilledConfig, Interpolation

FOLDER, CARD, WEIGHTS = "encoders", "encoder.json", "model.safetensors"
SHA256 = r"^[0-9a-f]{64}$"
C = TypeVar("C")


class TeacherEncoder(Config):
    """An encoder that another one learned from; weights: the SHA-256 of the file they were read from, if any was."""

    name: str
    kind: str
    model: str
    fingerprint: str
    weights: str | None = None


class Network(Config):
    """A timm network as an encoder of frames. weights: SHA-256 of their file. dim: numbers of a frame. mean, std: of
    channels in 0..1."""

    model: str
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    size: int
    crop: Crop
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dim: int
    weights: str = Field(pattern=SHA256)


class EncoderCard(Network):
    """`encoder.json`: all that makes an encoder what it is, and where it comes from.

    frames: the key of the frames it was trained on, by their content, and how many they are.
    datasets: of each dataset that was looked at its fingerprint. settings: of the distillation, every key.
    """

    format: Literal[1] = 1
    name: str
    teachers: tuple[TeacherEncoder, ...]
    datasets: dict[str, str]
    frames: str
    frame_count: int
    settings: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, preprocessing, data, and the teachers' fingerprints. What is called how, and settings,
        which may name a machine's folders, are left out: what came of them is in it."""
        content = self.model_dump(mode="json", exclude={"name", "settings", "teachers"})
        teachers = [teacher.fingerprint for teacher in self.teachers]
        return sha256(json.dumps({**content, "teachers": teachers}, sort_keys=True))


def place_of(work: Path, name: str) -> Path:
    """The folder of a distilled encoder."""
    return work / FOLDER / name


def write_encoder(work: Path, card: EncoderCard, weights: Path) -> Path:
    """Writes an encoder's folder, whole or not at all; returns it. The same again writes the same bytes."""
    place_of(work, card.name).parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(place_of(work, card.name)) as folder:
        shutil.copyfile(weights, folder / WEIGHTS)
        if sha256_file(folder / WEIGHTS) != card.weights:
            raise T2TError(f"{weights}: not the weights that were trained (their SHA-256 differs): train them again.")
        content = {**card.model_dump(mode="json"), "fingerprint": card.fingerprint}
        (folder / CARD).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return place_of(work, card.name)


def read_card(folder: Path) -> EncoderCard:
    """What a folder's `encoder.json` says. Raises T2TError for none, and for one that somebody changed."""
    path = folder / CARD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise T2TError(f"{folder}: no distilled encoder (it has no {CARD}).") from None
    except (OSError, ValueError, RecursionError) as error:
        raise T2TError(f"{path}: cannot be read ({one_line(error, 100)}). Put the folder back from a copy.") from None
    if not isinstance(content, dict):
        raise T2TError(f"{path}: no description of an encoder. Put the folder back from a copy.")
    written = content.pop("fingerprint", None)
    card = parse(EncoderCard, content, path)
    if card.fingerprint != written:
        raise T2TError(f"{path}: not what was written (its fingerprint is another one). Put it back from a copy.")
    return card


def check_weights(folder: Path, card: EncoderCard) -> Path:
    """The file of an encoder's weights. Raises T2TError where it is missing or holds others."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise T2TError(f"{path}: no such file (weights of the encoder {card.name!r}). Put it back from a copy.")
    if sha256_file(path) != card.weights:
        raise T2TError(f"{path}: damaged (its SHA-256 is another one). Put it back from a copy.")
    return path


def find_encoder(config: DistilledConfig) -> tuple[Path, EncoderCard]:
    """The folder that a configuration means, and its card.

    Looked for where it says, else in the work folder that T2T_WORK names. Raises T2TError where there is none, or
    another one than the configuration's fingerprint says.
    """
    folder = Path(config.folder) if config.folder else place_of(Workspace.find().work, config.name)
    if not folder.is_dir():
        known = [path.parent.name for path in folder.parent.glob(f"*/{CARD}")]
        raise T2TError(
            f"{folder}: no such encoder.{nearest(config.name, known)} `t2t distill {config.name}` makes it, where "
            "registry/distillations/ has it; or copy its folder there."
        )
    card = read_card(folder)
    if config.fingerprint not in (None, card.fingerprint):
        raise T2TError(
            f"{folder}: another encoder (fingerprint {card.fingerprint[:12]}) than the one that is asked for "
            f"({str(config.fingerprint)[:12]}), so its numbers would mean something else. Put that one back, or take "
            "this one under another name of the campaign (--name)."
        )
    return folder, card


def located(config: C, work: Path) -> C:
    """A frame encoder's configuration as it is on this machine: a distilled one with its folder and its fingerprint,
    where it is there; any other as it is."""
    if not isinstance(config, DistilledConfig):
        return config
    folder = Path(config.folder) if config.folder else place_of(work, config.name)
    changes: dict[str, Any] = {"folder": str(folder)}
    if config.fingerprint is None:
        with suppress(T2TError):  # who needs it is told (`find_encoder`); others can do without
            changes["fingerprint"] = read_card(folder).fingerprint
    return cast(C, config.model_copy(update=changes))


def located_near(config: C, checkpoint: Path) -> C:
    """As `located`, for the encoder of a student's checkpoint: in the work folder that the checkpoint lies in."""
    if isinstance(config, DistilledConfig) and config.folder is None:
        for parent in checkpoint.absolute().parents:
            if (place_of(parent, config.name) / CARD).is_file():
                return located(config, parent)
    return config


def known_encoders(work: Path) -> Mapping[str, Path]:
    """The folders of all distilled encoders here, by name."""
    return {path.parent.name: path.parent for path in sorted((work / FOLDER).glob(f"*/{CARD}"))}
