"""What one media file may cost, as a dataset's entry says it."""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from t2t.core.config import Config
from t2t.data.embeddings.media.bounds import Bounds

KEY = b"t2t.limits"


class Limits(Config):
    """Limits for decoding one video or image; a file that needs more is set aside, with the limit as its reason."""

    pixels: int = Field(1 << 27, ge=1, le=10**12, description="Pixels of a frame or picture. 8K video has 33 million.")
    decoded_pixels: int = Field(
        30_000_000_000,
        ge=1,
        le=10**18,
        description="Pixels of all frames that have to be decoded for those that are used: 14,000 of 1080p.",
    )
    seconds: float = Field(120, gt=0, le=86_400, description="Time to decode a file's frames.")
    memory: int = Field(
        2048, ge=64, le=10**9, description="MiB of memory for that, beside what the decoder takes anyway."
    )

    def bounds(self) -> Bounds:
        return Bounds(self.pixels, self.decoded_pixels, self.seconds, self.memory)


def with_limits(samples: pa.Table, limits: Limits) -> pa.Table:
    """The samples, with the limits for decoding them.

    They travel with the table, in its schema's metadata, since every way to a file (embedding here or elsewhere, a
    teacher of any kind, a check) begins with samples.
    """
    if limits == Limits():
        return samples
    return samples.replace_schema_metadata({**(samples.schema.metadata or {}), KEY: limits.model_dump_json()})


def limits_of(samples: pa.Table) -> Limits:
    written = (samples.schema.metadata or {}).get(KEY)
    return Limits() if written is None else Limits.model_validate_json(written)
