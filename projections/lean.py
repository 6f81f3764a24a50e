"""Lean facts: an event's struct with only the fields that folds read, in the forms in which rows hold them.

Reading history is mostly decoding, and most of what is decoded is thrown away. A lean struct differs from the full
one in three ways: fields that nobody declared are skipped; enumerations come as plain text, of the same values and no
others; and tuples of structs come as msgspec.Raw, so that all a fold can do with them is to encode them.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any, Literal, get_args, get_origin

from msgspec import NODEFAULT, Raw, Struct, defstruct
from msgspec.structs import FieldInfo, fields


def lean(event: type[Struct], names: Collection[str]) -> type[Struct]:
    """The lean struct of an event's. Raises ValueError for a name that is not one of its fields."""
    known = {field.name: field for field in fields(event)}
    if unknown := set(names) - known.keys():
        raise ValueError(f"{event.__name__} has no field {', '.join(sorted(unknown))}, only {', '.join(known)}")
    return defstruct(
        f"Lean{event.__name__}", [_field(known[name]) for name in known if name in names], frozen=True, kw_only=True
    )


def _field(field: FieldInfo) -> tuple[str, Any] | tuple[str, Any, Any]:
    kind = _kind(field.type)
    if field.required:
        return field.name, kind
    if field.default is NODEFAULT or kind is Raw:
        raise ValueError(f"{field.name}: a lean field is required, or its default is plain")
    return field.name, kind, str(field.default) if isinstance(field.default, StrEnum) else field.default


def _kind(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return Literal[tuple(member.value for member in kind)]
    if get_origin(kind) is tuple and len(of := get_args(kind)) == 2 and of[1] is Ellipsis:
        return Raw if isinstance(of[0], type) and issubclass(of[0], Struct) else tuple[_kind(of[0]), ...]  # type: ignore[misc]
    return kind
