"""demo.jsonl fits the sandbox: it follows every influencer there is, and every subscription names known ids."""

import json
from typing import Any

from gateways.sandbox import hyperliquid, polymarket
from vibe.app import demo

LINES = [json.loads(line) for line in demo.configuration()]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [line for line in LINES if line["kind"] == kind]


def test_every_influencer_of_the_sandbox_is_followed() -> None:
    followed = {(line["venue"], line["id"], *line["addresses"], line["label"]) for line in of_kind("influencer")}
    assert followed == {
        (venue, one.id, one.address, one.label)
        for venue, influencers in (("hyperliquid", hyperliquid.INFLUENCERS), ("polymarket", polymarket.INFLUENCERS))
        for one in influencers
    }


def test_subscriptions_name_configured_subscribers_and_influencers() -> None:
    influencers = {line["id"] for line in of_kind("influencer")}
    subscribers = {line["id"] for line in of_kind("subscriber")}
    subscriptions = of_kind("subscription")
    assert {line["influencer_id"] for line in subscriptions} == influencers
    assert {line["subscriber_id"] for line in subscriptions} == subscribers
