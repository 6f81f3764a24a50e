"""What a server must not accept: foreign hosts and pages, forged changes, bodies and parameters that are wrong."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateways.embedded import Addresses
from tests.web.browser import Browser, browser
from tests.web.conftest import Server, server_on, site_on
from vibe.web.identity import new_link


def changed_nothing(server: Server) -> None:
    assert server.site.configuration.sequence == 0


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:80"])
async def test_a_name_that_is_not_the_servers_is_refused(server: Server, admin: Browser, host: str) -> None:
    for path in ("/session", "/"):
        (await admin.get(path, Host=host)).refused(403, "VIBE_WEB_PUBLIC_URL")


async def test_the_public_address_is_the_servers_name(running: Addresses, database: str, tmp_path: Path) -> None:
    async with (
        site_on(running, database, tmp_path, web_public_url="https://copy.example") as site,
        server_on(site) as server,
        browser(f"http://127.0.0.1:{server.port}") as one,
    ):
        answered = await one.ask("GET", "/health", headers={"Host": "copy.example"})
        assert answered.status == 200
        assert answered.headers["Strict-Transport-Security"].startswith("max-age=")
        token = await new_link(site.pool)
        page = {"Host": "copy.example", "Origin": "https://copy.example"}
        signed_in = await one.ask("POST", "/session", headers=page, json={"token": token})
        cookie = signed_in.headers["Set-Cookie"]
        assert cookie.startswith("__Host-vibe=")
        assert "Secure" in cookie


FORGED = {
    "another origin": {"Origin": "http://evil.example"},
    "an opaque origin": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://127.0.0.1:1"},
    "another site": {"Sec-Fetch-Site": "cross-site"},
    "another subdomain": {"Sec-Fetch-Site": "same-site"},
    "no token": {"X-CSRF-Token": ""},
    "another token": {"X-CSRF-Token": "x" * 43},
    "a token of another alphabet": {"X-CSRF-Token": "\u00e9"},
}


@pytest.mark.parametrize("how", FORGED)
async def test_a_forged_change_changes_nothing(server: Server, admin: Browser, how: str) -> None:
    page = {"Origin": server.address, "Sec-Fetch-Site": "same-origin", "X-CSRF-Token": admin.csrf}
    answered = await admin.ask("POST", "/control/pause", headers=page | FORGED[how], json={})
    answered.refused(403)
    changed_nothing(server)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_a_body_that_a_form_could_send_is_refused(server: Server, admin: Browser, kind: str) -> None:
    page = {"Origin": server.address, "X-CSRF-Token": admin.csrf, "Content-Type": kind}
    (await admin.ask("POST", "/control/pause", headers=page, data=b'{"note":""}')).refused(415, "application/json")
    changed_nothing(server)


async def test_a_body_of_ten_megabytes_is_refused(server: Server, admin: Browser) -> None:
    answered = await admin.change("POST", "/control/pause", {"note": "x" * 10_000_000})
    answered.refused(413, "1,048,576 bytes")
    changed_nothing(server)


BODIES = {
    b"{": 400,
    b"[]": 422,
    b'{"note": 1}': 422,
    b'{"note": null}': 422,
    b'{"note": "' + b"x" * 501 + b'"}': 422,
    b"\xff\xfe": 400,
    b"[" * 100_000: 422,
    b'{"x": ' + b"[" * 100_000: 400,
}


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:20]))
async def test_a_body_of_the_wrong_shape_is_refused(server: Server, admin: Browser, body: bytes) -> None:
    page = {"Origin": server.address, "X-CSRF-Token": admin.csrf, "Content-Type": "application/json"}
    (await admin.ask("POST", "/control/pause", headers=page, data=body)).refused(BODIES[body])
    changed_nothing(server)


QUESTIONS = {
    "/attempts?limit=0": "limit",
    "/attempts?limit=501": "limit",
    "/attempts?limit=1e3": "limit",
    "/attempts?limit=99999999999999999999": "limit",
    "/attempts?limit=5&limit=6": "2 times",
    "/attempts?nothing=1": "unknown",
    "/attempts?decision=MAYBE": "decision",
    "/attempts?since=yesterday": "since",
    "/attempts?since=2026-01-01T00:00:00": "offset",
    "/attempts?cursor=xyz": "cursor",
    "/attempts?cursor=eyJhIjoxfQ": "cursor",
    "/attempts?after=CONFIG": "place in the log",
    "/attempts?after=CONFIG:-1": "place in the log",
    "/attempts?wait=31": "30",
    "/attempts?wait=nan": "30",
    "/attempts?market=%00": "zero byte",
    "/influencers/%00": "zero byte",
    "/influencers/x?range=1y": "range",
    "/subscriptions": "influencer_id or subscriber_id",
    "/leaderboard?days=0": "days",
    "/dead-letters/0": "number",
    "/dead-letters/x": "number",
    "/system?minutes=100000": "minutes",
}


@pytest.mark.parametrize("path", QUESTIONS)
async def test_a_question_that_cannot_be_read_names_the_cause(admin: Browser, path: str) -> None:
    (await admin.get(path)).refused(400, QUESTIONS[path])


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/v2/overview", "/attempts/a/b/c", "/log/NOWHERE/1", "/log/CONFIG/-5"]
)
async def test_what_is_not_there_answers_404(admin: Browser, path: str) -> None:
    (await admin.get(path)).refused(404)


async def test_a_path_that_takes_another_method_names_it(admin: Browser) -> None:
    answered = await admin.change("PUT", "/overview")
    answered.refused(405, "GET")
    assert "GET" in answered.headers["Allow"]


async def test_read_models_that_do_not_exist_yet_answer_503(admin: Browser) -> None:
    for path in ("/overview", "/attempts", "/influencers", "/markets"):
        (await admin.get(path)).refused(503, "not built yet")


async def test_every_answer_has_the_headers_of_security(server: Server, admin: Browser) -> None:
    for path in ("/", "/session", "/nothing", "/api/v1/health"):
        headers = (await admin.get(path)).headers
        assert "require-trusted-types-for 'script'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert (await admin.get("/session")).headers["Cache-Control"] == "no-store"


async def test_too_many_requests_of_one_session_have_to_wait(running: Addresses, database: str, tmp_path: Path) -> None:
    async with (
        site_on(running, database, tmp_path, web_requests_per_second=5) as site,
        server_on(site) as server,
        AsyncExitStack() as stack,
    ):
        one, other = await server.admin(stack), await server.admin(stack)
        statuses = [(await one.get("/session")).status for _ in range(60)]
        assert statuses[:8] == [200] * 8
        assert 429 in statuses
        refused = next(answer for answer in [await one.get("/session") for _ in range(60)] if answer.status == 429)
        refused.refused(429, "ask again")
        assert int(refused.headers["Retry-After"]) >= 1
        assert (await other.get("/session")).status == 200, "another session has tokens of its own"


async def test_without_pages_one_explains_how_they_are_built(admin: Browser) -> None:
    answered = await admin.get("/")
    assert answered.status == 200
    assert "make install" in answered.text
    (await admin.get("/api/v1/../../etc/passwd")).refused(404)
