"""A study's cells, and the campaign that each is with each seed: validated as a whole before anything runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from t2t.campaign.config import CampaignConfig, override
from t2t.campaign.encoders import with_encoder
from t2t.campaign.entries import with_members
from t2t.campaign.overrides import merged
from t2t.core.config import expand, is_of, models_in, parse, read_yaml
from t2t.core.errors import T2TError, nearest, one_line
from t2t.core.files import sha256
from t2t.core.workspace import Workspace
from t2t.studies.config import BY_SIZE, StudyConfig, StudyRun, fits
from t2t.studies.made import make_teachers
from t2t.studies.numbers import size_of
from t2t.training.baselines.table import rival_names

# Of a campaign's name (`t2t.campaign.config.NAME`).
LONGEST = 64
# What a study gives its campaigns itself, and what all of its cells have in common.
OWN = {"name": "a cell's campaign is named by the study", "seed": "the study's `seeds` say it"}
OWN |= {"seeds": "the study's `seeds` say it", "description": "a cell's name says it"}
COMMON = {"dataset": "cells of several could not be compared", "lake": "a study lies in one"}


@dataclass(frozen=True)
class Cell:
    """One combination of settings; with each seed a campaign of its own.

    Attributes:
        name: for people. slug: in its campaigns' names.
        settings: what differs from the campaign's file, nested as there.
        x: where it stands in figures, where its entry says so.
        base: the entry of `cells` that it comes from; empty where it is of the grid alone.
        point: its values of the grid's keys.
        config: its campaign with the study's first seed.
    """

    name: str
    slug: str
    settings: dict[str, Any]
    x: float | None
    base: str
    point: dict[str, Any]
    config: CampaignConfig = field(repr=False)


@dataclass(frozen=True)
class Job:
    """A cell with a seed, and its campaign."""

    cell: Cell
    seed: int
    config: CampaignConfig = field(repr=False)

    @property
    def campaign(self) -> str:
        """The name of its campaign."""
        return self.config.name

    def __str__(self) -> str:
        return f"{self.cell.name}, seed {self.seed}"


@dataclass(frozen=True)
class Study:
    """A study, all of its cells validated.

    path: the file that says what it is.
    """

    config: StudyConfig
    path: Path
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.config.seed_list

    @property
    def dataset(self) -> str:
        """The dataset of all cells."""
        return self.cells[0].config.dataset

    @property
    def lake(self) -> str:
        """The lake of all cells."""
        return self.cells[0].config.lake

    def campaign(self, cell: Cell, seed: int) -> CampaignConfig:
        """The campaign of a cell with a seed."""
        name = campaign_name(self.name, cell.slug, seed)
        return cell.config.model_copy(update={"name": name, "seed": seed})

    def jobs(self, pattern: str | None = None) -> list[Job]:
        """What is to be run: every cell with the first seed, then with the next, so that a whole table is there soon.

        Args:
            pattern: only cells whose name fits: `dual*`, as in a shell. Raises T2TError where none does.
        """
        chosen = self.chosen(pattern)
        return [Job(cell, seed, self.campaign(cell, seed)) for seed in self.seeds for cell in chosen]

    def chosen(self, pattern: str | None) -> list[Cell]:
        """The cells whose name or slug fits a pattern. Raises T2TError, naming the nearest, where none does."""
        if pattern is None:
            return list(self.cells)
        found = [cell for cell in self.cells if any(fits(name, pattern) for name in (cell.name, cell.slug))]
        if not found:
            names = [cell.name for cell in self.cells]
            raise T2TError(f"{self.path}: no cell fits {pattern!r}.{nearest(pattern, names)}")
        return found

    def against(self, cell: Cell) -> Cell:
        """The cell that a cell's paired differences are taken against; itself for that one."""
        wanted = self.config.against
        if wanted is None:
            return self.cells[0]
        for other in self.cells:
            if other.name == wanted or (other.base == wanted and other.point == cell.point):
                return other
        raise T2TError(f"{self.path}: against: no cell {wanted!r}.")  # refused when the study was read


def read_study(workspace: Workspace, wanted: str | StudyRun) -> Study:
    """A study of the registry, with every combination validated as a whole campaign.

    Args:
        wanted: its name, or what is to be run of it.

    Raises T2TError that names file, cell and key.
    """
    order = StudyRun(study=wanted) if isinstance(wanted, str) else wanted
    path = workspace.file("studies", order.study)
    content = expand(read_yaml(path), {}, path)
    if content.setdefault("name", order.study) != order.study:
        raise T2TError(f"{path}: 'name' is {content['name']!r} but the file is named {order.study!r}; make them equal.")
    content |= {"name": order.name} if order.name is not None else {}
    content |= {"seeds": order.seeds} if order.seeds is not None else {}
    config = parse(StudyConfig, content, path)
    study = Study(config, path, cells_of(workspace, config, path, order.settings))
    study.chosen(order.cells)
    return study


def cells_of(workspace: Workspace, config: StudyConfig, path: Path, settings: Sequence[str] = ()) -> tuple[Cell, ...]:
    """A study's cells in the order of its file, `cells` before the grid's points of each.

    Args:
        path: the study's file, for messages. settings: as for `read_study`.
    """
    make_teachers(workspace, config.made, config.name, path)
    shared, asked = _shared(workspace, config, path), expand(override({}, list(settings)), {}, "--set")
    _refuse_own(config, asked, path)
    cells: dict[str, Cell] = {}
    same: dict[str, str] = {}
    labels = _labels(list(config.grid))
    for (entry, changes, x), point in _combinations(config):
        name = ", ".join(
            [entry] * bool(entry) + [f"{labels[key]}={shown_value(value)}" for key, value in point.items()]
        )
        where, slug = f"{path}, cell {name!r}", _slug(name)
        if slug in cells:
            raise T2TError(f"{where}: its name is too much like {cells[slug].name!r}; name one of them otherwise.")
        own: dict[str, Any] = {}
        for part in (config.set, changes, point):
            own = _with(own, nested(part, where))
        own = _with(own, asked)
        campaign = _with(shared, own)
        campaign |= {"name": campaign_name(config.name, slug, config.seed_list[0]), "seed": config.seed_list[0]}
        campaign |= {"description": f"Study {config.name}: {name}"}
        cells[slug] = Cell(
            *(name, slug, own, x, entry, dict(point)),
            with_encoder(parse(CampaignConfig, with_members(workspace, campaign), where), workspace),
        )
        written = cells[slug].config.model_copy(update={"name": "", "description": ""}).model_dump_json()
        if written in same:
            raise T2TError(f"{where}: the same settings as cell {same[written]!r}; take one of them out.")
        same[written] = name
    _check_against(config, list(cells.values()), path)
    _check_shown(config, list(cells.values()), path)
    return tuple(cells.values())


def _shared(workspace: Workspace, config: StudyConfig, path: Path) -> dict[str, Any]:
    """What the file of the study's campaign says."""
    try:
        base = workspace.file("campaigns", config.campaign)
    except T2TError as error:
        raise T2TError(f"{path}: campaign: {error}") from None
    shared = {**expand(read_yaml(base), {}, base), "name": config.campaign}
    parse(CampaignConfig, with_members(workspace, shared), base)
    shared.pop("seeds", None)  # the study's own
    return shared


def _refuse_own(config: StudyConfig, asked: Mapping[str, Any], path: Path) -> None:
    """Raises T2TError for settings that the study says itself, and for what its cells cannot differ in."""
    places = {"--set": (asked, OWN), f"{path}: set": (config.set, OWN), f"{path}: grid": (config.grid, OWN | COMMON)}
    places |= {f"{path}, cell {cell.name!r}": (cell.set, OWN | COMMON) for cell in config.cells}
    for where, (settings, reasons) in places.items():
        for key in settings:
            if (top := key.split(".")[0]) in reasons:
                raise T2TError(f"{where}: {key!r} cannot be set there: {reasons[top]}.")
    for key in config.grid:
        if key in _dotted(asked):
            raise T2TError(f"--set {key}: the study's grid varies it; change {path}.")


def campaign_name(study: str, slug: str, seed: int) -> str:
    """`<study>-<slug>-s<seed>`, where that is too long with a digest in place of its middle."""
    stem, end = f"{study}-{slug}", f"-s{seed}"
    if len(stem) + len(end) > LONGEST:
        digest = sha256(stem)[:8]
        stem = f"{stem[: LONGEST - len(end) - len(digest) - 1]}-{digest}"
    return stem + end


def nested(settings: Mapping[str, Any], where: object = "settings") -> dict[str, Any]:
    """Settings with keys such as `training.steps` as they are nested in a campaign's file.

    Raises T2TError where one is said twice.
    """
    made: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = str(key).split(".")
        place = made
        for parent in parents:
            inner = place.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise T2TError(f"{where}: {key!r} is said twice.")
            place = inner
        value = dict(value) if isinstance(value, Mapping) else value
        before = place.get(last)
        if isinstance(before, dict) and isinstance(value, dict) and not set(before) & set(value):
            value = {**before, **value}
        elif last in place:
            raise T2TError(f"{where}: {key!r} is said twice.")
        place[last] = value
    return made


def _combinations(config: StudyConfig) -> Iterator[tuple[tuple[str, dict[str, Any], float | None], dict[str, Any]]]:
    """(name, settings, x) of each entry of `cells`, with each point of the grid."""
    entries = [(cell.name, cell.set, cell.x) for cell in config.cells] or [("", {}, None)]
    points = [dict(zip(config.grid, values, strict=True)) for values in product(*config.grid.values())]
    for entry in entries:
        for point in points:
            yield entry, point


def _with(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes merged in. A student of another kind keeps what the kinds have in common: a study of
    students of the same towers says these once."""
    student, changed = settings.get("student"), changes.get("student")
    kind = changed.get("kind") if isinstance(changed, Mapping) else None
    if isinstance(student, Mapping) and kind is not None and kind != student.get("kind"):
        models = models_in(CampaignConfig.model_fields["student"].annotation)
        known = {key for model in models if is_of(model, kind) for key in model.model_fields}
        kept = {key: value for key, value in student.items() if key in known}
        settings = {**settings, "student": {**kept, "kind": kind}}
    return merged([CampaignConfig], settings, changes)


def _dotted(settings: Mapping[str, Any], before: str = "") -> set[str]:
    """All keys of nested settings, and those above them, with dots."""
    found = set()
    for key, value in settings.items():
        found.add(f"{before}{key}")
        found |= _dotted(value, f"{before}{key}.") if isinstance(value, Mapping) else set()
    return found


def _labels(keys: Sequence[str]) -> dict[str, str]:
    """Of each key of the grid the shortest end that no other one has: `dim` of `student.dim`."""
    labels = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        others = [other for other in keys if other != key]
        labels[key] = next(
            (end for end in ends if not any(other == end or other.endswith(f".{end}") for other in others)), key
        )
    return labels


def shown_value(value: Any) -> str:
    """A value of the grid as cells' names and figures have it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list | tuple):
        return "+".join(map(shown_value, value)) or "none"
    if isinstance(value, Mapping):
        return " ".join(f"{key}={shown_value(inner)}" for key, inner in value.items()) or "none"
    return one_line(value, 60)


def _slug(name: str) -> str:
    """A cell's name as part of its campaigns' names: letters, digits, `-`, and `_` for a decimal point."""
    text = name.replace("=-", "=minus-").replace(".", "_")
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")
    # What would be lost: other signs than those that only keep words apart.
    return slug if slug and re.fullmatch(r"[A-Za-z0-9_.,=+ -]+", name) else f"{slug}-{sha256(name)[:6]}".strip("-")


def _check_against(config: StudyConfig, cells: Sequence[Cell], path: Path) -> None:
    names = {cell.name for cell in cells} | {cell.base for cell in cells if cell.base}
    if config.against is not None and config.against not in names:
        raise T2TError(f"{path}: against: no cell {config.against!r}.{nearest(config.against, names)}")


def _check_shown(config: StudyConfig, cells: Sequence[Cell], path: Path) -> None:
    """Raises T2TError for rivals that there are not, and pictures that would stay empty: the report comes when all of
    the work is done."""
    for name in config.baselines:
        if name not in (known := rival_names()):
            raise T2TError(f"{path}: baselines: unknown rival {name!r}.{nearest(name, known)}")
    for figure in config.figures:
        where, some = f"{path}: figures: {figure.title!r}", [cell for cell in cells if fits(cell.name, figure.cells)]
        if not some:
            raise T2TError(
                f"{where}: cells: no cell fits {figure.cells!r}.{nearest(figure.cells, [cell.name for cell in cells])}"
            )
        sizes = {size for cell in some for size in getattr(cell.config.student, "matryoshka", ())}
        wanted = size_of(figure.y)
        if (figure.x == BY_SIZE and not sizes) or (wanted is not None and wanted not in sizes):
            lacks = "several sizes" if wanted is None else f"size {wanted}"
            raise T2TError(f"{where}: no cell in it is trained for {lacks} (student.matryoshka).")
