"""What `t2t run` does around the flow: a Prefect server where there is none, the flow, the closing table."""

from __future__ import annotations

import os
from contextlib import nullcontext

from rich.console import Console

from t2t.campaign import CampaignConfig, override
from t2t.config import expand, parse, read_yaml
from t2t.environment import check_environment
from t2t.registry import Workspace


def read_campaign(workspace: Workspace, campaign: str, name: str | None, settings: list[str]) -> CampaignConfig:
    """A campaign of the registry with the command line's changes; validated as a whole."""
    path = workspace.file("campaigns", campaign)
    content = override(expand(read_yaml(path), {}, path), settings)
    return parse(CampaignConfig, {**content, "name": name or campaign}, path)


def run_campaign(workspace: Workspace, campaign: str, name: str | None, settings: list[str]) -> None:
    """Runs a campaign through the Prefect flow. Configuration, data and teachers are checked before a server starts."""
    config = read_campaign(workspace, campaign, name, settings)
    from t2t.rounds import Rounds

    rounds = Rounds(config, workspace)
    _ = rounds.dataset  # reading it checks it, before the lake is made
    check_environment(workspace.work)
    rounds.teachers()
    # The flow holds the lock; here it is only asked for, so that a second run is refused before a server starts.
    with rounds.lock():
        pass
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # Prefect's own lines go to its server, where its UI shows them; the terminal has the engine's, and errors once.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from infra.services import prefect_server

    own = None if os.environ.get("PREFECT_API_URL") else prefect_server(workspace.work / "prefect", meanwhile=_load)
    with own or nullcontext():
        from flows.self_training import self_training
        from flows.steps import make_limit

        if own:
            make_limit()
        self_training(config, workspace)
    from t2t.show import print_rounds

    print_rounds(workspace, config.name)
    Console().print("\nLook at the rounds in MLflow:  [bold]t2t ui[/bold]")
    if len(rounds.ledger.records()) > 1:
        Console().print(f"Two rounds side by side:       [bold]t2t compare {config.name} 0 1[/bold]")


def _load() -> None:
    """Imports what the flow needs while its server starts; Prefect reads its settings at its import."""
    import flows.self_training  # noqa: F401
    from t2t.mlflow_store import load_mlflow

    load_mlflow()
