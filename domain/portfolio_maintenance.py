"""Changes of a portfolio without a decision: the configured deposit, payouts of resolved markets and their
corrections, ordered closings, breakers.

The stages that decide and the what-if simulation follow these same rules.
"""

from collections.abc import Iterator

from domain import breakers, exits
from domain import portfolio as portfolios
from domain.configuration import Configuration
from domain.events import CashDeposited, EquityMarked, Event, ExitOwed, PositionSettled, SettlementCorrected, Venue
from domain.ids import derived
from domain.mark_prices import NEWEST, Asset, MarkPrices, Resolution
from domain.micros import times
from domain.portfolio import Portfolio


def payouts(
    portfolio: Portfolio, subscriber_id: str, asset: Asset, resolution: Resolution, *, now: int
) -> Iterator[PositionSettled]:
    """What a resolved market pays for an asset, one event per subscription; nothing while an order in it is pending."""
    for subscription_id, part in portfolios.settlements(portfolio, asset):
        yield PositionSettled(
            settlement_id=derived("set", subscription_id, *asset, resolution.resolution_id),
            subscriber_id=subscriber_id,
            subscription_id=subscription_id,
            influencer_id=part.influencer_id,
            venue=Venue(asset[0]),
            asset=asset[1],
            market=resolution.market,
            price_micros=resolution.price_micros,
            share_delta_micros=-part.share_micros,
            cash_delta_micros=times(resolution.price_micros, part.share_micros),
            resolution_id=resolution.resolution_id,
            settled_at=now,
        )


def corrections(
    portfolio: Portfolio, subscriber_id: str, marks: MarkPrices, *, now: int, sequence: int = NEWEST
) -> Iterator[tuple[SettlementCorrected, int]]:
    """What is booked because the venue changed resolutions that were paid, as of a sequence of GROUPS; each with the
    sequence of the new resolution."""
    for (subscription_id, asset), paid in portfolio.settled.items():
        resolution = marks.resolution(asset, sequence)
        if resolution is None or not resolution.corrects or resolution.resolution_id == paid.resolution_id:
            continue
        was, right = (times(price, paid.share_micros) for price in (paid.price_micros, resolution.price_micros))
        yield (
            SettlementCorrected(
                correction_id=derived("cor", subscription_id, *asset, resolution.resolution_id),
                subscriber_id=subscriber_id,
                subscription_id=subscription_id,
                influencer_id=paid.influencer_id,
                venue=Venue(asset[0]),
                asset=asset[1],
                market=paid.market,
                share_micros=paid.share_micros,
                paid_price_micros=paid.price_micros,
                price_micros=resolution.price_micros,
                cash_delta_micros=right - was,
                resolution_id=resolution.resolution_id,
                corrected_at=now,
            ),
            resolution.sequence,
        )


def closings(
    portfolio: Portfolio, subscriber_id: str, configuration: Configuration, *, now: int, config_sequence: int
) -> Iterator[tuple[ExitOwed, int]]:
    """What is owed because an operator or the configuration ordered to close it, each with the CONFIG sequence of the
    order."""
    if not configuration.controls.closings:
        return
    for asset, holding in portfolio.holdings.items():
        names = (asset[1], holding.position.market) if holding.position.market else (asset[1],)
        for subscription_id, part in holding.parts.items():
            order = configuration.controls.closed(
                subscription_id, subscriber_id, part.influencer_id, names, config_sequence
            )
            if order is None:
                continue
            event = exits.ordered(
                part,
                subscription_id,
                subscriber_id,
                asset,
                holding.position.market,
                portfolio.exits.get((subscription_id, asset)),
                order,
                while_paused=bool(configuration.subscriber_policy(subscriber_id).exits_while_paused),
                now=now,
            )
            if event is not None:
                yield event, order.sequence


def before_deciding(
    portfolio: Portfolio,
    subscriber_id: str,
    configuration: Configuration,
    marks: MarkPrices,
    *,
    now: int,
    config_sequence: int,
) -> Iterator[Event]:
    """The events that precede the next decision: the configured deposit, and what the breakers do."""
    equity = portfolios.equity(portfolio, marks)
    state = portfolio.breakers
    subscriber = configuration.subscribers.get(subscriber_id)
    change = subscriber.deposit_micros - portfolio.deposits_micros if subscriber is not None else 0
    if change:
        if state.day >= 0:
            # The breakers count returns: they need the equity to which the deposit comes.
            marked = EquityMarked(
                subscriber_id=subscriber_id, equity_micros=equity, marks_sequence=marks.sequence, marked_at=now
            )
            state = breakers.evolve(state, marked)
            yield marked
        deposited = CashDeposited(
            deposit_id=derived("dep", subscriber_id, config_sequence, portfolio.deposits_micros, change),
            subscriber_id=subscriber_id,
            cash_delta_micros=change,
            config_sequence=config_sequence,
            deposited_at=now,
        )
        state = breakers.evolve(state, deposited)
        equity += change
        yield deposited
    reset = configuration.controls.breakers_reset(subscriber_id, config_sequence)
    ordered = reset is not None and reset.sequence > state.config_sequence
    yield from breakers.watch(
        state,
        subscriber_id,
        equity,
        configuration.subscriber_policy(subscriber_id),
        now=now,
        marks_sequence=marks.sequence,
        config_sequence=config_sequence,
        reset_by=reset.actor if reset is not None and ordered else None,
    )
