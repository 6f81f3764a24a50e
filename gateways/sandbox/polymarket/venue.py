"""The venue while it runs: actions change books at once, blocks take them up, the Data API follows.

Everything is a function of the source and the clock: `advance` plays whatever is due, in order, and every request calls
it first, so an answer never depends on when a task happened to run.
"""

import hashlib
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from gateways.sandbox.polymarket import abi
from gateways.sandbox.polymarket.abi import Emitted
from gateways.sandbox.polymarket.actions import Action, Close, Match, Move, Quote, Resolve
from gateways.sandbox.polymarket.books import Disturbance
from gateways.sandbox.polymarket.chain import Chain
from gateways.sandbox.polymarket.data_api_index import DataApiIndex
from gateways.sandbox.polymarket.faults import Faults
from gateways.sandbox.polymarket.ledger import Entry, Ledger
from gateways.sandbox.polymarket.market_channel import MarketChannel
from gateways.sandbox.polymarket.market_state import MarketState
from gateways.sandbox.polymarket.markets import ONE, Listing
from gateways.sandbox.polymarket.redemption import redemptions
from gateways.sandbox.polymarket.rows import Row, row_of
from gateways.sandbox.polymarket.rpc import Node
from gateways.sandbox.polymarket.sources import Source
from gateways.sandbox.polymarket.websocket_hub import Limits, RequestWindows, WebsocketHub

MS: Final = 1_000_000
# A match is settled in the first block made so long after it.
SETTLING_NS: Final = 1_000 * MS
_REDEEMED_AFTER_NS: Final = 1_500 * MS
_BLOCKS_BEFORE: Final = 1_000


class _Settlement:
    """A transaction on its way into a block."""

    def __init__(self, at_ns: int, transaction: str, entries: tuple[Entry, ...], emitted: tuple[Emitted, ...]) -> None:
        self.at_ns = at_ns
        self.transaction = transaction
        self.entries = entries
        self.emitted = emitted


class Venue:
    """The markets, the chain, the rows and the sockets under one source. `clock` answers ns since the epoch."""

    def __init__(self, source: Source, faults: Faults, clock: Callable[[], int], limits: Limits) -> None:
        self.limits = limits
        self.faults = faults
        self.feed = DataApiIndex()
        self._clock = clock
        self._paused_at: int | None = None
        self._lost_ns = 0
        self._source = source
        origin_ns = clock() if source.origin_ns is None else source.origin_ns
        self.origin_ns = origin_ns
        self.chain = Chain(source.seed, origin_ns)
        self.chain.head = self.chain.first - _BLOCKS_BEFORE
        self.markets = source.markets(origin_ns)
        self.sockets = WebsocketHub(faults)
        self.requests = RequestWindows(limits)
        self.channel = MarketChannel(self.sockets, self.markets)
        self._mined = Ledger()
        self._matched = Ledger()
        self.node = Node(self.chain, self._mined, self.sockets, faults, limits.log_blocks)
        self._actions = source.actions()
        self._next: Action | None = next(self._actions, None)
        self._settling: deque[_Settlement] = deque()
        self._redeeming: list[tuple[int, int, Listing]] = []
        self._sequence = 0
        self._polled: set[str] = set()
        self._not_collected: set[str] | None = None
        for pending in source.rows(origin_ns):
            self.feed.expect(pending.made_ns, pending.row, pending.entry)
        self.advance()

    # Time.

    def now_ns(self) -> int:
        """The venue's time; it stops while paused."""
        return (self._clock() if self._paused_at is None else self._paused_at) - self._lost_ns

    def pause(self) -> None:
        """Stop the venue's time."""
        if self._paused_at is None:
            self.advance()
            self._paused_at = self._clock()

    def go(self) -> None:
        """Continue the venue's time where it was stopped."""
        if self._paused_at is not None:
            self._lost_ns += self._clock() - self._paused_at
            self._paused_at = None

    @property
    def exhausted(self) -> bool:
        """Everything was played, and everything that was played is in a block and served."""
        horizon_ms = self._source.horizon_ms
        due_ns = 0 if horizon_ms is None else self.origin_ns + horizon_ms * MS
        return (
            self._next is None
            and self.now_ns() >= due_ns
            and not self._settling
            and not self._redeeming
            and not self.feed.waiting
        )

    @property
    def collected(self) -> bool:
        """Exhausted, and each wallet whose activity a client polls was asked for since."""
        if self._not_collected is None and self.exhausted:
            self._not_collected = set(self._polled)
        return self._not_collected is not None and not self._not_collected

    def activity(self, wallet: str) -> Sequence[Row]:
        """The rows of a wallet that are served by now, for a client that asks for its activity."""
        self._polled.add(wallet)
        if self._not_collected is not None:
            self._not_collected.discard(wallet)
        return self.feed.of(wallet)

    def next_ns(self) -> int:
        """When something happens next."""
        return min(self._due_ns(), self.chain.made_ns(self.chain.head + 1))

    def _due_ns(self) -> int:
        action_ns = self.chain.made_ns(self.chain.head + 1)
        if self._next is not None:
            action_ns = self.origin_ns + self._next.offset_ms * MS
        return min(action_ns, self._redeeming[0][0]) if self._redeeming else action_ns

    def advance(self) -> None:
        """Play everything that is due, in order."""
        now = self.now_ns()
        while True:
            block_ns, due_ns = self.chain.made_ns(self.chain.head + 1), self._due_ns()
            if min(block_ns, due_ns) > now:
                break
            # What happens in the moment a block is made is too late for it anyway.
            if due_ns < block_ns:
                self._step(due_ns)
            else:
                self._mine(self.chain.head + 1)
        self.feed.catch_up(now)

    def _step(self, due_ns: int) -> None:
        if self._redeeming and self._redeeming[0][0] <= due_ns:
            at_ns, _, listing = heapq.heappop(self._redeeming)
            for move in redemptions(self.markets[listing.name], self._matched, self._source.seed):
                self._settle(at_ns, move.transaction, move.entries, abi.of_move(move))
            return
        action = self._next
        assert action is not None, "an action is due"
        self._next = next(self._actions, None)
        self._apply(action, due_ns)

    # What happens.

    def _apply(self, action: Action, at_ns: int) -> None:
        match action:
            case Match(listing=listing):
                state = self.markets[listing.name]
                if state.accepting:
                    self._match(state, action, at_ns)
            case Move():
                entries = action.entries
                if all(entry.listing is None or self.markets[entry.listing.name].accepting for entry in entries):
                    self._settle(at_ns, action.transaction, entries, abi.of_move(action))
            case Quote(listing=listing):
                state = self.markets[listing.name]
                if state.accepting:
                    state.book = state.book.with_level(action.buying, action.price_micros, action.share_micros)
                    state.updated_ms = at_ns // MS
                    self.channel.quoted(state, action)
            case Close(listing=listing):
                self.markets[listing.name].end(None, at_ns, final=False)
            case Resolve(listing=listing, payouts=payouts):
                # A fault may have been faster.
                if not self.markets[listing.name].final:
                    self.resolve(listing, payouts, at_ns=at_ns)

    def _match(self, state: MarketState, match: Match, at_ns: int) -> None:
        entry = match.taker.entry
        state.book = match.book
        first = match.price_micros if entry.outcome == 0 else ONE - match.price_micros
        state.traded(first, entry.buying == (entry.outcome == 0), entry.share_micros, at_ns // MS)
        orders = (*(order.entry for order in match.makers), entry)
        self._settle(at_ns, match.transaction, orders, abi.of_match(match))
        self.channel.traded(state, match)

    def _settle(self, at_ns: int, transaction: str, entries: tuple[Entry, ...], emitted: tuple[Emitted, ...]) -> None:
        for entry in entries:
            self._matched.apply(entry)
        self._settling.append(_Settlement(at_ns, transaction, entries, emitted))

    def _mine(self, number: int) -> None:
        made_ns = self.chain.made_ns(number)
        taken: list[_Settlement] = []
        while self._settling and self._settling[0].at_ns + SETTLING_NS <= made_ns:
            taken.append(self._settling.popleft())
        logs = self.chain.mine(number, [(one.transaction, one.emitted) for one in taken])
        timestamp_s = self.chain.timestamp_s(number)
        for one in taken:
            for entry in one.entries:
                self._mined.apply(entry, timestamp_s)
                self._sequence += 1
                self.feed.expect(made_ns, row_of(entry, self._sequence, timestamp_s, one.transaction), entry)
        self.node.logs(logs)
        self.node.head(number)

    # What a fault makes happen.

    def resolve(
        self, listing: Listing, payouts: tuple[int, int], *, final: bool = True, at_ns: int | None = None
    ) -> None:
        """End a market with these payouts now (or at the time of the action); not `final` means proposed."""
        now = self.now_ns() if at_ns is None else at_ns
        state = self.markets[listing.name]
        state.end(payouts, now, final=final)
        if not final:
            return
        resolve = Resolve((now - self.origin_ns) // MS, listing, payouts)
        digest = hashlib.blake2b(f"pm resolve {self._source.seed} {resolve}".encode(), digest_size=32)
        state.transaction = "0x" + digest.hexdigest()
        state.resolved_block = self.chain.number_at(now + SETTLING_NS - 1) + 1
        self._settle(now, state.transaction, (), (abi.of_resolution(resolve),))
        heapq.heappush(self._redeeming, (now + _REDEEMED_AFTER_NS, self._sequence, listing))
        self._sequence += 1
        self.channel.resolved(state, now // MS)

    def close(self, listing: Listing) -> None:
        """Stop trading in a market without resolving it."""
        self.markets[listing.name].end(None, self.now_ns(), final=False)

    def paged(self) -> None:
        """A client asked for a page: in a recording that may bring new rows."""
        self.feed.reveal(self._source.drift)

    def state(self) -> dict[str, object]:
        """What faults changed about the venue, under the keys that order it."""
        return {
            "data_lag_s": self.feed.extra_lag_ns / 1e9,
            "data_stall": self.feed.stalled,
            "books": {name: state.shown for name, state in self.markets.items() if state.shown != "normal"},
            "paused": self._paused_at is not None,
        }

    def disturb(self, listing: Listing, how: Disturbance) -> None:
        """Show the book of a market as `how` describes until the next such order."""
        state = self.markets[listing.name]
        state.shown = how
        state.updated_ms = self.now_ns() // MS
        if state.has_book:
            self.channel.books(state)

    def reorganise(self, depth: int) -> None:
        """Replace the newest blocks: their logs are taken back and come again, their rows stay."""
        gone, made = self.chain.reorganise(depth)
        self.node.logs(gone, removed=True)
        for number, logs in enumerate(made, self.chain.head - depth + 1):
            self.node.logs(logs)
            self.node.head(number)
