"""A student as two ONNX graphs, one a tower, for programs that have neither t2t nor torch.

    sample.onnx   frames float32 [V, F, input_dim], mask bool [V, F]            -> vector float32 [V, D], unit length
    text.onnx     ids int64 [T, L], mask bool [T, L], identity int64 [T]        -> vector float32 [T, D], unit length

A confidence is sigmoid(scale x the product of two vectors + bias); both numbers, the identities and their scales stand
in `student.json`. An ensemble is one graph, whose vectors are its members' one behind the other.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from t2t.core.errors import T2TError, one_line
from t2t.data.scales import Scale
from t2t.students.ensemble import Ensemble
from t2t.students.sizes import first_numbers, scale_and_bias
from t2t.students.student import Student
from t2t.students.text import TopicTokens

NEEDED = ("onnx", "onnxscript")
OPSET = 18
# How far ONNX Runtime's numbers may lie from torch's: vectors have unit length.
TOLERANCE = 1e-4
# Shapes that the graphs are compared on: samples and frames, texts and identities.
CHECKED = ((1, 1), (2, 3), (5, 8))


class SampleTower(nn.Module):
    """Frames to vectors, without the blocks that rows are sorted into."""

    def __init__(self, student: Student):
        super().__init__()
        self.student = student

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        prepared = self.student.frontend(frames, mask)
        parts = [member._encode_frames(prepared, mask) for member in self.student.members]
        return torch.cat(parts, dim=-1) / len(parts) ** 0.5


class TextTower(nn.Module):
    """A topic's tokens to vectors, under an identity."""

    def __init__(self, student: Student):
        super().__init__()
        self.student = student

    def forward(self, ids: Tensor, mask: Tensor, identity: Tensor) -> Tensor:
        student = self.student
        if not student.gated:
            ids = torch.cat([student.words + identity.unsqueeze(1), ids], dim=1)
            mask = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        scales = torch.stack([scale_and_bias(member)[0].exp() for member in student.members])
        once = student._encode_tokens(ids, mask) if isinstance(student, Ensemble) and student.reads_once else None
        parts = []
        for scale, member in zip(scales, student.members, strict=True):
            z = member._to_space(member._encode_tokens(ids, mask) if once is None else once)
            if member.gated:
                gate, shift = member.identity(identity).float().chunk(2, dim=-1)
                z = nn.functional.normalize(z * (1 + gate) + shift, dim=-1)
            parts.append(scale * first_numbers(z, member.size))
        return torch.cat(parts, dim=-1) / scales.norm()


def export_towers(student: Any, folder: Path, topics: list[str]) -> dict[str, Any]:
    """Writes `sample.onnx`, `text.onnx`, `student.json` and `tokenizer/`, and compares the graphs with torch where ONNX
    Runtime is installed.

    Args:
        student: in evaluation mode, on the CPU. folder: is there. topics: texts that the graphs are compared on.

    Returns: what was compared: `runtime` (its version; None where it is not installed), `difference` (the largest
        absolute one of all numbers) and `compared` (how many).

    Raises T2TError where the packages are missing, the student is of another kind, or the graphs say something else.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise T2TError(f"Export needs {' and '.join(missing)}: pip install 'teacher2task[onnx]'.")
    if not isinstance(student, Student) or type(student) not in (Student, Ensemble):
        kind = getattr(getattr(student, "config", None), "kind", type(student).__name__)
        raise T2TError(f"Export knows students of kind dual-encoder only; this one is of kind {kind}.")
    student.eval()
    try:
        with torch.no_grad():
            _write(SampleTower(student), _frames(student, 2, 3), folder / "sample.onnx", ("frames", "mask"), ("F",))
            texts = _texts(student, topics[:2] if len(topics) > 1 else topics * 2)
            _write(TextTower(student), texts, folder / "text.onnx", ("ids", "mask", "identity"), ("L",))
    except T2TError:
        raise
    except Exception as error:  # the exporter raises whatever an operator leads it to
        raise T2TError(f"The student cannot be written as ONNX: {one_line(error, 300)}.") from None
    (folder / "student.json").write_text(json.dumps(facts_of(student), indent=2), encoding="utf-8")
    student.tokenizer.save_pretrained(folder / "tokenizer")
    return compare(student, folder, topics)


def facts_of(student: Student) -> dict[str, Any]:
    """What a program needs beside the graphs, as JSON."""
    tokens = TopicTokens(student.tokenizer, ["a"])
    with torch.no_grad():
        zero, one = (float(student.logits(torch.tensor(value))) for value in (0.0, 1.0))
    return {
        "scale": one - zero,
        "bias": zero,
        "width": student.width,
        "members": len(student.members),
        "input_dim": student.input_dim,
        "max_tokens": student.config.text.max_tokens,
        "end_token": tokens.end,
        "start_token": tokens.start if student.gated else None,
        "identities": student.teachers,
        "scales": {name: _knots(scale) for name, scale in student.scales.items()},
    }


def _knots(scale: Scale) -> dict[str, tuple[float, ...]]:
    """What a student's confidence is read off by, which rises."""
    step = -1 if scale.turned else 1
    common = scale.common if scale.gain == 1 else tuple(scale.taught(np.array(scale.raw)).tolist())
    return {"raw": scale.raw[::step], "common": common[::step]}


def compare(student: Student, folder: Path, topics: list[str]) -> dict[str, Any]:
    """The largest difference between ONNX Runtime's numbers and torch's. Raises T2TError where it is too large."""
    if find_spec("onnxruntime") is None:
        return {"runtime": None, "difference": None, "compared": 0}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    sessions = {
        name: onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
        for name in ("sample", "text")
    }
    worst, compared = 0.0, 0
    inputs: list[tuple[str, tuple[str, ...], tuple[Tensor, ...], Tensor]] = []
    for samples, frames in CHECKED:
        values = _frames(student, samples, frames)
        with torch.no_grad():
            inputs.append(("sample", ("frames", "mask"), values, student.encode_samples(*values)))
        for number, identity in enumerate(student.teachers):
            some = (topics * samples)[:samples]
            texts = _texts(student, some, number)
            inputs.append(("text", ("ids", "mask", "identity"), texts, student.encode_topics(some, identity)))
    for name, names, values, vectors in inputs:
        wanted = vectors.numpy()
        [found] = sessions[name].run(None, {key: value.numpy() for key, value in zip(names, values, strict=True)})
        difference = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
        if not difference <= TOLERANCE:
            raise T2TError(f"{folder / name}.onnx says something else than the student: {difference:g} apart.")
        worst, compared = max(worst, difference), compared + wanted.size
    return {"runtime": onnxruntime.__version__, "difference": worst, "compared": compared}


def _write(tower: nn.Module, inputs: tuple[Tensor, ...], path: Path, names: tuple[str, ...], free: tuple[str]) -> None:
    rows, columns = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    shapes = tuple({0: rows, 1: columns} if value.ndim > 1 else {0: rows} for value in inputs)
    program = torch.onnx.export(
        tower.eval(),
        inputs,
        input_names=list(names),
        output_names=["vector"],
        dynamic_shapes=shapes,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.save(str(path))


def _frames(student: Student, samples: int, frames: int) -> tuple[Tensor, ...]:
    """Random frame embeddings, the last sample one frame short where it has several."""
    values = torch.randn(samples, frames, student.input_dim, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(samples, frames, dtype=torch.bool)
    if frames > 1:
        mask[-1, -1] = False
    return values * mask.unsqueeze(-1), mask


def _texts(student: Student, topics: list[str], identity: int = 0) -> tuple[Tensor, ...]:
    """Topics as `text.onnx` takes them."""
    tokens = TopicTokens(student.tokenizer, topics, student.config.text.max_tokens)
    if student.gated:
        ids, mask = tokens.plain(np.arange(len(topics)))
    else:
        ids, mask = (a[:, 1:] for a in tokens.texts(np.arange(len(topics)), np.zeros(len(topics), np.int64)))
    who = torch.full((len(topics),), identity, dtype=torch.int64)
    return torch.from_numpy(np.ascontiguousarray(ids)), torch.from_numpy(np.ascontiguousarray(mask)), who
