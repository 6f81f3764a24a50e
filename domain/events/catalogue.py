"""The catalogue: every event under its explicit stored name, which never follows a class name."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fact. Its sequence, time, correlation and causation belong to the log. Default values are not stored."""


CATALOGUE: dict[str, type[Event]] = {}
STORED_NAME: dict[type[Event], str] = {}

E_ = TypeVar("E_", bound=type[Event])


def stored(name: str) -> Callable[[E_], E_]:
    """Enter an event into the catalogue under its stored name."""

    def enter(cls: E_) -> E_:
        assert name not in CATALOGUE, f"the stored name {name} is taken"
        CATALOGUE[name] = cls
        STORED_NAME[cls] = name
        return cls

    return enter


def schema_of(event: type[Event]) -> dict[str, Any]:
    """The JSON schema of an event's data, for the frozen catalogue and for API documents."""
    return msgspec.json.schema(event)
