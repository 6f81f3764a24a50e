"""Configuration files: every error is reported at once, with its line."""

import json
from typing import Any

import pytest

from domain.configuration import Configuration
from domain.events import (
    Venue,
)
from domain.guardrails import GUARDRAILS
from domain.sizing import SIZING_MODES
from tests.handlers.services.configuration_lines import (
    ANN,
    BOB,
    GUARDRAIL,
    INFLUENCER,
    SUBSCRIBER,
    SUBSCRIPTION,
    WORLD,
    configured,
    read,
    wrong,
)

# --- bad lines ---------------------------------------------------------------------------------------------

KINDS = "influencer, subscriber, subscription, account, guardrail"


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("hello", ["is not JSON: Expecting value at column 1"]),
        ('{"kind": "influencer"', ["is not JSON: Expecting ',' delimiter at column 22"]),
        ("[1, 2]", ["valid dictionary"]),
        ("null", ["valid dictionary"]),
        ({"id": "ann"}, ['every line needs "kind"']),
        ({"kind": "trader"}, ["'trader'", f"use one of {KINDS}"]),
        ({"kind": ["influencer"]}, [f"use one of {KINDS}"]),
        # influencers
        (INFLUENCER | {"venue": "binance"}, ["venue: Input should be 'hyperliquid'"]),
        (INFLUENCER | {"addresses": []}, ["addresses: ", "at least 1 item"]),
        (INFLUENCER | {"addresses": ["0x12"]}, ["addresses.0: '0x12' is not an address", "0x and 40 hexadecimal"]),
        (INFLUENCER | {"addresses": [ANN, 7]}, ["addresses.1: 7 is not an address"]),
        (INFLUENCER | {"addresses": [ANN + "0"]}, ["is not an address"]),
        (INFLUENCER | {"id": ""}, ["id: ", "at least 1 character"]),
        (INFLUENCER | {"id": "ann smith"}, ["id: ", "pattern"]),
        (INFLUENCER | {"status": "away"}, ["status: Input should be 'active', 'paused' or 'closed'"]),
        (INFLUENCER | {"notes": "x"}, ["notes: ", "is not a field of this kind of line"]),
        # subscribers
        ({"kind": "subscriber", "id": "sam"}, ["deposit_usd: Field required"]),
        (SUBSCRIBER | {"deposit_usd": 10000.5}, ['deposit_usd: write it as a decimal string such as "10000"']),
        (SUBSCRIBER | {"deposit_usd": True}, ["deposit_usd: write it as a decimal string"]),
        (SUBSCRIBER | {"deposit_usd": None}, ["deposit_usd: write it as a decimal string"]),
        (SUBSCRIBER | {"deposit_usd": "-1"}, ["deposit_usd: must lie between 0 and 1,000,000,000"]),
        (SUBSCRIBER | {"deposit_usd": -1}, ["deposit_usd: must lie between 0 and 1,000,000,000"]),
        (SUBSCRIBER | {"deposit_usd": "1000000000.01"}, ["deposit_usd: must lie between 0 and 1,000,000,000"]),
        (SUBSCRIBER | {"deposit_usd": "0.0000001"}, ["deposit_usd: '0.0000001' needs more than six decimal places"]),
        (SUBSCRIBER | {"deposit_usd": "plenty"}, ["deposit_usd: 'plenty' is not a decimal number"]),
        (SUBSCRIBER | {"deposit_usd": "NaN"}, ["deposit_usd: 'NaN' is not a plain decimal number"]),
        (SUBSCRIBER | {"deposit_usd": "1e99999999999999"}, ["deposit_usd: ", "is not a plain decimal number"]),
        ('{"kind":"subscriber","id":"sam","deposit_usd":1e99999999999999999999}', ["a number is too large"]),
        ("[" * 100_000, ["the nesting too deep"]),
        (SUBSCRIBER | {"mode": "real"}, ["mode: Input should be 'paper', 'live' or 'record_only'"]),
        # subscriptions
        (
            SUBSCRIPTION | {"sizing": {"mode": "pct"}},
            ["sizing.mode 'pct' is unknown; use one of " + ", ".join(SIZING_MODES)],
        ),
        (SUBSCRIPTION | {"sizing": {}}, ["sizing.mode: Field required"]),
        (
            SUBSCRIPTION | {"sizing": {"mode": "copy_percent"}},
            ["sizing.mode copy_percent needs exactly 'percent'; got nothing"],
        ),
        (
            SUBSCRIPTION | {"sizing": {"mode": "copy_percent", "percent": "1", "notional_usd": "1"}},
            ["needs exactly 'percent'; got ['notional_usd', 'percent']"],
        ),
        (
            SUBSCRIPTION | {"sizing": {"mode": "fixed_notional", "percent": "1"}},
            ["needs exactly 'notional_usd'; got ['percent']"],
        ),
        (
            SUBSCRIPTION | {"sizing": {"mode": "copy_percent", "percent": "1", "leverage": "2"}},
            ["needs exactly 'percent'; got ['leverage', 'percent']"],
        ),
        (SUBSCRIPTION | {"sizing": {"mode": "copy_percent", "percent": "0"}}, ["sizing.percent must be above 0"]),
        (SUBSCRIPTION | {"sizing": {"mode": "copy_percent", "percent": "1000.1"}}, ["at most 1000"]),
        (
            SUBSCRIPTION | {"sizing": {"mode": "copy_percent", "percent": 0.5}},
            ["sizing.percent: write it as a decimal"],
        ),
        (
            SUBSCRIPTION | {"sizing": {"mode": "fixed_notional", "notional_usd": "0"}},
            ["sizing.notional_usd must be above 0"],
        ),
        (
            SUBSCRIPTION | {"limits": {"spred_bps": 3}},
            ["limits: guardrail 'spred_bps' is unknown; use one of " + ", ".join(GUARDRAILS)],
        ),
        (SUBSCRIPTION | {"limits": {"spread_bps": 2.5}}, ["guardrail spread_bps must be a whole number from 0; got"]),
        (SUBSCRIPTION | {"limits": {"spread_bps": -1}}, ["guardrail spread_bps must be a whole number from 0; got -1"]),
        (SUBSCRIPTION | {"limits": {"spread_bps": True}}, ["must be a whole number from 0; got True"]),
        (SUBSCRIPTION | {"limits": {"spread_bps": 2**63}}, ["must be a whole number from 0"]),
        (SUBSCRIPTION | {"limits": {"spread_bps": "20"}}, ["must be a whole number from 0; got '20'"]),
        (SUBSCRIPTION | {"limits": {"reduce_by": "half"}}, ["reduce_by must be fraction or notional; got 'half'"]),
        (SUBSCRIPTION | {"limits": {"reduce_by": 1}}, ["reduce_by must be fraction or notional; got 1"]),
        (SUBSCRIPTION | {"limits": {"exit_widening": "no"}}, ["exit_widening must be off or on; got 'no'"]),
        (
            SUBSCRIPTION | {"limits": {"reduce_by": "notional", "reduce_by_notional": 0}},
            ["guardrail reduce_by_notional is set twice"],
        ),
        (SUBSCRIPTION | {"limits": []}, ['limits: expected an object such as {"spread_bps": 20}']),
        (SUBSCRIPTION | {"filters": {"sides": ["LONG"]}}, ["filters.sides.0: Input should be 'BUY' or 'SELL'"]),
        (SUBSCRIPTION | {"filters": {"days": [0]}}, ["filters.days.0: Input should be greater than or equal to 1"]),
        (SUBSCRIPTION | {"filters": {"days": [8]}}, ["filters.days.0: Input should be less than or equal to 7"]),
        (
            SUBSCRIPTION | {"filters": {"hours": ["8-17"]}},
            ["filters.hours.0: '8-17' is not a range of UTC hours such as \"08:00-17:30\""],
        ),
        (SUBSCRIPTION | {"filters": {"hours": ["08:00-08:00"]}}, ["within 00:00-24:00 and not be empty"]),
        (SUBSCRIPTION | {"filters": {"hours": ["08:00-24:01"]}}, ["within 00:00-24:00 and not be empty"]),
        (SUBSCRIPTION | {"filters": {"hours": ["24:00-00:00"]}}, ["within 00:00-24:00 and not be empty"]),
        (SUBSCRIPTION | {"filters": {"hours": ["25:00-26:00"]}}, ["is not a range of UTC hours"]),
        (SUBSCRIBER | {"portfolio": "SHADOW_USER"}, ["portfolio: Input should be 'SUBSCRIBER', 'EXEC_USER' or 'EXEC"]),
        (GUARDRAIL | {"scope": "subscriber:"}, ["scope: ", "pattern"]),
        (GUARDRAIL | {"scope": "subscription:sam-ann"}, ["scope: ", "pattern"]),
        (SUBSCRIPTION | {"filters": {"assets": []}}, ["filters.assets: ", "is not a field of this kind of line"]),
        # guardrails
        (GUARDRAIL | {"values": {"max_loss": 1}}, ["values: guardrail 'max_loss' is unknown; use one of "]),
        (GUARDRAIL | {"scope": "everybody"}, ["scope: ", "pattern"]),
        (GUARDRAIL | {"scope": "influencer:"}, ["scope: ", "pattern"]),
    ],
    ids=lambda value: (value if isinstance(value, str) else json.dumps(value))[:60],
)
def test_a_bad_line_is_explained(line: dict[str, Any] | str, parts: list[str]) -> None:
    first, *more = wrong(GUARDRAIL | {"scope": "influencer:eve"}, line, known=everybody())
    assert more == []
    assert first.startswith("line 2: ")
    for part in parts:
        assert part in first


def everybody() -> Configuration:
    """Every id that the lines above refer to is configured."""
    eve = INFLUENCER | {"id": "eve", "addresses": ["0x" + "e" * 40]}
    return configured(read(*WORLD, eve))


def test_references_must_exist() -> None:
    assert wrong(SUBSCRIPTION) == [
        "line 1: influencer_id 'ann' is not configured",
        "line 1: subscriber_id 'sam' is not configured",
    ]
    assert wrong(GUARDRAIL | {"scope": "subscriber:sam"}) == ["line 1: scope 'subscriber:sam' is not configured"]
    assert wrong(GUARDRAIL | {"scope": "influencer:ann"}) == ["line 1: scope 'influencer:ann' is not configured"]


@pytest.mark.parametrize(
    ("line", "thing"),
    [
        (INFLUENCER, "influencer 'ann'"),
        (SUBSCRIBER, "subscriber 'sam'"),
        (SUBSCRIPTION, "subscription 'sam-ann'"),
        (GUARDRAIL, "guardrail 'global'"),
    ],
)
def test_an_id_is_set_once_in_a_file(line: dict[str, Any], thing: str) -> None:
    assert wrong("", line, line, known=everybody()) == [f"line 3: {thing} was set on line 2 already"]


def test_an_address_belongs_to_one_influencer() -> None:
    eve = INFLUENCER | {"id": "eve", "addresses": [BOB, ANN.upper().replace("X", "x")]}
    taken = f"address {ANN} belongs to influencer 'ann' already"
    assert wrong(INFLUENCER, eve) == [f"line 2: {taken}"], "in the same file"
    assert wrong(eve, known=configured(read(INFLUENCER))) == [f"line 1: {taken}"], "configured already"


def test_an_address_may_move_when_its_owner_gives_it_up_in_the_same_file() -> None:
    known = configured(read(INFLUENCER | {"addresses": [ANN, BOB]}))
    gives, takes = INFLUENCER, INFLUENCER | {"id": "eve", "addresses": [BOB]}
    for lines in ((gives, takes), (takes, gives)):
        after = configured([*known.influencers.values(), *read(*lines, known=known)])
        assert after.followed(Venue.HYPERLIQUID) == {ANN: "ann", BOB: "eve"}


def test_every_error_is_reported_at_once_in_the_order_of_the_lines() -> None:
    assert wrong(
        SUBSCRIPTION | {"id": "x", "subscriber_id": "zoe"},
        "oops",
        INFLUENCER,
        SUBSCRIBER | {"deposit_usd": "-5", "mode": "real"},
        GUARDRAIL | {"values": {"nope": 1}},
        INFLUENCER,
    ) == [
        "line 1: subscriber_id 'zoe' is not configured",
        "line 2: is not JSON: Expecting value at column 1",
        "line 4: deposit_usd: must lie between 0 and 1,000,000,000",
        "line 4: mode: Input should be 'paper', 'live' or 'record_only'",
        f"line 5: values: guardrail 'nope' is unknown; use one of {', '.join(GUARDRAILS)}",
        "line 6: influencer 'ann' was set on line 3 already",
    ]
