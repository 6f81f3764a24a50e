"""Configuration files: the event of every kind of line, and every error reported at once."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from domain.configuration import Configuration
from domain.events import (
    CashDeposited,
    Event,
    Filters,
    GuardrailConfigured,
    InfluencerConfigured,
    Mode,
    PortfolioScope,
    Sizing,
    Status,
    SubscriberConfigured,
    SubscriptionConfigured,
    TradeSide,
    Venue,
)
from domain.guardrails import GUARDRAILS
from domain.micros import micros
from domain.sizing import SIZING_MODES
from handlers.services.config_file import BadLine, key_of, line_of, parse

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


# --- good lines --------------------------------------------------------------------------------------------


def test_an_influencer() -> None:
    assert read(INFLUENCER) == [
        InfluencerConfigured(
            id="ann", venue=Venue.HYPERLIQUID, addresses=(ANN,), label="ann", status=Status.ACTIVE, actor="ops"
        )
    ]
    (labelled,) = read(INFLUENCER | {"label": "Ann the Great", "status": "paused", "addresses": [BOB, ANN]})
    assert labelled == InfluencerConfigured(
        id="ann",
        venue=Venue.HYPERLIQUID,
        addresses=(BOB, ANN),
        label="Ann the Great",
        status=Status.PAUSED,
        actor="ops",
    )


def test_addresses_are_lowered_and_taken_once() -> None:
    (ann,) = read(INFLUENCER | {"addresses": ["0x" + "A" * 40, f" {BOB} ", ANN, "0X" + "a" * 40]})
    assert isinstance(ann, InfluencerConfigured)
    assert ann.addresses == (ANN, BOB)


def test_a_subscriber() -> None:
    assert read(SUBSCRIBER) == [
        SubscriberConfigured(
            id="sam", mode=Mode.PAPER, deposit_micros=micros("10000"), status=Status.ACTIVE, actor="ops"
        )
    ]
    (labelled,) = read(SUBSCRIBER | {"mode": "record_only", "status": "closed", "deposit_usd": "0.50"})
    assert labelled == SubscriberConfigured(
        id="sam", mode=Mode.RECORD_ONLY, deposit_micros=500_000, status=Status.CLOSED, actor="ops"
    )


@pytest.mark.parametrize(
    ("written", "amount"),
    [("10000", "10000"), ("10000.50", "10000.5"), (10000, "10000"), ("1e4", "10000"), ("0", "0"), ("0.000001", None)],
)
def test_money_is_a_decimal_string_or_a_whole_number(written: object, amount: str | None) -> None:
    (sam,) = read(SUBSCRIBER | {"deposit_usd": written})
    assert isinstance(sam, SubscriberConfigured)
    assert sam.deposit_micros == (micros(amount) if amount else 1)


def test_a_subscription() -> None:
    *_, plain = read(*WORLD, SUBSCRIPTION)
    assert plain == SubscriptionConfigured(
        id="sam-ann",
        subscriber_id="sam",
        influencer_id="ann",
        sizing=Sizing("copy_percent", percent_micros=micros("1")),
        limits={},
        filters=Filters(),
        status=Status.ACTIVE,
        actor="ops",
    )
    *_, choosy = read(
        *WORLD,
        SUBSCRIPTION
        | {
            "limits": {"spread_bps": 3, "latency_ms": 0},
            "filters": {"allowed_assets": ["BTC", "xyz:SP500"], "blocked_assets": ["ETH"], "sides": ["BUY"]},
            "status": "paused",
        },
    )
    assert isinstance(choosy, SubscriptionConfigured)
    assert choosy.limits == {"latency_ms": 0, "spread_bps": 3}
    assert choosy.filters == Filters(("BTC", "xyz:SP500"), ("ETH",), (TradeSide.BUY,))
    assert choosy.status is Status.PAUSED


@pytest.mark.parametrize(
    ("written", "sizing"),
    [
        ({"mode": "copy_percent", "percent": "0.5"}, Sizing("copy_percent", percent_micros=500_000)),
        ({"mode": "copy_percent", "percent": 1000}, Sizing("copy_percent", percent_micros=10**9)),
        ({"mode": "percent_of_equity", "percent": "2"}, Sizing("percent_of_equity", percent_micros=2 * 10**6)),
        ({"mode": "fixed_notional", "notional_usd": "50"}, Sizing("fixed_notional", notional_micros=50 * 10**6)),
        ({"mode": "proportional", "percent": "100"}, Sizing("proportional", percent_micros=100 * 10**6)),
    ],
)
def test_every_sizing_mode(written: dict[str, object], sizing: Sizing) -> None:
    *_, subscription = read(*WORLD, SUBSCRIPTION | {"sizing": written})
    assert isinstance(subscription, SubscriptionConfigured)
    assert subscription.sizing == sizing


def test_every_mode_of_the_domain_can_be_written() -> None:
    for mode in SIZING_MODES:
        amount = {SIZING_MODES[mode].parameter.name: "5"}
        *_, subscription = read(*WORLD, SUBSCRIPTION | {"sizing": {"mode": mode} | amount})
        assert isinstance(subscription, SubscriptionConfigured)
        assert subscription.sizing.mode == mode


def test_filters_of_markets_days_and_hours() -> None:
    *_, choosy = read(
        *WORLD,
        SUBSCRIPTION
        | {
            "filters": {
                "allowed_markets": ["0xrace"],
                "blocked_markets": ["0xmatch"],
                "days": [5, 1, 5],
                "hours": ["08:00-17:30", "22:00-06:00", "00:00-24:00"],
            }
        },
    )
    assert isinstance(choosy, SubscriptionConfigured)
    assert choosy.filters == Filters(
        allowed_markets=("0xrace",),
        blocked_markets=("0xmatch",),
        days=(1, 5),
        hours=((480, 1050), (1320, 360), (0, 1440)),
    )
    assert line_of(choosy)["filters"]["hours"] == ["08:00-17:30", "22:00-06:00", "00:00-24:00"]


@pytest.mark.parametrize("scope", [PortfolioScope.EXEC_USER, PortfolioScope.EXEC_GLOBAL])
def test_a_subscriber_may_be_one_of_the_portfolios_that_come_with_influencers(scope: PortfolioScope) -> None:
    (labelled,) = read(SUBSCRIBER | {"portfolio": scope.value})
    assert isinstance(labelled, SubscriberConfigured)
    assert labelled.scope is scope
    assert line_of(labelled)["portfolio"] == scope.value
    (usual,) = read(SUBSCRIBER)
    assert "portfolio" not in line_of(usual)


def test_guardrails_of_one_subscriber() -> None:
    of_sam = GUARDRAIL | {"scope": "subscriber:sam", "values": {"daily_loss_micros": 10_000}}
    assert read(SUBSCRIBER, of_sam)[1:] == [
        GuardrailConfigured(scope="subscriber:sam", values={"daily_loss_micros": 10_000}, actor="ops")
    ]


def test_guardrails_of_all_and_of_one_influencer() -> None:
    of_ann = GUARDRAIL | {"scope": "influencer:ann", "values": {"spread_bps": 1, "latency_ms": 2}}
    assert read(GUARDRAIL, INFLUENCER, of_ann)[::2] == [
        GuardrailConfigured(scope="global", values={"spread_bps": 25}, actor="ops"),
        GuardrailConfigured(scope="influencer:ann", values={"latency_ms": 2, "spread_bps": 1}, actor="ops"),
    ]


def test_blank_lines_and_comments_are_skipped_but_counted() -> None:
    assert read("", "  ", "# a comment", "   # another\n", GUARDRAIL, "\n")
    assert wrong("", "# a comment", "{") == [
        "line 3: is not JSON: Expecting property name enclosed in double quotes at column 2"
    ]


def test_a_file_may_refer_to_what_comes_later_or_is_configured_already() -> None:
    assert len(read(SUBSCRIPTION, SUBSCRIBER, INFLUENCER)) == 3
    known = configured(read(*WORLD))
    assert len(read(SUBSCRIPTION, GUARDRAIL | {"scope": "influencer:ann"}, known=known)) == 2


# --- bad lines ---------------------------------------------------------------------------------------------

KINDS = "influencer, subscriber, subscription, guardrail"


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


# --- export and import -------------------------------------------------------------------------------------

names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.:@#/-]{0,8}\Z")
statuses = st.sampled_from([status.value for status in Status])
usd = st.integers(0, 10**15).map(lambda value: f"{value // 10**6}.{value % 10**6:06d}")
percents = st.integers(1, 10**9).map(lambda value: f"{value // 10**6}.{value % 10**6:06d}")
amounts = st.integers(1, 10**15).map(lambda value: f"{value // 10**6}.{value % 10**6:06d}")
guardrails = st.dictionaries(st.sampled_from(list(GUARDRAILS)), st.integers(0, 2**63 - 1), max_size=4)
assets = st.lists(st.text(max_size=8), max_size=3)
sizings = st.one_of(
    st.fixed_dictionaries(
        {"mode": st.sampled_from(["copy_percent", "percent_of_equity", "proportional"]), "percent": percents}
    ),
    st.fixed_dictionaries({"mode": st.just("fixed_notional"), "notional_usd": amounts}),
)
minutes = st.integers(0, 1439).map(lambda value: f"{value // 60:02d}:{value % 60:02d}")
hours = st.tuples(minutes, minutes | st.just("24:00")).filter(lambda pair: pair[0] != pair[1]).map("-".join)
filters = st.fixed_dictionaries(
    {},
    optional={
        "allowed_assets": assets,
        "blocked_assets": assets,
        "allowed_markets": assets,
        "blocked_markets": assets,
        "sides": st.lists(st.sampled_from(["BUY", "SELL"])),
        "days": st.lists(st.integers(1, 7)),
        "hours": st.lists(hours, max_size=3),
    },
)


modes = st.sampled_from(list(Mode))
scopes = st.sampled_from(["SUBSCRIBER", "EXEC_USER", "EXEC_GLOBAL"])
limits: st.SearchStrategy[Any] = guardrails
options = st.fixed_dictionaries({}, optional={"limits": limits, "filters": filters, "status": statuses})


@st.composite
def files(draw: st.DrawFn) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    influencers = draw(st.lists(names, unique=True, min_size=1, max_size=4))
    subscribers = draw(st.lists(names, unique=True, min_size=1, max_size=4))
    for number, id in enumerate(influencers):
        addresses = [f"0x{number:02x}{end:038x}" for end in draw(st.sets(st.integers(0, 9), min_size=1, max_size=3))]
        optional = draw(st.fixed_dictionaries({}, optional={"label": st.text(max_size=20), "status": statuses}))
        lines.append(INFLUENCER | {"id": id, "addresses": addresses} | optional)
        if draw(st.booleans()):
            lines.append(GUARDRAIL | {"scope": f"influencer:{id}", "values": draw(guardrails)})
    for id in subscribers:
        optional = draw(st.fixed_dictionaries({}, optional={"mode": modes, "status": statuses, "portfolio": scopes}))
        lines.append({"kind": "subscriber", "id": id, "deposit_usd": draw(usd)} | optional)
        if draw(st.booleans()):
            lines.append(GUARDRAIL | {"scope": f"subscriber:{id}", "values": draw(guardrails)})
    for id in draw(st.lists(names, unique=True, max_size=4)):
        optional = draw(options)
        lines.append(
            {
                "kind": "subscription",
                "id": id,
                "subscriber_id": draw(st.sampled_from(subscribers)),
                "influencer_id": draw(st.sampled_from(influencers)),
                "sizing": draw(sizings),
            }
            | optional
        )
    return draw(st.permutations(lines))


@settings(derandomize=True, deadline=None)
@given_any(files())
def test_what_is_exported_can_be_imported_and_changes_nothing(lines: list[dict[str, Any]]) -> None:
    events = read(*lines)
    assert len(events) == len(lines)
    exported = [line_of(event) for event in events]
    assert read(*exported, known=configured(events)) == events
    assert [line_of(event) for event in read(*exported)] == exported


def test_other_events_have_no_line() -> None:
    event = CashDeposited(deposit_id="d", subscriber_id="sam", cash_delta_micros=1, config_sequence=1, deposited_at=1)
    with pytest.raises(TypeError, match="CashDeposited is not configuration"):
        line_of(event)
    with pytest.raises(TypeError, match="CashDeposited is not configuration"):
        key_of(event)
