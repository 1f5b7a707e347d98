"""The words of `t2t data import` and `t2t data export`. What they need is imported inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from t2t.core.errors import T2TError

# As t2t.data.formats.table has them; tests/commands/test_exchange.py compares the two. `class-votes` is read only.
NAMES = "label-studio, cvat, coco, fiftyone, folders, activitynet, kinetics, wide-csv, huggingface"
Complete = Annotated[
    bool,
    typer.Option("--complete", help="A topic that an annotator did not give to what they looked at is a negative."),
]

Exclusive = Annotated[
    bool, typer.Option("--exclusive", help="Classes exclude each other: who names one denies the others.")
]


def data_import(
    context: typer.Context,
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help=f"{NAMES}, class-votes")],
    source: Annotated[Path, typer.Argument(help="The export: a file, or a folder.")],
    dataset: Annotated[str, typer.Option(help="The dataset's name in registry/datasets/.")],
    into: Annotated[str, typer.Option(help="Its folder in the data root; its name if left out.")] = "",
    media: Annotated[list[Path] | None, typer.Option(help="A folder to look for media in; may be repeated.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add to the dataset that is there.")] = False,
    anew: Annotated[bool, typer.Option("--replace", help="Write its tables anew.")] = False,
    take: Annotated[bool, typer.Option("--take", help="Of answers that differ, take the new ones.")] = False,
    complete: Complete = False,
    exclusive: Exclusive = False,
    split: Annotated[str, typer.Option(help="Put samples without a split into this one.")] = "",
    split_by_hash: Annotated[str, typer.Option(help="Or into train, validation, test.")] = "0.7,0.1,0.2",
    group_by: Annotated[str, typer.Option(help="What a group is where none is said: file or folder.")] = "file",
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Leave out samples without a file.")] = False,
    topics: Annotated[Path | None, typer.Option(help="A file of topics, one a line, which come first.")] = None,
    teacher: Annotated[list[str] | None, typer.Option(help="VERSION=ID of a model version; may be repeated.")] = None,
    annotator: Annotated[str, typer.Option(help="Who answered, where the format names nobody.")] = "",
    human: Annotated[list[str] | None, typer.Option(help="FiftyOne: a field with people's labels.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="Tables: a column with labels; may be repeated.")] = None,
    media_key: Annotated[str, typer.Option(help="The key or column with the media.")] = "",
    rating_max: Annotated[float, typer.Option(min=1e-9, max=1e9, help="The rating that stands for 1.")] = 5,
    number_max: Annotated[float, typer.Option(min=1e-9, max=1e9, help="The number that stands for 1.")] = 1,
    spans: Annotated[str, typer.Option(help="A part of a clip: any, or its share of the clip.")] = "any",
    taxonomy: Annotated[str, typer.Option(help="A place in a tree: leaf, or its path.")] = "leaf",
) -> None:
    """Make a dataset of another program's export, or add to one; its models become teachers.

    For instance: t2t data import label-studio export.json --dataset birds --media ~/clips
    """
    from t2t.commands.data_import import import_data
    from t2t.commands.import_request import Request
    from t2t.data.formats.model import NOBODY, Options
    from t2t.data.formats.places import Rule

    if add and anew:
        raise T2TError("Choose one of --add and --replace.")
    if spans not in ("any", "share") or taxonomy not in ("leaf", "path"):
        raise T2TError("--spans is any or share, and --taxonomy is leaf or path.")
    options = Options(complete=complete, exclusive=exclusive, annotator=annotator or NOBODY, media_key=media_key)
    options = replace(options, human=tuple(human or options.human), labels=tuple(labels or ()), spans=spans)
    options = replace(options, rating_max=rating_max, number_max=number_max, taxonomy=taxonomy)
    import_data(
        context.obj,
        Request(
            format=format_name,
            source=source,
            dataset=dataset,
            into=into,
            media=tuple(media or ()),
            mode="add" if add else "replace" if anew else "",
            take=take,
            allow_missing=allow_missing,
            topics=topics,
            teachers=_ids(teacher or []),
            rule=Rule.of(split, split_by_hash, group_by),
            options=options,
        ),
    )


def _ids(named: list[str]) -> dict[str, str]:
    """Ids by version. A version may have an equals sign in it, an id has none."""
    renamed = {}
    for item in named:
        version, equals, teacher_id = item.rpartition("=")
        if not equals:
            raise T2TError(f"--teacher {item}: write VERSION=ID.")
        renamed[version] = teacher_id
    return renamed


def data_export(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A dataset: the name of a file in registry/datasets/.")],
    format_name: Annotated[str, typer.Option("--format", help=NAMES)],
    out: Annotated[Path, typer.Option(help="The file, or folder, to write; it must not be there.")],
    teachers: Annotated[str, typer.Option(help="Teachers whose labels go along: a,b.")] = "",
    prefix: Annotated[
        str, typer.Option(help="Before each path in the dataset's folder, as /data/local-files/?d=birds/")
    ] = "",
) -> None:
    """Write a dataset as another program reads it: samples, each annotator's answers, teachers' labels.

    For instance: t2t data export birds --format label-studio --out birds.json --teachers vendor
    """
    from t2t.commands.data_export import export_data

    names = [item.strip() for item in teachers.split(",") if item.strip()]
    export_data(context.obj, name, format_name, out, names, prefix)
