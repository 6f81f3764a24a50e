"""Parameters that several routes share."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct

from vibe.web.problems import BadRequestError

Id = Annotated[str, Meta(min_length=1, max_length=300)]
Limit = Annotated[int, Meta(ge=1, le=500)]
CursorText = Annotated[str, Meta(max_length=2000)]
Range = Literal["1d", "7d", "30d", "90d"]
SPANS: dict[Range, timedelta] = {
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}


class Listed(Struct, frozen=True, kw_only=True):
    """A page of a list."""

    cursor: CursorText | None = None
    limit: Limit = 50


class Spanned(Struct, frozen=True, kw_only=True):
    """A span of time that ends now."""

    range: Range = "30d"


def aware(time: datetime | None, name: str) -> datetime | None:
    """Raises BadRequestError for a time without an offset."""
    if time is not None and time.tzinfo is None:
        raise BadRequestError(f"{name} needs an offset, such as 2026-11-30T12:00:00Z")
    return time
