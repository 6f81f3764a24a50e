"""What if: the recorded groups and quotes are decided under another configuration, by the same code, and compared.

Portfolios start as they were at a given time (new ones with their deposit). Every quote recorded since then is matched,
decided and filled on paper, and markets are settled when they were. What a copy owes is tried at the first book of its
asset that was recorded once the try is due. Nothing is written. The subscriptions are those of
the other configuration from the start on; operator switches count as they were at the time.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from domain import exits
from domain import portfolio as portfolios
from domain.configuration import Configuration
from domain.decision import Assessments
from domain.decision_inputs import decision_inputs_of, disabled_of
from domain.events import (
    ControlState,
    CopyDecided,
    CopyQueued,
    Decision,
    DueExit,
    ExecutionCompleted,
    ExecutionRequested,
    ExitDue,
    ExitOwed,
    MarketResolved,
    OrderFilled,
    QuoteCaptured,
    QuoteFailed,
    RequestedQuote,
    Venue,
)
from domain.mark_prices import MarkPrices
from domain.matching import match, match_exits, side_of_book
from domain.paper_execution import execute_on_paper
from domain.portfolio import Portfolio
from domain.portfolio_maintenance import before_deciding, corrections, payouts
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
_BOOKS = ("quotes.", "exits.")
Progress = Callable[[int, int], None]
"""Called with the number of events read and the number of all."""


class Outcome(NamedTuple):
    """The result of one configuration: decisions (`tries` of them of owed exits), reasons of skips, and money in
    micros."""

    requests: int
    tries: int
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
        self.requests = self.tries = self.executed = self.notional = self.fees = 0
        self.skipped: Counter[str] = Counter()
        self.start_profits: dict[str, int] = {}

    def add_decision(self, decision: CopyDecided) -> None:
        self.requests += 1
        self.tries += bool(decision.exit_try)
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
            self.tries,
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
        if isinstance(outcome, QuoteCaptured):
            for owed in self._due(outcome.group.venue, outcome.group.asset, now):
                quote, _ = side_of_book(
                    outcome.bids,
                    outcome.asks,
                    owed.venue,
                    owed.trade_side,
                    quote_id=outcome.quote_id,
                    size_step_micros=outcome.size_step_micros,
                    captured_at=outcome.captured_at,
                    venue_time=outcome.venue_time,
                    current_at=outcome.current_at,
                    terms=outcome.terms,
                )
                self._try(owed, quote, now)
        sequence = self._directory.controls.sequence_at(now)
        requests, _ = match(self._directory, outcome, sequence)
        assessments: Assessments | None = None
        for request in requests:
            assessments = assessments or self._assessments(request, now, sequence)
            self._decide(request, assessments, sequence)

    def try_at(self, due: ExitDue) -> None:
        """Try what is owed at the book of a recorded round."""
        for owed in self._due(due.venue, due.asset, due.tried_at):
            if owed.trade_side is due.trade_side:
                self._try(owed, due.quote, due.tried_at)

    def _due(self, venue: Venue, asset: str, now: int) -> list[ExitOwed]:
        """What is owed of an asset and may be tried now."""
        controls = self._directory.controls
        running = controls.engine(controls.sequence_at(now)) is ControlState.RUNNING
        return [
            owed
            for portfolio in self.of.values()
            if portfolio.exits
            for owed in list(portfolio.exits.values())
            if (owed.venue, owed.asset) == (venue, asset) and owed.due_at <= now and (running or owed.while_paused)
        ]

    def _try(self, owed: ExitOwed, quote: RequestedQuote | None, now: int) -> None:
        if quote is None or owed.subscription_id not in self._directory.subscriptions:
            return
        sequence = self._directory.controls.sequence_at(now)
        due = ExitDue(
            due_id=owed.exit_id,
            influencer_id=owed.influencer_id,
            group_id=owed.group_id,
            venue=owed.venue,
            asset=owed.asset,
            market=owed.market,
            action=owed.action,
            trade_side=owed.trade_side,
            price_micros=owed.price_micros,
            event_time=owed.event_time,
            detect_time=owed.detect_time,
            exits=(DueExit(owed.exit_id, owed.tries + 1, owed.subscription_id, owed.subscriber_id),),
            quote=quote,
            quote_reason=None,
            detail="",
            tried_at=now,
        )
        for request in match_exits(self._directory, due, sequence):
            self._decide(request, self._assessments(request, now, sequence), sequence)

    def _assessments(self, request: ExecutionRequested, now: int, sequence: int) -> Assessments:
        inputs = decision_inputs_of(
            request,
            self._directory.controls,
            self._marks,
            config_sequence=sequence,
            marks_sequence=self._marks.sequence,
        )
        return Assessments(request, inputs, now)

    def _decide(self, request: ExecutionRequested, assessments: Assessments, sequence: int) -> None:
        policy_hash, policy = self._directory.policy_of(self._directory.subscriptions[request.subscription_id])
        assert policy_hash == request.policy_hash
        now = assessments.now
        portfolio = self._before(request.subscriber_id, now, sequence)
        owed = portfolio.exits.get((request.subscription_id, (request.venue.value, request.asset)))
        disabled = disabled_of(request, self._directory.controls, sequence)
        decision = assessments.decide(portfolio, request, policy, disabled)
        self.totals.add_decision(decision)
        executed = execute_on_paper(portfolio, decision, policy, now=now)
        for event in (decision, *executed, *exits.follow(decision, request, owed, policy, now=now)):
            portfolios.evolve(portfolio, event)
            if isinstance(event, OrderFilled):
                self.totals.add_fill(event)

    def settle(self, event: MarketResolved) -> None:
        """Settle the positions in a resolved market, or correct what was paid."""
        for subscriber_id, portfolio in self.of.items():
            for payout in event.payouts:
                asset = (event.venue.value, payout.asset)
                resolution = self._marks.resolution(asset)
                assert resolution is not None, "a resolution is in the marks before it is settled"
                for settled in list(payouts(portfolio, subscriber_id, asset, resolution, now=event.detect_time)):
                    portfolios.evolve(portfolio, settled)
            for corrected, _ in list(corrections(portfolio, subscriber_id, self._marks, now=event.detect_time)):
                portfolios.evolve(portfolio, corrected)

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
        wanted = (stored for stored in batch if stored.subject.startswith((PATTERN[:-1], *_BOOKS)))
        for event in (event for stored in wanted for event in readable(decode, GROUPS.name, stored)):
            marks.evolve(event.data, event.sequence)
            if nanoseconds(event.time) < since:
                continue
            match event.data:
                case QuoteCaptured() | QuoteFailed():
                    groups += 1
                    simulation.decide_on(event.data)
                case ExitDue():
                    simulation.try_at(event.data)
                case MarketResolved():
                    simulation.settle(event.data)
        progress(batch[-1].sequence, end)
    return groups
