"""The command line's words for asking a champion: predict, tag, search, export. What they need is imported inside."""

from __future__ import annotations

import json
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="A campaign that has run here.")]
Topics = Annotated[
    list[str] | None,
    typer.Option("--topics", "-t", metavar="TOPIC", help="A topic; once for each. All of the dataset's if left out."),
]
Precision = Annotated[
    float | None,
    typer.Option(
        help="That a yes is to have, by the validation split; the campaign's evaluation.precision if left out."
    ),
]


def predict(
    context: typer.Context,
    campaign: Name,
    files: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER...", help="Videos, images, folders of them.")],
    topics: Topics = None,
    identity: Annotated[
        str | None, typer.Option(help="The teacher to answer as; the campaign's own choice if left out.")
    ] = None,
    precision: Precision = None,
    top: Annotated[int | None, typer.Option(min=1, help="So many topics of each file, the most likely ones.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for programs: one object a file and topic.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: one line a file and topic.")] = False,
) -> None:
    """Score files with the campaign's champion, and say yes or no to each topic.

    Every topic has its own option: t2t predict demo a.mp4 b.mp4 --topics "red circle" --topics "a spinning star".

    A file that cannot be read is named and set aside; the others are scored, and the exit status is 1.
    """
    from t2t.core.errors import T2TError
    from t2t.data.listing import list_files

    if as_json and as_csv:
        raise T2TError("Choose one of --json and --csv.")
    # Before anything is imported that takes seconds.
    try:
        listing = list_files(files)
    except T2TError as error:
        if topics and str(error).endswith(": no such file or folder."):
            raise T2TError(
                f"{str(error)[:-1]}; if it is a topic, it needs an option of its own: --topics '...'."
            ) from None
        raise
    from t2t.campaign.best import Best

    best = Best.of(context.obj, campaign)
    from t2t.commands.predict import csv_of, predict_files, print_predictions, printable, rows_of

    found = predict_files(best, listing, list(topics or ()), identity, precision, top)
    if as_json:
        typer.echo(json.dumps(rows_of(found.table), indent=2))
    elif as_csv:
        typer.echo(csv_of(found.table), nl=False)
    else:
        print_predictions(found)
    if found.others:
        typer.echo(
            f"{found.others:,} files are neither video nor image by their ending, and were passed over.", err=True
        )
    for file, reason in found.unreadable.items():
        typer.secho(f"Set aside: {printable(file)}: {reason}.", fg="red", err=True)
    if found.unreadable:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.command()(predict)
