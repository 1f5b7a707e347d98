"""`t2t deploy`: a campaign on a schedule of a Prefect server, by its name; what is scheduled, and no longer."""

from __future__ import annotations

import json
import logging
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from t2t.core.errors import T2TError


def deploy(
    context: typer.Context,
    campaign: Annotated[
        str | None, typer.Argument(help="A campaign of registry/campaigns/; all deployments are listed if left out.")
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(help="When it runs: minute, hour, day, month, weekday. Without it runs are started by hand."),
    ] = None,
    timezone: Annotated[str, typer.Option(help="Of the cron expression, as Europe/Berlin.")] = "UTC",
    rounds: Annotated[
        int | None, typer.Option(min=1, help="So many a run at most; all that are left if left out.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="As for run: under another name.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="As for run: training.steps=500.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the campaign's deployment off the server.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Schedule a campaign on the Prefect server at PREFECT_API_URL: t2t deploy demo --cron "0 2 * * *" --rounds 1.

    The server keeps the campaign's name and what --set changes; each run reads registry/campaigns/ anew. Doing it
    again renews the deployment, and without --cron keeps its schedule.
    """
    # Prefect's own lines are for its server, and it has none to say here.
    logging.getLogger("prefect").setLevel(logging.ERROR)
    from t2t.integrations.prefect import deploy as server

    if campaign is None:
        if cron or name or settings or remove or rounds:
            raise T2TError("Name the campaign: t2t deploy NAME …; without one all deployments are listed.")
        found = server.deployments()
        typer.echo(json.dumps([asdict(one) for one in found], indent=2) if as_json else _listed(found))
        return
    if remove:
        if cron or settings or rounds:
            raise T2TError("--remove takes the deployment away: leave --cron, --set and --rounds out.")
        gone = name or campaign
        running = server.remove(gone, Path.cwd())
        rest = f" {running} of its runs are under way and go on." if running else ""
        typer.echo(f"Removed {server.FLOW}/{gone}: nothing is scheduled any more. Its rounds stay.{rest}")
        return
    from t2t.campaign.overrides import overrides_from, unset_variables
    from t2t.core.config import read_yaml

    overrides = overrides_from(context.obj, campaign, name, settings or [])
    server.server_address()
    if cron is not None:
        server.check_schedule(cron, timezone)
    from t2t.flows.self_training import self_training

    order = server.Order(campaign, overrides, context.obj, Path.cwd(), cron, timezone, rounds)
    made = server.deploy(order, self_training)
    if as_json:
        typer.echo(json.dumps(asdict(made), indent=2))
        return
    typer.echo(_said(order, made))
    for variable in unset_variables(read_yaml(context.obj.file("campaigns", campaign)), overrides):
        typer.echo(f"{variable} is not set here: the campaign needs it where it runs, in the worker's environment.")


def _said(order: Any, made: Any) -> str:
    """What was done, and what can be done with it."""
    rules = [f"{rule}{'' if active else ', paused'}" for rule, active in made.schedules]
    removing = f"t2t deploy {order.campaign}{f' --name {order.name}' if order.name != order.campaign else ''} --remove"
    most = order.most_rounds
    rounds = "all rounds that are left" if most is None else f"{most} round{'s' * (most > 1)} at most"
    lines = {
        "schedule": "; ".join(rules) or f"none: runs are started by hand (--cron {shlex.quote('0 2 * * *')} sets one)",
        "a run": f"{rounds} of {order.workspace.file('campaigns', order.campaign)}, read anew each time",
        "changed": json.dumps(order.overrides) if order.overrides else "",
        "work folder": str(order.workspace.work),
        "see it": made.url,
        "start now": f"prefect deployment run {shlex.quote(made.name)}",
        "remove it": removing,
    }
    text = [f"{'Deployed' if made.new else 'Renewed'} {made.name}"]
    text += [f"  {what:<12} {value}" for what, value in lines.items() if value]
    if not made.worker:
        text.append("No worker is at work for it: prefect worker start --pool t2t, in the environment that runs need.")
    return "\n".join(text)


def _listed(found: list[Any]) -> str:
    if not found:
        return "Nothing is deployed. A campaign: t2t deploy NAME --cron '0 2 * * *'"
    lines = []
    for one in found:
        rules = "; ".join(f"{rule}{'' if active else ', paused'}" for rule, active in one.schedules) or "by hand"
        lines.append(f"{one.name}\n  runs      {one.runs}\n  schedule  {rules}\n  see it    {one.url}")
    return "\n".join(lines)
