"""Snapshots of a training that is under way: what a killed run goes on from (DESIGN, section 6).

One safetensors file, replaced whole, no pickle: weights, optimiser and random states as tensors, the rest (step, curve,
sampler) as JSON in the file's header. Going on from a snapshot gives the same weights, bit for bit, as never stopping.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from t2t.core.files import atomic_file

log = logging.getLogger("t2t")


def save_snapshot(
    path: Path,
    identity: str,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> None:
    """Writes a snapshot atomically.

    Args:
        identity: of all that the training depends on; a snapshot of another training is not taken up.
        modules: whose state is kept, by name.
        generator: the one that draws noise; the default generators are kept as well.
        tensors, facts: further state; `facts` has to be JSON.
    """
    content = {f"tensors.{name}": value for name, value in tensors.items()}
    for name, module in modules.items():
        content |= {f"modules.{name}.{key}": value for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        content |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    content["random.noise"] = generator.get_state()
    content["random.cpu"] = torch.get_rng_state()
    if generator.device.type == "cuda":
        content["random.cuda"] = torch.cuda.get_rng_state(generator.device)
    # safetensors refuses tensors that share memory, and a text encoder's word embeddings have two names.
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in content.items()}
    header = {"identity": identity, "facts": json.dumps(facts)}
    with atomic_file(path) as temporary:
        save_file(whole, temporary, {**header, "crc32": _checksum(whole, header)})


def _checksum(content: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """CRC-32 of a snapshot's tensors, by name, and of what its header says."""
    value = zlib.crc32(f"{header['identity']} {header['facts']}".encode())
    for name, tensor in sorted(content.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value) if tensor.numel() else value
    return f"{value:08x}"


def load_snapshot(
    path: Path,
    identity: str,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Puts modules, optimiser and random generators back; returns the further tensors and facts.

    None, and nothing is changed, where there is no snapshot, or one of another training, or a broken one.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("identity") != identity:
                log.info("%s belongs to another training and is not used.", path)
                return None
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            facts: dict[str, Any] = json.loads(header["facts"])
            if header.get("crc32") not in (None, _checksum(content, header)):
                raise ValueError("its content is not what was written: its CRC-32 is another one")
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        log.warning("%s cannot be read (%s); training starts anew.", path, error)
        return None

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in content.items() if name.startswith(prefix)}

    for name, module in modules.items():
        module.load_state_dict(part(f"modules.{name}."))
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimizer.").items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    random = part("random.")
    generator.set_state(random["noise"])
    torch.set_rng_state(random["cpu"])
    if "cuda" in random and generator.device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], generator.device)
    return part("tensors."), facts
