"""A local Hyperliquid on one port: `/ws`, `POST /info`, `POST /exchange`; `POST /sandbox/faults` makes it misbehave,
and `POST /sandbox/accounts` opens accounts that trade."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec
from aiohttp import web

from gateways.sandbox.hyperliquid import exchange, frames, info
from gateways.sandbox.hyperliquid.faults import FaultOrder, Faults
from gateways.sandbox.hyperliquid.subscriptions import Post, Unparsable, address, parse
from gateways.sandbox.hyperliquid.venue import Source, Venue
from gateways.sandbox.hyperliquid.websocket_hub import Connection, Limits, WebsocketHub

_BAD_BODY: Final = "Failed to deserialize the JSON body into the target type"
_OK: Final = 200
_UNREADABLE: Final = 422
_TOO_MANY: Final = 429
_BROKEN: Final = 502
# How long a closing server waits for clients to read what is queued.
_GRACE_S: Final = 1.0
# Bytes; injected frames may be large on purpose.
_LARGEST_BODY: Final = 1 << 26


class AgentOrder(msgspec.Struct, forbid_unknown_fields=True):
    """An agent that may trade for the account."""

    address: str
    name: str = "agent"


class AccountOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request for an account: its deposit in USD, and its agents."""

    address: str
    deposit: str = "100000"
    agents: list[AgentOrder] = []
    leader: str | None = None
    """The account that trades for this one, a vault or a sub-account."""


class Sandbox:
    """A running venue. `done` is set when its source is exhausted; the venue still answers until `close`."""

    def __init__(self, venue: Venue, source: Source, runner: web.AppRunner, address: str) -> None:
        self.url = f"http://{address}"
        self.ws_url = f"ws://{address}/ws"
        self.done = asyncio.Event()
        self.usage = venue.hub.usage
        self.market = venue.market
        self.exchange = venue.exchange
        self.faults = venue.faults
        self._venue = venue
        self._runner = runner
        self._running = asyncio.create_task(self._run(source))
        self._publishing = asyncio.create_task(venue.publish_regularly())

    @property
    def venue(self) -> Venue:
        """What runs behind the port: tests move its books."""
        return self._venue

    async def _run(self, source: Source) -> None:
        try:
            await source.run(self._venue)
        finally:
            self.done.set()

    async def close(self) -> None:
        """Stop the source, write what is queued, hang up and free the port. Raises what the source raised."""
        tasks = (self._running, self._publishing)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for connection in tuple(self._venue.hub.connections):
            connection.hang_up()
        await self._runner.cleanup()
        for result in results:
            if isinstance(result, Exception):
                raise result


async def serve(
    source: Source,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Callable[[], int] = time.time_ns,
    limits: Limits | None = None,
) -> Sandbox:
    """Start a venue that plays `source` at once; port 0 takes a free one. `clock` returns ns since the epoch."""
    faults = Faults()
    hub = WebsocketHub(limits or Limits(), faults)
    venue = Venue(source, hub, faults, clock)
    routes = _Routes(venue)
    app = web.Application(client_max_size=_LARGEST_BODY)
    app.add_routes(
        [
            web.get("/ws", routes.ws),
            web.post("/info", routes.info),
            web.post("/exchange", routes.exchange),
            web.post("/sandbox/faults", routes.faults),
            web.post("/sandbox/accounts", routes.accounts),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound: int = runner.addresses[0][1]
    return Sandbox(venue, source, runner, f"{host}:{bound}")


@dataclass(frozen=True)
class _Answer:
    """What a request is answered with; a lost one was carried out and is not sent."""

    status: int
    body: object
    lost: bool = False

    def response(self) -> web.Response:
        if self.status == _OK:
            return _json(self.body)
        return web.Response(status=self.status, text=str(self.body))


class _Routes:
    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._faults = venue.faults
        self._hub = venue.hub
        self._posts: set[asyncio.Task[None]] = set()

    async def ws(self, request: web.Request) -> web.StreamResponse:
        if self._faults.refusing_connections:
            return web.Response(status=503)
        if not self._hub.may_connect(request.remote or ""):
            return web.Response(status=429, text="Too Many Requests")
        ws = web.WebSocketResponse(compress=False, timeout=_GRACE_S)
        await ws.prepare(request)
        if request.transport is None:
            return ws
        connection = Connection(ws, request.transport, request.remote or "", self._hub.limits)
        self._hub.admit(connection)
        try:
            await connection.run(lambda raw: self._receive(connection, raw))
        finally:
            self._hub.remove(connection)
        return ws

    def _receive(self, connection: Connection, raw: str | bytes) -> None:
        if not self._hub.may_send(connection):
            connection.hang_up()
            return
        try:
            request = parse(raw)
        except Unparsable:
            quoted = raw if isinstance(raw, str) else raw.decode(errors="replace")
            connection.send(frames.error(f"Error parsing JSON into valid websocket request: {quoted}"))
            return
        if request.post is not None:
            task = asyncio.create_task(self._answer_post(connection, request.post))
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)
        elif request.subscription is None:
            connection.send(frames.PONG)
        elif request.method == "subscribe":
            self._venue.subscribe(connection, request.subscription)
        else:
            self._venue.unsubscribe(connection, request.subscription)

    async def info(self, request: web.Request) -> web.Response:
        answer = await self._info(request.remote or "", _decoded(await request.read()))
        return answer.response()

    async def exchange(self, request: web.Request) -> web.Response:
        answer = await self._act(request.remote or "", _decoded(await request.read()))
        if answer.lost and request.transport is not None:
            request.transport.abort()
        return answer.response()

    async def _answer_post(self, connection: Connection, post: Post) -> None:
        """The same answers over the socket; a lost one ends the connection, as no answer could follow it."""
        if post.kind == "info":
            answer = await self._info(connection.client, post.payload)
        else:
            answer = await self._act(connection.client, post.payload)
        if answer.lost:
            connection.abort()
        elif answer.status != _OK:
            connection.send(frames.posted(post.id, "error", f"{answer.status} {answer.body}"))
        elif post.kind == "info":
            payload = {"type": post.payload["type"], "data": answer.body}
            connection.send(frames.posted(post.id, "info", payload))
        else:
            connection.send(frames.posted(post.id, "action", answer.body))

    async def _info(self, client: str, asked: Any) -> _Answer:
        if self._faults.delay_ms:
            await asyncio.sleep(self._faults.delay_ms / 1_000)
        if asked is None:
            return _Answer(_UNREADABLE, _BAD_BODY)
        spent, usage = self._hub.client(client).weight, self._hub.usage
        weight = info.weight(asked)
        if self._faults.take_429() or not spent.take(weight):
            usage.requests_refused += 1
            return _Answer(_TOO_MANY, "Too Many Requests")
        try:
            answer = info.answer(self._venue.market, self._venue.now_ms(), asked)
        except Unparsable:
            return _Answer(_UNREADABLE, _BAD_BODY)
        surcharge = info.surcharge(asked, answer)
        spent.add(surcharge)
        usage.weight += weight + surcharge
        usage.requests[asked["type"]] += 1
        return _Answer(_OK, answer)

    async def _act(self, client: str, asked: Any) -> _Answer:
        if self._faults.exchange_delay_ms:
            await asyncio.sleep(self._faults.exchange_delay_ms / 1_000)
        if asked is None:
            return _Answer(_UNREADABLE, _BAD_BODY)
        weight = exchange.weight(asked)
        if not self._hub.client(client).weight.take(weight):
            self._hub.usage.requests_refused += 1
            return _Answer(_TOO_MANY, "Too Many Requests")
        self._hub.usage.weight += weight
        if self._faults.take_5xx():
            return _Answer(_BROKEN, "Bad Gateway")
        try:
            answer = self._venue.exchange.act(asked)
        except Unparsable:
            return _Answer(_UNREADABLE, _BAD_BODY)
        return _Answer(_OK, answer, lost=self._faults.take_lost_answer())

    async def accounts(self, request: web.Request) -> web.Response:
        try:
            wanted = msgspec.json.decode(await request.read(), type=AccountOrder)
            agents = {address(agent.address): agent.name for agent in wanted.agents}
            leader = None if wanted.leader is None else address(wanted.leader)
            self._venue.exchange.open_account(address(wanted.address), Decimal(wanted.deposit), agents, leader)
        except (msgspec.MsgspecError, UnicodeDecodeError, ArithmeticError, Unparsable) as error:
            return web.Response(status=422, text=str(error))
        return _json({"ok": True})

    async def faults(self, request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=FaultOrder)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return web.Response(status=422, text=str(error))
        self._faults.order(order)
        self._hub.inject(order.inject_frames)
        if order.drop_connections:
            self._hub.abort_all()
        for account in order.auto_deleverage:
            if account in self._venue.market.trading:
                self._venue.engine.auto_deleverage(account)
        for name in order.delist:
            if name in self._venue.market.coins:
                self._venue.engine.delist(self._venue.market.coins[name])
        return _json(self._faults.state())


def _decoded(body: bytes) -> Any:
    """The JSON of a body; None, which no request is, when it is none."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _json(answer: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
