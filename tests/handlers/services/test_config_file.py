"""Configuration files: the event of every kind of line."""

import pytest

from domain.events import (
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
from domain.micros import micros
from domain.sizing import SIZING_MODES
from handlers.services.config_file import line_of
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


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ({"reduce_by": "notional"}, {"reduce_by_notional": 1}),
        ({"reduce_by": "fraction"}, {"reduce_by_notional": 0}),
        ({"exit_widening": "off", "exits_while_paused": "on"}, {"exit_widening": 0, "exits_while_paused": 1}),
        ({"exit_widening": 0, "accumulate": "off"}, {"accumulate": 0, "exit_widening": 0}),
    ],
)
def test_guardrails_of_a_subscription_may_be_words(written: dict[str, object], stored: dict[str, int]) -> None:
    (subscription,) = read(SUBSCRIPTION | {"limits": written}, SUBSCRIBER, INFLUENCER)[:1]
    assert isinstance(subscription, SubscriptionConfigured)
    assert subscription.limits == stored
    assert line_of(subscription)["limits"] == stored


def test_blank_lines_and_comments_are_skipped_but_counted() -> None:
    assert read("", "  ", "# a comment", "   # another\n", GUARDRAIL, "\n")
    assert wrong("", "# a comment", "{") == [
        "line 3: is not JSON: Expecting property name enclosed in double quotes at column 2"
    ]


def test_a_file_may_refer_to_what_comes_later_or_is_configured_already() -> None:
    assert len(read(SUBSCRIPTION, SUBSCRIBER, INFLUENCER)) == 3
    known = configured(read(*WORLD))
    assert len(read(SUBSCRIPTION, GUARDRAIL | {"scope": "influencer:ann"}, known=known)) == 2
