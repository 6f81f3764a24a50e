"""Recording mode: a short made-up recording, and the real one where it is at hand.

Set VIBE_TEST_RECORDINGS to a folder with `polymarket/trades_page0.json` and `trades_page1.json` for the latter.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateways.sandbox.polymarket import Limits, RecordingSource
from tests.gateways.test_sandbox_polymarket_data import ORIGIN_NS, Clock, serving

WALLET = "0x" + "a" * 40


def row(timestamp: int, size: float = 20, transaction: str = "") -> dict[str, Any]:
    return {
        "proxyWallet": WALLET,
        "side": "BUY",
        "asset": "94485492517436464922053725129315569968743520148473693786435021285849899975468",
        "conditionId": "0xcb32bca7d65653df535ec6408945a7b6c4136921b6e1b0f72e99e82247265682",
        "size": size,
        "price": 0.33999993222590463,
        "timestamp": timestamp,
        "title": "Up or Down",
        "slug": "up-or-down",
        "icon": "",
        "eventSlug": "up-or-down",
        "outcome": "Down",
        "outcomeIndex": 1,
        "name": "Bees",
        "pseudonym": "Outlandish-Shop",
        "bio": "",
        "profileImage": "",
        "profileImageOptimized": "",
        "transactionHash": transaction or f"0x{timestamp:064x}",
    }


def recorded(folder: Path, *pages: list[dict[str, Any]]) -> Path:
    for number, page in enumerate(pages):
        (folder / f"trades_page{number}.json").write_text(json.dumps(page))
    return folder


async def test_the_union_keeps_twins_of_a_page_and_drops_what_two_pages_share(tmp_path: Path) -> None:
    twin = row(90)
    pages = [row(100), row(99), twin, twin, row(80, 8.85294)], [twin, row(80, 8.85294), row(70, 0.92)]
    async with serving(RecordingSource(recorded(tmp_path, *pages), origin_ns=ORIGIN_NS)) as client:
        rows = await client.get("/data/trades", user=WALLET, limit=100)
        assert rows == [row(100), row(99), twin, twin, row(80, 8.85294), row(70, 0.92)]
        assert [list(one) for one in rows] == [list(twin)] * 6
        walked = await client.walk("/data/v2/trades", user=WALLET, limit=2, taker_only="false")
        assert [one["timestamp"] for one in walked] == [100, 99, 90, 90, 80, 70]
        assert walked[0]["token_id"] == twin["asset"]
        assert {one["price"] for one in walked} == {0.33999993222590463}
        activity = await client.get("/data/activity", user=WALLET, start=80, end=90)
        assert [(one["type"], one["timestamp"]) for one in activity] == [("TRADE", 90), ("TRADE", 90), ("TRADE", 80)]
        assert activity[2]["usdcSize"] == round(8.85294 * 0.33999993222590463, 6)
        up = await client.walk("/data/v2/activity", user=WALLET, sort_direction="ASC", limit=4)
        assert [one["timestamp"] for one in up] == [70, 80, 90, 90, 99, 100]
        assert await client.get("/data/trades", user="0x" + "b" * 40) == []
        assert await client.get("/gamma/markets") == []


async def test_rows_come_in_between_pages_and_offsets_drift(tmp_path: Path) -> None:
    pages = [row(timestamp) for timestamp in range(120, 100, -1)]
    source = RecordingSource(recorded(tmp_path, pages), origin_ns=ORIGIN_NS, held_back=6, drift=2)
    async with serving(source, limits=Limits(trades_offset=10)) as client:
        first = await client.get("/data/trades", user=WALLET, limit=5)
        assert [one["timestamp"] for one in first] == [114, 113, 112, 111, 110]
        second = await client.get("/data/trades", user=WALLET, limit=5, offset=5)
        assert [one["timestamp"] for one in second] == [111, 110, 109, 108, 107], "two rows are served again"
        await client.get("/data/trades", user=WALLET, limit=1)
        assert (await client.get("/data/trades", user=WALLET, limit=1))[0]["timestamp"] == 120
        refused = await client.ask("/data/trades", user=WALLET, offset=11)
        assert await refused.json() == {"error": "max historical activity offset of 10 exceeded"}


async def test_rows_that_are_held_back_come_at_the_recorded_rate(tmp_path: Path) -> None:
    pages = [row(timestamp) for timestamp in (140, 120, 110, 100)]
    clock = Clock()
    source = RecordingSource(recorded(tmp_path, pages), origin_ns=ORIGIN_NS, held_back=3, speed=10)
    assert source.wallet == WALLET
    async with serving(source, clock) as client:
        seen = []
        for _ in range(5):
            seen.append(len(await client.get("/data/trades", user=WALLET)))
            clock.advance(1.01)
        assert seen == [1, 2, 3, 3, 4]
        assert client.sandbox.venue.exhausted


def test_a_folder_without_pages_and_a_broken_page_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no trades_page\*.json"):
        RecordingSource(tmp_path)
    (tmp_path / "trades_page0.json").write_text('{"error": "x"}')
    with pytest.raises(ValueError, match="expected an array of rows"):
        RecordingSource(tmp_path)
    (tmp_path / "trades_page0.json").write_text('[{"side": "BUY"}]')
    with pytest.raises(ValueError, match="row 1 has no 'asset'"):
        RecordingSource(tmp_path)
    (tmp_path / "trades_page0.json").write_text(json.dumps([row(1)]))
    with pytest.raises(ValueError, match="held_back must be less than the 1 rows"):
        RecordingSource(tmp_path, held_back=1)


async def test_the_real_pages_come_back_byte_for_byte() -> None:
    folder = os.environ.get("VIBE_TEST_RECORDINGS")
    if not folder:
        pytest.skip("VIBE_TEST_RECORDINGS is not set: no recordings to compare with")
    pages = [json.loads((Path(folder) / "polymarket" / f"trades_page{n}.json").read_text()) for n in (0, 1)]
    texts = [[json.dumps(one) for one in page] for page in pages]
    source = RecordingSource(Path(folder) / "polymarket", origin_ns=ORIGIN_NS)
    async with serving(source) as client:
        served = await client.get("/data/trades", user=source.wallet, limit=10_000)
        assert [json.dumps(one) for one in served[:1_000]] == texts[0]
        assert [json.dumps(one) for one in served[-1_000:]] == texts[1]
        assert len(served) == 1_974
        walked = await client.walk("/data/v2/activity", user=source.wallet, limit=997)
        assert [one["transaction_hash"] for one in walked] == [one["transactionHash"] for one in served]
    drifting = RecordingSource(Path(folder) / "polymarket", origin_ns=ORIGIN_NS, held_back=26, drift=26)
    async with serving(drifting) as client:
        first = await client.get("/data/trades", user=drifting.wallet, limit=900)
        second = await client.get("/data/trades", user=drifting.wallet, limit=900, offset=900)
        shared = Counter(map(json.dumps, first)) & Counter(map(json.dumps, second))
        assert sum(shared.values()) == 26, "as between the two recorded pages"
