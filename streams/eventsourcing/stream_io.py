"""Reads and appends of one stream for the recorders: appends with a certain outcome, reads that see all earlier
appends.

A replica may answer a direct get without messages that were acknowledged just before (6 % of reads in a cluster of
three). So a reader first gets the end from the stream's leader, then reads up to there from any replica.
"""

import asyncio
import base64
import itertools
import os
from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg

from streams import append as log
from streams import reader
from streams.append import Record
from streams.connection import NOT_FOUND, Connection
from streams.errors import (
    ConflictError,
    DataLossError,
    LogError,
    RefusedError,
    UnavailableError,
    UnknownOutcomeError,
)
from streams.reader import Stored
from streams.retry import RETRY_SECONDS, UNTIL_AVAILABLE, retry_until_available

PAGE = 1000
_ANSWER_SECONDS = 5.0
_INCOMPLETE = 10176
"""The server's error for a batch that a change of leaders interrupted: nothing of it is stored."""

_INSTANCE = f"{os.getpid():x}-{os.urandom(4).hex()}"
_NUMBER = itertools.count()


class _Signed(Struct):
    commit: str


def new_commit() -> str:
    """A unique name for one append, stored as `commit` in its payloads, by which it is found in the log."""
    return f"{_INSTANCE}-{next(_NUMBER):x}"


class StreamIO:
    """Reads and appends of one stream."""

    def __init__(self, connection: Connection, stream: str, give_up_after: float = RETRY_SECONDS) -> None:
        """`give_up_after`: seconds without a certain outcome after which reads and appends raise."""
        self.stream = stream
        self._give_up_after = give_up_after
        self._connection = connection

    async def append(self, records: Sequence[Record], commit: str) -> int:
        """Append a batch; returns its first sequence. Every subject has an expected version, every payload `commit`.

        Raises ConflictError when the batch is not stored and never will be, because of an expected version. An append
        without an answer is looked up and, if it is not stored, sent again unchanged: the expected versions allow only
        one of the two. Raises UnknownOutcomeError when the outcome stays unknown too long.
        """
        now = asyncio.get_running_loop().time
        deadline, backoff, unknown = now() + self._give_up_after, UNTIL_AVAILABLE.start(), False
        reason: LogError
        while True:
            try:
                return (await log.append(self._connection, records)).first
            except (ConflictError, UnknownOutcomeError) as error:
                if isinstance(error, ConflictError) and not unknown:
                    raise
                unknown, reason = True, error
                first = await self._find_stored(records, commit)
                if first is not None:
                    return first
            except (UnavailableError, RefusedError) as error:
                transient = isinstance(error, UnavailableError) or error.code == _INCOMPLETE
                if not unknown and (not transient or now() > deadline):
                    raise
                reason = error
            if now() > deadline:
                raise UnknownOutcomeError(str(reason)) from reason
            await backoff.sleep()

    async def last(self, subject: str) -> Stored | None:
        """The newest message of a subject (wildcards allowed), from the leader."""
        return await retry_until_available(lambda: reader.last(self._connection, self.stream, subject))

    async def read(self, subject: str | None, after: int, end: int, limit: int | None = None) -> list[Stored]:
        """The first `limit` messages of a subject (None = of the whole stream) after `after`, up to sequence `end`.

        The leader must have reported a matching message at `end` or after it. A gap raises DataLossError when the whole
        stream is read.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + self._give_up_after
        found: list[Stored] = []
        while after < end and (limit is None or len(found) < limit):
            wanted = PAGE if limit is None else min(PAGE, limit - len(found))
            page = await retry_until_available(partial(self._page, subject, after + 1, wanted))
            for stored in page:
                if subject is None and stored.sequence != after + 1:
                    raise DataLossError(self.stream, after + 1, stored.sequence - 1)
                after, deadline = stored.sequence, now() + self._give_up_after
                if after > end:
                    return found
                found.append(stored)
            if not page:  # this replica is behind; another one may answer the next request
                if now() > deadline:
                    raise UnavailableError(f"{self.stream}: no replica has sequence {end}, which the leader has")
                await asyncio.sleep(0.01)
        return found

    async def _find_stored(self, records: Sequence[Record], commit: str) -> int | None:
        """The first sequence of an append without an answer; None while no message follows its expected versions.

        The first message after an expected version belongs to this append, or to another one, which excludes this one
        for good: ConflictError.
        """
        for number, record in enumerate(records):
            if record.expected is None:
                continue
            try:
                found = await retry_until_available(partial(self._first, record.subject, record.expected + 1))
            except UnavailableError as error:
                raise UnknownOutcomeError(str(error)) from error
            if found is not None:
                if msgspec.json.decode(found.payload, type=_Signed).commit != commit:
                    raise ConflictError(record.subject, record.expected, found.sequence)
                return found.sequence - number
        return None

    async def _first(self, subject: str, sequence: int) -> Stored | None:
        body = {"seq": sequence, "next_by_subj": subject}
        try:
            answer = await self._connection.api(f"STREAM.MSG.GET.{self.stream}", body)
        except RefusedError as error:
            if error.code in NOT_FOUND:
                return None
            raise
        message = answer["message"]
        return Stored(message["seq"], message["subject"], base64.b64decode(message["data"]))

    async def _page(self, subject: str | None, first: int, limit: int) -> list[Stored]:
        """Up to `limit` messages from sequence `first` on, from any replica."""
        page: list[Stored] = []
        status: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def on_message(message: Msg) -> None:
            headers = message.headers or {}
            if "Status" not in headers:
                page.append(Stored(int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data))
            elif not status.done():
                status.set_result(f"{headers['Status']} {headers.get('Description', '')}".strip())

        inbox = self._connection.inbox()
        subscription = await self._connection.subscribe(inbox, on_message)
        try:
            body = msgspec.json.encode({"seq": first, "batch": limit, "next_by_subj": subject or ">"})
            await self._connection.publish(f"$JS.API.DIRECT.GET.{self.stream}", body, reply=inbox)
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await status
        except TimeoutError as error:
            raise UnavailableError(f"{self.stream}: a direct get was not answered in full") from error
        finally:
            await subscription.unsubscribe()
        match answer[:3]:
            case "204" | "404":
                return page
            case "503":
                raise UnavailableError(f"{self.stream}: no server answers a direct get")
        raise RefusedError(f"{self.stream}: direct get: {answer}")
