"""The Data API over HTTP: both versions' routes, error bodies, and the content network in front of them."""

import itertools
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web

from gateways.sandbox.polymarket import data_v1, data_v2
from gateways.sandbox.polymarket.cdn import MAX_AGE_S, Cdn
from gateways.sandbox.polymarket.query import BadRequestError, Parameters
from gateways.sandbox.polymarket.venue import Venue

_ROUTES: Final[dict[str, Callable[[Venue, Parameters], object]]] = {
    "trades": data_v1.trades,
    "activity": data_v1.activity,
    "positions": data_v1.positions,
    "value": data_v1.value,
    "v2/trades": data_v2.trades,
    "v2/activity": data_v2.activity,
    "v2/positions": data_v2.positions,
    "v2/value": data_v2.value,
    "v2/status": data_v2.status,
    "v2/resolutions": data_v2.resolutions,
}
_PAGED: Final = frozenset(("trades", "activity", "v2/trades", "v2/activity"))
_RETRYABLE: Final = frozenset((429, 500, 503))
_CODES: Final = {
    400: "invalid_request",
    404: "not_found",
    429: "rate_limited",
    500: "internal",
    503: "dependency_unavailable",
}


class DataRoutes:
    """`GET /data/...`."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._cache = Cdn()
        self._traces = itertools.count(1)

    async def answer(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        route = _ROUTES.get(name)
        if route is None:
            return self.failed(name, 404, "not found")
        path, url, now = request.path, request.path_qs, self._venue.now_ns()
        kept = self._cache.get(path, url, now) if path in MAX_AGE_S else None
        if kept is not None:
            body, age_s = kept
            return self._ok(body, self._cache.headers(path, age_s))
        try:
            body = msgspec.json.encode(route(self._venue, Parameters(request.query)))
        except BadRequestError as error:
            return self.failed(name, 400, str(error), error.parameter)
        self._cache.put(path, url, body, now)
        if name in _PAGED:
            self._venue.paged()
        return self._ok(body, self._cache.headers(path, None))

    def failed(self, name: str, status: int, message: str, parameter: str | None = None) -> web.Response:
        """The error body of the version that `name` belongs to."""
        if not name.startswith("v2/"):
            return web.Response(status=status, body=msgspec.json.encode({"error": message}), content_type=_JSON)
        trace = self._trace()
        body: dict[str, object] = {
            "error": message,
            "code": _CODES.get(status, "internal"),
            "retryable": status in _RETRYABLE,
            "trace_id": trace,
        }
        if parameter is not None:
            body["parameter"] = parameter
        headers = {"x-trace-id": trace}
        return web.Response(status=status, body=msgspec.json.encode(body), content_type=_JSON, headers=headers)

    def _ok(self, body: bytes, headers: dict[str, str]) -> web.Response:
        return web.Response(body=body, content_type=_JSON, headers=headers | {"x-trace-id": self._trace()})

    def _trace(self) -> str:
        return f"{next(self._traces):032x}"


_JSON: Final = "application/json"
