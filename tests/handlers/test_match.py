"""GROUPS -> REQUESTS: one request per subscription that wants the group, and a summary of the rest."""

from typing import Any

from msgspec import structs

from domain.events import (
    Action,
    CopyRequested,
    GroupClosed,
    GroupExpired,
    GroupMatched,
    GroupRequested,
    QuoteCaptured,
    QuoteFailed,
    TradeSide,
    Venue,
)
from domain.ids import derived
from domain.reason_codes import Reason
from handlers.live.configuration import LiveConfiguration
from handlers.live.event_codec import codec
from handlers.match import Match
from handlers.services.config_import import import_lines
from streams import subjects
from streams.connection import Connection
from streams.processing.commit import messages
from tests.handlers.folding import LINES, NOW, Folding, configured, recorded
from tests.streams.examples import example

GROUP = example(
    GroupClosed,
    group_id="g",
    influencer_id="alice",
    venue=Venue.HYPERLIQUID,
    asset="BTC",
    trade_side=TradeSide.BUY,
    event_time=NOW,
)
CAPTURED = example(
    QuoteCaptured, quote_id="q", group=GROUP, bids=((99, 1),), asks=((101, 2), (102, 3)), size_step_micros=1
)


def subscription(number: int, **fields: Any) -> str:
    extra = "".join(f',"{name}":{value}' for name, value in fields.items())
    return (
        f'{{"kind":"subscription","id":"more-{number}","subscriber_id":"ann","influencer_id":"alice",'
        f'"sizing":{{"mode":"copy_percent","percent":"1"}}{extra}}}'
    )


def test_every_subscription_gets_a_request_or_is_counted_with_the_reason() -> None:
    lines = [
        *LINES,
        subscription(1, filters='{"sides":["SELL"]}'),
        subscription(2, filters='{"blocked_assets":["BTC"]}'),
        subscription(3, status='"paused"'),
        subscription(4, filters='{"allowed_assets":["BTC"],"sides":["BUY"]}'),
    ]
    configuration = configured(lines, sequence=42)
    lane = Folding(Match(configuration))
    shared, *requests, summary = lane.when(CAPTURED)
    assert [(request.subscription_id, request.subscriber_id) for request in requests] == [
        ("ann-alice", "ann"),
        ("more-4", "ann"),
    ]
    assert summary == GroupMatched(
        group_id="g",
        quote_id="q",
        influencer_id="alice",
        matched=2,
        filtered={
            "SUBSCRIBER_PAUSED": 1,
            "SIDE_NOT_WANTED": 1,
            "ASSET_BLOCKED": 1,
            "SUBSCRIPTION_PAUSED": 1,
        },
    )
    assert isinstance(shared, GroupRequested)
    assert shared.quote is not None
    assert (shared.quote.bid_micros, shared.quote.ask_micros, shared.quote.levels) == (99, 101, ((101, 2), (102, 3)))
    assert shared.config_sequence == 42
    assert configuration.directory.policy_named(requests[0].policy_hash) is not None
    of_ann = subjects.requests(subjects.class_of("ann"), "alice")
    assert [output.subject for output in lane.outputs] == [of_ann, of_ann, of_ann, subjects.matched("alice")]
    assert [len(commit) for commit in messages(lane.outputs)] == [3, 1], "one commit for all requests of a class"
    ids = [output.id for output in lane.outputs]
    assert ids[1:] == [derived("req", "ann-alice", "g"), derived("req", "more-4", "g"), "g.matched"]
    assert {output.correlation for output in lane.outputs} == {"g"}


def test_a_reducing_group_matches_subscriptions_that_open_no_positions() -> None:
    lines = [*LINES, subscription(1, filters='{"sides":["BUY"]}'), subscription(2, status='"closed"')]
    lines.append(subscription(3, status='"closed"', on_close='"abandon"'))
    closing = structs.replace(GROUP, action=Action.CLOSE, trade_side=TradeSide.SELL, before_micros=5, after_micros=0)
    events = Folding(Match(configured(lines))).when(structs.replace(CAPTURED, group=closing))
    requests, summary = [event for event in events if isinstance(event, CopyRequested)], events[-1]
    assert {request.subscription_id: request.opening_blocked for request in requests} == {
        "ann-alice": None,
        "ben-alice": "SUBSCRIBER_PAUSED",
        "more-1": "SIDE_NOT_WANTED",
        "more-2": "SUBSCRIPTION_CLOSED",
    }
    assert summary.filtered == {"SUBSCRIPTION_INACTIVE": 1}


def test_a_group_that_only_opens_and_is_too_old_for_everybody_is_one_event() -> None:
    hasty = subscription(1, limits='{"max_signal_age_ms":90000}')
    configuration = configured([*LINES, hasty])
    configuration.directory.policies.clear()  # a process that only matches keeps none
    lane = Folding(Match(configuration))
    late = NOW + 600_001 * 1_000_000
    expired, summary = lane.when(CAPTURED, now=late)
    assert isinstance(expired, GroupExpired)
    assert (expired.subscriptions, expired.age_ms, expired.limit_ms, expired.expired_at) == (2, 600_001, 600_000, late)
    assert (summary.matched, summary.filtered["STALE_SIGNAL"]) == (0, 2)
    assert [output.id for output in lane.outputs] == ["g.expired", "g.matched"]
    _, *requests, summary = lane.when(CAPTURED, now=NOW + 90_001 * 1_000_000)
    assert (len(requests), summary.matched) == (2, 2), "one of them takes it: each decides for itself"


def test_a_group_that_reduces_is_requested_however_old_it_is() -> None:
    closing = structs.replace(GROUP, action=Action.CLOSE, trade_side=TradeSide.SELL, before_micros=5, after_micros=0)
    lane = Folding(Match(configured()))
    *_, summary = lane.when(structs.replace(CAPTURED, group=closing), now=NOW + 10**15)
    assert summary.matched > 0
    assert not any(isinstance(output.event, GroupExpired) for output in lane.outputs)


def test_a_failed_quote_leads_to_requests_too() -> None:
    failed = example(QuoteFailed, quote_id="q", group=GROUP, reason=Reason.NO_QUOTE)
    shared, _, _ = Folding(Match(configured())).when(failed)
    assert (shared.quote, shared.quote_reason) == (None, Reason.NO_QUOTE)


def test_an_unknown_influencer_matches_no_subscription() -> None:
    (summary,) = Folding(Match(configured(LINES[:1]))).when(CAPTURED)
    assert (summary.matched, summary.filtered) == (0, {})


async def test_the_second_part_of_a_fan_out_uses_the_configuration_of_the_first(log: Connection) -> None:
    early = await import_lines(log, LINES, actor="tests", now=NOW - 10)
    configuration = LiveConfiguration(log, codec())
    await configuration.start()
    try:
        stage = Match(configuration)
        event = recorded(CAPTURED, 7, stream="GROUPS")
        first = list(stage.handle(None, event, NOW))
        assert stage.config_sequence() == early.sequence
        changed = [subscription(1), LINES[-1].replace('"ben"', '"ann"'), LINES[2].replace('"10000"', '"5"')]
        later = await import_lines(log, changed, actor="tests", now=NOW - 5)
        await configuration.reached(later.sequence)
        again = list(await stage.handle_again(None, event, NOW, early.sequence))
        assert again == first
        now = list(stage.handle(None, event, NOW))
        assert len(now) == len(first) + 2, "and without that it would be another fan-out"
    finally:
        await configuration.close()


def test_requests_go_in_classes_of_partitions_and_in_chunks() -> None:
    lines = [f'{{"kind":"subscriber","id":"many{n}","deposit_usd":"1"}}' for n in range(900)]
    lines += [
        f'{{"kind":"subscription","id":"many{n}-alice","subscriber_id":"many{n}","influencer_id":"alice",'
        '"sizing":{"mode":"copy_percent","percent":"10"}}'
        for n in range(900)
    ]
    lane = Folding(Match(configured([*LINES, *lines])))
    events = lane.when(CAPTURED)
    commits = messages(lane.outputs)[:-1]
    assert max(len(commit) for commit in commits) <= 201
    for commit in commits:
        shared, *own = [output.event for output in commit]
        assert isinstance(shared, GroupRequested)
        (first_partition,) = {subjects.class_of(one.subscriber_id) for one in own}  # type: ignore[attr-defined]
        assert {output.subject for output in commit} == {f"requests.{first_partition}.alice"}
    assert sum(len(commit) - 1 for commit in commits) == events[-1].matched
    assert len({output.id for output in lane.outputs}) == len(lane.outputs)
