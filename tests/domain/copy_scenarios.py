"""An influencer's account in specs: the events of its trades, movements and snapshots; Polymarket's two sources."""

from typing import Any

from msgspec import structs

from domain import influencer_account
from domain.events import AccountSeeded, Action, Event, SeededPosition, SignalRecorded, TradeSide, Venue
from domain.influencer_account import Account, Movement
from domain.micros import micros, times
from domain.signals import REMOVED, Trade, record
from domain.testing import Given, given
from tests.domain.facts import ACCOUNT, ANN, BUY, SELL, at, trade

YES, NO, RACE = "7001", "7002", "0xace"
OUTCOMES = (YES, NO)


def recording(account: Account, trade: Trade) -> tuple[Event, ...]:
    """The events of a trade, as `normalize` records them."""
    return record(account.holding(trade.asset), trade, account.equity_micros)


def moving(account: Account, movement: Movement) -> tuple[Event, ...]:
    """The events of a movement in a market of two outcomes that was described."""
    return influencer_account.move(account, movement, OUTCOMES)


Happening = Event | Trade | Movement
"""An event of the account, or what a raw event describes."""


def after(*happened: Happening) -> Given[Account]:
    """An account after its snapshots, trades and movements."""
    return more(given(ACCOUNT), *happened)


def more(state: Given[Account], *happened: Happening) -> Given[Account]:
    """The account after these too."""
    for it in happened:
        if isinstance(it, Trade):
            state = state.when(recording, it)
        elif isinstance(it, Movement):
            state = state.when(moving, it)
        else:
            state = Given(ACCOUNT, state.state, [it])
    return state


def held(state: Given[Account], asset: str = "BTC") -> int:
    return state.state.holding(asset).share_micros


def signals(state: Given[Account], *happened: Trade) -> list[SignalRecorded]:
    """The signals of these trades, one after another."""
    found: list[SignalRecorded] = []
    for one in happened:
        outcome = state.when(recording, one)
        found += [event for event in outcome.events if isinstance(event, SignalRecorded)]
        state = outcome
    return found


def trades(*steps: str, first: int = 1) -> list[Trade]:
    """'+1.5' buys, '-1' sells, a millisecond apart."""
    return [
        trade(f"t{number}", BUY if step[0] == "+" else SELL, step[1:], ms=number)
        for number, step in enumerate(steps, first)
    ]


def stating(id: str, start: str, size: str = "1", *, side: TradeSide = BUY, ms: int = 0) -> Trade:
    """A fill that states the position before it."""
    return trade(id, side, size, ms=ms, start_micros=micros(start))


# --- Polymarket --------------------------------------------------------------------------------------------


def outcome(
    id: str, side: TradeSide = BUY, size: str = "10", price: str = "0.4", *, tx: str = "0xt1", **changes: Any
) -> Trade:
    """A fill of an outcome token, as either source reports it."""
    asset = str(changes.pop("asset", YES))
    share, cost = micros(size), micros(price)
    made = trade(
        id,
        side,
        size,
        price,
        venue=Venue.POLYMARKET,
        asset=asset,
        market=RACE,
        notional_micros=times(cost, share),
        metadata={"hash": tx},
        fill_key=f"{tx}:{asset}:{side.value}",
    )
    return structs.replace(made, **changes)


def row(number: int = 0, side: TradeSide = BUY, size: str = "10", *, tx: str = "0xt1", **changes: Any) -> Trade:
    """The `number`-th equal row of activity."""
    return outcome(
        f"pm:TRADE:{tx}:{changes.get('asset', YES)}:{side.value}:{size}:{number}", side, size, tx=tx, **changes
    )


def log(index: int = 0, side: TradeSide = BUY, size: str = "10", *, block: str = "0xb1", **changes: Any) -> Trade:
    """A log of the chain: it names no market."""
    usual: dict[str, Any] = {"market": "", "fee_micros": 5}
    return outcome(f"pm-log:137:{block}:{index}", side, size, **(usual | changes))


def removed(log: Trade) -> Trade:
    """The same log, taken back."""
    return structs.replace(log, source_event_id=log.source_event_id + REMOVED, removed=True)


def movement(
    action: Action, size: str, cash: str = "0", *, id: str = "pm:M:1", asset: str = "", ms: int = 0
) -> Movement:
    return Movement(
        source_event_id=id,
        venue=Venue.POLYMARKET,
        influencer_id="ann",
        address=ANN,
        action=action,
        market=RACE,
        asset=asset,
        share_micros=micros(size),
        cash_micros=micros(cash),
        event_time=at(ms),
        detect_time=at(ms + 40),
    )


def wallet(*positions: tuple[str, str], ms: int = -1000, price: str | None = "0.3") -> AccountSeeded:
    """An account snapshot of a wallet: (asset, size), all bought at one price."""
    return AccountSeeded(
        seed_id=f"seed@{ms}",
        influencer_id="ann",
        venue=Venue.POLYMARKET,
        address=ANN,
        section="",
        positions=tuple(
            SeededPosition(asset, micros(size), None, RACE, None if price is None else micros(price))
            for asset, size in positions
        ),
        event_time=at(ms),
        detect_time=at(ms + 40),
    )
