"""Lines of a configuration file in specs, and how they are read."""

import json
from collections.abc import Iterable
from typing import Any

from domain.configuration import Configuration
from domain.events import (
    Event,
)
from handlers.services.config_file import BadLine, parse

ANN, BOB = "0x" + "a" * 40, "0x" + "b" * 40

INFLUENCER: dict[str, Any] = {"kind": "influencer", "id": "ann", "venue": "hyperliquid", "addresses": [ANN]}
SUBSCRIBER: dict[str, Any] = {"kind": "subscriber", "id": "sam", "deposit_usd": "10000"}
SUBSCRIPTION: dict[str, Any] = {
    "kind": "subscription",
    "id": "sam-ann",
    "subscriber_id": "sam",
    "influencer_id": "ann",
    "sizing": {"mode": "copy_percent", "percent": "1"},
}
GUARDRAIL: dict[str, Any] = {"kind": "guardrail", "scope": "global", "values": {"spread_bps": 25}}
WORLD = [INFLUENCER, SUBSCRIBER]


def reading(*lines: dict[str, Any] | str, known: Configuration | None = None) -> tuple[list[Event], list[BadLine]]:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return parse(texts, known or Configuration(), "ops")


def read(*lines: dict[str, Any] | str, known: Configuration | None = None) -> list[Event]:
    events, bad = reading(*lines, known=known)
    assert bad == []
    return events


def wrong(*lines: dict[str, Any] | str, known: Configuration | None = None) -> list[str]:
    _, bad = reading(*lines, known=known)
    return [str(one) for one in bad]


def configured(events: Iterable[Event]) -> Configuration:
    configuration = Configuration()
    for event in events:
        configuration.evolve(event, 0)
    return configuration
