"""An influencer with two addresses, from raw trades to groups: what is copied is what it does with both together."""

import itertools

import pytest
from msgspec import structs

from domain.events import (
    Action,
    GapDetected,
    GroupCause,
    GroupClosed,
    PositionState,
    RawReceived,
    SignalRecorded,
)
from domain.micros import micros
from handlers.group import Group
from handlers.normalize import Normalize
from tests.domain.decision_specs import deciding, the
from tests.domain.facts import bought, executed, requested
from tests.handlers.folding import ALICE, NOW, Folding, account, configured, trade

SECOND_ADDRESS = "0x" + "c3" * 20
MS = 1_000_000
START_MS = NOW // MS


def influencer(*addresses: str) -> list[str]:
    listed = ",".join(f'"{address}"' for address in addresses)
    return [f'{{"kind":"influencer","id":"alice","venue":"hyperliquid","addresses":[{listed}]}}']


class Influencer:
    """Alice, whose trades go through the stages normalize and group."""

    def __init__(self, *addresses: str) -> None:
        self.configuration = configured(influencer(*addresses))
        self.normalize = Folding(Normalize(self.configuration))
        self.group = Folding(Group())
        self._numbers = itertools.count(1)
        for address in addresses:
            self.stores(of(account(time_ms=START_MS - 1, worth="1000"), address))

    def stores(self, raw: RawReceived) -> list[GroupClosed]:
        """The groups that a raw event leads to by itself."""
        found = [
            made
            for event in self.normalize.when(raw)
            if isinstance(event, SignalRecorded | GapDetected)
            for made in self.group.when(event, now=raw.detect_time)
        ]
        return [event for event in found if isinstance(event, GroupClosed)]

    def trades(self, *fills: tuple[str, str, str], ms: int) -> GroupClosed:
        """The group of some fills (address, side, size) in one window."""
        for address, side, size in fills:
            at = START_MS + ms
            number = next(self._numbers)
            assert not self.stores(trade(address, side, sz=size, px="100", tid=number, time=at, detect_time=at * MS)), (
                "all fills are in one window"
            )
        *_, closed = self.group.when_time_passes((START_MS + ms + 500) * MS)
        assert isinstance(closed, GroupClosed)
        return closed


def of(raw: RawReceived, address: str) -> RawReceived:
    return structs.replace(raw, address=address, raw_id=f"{raw.raw_id}:{address}")


def net(group: GroupClosed) -> tuple[Action, int, int]:
    return group.action, group.before_micros // 1_000_000, group.after_micros // 1_000_000


@pytest.fixture
def alice() -> Influencer:
    """Alice bought 10 with one address and then 1 with the other."""
    alice = Influencer(ALICE, SECOND_ADDRESS)
    assert net(alice.trades((ALICE, "B", "10"), ms=1_000)) == (Action.OPEN, 0, 10)
    assert net(alice.trades((SECOND_ADDRESS, "B", "1"), ms=2_000)) == (Action.INCREASE, 10, 11)
    return alice


def test_what_one_address_closes_is_a_part_of_what_both_hold(alice: Influencer) -> None:
    closed = alice.trades((SECOND_ADDRESS, "A", "1"), ms=3_000)
    assert net(closed) == (Action.DECREASE, 11, 10)
    assert closed.position_state is PositionState.KNOWN


def test_a_copy_gives_up_the_fraction_of_the_whole_position(alice: Influencer) -> None:
    group = alice.trades((SECOND_ADDRESS, "A", "1"), ms=3_000)
    request = structs.replace(
        requested(),
        action=group.action,
        trade_side=group.trade_side,
        before_micros=group.before_micros,
        after_micros=group.after_micros,
        quote=requested(before="1", after="0").quote,
    )
    decided = the(deciding(request, *executed(bought("BTC", "5.5", "100"))))
    assert decided.reduce_micros == micros("0.5"), "one share of eleven"


def test_two_addresses_that_reduce_in_one_window_are_one_decrease(alice: Influencer) -> None:
    alice.trades((SECOND_ADDRESS, "A", "1"), ms=3_000)
    both = alice.trades((ALICE, "A", "1"), (SECOND_ADDRESS, "A", "1"), ms=4_000)
    assert net(both) == (Action.DECREASE, 10, 8), "10 and 0 become 9 and -1"


def test_the_last_address_that_closes_closes_it_all(alice: Influencer) -> None:
    assert net(alice.trades((ALICE, "A", "10"), ms=3_000)) == (Action.DECREASE, 11, 1)
    assert net(alice.trades((SECOND_ADDRESS, "A", "1"), ms=4_000)) == (Action.CLOSE, 1, 0)


def test_what_a_snapshot_takes_from_one_address_is_a_part_of_what_both_hold(alice: Influencer) -> None:
    (gap,) = alice.stores(of(account(time_ms=START_MS + 5_000), SECOND_ADDRESS))
    assert (gap.cause, *net(gap)) == (GroupCause.GAP, Action.DECREASE, 11, 10)


def test_equity_is_that_of_all_addresses_or_unknown(alice: Influencer) -> None:
    group = alice.trades((ALICE, "B", "1"), ms=3_000)
    assert group.influencer_equity_micros == micros("2000")
    unknown = Influencer(ALICE, SECOND_ADDRESS)
    unknown.stores(of(account(time_ms=START_MS, section="xyz"), "0x" + "d4" * 20))
    unknown.configuration.directory.influencers.clear()
    assert unknown.trades((ALICE, "B", "1"), ms=3_000).influencer_equity_micros is None


def test_an_address_that_is_no_longer_configured_does_not_count(alice: Influencer) -> None:
    alice.configuration.directory = configured(influencer(SECOND_ADDRESS)).directory
    assert net(alice.trades((SECOND_ADDRESS, "A", "1"), ms=3_000)) == (Action.CLOSE, 1, 0)


def test_while_a_configured_address_trades_through_others_all_that_were_seen_count(alice: Influencer) -> None:
    """Such as a Polymarket profile, whose proxy wallets hold the positions, also after the proxy has changed."""
    alice.configuration.directory = configured(influencer("0x" + "e5" * 20)).directory
    assert net(alice.trades((SECOND_ADDRESS, "A", "1"), ms=3_000)) == (Action.DECREASE, 11, 10)


def test_other_influencers_and_other_assets_do_not_count(alice: Influencer) -> None:
    raw = trade(SECOND_ADDRESS, "B", sz="3", px="100", tid=90, coin="ETH", time=START_MS + 3_000)
    (eth,) = alice.normalize.when(structs.replace(raw, detect_time=(START_MS + 3_000) * MS))
    assert (eth.before_micros, eth.others_micros) == (0, 0)
    raw = trade("0x" + "f6" * 20, "A", influencer="bob", sz="1", px="100", tid=91, time=START_MS + 3_000)
    (bob,) = alice.normalize.when(raw)
    assert bob.others_micros == 0


def test_a_restart_knows_the_other_addresses(alice: Influencer) -> None:
    state = alice.normalize.from_snapshot(alice.normalize.state)
    assert state == alice.normalize.state
    alice.normalize.state = alice.normalize.replayed().state
    assert alice.normalize.state == state
    assert net(alice.trades((SECOND_ADDRESS, "A", "1"), ms=3_000)) == (Action.DECREASE, 11, 10)
