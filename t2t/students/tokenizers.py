"""Reading a tokenizer that somebody else may have made: its code is never run, and its file is looked through before.

A `tokenizer.json` is a small program. What it may do to a text is checked first, since the library that reads it trusts
it: a few bytes of it can ask for gigabytes, which ends the process without an error that could be caught.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2t.core.errors import T2TError, told

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_BYTES = 128 * 1024 * 1024  # the largest vocabularies that are in use take a third of it
MOST_GROWTH = 64  # how many times as long normalisers may make a text; a ligature becomes 18 letters
MOST_PADDING = 1 << 16  # tokens
MOST_TABLE = 4 * 1024 * 1024  # bytes of a table of normal forms; T5's has 317,000


def read_tokenizer(source: str | Path, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder (or of a name that transformers knows). Raises T2TError, whatever is wrong with it."""
    file = Path(source) / "tokenizer.json"
    if file.is_file():
        vet(file)
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    except BaseException as error:  # the parsers raise whatever a broken file leads them to
        if isinstance(error, Exception) or panicked(error):
            raise T2TError(f"{source}: the tokenizer cannot be read: {told(error)}") from None
        raise
    lacks = [name for name in ("pad", "eos", "sep") if getattr(tokenizer, f"{name}_token_id", None) is None]
    if "pad" in lacks or len(lacks) > 1:
        raise T2TError(f"{source}: the tokenizer cannot be read: it lacks a token that pads, or one that ends a text.")
    return tokenizer


def panicked(error: BaseException) -> bool:
    """Whether the library's Rust code gave up, which is no `Exception`."""
    return type(error).__name__ == "PanicException"


def vet(file: Path) -> None:
    """Raises T2TError where a `tokenizer.json` would have the library use up the memory."""

    def refuse(reason: str) -> T2TError:
        return T2TError(f"{file.parent}: the tokenizer cannot be read: {reason}.")

    if file.stat().st_size > MOST_BYTES:
        raise refuse(f"{file.name} has {file.stat().st_size:,} bytes, {MOST_BYTES:,} are allowed")
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise refuse(told(error).rstrip(".")) from None
    if not isinstance(content, dict):
        raise refuse(f"{file.name} is no object")
    growth = 1.0
    for part in parts(content.get("normalizer")):
        growth *= grows(part)
        if growth == float("inf"):
            raise refuse("its table of normal forms is damaged or too large")
        if growth > MOST_GROWTH:
            raise refuse(f"it makes texts {growth:,.0f} times as long, {MOST_GROWTH} are allowed")
    padding = content.get("padding") or {}
    fixed = padding.get("strategy", {}) if isinstance(padding, dict) else {}
    for number in (fixed.get("Fixed") if isinstance(fixed, dict) else 0, padding.get("pad_to_multiple_of")):
        if isinstance(number, int) and number > MOST_PADDING:
            raise refuse(f"it pads texts to {number:,} tokens, {MOST_PADDING:,} are allowed")


def parts(normalizer: Any) -> Iterator[dict[str, Any]]:
    """A normaliser and those within it."""
    left = [normalizer]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            yield part
            left += part.get("normalizers") or []


def grows(part: dict[str, Any]) -> float:
    """How many times as long a normaliser can make a text."""
    kind = part.get("type")
    if kind == "Prepend":
        return 1.0 + len(str(part.get("prepend", "")))
    if kind == "Replace":
        pattern = part.get("pattern")
        given = pattern.get("String") if isinstance(pattern, dict) else None
        return max(1.0, len(str(part.get("content", ""))) / max(len(str(given or "?")), 1))
    if kind == "Precompiled":
        return table_grows(part.get("precompiled_charsmap"))
    return 1.0


def table_grows(text: Any) -> float:
    """The same of a table of normal forms: the size of a tree, the tree, and strings that end with a zero byte. One
    that does not fit into itself counts as endless: the library takes the size on trust."""
    try:
        table = base64.b64decode(str(text), validate=True)
    except (binascii.Error, ValueError):
        return float("inf")
    tree = int.from_bytes(table[:4], "little")
    if not 4 <= len(table) <= MOST_TABLE or tree % 4 or tree + 4 > len(table):
        return float("inf")
    return float(max(map(len, table[4 + tree :].split(b"\0")), default=1) or 1)
