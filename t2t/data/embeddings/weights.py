"""Files of weights from elsewhere: read as safetensors and nothing else, and refused with what would mend them."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from t2t.core.errors import T2TError, one_line

# The header of a file of 100,000 tensors has about ten megabytes.
MOST_HEADER = 16 << 20
# What training in parallel, compiling and wrapping in a module put before every name.
WRAPPERS = ("module.", "_orig_mod.", "model.")
PART = re.compile(r"-\d{5}-of-\d{5}\.")
CONVERT = (
    'python -c "import torch, safetensors.torch as s; '
    "s.save_file(torch.load('{}', weights_only=True), '{}.safetensors')\""
)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises T2TError for anything else, without opening what may run code."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            beginning = file.read(9)
    except OSError as error:
        raise T2TError(f"{path}: cannot be read: {error.strerror}.") from None
    if path.name.endswith(".index.json") or PART.search(path.name):
        raise T2TError(
            f"{path}: a part or the index of weights in several files. Join them: load each part by "
            "safetensors.torch.load_file, and save all tensors into one file by safetensors.torch.save_file."
        )
    length = int.from_bytes(beginning[:8], "little")
    if beginning[8:] != b"{" or not 0 < length <= size - 8:
        # The length of a safetensors header may look like the beginning of a pickle, hence only now.
        if beginning[:4] == b"PK\x03\x04" or beginning[:1] == b"\x80":
            raise T2TError(
                f"{path}: pickled by PyTorch, which may run code when it is opened. Save it as safetensors: "
                + CONVERT.format(path.name, path.stem)
            )
        raise T2TError(f"{path}: not readable as safetensors: its header is cut off, or it is another kind of file.")
    if fault := large_header(path):
        raise T2TError(f"{path}: not readable as safetensors: {fault}.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise T2TError(f"{path}: not readable as safetensors: {one_line(error).rstrip('.')}.") from None


def large_header(path: Path) -> str:
    """What is wrong with a safetensors file whose header would fill the memory; empty where it would not. Raises
    OSError where the file cannot be read."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    return f"a header of {length:,} bytes; {MOST_HEADER:,} are the most" if length > MOST_HEADER else ""


def unwrapped(state: dict[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """The tensors without what a wrapper put before each of their names, where the model's names have none of it."""
    for _ in WRAPPERS:
        for wrapper in WRAPPERS:
            if (
                state
                and all(key.startswith(wrapper) for key in state)
                and not any(key.startswith(wrapper) for key in wanted)
            ):
                state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state
