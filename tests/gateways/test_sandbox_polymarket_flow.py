"""The seeded flow: what holds for every seed, and the behaviour of the four followed wallets."""

import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache

import pytest

from gateways.sandbox.hyperliquid.traders import address_of
from gateways.sandbox.polymarket import INFLUENCERS, MARKETS
from gateways.sandbox.polymarket.actions import Action, Close, Match, Move, Quote, Resolve
from gateways.sandbox.polymarket.flow import Script, flow, opening_books
from gateways.sandbox.polymarket.ledger import HALF, Entry, Kind, Ledger
from gateways.sandbox.polymarket.markets import BRIEF, CANCELLED, ONE, taker_fee
from gateways.sandbox.polymarket.traders import CROWD, DRIPPER, MAKER, MAKERS, SPLITTER, TAKER

SEEDS = (1, 7, 42, 20_260)
WINDOW_MS = 60_000
FOLLOWED = {who.address for who in INFLUENCERS}


@cache
def actions(seed: int) -> tuple[Action, ...]:
    return tuple(itertools.takewhile(lambda action: action.offset_ms < WINDOW_MS, flow(seed)))


def matches(seed: int) -> list[Match]:
    return [action for action in actions(seed) if isinstance(action, Match)]


def entries(action: Action) -> list[Entry]:
    match action:
        case Match(makers=makers, taker=taker):
            return [*(order.entry for order in makers), taker.entry]
        case Move(entries=moved):
            return list(moved)
    return []


def played(seed: int, wallet: str, before_ms: int = WINDOW_MS) -> list[tuple[Action, Entry]]:
    """What happens to a wallet between the origin and `before_ms`."""
    return [
        (action, entry)
        for action in actions(seed)
        if 0 <= action.offset_ms < before_ms
        for entry in entries(action)
        if entry.wallet == wallet
    ]


def test_the_followed_have_names_addresses_and_signers() -> None:
    assert [(who.id, who.address) for who in INFLUENCERS] == [
        (name, address_of(name)) for name in ("poly-taker", "poly-maker", "poly-dripper", "poly-splitter")
    ]
    assert not FOLLOWED & {*MAKERS, *CROWD}
    assert len({who.signer for who in INFLUENCERS} | FOLLOWED) == 8


def test_six_binary_markets_in_several_fee_categories() -> None:
    assert len(MARKETS) == 6
    assert {listing.fee_rate_micros for listing in MARKETS} == {70_000, 50_000, 40_000, 0}
    assert {listing.tick_micros for listing in MARKETS} == {10_000, 1_000}
    assert [listing.neg_risk for listing in MARKETS].count(True) == 1
    assert len({token for listing in MARKETS for token in listing.tokens}) == 12
    assert all(2**255 <= int(token) < 2**256 for listing in MARKETS for token in listing.tokens)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_is_the_same_flow(seed: int) -> None:
    assert tuple(itertools.islice(flow(seed), 300)) == actions(seed)[:300]


def test_another_seed_is_another_flow() -> None:
    assert len({actions(seed)[40:60] for seed in SEEDS}) == len(SEEDS)
    transactions = [one.transaction for seed in SEEDS for one in matches(seed)]
    assert len(set(transactions)) == len(transactions)


def test_the_flow_does_not_depend_on_the_process() -> None:
    code = (
        "import itertools; from gateways.sandbox.polymarket.flow import flow; "
        "print(repr(tuple(itertools.islice(flow(7), 120))))"
    )
    env = os.environ | {"PYTHONHASHSEED": "4711"}
    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == repr(actions(7)[:120])


@pytest.mark.parametrize("seed", SEEDS)
def test_actions_follow_each_other_in_time_after_a_short_history(seed: int) -> None:
    offsets = [action.offset_ms for action in actions(seed)]
    assert offsets == sorted(offsets)
    assert len(set(offsets)) == len(offsets)
    assert -1_900_000 < offsets[0] < 0
    before = [entry for action in actions(seed) if action.offset_ms < 0 for entry in entries(action)]
    assert {entry.wallet for entry in before if entry.kind is not Kind.DEPOSIT} >= FOLLOWED
    assert not [offset for offset in offsets if -60_000 < offset < 0]


@pytest.mark.parametrize("seed", range(20))
def test_every_seed_shows_everything_early(seed: int) -> None:
    early = [a for a in itertools.takewhile(lambda a: a.offset_ms < 14_000, flow(seed)) if a.offset_ms >= 0]
    taken = [e for a in early for e in entries(a) if e.wallet == TAKER.address]
    shares: defaultdict[tuple[str, int | None], int] = defaultdict(int)
    changes = set()
    for entry in taken:
        assert entry.listing is not None
        held = (entry.listing.name, entry.outcome)
        before, after = shares[held], shares[held] + entry.share_micros * (1 if entry.buying else -1)
        shares[held] = after
        changes.add((before > 0, after > before, after > 0))
    assert changes >= {(False, True, True), (True, True, True), (True, False, True), (True, False, False)}
    kinds = {entry.kind for a in early for entry in entries(a) if entry.wallet == SPLITTER.address}
    assert kinds >= {Kind.SPLIT, Kind.MERGE, Kind.TRADE}
    assert [a.listing for a in early if isinstance(a, Close)] == [BRIEF]
    assert [a.payouts for a in early if isinstance(a, Resolve)] in ([(ONE, 0)], [(0, ONE)])


def test_the_brief_market_ends_both_ways_and_another_in_a_tie_where_scripted() -> None:
    ends = {
        next(action.payouts for action in flow(seed, Script()) if isinstance(action, Resolve)) for seed in range(12)
    }
    assert ends == {(ONE, 0), (0, ONE)}
    script = Script(closes_ms=3_000, resolves_ms=4_000, cancelled_ms=6_000)
    scripted = itertools.takewhile(lambda action: action.offset_ms < 9_000, flow(7, script))
    resolved = [
        (action.offset_ms, action.listing, action.payouts) for action in scripted if isinstance(action, Resolve)
    ]
    assert [one[1] for one in resolved] == [BRIEF, CANCELLED]
    assert resolved[1][2] == (HALF, HALF)
    assert 6_000 <= resolved[1][0] <= 6_010


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_happens_in_a_market_after_its_close(seed: int) -> None:
    closed_ms = next(action.offset_ms for action in actions(seed) if isinstance(action, Close))
    later = [action for action in actions(seed) if action.offset_ms > closed_ms]
    assert not [a for a in later if isinstance(a, Match | Quote) and a.listing == BRIEF]
    assert not [entry for a in later for entry in entries(a) if entry.listing == BRIEF]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_match_adds_up(seed: int) -> None:
    for one in matches(seed):
        taker = one.taker.entry
        assert taker.share_micros == sum(order.entry.share_micros for order in one.makers)
        assert taker.fee_micros == taker_fee(one.listing.fee_rate_micros, taker.share_micros, taker.usdc_micros)
        cash = 0
        for order in one.makers:
            maker = order.entry
            assert maker.fee_micros == 0
            assert not maker.taker
            same = maker.outcome == taker.outcome
            # The same token changes hands, or both outcomes are bought or sold together.
            assert same == (maker.buying != taker.buying)
            cash += maker.usdc_micros if same else maker.share_micros - maker.usdc_micros
        assert taker.usdc_micros == cash


@pytest.mark.parametrize("seed", SEEDS)
def test_wallets_sell_only_what_they_hold_and_cash_lasts(seed: int) -> None:
    ledger = Ledger()
    for action in itertools.takewhile(lambda a: a.offset_ms < 600_000, flow(seed)):
        if isinstance(action, Resolve):
            break
        for entry in entries(action):
            ledger.apply(entry)
            assert ledger.account(entry.wallet).cash_micros >= 0
    total = sum(account.cash_micros for account in ledger.accounts.values())
    sets = {
        listing.name: {
            sum(account.shares(listing, outcome) for account in ledger.accounts.values()) for outcome in (0, 1)
        }
        for listing in MARKETS
    }
    # Every share is half of a set that a wallet paid a dollar for.
    assert all(len(outstanding) == 1 for outstanding in sets.values())
    fees = sum(entry.fee_micros for a in _until_resolved(seed) for entry in entries(a))
    given = sum(
        entry.usdc_micros
        for a in _until_resolved(seed)
        for entry in entries(a)
        if entry.kind in (Kind.DEPOSIT, Kind.MAKER_REBATE)
    )
    assert total + fees + sum(next(iter(outstanding)) for outstanding in sets.values()) == given


def _until_resolved(seed: int) -> list[Action]:
    return list(itertools.takewhile(lambda a: not isinstance(a, Resolve), flow(seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_taker_crosses_the_spread(seed: int) -> None:
    traded = [entry for _, entry in played(seed, TAKER.address) if entry.kind is Kind.TRADE]
    assert 25 <= len(traded) <= 50
    assert all(entry.taker for entry in traded)
    assert sum(entry.buying for entry in traded) > len(traded) / 2
    assert any(entry.share_micros % 10_000 for entry in traded), "orders in dollars have six decimals"


@pytest.mark.parametrize("seed", SEEDS)
def test_the_maker_is_met_and_some_of_his_rows_are_twins(seed: int) -> None:
    traded = [(action, entry) for action, entry in played(seed, MAKER.address) if entry.kind is Kind.TRADE]
    assert all(not entry.taker for _, entry in traded)
    assert {entry.buying for _, entry in traded} == {True, False}
    twins = Counter((action.offset_ms, entry.outcome, entry.buying, entry.share_micros) for action, entry in traded)
    assert max(twins.values()) >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_dripper_trades_below_the_minimum_several_times_a_second(seed: int) -> None:
    traded = [(action.offset_ms, entry) for action, entry in played(seed, DRIPPER.address)]
    assert all(entry.usdc_micros < ONE for _, entry in traded)
    assert any(entry.share_micros < 10_000 for _, entry in traded), "dust"
    per_second = Counter(offset // 1_000 for offset, _ in traded)
    assert max(per_second.values()) >= 3
    assert len(traded) >= 50


@pytest.mark.parametrize("seed", SEEDS)
def test_prices_lie_on_ticks_and_near_the_book(seed: int) -> None:
    books = opening_books(seed)
    for action in actions(seed):
        if isinstance(action, Quote):
            books[action.listing.name] = books[action.listing.name].with_level(
                action.buying, action.price_micros, action.share_micros
            )
        if not isinstance(action, Match):
            continue
        entry, resting = action.taker.entry, books[action.listing.name]
        own = resting.mirrored() if entry.outcome else resting
        best = (own.asks if entry.buying else own.bids)[0][0]
        assert action.price_micros == best, "an order is filled at the best resting price"
        assert action.price_micros % action.listing.tick_micros == 0
        mid = action.book.mid
        assert mid is not None
        first = action.price_micros if entry.outcome == 0 else ONE - action.price_micros
        assert abs(mid - first) <= 60_000
        books[action.listing.name] = action.book


def test_fees_are_those_of_the_venue() -> None:
    # Taken from settled trades: 9,451.729165 shares for 4,536.829999 at 5 %; 25 at 0.64 at 7 %.
    assert taker_fee(50_000, 9_451_729_165, 4_536_829_999) == 117_957_570
    assert taker_fee(70_000, 25 * ONE, 16 * ONE) == 403_200
    assert taker_fee(0, 25 * ONE, 16 * ONE) == 0
    assert taker_fee(40_000, 10, 5) == 10, "never less than 0.00001"
