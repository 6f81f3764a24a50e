"""The demo from end to end: one seed gives one story; traces tell it; a finished demo's log can still be asked."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.command import Ended, assert_exactly_once, ends, vibe

SECONDS = "7"


@pytest.fixture(scope="module")
async def twice(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Ended]]:
    folders = [tmp_path_factory.mktemp("demo") for _ in range(2)]
    runs = await asyncio.gather(*(vibe(folder, "demo", "--seconds", SECONDS, "--json") for folder in folders))
    return list(zip(folders, runs, strict=True))


async def decisions(folder: Path) -> dict[str, tuple[Any, ...]]:
    async with ends(folder) as at:
        events = await at.events()
    assert_exactly_once(events)
    return {
        e.data.attempt_id: (e.data.decision, e.data.reasons, e.data.share_micros, e.data.limit_price_micros)
        for e in events["copy.decided"]
    }


async def signals(folder: Path) -> list[tuple[Any, ...]]:
    async with ends(folder) as at:
        rows = await at.database.fetch(
            "SELECT signal_id, action, after_micros, price_micros, event_time FROM trade_event ORDER BY 1"
        )
    return [tuple(row) for row in rows]


async def test_one_seed_gives_the_same_signals_and_decisions(twice: list[tuple[Path, Ended]]) -> None:
    (first, one), (second, two) = twice
    assert one.code == 0, one.err
    assert two.code == 0, two.err
    timeless = [{k: v for k, v in run.json.items() if not k.endswith("_ms")} for run in (one, two)]
    assert timeless[0] == timeless[1]
    assert await signals(first) == await signals(second)
    assert await decisions(first) == await decisions(second)


async def test_the_report_adds_up_with_the_log(twice: list[tuple[Path, Ended]]) -> None:
    folder, run = twice[0]
    report = run.json
    async with ends(folder) as at:
        events = await at.events()
    assert report["raw_events"] == len(events["raw.received"]) > 0
    assert report["signals"] == len(events["signal.recorded"])
    assert report["groups"] == len(events["group.closed"])
    assert report["requests"] == len(events["execution.requested"])
    assert report["decisions"] == {
        name: sum(e.data.decision == name for e in events["copy.decided"]) for name in ("EXECUTE", "SKIP")
    }
    assert min(report["decisions"].values()) > 0
    assert report["fills"] == len(events["order.filled"])
    assert report["ledger_entries"] == len(events["order.filled"]) + len(events["cash.deposited"])
    assert report["dead_letters"] == 0
    assert report["lag"] == 0
    assert 0 < report["p50_ms"] <= report["p99_ms"] < 10_000


async def test_the_ledger_is_the_fills_to_the_micro(twice: list[tuple[Path, Ended]]) -> None:
    folder, _ = twice[0]
    async with ends(folder) as at:
        events = await at.events()
        ledger = await at.database.fetch(
            "SELECT subscriber_id, sum(cash_delta_micros)::bigint AS cash FROM ledger_entry GROUP BY 1"
        )
        held = await at.database.fetch("SELECT subscriber_id, asset, share_micros FROM position")
    cash: dict[str, int] = {}
    shares: dict[tuple[str, str], int] = {}
    for event in events["cash.deposited"]:
        cash[event.data.subscriber_id] = cash.get(event.data.subscriber_id, 0) + event.data.cash_delta_micros
    for event in events["order.filled"]:
        fill = event.data
        sign = 1 if fill.trade_side == "BUY" else -1
        notional, rest = divmod(fill.price_micros * fill.share_micros, 1_000_000)
        assert rest == 0
        cash[fill.subscriber_id] -= sign * notional + notional * 450 // 1_000_000
        key = (fill.subscriber_id, fill.asset)
        shares[key] = shares.get(key, 0) + sign * fill.share_micros
    assert {row["subscriber_id"]: row["cash"] for row in ledger} == cash
    assert {(row["subscriber_id"], row["asset"]): row["share_micros"] for row in held} == shares


@pytest.mark.parametrize("decision", ["EXECUTE", "SKIP"])
async def test_a_decision_is_traced_from_raw_event_to_ledger(twice: list[tuple[Path, Ended]], decision: str) -> None:
    folder, _ = twice[0]
    async with ends(folder) as at:
        attempt = await at.database.fetchval(
            "SELECT attempt_id FROM copy_attempt WHERE decision = $1 ORDER BY sequence LIMIT 1", decision
        )
    traced = await vibe(folder, "trace", attempt, "--json")
    assert traced.code == 0, traced.err
    story = traced.json
    assert story["found_as"] == "decision"
    shared = [hop["type"] for hop in story["hops"]]
    assert shared[0] == "raw.received"
    assert list(dict.fromkeys(shared)) == [
        "raw.received",
        "signal.recorded",
        "group.closed",
        "quote.wanted",
        "quote.captured",
        "group.matched",
    ]
    (told,) = story["attempts"]
    hops = told["hops"]
    assert [hop["type"] for hop in hops[:2]] == ["execution.requested", "copy.decided"]
    checks = hops[1]["data"]["checks"]
    assert {check["name"] for check in checks} >= {"signal_age_ms", "quote", "spread_micros"}
    if decision == "EXECUTE":
        assert all(check["passed"] for check in checks)
        assert [hop["type"] for hop in hops[2:4]] == ["order.submitted", "order.filled"]
        assert [hop["type"] for hop in hops[-2:]] == ["execution.completed", "position.changed"]
        assert sum(entry["share_delta_micros"] for entry in told["ledger"]) == sum(
            hop["data"]["share_delta_micros"] for hop in hops if hop["type"] == "order.filled"
        )
    else:
        assert told["reasons"]
        assert len(hops) == 2
        assert not told["ledger"]
    for hop in (*story["hops"], *hops, *told["ledger"]):
        assert hop["stream"]
        assert hop["sequence"] > 0
        assert hop["time"].endswith("Z")
        assert hop["since_first_ms"] >= -1


async def test_every_kind_of_id_finds_its_story(twice: list[tuple[Path, Ended]]) -> None:
    folder, _ = twice[0]
    async with ends(folder) as at:
        events = await at.events()
    fill = events["order.filled"][0].data
    decided = next(e for e in events["copy.decided"] if e.data.attempt_id == fill.attempt_id)
    signal = events["signal.recorded"][0].data
    order = next(e.data for e in events["order.submitted"] if e.data.order_id == fill.order_id)
    wanted = {
        "decision": decided.data.attempt_id,
        "request": decided.data.request_id,
        "order": order.cloid,
        "fill": fill.fill_id,
        "signal group": decided.data.group_id,
        "quote": decided.data.quote_id,
        "signal": signal.signal_id,
        "raw event": signal.source_event_id,
        "venue trade id": signal.metadata["tid"],
        "venue hash": signal.metadata["hash"],
        f"place {decided.at}": decided.at,
        "account seed": events["account.seeded"][0].data.seed_id,
    }
    seeding = next(e.data.raw_id for e in events["raw.received"] if e.data.channel == "clearinghouseState")
    async with ends(folder):  # the servers stay up for all of them
        for found_as, identifier in wanted.items():
            traced = await vibe(folder, "trace", identifier, "--json")
            assert traced.code == 0, (found_as, traced.err)
            assert traced.json["found_as"] == found_as
            assert any(hop["type"] == "raw.received" for hop in traced.json["hops"])
        for identifier in (f"{order.order_id}.completed", f"{decided.data.group_id}.matched", seeding):
            traced = await vibe(folder, "trace", identifier, "--json")
            assert traced.code == 0, (identifier, traced.err)
        as_text = await vibe(folder, "trace", decided.data.attempt_id)
        assert "copy.decided" in as_text.out
        assert decided.at in as_text.out
        unknown = await vibe(folder, "trace", "att_nothing")
        assert unknown.code == 1
        assert "nothing has the id 'att_nothing'" in unknown.err


async def test_lag_and_streams_of_a_finished_demo(twice: list[tuple[Path, Ended]]) -> None:
    folder, _ = twice[0]
    lag = await vibe(folder, "lag", "--json")
    consumers = {(row["stream"], row["consumer"]): row["waiting"] for row in lag.json}
    assert consumers["EXECUTIONS", "execute-00-15"] == 0
    assert ("RAW", "normalize-48-63") in consumers
    assert not any(consumers.values())
    shown = await vibe(folder, "streams", "show", "--json")
    assert shown.code == 0, shown.err
    assert {row["name"]: row["state"] for row in shown.json} == dict.fromkeys(
        ("RAW", "SIGNALS", "GROUPS", "REQUESTS", "EXECUTIONS", "CONFIG", "DEAD", "LEASES", "SNAPSHOTS"), "ok"
    )


async def test_a_demo_leaves_other_logs_alone(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    refused = await vibe(tmp_path, "demo", "--seconds", "1", "--json")
    assert refused.code == 1
    assert "not a demo's" in refused.err
    assert json.dumps(str(tmp_path)).strip('"') in refused.err
