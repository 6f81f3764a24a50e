"""Every route of the venue, behind the HTTP faults."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
from aiohttp import web

from gateways.sandbox.polymarket import clob, gamma
from gateways.sandbox.polymarket.clob import ClobError
from gateways.sandbox.polymarket.data_routes import DataRoutes
from gateways.sandbox.polymarket.faults import PAYOUTS, FaultOrder, Socket
from gateways.sandbox.polymarket.gamma import GammaError
from gateways.sandbox.polymarket.markets import Listing, found
from gateways.sandbox.polymarket.venue import Venue
from gateways.sandbox.polymarket.websocket_hub import Connection

_JSON: Final = "application/json"
_GRACE_S: Final = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """The handlers over one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._faults = venue.faults
        self._data = DataRoutes(venue)
        self._requests = venue.requests

    def table(self) -> Iterable[web.RouteDef]:
        """All routes, for an aiohttp application."""
        return (
            web.get("/data/{name:.*}", self._faulty(self._data.answer)),
            web.get("/gamma/{name:.*}", self._faulty(self._gamma)),
            web.get("/clob/ws/market", self._market_socket),
            web.get("/clob/{name:.*}", self._faulty(self._clob)),
            web.post("/clob/{name}", self._faulty(self._clob_batch)),
            web.get("/polygon", self._polygon_socket),
            web.post("/polygon", self._faulty(self._polygon)),
            web.post("/sandbox/faults", self._order),
        )

    def _faulty(self, handler: Handler) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self._venue.advance()
            if not self._requests.take(request.remote or "", request.path):
                return self._refused(request, 429)
            if not self._faults.concerns(request.path):
                return await handler(request)
            if self._faults.delay_ms:
                await asyncio.sleep(self._faults.delay_ms / 1_000)
                self._venue.advance()
            for name, status in (("http_429", 429), ("http_5xx", self._faults.status_5xx)):
                if self._faults.take(name):
                    return self._refused(request, status)
            response = await handler(request)
            if isinstance(response, web.Response) and response.status == 200 and self._faults.take("malformed"):
                body = response.body if isinstance(response.body, bytes) else b""
                return web.Response(body=body[: len(body) // 2] or b"<html>", content_type=_JSON)
            return response

        return handle

    def _refused(self, request: web.Request, status: int) -> web.Response:
        retry = {"Retry-After": str(self._faults.retry_after_s)} if status in (429, 503) else {}
        if request.path.startswith("/data/"):
            response = self._data.failed(request.path.removeprefix("/data/"), status, _REASONS.get(status, "failed"))
        else:
            response = web.Response(status=status, text=_REASONS.get(status, "failed"))
        response.headers.update(retry)
        return response

    async def _gamma(self, request: web.Request) -> web.Response:
        name, given = request.match_info["name"], list(request.query.items())
        try:
            if name == "markets":
                return _answered(gamma.markets(self._venue, given))
            if name == "markets/keyset":
                return _answered(gamma.keyset(self._venue, given))
            if name == "public-profile":
                return _answered(gamma.profile(given), 404, {"type": "not found error", "error": "profile not found"})
        except GammaError as error:
            return _json({"type": "validation error", "error": str(error)}, error.status)
        parts = name.split("/")
        missing = {"type": "not found error", "error": "id not found"}
        if len(parts) == 3 and parts[:2] == ["markets", "slug"]:
            return _answered(gamma.one(self._venue, slug=parts[2]), 404, missing)
        if len(parts) == 2 and parts[0] == "markets":
            return _answered(gamma.one(self._venue, number=parts[1]), 404, missing)
        return _json(missing, 404)

    async def _clob(self, request: web.Request) -> web.Response:
        name, _, rest = request.match_info["name"].partition("/")
        by_path = {
            "markets": clob.market,
            "clob-markets": clob.clob_market,
            "markets-by-token": clob.market_by_token,
        }
        try:
            if rest and name in by_path:
                return _json(by_path[name](self._venue, rest))
            if not rest and name in clob.GETS:
                return _json(clob.GETS[name](self._venue, dict(request.query)))
        except ClobError as error:
            return _json({"error": str(error)}, error.status)
        return _json({"error": "not found"}, 404)

    async def _clob_batch(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in clob.POSTS:
            return _json({"error": "not found"}, 404)
        try:
            return _json(clob.POSTS[name](self._venue, msgspec.json.decode(await request.read())))
        except ClobError as error:
            return _json({"error": str(error)}, error.status)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _json({"error": "Invalid payload"}, 400)

    async def _polygon(self, request: web.Request) -> web.Response:
        body = self._venue.node.answer(await request.read())
        return web.Response(body=body, content_type=_JSON)

    # Sockets.

    async def _market_socket(self, request: web.Request) -> web.StreamResponse:
        channel = self._venue.channel
        return await self._socket(request, "market", channel.receive, channel.leave)

    async def _polygon_socket(self, request: web.Request) -> web.StreamResponse:
        node = self._venue.node

        def receive(connection: Connection, text: str) -> None:
            connection.send(node.answer(text, connection))

        return await self._socket(request, "polygon", receive, node.leave)

    async def _socket(
        self,
        request: web.Request,
        kind: Socket,
        receive: Callable[[Connection, str], None],
        leave: Callable[[Connection], None],
    ) -> web.StreamResponse:
        if self._faults.refusing_connections:
            return web.Response(status=503)
        ws = web.WebSocketResponse(compress=False, timeout=_GRACE_S)
        if not ws.can_prepare(request).ok:
            return web.Response(status=426, text="expected a WebSocket upgrade")
        await ws.prepare(request)
        if request.transport is None:
            return ws
        connection = Connection(kind, ws, request.transport, self._venue.limits.queued_frames)
        self._venue.sockets.all.add(connection)

        def received(data: str | bytes) -> None:
            self._venue.advance()
            receive(connection, data if isinstance(data, str) else data.decode(errors="replace"))

        try:
            await connection.run(received)
        finally:
            leave(connection)
            self._venue.sockets.all.discard(connection)
        return ws

    # Faults.

    async def _order(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=FaultOrder)
            self._venue.advance()
            self._happen(order)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
            return web.Response(status=422, text=str(error))
        return _json(self._faults.state() | self._venue.state())

    def _happen(self, order: FaultOrder) -> None:
        venue = self._venue
        named = [order.resolve.market if order.resolve else None, order.close, *order.books]
        listings = {key: _listing(venue, key) for key in named if key is not None}
        if order.reorg is not None and not 1 <= order.reorg <= 100:
            raise ValueError(f"reorg takes 1 to 100 blocks, got {order.reorg}")
        self._faults.order(order)
        if order.data_lag_s is not None:
            venue.feed.extra_lag_ns = round(order.data_lag_s * 1e9)
        if order.data_stall is not None:
            venue.feed.stalled = order.data_stall
        if order.paused is not None:
            (venue.pause if order.paused else venue.go)()
        if order.resolve is not None:
            resolved = order.resolve
            venue.resolve(listings[resolved.market], PAYOUTS[resolved.payouts], final=resolved.final)
        if order.close is not None:
            venue.close(listings[order.close])
        for key, how in order.books.items():
            venue.disturb(listings[key], how)
        if order.reorg is not None:
            venue.reorganise(order.reorg)
        venue.sockets.inject(order.inject_frames, order.only)
        if order.close_connections is not None:
            venue.sockets.close_all(order.close_connections, order.only)
        if order.drop_connections:
            venue.sockets.abort_all(order.only)


_REASONS: Final = {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


def _listing(venue: Venue, key: str) -> Listing:
    listing = found(key)
    if listing is None or listing.name not in venue.markets:
        raise ValueError(f"there is no market {key!r}; use one of {', '.join(venue.markets) or 'none'}")
    return listing


def _answered(answer: object, status: int = 404, missing: object = None) -> web.Response:
    return _json(missing, status) if answer is None else _json(answer)


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(answer), content_type=_JSON)
