"""`vibe demo --live`: one subscriber more, who trades with signed orders on an account that the sandbox opens.

The key of the agent is made anew for every run and lives in the environment of `execute` alone. The sandbox keeps its
accounts in memory, so that a live demo is never continued.
"""

import os
from collections.abc import Iterable
from typing import Final

import msgspec

from gateways.hyperliquid.signing import SigningKey
from gateways.keys.sources import ENVIRONMENT
from gateways.sandbox.hyperliquid import INFLUENCERS

SUBSCRIBER: Final = "frida"
ACCOUNT: Final = "0x" + "f1" * 20
DEPOSIT_USD: Final = "10000"
_COPIED_USD: Final = "100"


class LiveDemo:
    """The account of one run and the agent that may trade for it."""

    def __init__(self) -> None:
        key = SigningKey(os.urandom(32))
        self.environment = {f"{ENVIRONMENT}{SUBSCRIBER.upper()}": key.secret().hex()}
        """For the process that sends orders."""
        self.arguments = ["--account", ACCOUNT, "--agent", key.address, "--deposit", DEPOSIT_USD]
        """For the sandbox, which opens the account."""


def configuration() -> Iterable[str]:
    """The lines that add the live subscriber, who copies every influencer of Hyperliquid, as JSON."""
    lines: list[dict[str, object]] = [
        {"kind": "subscriber", "id": SUBSCRIBER, "mode": "live", "deposit_usd": DEPOSIT_USD},
        {
            "kind": "account",
            "subscriber_id": SUBSCRIBER,
            "venue": "hyperliquid",
            "address": ACCOUNT,
            "agent": SUBSCRIBER,
        },
    ]
    lines += [
        {
            "kind": "subscription",
            "id": f"{SUBSCRIBER}-{one.id}",
            "subscriber_id": SUBSCRIBER,
            "influencer_id": one.id,
            "sizing": {"mode": "fixed_notional", "notional_usd": _COPIED_USD},
        }
        for one in INFLUENCERS
    ]
    return (msgspec.json.encode(line).decode() for line in lines)
