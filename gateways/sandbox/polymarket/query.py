"""Reading the parameters of a Data API request, which both versions share, and picking rows by them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateways.sandbox.polymarket.ledger import Kind
from gateways.sandbox.polymarket.rows import Row

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
# Known to the venue; the flow plays some of them.
KINDS: Final = frozenset(
    (
        "TRADE",
        "SPLIT",
        "MERGE",
        "REDEEM",
        "REWARD",
        "CONVERSION",
        "DEPOSIT",
        "WITHDRAWAL",
        "YIELD",
        "MAKER_REBATE",
        "TAKER_REBATE",
        "REFERRAL_REWARD",
        "MIGRATION",
        "TIP",
    )
)
_CASH_MOVES: Final = frozenset(("DEPOSIT", "WITHDRAWAL"))


class BadRequestError(ValueError):
    """A request the Data API refuses with 400. `parameter` is the one at fault."""

    def __init__(self, message: str, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class Parameters:
    """Query parameters, snake_case and camelCase alike."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = {_snake(key): value for key, value in query.items()}

    def text(self, name: str) -> str | None:
        """The value, None when it is absent or empty."""
        return self._query.get(name) or None

    def number(self, name: str, default: int, *, most: int | None = None) -> int:
        """A whole number of 0 and more; `most` cuts it. Raises BadRequestError."""
        given = self.text(name)
        if given is None:
            return default
        if not given.isdecimal():
            raise BadRequestError(f"invalid '{name}': expected a whole number, got {given!r}", name)
        return int(given) if most is None else min(int(given), most)

    def amount(self, name: str, default: float) -> float:
        given = self.text(name)
        try:
            return default if given is None else float(given)
        except ValueError:
            raise BadRequestError(f"invalid '{name}': expected a number, got {given!r}", name) from None

    def flag(self, name: str, *, default: bool) -> bool:
        given = self.text(name)
        if given is None:
            return default
        if given.lower() not in ("true", "false"):
            raise BadRequestError(f"invalid '{name}': expected true or false, got {given!r}", name)
        return given.lower() == "true"

    def choice(self, name: str, choices: Iterable[str]) -> str | None:
        given = self.text(name)
        if given is None:
            return None
        if given.upper() not in choices:
            raise BadRequestError(f"invalid '{name}': {given!r}", name)
        return given.upper()

    def listed(self, *names: str) -> frozenset[str]:
        """A comma list under any of `names`, lower case."""
        given = ",".join(self._query.get(name, "") for name in names)
        return frozenset(part.strip().lower() for part in given.split(",") if part.strip())

    def user(self) -> str | None:
        """The wallet in lower case. A comma list is a wallet that does not exist, as on the venue."""
        given = self.text("user")
        if given is None or "," in given:
            return given
        if not _ADDRESS.fullmatch(given):
            raise BadRequestError(f"invalid 'user': expected 0x and 40 hex digits, got {given!r}", "user")
        return given.lower()


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: "_" + found.group().lower(), name)


@dataclass(frozen=True)
class Selection:
    """Which rows a request wants; `end` and `start` are seconds, both included, None when open."""

    markets: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    side: str | None = None
    start: int | None = None
    end: int | None = None
    kinds: frozenset[str] = frozenset()
    takers_only: bool = False
    least_size: float = 0.0
    least_cash: float = 0.0
    cash_moves: bool = False

    def takes(self, row: Row) -> bool:
        return (
            (not self.markets or row.market in self.markets)
            and (not self.events or row.about.event_id in self.events)
            and (self.side is None or row.side == self.side)
            and (self.start is None or row.timestamp >= self.start)
            and (self.end is None or row.timestamp <= self.end)
            and (row.kind in self.kinds if self.kinds else self.cash_moves or row.kind not in _CASH_MOVES)
            and (row.taker or not self.takers_only)
            and row.size >= self.least_size
            and row.usdc_size >= self.least_cash
        )


def trades_of(given: Parameters, *, floor: float) -> Selection:
    """The selection of `/trades`; `floor` is the size below which a trade is hidden unless the request says."""
    user_shape = given.text("user") is not None
    by_cash = given.choice("filter_type", ("CASH", "TOKENS")) == "CASH"
    least = given.amount("filter_amount", floor) or floor
    return Selection(
        markets=given.listed("market", "condition"),
        events=given.listed("event_id"),
        side=given.choice("side", ("BUY", "SELL")),
        # Windows are for wallets: other shapes ignore them.
        start=given.number("start", 0) or None if user_shape else None,
        end=given.number("end", 0) or None if user_shape else None,
        kinds=frozenset((Kind.TRADE.value,)),
        takers_only=given.flag("taker_only", default=True),
        least_size=0.0 if by_cash else least,
        least_cash=least if by_cash else 0.0,
    )


def activity_of(given: Parameters) -> Selection:
    """The selection of `/activity`."""
    kinds = frozenset(kind.upper() for kind in given.listed("type"))
    unknown = kinds - KINDS
    if unknown:
        raise BadRequestError(f"invalid 'type': {min(unknown)!r}", "type")
    return Selection(
        markets=given.listed("market", "condition"),
        events=given.listed("event_id"),
        side=given.choice("side", ("BUY", "SELL")),
        start=given.number("start", 0) or None,
        end=given.number("end", 0) or None,
        kinds=kinds,
        cash_moves=not given.flag("exclude_deposits_withdrawals", default=True),
    )


def picked(rows: Sequence[Row], wanted: Selection) -> list[Row]:
    """The rows of `rows` that `wanted` takes, in their order."""
    return [row for row in rows if wanted.takes(row)]
