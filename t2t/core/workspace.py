"""What the engine knows by name: one YAML file each under `registry/`, and where data and work lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from t2t.core.errors import T2TError, nearest


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

    def names(self, kind: str) -> list[str]:
        """The entries of `registry/<kind>/`, for kind in datasets, teachers, campaigns."""
        return sorted(path.stem for path in (self.registry / kind).glob("*.yaml"))

    def file(self, kind: str, name: str) -> Path:
        """The path of an entry. Raises T2TError that names the nearest one when there is none."""
        path = self.registry / kind / f"{name}.yaml"
        if not self.registry.is_dir():
            raise T2TError(f"{self.registry}: no registry here. Run t2t where `registry/` is, or set T2T_REGISTRY.")
        if "/" not in name and not path.is_file() and path.with_suffix(".yml").is_file():
            raise T2TError(f"{path.with_suffix('.yml')}: entries end in .yaml; rename it.")
        if "/" in name or not path.is_file():
            raise T2TError(f"{path}: no such {kind[:-1]}.{nearest(name, self.names(kind))}")
        return path
