"""Signing in: one-time links, sessions, API keys. What is no longer valid answers 401, and nothing else."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateways.embedded import Addresses
from tests.web.browser import Browser, browser
from tests.web.conftest import Server, server_on, site_on
from vibe.web.api import ROUTES
from vibe.web.identity import new_link
from vibe.web.routing import Role
from vibe.web.server import ALIASES, paths


def filled(path: str) -> str:
    """A path with something in the place of each parameter."""
    return "/".join("influencer:x" if part.startswith("{") else part for part in path.split("/"))


async def test_without_signing_in_only_health_and_the_description_answer(server: Server) -> None:
    async with browser(server.address) as stranger:
        for path, route in paths():
            answered = await stranger.ask(route.method, filled(path), json={} if route.changes else None)
            if route.role is Role.PUBLIC and route.method == "GET":
                assert answered.status in (200, 503), path
            elif route.operation == "signIn":
                answered.refused(422)
            else:
                answered.refused(401, "vibe web --link")
        assert (await stranger.get("/")).status == 200
    assert len(ROUTES) + len(ALIASES) == len(list(paths()))


async def test_a_link_signs_in_once(server: Server) -> None:
    token = await new_link(server.site.pool)
    async with browser(server.address) as one, browser(server.address) as other:
        signed_in = await one.sign_in(token)
        assert signed_in.status == 200
        assert signed_in.json["role"] == "admin"
        cookie = signed_in.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/" in cookie
        assert (await one.get("/session")).json["actor"] == "local:admin"
        (await other.sign_in(token)).refused(401, "ten minutes")


async def test_a_link_that_is_too_old_signs_in_no_more(server: Server) -> None:
    token = await new_link(server.site.pool)
    await server.site.pool.execute("UPDATE vibe_web.one_time_link SET expires_at = now() - interval '1 second'")
    async with browser(server.address) as one:
        (await one.sign_in(token)).refused(401, "vibe web --link")


async def test_a_link_is_of_no_use_from_another_machine(running: Addresses, database: str, tmp_path: Path) -> None:
    async with (
        site_on(running, database, tmp_path, web_trusted_proxies=["127.0.0.1"]) as site,
        server_on(site) as server,
        browser(server.address, X_Forwarded_For="203.0.113.9") as remote,
        browser(server.address) as local,
    ):
        token = await new_link(site.pool)
        (await remote.sign_in(token)).refused(403, "one-time links")
        assert (await local.sign_in(token)).status == 200


async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(server: Server) -> None:
    async with browser(server.address, X_Forwarded_For="203.0.113.9") as one:
        assert (await one.sign_in(await new_link(server.site.pool))).status == 200


async def test_the_sixth_attempt_within_a_minute_has_to_wait(server: Server) -> None:
    async with browser(server.address) as one:
        for _ in range(5):
            (await one.sign_in("x" * 43)).refused(401)
        sixth = await one.sign_in(await new_link(server.site.pool))
        sixth.refused(429)
        assert int(sixth.headers["Retry-After"]) > 0


async def test_signing_out_ends_the_session_for_good(server: Server, admin: Browser) -> None:
    signed_out = await admin.change("DELETE", "/session")
    assert signed_out.json == {"done": True}
    assert "Max-Age=0" in signed_out.headers["Set-Cookie"]
    # The browser of the tests goes on sending the cookie, as a thief of it would.
    (await admin.get("/overview")).refused(401)


@pytest.mark.parametrize("column", ["expires_at = now()", "seen_at = now() - interval '13 hours'"])
async def test_a_cookie_of_yesterday_is_none(server: Server, admin: Browser, column: str) -> None:
    before = server.site.configuration.sequence
    await server.site.pool.execute(f"UPDATE vibe_web.session SET {column}")
    (await admin.get("/session")).refused(401)
    (await admin.change("POST", "/control/pause")).refused(401)
    assert server.site.configuration.sequence == before


async def test_a_session_can_be_ended_from_another_one(server: Server, admin: Browser) -> None:
    async with AsyncExitStack() as stack:
        other = await server.admin(stack)
        sessions = (await admin.get("/sessions")).json["items"]
        assert len(sessions) == 2
        theirs = (await other.get("/session")).json["session_id"]
        assert (await admin.change("DELETE", f"/sessions/{theirs}")).status == 200
        (await other.get("/session")).refused(401)
        (await admin.change("DELETE", f"/sessions/{theirs}")).refused(404)


async def test_tokens_are_stored_as_digests(server: Server, admin: Browser) -> None:
    created = (await admin.change("POST", "/keys", {"name": "reader", "role": "viewer"})).json
    link = await new_link(server.site.pool)
    async with browser(server.address) as one:
        await one.sign_in(await new_link(server.site.pool))
        secrets = [*one.cookies.values(), created["key"].split("_", 2)[2], link]
    assert len(secrets) == 3
    for table in ("session", "api_key", "one_time_link"):
        rows = await server.site.pool.fetch(f"SELECT t::text AS whole FROM vibe_web.{table} t")
        assert not [secret for secret in secrets for row in rows if secret in row["whole"]]


async def test_an_api_key_has_its_role_until_it_is_revoked(server: Server, admin: Browser) -> None:
    created = await admin.change("POST", "/keys", {"name": "a reader", "role": "viewer", "days": 1})
    assert created.status == 201
    key = created.json["key"]
    async with browser(server.address, Authorization=f"Bearer {key}") as program:
        assert (await program.get("/session")).json["actor"] == "key:a reader"
        assert (await program.get("/config")).status == 200
        (await program.ask("POST", "/control/pause", json={})).refused(403, "operator")
        (await program.get("/keys")).refused(403, "admin")
        listed = (await admin.get("/keys")).json["items"]
        assert [one["name"] for one in listed] == ["a reader"]
        assert "key" not in listed[0]
        assert (await admin.change("DELETE", f"/keys/{created.json['key_id']}")).status == 200
        (await program.get("/config")).refused(401)


async def test_an_operators_key_needs_no_token_against_forgery(server: Server, admin: Browser) -> None:
    key = (await admin.change("POST", "/keys", {"name": "ops", "role": "operator"})).json["key"]
    async with browser(server.address, Authorization=f"Bearer {key}") as program:
        switched = await program.ask("POST", "/control/pause", json={"note": "drill"})
        assert switched.json["actor"] == "key:ops"


@pytest.mark.parametrize("key", ["vk_0_0", "vk_", "vk__", "x", "vk_a_b_c", "vk_é_é"])
async def test_other_keys_are_refused(server: Server, key: str) -> None:
    async with browser(server.address) as program:
        answered = await program.ask("GET", "/session", headers={"Authorization": f"Bearer {key}"})
        answered.refused(401)


async def test_sign_ins_and_refusals_are_audited(server: Server, admin: Browser) -> None:
    async with browser(server.address) as stranger:
        await stranger.sign_in("x" * 43)
        await stranger.change("POST", "/control/pause")
    events = (await admin.get("/audit-events")).json["items"]
    assert [(one["action"], one["outcome"]) for one in events] == [
        ("pauseEngine", "refused"),
        ("signIn", "refused"),
    ]
    assert events[0]["address"] == "127.0.0.1"
