"""Configuration by way of the API: intents become CONFIG events with their actor, on the version that was seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from domain.events import ControlChanged, ControlState, GuardrailConfigured, InfluencerConfigured
from gateways.embedded import Addresses
from handlers.live.event_codec import codec
from streams.connection import Connection
from streams.reader import read_all
from streams.topology import CONFIG
from tests.web.browser import Browser
from tests.web.conftest import Server, site_on
from vibe.web.site import Site


@pytest.fixture
async def site(running: Addresses, log: Connection, database: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A site of its own for every test, because each fills CONFIG."""
    async with site_on(running, database, tmp_path) as found:
        yield found


ADDRESS = "0x" + "ab" * 20
INFLUENCER = {"venue": "hyperliquid", "addresses": [ADDRESS], "label": "Ann"}


async def stored(log: Connection) -> list[Any]:
    """The facts of every event in CONFIG."""
    decode, found = codec(), []
    async for batch in read_all(log, CONFIG.name):
        for message in batch:
            events = decode.decode(CONFIG.name, message.sequence, message.subject, message.payload)
            found += [event.data for event in (events if isinstance(events, list) else [events])]
    return found


async def version(one: Browser) -> str:
    return (await one.get("/config")).headers["ETag"]


async def test_a_change_is_an_event_with_its_actor_and_its_own_version(
    server: Server, admin: Browser, log: Connection
) -> None:
    answered = await admin.change(
        "PUT", "/config/global", {"values": {"spread_bps": 30}}, If_Match=await version(admin)
    )
    assert answered.status == 200, answered
    assert answered.json["written"] == {"guardrail": 1}
    assert answered.headers["ETag"] == await version(admin) == f'"CONFIG:{answered.json["sequence"]}"'
    (event,) = [one for one in await stored(log) if isinstance(one, GuardrailConfigured)]
    assert event == GuardrailConfigured(scope="global", values={"spread_bps": 30}, actor="local:admin")
    assert (await admin.get("/config")).json["guardrails"] == {"global": {"spread_bps": 30}}
    audited = (await admin.get("/audit-events")).json["items"][0]
    assert (audited["action"], audited["outcome"]) == ("config", "done")


async def test_a_stale_version_changes_nothing(admin: Browser, log: Connection) -> None:
    seen = await version(admin)
    assert (await admin.change("PUT", "/config/global", {"values": {"spread_bps": 30}}, If_Match=seen)).status == 200
    before = await stored(log)
    stale = await admin.change("PUT", "/config/global", {"values": {"spread_bps": 99}}, If_Match=seen)
    stale.refused(412, "read it again")
    assert await stored(log) == before


async def test_of_two_admins_who_edit_at_once_one_is_refused(server: Server, admin: Browser, log: Connection) -> None:
    async with AsyncExitStack() as stack:
        other = await server.admin(stack)
        seen = await version(admin)
        answers = await asyncio.gather(
            *(
                one.change("PUT", "/config/global", {"values": {"spread_bps": bps}}, If_Match=seen)
                for one, bps in ((admin, 30), (other, 40))
            )
        )
        assert sorted(answer.status for answer in answers) == [200, 412]
        assert len([one for one in await stored(log) if isinstance(one, GuardrailConfigured)]) == 1


@pytest.mark.parametrize(("given", "status"), [(None, 428), ("CONFIG:0", 400), ('"CONFIG:x"', 400), ("*", 400)])
async def test_a_change_names_the_version_that_was_seen(
    admin: Browser, log: Connection, given: str | None, status: int
) -> None:
    headers = {} if given is None else {"If_Match": given}
    (await admin.change("PUT", "/config/global", {"values": {"spread_bps": 30}}, **headers)).refused(status)
    assert not await stored(log)


async def test_facts_that_configuration_refuses_are_named(admin: Browser, log: Connection) -> None:
    seen = await version(admin)
    wrong = await admin.change("PUT", "/config/global", {"values": {"spread": 1}}, If_Match=seen)
    wrong.refused(422, "guardrail 'spread' is unknown")
    lines = [
        {"kind": "influencer", "id": "ann", "venue": "nowhere", "addresses": [ADDRESS]},
        {"kind": "subscription", "id": "s", "subscriber_id": "bob", "influencer_id": "ann", "sizing": {"mode": "x"}},
    ]
    (await admin.change("POST", "/config/lines", {"lines": lines}, If_Match=seen)).refused(422, "line 1", "line 2")
    (await admin.change("PUT", "/config/influencers/ann", {"line": {"id": "bob"}}, If_Match=seen)).refused(400, "bob")
    (await admin.change("PUT", "/config/guardrails/planet:mars", {"values": {}}, If_Match=seen)).refused(404)
    assert not await stored(log)


async def test_an_influencer_gets_its_paper_portfolios(admin: Browser, log: Connection) -> None:
    answered = await admin.change("PUT", "/config/influencers/ann", {"line": INFLUENCER}, If_Match=await version(admin))
    assert answered.json["written"]["subscriber"] == 2
    configured = [one for one in await stored(log) if isinstance(one, InfluencerConfigured)]
    assert [one.actor for one in configured] == ["local:admin"]
    read = await admin.get("/config/influencers/ann")
    assert read.json["line"]["label"] == "Ann"
    assert read.json["policy"]["spread_bps"] == 20
    assert {one["id"] for one in (await admin.get("/config/subscribers")).json["items"]} == {
        "exec-global",
        "exec-user:ann",
    }
    found = (await admin.get("/config/subscriptions?influencer_id=ann&subscriber_id=exec-global")).json["items"]
    assert [one["subscriber_id"] for one in found] == ["exec-global"]
    (await admin.get("/config/influencers/bob")).refused(404, "not configured")


async def test_the_first_plans_paths_merge_some_values(admin: Browser) -> None:
    first = await admin.change("POST", "/api/config/global", {"values": {"spread_bps": 30}})
    assert first.status == 200
    second = await admin.change("POST", "/api/config/global", {"values": {"mid_price_bps": 5}})
    assert second.status == 200
    assert (await admin.get("/config")).json["guardrails"]["global"] == {"mid_price_bps": 5, "spread_bps": 30}


async def test_a_service_is_notified_of_a_change(admin: Browser) -> None:
    seen = await version(admin)
    assert (await admin.get("/config/influencers", If_None_Match=seen)).status == 304
    waiting = asyncio.create_task(admin.get("/config/influencers?wait=20", If_None_Match=seen))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    answered = await admin.change("PUT", "/config/influencers/ann", {"line": INFLUENCER}, If_Match=seen)
    changed = await waiting
    assert changed.status == 200
    assert [one["id"] for one in changed.json["items"]] == ["ann"]
    place = answered.json["sequence"]
    assert (await admin.get(f"/config/influencers/ann?after=CONFIG:{place}")).json["sequence"] >= place


async def test_a_wait_without_a_change_ends_with_304(admin: Browser) -> None:
    seen = await version(admin)
    assert (await admin.get("/config?wait=0.2", If_None_Match=seen)).status == 304


async def test_pages_of_lines_continue_without_a_gap(admin: Browser) -> None:
    lines = [
        {"kind": "subscriber", "id": f"s{number:02d}", "mode": "paper", "deposit_usd": "1"} for number in range(25)
    ]
    assert (await admin.change("POST", "/config/lines", {"lines": lines}, If_Match=await version(admin))).status == 200
    names: list[str] = []
    cursor = ""
    while True:
        page = (await admin.get(f"/config/subscribers?limit=10{cursor}")).json
        names += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert names == [line["id"] for line in lines]


SWITCHES = {
    "pause": ControlState.PAUSED,
    "resume": ControlState.RUNNING,
    "record-only": ControlState.RECORD_ONLY,
}


@pytest.mark.parametrize("switch", SWITCHES)
async def test_a_switch_is_an_event_with_its_actor_and_note(admin: Browser, log: Connection, switch: str) -> None:
    answered = await admin.change("POST", f"/control/{switch}", {"note": "a drill"})
    assert answered.json["actor"] == "local:admin"
    (event,) = await stored(log)
    assert isinstance(event, ControlChanged)
    assert (event.state, event.note, event.actor) == (SWITCHES[switch], "a drill", "local:admin")


async def test_a_switch_of_what_is_not_configured_is_refused(admin: Browser, log: Connection) -> None:
    for target in ("influencer", "subscriber"):
        (await admin.change("POST", "/control/disable", {"target": target, "id": "x"})).refused(404, "not configured")
    (await admin.change("POST", "/control/reset-breakers", {"subscriber_id": "x"})).refused(404)
    assert not await stored(log)
    assert (await admin.change("POST", "/control/disable", {"target": "market", "id": "DOGE"})).status == 200
    assert (await admin.get("/config")).json["switched"] == {"market DOGE": "disabled"}
