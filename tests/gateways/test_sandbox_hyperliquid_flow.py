"""The seeded flow: what holds for every seed, and what holds on average."""

import hashlib
import itertools
import os
import subprocess
import sys
from collections import Counter, defaultdict
from decimal import Decimal
from functools import cache

import pytest

from gateways.sandbox.hyperliquid import INFLUENCERS, SandboxInfluencer
from gateways.sandbox.hyperliquid.coins import BY_NAME, COINS
from gateways.sandbox.hyperliquid.flow import NOISE, Action, flow, opening_books
from gateways.sandbox.hyperliquid.market_data import ZERO_HASH, Book
from gateways.sandbox.hyperliquid.traders import CROWD, MAKERS

SEEDS = (1, 7, 42, 20_260)
WINDOW_MS = 150_000
BY_ID = {who.id: who for who in INFLUENCERS}


@cache
def actions(seed: int) -> tuple[Action, ...]:
    return tuple(itertools.takewhile(lambda action: action.offset_ms < WINDOW_MS, flow(seed)))


@cache
def acts(seed: int) -> tuple[Action, ...]:
    return tuple(action for action in actions(seed) if action.actor != NOISE)


def everything() -> list[Action]:
    return [action for seed in SEEDS for action in acts(seed)]


def size_of(action: Action) -> Decimal:
    return sum((p.sz for p in action.prints), Decimal(0))


def mean_px(action: Action) -> Decimal:
    return sum((p.px * p.sz for p in action.prints), Decimal(0)) / size_of(action)


def buying(action: Action) -> bool:
    return action.prints[0].buyer == BY_ID[action.actor].address


def book_of(action: Action) -> Book:
    assert action.book is not None
    return action.book


def test_influencers_have_the_promised_addresses() -> None:
    expected = [
        (f"whale-{n}", "0x" + hashlib.blake2b(f"vibe sandbox whale-{n}".encode(), digest_size=20).hexdigest())
        for n in range(1, 6)
    ]
    assert [(who.id, who.address) for who in INFLUENCERS] == expected
    assert all(isinstance(who, SandboxInfluencer) and who.label for who in INFLUENCERS)
    assert not {who.address for who in INFLUENCERS} & {*MAKERS, *CROWD}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_is_the_same_flow(seed: int) -> None:
    again = itertools.islice(flow(seed), 300)
    assert tuple(again) == actions(seed)[:300]


def test_another_seed_is_another_flow() -> None:
    assert len({actions(seed)[:20] for seed in SEEDS}) == len(SEEDS)
    everyone = [p.tid for seed in SEEDS for action in actions(seed) for p in action.prints]
    assert len(set(everyone)) == len(everyone)


def test_the_flow_does_not_depend_on_the_process() -> None:
    code = (
        "import itertools; from gateways.sandbox.hyperliquid.flow import flow; "
        "print(repr(tuple(itertools.islice(flow(7), 120))))"
    )
    env = os.environ | {"PYTHONHASHSEED": "4711"}
    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == repr(actions(7)[:120])


@pytest.mark.parametrize("seed", SEEDS)
def test_actions_follow_each_other_in_time(seed: int) -> None:
    assert [action.index for action in actions(seed)] == list(range(len(actions(seed))))
    assert all(before.offset_ms < after.offset_ms for before, after in itertools.pairwise(actions(seed)))
    assert 300 <= acts(seed)[0].offset_ms <= 600


@pytest.mark.parametrize("seed", range(25))
def test_every_effect_shows_early(seed: int) -> None:
    early = [
        (action.effect, action.offset_ms)
        for action in itertools.takewhile(lambda action: action.offset_ms < 20_000, flow(seed))
        if action.actor != NOISE
    ]
    first = dict(reversed(early))
    assert set(first) == {"open", "add", "reduce", "close", "flip"}
    assert first["close"] < 12_000
    assert first["flip"] < 12_000
    opens = [effect for effect, at in early if at < 5_000]
    assert opens.count("open") > len(opens) / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_influencers_leave_a_coin_alone_for_four_seconds(seed: int) -> None:
    by_coin = defaultdict(list)
    for action in acts(seed):
        by_coin[action.coin].append(action.offset_ms)
    gaps = [after - before for times in by_coin.values() for before, after in itertools.pairwise(times)]
    assert min(gaps) >= 4_000
    assert set(by_coin) == {coin.name for coin in COINS}


@pytest.mark.parametrize("seed", SEEDS)
def test_influencers_and_crowd_trade_at_the_intended_rates(seed: int) -> None:
    seconds = WINDOW_MS / 1_000
    assert 2.0 <= len(acts(seed)) / seconds <= 3.0
    assert 0.7 <= (len(actions(seed)) - len(acts(seed))) / len(acts(seed)) <= 1.3
    for who, count in Counter(action.actor for action in acts(seed)).items():
        assert 1.5 <= seconds / count <= 2.6, who


@pytest.mark.parametrize("seed", SEEDS)
def test_effects_follow_from_the_positions(seed: int) -> None:
    positions: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for action in acts(seed):
        before = positions[action.actor, action.coin]
        after = before + (size_of(action) if buying(action) else -size_of(action))
        positions[action.actor, action.coin] = after
        match action.effect:
            case "open":
                assert before == 0 != after
            case "add":
                assert before * after > 0
                assert abs(after) > abs(before)
            case "reduce":
                assert before * after > 0
                assert abs(after) < abs(before)
            case "close":
                assert before != 0 == after
            case "flip":
                assert before * after < 0


@pytest.mark.parametrize("seed", SEEDS)
def test_prices_and_sizes_obey_the_tick_rule(seed: int) -> None:
    rows = [(action.coin, p.px, p.sz) for action in actions(seed) for p in action.prints]
    books = [*opening_books(seed).items(), *((action.coin, book_of(action)) for action in acts(seed))]
    rows += [(coin, level.px, level.sz) for coin, book in books for level in (*book.bids, *book.asks)]
    for name, px, sz in set(rows):
        decimals, figures = _decimals(px), len(px.normalize().as_tuple().digits)
        sz_decimals = BY_NAME[name].sz_decimals
        assert px > 0
        assert sz > 0
        assert decimals == 0 or (figures <= 5 and decimals <= 6 - sz_decimals), (name, px)
        assert _decimals(sz) <= sz_decimals, (name, sz)


def _decimals(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_action_walks_the_book_that_stood(seed: int) -> None:
    books = opening_books(seed)
    for action in actions(seed):
        side = books[action.coin].asks if action.prints[0].side == "B" else books[action.coin].bids
        assert 1 <= len(action.prints) <= 5
        assert [p.px for p in action.prints] == [level.px for level in side[: len(action.prints)]]
        assert len({p.side for p in action.prints}) == 1
        assert (action.book is None) == (action.actor == NOISE)
        if action.book is not None:
            books[action.coin] = action.book


@pytest.mark.parametrize("seed", SEEDS)
def test_influencers_only_trade_with_accounts_that_no_one_follows(seed: int) -> None:
    not_followed = {*MAKERS, *CROWD}
    for action in actions(seed):
        for p in action.prints:
            followed = {p.buyer, p.seller} - not_followed
            assert followed == ({BY_ID[action.actor].address} if action.actor != NOISE else set())
            taker_oid, maker_oid = (p.buyer_oid, p.seller_oid)[:: 1 if p.side == "B" else -1]
            assert taker_oid > maker_oid
            assert 0 < p.tid < 2**50
        takers = {p.buyer if p.side == "B" else p.seller for p in action.prints}
        assert len(takers) == 1


def test_a_transaction_has_one_hash_and_names_its_block() -> None:
    for seed in SEEDS:
        hashed = [action for action in actions(seed) if action.hash != ZERO_HASH]
        assert len({action.hash for action in hashed}) == len(hashed)
        assert {len(action.hash) for action in hashed} == {66}
        blocks = [int(action.hash[24:32], 16) for action in hashed]
        assert blocks == sorted(set(blocks))


def test_who_takes_and_who_slices() -> None:
    sample = everything()
    making = [action for action in sample if (action.prints[0].side == "B") != buying(action)]
    assert 0.05 < len(making) / len(sample) < 0.25
    slices = [action for action in sample if action.hash == ZERO_HASH]
    assert 0 < len(slices) / len(sample) < 0.03
    assert all((action.twap_id is not None) == (action.hash == ZERO_HASH) for action in sample)
    counts = Counter(len(action.prints) for action in sample)
    assert set(counts) == {1, 2, 3, 4, 5}


def test_notional_is_log_uniform_with_a_few_tiny_ones() -> None:
    opens = [mean_px(action) * size_of(action) for action in everything() if action.effect == "open"]
    tiny = [usd for usd in opens if usd < 1_000]
    rest = sorted(usd for usd in opens if usd >= 1_000)
    assert 0.02 < len(tiny) / len(opens) < 0.12
    assert all(190 <= usd <= 910 for usd in tiny)
    assert rest[0] >= 1_450
    assert rest[-1] <= 61_000
    # The middle of a log-uniform range is its geometric mean, about 9,500 USD.
    assert 6_000 < rest[len(rest) // 2] < 15_000
    whole = [mean_px(action) * size_of(action) for action in everything()]
    assert sum(usd <= 62_000 for usd in whole) / len(whole) > 0.99
