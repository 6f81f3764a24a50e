"""Runs a query and converts its rows to structs whose fields have the names of the columns."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class Reader(Protocol):
    """An asyncpg connection or pool."""

    async def fetch(self, query: str, /, *arguments: Any) -> Sequence[Any]: ...


async def many(db: Reader, kind: type[T], query: str, *arguments: Any) -> list[T]:
    """Every row as a `kind`. numeric values become int. jsonb columns are selected as text ('name::text AS name') and
    decoded if their field is not a str."""
    hints = {field.name: field.type for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    return [
        msgspec.convert({name: _value(value, hints[name]) for name, value in record.items()}, kind)
        for record in await db.fetch(query, *arguments)
    ]


async def one(db: Reader, kind: type[T], query: str, *arguments: Any) -> T | None:
    """The first row, if any."""
    found = await many(db, kind, query, *arguments)
    return found[0] if found else None


def _value(value: Any, kind: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, list):
        return [_value(each, str) for each in value]
    if isinstance(value, str) and kind is not str and kind != str | None and not _is_scalar(kind):
        return msgspec.json.decode(value)
    return value


def _is_scalar(kind: Any) -> bool:
    return isinstance(kind, type) and not issubclass(kind, dict | list | tuple)
