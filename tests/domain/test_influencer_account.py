"""Movements (docs/design.md, signals): splits, merges and payouts change positions without a trade."""

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import strategies as st

from domain import influencer_account
from domain.events import Action, Event, GapDetected, GapKind, PositionState, Side, SignalRecorded
from domain.ids import derived
from domain.influencer_account import Account, Movement, UnclearError, is_stale
from domain.micros import micros
from domain.testing import Given, like
from tests.domain.copy_scenarios import NO, RACE, YES, Happening, after, held, log, more, movement, moving, row, wallet
from tests.domain.facts import ANN, BUY, SELL, at, seeded

SPLIT, MERGE, REDEEM = Action.SPLIT, Action.MERGE, Action.REDEEM


def both(state: Given[Account]) -> tuple[int, int]:
    return held(state, YES), held(state, NO)


def undescribed(account: Account, movement: Movement) -> tuple[Event, ...]:
    return influencer_account.move(account, movement, ())


# --- split and merge ---------------------------------------------------------------------------------------


def test_a_split_makes_one_share_of_each_outcome_out_of_a_dollar() -> None:
    state = after(wallet()).when(moving, movement(SPLIT, "10", "10"))
    state.then(
        SignalRecorded(
            signal_id=derived("sig", f"pm:M:1|{YES}"),
            influencer_id="ann",
            venue=movement(SPLIT, "1").venue,
            address=ANN,
            asset=YES,
            market=RACE,
            action=SPLIT,
            side=Side.LONG,
            trade_side=BUY,
            before_micros=0,
            after_micros=micros("10"),
            delta_micros=micros("10"),
            price_micros=micros("0.5"),
            notional_micros=micros("5"),
            position_state=PositionState.KNOWN,
            risk_bucket="SMALL",
            taker=False,
            event_time=at(0),
            detect_time=at(40),
            source_event_id=f"pm:M:1|{YES}",
            fee_micros=0,
        ),
        like(SignalRecorded, asset=NO, action=SPLIT, after_micros=micros("10"), notional_micros=micros("5")),
    ).again().then_nothing()
    assert both(state) == (micros("10"), micros("10"))


def test_a_merge_is_the_reverse() -> None:
    state = after(wallet((YES, "12"), (NO, "10"))).when(moving, movement(MERGE, "10", "10"))
    state.then(
        like(SignalRecorded, asset=YES, action=MERGE, trade_side=SELL, side=Side.LONG, after_micros=micros("2")),
        like(SignalRecorded, asset=NO, action=MERGE, trade_side=SELL, side=Side.FLAT, after_micros=0),
    )
    assert both(state) == (micros("2"), 0)


def test_the_cash_of_a_movement_is_neither_lost_nor_made_up() -> None:
    events = after(wallet()).when(moving, movement(SPLIT, "3", "2.000001")).events
    assert [event.notional_micros for event in events if isinstance(event, SignalRecorded)] == [1_000_001, 1_000_000]


def test_a_merge_of_more_than_is_held_is_a_gap() -> None:
    state = after(wallet((YES, "10"))).when(moving, movement(MERGE, "10", "10"))
    assert [type(event) for event in state.events] == [SignalRecorded, GapDetected, SignalRecorded]
    assert isinstance(state.events[1], GapDetected)
    assert (state.events[1].kind, state.events[1].asset) == (GapKind.BELOW_ZERO, NO)
    assert both(state) == (0, 0)


@pytest.mark.parametrize("action", [SPLIT, MERGE])
def test_a_split_of_a_market_that_was_never_described_is_unclear(action: Action) -> None:
    with pytest.raises(UnclearError, match=f"{action} of market {RACE}, which was never described"):
        after(wallet()).when(undescribed, movement(action, "10", "10"))


@given_any(st.integers(1, 10**12), st.integers(0, 10**12), st.integers(1, 5))
def test_split_and_merge_of_the_same_size_leave_nothing(size: int, cash: int, outcomes: int) -> None:
    assets = tuple(f"70{number}" for number in range(outcomes))

    def moving_all(account: Account, movement: Movement) -> tuple[Event, ...]:
        return influencer_account.move(account, movement, assets)

    split = msgspec.structs.replace(movement(SPLIT, "1"), share_micros=size, cash_micros=cash)
    merge = msgspec.structs.replace(split, action=MERGE, source_event_id="pm:M:2", event_time=at(1))
    state = after(wallet()).when(moving_all, split)
    assert [held(state, asset) for asset in assets] == [size] * outcomes
    assert sum(event.notional_micros for event in state.events if isinstance(event, SignalRecorded)) == cash
    state = state.when(moving_all, merge)
    assert [held(state, asset) for asset in assets] == [0] * outcomes


# --- redeem ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asset", "cash", "price"), [(YES, "10", "1"), (NO, "0", "0"), (YES, "5", "0.5")])
def test_a_payout_of_a_named_asset_takes_its_shares(asset: str, cash: str, price: str) -> None:
    state = after(wallet((YES, "10"), (NO, "10"))).when(moving, movement(REDEEM, "10", cash, asset=asset))
    state.then(
        like(
            SignalRecorded,
            asset=asset,
            action=REDEEM,
            side=Side.FLAT,
            after_micros=0,
            price_micros=micros(price),
            notional_micros=micros(cash),
        )
    ).again().then_nothing()


def test_a_payout_that_names_no_asset_is_of_the_only_one_held() -> None:
    state = after(wallet((YES, "10"))).when(moving, movement(REDEEM, "10", "10"))
    state.then(like(SignalRecorded, asset=YES, after_micros=0, notional_micros=micros("10"))).again().then_nothing()


def test_of_several_held_assets_the_one_of_the_payouts_size_has_won() -> None:
    state = after(wallet((YES, "10"), (NO, "4"))).when(moving, movement(REDEEM, "4", "4"))
    state.then(
        like(SignalRecorded, asset=NO, after_micros=0, notional_micros=micros("4")),
        like(SignalRecorded, asset=YES, after_micros=0, notional_micros=0, price_micros=0),
    ).again().then_nothing()
    assert both(state) == (0, 0)


def test_a_payout_needs_no_description() -> None:
    state = after(wallet((YES, "10"))).when(undescribed, movement(REDEEM, "10", "10"))
    assert held(state, YES) == 0


@pytest.mark.parametrize(
    ("positions", "found"),
    [
        ([], "0 of 0"),
        ([(YES, "10"), (NO, "10")], "2 of 2"),
        ([(YES, "10"), (NO, "9")], "0 of 2"),
    ],
)
def test_a_payout_that_fits_no_asset_or_several_is_unclear(positions: list[tuple[str, str]], found: str) -> None:
    state = after(wallet(*positions))
    before = msgspec.msgpack.encode(state.state.holdings)
    with pytest.raises(UnclearError, match=f"REDEEM of market {RACE} fits {found} held assets"):
        state.when(moving, movement(REDEEM, "11", "11") if found == "0 of 2" else movement(REDEEM, "10", "10"))
    assert msgspec.msgpack.encode(state.state.holdings) == before, "and it leaves no trace"


def test_either_source_may_name_the_market_of_an_asset() -> None:
    bought = after(wallet(), log(), row())
    state = bought.when(moving, movement(REDEEM, "10", "10", ms=5))
    state.then(like(SignalRecorded, asset=YES, action=REDEEM, after_micros=0))


def test_a_payout_of_more_than_is_held_is_a_gap() -> None:
    state = after(wallet((YES, "4"))).when(moving, movement(REDEEM, "10", "10", asset=YES))
    state.then(
        like(GapDetected, expected_micros=micros("4"), found_micros=micros("10")),
        like(SignalRecorded, action=REDEEM, before_micros=micros("10"), after_micros=0),
    )


# --- history and repeats -----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [SPLIT, MERGE])
def test_a_movement_before_the_snapshot_is_historic(action: Action) -> None:
    state = after(wallet((YES, "10"), (NO, "10"), ms=100)).when(moving, movement(action, "10", "10", ms=100))
    historic = like(SignalRecorded, action=action, position_state=PositionState.HISTORIC)
    state.then(historic, historic)
    assert both(state) == (micros("10"), micros("10"))


@pytest.mark.parametrize("action", [SPLIT, REDEEM])
def test_an_unclear_movement_before_the_snapshot_changes_nothing(action: Action) -> None:
    after(wallet(ms=100)).when(undescribed, movement(action, "10", "10", ms=100)).then_nothing()
    with pytest.raises(UnclearError):
        after(wallet(ms=100)).when(undescribed, movement(action, "10", "10", ms=101))


def test_a_movement_may_be_replayed_after_its_market_has_ended() -> None:
    redeemed = movement(REDEEM, "10", "10", id="pm:M:9", ms=9)
    state = after(wallet((YES, "10")), redeemed, *(row(tx=f"0x{n}", event_time=at(20 + n)) for n in range(5)))
    state.when(undescribed, redeemed).then_nothing()


def test_movements_and_fills_are_one_position() -> None:
    state = after(
        wallet(),
        row(),  # +10 yes
        movement(SPLIT, "5", "5", id="pm:M:1", ms=1),
        row(side=SELL, size="3", event_time=at(2)),
        movement(MERGE, "4", "4", id="pm:M:2", ms=3),
        movement(REDEEM, "8", "8", id="pm:M:3", asset=YES, ms=4),
        movement(REDEEM, "1", "0", id="pm:M:4", asset=NO, ms=4),
    )
    assert both(state) == (0, 0)


# --- reports -----------------------------------------------------------------------------------------------


def test_a_snapshot_names_the_markets_of_its_positions() -> None:
    state = after(wallet((YES, "10"))).state
    assert (state.market_of(YES), state.market_of(NO)) == (RACE, "")


def test_a_snapshot_is_stale_after_a_newer_one_of_its_section() -> None:
    state = after(seeded(ms=100)).state
    assert [is_stale(state, seeded(ms=ms)) for ms in (99, 100, 101)] == [True, True, False]
    assert not is_stale(state, seeded(ms=99, section="xyz"))


def test_a_conversion_moves_nothing_until_the_next_snapshot() -> None:
    state = after(wallet((YES, "10")))
    gap = GapDetected(
        gap_id="g",
        kind=GapKind.CONVERSION,
        influencer_id="ann",
        venue=movement(SPLIT, "1").venue,
        address=ANN,
        asset=RACE,
        expected_micros=0,
        found_micros=micros("3"),
        source_event_id="pm:C:1",
        event_time=at(5),
        detect_time=at(45),
    )
    before = msgspec.msgpack.encode(state.state.holdings)
    influencer_account.evolve(state.state, gap)
    assert msgspec.msgpack.encode(state.state.holdings) == before


# --- snapshots ---------------------------------------------------------------------------------------------

happenings = st.lists(
    st.sampled_from(
        [
            *(row(number, side, tx=tx) for number in range(2) for side in (BUY, SELL) for tx in ("0x1", "0x2")),
            *(log(number, tx="0x1", event_time=at(number)) for number in range(3)),
            *(movement(action, "2", "2", id=f"pm:{action}", ms=3) for action in (SPLIT, MERGE)),
            movement(REDEEM, "2", "1", asset=YES, id="pm:R", ms=4),
            wallet((YES, "20"), (NO, "20"), ms=2),
            wallet((YES, "5"), ms=6),
        ]
    ),
    max_size=14,
)


@given_any(happenings, st.integers(0, 14))
def test_a_snapshot_and_the_tail_are_the_whole(happened: list[Happening], split: int) -> None:
    life = [wallet((YES, "100"), (NO, "100")), *happened]
    state = after(*life[: split + 1])
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(state.state), type=Account)
    assert saved == state.state
    state.state = saved
    assert more(state, *life[split + 1 :]).state == after(*life).state


@given_any(happenings, st.lists(st.integers(0, 13), max_size=6))
def test_what_comes_again_changes_nothing(happened: list[Happening], again: list[int]) -> None:
    life = [wallet((YES, "100"), (NO, "100")), *happened]
    once = after(*life)
    assert more(once, *(life[number] for number in again if number < len(life))).state == after(*life).state
