"""The command line's words for asking a champion, and people. What they need is imported inside."""

from __future__ import annotations

import json
import sys
from pathlib import Path
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
Dim = Annotated[
    int | None,
    typer.Option(
        min=1, help="Size of the vectors that it scores by, one of student.matryoshka; the whole if left out."
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
    dim: Dim = None,
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
    try:  # before anything is imported that takes seconds
        listing = list_files(files)
    except T2TError as error:
        if topics and str(error).endswith(": no such file or folder."):
            raise T2TError(
                f"{str(error)[:-1]}; if it is a topic, it needs an option of its own: --topics '...'."
            ) from None
        raise
    from t2t.campaign.best import Best

    best = Best.of(context.obj, campaign)
    best.check(topics, precision, identity, dim)
    from t2t.commands.predict import (
        csv_of,
        predict_files,
        print_passed_over,
        print_predictions,
        print_set_aside,
        rows_of,
    )

    found = predict_files(best, listing, list(topics or ()), identity, precision, top, dim)
    if as_json:
        typer.echo(json.dumps(rows_of(found.table), indent=2))
    elif as_csv:
        # A program gets each name as it is, and a terminal no escape sequence of one.
        typer.echo(csv_of(found.table), nl=False, color=not sys.stdout.isatty())
    else:
        print_predictions(found)
    print_passed_over(found.others)
    print_set_aside(found.unreadable.items())
    if found.unreadable:
        raise typer.Exit(1)


def tag(
    context: typer.Context,
    source: Annotated[
        list[str], typer.Argument(metavar="DATASET|FOLDER...", help="A dataset of the registry, or folders and files.")
    ],
    campaign: Annotated[str, typer.Option(help="The campaign whose champion tags.")],
    out: Annotated[Path, typer.Option(help="The file to write: .parquet, .csv or .jsonl.")],
    topics: Topics = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="So many topics of each file, the most likely ones, yes or not.")
    ] = None,
    precision: Precision = None,
    dim: Dim = None,
) -> None:
    """Tag a dataset or folders with the campaign's champion: every topic that it says yes to, of every file.

    Any number of files; what is embedded once is kept, so that a run that was stopped goes on, and t2t search finds the
    files. Those that cannot be read are named and set aside; the exit status is then 1.
    """
    from t2t.campaign.best import Best
    from t2t.commands.outputs import check_out, check_source

    check_out(out)
    check_source(context.obj, source)
    Best.of(context.obj, campaign).check(topics, precision, dim=dim)
    from t2t.commands.tag import print_tags, tag

    found = tag(source, campaign, out, topics=topics, top=top, precision=precision, dim=dim, workspace=context.obj)
    print_tags(found)
    if len(found.unreadable):
        raise typer.Exit(1)


def search(
    context: typer.Context,
    campaign: Name,
    query: Annotated[str, typer.Argument(help="What is to be seen, in any words.")],
    top: Annotated[int, typer.Option(min=1, help="So many clips.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Write an HTML page with a picture of each clip.")] = None,
    precision: Precision = None,
    dim: Dim = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")] = False,
) -> None:
    """Find the clips that show something: t2t search demo "red star". Searched is what was tagged or embedded."""
    from t2t.campaign.best import Best
    from t2t.commands.outputs import PAGE, check_out, check_query

    check_query(query)
    if out is not None:
        check_out(out, PAGE)
    Best.of(context.obj, campaign).check(precision=precision, dim=dim)
    from t2t.commands.search import print_found, rows_of, search, write_page

    found = search(campaign, query, top=top, precision=precision, dim=dim, workspace=context.obj)
    if as_json:
        typer.echo(json.dumps(rows_of(found), indent=2))
    else:
        print_found(found)
    if out is not None:
        typer.echo(str(write_page(found, out)), err=as_json)


def export(
    context: typer.Context,
    campaign: Name,
    out: Annotated[Path, typer.Option(help="The folder to write; one that is not there, or an earlier export.")],
    precision: Precision = None,
    dim: Dim = None,
) -> None:
    """Write the champion as ONNX, one graph a tower, with thresholds, tokenizer and a model card.

    The graphs are compared with torch where ONNX Runtime is installed. Needs the extra `onnx` of teacher2task.
    """
    from importlib.util import find_spec

    from t2t.core.errors import T2TError

    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise T2TError(f"Export needs {' and '.join(missing)}: pip install 'teacher2task[onnx]'.")
    from t2t.campaign.best import Best

    Best.of(context.obj, campaign).check(precision=precision, dim=dim)
    from t2t.commands.export import export

    done = export(campaign, out, precision=precision, dim=dim, workspace=context.obj)
    typer.echo(f"{done.folder}: round {done.round} of {campaign} as ONNX, with thresholds and a model card.")
    if done.runtime is None:
        typer.echo("Not compared with torch, since onnxruntime is not installed: pip install onnxruntime.", err=True)
    else:
        same = f"{done.compared:,} numbers, the largest difference {done.difference:.1e}"
        typer.echo(f"Compared with torch by ONNX Runtime {done.runtime}: {same}.")


def annotate(
    context: typer.Context,
    campaign: Name,
    n: Annotated[int, typer.Option("--n", min=1, max=1_000_000, help="So many pairs of a clip and a topic.")] = 200,
    out: Annotated[Path | None, typer.Option(help="A new folder; in the work folder if left out.")] = None,
    topics: Topics = None,
    split: Annotated[
        str | None,
        typer.Option(help="train or unlabeled, both if left out; validation, which measures, needs --reason."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why people's time goes into validation.")] = "",
    random: Annotated[float, typer.Option(min=0, max=1, help="Share that is drawn from all pairs, and marked.")] = 0.15,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of that draw.")] = 0,
    read: Annotated[
        Path | None, typer.Option(help="Add the answers of a file to the annotations: CSV, or Label Studio's JSON.")
    ] = None,
    annotator: Annotated[
        str | None, typer.Option(help="With --read: who answered, where the file does not say.")
    ] = None,
    move: Annotated[
        bool,
        typer.Option("--move", help="With --read: make answered clips of split unlabeled, and their groups, train."),
    ] = False,
) -> None:
    """Write the pairs that people should answer next, for Label Studio and as CSV; read the answers back with --read.

    Asked are pairs that the champion is uncertain of, that the teachers dispute, that topics short of positives need,
    and some drawn at random, never one that somebody answered.
    """
    from t2t.core.errors import T2TError

    if read is None and (annotator is not None or move):
        raise T2TError("--annotator and --move go with --read FILE.")
    if read is not None:
        from t2t.commands.annotate.read import read_back

        if not read_back(context.obj, campaign, read, annotator, move):
            raise typer.Exit(1)
        return
    from t2t.campaign.best import Best
    from t2t.campaign.entries import open_dataset
    from t2t.commands.annotate.wanted import Wanted, check_folder

    best = Best.of(context.obj, campaign)
    best.check(topics)
    named = None if topics is None else tuple(topic.strip() for topic in topics)
    wanted = Wanted(n, split, named, reason, seed, random).checked()
    if named is not None:
        wanted.of(open_dataset(context.obj, best.dataset))
    folder = check_folder(context.obj, campaign, out)
    from t2t.commands.annotate.ask import ask

    ask(context.obj, campaign, wanted, folder)


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    for command in (predict, tag, search, export, annotate):
        app.command()(command)
