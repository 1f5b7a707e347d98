"""`make screenshots`: the pictures of docs/guide.md and the README, from running servers over a finished demo campaign.

    make up && . work/services/env.sh && prefect --no-prompt deploy --all
    t2t run demo && t2t report demo
    make screenshots

Each screen names the texts that a reader looks for there. Where one is missing, the page says that something went
wrong, or the server answers with an error, no picture is left and the script fails. The browser is the system's.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import typer
from PIL import Image

from t2t.core.errors import T2TError
from t2t.integrations.door import LOGIN, basic
from t2t.integrations.mlflow.text import CHART, MODE

try:
    from playwright import sync_api
except ImportError:  # an extra; `browser` says so
    sync_api = None

WIDTH, HEIGHT = 1400, 900
MOST_BYTES = 200_000
SECONDS, SETTLES = 60, 10
WRONG = ("Something went wrong", "Page not found", "Resource not found", "Internal Server Error", "404:")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# MLflow opens a chat beside every page; people close it once.
SETTINGS = {"mlflow.assistant.panelOpen_v1": "false", "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true"}


@dataclass(frozen=True)
class Screen:
    """A picture of an address: `<name>.png`, taken once all of `shows` can be seen.

    act: what a person would click or scroll to first. height: of the picture, in pixels.
    """

    name: str
    address: str
    shows: tuple[str, ...]
    act: Callable[[Any], None] | None = None
    height: int = HEIGHT


def click(name: str, role: str = "button") -> Callable[[Any], None]:
    def act(page: Any) -> None:
        page.get_by_role(role, name=name).first.click()

    return act


def side_by_side(page: Any) -> None:
    """Of two compared runs: the pictures of both."""
    page.get_by_text("Artifacts", exact=True).first.wait_for()
    page.get_by_text("pr_curves.png").first.click()
    page.get_by_text("Artifacts", exact=True).first.evaluate("element => element.scrollIntoView({block: 'start'})")


def differences(page: Any) -> None:
    """Of two compared runs: the parameters and metrics that differ."""
    page.get_by_text("Show diff only").first.wait_for()
    for switch in page.get_by_role("switch").all():
        switch.click()
    page.get_by_text("Parameters", exact=True).first.evaluate("element => element.scrollIntoView({block: 'start'})")


# -- which screens there are ----------------------------------------------------------------------------------------


def ask(address: str, content: dict[str, Any] | None = None) -> Any:
    """A server's JSON; with `content` by POST."""
    body = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"}
    if login := os.environ.get(LOGIN):
        headers["Authorization"] = basic(login)
    request = Request(address, body, headers)
    with build_opener(ProxyHandler({})).open(request, timeout=SECONDS) as response:
        return json.load(response)


def mlflow_screens(server: str, campaign: str, dataset: str) -> list[Screen]:
    api = f"{server}/api/2.0/mlflow"
    experiment = ask(f"{api}/experiments/get-by-name?experiment_name={quote(dataset)}")["experiment"]["experiment_id"]
    where = f"tags.`t2t.campaign` = '{campaign}' and tags.`t2t.kind` = 'round'"
    found = ask(f"{api}/runs/search", {"experiment_ids": [experiment], "filter": where})["runs"]
    rounds = sorted(run["info"]["run_name"] for run in found)
    ids = {run["info"]["run_name"]: run["info"]["run_id"] for run in found}
    if len(rounds) < 2:
        raise T2TError(f"Campaign {campaign!r} has {len(rounds)} rounds in MLflow; two at least are shown here.")
    first, last = ids[rounds[0]], ids[rounds[-1]]
    model = ask(f"{api}/registered-models/alias?name=t2t-{campaign}&alias=champion")["model_version"]
    runs, chart = f"{server}/#/experiments/{experiment}/runs", f"{server}/#/experiments/{experiment}{CHART}"
    compared = f'{server}/#/compare-runs?runs=["{first}","{last}"]&experiments=["{experiment}"]&{MODE[1:]}'
    return [
        Screen("mlflow-chart", chart, ("PR-AUC/test", "PR-AUC/validation", campaign)),
        # The README's: as people find it, a little higher.
        Screen("../mlflow", chart, ("PR-AUC/test", campaign), None, 1000),
        Screen("mlflow-round", f"{runs}/{last}{MODE}", ("PR-AUC/test", "Datasets", "t2t.commit", f"t2t-{campaign}")),
        Screen("mlflow-compare", compared, ("Metrics", "PR-AUC/test", "tasks"), differences, 1100),
        Screen("mlflow-side-by-side", compared, ("Artifacts",), side_by_side, 420),
        Screen("mlflow-pr-curves", f"{runs}/{last}/artifacts/figures/pr_curves.png{MODE}", ("pr_curves.png", "Path")),
        Screen("mlflow-topics", f"{runs}/{last}/artifacts/tables/topics.json{MODE}", ("topics.json", "unseen")),
        Screen(
            "mlflow-champion",
            f"{server}/#/models/t2t-{campaign}/versions/{model['version']}{MODE}",
            ("champion", "Source Run", "fingerprint", "t2t lineage"),
        ),
    ]


def prefect_screens(server: str, campaign: str) -> list[Screen]:
    """Those of the deployments, of a finished run, and of one that waits for a person, where there is one."""
    ui = server.removesuffix("/api")
    deployments = {deployment["name"]: deployment["id"] for deployment in ask(f"{server}/deployments/filter", {})}
    if "self-training" not in deployments:
        raise T2TError(f"No deployment on {ui}: prefect --no-prompt deploy --all")
    page_of_deployment = f"{ui}/deployments/deployment/{deployments['self-training']}"
    ended = {"flow_runs": {"state": {"type": {"any_": ["PAUSED", "COMPLETED"]}}}}
    runs = ask(f"{server}/flow_runs/filter", {**ended, "sort": "START_TIME_DESC", "limit": 100})
    done = [run for run in runs if run["name"] == campaign and run["state_name"] == "Completed"]
    if not done:
        raise T2TError(f"Prefect has no completed run of campaign {campaign!r}: t2t run {campaign}")
    screens = [
        Screen("prefect-deployments", f"{ui}/deployments", ("self-training", "At 02:00 AM every day"), None, 500),
        Screen("prefect-form", f"{page_of_deployment}/run", ("overrides", "Encoder", "Method"), None, 1300),
        Screen("prefect-run", f"{ui}/runs/flow-run/{done[0]['id']}", ("round 0: done before", "Completed"), None, 800),
        Screen("prefect-rounds", _table(server, ui, campaign), ("PR-AUC [95 %]", "champion"), None, 500),
    ]
    waiting = [run for run in runs if run["state_type"] == "PAUSED"]
    if waiting:
        page = f"{ui}/runs/flow-run/{waiting[0]['id']}"
        screens.append(Screen("prefect-approval", page, ("Decision", "Reason", "difference"), click("Resume"), 1250))
    return screens


def pr_curves(server: str, campaign: str, path: Path) -> int:
    """Writes the champion's PR curves, as MLflow has them; returns their bytes."""
    found = ask(f"{server}/api/2.0/mlflow/registered-models/alias?name=t2t-{campaign}&alias=champion")["model_version"]
    address = f"{server}/get-artifact?run_uuid={found['run_id']}&path=figures/pr_curves.png"
    with build_opener(ProxyHandler({})).open(address, timeout=SECONDS) as response:
        return path.write_bytes(response.read())


def _table(server: str, ui: str, campaign: str) -> str:
    """The artifact with the table of rounds."""
    key = "".join(c if c.isalnum() else "-" for c in campaign.lower())
    content = {"artifacts": {"key": {"any_": [f"{key}-rounds"]}}, "sort": "CREATED_DESC", "limit": 1}
    artifacts = ask(f"{server}/artifacts/filter", content)
    if not artifacts:
        raise T2TError(f"Prefect has no table of rounds of campaign {campaign!r}.")
    return f"{ui}/artifacts/artifact/{artifacts[0]['id']}"


# -- taking them ----------------------------------------------------------------------------------------------------


@contextmanager
def browser() -> Iterator[Any]:
    """A context of the system's Chromium, as a person's who has been there before."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise T2TError(f"No browser here: install one of {', '.join(BROWSERS)}.")
    if sync_api is None:
        raise T2TError("Playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as play:
        # Chromium's own sandbox needs more rights than a container's root has; the pages are this machine's own.
        running = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        login = os.environ.get(LOGIN, "")
        user, _, password = login.partition(":")
        context = running.new_context(
            viewport={"width": WIDTH, "height": HEIGHT},
            timezone_id="UTC",
            locale="en-GB",
            # MLflow's; Prefect's page keeps what it was told once.
            http_credentials={"username": user, "password": password} if login else None,
        )
        known = {"prefect-password": b64encode(login.encode()).decode()} if login else {}
        settings = {**SETTINGS, **known}
        context.add_init_script(
            "".join(f"localStorage.setItem({key!r}, {value!r});" for key, value in settings.items())
        )
        context.set_default_timeout(SECONDS * 1000)
        try:
            yield context
        finally:
            running.close()


def take(context: Any, screen: Screen, folder: Path) -> int:
    """Takes a picture; returns its bytes. Raises T2TError, naming what is not as it should be."""
    page = context.new_page()
    page.set_viewport_size({"width": WIDTH, "height": screen.height})
    faults: list[str] = []
    page.on("response", lambda answer: faults.append(f"{answer.status} {answer.url}") if answer.status >= 500 else None)
    text = "what is to be clicked"
    try:
        page.goto(screen.address)
        if screen.act is not None:
            screen.act(page)
        for text in screen.shows:
            page.get_by_text(text).filter(visible=True).first.wait_for()
        picture = settled(page)
        seen = page.inner_text("body")
        faults += [wrong for wrong in WRONG if wrong in seen]
    except sync_api.TimeoutError:
        raise T2TError(f"{screen.name}: {text!r} does not appear on {screen.address}") from None
    except sync_api.Error as error:
        raise T2TError(f"{screen.name}: {screen.address}: {error.message.splitlines()[0]}") from None
    finally:
        page.close()
    if faults:
        raise T2TError(f"{screen.name}: {screen.address}: {'; '.join(faults[:3])}")
    return write(picture, folder / f"{screen.name}.png")


def settled(page: Any) -> bytes:
    """A picture of the page once it has stopped changing: charts are drawn, and pictures come, after their texts. Some
    pages show the time, and never stop."""
    picture, same = b"", 0
    for _ in range(SETTLES):
        page.wait_for_timeout(1000)
        latest = page.screenshot()
        same = same + 1 if latest == picture else 0
        picture = latest
        if same == 2:
            break
    return picture


def write(picture: bytes, path: Path) -> int:
    """Writes a PNG with a palette, which is enough for pages; returns its bytes. Raises T2TError for an empty page or a
    file that is too large."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    if len(image.getcolors(1 << 24) or ()) < 16:
        raise T2TError(f"{path.name}: the page is empty.")
    small = image.quantize(256, dither=Image.Dither.NONE)
    content = io.BytesIO()
    small.save(content, "PNG", optimize=True)
    if len(content.getvalue()) > MOST_BYTES:
        raise T2TError(f"{path.name}: {len(content.getvalue()):,} bytes, more than {MOST_BYTES:,}.")
    path.write_bytes(content.getvalue())
    return len(content.getvalue())


def main(
    campaign: Annotated[str, typer.Argument(help="A finished campaign.")] = "demo",
    dataset: Annotated[str, typer.Option(help="Its dataset, which is its MLflow experiment.")] = "demo",
    report: Annotated[Path | None, typer.Option(help="The campaign's HTML report.")] = None,
    only: Annotated[str, typer.Option(help="Only screens whose name begins so.")] = "",
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("docs/guide"),
) -> None:
    """Take the pictures of docs/guide.md."""
    servers = {name: os.environ.get(name, "").rstrip("/") for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL")}
    try:
        for name, address in servers.items():
            if not address.startswith("http"):
                raise T2TError(f"{name} is not set: `make up`, then `. work/services/env.sh`.")
        screens = mlflow_screens(servers["MLFLOW_TRACKING_URI"], campaign, dataset)
        screens += prefect_screens(servers["PREFECT_API_URL"], campaign)
        if report is not None:
            screens.append(Screen("report", report.resolve().as_uri(), (campaign,), None, 1300))
        out.mkdir(parents=True, exist_ok=True)
        with browser() as context:
            if "../pr_curves".startswith(only):
                size = pr_curves(servers["MLFLOW_TRACKING_URI"], campaign, out / "../pr_curves.png")
                typer.echo(f"../pr_curves.png  {size:,} bytes")
            for screen in screens:
                if screen.name.startswith(only):
                    (out / f"{screen.name}.png").unlink(missing_ok=True)
                    typer.echo(f"{screen.name}.png  {take(context, screen, out):,} bytes")
    except T2TError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
