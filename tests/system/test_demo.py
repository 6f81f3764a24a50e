"""The demo from end to end: one seed gives the same decisions; each can be traced, verified and replayed afterwards."""

import asyncio
import json
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from domain.events import OrderFilled, Venue
from domain.ids import related
from gateways.sandbox.polymarket import MARKETS
from handlers.live.event_codec import codec
from projections.models import PROJECTIONS
from streams.append import Record, append
from streams.envelope import Recorded, nanoseconds
from tests.system.command import Ended, assert_exactly_once, ends, vibe
from vibe.app import demo
from vibe.app.settings import Settings
from vibe.app.system import running_system
from vibe.cli.dashboard import Dashboard

LINES = [json.loads(line) for line in demo.configuration()]
ON_HYPERLIQUID = {line["id"] for line in LINES if line["kind"] == "influencer" and line["venue"] == "hyperliquid"}
PERPETUALS = {
    line["subscriber_id"]
    for line in LINES
    if line["kind"] == "subscription" and line["influencer_id"] in ON_HYPERLIQUID
}

TOKENS = {token for market in MARKETS for token in market.tokens}

SECONDS = "15"
"""Long enough for the sandbox's brief market to end and pay."""


@pytest.fixture(scope="module")
async def twice(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Ended]]:
    folders = [tmp_path_factory.mktemp("demo") for _ in range(2)]
    runs = await asyncio.gather(*(vibe(folder, "demo", "--seconds", SECONDS, "--json") for folder in folders))
    return list(zip(folders, runs, strict=True))


async def decisions(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Every decision of those whose every input comes at the scenario's own times: who copies perpetuals."""
    async with ends(folder) as at:
        events = await at.events()
    assert_exactly_once(events)
    return {
        e.data.attempt_id: (e.data.decision, e.data.reasons, e.data.share_micros, e.data.limit_price_micros)
        for e in events["copy.decided"]
        if e.data.subscriber_id in PERPETUALS and not e.data.exit_try  # tries come at times of their own
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
    for name in ("raw_events", "signals", "dead_letters", "lag"):
        assert one.json[name] == two.json[name], name
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
    assert report["ledger_entries"] == sum(
        len(events[name]) for name in ("order.filled", "cash.deposited", "position.settled")
    )
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
        cash[fill.subscriber_id] -= sign * notional + fee_of(events, fill, notional)
        key = (fill.subscriber_id, fill.asset)
        shares[key] = shares.get(key, 0) + sign * fill.share_micros
    assert events["position.settled"]
    for event in events["position.settled"]:
        paid = event.data
        key = (paid.subscriber_id, paid.asset)
        cash[paid.subscriber_id] += -paid.share_delta_micros * paid.price_micros // 1_000_000
        shares[key] += paid.share_delta_micros
    assert {row["subscriber_id"]: row["cash"] for row in ledger} == cash
    assert {(row["subscriber_id"], row["asset"]): row["share_micros"] for row in held} == shares


def fee_of(events: dict[str, list[Recorded]], fill: OrderFilled, notional: int) -> int:
    """The venue's fee, computed here: 4.5 bps, or rate x shares x p x (1 - p) rounded down to five decimals."""
    if fill.venue is Venue.HYPERLIQUID:
        return notional * 450 // 1_000_000
    decision = next(e.data for e in events["copy.decided"] if e.data.attempt_id == fill.attempt_id)
    rate, price = Decimal(decision.terms.fee_rate_micros) / 10**6, Decimal(fill.price_micros) / 10**6
    fee = rate * Decimal(fill.share_micros) / 10**6 * price * (1 - price)
    return int(fee.quantize(Decimal("0.00001"), ROUND_DOWN) * 10**6)


async def test_every_decision_comes_out_the_same_from_the_log_alone(twice: list[tuple[Path, Ended]]) -> None:
    folder, run = twice[0]
    async with ends(folder):
        verified = await vibe(folder, "verify-decisions", "--json")
        one = await vibe(folder, "trace", run.json["sample_attempt_id"], "--verify", "--json")
        nothing = await vibe(folder, "verify-decisions", "--since", "2030-01-01", "--json")
    assert verified.code == 0, verified.out[:500]
    decided = sum(run.json["decisions"].values())
    assert verified.json == {
        "decisions": decided,
        "equal": decided,
        "different": [],
        "no_longer_in_the_log": 0,
        "other_rules": 0,
    }
    assert one.code == 0, one.err
    assert one.json["attempts"][0]["verified"] == {"equal": True}
    assert nothing.json["decisions"] == 0


async def test_a_resolved_market_is_paid_out(twice: list[tuple[Path, Ended]]) -> None:
    folder, _ = twice[0]
    async with ends(folder) as at:
        events = await at.events()
        (resolved,) = events["market.resolved"]
        paid = [e for e in events["position.settled"] if e.data.subscriber_id == "dana"]
        assert paid
        before = await vibe(folder, "subscriber", "show", "dana", "--at", str(paid[0].sequence - 1), "--json")
        after = await vibe(folder, "subscriber", "show", "dana", "--at", str(paid[-1].sequence), "--json")
        traced = await vibe(folder, "trace", paid[0].id, "--json")
    assert [hop["type"] for hop in traced.json["hops"]] == ["market.resolved", "position.settled"]
    ended = {payout.asset: payout.price_micros for payout in resolved.data.payouts}
    held = {p["asset"]: p["share_micros"] for p in before.json["positions"] if p["asset"] in ended}
    assert held
    assert not [p for p in after.json["positions"] if p["asset"] in ended]
    payout = sum(share * ended[asset] // 1_000_000 for asset, share in held.items())
    assert after.json["cash_micros"] - before.json["cash_micros"] == payout


async def test_read_models_equal_the_log_and_its_archive(twice: list[tuple[Path, Ended]]) -> None:
    folder, _ = twice[1]
    async with ends(folder):
        archived = await vibe(folder, "archive", "run", "--json")
        from_archive = await vibe(folder, "projections", "verify", "--all", "--archive", "--json")
        rebuilt = await vibe(folder, "projections", "rebuild", "--all", "--archive", "--json")
        verified = await vibe(folder, "projections", "verify", "--all", "--json")
    assert archived.code == 0, archived.err
    kept = {row["stream"]: row["events"] for row in archived.json["streams"]}
    assert min(kept[name] for name in ("RAW", "SIGNALS", "GROUPS", "REQUESTS", "EXECUTIONS", "CONFIG", "DISCOVERY")) > 0
    names = {projection.name for projection in PROJECTIONS}
    for checked in (from_archive, verified):
        assert checked.code == 0, checked.out[:1000] + checked.err
        assert {row["projection"]: row["equal"] for row in checked.json} == dict.fromkeys(names, True)
        assert not any(row["unverifiable"] for row in checked.json)
    assert {row["projection"] for row in rebuilt.json} == names


async def test_an_influencers_profit_follows_from_its_rows(twice: list[tuple[Path, Ended]]) -> None:
    """Computed here in dollars from the venue's own rows: money in and out, and what is left at the end."""
    folder, _ = twice[0]
    async with ends(folder) as at:
        events = await at.events()
        shown = await vibe(folder, "influencer", "show", "poly-taker", "--json")
    assert shown.code == 0, shown.err
    ((_, portfolio),) = shown.json["addresses"].items()
    raws = [e.data for e in events["raw.received"] if e.data.influencer_id == "poly-taker"]
    report = next(raw for raw in raws if raw.channel == "positions")
    held: dict[str, Decimal] = {}
    brought = Decimal(0)
    for row in json.loads(bytes(report.payload), parse_float=Decimal)["positions"]:
        held[row["asset"]] = Decimal(row["size"])
        brought += held[row["asset"]] * Decimal(row["avgPrice"])
    money, newest = Decimal(0), dict[str, tuple[int, Decimal]]()
    for raw in raws:
        if raw.channel != "activity":
            continue
        row = json.loads(bytes(raw.payload), parse_float=Decimal)
        at_ns = row["timestamp"] * 1_000_000_000
        if at_ns <= report.venue_time:
            continue  # contained in the report
        size, paid = Decimal(row["size"]), Decimal(row["usdc_size"])
        if row["type"] == "REDEEM":
            money += paid
            # An old row names only the market: all that is held of it is gone.
            for asset in [row["token_id"]] if row["token_id"] else of_market(events, row["condition_id"]):
                held[asset] = held.get(asset, Decimal(0)) - size if row["token_id"] else Decimal(0)
            continue
        sign = 1 if row["side"] == "BUY" else -1
        money -= sign * paid
        held[row["token_id"]] = held.get(row["token_id"], Decimal(0)) + sign * size
        newest[row["token_id"]] = max(newest.get(row["token_id"], (0, Decimal(0))), (at_ns, Decimal(row["price"])))
    for mark in (e.data for e in events["mark.captured"]):
        price = Decimal(mark.price_micros) / 10**6
        newest[mark.asset] = max(newest.get(mark.asset, (0, Decimal(0))), (mark.marked_at, price))
    worth = sum(size * newest[asset][1] for asset, size in held.items() if size)
    profit = money + worth - brought
    # Average prices of entry are kept to the nearest micro, times thousands of shares.
    assert abs(profit - Decimal(portfolio["profit_micros"]) / 10**6) < Decimal("0.001")
    assert profit != 0


def of_market(events: dict[str, list[Recorded]], market: str) -> set[str]:
    """The traded tokens of a market."""
    return {e.data.asset for e in events["signal.recorded"] if e.data.market == market}


async def test_another_configuration_is_tried_on_what_was_recorded(twice: list[tuple[Path, Ended]]) -> None:
    folder, run = twice[0]
    same, bold, bad = (folder / f"{name}.jsonl" for name in ("same", "bold", "bad"))
    same.write_text("")
    bold.write_text('{"kind": "guardrail", "scope": "global", "values": {"min_notional_micros": 1000000}}\n')
    bad.write_text('{"kind": "guardrail", "scope": "global", "values": {"bravery": 1}}\n')
    async with ends(folder):
        unchanged = await vibe(folder, "whatif", "--config", str(same), "--since", "2025-12-31", "--json")
        bolder = await vibe(folder, "whatif", "--config", str(bold), "--since", "2025-12-31", "--json")
        refused = await vibe(folder, "whatif", "--config", str(bad), "--since", "2025-12-31", "--json")
    assert unchanged.code == bolder.code == 0, unchanged.err + bolder.err
    happened = unchanged.json["happened"]
    assert happened["requests"] == sum(run.json["decisions"].values())
    assert happened["executed"] == run.json["decisions"]["EXECUTE"]
    simulated = unchanged.json["whatif"]
    assert simulated["requests"] - simulated["tries"] == happened["requests"] - happened["tries"]
    # Decided at the time of the quote instead of some milliseconds later, hardly anything changes.
    assert abs(unchanged.json["whatif"]["executed"] - happened["executed"]) <= happened["executed"] // 20
    assert bolder.json["whatif"]["executed"] > unchanged.json["whatif"]["executed"]
    assert refused.code == 1
    assert "guardrail 'bravery' is unknown" in refused.err


@pytest.mark.parametrize("decision", ["EXECUTE", "SKIP"])
async def test_a_decision_is_traced_from_raw_event_to_ledger(twice: list[tuple[Path, Ended]], decision: str) -> None:
    folder, _ = twice[0]
    async with ends(folder) as at:
        attempt = await at.database.fetchval(
            "SELECT attempt_id FROM copy_attempt WHERE decision = $1 ORDER BY sequence LIMIT 1", decision
        )
    traced = await vibe(folder, "trace", attempt, "--json")
    assert traced.code == 0, traced.err
    trace = traced.json
    assert trace["found_as"] == "decision"
    shared = [hop["type"] for hop in trace["hops"]]
    assert shared[0] == "raw.received"
    assert list(dict.fromkeys(shared)) == [
        "raw.received",
        "signal.recorded",
        "group.closed",
        "quote.wanted",
        "quote.captured",
        "group.matched",
    ]
    (attempt_trace,) = trace["attempts"]
    hops = attempt_trace["hops"]
    assert [hop["type"] for hop in hops[:2]] == ["execution.requested", "copy.decided"]
    checks = hops[1]["data"]["checks"]
    assert {check["name"] for check in checks} >= {"engine", "quote", "price_vs_mid_micros"}
    if decision == "EXECUTE":
        assert all(check["passed"] for check in checks)
        assert [hop["type"] for hop in hops[2:4]] == ["order.submitted", "order.filled"]
        assert [hop["type"] for hop in hops[-2:]] == ["execution.completed", "position.changed"]
        assert sum(entry["share_delta_micros"] for entry in attempt_trace["ledger"]) == sum(
            hop["data"]["share_delta_micros"] for hop in hops if hop["type"] == "order.filled"
        )
    else:
        assert attempt_trace["reasons"]
        assert len(hops) == 2
        assert not attempt_trace["ledger"]
    for hop in (*trace["hops"], *hops, *attempt_trace["ledger"]):
        assert hop["stream"]
        assert hop["sequence"] > 0
        assert hop["time"].endswith("Z")
        assert hop["since_first_ms"] >= -1


async def test_every_kind_of_id_finds_its_trace(twice: list[tuple[Path, Ended]]) -> None:
    folder, _ = twice[0]
    async with ends(folder) as at:
        events = await at.events()
    fill = next(e.data for e in events["order.filled"] if e.data.venue is Venue.HYPERLIQUID)
    decided = next(e for e in events["copy.decided"] if e.data.attempt_id == fill.attempt_id)
    signal = next(e.data for e in events["signal.recorded"] if e.data.venue is Venue.HYPERLIQUID)
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
        "account snapshot": next(e.id for e in events["account.seeded"] if e.data.venue is Venue.HYPERLIQUID),
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


async def test_the_live_table_shows_the_log_and_names_markets(twice: list[tuple[Path, Ended]]) -> None:
    folder, run = twice[0]
    settings = Settings(data_dir=folder)
    async with running_system(settings, lambda _: None) as system:
        snapshot = await Dashboard(system, "a demo").read(10_000)
    rows = {row.stage: row.events for row in snapshot.stages}
    assert rows["normalize"] == run.json["signals"]
    assert rows[""] == run.json["fills"]
    assert len(snapshot.decisions) == rows["plan"] == sum(run.json["decisions"].values())
    assert [one.decided_at for one in snapshot.decisions] == sorted(
        (one.decided_at for one in snapshot.decisions), reverse=True
    )
    named = {one.question: one.label for one in snapshot.decisions if one.asset in TOKENS}
    assert named
    assert named.keys() <= {market.question for market in MARKETS}
    assert not [one for one in snapshot.decisions if one.question and one.asset not in TOKENS]


async def test_lag_and_streams_of_a_finished_demo(twice: list[tuple[Path, Ended]]) -> None:
    folder, _ = twice[0]
    lag = await vibe(folder, "lag", "--json")
    consumers = {(row["stream"], row["consumer"]): row["waiting"] for row in lag.json}
    assert consumers["REQUESTS", "plan-00-15"] == 0
    assert ("RAW", "normalize-48-63") in consumers
    assert not any(consumers.values())
    shown = await vibe(folder, "streams", "show", "--json")
    assert shown.code == 0, shown.err
    assert {row["name"]: row["state"] for row in shown.json} == dict.fromkeys(
        ("RAW", "SIGNALS", "GROUPS", "REQUESTS", "EXECUTIONS", "CONFIG", "DEAD", "DISCOVERY", "LEASES", "SNAPSHOTS"),
        "ok",
    )


async def test_traders_of_the_public_feed_are_discovered(twice: list[tuple[Path, Ended]]) -> None:
    folder, _ = twice[0]
    listed = await vibe(folder, "discover", "list", "--json", "--limit", "5")
    assert listed.code == 0, listed.err
    traders = listed.json["traders"]
    assert len(traders) == 5
    assert {trader["venue"] for trader in traders} == {"hyperliquid"}
    assert [trader["notional_micros"] for trader in traders] == sorted(
        (trader["notional_micros"] for trader in traders), reverse=True
    )
    shown = await vibe(folder, "discover", "show", traders[0]["address"], "--json")
    assert shown.json["traders"] == traders[:1]
    unknown = await vibe(folder, "discover", "show", "0x" + "0" * 40)
    assert (unknown.code, "was not seen in public trades" in unknown.err) == (1, True)


async def test_a_backup_of_a_finished_demo_passes_its_drill(twice: list[tuple[Path, Ended]]) -> None:
    """Restored into a fresh folder: equal digests, all read models rebuilt, random decisions made again."""
    folder, _ = twice[0]
    taken = await vibe(folder, "backup", "run", "--json")
    assert taken.code == 0, taken.err
    drilled = await vibe(folder, "backup", "drill", "--traces", "5", "--json")
    assert drilled.code == 0, drilled.out + drilled.err
    report = drilled.json
    assert report.keys() >= {"ok", "seconds", "streams", "digests_equal", "traces"}
    assert report["ok"] is report["digests_equal"] is True
    assert {one["name"]: one["messages"] for one in report["streams"]} == {
        one["name"]: one["messages"] for one in taken.json["streams"]
    }
    assert [one["ok"] for one in report["traces"]] == [True] * 5


async def test_everything_of_a_demo_comes_out_equal_and_what_is_forged_is_named(
    twice: list[tuple[Path, Ended]], tmp_path: Path
) -> None:
    """On a restored copy of the log, into which an administrator of the server writes five events."""
    folder, _ = twice[1]
    taken = await vibe(folder, "backup", "run", "--json")
    assert taken.code == 0, taken.err
    there = {"VIBE_BACKUP_URL": str(folder / "backup"), "VIBE_BACKUP_KEY_FILE": str(folder / "backup.key")}
    restored = await vibe(tmp_path / "data", "backup", "restore", "--json", settings=there)
    assert restored.code == 0, restored.out + restored.err
    async with ends(tmp_path / "data") as at:
        honest = await vibe(tmp_path / "data", "verify", "--json")
        assert honest.code == 0, honest.out[:2000] + honest.err
        assert honest.json["verified"] == honest.json["events"] > 1_000
        assert honest.json["different"] == honest.json["unproducible"] == []

        events = await at.events()
        (settled, *_), (deposited, *_) = events["position.settled"], events["cash.deposited"]
        signal, closed, matched = (events[name][-1] for name in ("signal.recorded", "group.closed", "group.matched"))
        forged = {
            "position.settled": replace(settled.data, cash_delta_micros=settled.data.cash_delta_micros + 5_000_000_000),
            "cash.deposited": replace(deposited.data, cash_delta_micros=1_000_000),
            "signal.recorded": replace(signal.data, after_micros=signal.data.after_micros + 1),
            "group.closed": replace(closed.data, price_micros=closed.data.price_micros + 1),
            "group.matched": replace(matched.data, matched=matched.data.matched + 1),
        }
        for one in (settled, deposited, signal, closed, matched):
            payload = codec().encode(
                forged[one.type],
                id=f"{one.id}-forged",
                source=one.source,
                time_ns=nanoseconds(one.time),
                correlation=one.correlation,
                causation=one.causation,
            )
            await append(at.connection, [Record(one.subject, payload)])
        found = await vibe(tmp_path / "data", "verify", "--json")
        traces = [
            await vibe(folder, "trace", related("led", one.id), "--verify", "--json") for one in (settled, deposited)
        ]
    assert found.code == 1
    assert sorted(one["type"] for one in found.json["unproducible"]) == sorted(forged)
    assert found.json["different"] == []
    assert found.json["verified"] == honest.json["verified"]
    assert [(one.code, one.json["verified"]["equal"]) for one in traces] == [(0, True)] * 2
    assert traces[0].json["verified"]["events"] >= 2, "a settlement and the position after it"


async def test_a_demo_leaves_other_logs_alone(tmp_path: Path) -> None:
    written = tmp_path / "nats" / "jetstream" / "streams" / "RAW" / "msgs" / "1.blk"
    written.parent.mkdir(parents=True)
    written.write_bytes(b"an event")
    refused = await vibe(tmp_path, "demo", "--seconds", "1", "--json")
    assert refused.code == 1
    assert "not a demo's" in refused.err
    assert json.dumps(str(tmp_path)).strip('"') in refused.err
    assert written.exists()
