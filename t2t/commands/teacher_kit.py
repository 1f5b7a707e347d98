"""`t2t teachers test-kit`: whether a program or a service keeps to the protocol `t2t-teacher/1`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageDraw
from rich.markup import escape

from t2t.commands.tables import console, table_of
from t2t.core.errors import T2TError, one_line
from t2t.teachers import parse_entry
from t2t.teachers.kinds import http
from t2t.teachers.protocol.asking import OtherSide
from t2t.teachers.protocol.kit import MANY, ODD_TOPICS, TOPICS, Kit
from t2t.teachers.protocol.label_studio import LabelStudio
from t2t.teachers.protocol.program import Program, ProgramLimits
from t2t.teachers.protocol.service import Service

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif")


def run_kit(other: OtherSide, samples: Sequence[Path] = ()) -> bool:
    """Runs the cases and prints what failed. Returns: whether none did."""
    with tempfile.TemporaryDirectory(prefix="t2t-kit-") as folder:
        files = [path.resolve() for path in samples] or _pictures(Path(folder))
        rows = [_sample(number, path) for number, path in enumerate(files)]
        results = []
        try:
            for result in Kit(other, rows, str(Path(folder) / "missing.mp4")).run():
                results.append({"case": result.case, "result": result.outcome, "detail": result.detail})
        finally:
            if isinstance(other, Program):
                other.close()
    console.print(table_of(pd.DataFrame(results), "The protocol t2t-teacher/1"))
    failed = sum(row["result"] == "failed" for row in results)
    told = other.told() if isinstance(other, Program) else ""
    if failed and told:
        console.print("The end of its standard error:")
        for line in told.split("\n"):
            console.print(escape(one_line(line)), soft_wrap=True)
    passed = sum(row["result"] == "passed" for row in results)
    console.print(f"{passed} cases passed, {failed} failed. What each asks for: docs/teachers/protocol.md")
    return not failed


def _sample(number: int, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise T2TError(f"{path}: no such file (--sample).")
    modality = "image" if path.suffix.lower() in IMAGES else "video"
    return {"sample_id": f"kit-{number}", "path": str(path), "modality": modality}


def _pictures(folder: Path) -> list[Path]:
    """Small pictures that differ."""
    paths = []
    for number, colour in enumerate(("red", "blue", "green", "white", "black")):
        picture = Image.new("RGB", (64, 64), "gray")
        ImageDraw.Draw(picture).ellipse((8 + number, 8, 48, 48), fill=colour)
        paths.append(folder / f"{colour}.png")
        picture.save(paths[-1])
    return paths


def program(command: Sequence[str], environment: Sequence[str], timeout: float, confine: bool) -> Program:
    """Words that are files here are given as their full paths, since a program runs in a folder of its own."""
    missing = [name for name in environment if name not in os.environ]
    if missing:
        raise T2TError(f"--environment: the variable {missing[0]} is not set. Export it.")
    if shutil.which(command[0]) is None and not Path(command[0]).is_file():
        raise T2TError(f"{command[0]}: no such program. Install it, or give its full path.")
    words = [str(Path(word).resolve()) if Path(word).is_file() else word for word in command]
    given = {name: os.environ[name] for name in environment}
    return Program(words, ProgramLimits(timeout, timeout), given, confine, plain={"T2T_DEVICE": "cpu"})


def service(url: str, dialect: str, authorization: str, timeout: float, insecure: bool) -> OtherSide:
    """As an entry of kind `http` would ask it. Raises T2TError where an entry would be refused."""
    content = {"id": "kit", "kind": "http", "url": url, "dialect": dialect, "insecure": insecure}
    entry = parse_entry(content, "--url")
    assert isinstance(entry, http.Entry)
    if authorization and authorization not in os.environ:
        raise T2TError(f"--authorization: the variable {authorization} is not set. Export it.")
    header = os.environ[authorization] if authorization else None
    asked = Service(entry.url.rstrip("/"), timeout, timeout, authorization=header)
    if dialect == "t2t":
        return asked
    return LabelStudio(
        asked, (*TOPICS, *ODD_TOPICS, *(f"topic {number}" for number in range(MANY))), hard=1.0, learns=True
    )
