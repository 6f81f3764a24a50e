"""Faults on demand: what a venue does on a bad day, switched on by `POST /sandbox/faults`.

Keys of the body: `drop_connections` (abort every socket now), `refuse_connections_s`, `silence_s` (sockets stay open
and feeds send nothing), `http_429` (for so many `/info` calls), `inject_frames` (raw text to every socket with a
subscription), `delay_ms` (before every `/info` answer) and `duplicate` (every frame of a feed twice). Of `/exchange`:
`exchange_lost_answers` (so many actions are carried out and not answered), `exchange_5xx` (so many are answered 502 and
not carried out), `exchange_delay_ms` (before an action is carried out), `exchange_errors` (the next
orders are refused, one for each entry: a name of `refusals.TEXTS`, or any text with a space in it). Of the
connection that has listened to trades for the longest: `listener_drops_every` (it does not get every n-th frame of
trades; 0 = all) and `listener_silence_s` (it stays open and gets nothing). Of positions: `funding_every_s` (how long an
interval of funding is, an hour on the venue), `auto_deleverage` (close all positions of these accounts at their marks)
and `delist` (end trading in these coins). What is not named stays as it is.
"""

import time

import msgspec

from gateways.sandbox.hyperliquid.refusals import TEXTS

_SHORTEST_S = 0.1


class FaultOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request; None leaves a fault as it is."""

    drop_connections: bool = False
    inject_frames: list[str] = []
    refuse_connections_s: float | None = None
    silence_s: float | None = None
    http_429: int | None = None
    delay_ms: int | None = None
    duplicate: bool | None = None
    exchange_lost_answers: int | None = None
    exchange_5xx: int | None = None
    exchange_delay_ms: int | None = None
    exchange_errors: list[str] | None = None
    funding_every_s: float | None = None
    listener_drops_every: int | None = None
    listener_silence_s: float | None = None
    auto_deleverage: list[str] = []
    delist: list[str] = []

    def __post_init__(self) -> None:
        if self.funding_every_s is not None and self.funding_every_s < _SHORTEST_S:
            raise ValueError(f"funding_every_s: expected {_SHORTEST_S} or more, got {self.funding_every_s}")
        for error in self.exchange_errors or ():
            if error not in TEXTS and " " not in error:
                raise ValueError(f"exchange_errors: {error!r} is unknown; use a text or one of {', '.join(TEXTS)}")


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self.delay_ms = 0
        self.duplicate = False
        self._refuse_until = 0.0
        self._silent_until = 0.0
        self._refusals_left = 0
        self.exchange_delay_ms = 0
        self._lost_left = 0
        self._failures_left = 0
        self._errors_left: list[str] = []
        self.funding_every_s = 3_600.0
        self._drops_every = 0
        self._frames_seen = 0
        self._listener_silent_until = 0.0

    def order(self, wanted: FaultOrder) -> None:
        """Put in force what lasts; what happens once is the server's to do."""
        if wanted.refuse_connections_s is not None:
            self._refuse_until = time.monotonic() + wanted.refuse_connections_s
        if wanted.silence_s is not None:
            self._silent_until = time.monotonic() + wanted.silence_s
        if wanted.http_429 is not None:
            self._refusals_left = wanted.http_429
        if wanted.delay_ms is not None:
            self.delay_ms = wanted.delay_ms
        if wanted.duplicate is not None:
            self.duplicate = wanted.duplicate
        if wanted.exchange_lost_answers is not None:
            self._lost_left = wanted.exchange_lost_answers
        if wanted.exchange_5xx is not None:
            self._failures_left = wanted.exchange_5xx
        if wanted.exchange_delay_ms is not None:
            self.exchange_delay_ms = wanted.exchange_delay_ms
        if wanted.exchange_errors is not None:
            self._errors_left = list(wanted.exchange_errors)
        if wanted.funding_every_s is not None:
            self.funding_every_s = wanted.funding_every_s
        if wanted.listener_drops_every is not None:
            self._drops_every, self._frames_seen = max(0, wanted.listener_drops_every), 0
        if wanted.listener_silence_s is not None:
            self._listener_silent_until = time.monotonic() + wanted.listener_silence_s

    @property
    def refusing_connections(self) -> bool:
        return time.monotonic() < self._refuse_until

    @property
    def silent(self) -> bool:
        return time.monotonic() < self._silent_until

    @property
    def listener_faulty(self) -> bool:
        """True while the oldest listener does not get all that it should."""
        return self._drops_every > 0 or time.monotonic() < self._listener_silent_until

    def withholds(self, channel: str) -> bool:
        """True when this frame is one that the oldest listener does not get."""
        if time.monotonic() < self._listener_silent_until:
            return True
        if channel != "trades" or not self._drops_every:
            return False
        self._frames_seen += 1
        return self._frames_seen % self._drops_every == 0

    def take_429(self) -> bool:
        """True when this `/info` call is one of those to refuse."""
        if self._refusals_left <= 0:
            return False
        self._refusals_left -= 1
        return True

    def take_lost_answer(self) -> bool:
        """True when the answer to this action is one of those that are lost."""
        self._lost_left, taken = max(0, self._lost_left - 1), self._lost_left > 0
        return taken

    def take_5xx(self) -> bool:
        """True when this action is one of those that fail before they are carried out."""
        self._failures_left, taken = max(0, self._failures_left - 1), self._failures_left > 0
        return taken

    def take_exchange_error(self) -> tuple[str, str] | None:
        """The text with which this order is to be refused, and its status then; None when it is not."""
        if not self._errors_left:
            return None
        error = self._errors_left.pop(0)
        return TEXTS.get(error, (error, "rejected"))

    def state(self) -> dict[str, object]:
        """The faults in force, under the keys that order them; `http_429` and the seconds are what is left."""
        return {
            "refuse_connections_s": max(0.0, round(self._refuse_until - time.monotonic(), 3)),
            "silence_s": max(0.0, round(self._silent_until - time.monotonic(), 3)),
            "http_429": self._refusals_left,
            "delay_ms": self.delay_ms,
            "duplicate": self.duplicate,
            "exchange_lost_answers": self._lost_left,
            "exchange_5xx": self._failures_left,
            "exchange_delay_ms": self.exchange_delay_ms,
            "exchange_errors": list(self._errors_left),
            "funding_every_s": self.funding_every_s,
            "listener_drops_every": self._drops_every,
            "listener_silence_s": max(0.0, round(self._listener_silent_until - time.monotonic(), 3)),
        }
