"""Gamma of the sandbox: listings, endings, pages, profiles."""

import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from gateways.sandbox.polymarket import INFLUENCERS, MARKETS, FlowSource, gamma
from tests.gateways.test_sandbox_polymarket_data import ORIGIN_NS, SEED, Clock, played, serving, venue
from tests.gateways.test_sandbox_polymarket_market import BRIEF, OPEN


async def test_gamma_hides_the_closed_unless_asked_for_them() -> None:
    async with played() as client:
        open_ones = await client.get("/gamma/markets")
        assert [body["conditionId"] for body in open_ones] == [listing.condition for listing in MARKETS[1:]]
        closed = await client.get("/gamma/markets", closed="true", condition_ids=BRIEF.condition)
        assert [body["conditionId"] for body in closed] == [BRIEF.condition]
        assert await client.get("/gamma/markets", condition_ids=BRIEF.condition) == []
        both = await client.get("/gamma/markets", condition_ids=f"{OPEN.condition},{MARKETS[2].condition}")
        assert len(both) == 2
        by_token = await client.get("/gamma/markets", clob_token_ids=OPEN.tokens[1])
        assert by_token[0]["slug"] == OPEN.slug
        assert (await client.get(f"/gamma/markets/slug/{OPEN.slug}"))["id"] == OPEN.gamma_id
        assert (await client.ask("/gamma/markets/slug/nothing")).status == 404


async def test_a_gamma_market_has_json_in_its_strings_and_ends_as_on_the_venue() -> None:
    async with played() as client:
        body = (await client.get("/gamma/markets", closed="true"))[0]
        assert json.loads(body["outcomes"]) == ["Up", "Down"]
        assert json.loads(body["clobTokenIds"]) == list(BRIEF.tokens)
        assert sorted(json.loads(body["outcomePrices"])) == ["0", "1"]
        assert (body["closed"], body["acceptingOrders"], body["umaResolutionStatus"]) == (True, False, "resolved")
        assert (body["endDate"], body["closedTime"]) == ("2026-01-01T00:00:10Z", "2026-01-01 00:00:12+00")
        assert body["automaticallyResolved"] is True
        assert body["feeSchedule"]["rate"] == 0.07
        rates = {}
        for one in await client.get("/gamma/markets"):
            prices = [Decimal(price) for price in json.loads(one["outcomePrices"])]
            assert sum(prices) == 1
            assert "umaResolutionStatus" not in one
            rates[one["slug"]] = one["feeSchedule"]["rate"] if one["feesEnabled"] else 0
        assert sorted(rates.values()) == [0, 0.04, 0.04, 0.05, 0.05]
        tie = FlowSource(SEED, origin_ns=ORIGIN_NS, tie=True)
    async with serving(tie, Clock(20)) as client:
        ended = await client.get("/gamma/markets", closed="true")
        assert json.loads(ended[1]["outcomePrices"]) == ["0.5", "0.5"]
        twin = await client.get(f"/clob/markets/{ended[1]['conditionId']}")
        assert twin["is_50_50_outcome"] is True
        assert [token["winner"] for token in twin["tokens"]] == [False, False]


def test_gamma_keys_are_among_the_real_ones() -> None:
    folder = os.environ.get("VIBE_TEST_RECORDINGS")
    if not folder:
        pytest.skip("VIBE_TEST_RECORDINGS is not set: no recordings to compare with")
    lines = (Path(folder) / "polymarket" / "gamma_markets_resolved.jsonl").read_text().splitlines()
    real = [json.loads(line)["raw"] for line in lines]
    at = venue(SEED, 20)
    made = gamma.market(at.markets[BRIEF.name], at.now_ns())
    assert set(made) - set().union(*real) <= {"version", "events"}
    for key in set(made) & set(real[0]):
        assert {type(one[key]) for one in real if key in one} | {int, float} >= {type(made[key])}, key


async def test_keyset_pages() -> None:
    async with played() as client:
        first = await client.get("/gamma/markets/keyset", limit=3)
        second = await client.get("/gamma/markets/keyset", limit=3, after_cursor=first["next_cursor"])
        assert len(first["markets"]) == 3
        assert "next_cursor" not in second
        slugs = [one["slug"] for page in (first, second) for one in page["markets"]]
        assert slugs == [listing.slug for listing in MARKETS[1:]]


async def test_profiles_of_wallets_and_of_their_signers() -> None:
    async with played(0.1) as client:
        for who in INFLUENCERS:
            for address in (who.address, who.signer.upper().replace("X", "x")):
                body = await client.get("/gamma/public-profile", address=address)
                assert (body["proxyWallet"], body["name"]) == (who.address, who.label)
        assert (await client.ask("/gamma/public-profile", address="0x" + "1" * 40)).status == 404
        assert (await client.ask("/gamma/public-profile", address="bob")).status == 400
