"""Serves recorded Data API pages of one wallet: a folder with `trades_page*.json`, as `/trades` answered them.

The pages overlap where rows came in between two requests, so the rows are their union: a row that one page shows twice
is two rows, one that two pages show is one. There are no markets, books or blocks behind them.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from gateways.sandbox.polymarket.actions import Action
from gateways.sandbox.polymarket.data_api_index import LAG_NS, Pending
from gateways.sandbox.polymarket.market_state import MarketState
from gateways.sandbox.polymarket.rows import About, Row
from gateways.sandbox.polymarket.traders import Profile

_SECOND_NS: Final = 1_000_000_000


class RecordedRow(Row):
    """A row with the very values it was recorded with."""

    recorded: dict[str, Any]

    def trade_v1(self) -> dict[str, object]:
        return dict(self.recorded)


class RecordingSource:
    """The rows of `folder`; the newest `held_back` come later, at `speed` times the recorded pace.

    `drift` rows that are still held back come with every page that is asked for: then offsets drift as they do at the
    venue while a client pages. Raises ValueError for a folder without pages or a page that is none.
    """

    seed = 0

    def __init__(
        self,
        folder: Path,
        *,
        origin_ns: int | None = None,
        held_back: int = 0,
        drift: int = 0,
        speed: float = 1.0,
    ) -> None:
        if speed <= 0:
            raise ValueError(f"speed must be positive, got {speed}")
        self.origin_ns = origin_ns
        self.horizon_ms: int | None = None
        self.drift = drift
        self._held_back = held_back
        self._speed = speed
        self._recorded = _union(folder)
        if held_back >= len(self._recorded):
            raise ValueError(f"held_back must be less than the {len(self._recorded)} rows of {folder}")

    @property
    def wallet(self) -> str:
        """The wallet of the newest row."""
        return str(self._recorded[-1]["proxyWallet"]).lower()

    def markets(self, origin_ns: int) -> dict[str, MarketState]:
        return {}

    def actions(self) -> Iterator[Action]:
        return iter(())

    def rows(self, origin_ns: int) -> Iterator[Pending]:
        shown = len(self._recorded) - self._held_back
        start_s = self._recorded[shown - 1]["timestamp"]
        for sequence, recorded in enumerate(self._recorded):
            late_s = 0.0 if sequence < shown else max(0, recorded["timestamp"] - start_s) / self._speed
            # A hair later than the start, so that what is held back is held back at first.
            late_ns = round(late_s * _SECOND_NS) + (0 if sequence < shown else 1)
            yield Pending(origin_ns - LAG_NS + late_ns, _row(recorded, sequence), None)


def _union(folder: Path) -> list[dict[str, Any]]:
    """Oldest first. Within a second rows keep the order in which they were served."""
    paths = sorted(folder.glob("trades_page*.json"), key=lambda path: int(re.sub(r"\D", "", path.stem) or 0))
    if not paths:
        raise ValueError(f"{folder} holds no trades_page*.json")
    newest_first: list[dict[str, Any]] = []
    have: Counter[bytes] = Counter()
    for path in paths:
        here: Counter[bytes] = Counter()
        for row in _page(path):
            key = msgspec.json.encode(row, order="sorted")
            here[key] += 1
            if here[key] > have[key]:
                have[key] += 1
                newest_first.append(row)
    newest_first.sort(key=lambda row: -row["timestamp"])
    return newest_first[::-1]


def _page(path: Path) -> list[dict[str, Any]]:
    try:
        page = msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path}: expected an array of rows: {error}") from error
    for number, row in enumerate(page, 1):
        missing = _NEEDED - row.keys()
        if missing:
            raise ValueError(f"{path}: row {number} has no {min(missing)!r}")
    return page


_NEEDED: Final = frozenset(
    ["proxyWallet", "side", "asset", "conditionId", "size", "price", "timestamp", "transactionHash"]
)


def _row(recorded: dict[str, Any], sequence: int) -> RecordedRow:
    row = RecordedRow(
        sequence=sequence,
        timestamp=recorded["timestamp"],
        kind="TRADE",
        wallet=str(recorded["proxyWallet"]).lower(),
        market=recorded["conditionId"],
        asset=recorded["asset"],
        side=recorded["side"],
        size=recorded["size"],
        price=recorded["price"],
        usdc_size=round(recorded["size"] * recorded["price"], 6),
        outcome=recorded.get("outcome", ""),
        outcome_index=recorded.get("outcomeIndex", 999),
        transaction=recorded["transactionHash"],
        # The pages do not say who took: a row that is served is one the default does not hide.
        taker=True,
        about=About(
            recorded.get("title", ""),
            recorded.get("slug", ""),
            recorded.get("icon", ""),
            recorded.get("eventSlug", ""),
        ),
        profile=Profile(recorded.get("name", ""), recorded.get("pseudonym", "")),
    )
    object.__setattr__(row, "recorded", recorded)
    return row
