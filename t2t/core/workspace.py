"""What the engine knows by name: one YAML file each under `registry/`, and where data and work lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from t2t.core.errors import T2TError, expect, nearest, one_line

# Bytes of a name; file systems take 255, suffixes included.
LONGEST = 200
# What an entry of each folder of the registry is called.
ENTRIES = {
    "datasets": "dataset",
    "teachers": "teacher",
    "campaigns": "campaign",
    "studies": "study",
    "distillations": "distillation",
}


@dataclass(frozen=True)
class Workspace:
    """Three folders: `registry` (people's YAML), `data` (datasets, only read), `work` (all that runs write)."""

    registry: Path
    data: Path
    work: Path

    @classmethod
    def find(cls, registry: Path | None = None, data: Path | None = None, work: Path | None = None) -> Workspace:
        """Arguments first, then T2T_REGISTRY, T2T_DATA and T2T_WORK, then `registry/`, `data/`, `work/` here."""

        def place(given: Path | None, variable: str, default: str) -> Path:
            return (given or Path(os.environ.get(variable) or default)).resolve()

        return cls(
            place(registry, "T2T_REGISTRY", "registry"),
            place(data, "T2T_DATA", "data"),
            place(work, "T2T_WORK", "work"),
        )

    @classmethod
    def or_found(cls, workspace: Workspace | None) -> Workspace:
        """The one handed in, else the one that the command line would find. Raises T2TError for another type."""
        if workspace is None:
            return cls.find()
        expect(workspace, Workspace, "workspace is a t2t.core.workspace.Workspace, such as Workspace.find(work='...')")
        return workspace

    def names(self, kind: str) -> list[str]:
        """The entries of `registry/<kind>/`, for kind in ENTRIES: datasets, teachers, campaigns and so on."""
        return sorted(path.stem for path in (self.registry / kind).glob("*.yaml"))

    def made(self, kind: str, name: str) -> Path:
        """Where an entry lies that a study made for itself, beside the registry."""
        return self.work / "made" / kind / f"{name}.yaml"

    def place(self, kind: str, name: str) -> Path:
        """Where an entry lies, or would: in the registry, or where a study made it."""
        path, made = self.registry / kind / f"{name}.yaml", self.made(kind, name)
        return made if "/" not in name and not path.is_file() and made.is_file() else path

    def file(self, kind: str, name: str) -> Path:
        """The path of an entry. Raises T2TError that names the nearest one when there is none."""
        expect(name, str, f"A {ENTRIES[kind]} is named by a text")
        if len(name.encode("utf-8", "replace")) > LONGEST:
            raise T2TError(f"{one_line(name, 40)}: a name of at most {LONGEST} bytes is needed.")
        path = self.place(kind, name)
        if not self.registry.is_dir():
            raise T2TError(f"{self.registry}: no registry here. Run t2t where `registry/` is, or set T2T_REGISTRY.")
        if "/" not in name and not path.is_file() and path.with_suffix(".yml").is_file():
            raise T2TError(f"{path.with_suffix('.yml')}: entries end in .yaml; rename it.")
        if "/" in name or not path.is_file():
            raise T2TError(f"{path}: no such {ENTRIES[kind]}.{nearest(name, self.names(kind))}")
        return path
