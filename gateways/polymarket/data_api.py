"""The Data API: the activity, positions and value of a wallet (docs/venues/polymarket.md, Data API and paging).

Version 2 is paged by cursor, version 1 by windows of whole seconds: its offsets repeat rows as new ones come in, and
end at 3,000. Answers are cached by URL, for minutes, so every request carries a parameter that never repeats. By
default the venue hides a wallet's maker fills and its dust; the requests here include both.
"""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from gateways.http_client import HttpClient
from gateways.polymarket import json_fields
from gateways.polymarket.activity import KIND_OF_TYPE, Page, page
from gateways.venue_errors import VenueUnavailableError, WireError

ALL_TYPES = ",".join(KIND_OF_TYPE)
V1_TYPES = ",".join(kind for kind in KIND_OF_TYPE if kind not in ("MIGRATION", "TIP"))
PAGE_ROWS = 1000
V1_PAGE_ROWS = 500
V1_OVERLAP_ROWS = 50
V1_LAST_OFFSET = 3000
"""From here on version 1 repeats rows or refuses."""
SMALLEST_SHARES = "0.000001"
_numbers = itertools.count()


class Status(NamedTuple):
    """How far the venue's index is: every block up to `synced_block` is in it, `lag_seconds` behind the chain."""

    synced_block: int
    lag_seconds: float


class _Serving(Struct, frozen=True):
    lag_seconds: float = 0.0


class _Ingestion(Struct):
    min_synced_block: int | None = None
    max_synced_block: int | None = None


class _Status(Struct):
    ingestion: _Ingestion
    serving: _Serving = _Serving()


class _StatusEnvelope(Struct):
    data: _Status


class _Timed(Struct):
    timestamp: Raw


class _Held(Struct):
    asset: Raw = Raw()
    token_id: Raw = Raw()


_STATUS = msgspec.json.Decoder(_StatusEnvelope)
_TIMED = msgspec.json.Decoder(_Timed)
_HELD = msgspec.json.Decoder(_Held)


class DataApi:
    """Requests about one wallet. All raise VenueUnavailableError or WireError."""

    def __init__(self, client: HttpClient, base_url: str) -> None:
        self._client = client
        self._url = base_url.rstrip("/")

    async def activity(self, wallet: str, start_s: int, end_s: int | None = None) -> list[Raw]:
        """All rows of all types from `start_s` to `end_s`, both included (None = until now), oldest first.

        Complete for every second it covers but the last ones, which the venue's index may still be filling: number the
        rows with `activity.numbered`, and request again from some seconds before.
        """
        filters = {"user": json_fields.wallet(wallet), "type": ALL_TYPES, "exclude_deposits_withdrawals": "false"}
        rows = await self._all_pages("/v2/activity", filters | {"sort_direction": "ASC"} | _window(start_s, end_s))
        if rows is None:
            filters = {"user": json_fields.wallet(wallet), "type": V1_TYPES, "excludeDepositsWithdrawals": "false"}
            order = {"sortBy": "TIMESTAMP", "sortDirection": "ASC"}
            rows = await self._windows("/activity", filters | order, start_s, end_s)
        return rows

    async def trades(self, wallet: str, start_s: int, end_s: int | None = None) -> list[Raw]:
        """All fills from `start_s` to `end_s`, both included (None = until now), maker and taker, oldest first."""
        smallest = {"filter_type": "TOKENS", "filter_amount": SMALLEST_SHARES}
        filters = {"user": json_fields.wallet(wallet), "taker_only": "false"} | smallest
        rows = await self._all_pages("/v2/trades", filters | _window(start_s, end_s))
        if rows is None:
            smallest = {"filterType": "TOKENS", "filterAmount": SMALLEST_SHARES}
            filters = {"user": json_fields.wallet(wallet), "takerOnly": "false"} | smallest
            rows = await self._windows("/trades", filters, start_s, end_s, newest_first=True)
        return sorted(rows, key=_second)

    async def positions(self, wallet: str) -> bytes:
        """Everything the wallet holds, dust included, as one JSON array of the venue's rows."""
        # Sorted by title, because a title does not change between two pages.
        asked = {"user": json_fields.wallet(wallet), "sizeThreshold": "0", "sortBy": "TITLE", "sortDirection": "ASC"}
        rows: dict[str, Raw] = {}
        # The pages overlap, so that positions closed meanwhile do not pull others past the border unseen.
        for offset in range(0, 10_001, V1_PAGE_ROWS - V1_OVERLAP_ROWS):
            answer = await self._page("/positions", asked | {"limit": str(V1_PAGE_ROWS), "offset": str(offset)})
            if answer is None:
                found = await self._all_pages("/v2/positions", {"user": json_fields.wallet(wallet)})
                if found is None:
                    raise self._no_api("/positions")
                rows = {_asset(row): row for row in found}
                break
            rows |= {_asset(row): row for row in answer.rows}
            if len(answer.rows) < V1_PAGE_ROWS:
                break
        else:
            raise WireError(f"{wallet} has more positions than the venue's offsets reach ({len(rows)} were read)")
        return msgspec.json.encode(list(rows.values()))

    async def value(self, wallet: str) -> bytes:
        """What the positions are worth, as served; `null` when the venue does not know the wallet."""
        for path in ("/value", "/v2/value"):
            payload = await self._get(path, {"user": json_fields.wallet(wallet)})
            if payload is not None:
                return payload
        return b"null"

    async def status(self) -> Status:
        """How far the venue's own index is behind the chain."""
        payload = await self._get("/v2/status", {})
        if payload is None:
            raise WireError(f"{self._url}/v2/status is not there: is this a Data API?")
        try:
            data = _STATUS.decode(payload).data
        except msgspec.MsgspecError as error:
            raise WireError(f"not a status: {error}") from error
        synced = data.ingestion.min_synced_block
        synced = data.ingestion.max_synced_block if synced is None else synced
        if synced is None:
            raise WireError("a status has neither min_synced_block nor max_synced_block; one of them is expected")
        return Status(synced, data.serving.lag_seconds)

    async def _all_pages(self, path: str, filters: dict[str, str]) -> list[Raw] | None:
        """All pages of version 2; None when the path is not there. The filters are sent again with every cursor."""
        rows: list[Raw] = []
        asked = filters | {"limit": str(PAGE_ROWS)}
        cursors: set[str] = set()
        while True:
            answer = await self._page(path, asked)
            if answer is None and not cursors:
                return None
            if answer is None:
                raise VenueUnavailableError(f"{self._url}{path} was there, and is 404 at its page {len(cursors) + 1}")
            rows += answer.rows
            cursor = answer.next_cursor
            if cursor is None:
                return rows
            if cursor in cursors:
                raise WireError(f"{self._url}{path} returned the cursor {cursor[:80]!r} a second time")
            cursors.add(cursor)
            asked = filters | {"limit": str(PAGE_ROWS), "cursor": cursor}

    async def _windows(
        self, path: str, filters: dict[str, str], start: int, end: int | None, *, newest_first: bool = False
    ) -> list[Raw]:
        """All rows of version 1: each window begins with the whole second that the one before could not finish."""
        rows: list[Raw] = []
        low, high = start, int(time.time()) + 1 if end is None else end
        while low <= high:
            asked = filters | _window(low, high) | {"limit": str(V1_PAGE_ROWS), "offset": "0"}
            found = await self._rows(path, asked)
            if len(found) < V1_PAGE_ROWS:
                rows += found
                break
            edge = _second(found[-1])
            if not low <= edge <= high:
                raise WireError(f"{self._url}{path} sent a row of second {edge} for {low}..{high}")
            finished = [row for row in found if _second(row) != edge]
            rows += finished
            if not finished:
                rows += await self._one_second(path, filters, edge)
                edge = edge - 1 if newest_first else edge + 1
            low, high = (low, edge) if newest_first else (edge, high)
        return rows

    async def _one_second(self, path: str, filters: dict[str, str], second: int) -> list[Raw]:
        rows: list[Raw] = []
        for offset in range(0, V1_LAST_OFFSET, V1_PAGE_ROWS):
            asked = filters | _window(second, second) | {"limit": str(V1_PAGE_ROWS), "offset": str(offset)}
            found = await self._rows(path, asked)
            rows += found
            if len(found) < V1_PAGE_ROWS:
                return rows
        raise WireError(f"{self._url}{path}: second {second} has more rows than offsets reach ({len(rows)} were read)")

    async def _rows(self, path: str, asked: dict[str, str]) -> list[Raw]:
        answer = await self._page(path, asked)
        if answer is None:
            raise self._no_api(path)
        return answer.rows

    def _no_api(self, path: str) -> WireError:
        return WireError(f"neither {self._url}{path} nor its version 2 is there: is this a Data API?")

    async def _page(self, path: str, asked: dict[str, str]) -> Page | None:
        payload = await self._get(path, asked)
        return None if payload is None else page(payload)

    async def _get(self, path: str, asked: dict[str, str]) -> bytes | None:
        return await self._client.get(f"{self._url}{path}", asked | {"_": _cache_buster()})


def _cache_buster(clock: Callable[[], int] = time.time_ns) -> str:
    return f"{clock()}{next(_numbers) % 1000:03d}"


def _window(start: int, end: int | None) -> dict[str, str]:
    return {"start": str(start)} | ({} if end is None else {"end": str(end)})


def _second(row: Raw) -> int:
    try:
        wire = _TIMED.decode(row)
    except msgspec.MsgspecError as error:
        raise WireError(f"a row without a timestamp: {error}") from error
    return json_fields.seconds(json_fields.needed(wire.timestamp, "timestamp"), "timestamp") // json_fields.SECOND


def _asset(row: Raw) -> str:
    try:
        wire = _HELD.decode(row)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a position: {error}") from error
    return json_fields.token(json_fields.text(wire.asset or wire.token_id, "asset"))
