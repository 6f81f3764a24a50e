"""Configuration takes effect on running services, and a bad file changes nothing."""

import json
import os
import signal
import socket
from pathlib import Path

from domain.events import CopyDecided
from domain.reason_codes import Reason
from gateways.sandbox.hyperliquid import INFLUENCERS
from streams.envelope import nanoseconds
from tests.system.command import ends, start, until, vibe


def line(**fields: object) -> str:
    return json.dumps(fields)


def influencer(number: int, status: str = "active") -> str:
    known = INFLUENCERS[number]
    return line(kind="influencer", id=known.id, venue="hyperliquid", addresses=[known.address], status=status)


def subscription(number: int, status: str = "active") -> str:
    return line(
        kind="subscription",
        id=f"alice-{number}",
        subscriber_id="alice",
        influencer_id=INFLUENCERS[number].id,
        sizing={"mode": "fixed_notional", "notional_usd": "25"},
        status=status,
    )


async def decisions(data: Path) -> list[CopyDecided]:
    async with ends(data) as at:
        return [event.data for event in (await at.events())["copy.decided"]]


async def engine_pauses_and_resumes(data: Path) -> None:
    """Paused, everything is recorded and refused; resumed, nothing of it is copied late."""
    paused = await vibe(data, "control", "pause", "--note", "a drill", "--actor", "ops", "--json")
    assert paused.code == 0, paused.err
    sequence = paused.json["config_sequence"]

    async def refused() -> int:
        return sum(Reason.ENGINE_PAUSED in decided.reasons for decided in await decisions(data))

    await until(refused, 40, "a decision that the paused engine refused")
    shown = await vibe(data, "control", "show", "--json")
    assert shown.json["switched"] == {"engine": "paused"}
    resumed = (await vibe(data, "control", "resume", "--json")).json["config_sequence"]

    async def decided_again() -> bool:
        return any(
            decided.config_sequence >= resumed and Reason.ENGINE_PAUSED not in decided.reasons
            for decided in await decisions(data)
        )

    await until(decided_again, 40, "a decision of the resumed engine")
    async with ends(data) as at:
        events = await at.events()
    times = {event.sequence: nanoseconds(event.time) for event in events["control.changed"]}
    pause = events["control.changed"][0].data
    assert (pause.state, pause.actor, pause.note) == ("paused", "ops", "a drill")
    for decided in (event.data for event in events["copy.decided"]):
        # What was owed before the pause is tried after it.
        if decided.config_sequence >= sequence and not decided.exit_try:
            late = decided.detect_time < times[resumed]
            assert (Reason.ENGINE_PAUSED in decided.reasons) == late, decided
            assert not (late and decided.share_micros)


async def test_services_follow_configuration_without_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    venue = {
        "VIBE_HYPERLIQUID_WS_URL": f"ws://127.0.0.1:{port}/ws",
        "VIBE_HYPERLIQUID_API_URL": f"http://127.0.0.1:{port}",
        "VIBE_PAPER_BANKROLL_USD": "0",
    }
    alice = line(kind="subscriber", id="alice", mode="paper", deposit_usd="10000")
    first = tmp_path / "first.jsonl"
    first.write_text("\n".join([alice, influencer(0), subscription(0)]))
    later = tmp_path / "later.jsonl"
    later.write_text("\n".join([influencer(1), subscription(1), subscription(0, "paused")]))

    sandbox = await start(tmp_path / "venue", "sandbox", "--port", str(port), "--polymarket-port", "0")
    up = await start(data, "up", "--config", str(first), "--json", settings=venue)
    try:

        async def attempts(subscription_id: str) -> int:
            async with ends(data) as at:
                try:
                    count: int = await at.database.fetchval(
                        "SELECT count(*) FROM copy_attempt WHERE subscription_id = $1", subscription_id
                    )
                except Exception:
                    return 0
                return count

        await until(lambda: attempts("alice-0"), 40, "a decision of the first subscription")
        assert await attempts("alice-1") == 0

        imported = await vibe(data, "config", "import", str(later), "--json", settings=venue)
        assert imported.code == 0, imported.err
        assert imported.json["written"] == {"influencer": 1, "subscription": 2}
        await until(lambda: attempts("alice-1"), 40, "a decision of the subscription that came later")

        again = await vibe(data, "config", "import", str(later), "--json", settings=venue)
        assert again.json["written"] == {}
        assert again.json["unchanged"] == 3

        sequence = imported.json["sequence"]
        async with ends(data) as at:
            events = await at.events()
        after = [e.data for e in events["execution.requested"] if e.head.config_sequence >= sequence]
        assert after
        # What is paused opens nothing, and follows every reduction.
        assert {e.opening_blocked for e in after if e.subscription_id == "alice-0"} <= {"SUBSCRIPTION_PAUSED"}
        assert {e.subscription_id for e in after if e.opening_blocked is None} == {"alice-1"}

        async def paused_is_filtered() -> bool:
            async with ends(data) as at:
                matched = (await at.events())["group.matched"]
            of_first = [e.data.filtered for e in matched if e.data.influencer_id == INFLUENCERS[0].id]
            return any("SUBSCRIPTION_PAUSED" in why for why in of_first)

        await until(paused_is_filtered, 40, "a group of the first influencer that the paused subscription did not get")
        await engine_pauses_and_resumes(data)
    finally:
        os.killpg(up.pid, signal.SIGTERM)
        out, err = await up.communicate()
        sandbox.terminate()
        await sandbox.wait()
    assert up.returncode == 0, err
    assert json.loads(out)["requests"] > 0


async def test_a_bad_file_is_reported_line_by_line_and_not_applied(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(
        "\n".join(
            [
                line(kind="subscriber", id="alice", mode="paper", deposit_usd="10000"),
                "{not json",
                line(kind="subscriber", id="bob", mode="paper", deposit_usd="-1"),
                line(
                    kind="subscription",
                    id="x",
                    subscriber_id="absent",
                    influencer_id="whale-1",
                    sizing={"mode": "pct"},
                ),
            ]
        )
    )
    data = tmp_path / "data"
    refused = await vibe(data, "config", "import", str(bad))
    assert refused.code == 1
    assert "line 2: is not JSON" in refused.err
    assert "line 3: deposit_usd" in refused.err
    assert "line 4: sizing.mode 'pct' is unknown; use one of copy_percent" in refused.err
    assert "nothing was applied" in refused.err
    exported = await vibe(data, "config", "export")
    assert exported.code == 0, exported.err
    assert exported.out == ""


async def test_an_export_imports_without_a_change(tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text(
        "\n".join(
            [
                line(kind="subscriber", id="alice", mode="paper", deposit_usd="10000.50"),
                influencer(0),
                subscription(0),
                line(kind="guardrail", scope="global", values={"spread_micros": 20000}),
            ]
        )
    )
    data = tmp_path / "data"
    async with ends(data):
        assert (await vibe(data, "config", "import", str(good))).code == 0
        exported = await vibe(data, "config", "export")
        # With the two paper portfolios that come with an influencer, and their subscriptions.
        assert len(exported.out.splitlines()) == 4 + 4
        copy = tmp_path / "copy.jsonl"
        copy.write_text(exported.out)
        again = await vibe(data, "config", "import", str(copy), "--json")
        assert again.json["written"] == {}
        shown = await vibe(data, "config", "show")
        assert "whale-1" in shown.out
        assert "$0.02" in shown.out
