"""Cursors of pages: opaque texts that hold the sort key of the last row."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, TypeVar

import msgspec

from vibe.web.problems import BadRequestError

T = TypeVar("T")


def encode(*key: Any) -> str:
    """The cursor behind a row with this sort key."""
    return urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode(cursor: str | None, kind: type[T]) -> T | None:
    """The sort key (a `kind` of tuple) that a cursor holds; None without a cursor. Raises BadRequestError."""
    if cursor is None:
        return None
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(text, type=kind)
    except (ValueError, msgspec.MsgspecError) as error:
        raise BadRequestError(
            "the cursor is none of this path; take `next` of the page before, or leave it out"
        ) from error
