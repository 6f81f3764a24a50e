"""What if: the recorded groups and quotes are decided under another configuration, by the same code, and compared.

Portfolios start as they were at a given time (new ones with their deposit). Every quote recorded since then is matched,
decided and filled on paper, and markets are settled when they were. Nothing is written. The subscriptions are those of
the other configuration from the start on; operator switches count as they were at the time.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from domain import portfolio as portfolios
from domain.configuration import Configuration
from domain.decision import Assessments
from domain.decision_inputs import decision_inputs_of, disabled_of
from domain.events import (
    CopyDecided,
    CopyQueued,
    Decision,
    ExecutionCompleted,
    MarketResolved,
    OrderFilled,
    QuoteCaptured,
    QuoteFailed,
)
from domain.mark_prices import MarkPrices
from domain.matching import match
from domain.paper_execution import execute_on_paper
from domain.portfolio import Portfolio
from domain.portfolio_maintenance import before_deciding, payouts
from handlers.live.configuration import directory_at
from handlers.live.event_codec import codec, readable
from handlers.live.mark_prices import PATTERN
from handlers.services.config_file import BadLine, parse
from handlers.services.config_import import changes
from streams.connection import Connection
from streams.envelope import nanoseconds
from streams.reader import read_all
from streams.topology import EXECUTIONS, GROUPS, info

ACTOR = "whatif"
_QUOTES = "quotes.>"
Progress = Callable[[int, int], None]
"""Called with the number of events read and the number of all."""


class Outcome(NamedTuple):
    """The result of one configuration: decisions, reasons of skips, and money in micros."""

    requests: int
    executed: int
    skipped: dict[str, int]
    notional_micros: int
    fees_micros: int
    pnl_micros: int
    pnl_by_subscriber: dict[str, int]


class Comparison(NamedTuple):
    """The other configuration beside what happened since `since` (ns). Nothing is compared when a line is bad."""

    since: int
    groups: int
    whatif: Outcome
    happened: Outcome
    bad: list[BadLine]


class Totals:
    """Counts decisions and fills; profit is counted from `start_profits`, the profit of each portfolio at the start."""

    def __init__(self) -> None:
        self.requests = self.executed = self.notional = self.fees = 0
        self.skipped: Counter[str] = Counter()
        self.start_profits: dict[str, int] = {}

    def add_decision(self, decision: CopyDecided) -> None:
        self.requests += 1
        if decision.decision is Decision.EXECUTE:
            self.executed += 1
        else:
            self.skipped.update(reason.value for reason in decision.reasons)

    def add_fill(self, fill: OrderFilled) -> None:
        self.notional += fill.notional_micros
        self.fees += fill.fee_micros

    def outcome(self, of: dict[str, Portfolio], marks: MarkPrices) -> Outcome:
        """The totals, with the profit of these portfolios at these marks; subscribers without any are left out."""
        pnl = {
            subscriber_id: profit - self.start_profits.get(subscriber_id, 0)
            for subscriber_id, portfolio in sorted(of.items())
            if (profit := _profit(portfolio, marks)) != self.start_profits.get(subscriber_id, 0)
        }
        return Outcome(
            self.requests,
            self.executed,
            dict(self.skipped.most_common()),
            self.notional,
            self.fees,
            sum(pnl.values()),
            pnl,
        )


def _profit(portfolio: Portfolio, marks: MarkPrices) -> int:
    """Equity above all deposits."""
    return portfolios.equity(portfolio, marks) - portfolio.deposits_micros


class Simulation:
    """Portfolios under another configuration, to which recorded quotes and resolutions are applied."""

    def __init__(self, directory: Configuration, of: dict[str, Portfolio], marks: MarkPrices) -> None:
        self._directory = directory
        self._marks = marks
        self.of = of
        self.totals = Totals()

    def decide_on(self, outcome: QuoteCaptured | QuoteFailed) -> None:
        """Match the group of one recorded quote, decide its requests and fill them."""
        now = outcome.captured_at if isinstance(outcome, QuoteCaptured) else outcome.failed_at
        sequence = self._directory.controls.sequence_at(now)
        requests, _ = match(self._directory, outcome, sequence)
        assessments: Assessments | None = None
        for request in requests:
            policy_hash, policy = self._directory.policy_of(self._directory.subscriptions[request.subscription_id])
            assert policy_hash == request.policy_hash
            portfolio = self._before(request.subscriber_id, now, sequence)
            if assessments is None:
                inputs = decision_inputs_of(
                    request,
                    self._directory.controls,
                    self._marks,
                    config_sequence=sequence,
                    marks_sequence=self._marks.sequence,
                )
                assessments = Assessments(request, inputs, now)
            disabled = disabled_of(request, self._directory.controls, sequence)
            decision = assessments.decide(portfolio, request, policy, disabled)
            self.totals.add_decision(decision)
            executed = execute_on_paper(portfolio, decision, policy, now=now)
            for event in (decision, *executed):
                portfolios.evolve(portfolio, event)
                if isinstance(event, OrderFilled):
                    self.totals.add_fill(event)

    def settle(self, event: MarketResolved) -> None:
        """Settle the positions in a resolved market."""
        for subscriber_id, portfolio in self.of.items():
            for payout in event.payouts:
                asset = (event.venue.value, payout.asset)
                resolution = self._marks.resolution(asset)
                assert resolution is not None, "a resolution is in the marks before it is settled"
                for settled in list(payouts(portfolio, subscriber_id, asset, resolution, now=event.detect_time)):
                    portfolios.evolve(portfolio, settled)

    def _before(self, subscriber_id: str, now: int, config_sequence: int) -> Portfolio:
        portfolio = self.of.setdefault(subscriber_id, Portfolio())
        for event in list(
            before_deciding(
                portfolio, subscriber_id, self._directory, self._marks, now=now, config_sequence=config_sequence
            )
        ):
            portfolios.evolve(portfolio, event)
        return portfolio


async def compare_configuration(
    connection: Connection, lines: Iterable[str], *, since: int, progress: Progress = lambda done, of: None
) -> Comparison:
    """Decide everything recorded since `since` (ns) with the configuration in `lines`, applied to the present one."""
    directory, bad = await _other_configuration(connection, lines, since)
    nothing = Totals().outcome({}, MarkPrices())
    if bad:
        return Comparison(since, 0, nothing, nothing, bad)
    started, ended, happened = await _happened(connection, since)
    marks = MarkPrices()
    started_profits = {name: _profit(portfolio, MarkPrices()) for name, portfolio in started.items()}
    simulation = Simulation(directory, started, marks)
    groups = await _replay(connection, simulation, marks, since, progress)
    for totals in (simulation.totals, happened):
        totals.start_profits = started_profits
    whatif = simulation.totals.outcome(simulation.of, marks)
    return Comparison(since, groups, whatif, happened.outcome(ended, marks), [])


async def _other_configuration(
    connection: Connection, lines: Iterable[str], since: int
) -> tuple[Configuration, list[BadLine]]:
    directory, _ = await directory_at(connection, codec())
    events, bad = parse(lines, directory, ACTOR)
    if not bad:
        for event in changes(directory, events, since):
            directory.evolve(event, since)
        # Every subscription applies to everything recorded, whatever the time at which it really became active.
        directory.active_since.clear()
        directory.resumed_at.clear()
        directory.influencers_resumed_at.clear()
    return directory, bad


async def _happened(connection: Connection, since: int) -> tuple[dict[str, Portfolio], dict[str, Portfolio], Totals]:
    """Portfolios as they were at `since` and as they are now, and what was decided and filled in between."""
    decode, totals = codec(), Totals()
    started: dict[str, Portfolio] = {}
    of: dict[str, Portfolio] = {}
    async for batch in read_all(connection, EXECUTIONS.name):
        for event in (event for stored in batch for event in readable(decode, EXECUTIONS.name, stored)):
            subscriber_id = getattr(event.data, "subscriber_id", None)
            if subscriber_id is None or isinstance(event.data, CopyQueued):
                continue
            portfolio = of.setdefault(subscriber_id, Portfolio())
            earlier = nanoseconds(event.time) < since
            if not earlier and subscriber_id not in started:
                started[subscriber_id] = portfolios.copy(portfolio)
            portfolios.evolve(portfolio, event.data)
            if earlier:
                started.pop(subscriber_id, None)
            elif _was_pending(started[subscriber_id], event.data):
                portfolios.evolve(started[subscriber_id], event.data)
            elif isinstance(event.data, CopyDecided):
                totals.add_decision(event.data)
            elif isinstance(event.data, OrderFilled):
                totals.add_fill(event.data)
    for subscriber_id in of.keys() - started.keys():
        started[subscriber_id] = portfolios.copy(of[subscriber_id])
    return started, of, totals


def _was_pending(started: Portfolio, event: object) -> bool:
    """True for the fill or result of an order that was decided before the start: it belongs to the start."""
    if not isinstance(event, OrderFilled | ExecutionCompleted):
        return False
    holding = started.holdings.get((event.venue.value, event.asset))
    return holding is not None and event.attempt_id in holding.orders


async def _replay(
    connection: Connection, simulation: Simulation, marks: MarkPrices, since: int, progress: Progress
) -> int:
    decode, groups = codec(), 0
    found = await info(connection, GROUPS.name)
    end = int(found["state"]["last_seq"]) if found else 0
    async for batch in read_all(connection, GROUPS.name):
        wanted = (stored for stored in batch if stored.subject.startswith((PATTERN[:-1], _QUOTES[:-1])))
        for event in (event for stored in wanted for event in readable(decode, GROUPS.name, stored)):
            marks.evolve(event.data, event.sequence)
            if nanoseconds(event.time) < since:
                continue
            match event.data:
                case QuoteCaptured() | QuoteFailed():
                    groups += 1
                    simulation.decide_on(event.data)
                case MarketResolved():
                    simulation.settle(event.data)
        progress(batch[-1].sequence, end)
    return groups
