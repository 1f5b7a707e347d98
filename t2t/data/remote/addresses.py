"""Addresses of samples: which there are, what of them may be shown, and which must not be asked."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from pydantic import Field

from t2t.core.config import Config

# Of each scheme the module that fsspec needs, and the extra that brings it.
NEEDED = {
    "https": ("aiohttp", "remote"),
    "http": ("aiohttp", "remote"),
    "s3": ("s3fs", "remote-s3"),
    "gs": ("gcsfs", "remote-gs"),
}
# What signs an address: such parts of a query are secrets.
SIGNED = ("x-amz-", "x-goog-", "signature", "sig", "token", "expires", "awsaccesskeyid", "googleaccessid", "key")
# IPv6 addresses that stand for an IPv4 one.
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RemoteConfig(Config):
    """How samples of other machines are fetched, and how many of them are kept."""

    megabytes: int = Field(4096, ge=1, le=10**7, description="Of one file at most.")
    seconds: float = Field(600, gt=0, le=86_400, description="For one file, each attempt.")
    attempts: int = Field(4, ge=1, le=20, description="How often a file is asked for, with growing waits between.")
    cache_gigabytes: float = Field(
        100,
        gt=0,
        le=10**7,
        description="Of all files that are kept in the work folder; those that were not used for longest go first.",
    )
    recheck_hours: float = Field(
        24,
        ge=0,
        le=10**5,
        description="After so long its machine is asked whether a file has changed; until then nobody is.",
    )
    private: tuple[str, ...] = Field(
        (), description="Hosts that may have private addresses (this machine, the local network); others are refused."
    )


def is_remote(path: str) -> bool:
    """Whether a sample's path is an address on another machine."""
    return "://" in path and path.partition("://")[0] in NEEDED


def shown(uri: str) -> str:
    """An address without what may be a secret in it: a user's name and password, a signature."""
    if "://" not in uri:
        return uri
    try:
        parts = urlsplit(uri)
        query = "..." if parts.query and is_signed(parts.query) else parts.query
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))
    except ValueError:
        return uri.partition("://")[0] + "://..."


def is_signed(query: str) -> bool:
    return any(name.lower().startswith(SIGNED) for name, _ in parse_qsl(query, keep_blank_values=True))


def identity(uri: str) -> str:
    """What an address is known by: without its signature, which is another one each day. A path is known by itself."""
    if not is_remote(uri):
        return uri
    parts = urlsplit(uri)
    query = "" if is_signed(parts.query) else parts.query
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def fault(uri: str, config: RemoteConfig) -> str | None:
    """What is wrong with an address, as far as it can be said without asking anybody; None for a good one."""
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        return "has a user's name in it. Give credentials by the environment."
    if not parts.hostname or not parts.path.strip("/"):
        return "names no file."
    _ = parts.port  # ValueError where it is none
    if parts.scheme == "http" and parts.hostname not in config.private:
        return "is not encrypted; http is for hosts in remote.private alone. Use https."
    if parts.scheme in ("http", "https") and refused_address(parts.hostname, parts.hostname, config.private):
        return "is of a private address; name its host in remote.private if it is yours."
    return None


@cache
def missing_module(scheme: str) -> str | None:
    """How to install what a scheme needs; None where it is there."""
    module, extra = NEEDED[scheme]
    if find_spec(module) is not None:
        return None
    return f"{scheme}:// needs {module}: pip install 'teacher2task[{extra}]'."


def refused_address(host: str, address: str, private: Sequence[str]) -> bool:
    """Whether `address`, an IP address of `host`, must not be asked: private, of this machine, link-local (the metadata
    service of a cloud), reserved. A name is none."""
    if host in private:
        return False
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    return not found.is_global or found.is_multicast
