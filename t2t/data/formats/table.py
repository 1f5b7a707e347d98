"""The formats by name. Each has `read(source, options) -> Content` and `write(content, out, options) -> files`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from t2t.data.formats import label_studio
from t2t.data.formats.model import Content, Options


@dataclass(frozen=True)
class Format:
    """A program's format: what it is, and the functions that read and write it."""

    name: str
    what: str
    read: Callable[[Path, Options], Content]
    write: Callable[[Content, Path, Options], list[Path]]


FORMATS = {
    form.name: form
    for form in (Format("label-studio", "Label Studio's JSON (also JSON-MIN)", label_studio.read, label_studio.write),)
}
