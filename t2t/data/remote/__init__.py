"""Samples that lie on other machines: `https://`, `s3://`, `gs://`, fetched when they are looked at, and kept."""

from t2t.data.remote.addresses import identity, is_remote, shown
from t2t.data.remote.cache import Unreachable, known, last_seen, local, open_remote, sha256_of

__all__ = ["Unreachable", "identity", "is_remote", "known", "last_seen", "local", "open_remote", "sha256_of", "shown"]
