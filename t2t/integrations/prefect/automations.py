"""What a Prefect server does by itself for t2t's deployments: `python -m t2t.integrations.prefect.automations`.

Three automations, made or brought up to date at PREFECT_API_URL:

    t2t: a dead run has crashed     no heartbeat for --silence seconds: the run's machine or its worker is gone
    t2t: run again after a crash    the same run is scheduled again and goes on; `repair` counts
    t2t: tell about a round         a round was rejected, or waits: sent by the notification block --notify

They look at runs with the tag `t2t`, which the deployments of prefect.yaml give theirs; `t2t run` has nobody to start
it again.
"""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from t2t.core.errors import T2TError

# Three times what prefect.yaml sets for its runs (PREFECT_FLOWS_HEARTBEAT_FREQUENCY), and some patience.
SILENCE = 120
RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
OURS = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.t2t"}
# After these states no heartbeat is to be expected. "Waiting" is how a run ends that leaves a question (t2t decide).
ENDS = ("Completed", "Waiting", "Failed", "Crashed", "TakenOver", "Cancelled", "Suspended", "Paused", "AwaitingRetry")


def dead_runs(silence: int) -> Any:
    """Marks a run as crashed when no heartbeat comes from it: after SIGKILL of its worker nobody else says so."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    heartbeat = "prefect.flow-run.heartbeat"
    return Automation(
        name="t2t: a dead run has crashed",
        description=f"No heartbeat for {silence} s.",
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{name}" for name in ENDS)},
            match=RUNS,
            match_related=OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=silence),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=f"Silent for {silence} s.")],
    )


def run_again() -> Any:
    """Schedules a crashed run again. One that never began to run is left alone: it would never get further."""
    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    return Automation(
        name="t2t: run again after a crash",
        description="The same run goes on; the flow refuses after three crashes more.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match={**RUNS, "prefect.run-count": "!0"},
            match_related=OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message="It crashed.")],
    )


def tell(block: Any) -> Any:
    """Sends a line about a rejected or waiting round (`board` emits the events) by a notification block."""
    from prefect.automations import Automation
    from prefect.events.actions import SendNotification
    from prefect.events.schemas.automations import EventTrigger, Posture

    return Automation(
        name="t2t: tell about a round",
        description="A round was rejected by its gate, or waits for a person.",
        trigger=EventTrigger(
            expect={"t2t.round.rejected", "t2t.round.waiting"},
            match={"prefect.resource.id": "t2t.campaign.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block,
                subject="t2t: {{ event.resource.name }}",
                body="{{ event.payload.reason }}\nPR-AUC {{ '%.3f' % event.payload.pr_auc }} on test, "
                "{{ '%.3f' % event.payload.validation_pr_auc }} on validation.",
            )
        ],
    )


def apply(silence: int = SILENCE, notify: str | None = None, renew: bool = False) -> list[str]:
    """Makes the automations that the server at PREFECT_API_URL has not.

    Args:
        silence: seconds without a heartbeat after which a run counts as dead.
        notify: `<type>/<name>` of a notification block, as its page in Prefect's UI has it; None: no notification.
        renew: put those that are there back to what this file says, be they changed by people.
    Returns: a line for people about each.
    """
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore
    from prefect.exceptions import ObjectNotFound

    done = []
    with get_client(sync_client=True) as client:
        wanted = [dead_runs(silence), run_again()]
        if notify is not None:
            kind, _, name = notify.partition("/")
            try:
                block = client.read_block_document_by_name(name=name, block_type_slug=kind)
            except ObjectNotFound:
                raise T2TError(
                    f"No block {name!r} of type {kind!r}. Make one in Prefect's UI (Blocks), and name it as "
                    "<type>/<name>, for instance slack-webhook/ops."
                ) from None
            wanted.append(tell(block.id))
        for automation in wanted:
            core = AutomationCore(**automation.model_dump(exclude={"id", "owner_resource"}))
            there_already = client.read_automations_by_name(automation.name)
            if not there_already:
                client.create_automation(core)
            elif renew:
                client.update_automation(there_already[0].id, core)
            done.append(f"{('Renewed' if renew else 'There already') if there_already else 'Made'}: {automation.name}")
    return done


def main() -> None:
    """Makes t2t's automations on the Prefect server at PREFECT_API_URL. Doing it again brings them up to date."""
    parser = ArgumentParser(prog="python -m t2t.integrations.prefect.automations", description=main.__doc__)
    parser.add_argument(
        "--silence",
        type=int,
        default=SILENCE,
        help="seconds without a heartbeat until a run counts as dead; 60 at least",
    )
    parser.add_argument("--notify", help="notification block, as <type>/<name>: tells of rejected and waiting rounds")
    arguments = parser.parse_args()
    if arguments.silence < 60:
        parser.error("--silence: 60 seconds at least")
    try:
        print("\n".join(apply(arguments.silence, arguments.notify, renew=True)))
    except T2TError as error:
        raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main()
