"""What a run needs around it, checked before it begins: a work folder to write to, servers that answer."""

from __future__ import annotations

import getpass
import os
import re
import resource
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

from t2t.core.errors import T2TError, one_line

# Each is optional: without it the run starts, or writes, its own.
SERVERS = {"PREFECT_API_URL": "Prefect", "MLFLOW_TRACKING_URI": "MLflow"}
# What each answers only to who has a login, where it asks for one.
ASKS = {"Prefect": "/admin/version", "MLflow": "/api/2.0/mlflow/experiments/search?max_results=1"}
KEYS = {"Prefect": "PREFECT_API_AUTH_STRING", "MLflow": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"}


# Bytes of addresses, not of memory: torch, MLflow and Prefect alone take 3.7 GB of them (measured).
LEAST_ADDRESSES = 5 * 2**30
# Where Linux says how much memory a container may have, in its newer and its older way.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
# Who is told how a campaign goes on: names with commas between them (`t2t.campaign.observer`).
OBSERVERS_VARIABLE = "T2T_OBSERVERS"


def observer_names() -> list[str]:
    """The names in T2T_OBSERVERS, each once; `mlflow` where it is not set."""
    names = os.environ.get(OBSERVERS_VARIABLE, "mlflow").split(",")
    return list(dict.fromkeys(name for part in names if (name := part.strip())))


def check_environment(work: Path, variables: Iterable[str] = tuple(SERVERS)) -> None:
    """Raises T2TError when `work` cannot be written to, or a server that the environment names does not answer.

    Args:
        variables: of SERVERS, those whose servers will be asked.
    """
    check_work_folder(work)
    for variable in variables:
        name = SERVERS[variable]
        url = os.environ.get(variable, "")
        # MLflow also takes databases; those are opened, not asked.
        if url.startswith(("http://", "https://")) or (url and name == "Prefect"):
            check_server(name, variable, url)


def check_memory() -> None:
    """Raises T2TError where the shell's `ulimit -v` is below what the libraries of a run take before any data."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESSES:
        raise T2TError(
            f"This shell allows a program {limit / 2**30:.1f} GB of addresses (ulimit -v), and a run takes "
            f"{LEAST_ADDRESSES / 2**30:.0f} GB: ulimit -v unlimited"
        )


def machine_memory() -> int:
    """Bytes of memory that programs here may have together: the machine's, or what its container is allowed."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in CONTAINER_LIMITS:
        try:
            total = min(total, int(Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no container, or one without a limit ("max")
            continue
    return total


def has_gpu() -> bool:
    """Whether this machine shows an NVIDIA GPU, without torch: good enough for what is only a warning."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def find_device() -> str:
    """The torch device to work on where nobody says another: `cuda` where there is a GPU, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """So many threads for torch's arithmetic on the CPU in the block; as many as it has where None.

    Float sums go by the number of threads, so that a student's numbers hang on the machine's cores.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_work_folder(work: Path) -> None:
    """Makes the work folder, and a file in it for a moment."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".", suffix=f".{os.getpid()}.tmp", dir=work):
            pass
    except OSError as error:
        raise T2TError(
            f"{work}: the work folder cannot be written to: {error.strerror}. Set T2T_WORK or --work to a folder of "
            "yours."
        ) from None


def check_server(name: str, variable: str, url: str, timeout: float = 10) -> None:
    """Raises T2TError when nothing answers at `url`, or the server there does not take the environment's login.

    Whatever else answers, be it with an error, is taken for the server.
    """
    health = f"{url.rstrip('/')}/health"
    try:
        urlopen(Request(health, headers=_login(name)), timeout=timeout).close()
    except HTTPError as error:
        if name == "Prefect" and error.code in (401, 403):
            raise T2TError(
                f"{variable}: the Prefect server at {shown(url)} refuses us (status {error.code}). Set "
                "PREFECT_API_AUTH_STRING (a server of your own) or PREFECT_API_KEY (Prefect Cloud)."
            ) from None
        if name == "Prefect" and error.code == 404 and not url.rstrip("/").endswith("/api"):
            raise T2TError(f"{variable}: {shown(url)} is no Prefect API; its address ends in /api.") from None
    except (OSError, HTTPException, ValueError) as error:
        raise T2TError(
            f"{variable}: no {name} server answers at {shown(url)}: {one_line(error, 200)}. Start it, correct the "
            "variable, or unset it."
        ) from None
    asked = Request(f"{url.rstrip('/')}{ASKS[name]}", headers=_login(name))
    try:
        urlopen(asked, timeout=timeout).close()
    except HTTPError as error:
        if error.code == 401:
            raise T2TError(
                f"{variable}: the {name} server at {shown(url)} asks for another login than {KEYS[name]} has. After "
                "`make up`: . work/services/env.sh"
            ) from None
    except (OSError, HTTPException, ValueError):
        pass  # of a server that answered a moment ago; whoever uses it says more


def _login(name: str) -> dict[str, str]:
    """The header with which that server's client logs in."""
    if os.environ.get("MLFLOW_TRACKING_TOKEN" if name == "MLflow" else "PREFECT_API_KEY"):
        token = os.environ.get("MLFLOW_TRACKING_TOKEN" if name == "MLflow" else "PREFECT_API_KEY")
        return {"Authorization": f"Bearer {token}"}
    login = os.environ.get("PREFECT_API_AUTH_STRING")
    if name == "MLflow":
        user, password = (os.environ.get(f"MLFLOW_TRACKING_{key}") for key in ("USERNAME", "PASSWORD"))
        login = f"{user or ''}:{password or ''}" if user or password else None
    return {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user need not have a name


def account() -> str:
    """Whom this process works as, for the system."""
    return _name(os.geteuid())


def owner(path: Path) -> str:
    """Whom a file or folder belongs to."""
    try:
        return _name(path.stat().st_uid)
    except OSError:
        return "somebody else"


def _name(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"user {uid}"  # a container's user need not have a name


def shown(uri: str) -> str:
    """The address without the password that it may hold."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # no address at all
        return re.sub(r"//[^/]*@", "//", uri)
    if parts.password is None and parts.username is None:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
