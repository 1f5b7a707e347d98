"""One step of the engine as a Prefect task; where it uses the GPU, behind the limit that all runs share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.states import Completed, State

from t2t.core.errors import T2TError
from t2t.integrations.prefect.setup import GPU

# Renewed while the step runs, so that it may take hours; the server's least. A killed run's slot is free again after
# about a minute and a half.
LEASE_SECONDS = 60
# The steps of the loop (`t2t.campaign.loop`) that compute on the device.
ON_DEVICE = ("prepare", "tune", "begin", "train", "evaluate", "promote")


def step(name: str, function: Callable[..., Any], *arguments: Any, device: str = "cpu") -> Any:
    """Runs one of the engine's steps as a Prefect task, with the GPU for itself where `device` is one.

    Prefect's own cache is off: whether a step is done is decided by its artifact and the ledger (DESIGN, section 6).
    """

    # Prefect would look through all that a task is given, down to the last sample's id.
    def work() -> Any:
        return function(*arguments)

    work.__doc__ = function.__doc__
    kind = name.split(":")[-1].strip()
    with gpu_slot(device):
        return task(work, name=kind, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)()


def note_done(name: str, message: str) -> None:
    """Notes what an earlier run did as a task run of this one, in the state `Done before`: nothing is done again."""

    def noted() -> State[None]:
        return Completed(name="Done before", message=message)

    task(noted, name="done before", task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(return_state=True)


def steps_on(device: str) -> Callable[..., Any]:
    """`step` for the loop: a step that computes has the device for itself, between steps it is free for others."""

    def run(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        computes = name.split(":")[-1].strip() in ON_DEVICE
        return step(name, function, *arguments, device=device if computes else "cpu")

    return run


@contextmanager
def gpu_slot(device: str) -> Iterator[None]:
    """Holds a slot of the limit `gpu` for the block, waiting until there is one. A CPU is not asked for.

    Raises T2TError where the server has no such limit: without it two runs would meet on the card.
    """
    with ExitStack() as stack:
        if device.startswith("cuda"):
            try:
                stack.enter_context(concurrency(GPU, strict=True, lease_duration=LEASE_SECONDS))
            except ConcurrencySlotAcquisitionError as error:
                if "must be created" not in str(error):
                    raise
                raise T2TError(
                    f"This run uses the GPU ({device}), and its Prefect server has no active concurrency limit "
                    f"{GPU!r} that keeps two runs from meeting there. Make it, with as many slots as runs may share "
                    f"the GPU: prefect gcl create {GPU} --limit 1"
                ) from None
        yield


def make_limit() -> None:
    """Makes the limit on a server of our own, with its slot free: whoever held it went with the server's last run."""
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(GPU, 1)
        client.update_global_concurrency_limit(GPU, GlobalConcurrencyLimitUpdate(active_slots=0))
