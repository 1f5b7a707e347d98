"""A study as people write it, `registry/studies/<name>.yaml`: cells and grid over the settings of one campaign."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from t2t.campaign.config import LARGEST_SEED, NAME
from t2t.core.config import Config
from t2t.core.errors import nearest
from t2t.studies.numbers import MEASURES, OTHERS, is_measure

# Campaigns of a study, cells times seeds: more are a slip of the keyboard, and their names alone would take seconds.
MOST_CAMPAIGNS = 2_000
# What a figure's x may be besides a key of the grid.
BY_CELL, BY_ROUND, BY_SIZE, BY_RECALL = "x", "round", "size", "recall"
# What is measured with smaller embeddings.
BY_SIZE_MEASURED = ("test pr_auc", "validation pr_auc")

Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED, strict=True)]


def fits(name: str, pattern: str) -> bool:
    """Whether a cell's name fits a pattern as in a shell; a whole name fits itself, whatever signs are in it."""
    return name == pattern or fnmatchcase(name, pattern)


class CellConfig(Config):
    """A cell of a study: what differs in its campaign."""

    name: str = Field(min_length=1, max_length=80, description="What tables and figures call it.")
    set: dict[str, Any] = Field(
        default_factory=dict, description="Settings of its campaign: nested, or with dots as in --set."
    )
    x: float | None = Field(None, description="Where it stands in figures with `x: x`.")
    line: str = Field("", max_length=80, description="The line that it is a point of there; all are of one by default.")

    @field_validator("name")
    @classmethod
    def _readable(cls, name: str) -> str:
        if not name.isprintable() or name != name.strip():
            raise ValueError(f"{name!r} has blanks at an end or signs that cannot be seen")
        return name


class FigureConfig(Config):
    """A picture of a study: one line a cell, or one through the values of a key of the grid."""

    title: str = Field(min_length=1, max_length=120, description="What stands above it.")
    x: str = Field(
        description="A key of the grid; `x` (each cell gives its number); `round`; `size` (of the embedding, of "
        "students that were trained for several); or `recall`: the student's curve of precision by recall on test "
        "against each teacher's."
    )
    y: str = Field(
        "test pr_auc",
        description="Split and metric, with a blank between them (test or validation; pr_auc, pr_auc_seen, "
        "pr_auc_unseen, pr_auc_size/64), or one of seconds, rows, weights, models, round, over control.",
    )
    label: str | None = Field(
        None, max_length=80, description="What x is, in words; the key's own name by default, or the title."
    )
    log: bool = Field(False, description="Whether x grows by factors.")
    cells: str = Field("*", min_length=1, description="Cells that are in it, by name: `dual*`, as in a shell.")

    @field_validator("y")
    @classmethod
    def _measured(cls, measure: str) -> str:
        if measure.partition(" ")[2] in OTHERS:
            measure = measure.partition(" ")[2]  # of no split
        if not is_measure(measure):
            raise ValueError(f"{measure!r} is nothing that is measured.{nearest(measure, MEASURES)}")
        return measure


class StudyConfig(Config):
    """`registry/studies/<name>.yaml`."""

    name: str = Field(pattern=NAME, description="The file's own name; its campaigns' names begin with it.")
    description: str = Field("", description="One line for people.")
    campaign: str = Field(description="The name of a file in registry/campaigns/: what all cells share.")
    set: dict[str, Any] = Field(
        default_factory=dict, description="Settings that all cells share: nested, or with dots as in --set."
    )
    seeds: Annotated[int, Field(ge=1, le=1000, strict=True)] | tuple[Seed, ...] = Field(
        3, description="So many, from 0 on; or a list of them. Each cell is run with each."
    )
    cells: tuple[CellConfig, ...] = Field(
        (), description="Cells with names; with a grid each stands at all its points."
    )
    grid: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict, description="Values of settings, keys as in --set: one cell for each combination."
    )
    against: str | None = Field(
        None,
        description="The cell that paired differences are taken against; with a grid also one of `cells`, each at the "
        "same point. null: the first cell.",
    )
    baselines: tuple[str, ...] = Field((), description="Rivals that are shown beside the cells.")
    figures: tuple[FigureConfig, ...] = Field((), description="Pictures of the study.")
    made: tuple[dict[str, Any], ...] = Field((), description="Teachers that are made for the study.")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds, each once."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if not isinstance(seeds, int):
            if not seeds:
                raise ValueError("no seed is named: seeds: 3, or a list such as [0, 1, 2]")
            _refuse_twice("seeds", map(str, seeds))
        return seeds

    @field_validator("cells")
    @classmethod
    def _cells(cls, cells: tuple[CellConfig, ...]) -> tuple[CellConfig, ...]:
        _refuse_twice("cells", (cell.name for cell in cells))
        return cells

    @field_validator("baselines")
    @classmethod
    def _baselines(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        _refuse_twice("baselines", names)
        return names

    @field_validator("grid")
    @classmethod
    def _grid(cls, grid: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in grid.items():
            if not values:
                raise ValueError(f"{key}: no value is named; write a list, such as [16, 32]")
            _refuse_twice(key, (json.dumps(value, sort_keys=True, default=str) for value in values))
        return grid

    @model_validator(mode="after")
    def _parts_agree(self) -> StudyConfig:
        if not self.cells and not self.grid:
            raise ValueError(
                "neither cells nor a grid: name some; one campaign with several seeds needs no study (`seeds: 3` in it)"
            )
        count = max(1, len(self.cells)) * len(self.seed_list)
        for values in self.grid.values():
            count *= len(values)
        if count > MOST_CAMPAIGNS:
            raise ValueError(f"{count:,} campaigns, cells times seeds; a study has {MOST_CAMPAIGNS:,} at most")
        for figure in self.figures:
            known = {*self.grid, BY_CELL, BY_ROUND, BY_SIZE, BY_RECALL}
            if figure.x not in known:
                raise ValueError(f"figures: x: {figure.x!r} is no key of the grid.{nearest(figure.x, known)}")
            if figure.x == BY_SIZE and figure.y not in BY_SIZE_MEASURED:
                raise ValueError(
                    f"figures: {figure.title!r}: by size there is {' and '.join(BY_SIZE_MEASURED)}, and no {figure.y}"
                )
            without = [cell.name for cell in self.cells if cell.x is None]
            if figure.x == BY_CELL and (without or not self.cells):
                which = f"cell {without[0]!r} has none" if without else "there are no cells"
                raise ValueError(f"figures: {figure.title!r} needs a number x of every cell, and {which}")
            if figure.x == BY_CELL:
                self._refuse_one_place(figure)
        return self

    def _refuse_one_place(self, figure: FigureConfig) -> None:
        """Two points of one line at one place: the picture would have one of them."""
        some = [cell for cell in self.cells if self.grid or fits(cell.name, figure.cells)]
        for place, count in Counter((cell.line, cell.x) for cell in some).items():
            if count > 1:
                names = ", ".join(repr(cell.name) for cell in some if (cell.line, cell.x) == place)
                raise ValueError(
                    f"figures: {figure.title!r}: cells {names} stand at x = {place[1]:g}; give each a `line`"
                )


class StudyRun(Config):
    """What is to be run of a study: as `t2t study` and deployments are given it."""

    study: str = Field(pattern=NAME, description="The name of a file in registry/studies/.")
    name: str | None = Field(None, pattern=NAME, description="Run it under another name, as a study of its own.")
    settings: tuple[str, ...] = Field((), description="Further settings of all cells, as training.steps=500.")
    seeds: Annotated[int, Field(ge=1, le=1000, strict=True)] | tuple[Seed, ...] | None = Field(
        None, description="Seeds instead of those that its file names: so many, or a list."
    )
    cells: str | None = Field(None, description="Only cells whose name fits, as `dual*`.")

    @property
    def words(self) -> tuple[str, ...]:
        """What is typed after `t2t study`; which cells were run does not change what the study is."""
        seeds = self.seeds if isinstance(self.seeds, int) else ",".join(map(str, self.seeds or ()))
        said = [self.study, *(["--name", self.name] if self.name else [])]
        said += [word for setting in self.settings for word in ("--set", setting)]
        return (*said, *(["--seeds", str(seeds)] if self.seeds is not None else []))


def _refuse_twice(key: str, names: Iterable[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{key}: named twice: {', '.join(twice)}")
