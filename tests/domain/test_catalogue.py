"""The catalogue is frozen: what is stored in logs today must stay readable for ever."""

import copy
from typing import Any

import msgspec
import pytest

from domain.events import CATALOGUE, STORED_NAME, Event, stored
from domain.requests import own_part, put_together, shared_part
from tests.domain.catalogue_snapshot import changed, current, freeze, frozen
from tests.domain.facts import captured, decided, deposited, group_closed, requested, seeded, signal, subscription

WHAT_TO_DO = """
An event that is in logs must not change. Undo the change, or store the new schema under a new stored name
(or version) with an upcaster beside the event. Never edit tests/domain/catalogue.json."""
NOT_FROZEN = "\nNew events and new words of an enumeration are frozen by: python -m tests.domain.catalogue_snapshot"


def test_no_frozen_event_has_changed() -> None:
    broken = changed(frozen(), current())
    assert not broken, "\n".join(broken) + WHAT_TO_DO


def test_everything_is_frozen() -> None:
    before, now = frozen(), current()
    added = [name for name in now if now[name] != before.get(name)]
    assert not added or changed(before, now), f"not frozen yet: {', '.join(added)}{NOT_FROZEN}"


def test_stored_names_are_explicit_and_past_tense() -> None:
    for name, event in CATALOGUE.items():
        assert STORED_NAME[event] == name
        thing, _, happened = name.partition(".")
        assert thing.isalpha()
        assert happened.endswith("ed") or happened in ("reset", "due", "sent"), f"{name} is not in the past tense"


def test_a_stored_name_is_taken_once() -> None:
    with pytest.raises(AssertionError, match=r"signal\.recorded is taken"):
        stored("signal.recorded")(type("Another", (Event,), {}))
    assert CATALOGUE["signal.recorded"].__name__ == "SignalRecorded"


@pytest.mark.parametrize(
    "event",
    [
        signal(),
        seeded(("BTC", "1"), leverage=20),
        group_closed(),
        captured(),
        shared_part(requested()),
        shared_part(requested(quote=None)),
        own_part(requested()),
        decided(),
        deposited(),
        subscription(limits={"spread_bps": 3}),
    ],
    ids=lambda event: STORED_NAME[type(event)],
)
def test_an_event_comes_back_as_it_was_stored(event: Event) -> None:
    stored_bytes = msgspec.json.encode(event)
    assert msgspec.json.decode(stored_bytes, type=CATALOGUE[STORED_NAME[type(event)]]) == event


def test_a_request_is_its_two_stored_parts() -> None:
    for request in (requested(), requested(quote=None), requested(opening_blocked="paused")):
        assert put_together(request.request_id, shared_part(request), own_part(request)) == request


def test_no_event_holds_a_float() -> None:
    def types(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(types, schema))
        if not isinstance(schema, dict):
            return set()
        kind = schema.get("type")
        return set().union({kind} if isinstance(kind, str) else set(), *map(types, schema.values()))

    assert "integer" in types(current())
    assert "number" not in types(current())


# --- freezing -----------------------------------------------------------------------------------


def altered() -> tuple[dict[str, Any], dict[str, Any]]:
    """All schemas, and the one of signal.recorded in a copy to be changed."""
    now = copy.deepcopy(current())
    event: dict[str, Any] = now["signal.recorded"]["$defs"]["SignalRecorded"]
    return now, event


def test_a_new_event_is_frozen() -> None:
    now = current()
    before = {name: schema for name, schema in now.items() if name != "signal.recorded"}
    assert freeze(before, now) == now


def test_a_new_word_of_an_enumeration_is_frozen() -> None:
    now, _ = altered()
    now["signal.recorded"]["$defs"]["Venue"]["enum"].append("another")
    assert freeze(current(), now) == now


def test_a_new_field_with_a_default_is_frozen() -> None:
    now, event = altered()
    event["properties"]["fresh"] = {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}
    assert freeze(current(), now) == now


@pytest.mark.parametrize(
    ("path", "value", "difference"),
    [
        (("properties", "leverage"), None, "properties/leverage is gone"),
        (("properties", "fresh"), {"type": "integer"}, "properties/fresh is new"),
        (("properties", "taker", "type"), "integer", 'properties/taker/type was "boolean", is "integer"'),
        (("required",), ["signal_id"], "required was"),
    ],
)
def test_a_changed_event_is_refused(path: tuple[str, ...], value: Any, difference: str) -> None:
    now, event = altered()
    for key in path[:-1]:
        event = event[key]
    if value is None:
        del event[path[-1]]
    else:
        event[path[-1]] = value
    with pytest.raises(SystemExit) as refused:
        freeze(current(), now)
    assert f"signal.recorded/$defs/SignalRecorded/{difference}" in str(refused.value)
    assert "new stored name" in str(refused.value)


def test_a_lost_event_or_word_is_refused() -> None:
    now, _ = altered()
    del now["group.closed"]
    now["signal.recorded"]["$defs"]["Venue"]["enum"].remove("polymarket")
    assert changed(current(), now) == [
        "group.closed is gone",
        "signal.recorded/$defs/Venue/enum lost 'polymarket'",
    ]
