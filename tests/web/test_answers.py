"""What the API answers about a running demo: every question, and what operators change while it runs."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from tests.web.browser import Browser
from tests.web.conftest import Demo
from vibe.web.api import ROUTES
from vibe.web.routing import Route
from vibe.web.server import ALIASES, paths

# The first decisions of the demo's scenario; every run makes them.
INFLUENCER = "whale-1"
SOME_TIME = "2025-12-31T00:00:00Z"


async def filled(one: Browser, path: str) -> str:
    """The path of a route with ids that the demo has."""
    copies = (await one.get("/attempts?limit=1")).json["items"][0]
    if "{id" in path:
        kind = {"influencers": INFLUENCER, "subscribers": "alice", "subscriptions": "alice-whale-1"}
        path = re.sub(r"\{id(:\.\+)?\}", kind.get(path.split("/")[-2], copies["attempt_id"]), path)
    market = "BTC"
    if path.endswith("/markets/{venue}/{market}"):
        rows = (await one.get("/markets")).json["items"]
        market = next(row["board"]["market"] for row in rows if row["board"]["question"])
    values = {
        "influencer_id": INFLUENCER,
        "subscriber_id": "alice",
        "portfolio_id": "alice",
        "attempt_id": copies["attempt_id"],
        "group_id": copies["group_id"],
        "venue": "hyperliquid" if market == "BTC" else "polymarket",
        "asset": "BTC",
        "market": market,
        "stream": "EXECUTIONS",
        "sequence": "1",
    }
    path = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], path)
    return path + ("?subscriber_id=alice" if path.endswith("v1/subscriptions") else "")


@pytest.mark.parametrize("path", [path for path, route in paths() if route.method == "GET" and "{number}" not in path])
async def test_every_question_is_answered_as_it_is_described(demo: Demo, path: str) -> None:
    route: Route = next(route for declared, route in paths() if declared == path and route.method == "GET")
    answered = await demo.browser.get(await filled(demo.browser, path))
    assert answered.status == 200, answered
    msgspec.json.decode(answered.text, type=route.returns)
    if route.reads:
        assert answered.headers["ETag"].startswith('W/"')


async def test_the_lists_have_rows(demo: Demo) -> None:
    for path in (
        "/influencers",
        "/subscribers",
        "/positions",
        "/attempts",
        "/trades",
        "/markets",
        "/streams",
        "/projections",
        "/config/history",
        "/subscribers/alice/ledger",
        "/subscribers/alice/orders",
        f"/influencers/{INFLUENCER}/signals",
    ):
        assert (await demo.browser.get(path)).json["items"], path


async def test_an_unchanged_answer_is_not_sent_again(demo: Demo) -> None:
    first = await demo.browser.get("/config/history")
    assert (await demo.browser.get("/config/history", If_None_Match=first.headers["ETag"])).status == 304


@pytest.mark.parametrize("path", ["/attempts", "/trades", "/subscribers/exec-global/ledger", "/positions"])
async def test_pages_continue_without_a_gap_and_without_a_row_twice(demo: Demo, path: str) -> None:
    key = {"/attempts": "attempt_id", "/trades": "group_id", "/positions": None}.get(path, "entry_id")

    def of(row: dict[str, Any]) -> str:
        return str(row[key]) if key else f"{row['subscriber_id']} {row['venue']} {row['asset']}"

    until = f"until={(await _settled(demo))}" if path in ("/attempts", "/trades") else "limit=500"
    whole = (await demo.browser.get(f"{path}?{until}" + ("&limit=60" if "until" in until else ""))).json["items"]
    found: list[str] = []
    cursor = ""
    while len(found) < min(60, len(whole)):
        more = f"&{until}" if "until" in until else ""
        page = (await demo.browser.get(f"{path}?limit=7{more}{cursor}")).json
        found += [of(row) for row in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(set(found)) == len(found)
    if "until" in until:
        assert found[: len(whole)] == [of(row) for row in whole][: len(found)]


async def _settled(demo: Demo) -> str:
    """A time before which the read models get no more rows."""
    now = datetime.fromisoformat((await demo.browser.get("/session")).json["log_time"])
    return (now - timedelta(seconds=5)).isoformat().replace("+00:00", "Z")


FILTERS = {
    "subscriber=alice": lambda row: row["subscriber_id"] == "alice",
    "influencer=whale-1": lambda row: row["influencer_id"] == "whale-1",
    "decision=SKIP": lambda row: row["decision"] == "SKIP" and row["reasons"],
    "decision=EXECUTE": lambda row: row["decision"] == "EXECUTE",
    "mode=paper": lambda row: row["mode"] == "paper",
    "subscriber=exec-global&decision=EXECUTE": lambda row: row["scope"] == "EXEC_GLOBAL",
}


@pytest.mark.parametrize("query", FILTERS)
async def test_filters_hold_for_every_row(demo: Demo, query: str) -> None:
    rows = (await demo.browser.get(f"/attempts?{query}&limit=100")).json["items"]
    assert rows
    assert all(FILTERS[query](row) for row in rows)


async def test_the_reasons_of_skips_are_counted_and_can_be_filtered_by(demo: Demo) -> None:
    counts = (await demo.browser.get(f"/attempts/counts?since={SOME_TIME}")).json
    reason, number = next(iter(counts["reasons"].items()))
    rows = (await demo.browser.get(f"/attempts?reason={reason}&since={SOME_TIME}&limit=500")).json["items"]
    assert rows
    assert all(reason in row["reasons"] for row in rows)
    assert len(rows) >= min(number, 500)


async def test_money_adds_up(demo: Demo) -> None:
    one = (await demo.browser.get("/portfolios/alice")).json
    account = one["account"]
    assert account["equity_micros"] == account["cash_micros"] + account["worth_micros"]
    assert account["profit_micros"] == account["equity_micros"] - account["deposits_micros"]
    assert sum(each["exposure_micros"] for each in one["by_asset"]) == account["exposure_micros"]


async def test_books_never_mix_modes(demo: Demo) -> None:
    books = (await demo.browser.get("/overview")).json["books"]
    assert {(book["mode"], book["name"]) for book in books} == {("paper", "exec-global"), ("paper", "subscribers")}
    subscribers = (await demo.browser.get("/subscribers")).json["items"]
    (own,) = [book for book in books if book["name"] == "subscribers"]
    assert own["accounts"] == len(subscribers)


async def test_a_trace_leads_from_the_raw_event_to_the_ledger(demo: Demo) -> None:
    rows = (await demo.browser.get("/attempts?decision=EXECUTE&limit=100")).json["items"]
    done = next(row for row in reversed(rows) if row["filled_micros"])
    trace = (await demo.browser.get(f"/trace/{done['attempt_id']}")).json
    assert trace["shared"][0]["type"] == "raw.received"
    (attempt,) = trace["attempts"]
    types = [hop["type"] for hop in attempt["hops"]]
    assert types[:2] == ["execution.requested", "copy.decided"]
    assert "order.filled" in types
    assert attempt["ledger"]
    assert attempt["checks"]
    assert all(check["passed"] for check in attempt["checks"])
    by_place = await demo.browser.get(f"/trace/{attempt['hops'][1]['place']}")
    assert by_place.json["attempts"][0]["attempt_id"] == done["attempt_id"]
    verified = (await demo.browser.get(f"/attempts/{done['attempt_id']}/verification")).json["items"]
    assert [(one["attempt_id"], one["equal"]) for one in verified] == [(done["attempt_id"], True)]
    before = (await demo.browser.get(f"/attempts/{done['attempt_id']}/portfolio")).json
    assert before["cash_micros"] > 0


async def test_an_unknown_id_names_what_was_searched(demo: Demo) -> None:
    (await demo.browser.get("/trace/att_nothing")).refused(404, "EXECUTIONS:14")
    (await demo.browser.get("/attempts/att_nothing")).refused(404)
    (await demo.browser.get("/influencers/nothing")).refused(404)
    (await demo.browser.get("/portfolios/nothing")).refused(404)
    (await demo.browser.get("/dead-letters/999999")).refused(404)


async def test_the_first_plans_paths_answer_the_same(demo: Demo) -> None:
    for alias, operation in ALIASES.items():
        route = next(route for route in ROUTES if route.operation == operation)
        if route.method == "GET" and "{" not in alias:
            assert set((await demo.browser.get(alias)).json) == set(
                (await demo.browser.get(f"/api/v1{route.path}")).json
            ), alias


async def test_a_pause_stops_the_next_decision(demo: Demo) -> None:
    """A change is readable behind its place in the log, and acts on the running engine."""
    one = demo.browser
    paused = await one.change("POST", "/control/pause", {"note": "a drill"})
    assert paused.status == 200
    place = f"CONFIG:{paused.json['sequence']}"
    overview = (await one.get(f"/overview?after={place}")).json
    assert overview["engine"]["state"] == "paused"
    assert overview["engine"]["actor"] == "local:admin"
    history = (await one.get(f"/config/history?after={place}&limit=1")).json["items"][0]
    assert (history["sequence"], history["actor"]) == (paused.json["sequence"], "local:admin")
    try:
        refused = await _until_some(one, "/attempts?reason=ENGINE_PAUSED&limit=1")
        assert refused["decision"] == "SKIP"
    finally:
        assert (await one.change("POST", "/control/resume")).status == 200
    assert (await one.get("/overview")).json["engine"]["state"] == "running"


async def _until_some(one: Browser, path: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if rows := (await one.get(path)).json["items"]:
            found: dict[str, Any] = rows[0]
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"nothing under {path}")


async def test_another_configuration_is_tested_on_what_happened(demo: Demo) -> None:
    lines = [{"kind": "guardrail", "scope": "global", "values": {"spread_bps": 0, "spread_micros": 0}}]
    answered = await demo.browser.change("POST", "/config/test", {"lines": lines, "hours": 24})
    assert answered.status == 200, answered
    compared = answered.json
    assert compared["groups"] > 0
    assert compared["whatif"]["skipped"]["SPREAD_TOO_WIDE"] > compared["happened"]["skipped"].get("SPREAD_TOO_WIDE", 0)
    assert set(compared["modes"].values()) <= {"paper"}
    wrong = await demo.browser.change("POST", "/config/test", {"lines": [{"kind": "guardrail"}]})
    wrong.refused(422, "line 1")


async def test_a_read_model_is_rebuilt_beside_the_live_one(demo: Demo) -> None:
    (await demo.browser.change("POST", "/projections/nothing/rebuild")).refused(404, "event_count")
    begun = await demo.browser.change("POST", "/projections/event_count/rebuild")
    assert begun.status == 202
    (await demo.browser.change("POST", "/projections/event_count/rebuild")).refused(409, "already")
