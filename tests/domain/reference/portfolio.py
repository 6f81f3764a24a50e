"""What a portfolio is worth and has at risk, summed over everything that it holds, as a reference for running sums."""

from domain.mark_prices import Asset, MarkPrices
from domain.micros import times
from domain.portfolio import Portfolio
from domain.valuation import Exposure


def price(portfolio: Portfolio, asset: Asset, marks: MarkPrices, sequence: int) -> int:
    """The log's mark, or the mid of a later decision."""
    position, mark = portfolio.holdings[asset].position, marks.mark(asset, sequence)
    return mark.price_micros if mark is not None and mark.at >= position.marked_at else position.mark_micros


def full_equity(portfolio: Portfolio, marks: MarkPrices, sequence: int) -> int:
    return portfolio.cash_micros + sum(
        times(price(portfolio, asset, marks, sequence), holding.position.share_micros)
        for asset, holding in portfolio.holdings.items()
    )


def full_exposure(
    portfolio: Portfolio, asset: Asset, market: str, influencer_id: str, marks: MarkPrices, sequence: int
) -> Exposure:
    total = in_market = of_influencer = 0
    for key, holding in portfolio.holdings.items():
        now, mid = price(portfolio, key, marks, sequence), holding.position.mark_micros
        opens = sum(order.opens_micros for order in holding.orders.values())
        at_risk = abs(times(now, holding.position.share_micros)) + times(mid, opens)
        total += at_risk
        if key == asset or (key[0] == asset[0] and market and holding.position.market == market):
            in_market += at_risk
        for subscription_id, part in holding.parts.items():
            if part.influencer_id == influencer_id:
                orders = [order for order in holding.orders.values() if order.subscription_id == subscription_id]
                of_influencer += abs(times(now, part.share_micros))
                of_influencer += times(mid, sum(order.opens_micros for order in orders))
    return Exposure(total, in_market, of_influencer)


def full_reserved(portfolio: Portfolio) -> int:
    return sum(
        -(-order.reserved_micros * order.opens_micros // order.reserved_for_micros)
        for holding in portfolio.holdings.values()
        for order in holding.orders.values()
        if order.reserved_for_micros
    )


def full_expected(portfolio: Portfolio, subscription_id: str, asset: Asset) -> int:
    holding = portfolio.holdings.get(asset)
    if holding is None:
        return 0
    part = holding.parts.get(subscription_id)
    ordered = (order.delta_micros for order in holding.orders.values() if order.subscription_id == subscription_id)
    return (part.share_micros if part else 0) + sum(ordered)
