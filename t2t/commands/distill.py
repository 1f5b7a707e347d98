"""The command line's words for distillations: `t2t distill NAME`. What they need is imported inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from t2t.commands.groups import AsJson, RunsByName, print_json

if TYPE_CHECKING:
    from t2t.core.workspace import Workspace
    from t2t.distillation.entries import DistillationRun

RunFlow: TypeAlias = "Callable[[Workspace, DistillationRun], None]"
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A distillation: the name of a file in registry/distillations/.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="What differs from its file: training.epochs=5. May be repeated.")
]
Named = Annotated[str | None, typer.Option("--name", help="Run it under another name, as an encoder of its own.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Run nothing: print what would be done, and what is done.")]


distill_app = typer.Typer(
    cls=RunsByName,
    help="Distill several frame encoders into one: t2t distill NAME. Without a name they are listed.",
    invoke_without_command=True,
)


@distill_app.callback()
def distillations(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        list_distillations(context, as_json)


@distill_app.command("list")
def list_distillations(context: typer.Context, as_json: AsJson = False) -> None:
    """List the distillations of the registry and the encoders that are here: how far, whom they learned from."""
    from t2t.commands.distillations import distillations_json, print_distillations

    if as_json:
        print_json(distillations_json(context.obj))
    else:
        print_distillations(context.obj)


@distill_app.command("report")
def report(
    context: typer.Context,
    name: Name,
    out: Annotated[
        Path | None, typer.Option(help="The page's file, others lie beside it; in the work folder if left out.")
    ] = None,
    as_json: AsJson = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write what an encoder is worth beside its teachers: a page, and Markdown, CSV, JSON and pictures beside it."""
    from t2t.commands.distillations import evaluated_of, facts_of, print_report

    table = evaluated_of(context.obj, name)  # one without numbers is refused before more is loaded
    from t2t.commands.page.distillation import write_distillation_report

    facts = facts_of(context.obj, name)
    written = write_distillation_report(context.obj, name, table, out, facts)
    if as_json:
        typer.echo(written.json.read_text(encoding="utf-8"), nl=False)
    else:
        print_report(table, written.page, facts.get("retracted"))
    if show:
        typer.launch(str(written.page))


@distill_app.command("retract")
def retract(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A distilled encoder.")],
    teacher: Annotated[
        str | None, typer.Argument(metavar="TEACHER", help="One that it learned from; the encoder itself if left out.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it is noted in the lake.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take a retraction back.")] = False,
) -> None:
    """Retract an encoder, or one that it learned from: what learned from it, and campaigns that look through it, too.

    Nothing is deleted. Rounds of such campaigns count as retracted, and the campaigns do not go on.
    """
    from t2t.commands.distillations import retract_encoder

    retract_encoder(context.obj, name, teacher, reason, undo)


def distill_commands(run_flow: RunFlow) -> typer.Typer:
    """The group of commands. Args: run_flow: runs a distillation in Prefect, which this room does not know."""

    @distill_app.command("run")
    def run(
        context: typer.Context,
        name: Name,
        settings: Settings = None,
        named: Named = None,
        dry_run: DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        """Distill several encoders into one, which campaigns can use at once; `run` may be left out.

        One that was interrupted goes on where it stopped, and comes to the same bytes. Uses the Prefect server at
        PREFECT_API_URL, or starts one of its own for as long as it lasts.
        """
        from t2t.core.config import parse
        from t2t.distillation.entries import DistillationRun, check_distillation, read_distillation

        context.obj.file("distillations", name)
        wanted = {"distillation": name, "name": named, "settings": settings or ()}
        order = parse(DistillationRun, wanted, f"t2t distill {name}")
        config = read_distillation(context.obj, order)
        check_distillation(context.obj, config)
        from t2t.commands.distillations import plan_json, print_made, print_plan, state_json

        if dry_run:
            plan = plan_json(context.obj, config)
            if as_json:
                print_json(plan)
            else:
                print_plan(plan)
            return
        run_flow(context.obj, order)
        if as_json:
            print_json(state_json(context.obj, config.name))
        else:
            print_made(context.obj, config.name)

    return distill_app
