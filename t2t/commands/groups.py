"""The commands that stand in groups: `t2t data`, `t2t teachers`, `t2t campaigns`, `t2t lake`; declarations only.

As in `t2t.cli`, what does the work is imported inside the commands, so that `t2t --help` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from t2t.commands.exchange import data_export, data_import

Campaign = Annotated[str, typer.Argument(help="A campaign: the name of a file in registry/campaigns/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
Reason = Annotated[str, typer.Option(help="Why, for those who come later.")]


def print_json(content: object) -> None:
    """JSON for programs, of what the command line prints as a table."""
    typer.echo(json.dumps(content, indent=2))


class RunsByName(TyperGroup):
    """A group in which a first word that is no command of it is a name, and runs what is called so: `t2t study NAME` is
    `t2t study run NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args != ["--json"] and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


data_app = typer.Typer(help="Look at datasets before anything is trained on them.", no_args_is_help=True)
teachers_app = typer.Typer(help="List, check and add teachers.", invoke_without_command=True)
campaigns_app = typer.Typer(help="List campaigns, or remove one without a round.", invoke_without_command=True)
lake_app = typer.Typer(help="Look at the lake's history: every commit, and what it changed.", no_args_is_help=True)
# Those of t2t/teachers/__init__.py, whose import takes its time.
TEACHER_KINDS = ("altered", "annotations", "command", "http", "labels", "openai", "student", "timm", "vlm", "zero-shot")
GROUPS = {"data": data_app, "teachers": teachers_app, "campaigns": campaigns_app, "lake": lake_app}


@data_app.command("check")
def data_check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A dataset: the name of a file in registry/datasets/.")],
    videos: Annotated[
        bool, typer.Option("--videos/--no-videos", help="Decode a frame of every video, which takes most of the time.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Read a dataset with every video in it; one clear error for what is wrong, else a table of what is there."""
    from t2t.campaign.entries import dataset_config
    from t2t.data.dataset import dataset_root

    # What is wrong at once is said before the libraries that read videos are loaded.
    dataset_root(dataset_config(context.obj, name), context.obj.data)
    from t2t.commands.data import check_data

    check_data(context.obj, name, as_json, videos)


data_app.command("import")(data_import)
data_app.command("export")(data_export)


@teachers_app.callback()
def teachers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the teachers: hand-written entries and the students that became teachers."""
    if context.invoked_subcommand is None:
        from t2t.commands.teachers import print_teachers, teachers_json

        if as_json:
            print_json(teachers_json(context.obj))
        else:
            print_teachers(context.obj)


@teachers_app.command("check")
def teachers_check(
    context: typer.Context,
    ids: Annotated[list[str] | None, typer.Argument(help="Teachers to check; all if left out.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset to check them on; else their campaigns'.")] = None,
) -> None:
    """Validate entries and read a few labels from each teacher."""
    from t2t.commands.teachers import check_teachers

    if not check_teachers(context.obj, ids or [], dataset):
        raise typer.Exit(1)


@teachers_app.command("add", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def teachers_add(
    context: typer.Context,
    teacher_id: Annotated[
        str, typer.Argument(metavar="ID", help="The new teacher's identity; it can never change its labels.")
    ],
    kind: Annotated[str, typer.Option(help=f"{', '.join(TEACHER_KINDS)}, or an installed plug-in's.")],
    description: Annotated[str, typer.Option(help="One line for people.")] = "",
) -> None:
    """Write a teacher's entry: t2t teachers add vendor-a --kind labels --path '${data}/teachers/vendor-a.csv'.

    Every further option becomes a key of the entry; the kind says which there are, and which are missing. Values are
    YAML: --command '[python3, my-teacher.py]', --templates '["a photo of {}."]'. docs/configuration.md lists all keys.
    """
    from t2t.commands.teachers import add_teacher

    add_teacher(context.obj, teacher_id, kind, description, context.args)


@teachers_app.command("new")
def teachers_new(
    name: Annotated[str, typer.Argument(help="The new teacher's id, and its folder's name.")],
    template: Annotated[str, typer.Option(help="command, http or python.")] = "command",
) -> None:
    """Write a teacher of your own to begin with: a program, a service or a Python plug-in, its entry and its test."""
    from t2t.commands.skeletons import new_teacher

    new_teacher(name, template)


# What stands behind the first word that is no option belongs to the program.
@teachers_app.command("test-kit", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def teachers_test_kit(
    command: Annotated[list[str] | None, typer.Argument(help="A program and its arguments.")] = None,
    url: Annotated[str, typer.Option(help="A service instead of a program.")] = "",
    dialect: Annotated[str, typer.Option(help="Of a service: t2t or label-studio.")] = "t2t",
    sample: Annotated[list[Path] | None, typer.Option(help="A file to ask about; else small pictures are.")] = None,
    environment: Annotated[list[str] | None, typer.Option(help="A variable that the program gets.")] = None,
    authorization: Annotated[str, typer.Option(help="The variable with the header Authorization.")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds for each answer.")] = 60,
    confine: Annotated[bool, typer.Option(help="Whether the program may write in its own folder only.")] = True,
    insecure: Annotated[bool, typer.Option("--insecure", help="Let http:// leave this machine.")] = False,
) -> None:
    """Take a program or service through good and bad cases of the protocol t2t-teacher/1, and print what failed.

    For instance: t2t teachers test-kit python3 my-teacher.py, or t2t teachers test-kit --url http://localhost:9090
    """
    from t2t.commands.teacher_kit import program, run_kit, service

    if bool(command) == bool(url):
        raise typer.BadParameter("name a program and its arguments, or --url URL")
    words = command or []
    other = (
        service(url, dialect, authorization, timeout, insecure)
        if url
        else program(words, environment or [], timeout, confine)
    )
    if not run_kit(other, sample or []):
        raise typer.Exit(1)


@teachers_app.command("retract")
def teachers_retract(
    context: typer.Context,
    teacher_id: Annotated[str, typer.Argument(metavar="ID", help="A teacher that has labels in the lake.")],
    dataset: Annotated[str | None, typer.Option(help="Of which dataset, where it labeled several.")] = None,
    reason: Reason = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the retraction back.")] = False,
) -> None:
    """Leave a teacher out from now on, with all that learned from its labels: rounds and self-training teachers.

    Nothing is deleted. Says which rounds no longer count and how to train others in their place.
    """
    from t2t.commands.retract import retract_teacher

    retract_teacher(context.obj, teacher_id, dataset, reason, undo)


@teachers_app.command("health")
def teachers_health(context: typer.Context, campaign: Campaign, as_json: AsJson = False) -> None:
    """Measure the labels that a campaign's next round would train on: how they vary, and how they agree with people."""
    from t2t.campaign.find import ledger_of

    ledger_of(context.obj, campaign)  # an unknown one is refused before torch is loaded
    from t2t.commands.health import health_json, print_health

    if as_json:
        print_json(health_json(context.obj, campaign))
    else:
        print_health(context.obj, campaign)


@campaigns_app.callback()
def campaigns(context: typer.Context, as_json: AsJson = False) -> None:
    """List the campaigns of the registry and of the lakes: how far each came, its champion, how it goes on."""
    if context.invoked_subcommand is None:
        from t2t.commands.campaigns import campaigns_json, print_campaigns

        if as_json:
            print_json(campaigns_json(context.obj))
        else:
            print_campaigns(context.obj)


@campaigns_app.command("remove")
def campaigns_remove(context: typer.Context, campaign: Campaign) -> None:
    """Forget that a campaign has begun, where it has no round yet: it may then begin with other settings."""
    from t2t.commands.campaigns import remove_campaign

    remove_campaign(context.obj, campaign)


@lake_app.command("log")
def lake_log(
    context: typer.Context,
    campaign: Campaign,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="The newest so many; else all.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the commits of main behind a campaign, newest first: its own, its data's and its teachers'."""
    from t2t.commands.lake import log_json, print_log

    if as_json:
        print_json(log_json(context.obj, campaign, limit))
    else:
        print_log(context.obj, campaign, limit)


@lake_app.command("diff")
def lake_diff(
    context: typer.Context,
    left: Annotated[str, typer.Argument(help="A branch, a tag such as demo/round-0, or a commit.")],
    right: Annotated[str, typer.Argument(help="What to hold beside it.")],
    campaign: Annotated[str | None, typer.Option(help="In this campaign's lake.")] = None,
    lake: Annotated[str | None, typer.Option(help="In this lake: git, git:<path> or lakefs://<repository>.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show which files differ between two states of a lake: t2t lake diff demo/round-0 demo/round-1."""
    from t2t.commands.lake import changes, diff_json, print_diff

    differences = changes(context.obj, left, right, campaign, lake)
    if as_json:
        print_json(diff_json(differences))
    else:
        print_diff(differences)


@lake_app.command("check")
def lake_check(
    context: typer.Context,
    campaign: Annotated[str | None, typer.Argument(help="A campaign, whose lake is checked.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All lakes and campaigns of the work folder.")] = False,
    clone: Annotated[Path | None, typer.Option("--from", help="A copy of the lake, to restore from.")] = None,
    mend: Annotated[bool, typer.Option("--mend", help="Put back what can be restored.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read all of a lake: say what is missing or damaged, and what it can be restored from. Exit status 1 if so."""
    from t2t.commands.lake_check import run_check

    run_check(context.obj, campaign, everything, clone, mend, as_json)
