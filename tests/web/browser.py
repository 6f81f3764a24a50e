"""A browser without pages: it keeps the cookies and the token of its session, and sends what a page would send."""

from __future__ import annotations

import json as json_module
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

NOTHING: Mapping[str, str] = {}


class Answered(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json_module.loads(self.text)

    def refused(self, status: int, *words: str) -> None:
        """It is a problem document of this status, whose detail and errors contain the words."""
        assert self.status == status, self
        assert self.headers["Content-Type"] == "application/problem+json"
        document = self.json
        assert document["status"] == status
        text = " ".join([document["detail"], *document.get("errors", ())])
        for word in words:
            assert word in text, text


class Browser:
    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self.address = address
        self.csrf = ""

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] = NOTHING,
        data: bytes | None = None,
        json: Any = None,
    ) -> Answered:
        """Send one request; `path` is a whole path, or one under /api/v1."""
        whole = path if path.startswith(("/api/", "/ws/")) or path == "/" else f"/api/v1{path}"
        async with self._session.request(
            method, self.address + whole, headers=dict(headers), data=data, json=json, allow_redirects=False
        ) as answer:
            return Answered(answer.status, answer.headers.copy(), await answer.text())

    def socket(self, path: str, headers: Mapping[str, str] = NOTHING) -> Any:
        """A WebSocket with the cookies of this browser, for `async with`."""
        return self._session.ws_connect(self.address + path, headers=dict(headers))

    async def get(self, path: str, **headers: str) -> Answered:
        return await self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def change(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        """What a page of the server sends when it changes something."""
        page = {"Origin": self.address, "Sec-Fetch-Site": "same-origin", "X-CSRF-Token": self.csrf}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask(method, path, headers=page | given, json={} if body is None else body)

    async def sign_in(self, token: str) -> Answered:
        answered = await self.change("POST", "/session", {"token": token})
        if answered.status == 200:
            self.csrf = answered.json["csrf"]
        return answered

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self._session.cookie_jar}


@asynccontextmanager
async def browser(address: str, **headers: str) -> AsyncIterator[Browser]:
    """A browser without a session, which sends these headers with every request."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(
        cookie_jar=jar, headers={name.replace("_", "-"): value for name, value in headers.items()}
    ) as session:
        yield Browser(session, address)
