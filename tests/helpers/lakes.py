"""Short ways to write to a lake and to look at it."""

from __future__ import annotations

from collections.abc import Callable

from t2t.lake import Lake

Opener = Callable[[], Lake]


def write(lake: Lake, branch: str, key: str, **files: str) -> str:
    """Commits files named by keywords, as `<name>.txt`."""
    content = {f"{name}.txt": text.encode() for name, text in files.items()}
    return lake.commit(branch, content, key, f"Commit {key}", {"key": key})


def merge(lake: Lake, source: str, key: str, into: str = "main") -> str:
    return lake.merge(source, into, key, f"Merge {source}", {"from": source})


def text(lake: Lake, ref: str, path: str) -> str:
    with lake.read(ref, path) as file:
        return file.read().decode()


def paths(lake: Lake, ref: str, prefix: str = "") -> list[str]:
    return [entry.path for entry in lake.list(ref, prefix)]


def keys(lake: Lake, ref: str) -> list[str]:
    """The keys of a log, newest first, without the commits that the backend made by itself."""
    return [commit.key for commit in lake.log(ref) if commit.key]
