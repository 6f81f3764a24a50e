"""An example of any event: every field filled with something of its type, but for those that a test names."""

import types
import typing
from enum import Enum
from typing import Any, TypeVar

from msgspec import Raw, Struct

S = TypeVar("S", bound=Struct)


def example(event: type[S], **fields: Any) -> S:
    """An event whose unnamed fields hold the first value of their type."""
    hints = typing.get_type_hints(event)
    return event(**{name: fields.get(name, _value(hints[name], name)) for name in event.__struct_fields__})


def _value(kind: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _value(arguments[0], name)
    if origin is tuple:
        return (_value(arguments[0], name),) if arguments[-1] is Ellipsis else tuple(_value(a, name) for a in arguments)
    if origin is dict:
        return {_value(arguments[0], name): _value(arguments[1], name)}
    if kind is Raw:
        return Raw(b'{"px":"1.5"}')
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, Struct):
        return example(kind)
    return {int: 1_700_000_000_000_000_000 if name.endswith(("_at", "_time")) else 7, bool: True, str: f"the {name}"}[
        kind
    ]
