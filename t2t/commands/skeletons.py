"""`t2t teachers new`: a teacher of one's own to begin with, its entry and its test."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from rich.markup import escape

from t2t.commands.tables import console
from t2t.core.errors import T2TError, nearest
from t2t.core.files import write_text

TEMPLATES = Path(__file__).parent / "skeleton"
NAMES = ("command", "http", "python")
SUFFIX = ".txt"
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}[a-z0-9]")


def new_teacher(name: str, template: str, folder: Path | None = None) -> Path:
    """Writes the template's files into a new folder.

    Args:
        name: of the teacher, and of the plug-in's kind. folder: where its folder comes to lie; None: here.

    Returns: the new folder.

    Raises T2TError for a name that cannot be one, an unknown template, or a folder that is there.
    """
    if not NAME.fullmatch(name) or name == "human":
        raise T2TError(f"{name!r} is no name for a new teacher: small letters, digits and -, such as my-teacher.")
    if template not in NAMES:
        raise T2TError(f"--template {template}: unknown.{nearest(template, NAMES)}")
    place = (folder or Path.cwd()) / name
    if place.exists():
        raise T2TError(f"{place} exists. Choose another name, or remove it.")
    words = {
        "@name@": name,
        "@module@": name.replace("-", "_"),
        # Quoted where YAML needs it; JSON's text is YAML's.
        "@python@": json.dumps(sys.executable),
        "@folder@": json.dumps(str(place), ensure_ascii=False)[1:-1],
    }
    try:
        for source in sorted((TEMPLATES / template).iterdir()):
            file, text = source.name.removesuffix(SUFFIX), source.read_text(encoding="utf-8")
            for word, value in words.items():
                file, text = file.replace(word, value), text.replace(word, value)
            write_text(place / (f"{name}.yaml" if file == "entry.yaml" else file), text)
    except OSError as error:
        raise T2TError(f"{place}: cannot be written: {error.strerror}.") from error
    console.print(f"Wrote {escape(str(place))}. Put your model into it, and try its test:", soft_wrap=True)
    console.print(f"  cd {escape(name)} && python -m pytest", soft_wrap=True)
    console.print(f"Its entry is {name}.yaml: copy it into registry/teachers/, then t2t teachers check {name}.")
    return place
