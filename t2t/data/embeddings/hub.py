"""Checkpoints of transformers, from a folder or the hub: safetensors and nothing else, no code of theirs runs."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from t2t.core.errors import T2TError, one_line
from t2t.core.files import sha256
from t2t.core.host import cpu_threads

# Numbers of a model up to which one thread is enough.
SMALL = 20_000_000
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


# What else a folder without safetensors may hold, and how it becomes one that is opened.
PICKLED = (
    "Pickled weights (.bin, .pt) may run code and are not opened: load them where you trust them, and save them by {}."
)
SAVED = "save_pretrained, which writes safetensors"


def folder_of(written: str, base: Path, whose: str, hint: str = "") -> Path | None:
    """The folder that is written, a relative one in `base`; None for a name on the hub.

    Args:
        whose: what the checkpoint is of, for messages. hint: what makes it.

    Raises T2TError for what is neither.
    """
    folder = base / written  # an absolute one stays as it is
    if folder.is_dir():
        return folder
    if Path(written).is_absolute() or not HUB_NAME.fullmatch(written):
        raise T2TError(f"{folder}: no such folder ({whose}).{hint}")
    return None


def refuse_pickled(folder: Path, whose: str = "", saved: str = SAVED) -> None:
    """Raises T2TError for a folder without safetensors. Args: saved: by what they are saved."""
    if not any(folder.glob("*.safetensors")):
        raise T2TError(f"{folder}: no safetensors in it{whose}. {PICKLED.format(saved)}")


def find_checkpoint(written: str, data: Path, teacher: str) -> str:
    """The folder of a checkpoint, absolute, or its name on the hub as it is written.

    A relative folder begins in the dataset's. Raises T2TError for what is neither, and for a folder that lacks a
    configuration or safetensors.
    """
    made = " `t2t demo` makes it." if data.name == "demo" else ""
    folder = folder_of(written, data, f"checkpoint of teacher {teacher!r}", made)
    if folder is None:
        return written
    if not (folder / "config.json").is_file():
        other = " It is a checkpoint of open_clip: write `library: open_clip`."
        other = other if (folder / "open_clip_config.json").is_file() else ""
        raise T2TError(f"{folder}: no config.json in it (teacher {teacher!r}); save_pretrained writes it.{other}")
    refuse_pickled(folder, f" (teacher {teacher!r})")
    return str(folder)


def find_open_clip(written: str, revision: str | None, data: Path, teacher: str) -> Path:
    """The folder of a checkpoint of open_clip; one on the hub is fetched, without its pickles.

    A relative folder begins in the dataset's. Raises T2TError for what is neither, and for a folder that lacks
    open_clip_config.json or safetensors.
    """
    folder = folder_of(written, data, f"checkpoint of teacher {teacher!r}")
    if folder is None:
        folder = _fetched(written, revision, "open_clip_config.json")
    if not (folder / "open_clip_config.json").is_file():
        raise T2TError(
            f"{folder}: no open_clip_config.json in it (teacher {teacher!r}): it is no checkpoint of open_clip. Leave "
            "`library` out for one of transformers."
        )
    refuse_pickled(folder, f" (teacher {teacher!r})", "safetensors.torch.save_file")
    return folder


def _fetched(name: str, revision: str | None, needed: str) -> Path:
    """The folder of a name on the hub with its safetensors and texts; pickles stay where they are."""
    from huggingface_hub import snapshot_download

    options = from_hub(name, revision, needed)
    try:
        return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model"], **options))
    except Exception as error:  # many kinds
        raise T2TError(f"{name}: cannot be fetched from the hub: {one_line(error).rstrip('.')}.") from None


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
    options |= {"local_files_only": True} if Path(checkpoint).is_dir() else from_hub(checkpoint, revision)
    try:
        with quiet():
            return loader.from_pretrained(checkpoint, trust_remote_code=False, **options)
    except Exception as error:  # transformers raises many kinds: OSError, KeyError, SafetensorError
        raise T2TError(f"{checkpoint}: {what} cannot be loaded: {one_line(error).rstrip('.')}.") from None


def from_hub(name: str, revision: str | None, needed: str = "config.json") -> dict[str, Any]:
    """Options for a name on the hub. Where it cannot be reached, what was fetched before is taken, and refused at once
    where that is nothing: the hub's own client would try again for most of a minute."""
    from huggingface_hub import try_to_load_from_cache

    fault = _unreachable()
    if fault and not isinstance(try_to_load_from_cache(name, needed, revision=revision), str):
        raise T2TError(
            f"{name}: no such folder, and the hub cannot be reached ({fault}). Give a folder as "
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


def configuration(checkpoint: str, revision: str | None) -> Any:
    """A checkpoint's configuration, as transformers has it."""
    from transformers import AutoConfig

    return load_checkpoint(AutoConfig, checkpoint, revision, "its configuration")


def refuse_unknown_type(checkpoint: str, kind: str, known: Collection[str]) -> None:
    if kind not in known:
        raise T2TError(
            f"{checkpoint}: model type {kind!r} is none that can be asked so. Known: {', '.join(sorted(known))}."
        )


def load_model(
    loader: Any, checkpoint: str, revision: str | None, known: Collection[str], unused: str = "", **options: Any
) -> Any:
    """A model in evaluation mode, all of whose weights are the checkpoint's. Its part `unused` is taken off, and may be
    missing.

    Raises T2TError for a model type that is not in `known`, and where transformers would fill up missing weights with
    random ones.
    """
    config = configuration(checkpoint, revision)
    refuse_unknown_type(checkpoint, config.model_type, known)
    options |= {"use_safetensors": True, "output_loading_info": True, "ignore_mismatched_sizes": False}
    model, loaded = load_checkpoint(loader, checkpoint, revision, "its model", **options)
    missing = sorted(str(key) for key in loaded["missing_keys"] if not (unused and str(key).startswith(f"{unused}.")))
    if missing:
        raise T2TError(
            f"{checkpoint}: {len(missing)} of the model's tensors are not in its files ({', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}), and random ones would take their place. It is a checkpoint of "
            "another model, or a part of one."
        )
    if unused and hasattr(model, unused):
        setattr(model, unused, None)
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
def inference(model: Any) -> Iterator[None]:
    """Inference mode; and of a small model, on the CPU, one thread.

    Threads of small operations wait for one another longer than they compute: on two cores the demo's models were 2.2
    and 2.4 times as fast on one thread as on two. And then what they say does not hang on the number of cores.
    """
    import torch

    parameters = list(model.parameters())
    small = sum(parameter.numel() for parameter in parameters) < SMALL
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    with cpu_threads(1 if small and on_cpu else None), torch.inference_mode():
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' own reports and bars of what it loads and saves, and without what some models print."""
    from transformers.utils import logging as their

    log = logging.getLogger("transformers")
    before, bars = log.level, their.is_progress_bar_enabled()
    log.setLevel(logging.ERROR)
    their.disable_progress_bar()
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        log.setLevel(before)
        if bars:
            their.enable_progress_bar()


# Of a configuration what changes no number: where it comes from, how it is held, what training begins with.
NO_CONTENT = re.compile(r"^_|^transformers_version$|^architectures$|dtype$|^initializer_|_init_value$")


def _settings(config: Any) -> Any:
    """What a configuration says of how a model computes."""
    if isinstance(config, dict):
        return {str(key): _settings(value) for key, value in config.items() if not NO_CONTENT.search(str(key))}
    return [_settings(value) for value in config] if isinstance(config, list | tuple) else config


def content_of(model: Any) -> str:
    """SHA-256 of a model's tensors, by name, and of how its configuration has them used: the same wherever they came
    from."""
    import torch

    digest = hashlib.sha256()
    if (config := getattr(model, "config", None)) is not None:
        digest.update(json.dumps(_settings(config.to_diff_dict()), sort_keys=True, default=str).encode())
    for key, value in sorted(model.state_dict().items()):
        if key.endswith("num_batches_tracked"):
            continue
        digest.update(f"{key}:{value.dtype}:{tuple(value.shape)}:".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
