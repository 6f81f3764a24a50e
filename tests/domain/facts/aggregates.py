"""The aggregates that specs start from."""

from domain import groups, influencer_account, portfolio
from domain.events import Event
from domain.groups import OpenGroup
from domain.influencer_account import Account
from domain.portfolio import Portfolio
from domain.testing import Aggregate


def _account(state: Account, event: Event) -> Account:
    influencer_account.evolve(state, event)
    return state


def _portfolio(state: Portfolio, event: Event) -> Portfolio:
    state = portfolio.copy(state)
    portfolio.evolve(state, event)
    return state


PORTFOLIO: Aggregate[Portfolio] = Aggregate(Portfolio, _portfolio)
WINDOW: Aggregate[OpenGroup | None] = Aggregate(lambda: None, groups.evolve)
ACCOUNT: Aggregate[Account] = Aggregate(Account, _account)
