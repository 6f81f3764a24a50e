"""Partial structs: an event's struct reduced to the fields that mapped rows need, in the types that rows hold.

Reading history is mostly decoding, and most decoded fields are never used. A partial struct differs from the event's
struct in three ways: other fields are skipped; enumerations are plain text, restricted to the same values; and tuples
of structs are msgspec.Raw, which can only be stored as JSON.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

from msgspec import NODEFAULT, Raw, Struct, defstruct, field
from msgspec.structs import FieldInfo, fields


def partial_struct(event: type[Struct], names: Collection[str]) -> type[Struct]:
    """A struct with the fields `names` of an event. Raises ValueError for a name that is not a field of it."""
    known = {found.name: found for found in fields(event)}
    if unknown := set(names) - known.keys():
        raise ValueError(f"{event.__name__} has no field {', '.join(sorted(unknown))}, only {', '.join(known)}")
    return defstruct(
        f"Partial{event.__name__}",
        [_field(known[name]) for name in known if name in names],
        frozen=True,
        kw_only=True,
        gc=False,
    )


def _field(described: FieldInfo) -> tuple[str, Any] | tuple[str, Any, Any]:
    kind = _kind(described.type)
    if described.required:
        return described.name, kind
    if kind is Raw:
        raise ValueError(f"{described.name}: a tuple of structs in a partial struct must be a required field")
    if described.default is NODEFAULT:
        return described.name, kind, field(default_factory=described.default_factory)
    default = described.default
    return described.name, kind, str(default) if isinstance(default, StrEnum) else default


def _kind(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return Literal[tuple(member.value for member in kind)]
    if get_origin(kind) is tuple and len(of := get_args(kind)) == 2 and of[1] is Ellipsis:
        return Raw if isinstance(of[0], type) and issubclass(of[0], Struct) else tuple[_kind(of[0]), ...]  # type: ignore[misc]
    return kind
