"""Checkpoints of transformers, from a folder or the hub: safetensors and nothing else, no code of theirs runs."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def find_checkpoint(written: str, data: Path, teacher: str) -> str:
    """The folder of a checkpoint, absolute, or its name on the hub as it is written.

    A relative folder begins in the dataset's. Raises T2TError for what is neither, and for a folder that lacks a
    configuration or safetensors.
    """
    folder = Path(written) if Path(written).is_absolute() else data / written
    if not folder.is_dir():
        if Path(written).is_absolute() or not HUB_NAME.fullmatch(written):
            made = " `t2t demo` makes it." if data.name == "demo" else ""
            raise T2TError(f"{folder}: no such folder (checkpoint of teacher {teacher!r}).{made}")
        return written
    if not (folder / "config.json").is_file():
        raise T2TError(f"{folder}: no config.json in it (teacher {teacher!r}); save_pretrained writes it.")
    if not any(folder.glob("*.safetensors")):
        raise T2TError(
            f"{folder}: no safetensors in it (teacher {teacher!r}). Pickled weights may run code and are not opened: "
            "load them where you trust them, and save them by save_pretrained, which writes safetensors."
        )
    return str(folder)


def model_type_of(checkpoint: str) -> str | None:
    """The model type that a folder's config.json names; None for a name on the hub. Raises T2TError."""
    file = Path(checkpoint) / "config.json"
    if not file.is_file():
        return None
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["model_type"])
    except (ValueError, KeyError, TypeError, OSError):
        raise T2TError(f"{file}: no JSON with a model_type; save_pretrained writes it.") from None


def load_checkpoint(loader: Any, checkpoint: str, revision: str | None, what: str, **options: Any) -> Any:
    """What `loader.from_pretrained` makes of a checkpoint. Raises T2TError with the reason, in one line."""
    options |= {"local_files_only": True} if Path(checkpoint).is_dir() else _from_hub(checkpoint, revision)
    try:
        with quiet():
            return loader.from_pretrained(checkpoint, trust_remote_code=False, **options)
    except Exception as error:  # transformers raises many kinds: OSError, KeyError, SafetensorError
        raise T2TError(f"{checkpoint}: {what} cannot be loaded: {one_line(error).rstrip('.')}.") from None


def _from_hub(name: str, revision: str | None) -> dict[str, Any]:
    """Options for a name on the hub. Where it cannot be reached, what was fetched before is taken, and refused at once
    where that is nothing: the hub's own client would try again for most of a minute."""
    from huggingface_hub import try_to_load_from_cache

    fault = _unreachable()
    if fault and not isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
        raise T2TError(
            f"{name}: no such folder in the dataset's, and the hub cannot be reached ({fault}). Give a folder as "
            "save_pretrained writes it."
        )
    return {"revision": revision, "local_files_only": bool(fault)}


@cache
def _unreachable() -> str:
    """Why the hub cannot be reached, tried once; empty where it can, or where a proxy may."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    place = urlsplit(constants.ENDPOINT)
    if getproxies():
        return ""
    try:
        socket.create_connection((place.hostname or "", place.port or 443), timeout=2).close()
    except OSError as error:
        return one_line(error)
    return ""


def load_model(loader: Any, checkpoint: str, revision: str | None, known: Collection[str], **options: Any) -> Any:
    """A model in evaluation mode, all of whose weights are the checkpoint's.

    Raises T2TError for a model type that is not in `known`, and where transformers would fill up missing weights with
    random ones.
    """
    from transformers import AutoConfig

    config = load_checkpoint(AutoConfig, checkpoint, revision, "its configuration")
    if config.model_type not in known:
        raise T2TError(
            f"{checkpoint}: model type {config.model_type!r} is none that can be asked so. Known: "
            f"{', '.join(sorted(known))}."
        )
    options |= {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": False}
    model, loaded = load_checkpoint(loader, checkpoint, revision, "its model", **options)
    if missing := sorted(str(key) for key in loaded["missing_keys"]):
        raise T2TError(
            f"{checkpoint}: {len(missing)} of the model's tensors are not in its files ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}), and random ones would take their place. It is a checkpoint of "
            "another model, or a part of one."
        )
    return model.eval().requires_grad_(False)


def refuse_empty(checkpoint: str, tokenizer: Any) -> None:
    """Refuses the tokenizer without a word that transformers makes where a tokenizer's files are missing."""
    if len(tokenizer) - len(tokenizer.all_special_ids) < 2:
        raise T2TError(
            f"{checkpoint}: its tokenizer has no words: its files, such as tokenizer.json, are missing. Save the "
            "tokenizer into the same folder by save_pretrained."
        )


def tokenizer_content(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer's rules, words and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return sha256(rules, json.dumps(getattr(tokenizer, "chat_template", None)))


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own reports and bars of what it loads and saves."""
    from transformers.utils import logging as their

    log = logging.getLogger("transformers")
    before, bars = log.level, their.is_progress_bar_enabled()
    log.setLevel(logging.ERROR)
    their.disable_progress_bar()
    try:
        yield
    finally:
        log.setLevel(before)
        if bars:
            their.enable_progress_bar()


def content_of(model: Any) -> str:
    """SHA-256 of a model's tensors, by name: the same wherever they came from."""
    import torch

    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if key.endswith("num_batches_tracked"):
            continue
        digest.update(f"{key}:{value.dtype}:{tuple(value.shape)}:".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
