"""A live subscriber on the sandbox, end to end: `vibe up` signs, sends and books, also when `execute` is killed.

At the end the ledger is the venue's account, and every event can be computed again.
"""

import asyncio
import os
import signal
import time
from decimal import Decimal
from pathlib import Path

import msgspec

from gateways.hyperliquid.signing import SigningKey
from gateways.sandbox.hyperliquid import INFLUENCERS, FlowSource, serve
from tests.system.command import start, vibe

SECRET = "5a" * 32
OWNER = "0x" + "ab" * 20
SECONDS = 40


def lines() -> list[dict[str, object]]:
    """Bob copies every influencer of the sandbox with 100 USD, live."""
    followed: list[dict[str, object]] = [
        {"kind": "influencer", "id": one.id, "venue": "hyperliquid", "addresses": [one.address], "label": one.label}
        for one in INFLUENCERS
    ]
    copies: list[dict[str, object]] = [
        {
            "kind": "subscription",
            "id": f"bob-{one.id}",
            "subscriber_id": "bob",
            "influencer_id": one.id,
            "sizing": {"mode": "fixed_notional", "notional_usd": "100"},
        }
        for one in INFLUENCERS
    ]
    account: dict[str, object] = {
        "kind": "account",
        "subscriber_id": "bob",
        "venue": "hyperliquid",
        "address": OWNER,
        "agent": "bobs",
    }
    subscriber: dict[str, object] = {"kind": "subscriber", "id": "bob", "mode": "live", "deposit_usd": "10000"}
    return [*followed, subscriber, account, *copies]


async def kill_execute() -> None:
    """`kill -9` of the process that sends orders."""
    found = await asyncio.create_subprocess_exec(
        "pgrep", "-f", "vibe run execute", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await found.communicate()
    for pid in out.split():
        if Path(f"/proc/{int(pid)}/environ").read_bytes().find(b"VIBE_AGENT_KEY_BOBS") >= 0:
            os.kill(int(pid), signal.SIGKILL)


async def test_the_ledger_of_a_live_subscriber_is_the_venues(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "config.jsonl"
    config.write_text("\n".join(msgspec.json.encode(line).decode() for line in lines()))
    venue = await serve(FlowSource(7))
    try:
        venue.exchange.open_account(OWNER, Decimal(10_000), {SigningKey.from_hex(SECRET).address: "bobs"})
        settings = {
            "VIBE_HYPERLIQUID_WS_URL": venue.ws_url,
            "VIBE_HYPERLIQUID_API_URL": venue.url,
            "VIBE_AGENT_KEY_BOBS": SECRET,
            "VIBE_WEB_PORT": "0",
        }
        arguments = ("up", "--config", str(config), "--seconds", str(SECONDS), "--json")
        process = await start(data, *arguments, settings=settings)
        began = time.monotonic()
        for at in (14,):
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            await kill_execute()
        out, err = await asyncio.wait_for(process.communicate(), 240)
        assert process.returncode == 0, err.decode()[-2000:]
        report = msgspec.json.decode(out.splitlines()[-1])
        assert report["dead_letters"] == report["exits"]["owed"] == report["exits"]["open_copies_of_flat"] == 0

        orders = venue.market.trading[OWNER].orders.values()
        named = [order.cloid for order in orders]
        assert len(named) == len(set(named)) > 0
        account = venue.market.accounts[OWNER]
        query = "SELECT asset, share_micros, cash_micros FROM ledger_balance WHERE subscriber_id = 'bob'"
        shown = await vibe(data, "sql", "--", "-A", "-t", "-c", query)
        assert shown.code == 0, shown.err
        shares: dict[str, int] = {}
        cash = 0
        for row in shown.out.split():
            asset, share, moved = row.split("|")
            shares[asset] = shares.get(asset, 0) + int(share)
            cash += int(moved)
        held = {coin: int(position.size * 1_000_000) for coin, position in account.positions.items()}
        assert {asset: share for asset, share in shares.items() if share} == held
        paid = sum(
            ((fill.px * fill.sz * (1 if fill.side == "B" else -1)) + fill.fee for fill in account.fills), Decimal(0)
        )
        # The notional of a fill is rounded down to a micro.
        assert abs(cash - (10_000_000_000 - paid * 1_000_000)) <= len(account.fills)
        listed = (await vibe(data, "orders", "list", "--limit", "1000", "--json")).json["orders"]
        sent = [one for one in listed if one["filled_micros"]]
        assert {one["cloid"] for one in sent} <= set(named)
        shown = await vibe(data, "orders", "show", sent[0]["order_id"], "--json")
        kinds = [event["type"] for event in shown.json["events"]]
        assert kinds[:2] == ["order.submitted", "order.signed"]
        assert {"order.sent", "order.resulted", "order.filled", "execution.completed"} <= set(kinds)
        verified = await vibe(data, "verify", "--json")
        assert verified.code == 0, verified.out[-2000:]
        for path in [*data.rglob("*.blk"), *(data / "logs").glob("*")]:
            assert SECRET.encode() not in path.read_bytes(), f"{path} holds a key"
    finally:
        await venue.close()
