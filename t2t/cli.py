"""The command line. Heavy libraries are imported inside the commands, so that `t2t --help` answers at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from t2t.commands import asking
from t2t.commands.distill import distill_commands
from t2t.commands.groups import GROUPS, AsJson, Campaign, Reason, print_json
from t2t.commands.study import study_commands
from t2t.core import interrupts, terminal
from t2t.core.errors import T2TError, explain, interrupted
from t2t.deploy import deploy


class _Commands(TyperGroup):
    """Typer would end a command at Ctrl-C without a word, and so before it: while it reads what was asked."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().make_context(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            raise interrupts.Stopped from interrupt

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise interrupts.Stopped from interrupt


app = typer.Typer(
    cls=_Commands,
    help="Self-training rounds for multi-teacher learning (Teacher2Task): many teachers in, one better student out.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def _print_version(wanted: bool) -> None:
    if wanted:
        from t2t.core.version import VERSION

        typer.echo(f"t2t {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    registry: Annotated[Path | None, typer.Option(help="Registry folder.", envvar="T2T_REGISTRY")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds the datasets.", envvar="T2T_DATA")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for everything that runs write.", envvar="T2T_WORK")] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More lines, and tracebacks of errors.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No lines but warnings, errors and results.")] = False,
) -> None:
    """Options for every command; they stand before the command's name."""
    from t2t.core.workspace import Workspace

    if verbose and quiet:
        raise typer.BadParameter("--verbose and --quiet cannot go together; leave one out.")
    terminal.open_log(verbose, quiet)
    context.obj = Workspace.find(registry, data_root, work)


@app.command()
def init(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="A new folder, or an empty one.")] = None,
    schemas: Annotated[bool, typer.Option("--schemas", help="Only write the registry's schemas for editors.")] = False,
) -> None:
    """Write a project to begin with: the demo's dataset, teachers and commented campaign, and Prefect's deployments."""
    from t2t.commands.init import print_init, print_schemas

    if (folder is None) != schemas:
        raise typer.BadParameter("Name a folder: t2t init my-project; or --schemas for the registry that is there.")
    print_init(folder) if folder is not None else print_schemas(context.obj.registry)


@app.command()
def run(
    context: typer.Context,
    campaign: Campaign,
    name: Annotated[str | None, typer.Option(help="Run it under another name, as a campaign of its own.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: training.steps=500. May be repeated.")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0, help="What teachers that cost money may have spent together here, instead of their budgets."
        ),
    ] = None,
) -> None:
    """Run a campaign's rounds; a campaign that was interrupted goes on where it stopped.

    Uses the Prefect server at PREFECT_API_URL, or starts one of its own for as long as the run lasts.
    """
    from t2t.campaign.entries import read_campaign
    from t2t.studies.checks import refuse_part

    if budget is not None:
        os.environ["T2T_BUDGET"] = str(budget)  # t2t/teachers/api/money.py
    # What is wrong with the configuration is said before the engine is loaded, which takes seconds.
    refuse_part(context.obj, campaign)
    config = read_campaign(context.obj, campaign, name, settings or [])
    from t2t.campaign.preflight import check_data, preflight
    from t2t.core.host import check_environment
    from t2t.integrations.mlflow.door import check_history

    begun = preflight(context.obj, config)
    check_history(context.obj.work)
    check_environment(context.obj.work, ["PREFECT_API_URL"])
    from t2t.integrations.finished import run_finished

    if begun and run_finished(context.obj, config):
        return  # nothing is left to do, which was found without the libraries of a run
    check_data(context.obj, config, begun)
    from t2t.run import run_campaign

    run_campaign(context.obj, config)


@app.command()
def rounds(context: typer.Context, campaign: Campaign, as_json: AsJson = False) -> None:
    """Print a campaign's table of rounds, from the lake's ledger. PR-AUC is on test, with its 95 % interval."""
    from t2t.commands.rounds import print_rounds, rounds_json

    if as_json:
        print_json(rounds_json(context.obj, campaign))
    else:
        print_rounds(context.obj, campaign)


@app.command()
def decide(
    context: typer.Context,
    campaign: Campaign,
    k: Annotated[int, typer.Argument(metavar="ROUND", help="The round that waits.")],
    passed: Annotated[bool, typer.Option("--pass/--reject", help="Let its student teach, or leave it on its branch.")],
    reason: Reason = "",
) -> None:
    """Answer for a round that waits for a person, in a campaign with `gate: manual`. The next `t2t run` goes on.

    A decision stays: giving it again changes nothing, and another one is refused.
    """
    from t2t.campaign.decision import decide
    from t2t.campaign.find import ledger_of

    decision, new = decide(ledger_of(context.obj, campaign), campaign, k, passed, reason)
    typer.echo(f"Round {k} of {campaign} {'is' if new else 'was already'} {decision}.")


asking.register(app)


@app.command()
def compare(
    context: typer.Context,
    campaign: Campaign,
    first: Annotated[int | None, typer.Argument(help="A round.")] = None,
    second: Annotated[int | None, typer.Argument(help="The round to hold beside it.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many topics and labels to show.")] = 10,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Hold a round's student against what could be had instead of it.")
    ] = False,
    k: Annotated[int | None, typer.Option("--round", help="With --baselines: the round; else the champion's.")] = None,
    names: Annotated[str | None, typer.Option(help="With --baselines: some of them, with commas between.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show two rounds side by side: metrics, topics that changed most, labels that changed most. Or one round's student
    among its rivals (--baselines): averages, choices and label models of its teachers, on the same pairs of test.
    """
    from t2t.commands.compare import check_asked, print_compared

    wanted = check_asked(context.obj, campaign, first, second, baselines, k, names)
    if not baselines:
        print_compared(context.obj, campaign, first, second, top, as_json)
    else:
        from t2t.commands.rivals import print_rivals

        print_rivals(context.obj, campaign, k, wanted, as_json)


@app.command()
def report(
    context: typer.Context,
    campaign: Campaign,
    out: Annotated[Path | None, typer.Option(help="The page's file; in the work folder if left out.")] = None,
    leave_one_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-out/--no-leave-one-out", help="Measure what each teacher adds, by short trainings without it."
        ),
    ] = True,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write one HTML page of what a campaign came to, to show around: rounds, teachers, topics, videos, lineage.

    It needs nothing but a browser, and goes to MLflow too. What is missing or cannot be read is said on the page. The
    short trainings are kept: a second report takes seconds.
    """
    import time

    from t2t.campaign.find import ledger_of

    ledger_of(context.obj, campaign)  # an unknown one is refused before torch is loaded
    from t2t.run import report_campaign

    start = time.monotonic()
    path = report_campaign(context.obj, campaign, leave_one_out, out)
    typer.echo(f"{path}  ({path.stat().st_size / 1e6:.1f} MB, {time.monotonic() - start:.0f} s)")
    if show:
        typer.launch(str(path))


@app.command()
def lineage(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(help="A teacher's id, CAMPAIGN/ROUND, a campaign (its champion), an encoder, or a folder."),
    ],
    as_json: AsJson = False,
) -> None:
    """Print where something comes from: checkpoint, round, teachers with fingerprints, label commits, data commit."""
    from t2t.commands.lineage import lineage, print_lineage

    tree = lineage(context.obj, target)
    if as_json:
        print_json(tree)
    else:
        print_lineage(tree)


@app.command()
def demo(
    context: typer.Context,
    crowd: Annotated[
        int, typer.Option(min=0, max=30_000, help="Also make so many weak teachers: teachers/crowd-N.npz.")
    ] = 0,
) -> None:
    """Render the demo's clips and train its teachers, into the data folder. Makes only what is not there."""
    from t2t.data.demo import make

    make(context.obj.data / "demo")
    if crowd:
        from t2t.data.demo.crowd import make_crowd

        typer.echo(make_crowd(context.obj.data / "demo", crowd))


@app.command()
def ui(context: typer.Context, port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 5000) -> None:
    """Open the MLflow UI on what has run here, until Ctrl-C."""
    from t2t.integrations.services import mlflow_ui

    mlflow_ui(context.obj.work, port)


@app.command()
def plan(
    context: typer.Context,
    campaign: Campaign,
    name: Annotated[str | None, typer.Option(help="As for run: under another name.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="As for run: training.steps=500.")] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Try a few clips and ten steps of training.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Say what a run would do, before it does it: samples to embed, pairs to label, rows of each round, time, disk.

    Writes nothing and starts no server. Times are what was measured here, else tried just now, for some seconds.
    """
    from t2t.campaign.entries import read_campaign

    config = read_campaign(context.obj, campaign, name, settings or [])
    from t2t.campaign.preflight import tell_refusal

    tell_refusal(context.obj, config)
    from t2t.commands.plan.estimate import plan
    from t2t.commands.plan.show import plan_json, print_plan

    planned = plan(context.obj, config, probe)
    if as_json:
        print_json(plan_json(planned))
    else:
        print_plan(planned)


app.command()(deploy)


def _run_study(workspace: Any, order: Any) -> T2TError | None:
    from t2t.core.host import check_environment
    from t2t.integrations.mlflow.door import check_history

    check_history(workspace.work)
    check_environment(workspace.work, ["PREFECT_API_URL"])
    from t2t.run import run_study_flow

    return run_study_flow(workspace, order)


def _report_study(workspace: Any, order: Any, out: Path | None) -> Any:
    from t2t.run import report_study

    return report_study(workspace, order, out)


app.add_typer(study_commands(_run_study, _report_study), name="study")


def _run_distillation(workspace: Any, order: Any) -> None:
    from t2t.core.host import check_environment
    from t2t.integrations.mlflow.door import check_history

    check_history(workspace.work)
    check_environment(workspace.work, ["PREFECT_API_URL"])
    from t2t.run import run_distillation_flow

    run_distillation_flow(workspace, order)


app.add_typer(distill_commands(_run_distillation), name="distill")


def main() -> None:
    """The `t2t` command: T2TErrors are printed without a traceback, exit status 1; Ctrl-C is 130."""
    terminal.open_output()
    interrupts.listen()
    try:
        app()
    except (Exception, KeyboardInterrupt) as error:
        if interrupted(error):
            typer.echo(f"Stopped. Go on with: {terminal.this_command()}", err=True)
            raise SystemExit(130) from None
        told = error if isinstance(error, T2TError) else explain(error)
        if told is None:
            raise
        terminal.log_traceback(error)
        typer.secho(f"Error: {terminal.printable(str(told))}", fg="red", err=True)
        raise SystemExit(1) from None
